//! The ledger of a range of days, and what listing more of it would cost.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A day of the ledger in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayLine {
    /// The account whose list was read.
    pub account_id: String,
    /// The day as Vobiz names it.
    pub day: NaiveDate,
    /// open, settled, differs, unproven or reopened.
    pub state: String,
    /// Currency of the totals; none for a day without calls.
    pub currency: Option<String>,
    /// Calls here.
    pub calls_here: i64,
    /// Calls that Vobiz lists.
    pub calls_there: i64,
    /// Sum of `total_cost` here, to the last digit.
    pub total_here: String,
    /// The same in Vobiz's rows.
    pub total_there: String,
    /// Calls that the comparison, or those of one command, stored first and nothing had owed.
    pub recovered: i32,
    /// Calls of which it brought a newer version.
    pub revised: i32,
    /// Why it is not settled, and which money was not compared.
    pub reason: Option<String>,
}

/// Reads the ledger of some days. With `since`, what was found and changed is that of all comparisons from then on, and not of the last.
pub async fn lines(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
    last: NaiveDate,
    since: Option<DateTime<Utc>>,
) -> Result<Vec<DayLine>, sqlx::Error> {
    sqlx::query_as!(
        DayLine,
        r#"select account_id as "account_id!", day as "day!", state as "state!", currency,
                  coalesce(calls_here, 0) as "calls_here!", coalesce(calls_there, 0) as "calls_there!",
                  coalesce(total_here, 0)::text as "total_here!", coalesce(total_there, 0)::text as "total_there!",
                  coalesce(k.recovered, l.recovered, 0) as "recovered!", coalesce(k.revised, l.revised, 0) as "revised!",
                  nullif(concat_ws('; ', reason, money), '') as reason
           from vobiz.ledger_day l
           left join lateral (
             select sum(c.recovered)::int as recovered, sum(c.revised)::int as revised
             from vobiz.ledger_check c
             where c.account_id = l.account_id and c.day = l.day and c.began_at >= $4::timestamptz) k on true
           where account_id = $1 and day between $2 and $3 order by day, currency"#,
        account.as_str(),
        first,
        last,
        since
    )
    .fetch_all(connection)
    .await
}

/// How many days settled although not all of their money was compared with Vobiz's summary.
pub async fn money_not_compared(
    connection: &mut PgConnection,
    accounts: Option<&[String]>,
    first: Option<NaiveDate>,
    last: Option<NaiveDate>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(distinct (account_id, day)) as "days!" from vobiz.ledger_day
           where state = 'settled' and money is not null and ($1::text[] is null or account_id = any($1))
             and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)"#,
        accounts,
        first,
        last
    )
    .fetch_one(connection)
    .await
}

/// The provider days from an instant up to today.
pub async fn range(
    connection: &mut PgConnection,
    account: &AccountId,
    since: DateTime<Utc>,
) -> Result<(NaiveDate, NaiveDate), sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.provider_day_of($1, $2) as "first!", vobiz.provider_day_of($1, vobiz.now()) as "today!""#,
        account.as_str(),
        since
    )
    .fetch_one(connection)
    .await?;
    Ok((row.first, row.today))
}

/// The provider day with which the ledger begins, and today.
pub async fn range_of_ledger(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<(NaiveDate, NaiveDate), sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.provider_day_of($1, ledger_since) as "first!", vobiz.provider_day_of($1, vobiz.now()) as "today!"
           from vobiz.account where account_id = $1"#,
        account.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok((row.first, row.today))
}

/// What a call takes in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes, its versions and indexes included.
    pub bytes: u64,
    /// By the calls that are here; else by experience.
    pub measured: bool,
}

/// Bytes of a CDR of 43 fields with its version and indexes, as measured (docs/performance.md).
const USUAL: u64 = 2200;
/// Fewer calls than this say little.
const ENOUGH: f64 = 10_000.0;

/// What a call takes in this database.
pub async fn bytes_per_call(connection: &mut PgConnection) -> Result<Size, sqlx::Error> {
    let row = sqlx::query!(
        r#"select greatest(0, (select c.reltuples from pg_catalog.pg_class c where c.oid = 'vobiz.cdr'::regclass))::float8 as "calls!",
                  (pg_total_relation_size('vobiz.cdr')
                   + (select coalesce(sum(pg_total_relation_size(p.relid)), 0) from pg_partition_tree('vobiz.cdr_revision') p))::float8 as "bytes!""#
    )
    .fetch_one(connection)
    .await?;
    if row.calls < ENOUGH {
        return Ok(Size { bytes: USUAL, measured: false });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a row, rounded")]
    let bytes = (row.bytes / row.calls).round() as u64;
    Ok(Size { bytes, measured: true })
}
