//! A row built anew from the versions kept of it.
//!
//! A list row leaves keys out, and what it leaves out is said by the versions before it. When one of those comes late, it
//! still has its say: the row is the newest single record with the list rows after it laid over it, in whatever order
//! they came in.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::revision::{self, Stored};
use super::version::Version;
use super::write::{OnConflict, write};
use super::{Incoming, Origin};
use crate::vobiz::{AccountId, CallId, Cdr, HomeCountry, Numeric, Payload};

/// A version as it was kept.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a row")]
pub(super) struct KeptVersion {
    call_id: String,
    account_id: String,
    complete: bool,
    fetched_at: DateTime<Utc>,
    content_hash: Vec<u8>,
    payload: String,
    /// It wins over all that were asked for before it.
    overrules: bool,
    /// See [`Version`].
    by_owner: bool,
    /// There is a note on the row that bytes of it were replaced.
    replaced: bool,
    updated_at: Option<DateTime<Utc>>,
    day_at: DateTime<Utc>,
    call_direction: Option<String>,
    duration: Option<i32>,
    billsec: Option<i32>,
    cost: Option<String>,
    streaming_cost: Option<String>,
    total_cost: Option<String>,
    currency: Option<String>,
}

/// What a row shows, as far as building it anew depends on that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) content_hash: &'a [u8],
    pub(super) listed_by: &'a str,
    /// Versions that were kept of it.
    pub(super) revision: i32,
}

/// Why a row cannot be built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Impossible {
    /// Some of its versions are gone: what they said would be lost.
    Pruned,
    /// A version can no longer be read.
    Unreadable,
}

/// A row built anew.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) row: Incoming,
    /// Versions whose billed fields are read differently now than when they were kept.
    pub(super) read_differently: u64,
}

/// The home country of the numbers, for all readers.
pub(super) async fn home(connection: &mut PgConnection) -> Result<HomeCountry, sqlx::Error> {
    let home = sqlx::query_scalar!("select home_country from vobiz.setting").fetch_one(connection).await?;
    // The table checks it by the same rule.
    HomeCountry::new(&home).map_err(|error| sqlx::Error::Decode(error.to_string().into()))
}

/// Reads the versions kept of some calls, each call's in the order in which they were kept.
pub(super) async fn kept(
    connection: &mut PgConnection,
    call_ids: &[&str],
) -> Result<BTreeMap<String, Vec<KeptVersion>>, sqlx::Error> {
    let found = sqlx::query_as!(
        KeptVersion,
        r#"select r.call_id, r.account_id, r.source = 'single' as "complete!", r.fetched_at, r.content_hash,
                  r.payload::text as "payload!", r.overrules, r.by_owner, coalesce($2 = any(c.notes), false) as "replaced!", r.updated_at, r.day_at,
                  r.call_direction, r.duration, r.billsec, r.cost::text as cost, r.streaming_cost::text as streaming_cost, r.total_cost::text as total_cost,
                  r.currency
           from vobiz.cdr_revision r left join vobiz.cdr c on c.call_id = r.call_id
           where r.call_id = any($1)
           order by r.call_id, r.revision"#,
        call_ids as &[&str],
        Cdr::REPLACED
    )
    .fetch_all(connection)
    .await?;
    let mut by_call: BTreeMap<String, Vec<KeptVersion>> = BTreeMap::new();
    for version in found {
        by_call.entry(version.call_id.clone()).or_default().push(version);
    }
    Ok(by_call)
}

impl KeptVersion {
    /// Whether its billed fields, as they stand in the table, are what `cdr` says.
    fn says(&self, cdr: &Cdr) -> bool {
        let fields = &cdr.fields;
        let amount = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Numeric>().ok());
        self.updated_at == fields.updated_at
            && revision::day(fields).0.is_none_or(|day| day == self.day_at)
            && self.call_direction == fields.call_direction
            && self.duration == fields.duration
            && self.billsec == fields.billsec
            && amount(&self.cost) == fields.cost
            && amount(&self.streaming_cost) == fields.streaming_cost
            && amount(&self.total_cost) == fields.total_cost
            && self.currency == fields.currency
    }
}

/// Builds a row from all versions that were kept of it.
pub(super) fn fold(
    kept: Vec<KeptVersion>,
    shown: Shown<'_>,
    home: HomeCountry,
) -> Result<Folded, Impossible> {
    if kept.is_empty() || i32::try_from(kept.len()) != Ok(shown.revision) {
        return Err(Impossible::Pruned);
    }
    let listed_by = AccountId::new(shown.listed_by).map_err(|_| Impossible::Unreadable)?;
    let overruled_at =
        kept.iter().filter(|version| version.overrules).map(|version| version.fetched_at).max();
    let mut versions = Vec::with_capacity(kept.len());
    let mut read_differently = 0;
    for version in kept {
        let payload = Payload::new(version.payload.as_str());
        let cdr = Cdr::read_kept(&payload, home, version.replaced)
            .map_err(|_| Impossible::Unreadable)?
            .without_future(version.fetched_at);
        let cdr = match CallId::number_of_further_record(&version.call_id) {
            Some(vobiz_id) => cdr.as_further_record(vobiz_id),
            None => cdr,
        };
        read_differently += u64::from(!version.says(&cdr));
        // A record that names no owner belongs to the account that was asked.
        let asked = AccountId::new(&version.account_id).map_err(|_| Impossible::Unreadable)?;
        let row = Incoming {
            cdr,
            // The table checks the length.
            content_hash: version.content_hash.try_into().unwrap_or_default(),
            listed_by: asked,
            origin: Origin::Sweep,
            complete: version.complete,
            requested_at: version.fetched_at,
            attempts: 0,
            announced_at: None,
        };
        versions.push((version.by_owner, row));
    }
    // The version shown may have been confirmed since it was kept: it stays the last one.
    versions.sort_by_cached_key(|(by_owner, row)| {
        let version = Version { by_owner: *by_owner, ..row.version() };
        (row.content_hash == shown.content_hash, Some(row.requested_at) >= overruled_at, version)
    });
    // The number of a record is that of each of its versions, whether they say it or not.
    let vobiz_id = versions.iter().find_map(|(_, row)| row.cdr.fields.vobiz_id);
    let base = versions.iter().rposition(|(_, row)| row.complete).unwrap_or(0);
    let mut versions = versions.into_iter().skip(base);
    let (_, mut row) = versions.next().ok_or(Impossible::Pruned)?;
    row.cdr.account_id = Some(row.account_id().clone());
    for (by_owner, mut newer) in versions {
        // A row of a list that names no owner does not change the owner, but that of a sub-account's own list.
        newer.cdr.account_id = if by_owner {
            Some(newer.account_id().clone())
        } else {
            newer.cdr.account_id.filter(|owner| *owner != listed_by)
        };
        newer.cdr = newer.cdr.laid_over(row.cdr);
        row = newer;
    }
    row.cdr.fields.vobiz_id = vobiz_id;
    Ok(Folded { row: Incoming { listed_by, ..row }, read_differently })
}

/// Builds the row of a call anew; `stored` is how it stood before the last version was kept. The row is locked by the caller.
pub(super) async fn rebuild(
    connection: &mut PgConnection,
    call_id: &CallId,
    stored: &Stored,
) -> Result<(), sqlx::Error> {
    let home = home(connection).await?;
    let kept = kept(connection, &[call_id.as_str()]).await?.into_values().next().unwrap_or_default();
    let shown = Shown {
        content_hash: &stored.version.content_hash,
        listed_by: &stored.listed_by,
        revision: stored.revision + 1,
    };
    // What cannot be built anew stays as it is.
    let Ok(folded) = fold(kept, shown, home) else { return Ok(()) };
    put(connection, &[(&folded.row, shown.revision, stored.version.fetched_at)]).await
}

/// Writes rows that were built anew, each with its number of versions and the time of its last confirmation. They are
/// sorted by `call_id`, and locked by the caller.
pub(super) async fn put(
    connection: &mut PgConnection,
    rows: &[(&Incoming, i32, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    let written: Vec<&Incoming> = rows.iter().map(|(row, ..)| *row).collect();
    write(connection, &written, OnConflict::Replace).await?;
    // Writing has counted and dated for itself.
    let call_ids: Vec<&str> = written.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let revisions: Vec<i32> = rows.iter().map(|(_, revision, _)| *revision).collect();
    let fetched: Vec<DateTime<Utc>> = rows.iter().map(|(.., fetched_at)| *fetched_at).collect();
    sqlx::query!(
        "update vobiz.cdr c set revision = n.revision, fetched_at = n.fetched_at
         from unnest($1::text[], $2::int4[], $3::timestamptz[]) as n (call_id, revision, fetched_at)
         where c.call_id = n.call_id",
        &call_ids as &[&str],
        &revisions,
        &fetched
    )
    .execute(connection)
    .await?;
    Ok(())
}
