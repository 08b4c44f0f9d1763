//! Our calls beside another's list of the same calls: the provider's export, or a table of the owner's. Their rows are
//! loaded into temporary tables, and one statement pairs the two sides in one snapshot, so that a million rows cost this process
//! nothing. Nothing but temporary tables is ever written.
//!
//! Statements about temporary tables are no macros: those are checked against a database, and temporary tables are in none.

mod differences;
mod pairing;
mod table;
mod theirs;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection};

pub use differences::{
    Counts, ReconcileDifference, ReconcileTotal, charged_twice, counts, differences, totals,
};
pub use pairing::{CompareScope, Matching, pair};
pub use table::{TableError, fetch, open};
pub use theirs::{AMOUNTS, COLUMNS, Closeness, FIELDS, NUMBERS, SECONDS, SIDES, TheirCall};

use crate::vobiz::{Moment, Numeric};

/// From an instant until before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstantRange {
    /// The first instant inside.
    pub from: DateTime<Utc>,
    /// The first instant outside.
    pub until: DateTime<Utc>,
}

/// What this database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HereAndNow {
    /// Its clock.
    pub now: DateTime<Utc>,
    /// The zone in which days of the bill begin.
    pub billing_zone: String,
}

/// Asks for clock and billing zone.
pub async fn here(connection: &mut PgConnection) -> Result<HereAndNow, sqlx::Error> {
    sqlx::query_as!(HereAndNow, r#"select vobiz.now() as "now!", s.billing_zone from vobiz.setting s"#)
        .fetch_one(connection)
        .await
}

/// Makes the temporary tables, or empties those of a comparison before. Sessions of readers are read-only unless a transaction says
/// otherwise: this one does, and writes nothing else.
pub async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("begin read write").await?;
    make_tables(&mut transaction).await?;
    transaction.commit().await
}

async fn make_tables(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // All of them now, with their indexes: in a read-only transaction temporary tables can be filled, but not made.
    let tables = sqlx::raw_sql(
        "drop table if exists pg_temp.reconcile_their, pg_temp.reconcile_our, pg_temp.reconcile_candidate,
                              pg_temp.reconcile_match, pg_temp.reconcile_pair;
         create temp table reconcile_their (
           line bigint primary key, call_id text, account_id text, from_number text, to_number text, called_at timestamptz,
           duration numeric, billsec numeric, cost numeric, streaming_cost numeric, total_cost numeric, currency text,
           unreadable text, record_id text);
         create index on pg_temp.reconcile_their (call_id);
         create temp table reconcile_our (
           call_id text primary key, account_id text, from_number text, to_number text, called_at timestamptz,
           duration numeric, billsec numeric, cost numeric, streaming_cost numeric, total_cost numeric, currency text,
           inside boolean);
         -- Rows and calls that may be the same by their numbers and times; sole: neither has another candidate.
         create temp table reconcile_candidate (line bigint, call_id text, sole boolean);
         create index on pg_temp.reconcile_candidate (line);
         create index on pg_temp.reconcile_candidate (call_id);
         -- Which call a row is about; repeats: the line that said the same call before.
         create temp table reconcile_match (line bigint primary key, call_id text, repeats bigint, contradicted boolean);
         create index on pg_temp.reconcile_match (repeats);
         -- of_others: the call is of an account that was not asked for.
         create temp table reconcile_pair (kind text, line bigint, call_id text, differs text[], of_others boolean)",
    );
    tables.execute_many(connection).try_collect::<Vec<_>>().await.map(drop)
}

/// Adds rows of theirs. Times without a zone are taken in `zone`, by Postgres's own knowledge of zones.
pub async fn load(connection: &mut PgConnection, calls: &[TheirCall], zone: &str) -> Result<(), sqlx::Error> {
    let texts = |field: fn(&TheirCall) -> Option<&str>| calls.iter().map(field).collect::<Vec<_>>();
    let numbers = |field: fn(&TheirCall) -> Option<&Numeric>| {
        calls.iter().map(|call| field(call).map(Numeric::as_str)).collect::<Vec<_>>()
    };
    let instants: Vec<Option<DateTime<Utc>>> = calls
        .iter()
        .map(|call| match call.called_at {
            Some(Moment::Instant(time)) => Some(time),
            _ => None,
        })
        .collect();
    let locals: Vec<Option<NaiveDateTime>> = calls
        .iter()
        .map(|call| match call.called_at {
            Some(Moment::Local(time)) => Some(time),
            _ => None,
        })
        .collect();
    sqlx::query(
        "insert into pg_temp.reconcile_their
         select line, call_id, account_id, from_number, to_number, coalesce(instant, local at time zone $1),
                duration, billsec, cost, streaming_cost, total_cost, currency, unreadable, record_id
         from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamp[],
                     $9::text[]::numeric[], $10::text[]::numeric[], $11::text[]::numeric[], $12::text[]::numeric[], $13::text[]::numeric[], $14::text[], $15::text[], $16::text[])
              as t (line, call_id, account_id, from_number, to_number, instant, local,
                    duration, billsec, cost, streaming_cost, total_cost, currency, unreadable, record_id)",
    )
    .bind(zone)
    .bind(calls.iter().map(|call| call.line).collect::<Vec<_>>())
    .bind(texts(|call| call.call_id.as_deref()))
    .bind(texts(|call| call.account_id.as_deref()))
    .bind(texts(|call| call.from_number.as_deref()))
    .bind(texts(|call| call.to_number.as_deref()))
    .bind(instants)
    .bind(locals)
    .bind(numbers(|call| call.duration.as_ref()))
    .bind(numbers(|call| call.billsec.as_ref()))
    .bind(numbers(|call| call.cost.as_ref()))
    .bind(numbers(|call| call.streaming_cost.as_ref()))
    .bind(numbers(|call| call.total_cost.as_ref()))
    .bind(texts(|call| call.currency.as_deref()))
    .bind(texts(|call| call.unreadable.as_deref()))
    .bind(texts(|call| call.record_id.as_deref()))
    .execute(connection)
    .await
    .map(drop)
}

/// For the length of the transaction, statements that read a lot may do so: our connections are made for single rows by key.
pub async fn read_at_length(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select set_config('enable_seqscan', 'on', true) as seqscan, set_config('work_mem', '64MB', true) as memory")
        .fetch_one(connection)
        .await
        .map(drop)
}

/// Whether no row could be read.
pub async fn all_unreadable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select not exists (select from pg_temp.reconcile_their where unreadable is null)")
        .fetch_one(connection)
        .await
}

/// Whether Postgres knows a time zone of this name.
pub async fn knows_zone(connection: &mut PgConnection, zone: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from pg_catalog.pg_timezone_names where name = $1) as "known!""#,
        zone
    )
    .fetch_one(connection)
    .await
}

/// The days from `first` to `last`, both included, as the billing zone cuts them.
pub async fn days(
    connection: &mut PgConnection,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<InstantRange, sqlx::Error> {
    sqlx::query_as!(
        InstantRange,
        r#"select vobiz.billing_day_start($1) as "from!", vobiz.billing_day_start($2::date + 1) as "until!""#,
        first,
        last
    )
    .fetch_one(connection)
    .await
}

/// What their rows say of themselves.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct InstantSpan {
    /// How many there are, readable or not.
    pub rows: i64,
    /// The first start.
    pub first: Option<DateTime<Utc>>,
    /// The last start.
    pub last: Option<DateTime<Utc>>,
    /// The accounts that are named.
    pub accounts: Vec<String>,
    /// Those of [`FIELDS`] that no row says.
    pub blank: Vec<String>,
}

/// Looks over what was loaded.
pub async fn span(connection: &mut PgConnection) -> Result<InstantSpan, sqlx::Error> {
    sqlx::query_as(
        "select count(*) as rows, min(called_at) as first, max(called_at) as last,
                coalesce(array_agg(distinct account_id) filter (where account_id is not null), '{}') as accounts,
                array_remove(array[
                  case when count(duration) = 0 then 'duration' end, case when count(billsec) = 0 then 'billsec' end,
                  case when count(cost) = 0 then 'cost' end, case when count(streaming_cost) = 0 then 'streaming_cost' end,
                  case when count(total_cost) = 0 then 'total_cost' end, case when count(currency) = 0 then 'currency' end
                ], null) as blank
         from pg_temp.reconcile_their",
    )
    .fetch_one(connection)
    .await
}
