//! Ranges of days that an operator has listed: how far each got, and how the ledger grows with them.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};

use crate::vobiz::AccountId;

/// A range that is being listed, from its last day back to its first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRange {
    /// Its number.
    pub id: i64,
    /// First day.
    pub first: NaiveDate,
    /// Last day, the first to be listed.
    pub last: NaiveDate,
    /// The day that is listed next.
    pub next: NaiveDate,
}

/// The unfinished range of an account.
pub async fn unfinished(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Option<DayRange>, sqlx::Error> {
    sqlx::query_as!(
        DayRange,
        r#"select id, first_day as first, last_day as last, next_day as "next!"
           from vobiz.backfill where account_id = $1 and finished_at is null"#,
        account.as_str()
    )
    .fetch_optional(connection)
    .await
}

/// Starts a range. An unfinished one of the account is in the way, unless it is dropped first.
pub async fn start(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<DayRange, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "insert into vobiz.backfill (account_id, first_day, last_day, next_day) values ($1, $2, $3, $3) returning id",
        account.as_str(),
        first,
        last
    )
    .fetch_one(connection)
    .await?;
    Ok(DayRange { id, first, last, next: last })
}

/// Forgets the unfinished range of an account. What it stored stays.
pub async fn drop_unfinished(connection: &mut PgConnection, account: &AccountId) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "delete from vobiz.backfill where account_id = $1 and finished_at is null",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Writes down that a day of a range is done; with its first day the range is.
pub async fn advance(connection: &mut PgConnection, id: i64, day: NaiveDate) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.backfill set
           next_day = case when $2 > first_day then $2 - 1 end,
           finished_at = case when $2 > first_day then null else vobiz.now() end
         where id = $1 and next_day = $2",
        id,
        day
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the beginning of an account's ledger back over the days before it that were compared, as far as there is no gap.
/// Returns where it begins, if it moved.
pub async fn extend_ledger(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with began as (
             select account_id, ledger_since, vobiz.provider_day_of(account_id, ledger_since) as day
             from vobiz.account where account_id = $1
           ), run as (
             -- Days that follow each other up to the first one of the ledger, and whether Vobiz listed a call: of empty days
             -- beyond the last of these nobody knows whether there was no call, or Vobiz's memory ends.
             select d.day, b.day - row_number() over (order by d.day desc)::int = d.day as joins,
                    exists (select from vobiz.ledger_total t where t.check_id = d.check_id and t.calls_there > 0) as has_calls
             from began b join vobiz.provider_day d on d.account_id = b.account_id and d.day < b.day and d.checked_at is not null
           ), reached as (
             select coalesce((select min(day) from run where joins and has_calls),
                             -- The first day of the ledger may be counted whole, once it was compared.
                             (select d.day from began b join vobiz.provider_day d using (account_id, day) where d.checked_at is not null)) as day
           )
           update vobiz.account a set
             -- Where several zones fit the lists, from where on the day has begun in all of them.
             ledger_since = vobiz.provider_day_start_latest(a.account_id, r.day)
           from reached r
           where a.account_id = $1 and vobiz.provider_day_start_latest(a.account_id, r.day) < a.ledger_since
           returning a.ledger_since as "ledger_since!""#,
        account.as_str()
    )
    .fetch_optional(connection)
    .await
}

/// When a range was begun.
pub async fn started_at(
    connection: &mut PgConnection,
    id: i64,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("select started_at from vobiz.backfill where id = $1", id)
        .fetch_optional(connection)
        .await
}

/// The last days in a row, from a day on and before the ledger begins, that were never compared: what was listed before them does not
/// join it.
pub async fn gap(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
) -> Result<Option<(NaiveDate, NaiveDate)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"with day as (
             select g::date as day, exists (
                      select from vobiz.provider_day d where d.account_id = $1 and d.day = g::date and d.checked_at is not null) as compared
             from vobiz.account a
             cross join generate_series($2::date, vobiz.provider_day_of($1, a.ledger_since) - 1, interval '1 day') g
             where a.account_id = $1
           ), last as (
             select max(day) as day from day where not compared
           )
           select coalesce((select max(d.day) + 1 from day d where d.compared and d.day < l.day), $2) as "first!", l.day as "last"
           from last l"#,
        account.as_str(),
        first
    )
    .fetch_one(connection)
    .await?;
    Ok(row.last.map(|last| (row.first, last)))
}

/// Has Postgres look at what a backfill filled: the first one fills tables of which it knows nothing yet, and what is asked of them is slow
/// until it looks by itself. Whether it was done: only the owner of the tables may.
pub async fn analyze(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let may = sqlx::query_scalar!(
        r#"select bool_and(pg_has_role(c.relowner, 'USAGE')) as "may!" from pg_catalog.pg_class c
           where c.relnamespace = 'vobiz'::regnamespace and c.relkind in ('r', 'p')"#
    )
    .fetch_one(&mut *connection)
    .await?;
    if may {
        sqlx::query!(
            "analyze vobiz.cdr, vobiz.cdr_revision, vobiz.rollup, vobiz.rollup_delta, vobiz.rollup_day, vobiz.provider_day,
                     vobiz.ledger_check, vobiz.ledger_total, vobiz.ledger_owner_total, vobiz.listed_owner, vobiz.account"
        )
        .execute(connection)
        .await?;
    }
    Ok(may)
}

/// Days of a range that changed here after they were compared, the last one first.
pub async fn reopened(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<Vec<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!(
        "select day from vobiz.provider_day
         where account_id = $1 and day between $2 and $3 and reopened_at is not null
         order by day desc",
        account.as_str(),
        first,
        last
    )
    .fetch_all(connection)
    .await
}

/// How many days of a range are not settled, although they have been over for an hour, and how many have not been over for so long.
pub async fn unsettled(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<(u32, u32), sqlx::Error> {
    let row = sqlx::query!(
        r#"select count(*) filter (where to_at <= vobiz.now() - interval '1 hour') as "over!",
                  count(*) filter (where to_at > vobiz.now() - interval '1 hour') as "young!"
           from vobiz.provider_day
           where account_id = $1 and day between $2 and $3 and (state <> 'settled' or reopened_at is not null)"#,
        account.as_str(),
        first,
        last
    )
    .fetch_one(connection)
    .await?;
    let count = |days: i64| u32::try_from(days).unwrap_or(u32::MAX);
    Ok((count(row.over), count(row.young)))
}

/// The days that a restore may have cost calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reopened {
    /// The first one.
    pub first: NaiveDate,
    /// The last one: today.
    pub last: NaiveDate,
    /// When they were reopened.
    pub at: DateTime<Utc>,
}

/// After a restore: whatever was stored since an instant may be gone. Its days are reopened and due, and the next sweep goes
/// down to it.
pub async fn reopen_since(
    connection: &mut PgConnection,
    account: &AccountId,
    since: DateTime<Utc>,
) -> Result<Reopened, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let connection = &mut *transaction;
    sqlx::query!(
        "update vobiz.account set sweep_from = least(sweep_from, $2), swept_wide_at = least(swept_wide_at, $2), swept_at = null
         where account_id = $1",
        account.as_str(),
        since
    )
    .execute(&mut *connection)
    .await?;
    let days = sqlx::query!(
        r#"select vobiz.provider_day_of($1, $2) as "first!", vobiz.provider_day_of($1, vobiz.now()) as "last!", vobiz.now() as "at!""#,
        account.as_str(),
        since
    )
    .fetch_one(&mut *connection)
    .await?;
    super::ensure(&mut *connection, account, days.first, days.last).await?;
    sqlx::query!(
        "update vobiz.provider_day set
           reopened_at = case when checked_at is not null then coalesce(reopened_at, vobiz.now()) end,
           check_at = case when to_at < vobiz.now() then vobiz.now() else to_at + interval '1 hour' end
         where account_id = $1 and day >= $2",
        account.as_str(),
        days.first
    )
    .execute(connection)
    .await?;
    transaction.commit().await?;
    Ok(Reopened { first: days.first, last: days.last, at: days.at })
}
