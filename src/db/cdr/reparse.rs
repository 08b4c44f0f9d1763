//! Rebuilding the columns of stored rows from the payloads that were kept, after their reading has changed: a new release, or
//! another home country. Nothing is asked of Vobiz.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Incoming;
use super::differ::{DifferingRow, differ};
use super::rebuild::{self, Folded, Impossible, Shown};
use crate::db::base::audit;
use crate::vobiz::Payload;

/// What rebuilding did, as counts of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reparsed {
    /// Calls that were looked at.
    pub calls: u64,
    /// Calls whose row has changed.
    pub changed: u64,
    /// In how many of them each column has changed.
    pub columns: BTreeMap<String, u64>,
    /// Calls left as they are, because some of their versions are no longer kept.
    pub versions_missing: u64,
    /// Calls left as they are, because a version of them can no longer be read.
    pub unreadable: u64,
    /// Versions whose billed fields in vobiz.cdr_revision were read differently when they were kept. They stay.
    pub versions_read_differently: u64,
}

impl Reparsed {
    /// Adds what a further batch did.
    pub fn add(&mut self, more: Self) {
        self.calls += more.calls;
        self.changed += more.changed;
        self.versions_missing += more.versions_missing;
        self.unreadable += more.unreadable;
        self.versions_read_differently += more.versions_read_differently;
        for (column, calls) in more.columns {
            *self.columns.entry(column).or_default() += calls;
        }
    }
}

/// A column of which the bill is made: a change of it is written into the audit log.
const BILLED: [&str; 9] = [
    "account_id",
    "day_at",
    "call_direction",
    "duration",
    "billsec",
    "cost",
    "streaming_cost",
    "total_cost",
    "currency",
];

/// How many calls there are to rebuild, of one account or of all.
pub async fn count(
    connection: &mut PgConnection,
    account_id: Option<&str>,
    after: Option<&str>,
) -> Result<u64, sqlx::Error> {
    let calls = sqlx::query_scalar!(
        r#"select count(*) as "calls!" from vobiz.cdr
           where call_id > coalesce($1::text, '') and ($2::text is null or account_id = $2)"#,
        after,
        account_id
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(calls).unwrap_or(0))
}

/// Rebuilds up to `most` calls behind `after`, in the order of `call_id`; returns what it did and the last of them, `None` at
/// the end. `dry` changes nothing. The caller's transaction holds the rows until it ends: a version that comes in meanwhile waits,
/// and one that came in before is among those the row is built from.
pub async fn reparse(
    connection: &mut PgConnection,
    account_id: Option<&str>,
    after: Option<&str>,
    most: i64,
    dry: bool,
) -> Result<(Reparsed, Option<String>), sqlx::Error> {
    let home = rebuild::home(&mut *connection).await?;
    let shown = sqlx::query!(
        r#"select call_id, revision, fetched_at, content_hash, listed_by, extra::text as extra
           from vobiz.cdr
           where call_id > coalesce($1::text, '') and ($2::text is null or account_id = $2)
           -- The lock order of the whole service.
           order by call_id limit $3
           for no key update"#,
        after,
        account_id,
        most
    )
    .fetch_all(&mut *connection)
    .await?;
    let call_ids: Vec<&str> = shown.iter().map(|row| row.call_id.as_str()).collect();
    let mut kept = rebuild::kept(&mut *connection, &call_ids).await?;
    let mut done = Reparsed { calls: shown.len() as u64, ..Reparsed::default() };
    let (mut rows, mut extra_differs) = (BTreeMap::new(), Vec::new());
    for row in &shown {
        let versions = kept.remove(&row.call_id).unwrap_or_default();
        let seen =
            Shown { content_hash: &row.content_hash, listed_by: &row.listed_by, revision: row.revision };
        match rebuild::fold(versions, seen, home) {
            Ok(Folded { row: anew, read_differently }) => {
                done.versions_read_differently += read_differently;
                extra_differs.push(hash(row.extra.as_deref()) != hash(anew.cdr.extra.as_deref()));
                rows.insert(row.call_id.as_str(), (anew, row.revision, row.fetched_at));
            }
            Err(Impossible::Pruned) => done.versions_missing += 1,
            Err(Impossible::Unreadable) => done.unreadable += 1,
        }
    }
    // In the order of `shown` here, as the flags are; a map may sort otherwise than Postgres.
    let anew: Vec<&Incoming> =
        shown.iter().filter_map(|row| rows.get(row.call_id.as_str())).map(|(row, ..)| row).collect();
    let differences = differ(&mut *connection, &anew, &extra_differs).await?;
    done.changed = differences.len() as u64;
    for column in differences.iter().flat_map(|difference| &difference.columns) {
        *done.columns.entry(column.clone()).or_default() += 1;
    }
    if !dry && !differences.is_empty() {
        let changed: Vec<_> = differences
            .iter()
            .filter_map(|difference| rows.get(difference.call_id.as_str()))
            .map(|(row, revision, fetched_at)| (row, *revision, *fetched_at))
            .collect();
        rebuild::put(&mut *connection, &changed).await?;
        let billed = |difference: &&DifferingRow| {
            difference.columns.iter().any(|column| BILLED.contains(&column.as_str()))
        };
        let (call_ids, was): (Vec<&str>, Vec<&str>) = differences
            .iter()
            .filter(billed)
            .map(|difference| (difference.call_id.as_str(), difference.was.as_str()))
            .unzip();
        audit::reparsed(&mut *connection, &call_ids, &was).await?;
    }
    Ok((done, shown.into_iter().next_back().map(|row| row.call_id)))
}

/// What an object says, however it is written.
fn hash(object: Option<&str>) -> Option<[u8; 32]> {
    object.map(|object| Payload::new(object).content_hash())
}
