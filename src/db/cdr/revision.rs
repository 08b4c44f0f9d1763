//! The revisions: every version that was ever seen, and what of it is shown in `vobiz.cdr`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Incoming, StoredByCall};
use crate::db::base::columns::{column, numbered};
use crate::db::cdr::version::Version;
use crate::vobiz::{CdrFields, Payload};

/// The version that a row of `vobiz.cdr` shows.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) version: Version,
    pub(super) revision: i32,
    /// What it said; `None` if it equals what came in, or if it was pruned.
    pub(super) payload: Option<Payload>,
    pub(super) complete: bool,
    pub(super) listed_by: String,
    /// Whose the call is.
    pub(super) owner: String,
    /// The number of the record; `None` if no version of it said one.
    pub(super) vobiz_id: Option<i64>,
}

impl Stored {
    /// The same once a list row was laid over it. Building anew counts it as the next version.
    pub(super) fn followed_by(&self, row: &Incoming) -> Self {
        let updated_at = row.cdr.fields.updated_at;
        let is_first_own = row.version().by_owner && row.listed_by.as_str() != self.listed_by;
        let same = (updated_at.is_none() || updated_at == self.version.updated_at) && !is_first_own;
        let fetched_at = if same { self.version.fetched_at.max(row.requested_at) } else { row.requested_at };
        Self {
            version: Version { updated_at, fetched_at, ..row.version() },
            revision: self.revision,
            payload: None,
            complete: false,
            listed_by: row.listed_by.as_str().to_owned(),
            owner: self.owner.clone(),
            vobiz_id: row.cdr.fields.vobiz_id.or(self.vobiz_id),
        }
    }
}

/// Reads what is stored of some calls. Their rows are locked by the caller.
pub(super) async fn stored(
    connection: &mut PgConnection,
    rows: &[&Incoming],
) -> Result<StoredByCall, sqlx::Error> {
    let call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_slice()).collect();
    let found = sqlx::query!(
        r#"select c.call_id, c.updated_at, c.fetched_at, c.content_hash, c.revision, c.listed_by, c.vobiz_id, c.account_id,
                  vobiz.is_shown_by_owner(c) as "by_owner!",
                  r.payload as "payload?", r.source as "source?"
           from unnest($1::text[], $2::bytea[]) as n (call_id, content_hash)
           join vobiz.cdr c on c.call_id = n.call_id
           -- The payload is only wanted where there is something to compare.
           left join lateral (
             select r.payload::text as payload, r.source from vobiz.cdr_revision r
             where c.content_hash <> n.content_hash and r.call_id = c.call_id and r.content_hash = c.content_hash
             order by r.revision desc limit 1
           ) r on true"#,
        &call_ids as &[&str],
        &hashes as &[&[u8]],
    )
    .fetch_all(connection)
    .await?;
    Ok(found
        .into_iter()
        .map(|row| {
            let stored = Stored {
                version: Version {
                    by_owner: row.by_owner,
                    updated_at: row.updated_at,
                    fetched_at: row.fetched_at,
                    // The table checks the length.
                    content_hash: row.content_hash.try_into().unwrap_or_default(),
                },
                revision: row.revision,
                payload: row.payload.map(Payload::new),
                complete: row.source.as_deref() == Some("single"),
                listed_by: row.listed_by,
                owner: row.account_id,
                vobiz_id: row.vobiz_id,
            };
            (row.call_id, stored)
        })
        .collect())
}

/// Of calls that are stored as if for the first time, those that were here before and were deleted: the number of their last version.
pub(super) async fn left_behind(
    connection: &mut PgConnection,
    rows: &[&Incoming],
) -> Result<BTreeMap<String, i32>, sqlx::Error> {
    let call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let found = sqlx::query!(
        r#"select r.call_id, max(r.revision) as "revision!"
           from (select distinct call_id from vobiz.audit where call_id = any($1) and action = 'cdr_deleted') a
           join vobiz.cdr_revision r on r.call_id = a.call_id
           group by r.call_id"#,
        &call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|row| (row.call_id, row.revision)).collect())
}

/// Sets the number of versions of a call.
pub(super) async fn set(
    connection: &mut PgConnection,
    call_id: &str,
    revision: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!("update vobiz.cdr set revision = $2 where call_id = $1", call_id, revision)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether this version was kept before.
pub(super) async fn contains(connection: &mut PgConnection, row: &Incoming) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
             select from vobiz.cdr_revision where call_id = $1 and content_hash = $2) as "contains!""#,
        row.cdr.call_id.as_str(),
        &row.content_hash[..]
    )
    .fetch_one(connection)
    .await
}

/// Keeps versions, each under its number.
pub(super) async fn append(
    connection: &mut PgConnection,
    rows: &[(&Incoming, i32)],
) -> Result<(), sqlx::Error> {
    keep(connection, rows, false).await
}

/// The same for versions that win over all that were asked for before them.
pub(super) async fn append_overruling(
    connection: &mut PgConnection,
    rows: &[(&Incoming, i32)],
) -> Result<(), sqlx::Error> {
    keep(connection, rows, true).await
}

async fn keep(
    connection: &mut PgConnection,
    rows: &[(&Incoming, i32)],
    overrules: bool,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    macro_rules! insert {
        ($({$n:tt $type:tt $column:tt ($rust:ty) ($read:expr) $taken:tt})*
         $([$fn:tt $ftype:tt $field:tt ($frust:ty) ($fread:expr)])*) => {
            sqlx::query!(
                "insert into vobiz.cdr_revision (call_id" + $(", " + $column +)* $(", " + $field +)* ")
                 select n.call_id" + $(", " + $taken +)* $(", n." + $field +)* "
                 from unnest($1::text[]" + $(", " + $n + "::" + $type + "[]" +)* $(", " + $fn + "::" + $ftype + "[]" +)* ")
                   as n (call_id" + $(", " + $column +)* $(", " + $field +)* ")",
                &column(rows.iter(), |(row, _)| row.cdr.call_id.as_str()) as &[&str],
                $(&column(rows.iter(), $read) as &[$rust],)*
                $(&column(rows.iter().map(|(row, _)| &row.cdr.fields), $fread) as &[$frust],)*
            )
        };
    }
    let insert = numbered! {
        insert: _;
        "revision" "int4": i32 = |(_, revision)| *revision; {"n.revision"}
        "fetched_at" "timestamptz": DateTime<Utc> = |(row, _)| row.requested_at; {"n.fetched_at"}
        "account_id" "text": &str = |(row, _)| row.account_id().as_str(); {"n.account_id"}
        "source" "text": &str = |(row, _)| if row.complete { "single" } else { "list" }; {"n.source"}
        "day_at" "timestamptz": DateTime<Utc> = |(row, _)| day(&row.cdr.fields).0.unwrap_or(row.requested_at); {"n.day_at"}
        "day_from" "text": &str = |(row, _)| day(&row.cdr.fields).1; {"n.day_from"}
        "overrules" "bool": bool = |_| overrules; {"n.overrules"}
        "by_owner" "bool": bool = |(row, _)| row.version().by_owner; {"n.by_owner"}
        "content_hash" "bytea": &[u8] = |(row, _)| row.content_hash.as_slice(); {"n.content_hash"}
        "payload" "text": &str = |(row, _)| row.cdr.payload.text(); {"n.payload::json"}
        updated_at: DateTime<Utc> = "updated_at";
        call_direction: String = "call_direction";
        duration: i32 = "duration";
        billsec: i32 = "billsec";
        cost: Numeric = "cost";
        streaming_cost: Numeric = "streaming_cost";
        total_cost: Numeric = "total_cost";
        currency: String = "currency";
    };
    insert.execute(connection).await?;
    Ok(())
}

/// The billing instant that a version says, and the key that says it.
pub(super) fn day(fields: &CdrFields) -> (Option<DateTime<Utc>>, &'static str) {
    [(fields.start_time, "start_time"), (fields.end_time, "end_time"), (fields.created_at, "created_at")]
        .into_iter()
        .find(|(day, _)| day.is_some())
        .unwrap_or((None, "none"))
}

/// Counts a version that was kept without being shown.
pub(super) async fn count(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    if call_ids.is_empty() {
        return Ok(());
    }
    sqlx::query!("update vobiz.cdr set revision = revision + 1 where call_id = any($1)", call_ids as &[&str])
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the time of confirmation on: the version shown was still the one at `requested_at`. Without it, an answer that was
/// asked for in between and comes late would win. What a sub-account's own list has confirmed is its own word from then on, and what others
/// say of that confirms nothing.
pub(super) async fn confirm(connection: &mut PgConnection, rows: &[&Incoming]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let fetched: Vec<_> = rows.iter().map(|row| row.requested_at).collect();
    let own: Vec<Option<&str>> =
        rows.iter().map(|row| row.version().by_owner.then(|| row.listed_by.as_str())).collect();
    sqlx::query!(
        "update vobiz.cdr c
         set fetched_at = case when c.listed_by <> n.own then n.fetched_at else greatest(c.fetched_at, n.fetched_at) end,
             listed_by = coalesce(n.own, c.listed_by)
         from unnest($1::text[], $2::timestamptz[], $3::text[]) as n (call_id, fetched_at, own)
         where c.call_id = n.call_id and (c.listed_by <> n.own
           or c.fetched_at < n.fetched_at and (n.own is not null or not vobiz.is_shown_by_owner(c)))",
        &call_ids as &[&str],
        &fetched,
        &own as &[Option<&str>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
