//! The ledger of days: which day is compared with the provider when, and what came of it.
//!
//! A check reads the list of one day into [`listed`], compares it with what we hold ([`compare`]) and appends the outcome
//! ([`record`]). A trigger on `vobiz.cdr` reopens a day whose calls change after its check began; the row of the day is the
//! fence between the two.

pub mod backfill;
pub mod bound;
pub mod compare;
pub mod contradiction;
pub mod filter_value;
pub mod listed;
pub mod record;
pub mod refused;
pub mod reopen;
pub mod safe_to_bill;
pub mod settled;
pub mod status;
pub mod summary;
pub mod uncut;
pub mod unreadable;

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use tracing::warn;

use crate::db::base::time::interval;
use crate::vobiz::AccountId;

/// Why a day is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckCause {
    /// So long after its end: a place in [`SCHEDULE`].
    Schedule(usize),
    /// The last check did not settle it.
    Again,
    /// Something of it changed here since the last check.
    Reopened,
    /// An operator lists a range.
    Backfill,
    /// An operator asks for this day.
    Manual,
    /// After a restore.
    Recover,
}

const HOUR: Duration = Duration::from_secs(3600);

/// How long after its end a day is checked, and the name of each check.
pub const SCHEDULE: [(Duration, &str); 7] = [
    (HOUR, "1h"),
    (HOUR.saturating_mul(24), "24h"),
    (HOUR.saturating_mul(72), "72h"),
    (HOUR.saturating_mul(7 * 24), "7d"),
    (HOUR.saturating_mul(30 * 24), "30d"),
    // Carriers' corrections of a month come with the invoice of the next one.
    (HOUR.saturating_mul(60 * 24), "60d"),
    (HOUR.saturating_mul(90 * 24), "90d"),
];

impl CheckCause {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule(place) => SCHEDULE.get(place).map_or("90d", |(_, name)| name),
            Self::Again => "again",
            Self::Reopened => "reopened",
            Self::Backfill => "backfill",
            Self::Manual => "manual",
            Self::Recover => "recover",
        }
    }
}

/// Between the checks of a day that does not settle: this, doubling, up to …
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// … this, by how long ago it ended: what has differed for long will not settle by being checked.
const AT_MOST: [(Duration, Duration); 3] = [
    (HOUR.saturating_mul(7 * 24), HOUR.saturating_mul(6)),
    (HOUR.saturating_mul(30 * 24), HOUR.saturating_mul(24)),
    (Duration::MAX, HOUR.saturating_mul(7 * 24)),
];

/// When a day that ended at `end` is checked next, after a check at `now` that settled it, or that was the `tries`th in a row
/// that did not. A day older than the schedule is checked no more, once it is settled.
pub fn next_check(end: DateTime<Utc>, now: DateTime<Utc>, tries: u32) -> Option<DateTime<Utc>> {
    let scheduled = SCHEDULE.iter().map(|(after, _)| end + *after).find(|at| *at > now);
    if tries == 0 {
        return scheduled;
    }
    let age = (now - end).to_std().unwrap_or_default();
    let most = AT_MOST.iter().find(|(younger, _)| age < *younger).map_or(AGAIN, |(_, most)| *most);
    let again = now + AGAIN.saturating_mul(1 << (tries - 1).min(10)).min(most);
    Some(scheduled.map_or(again, |at| at.min(again)))
}

/// The last check of the schedule that is due for a day that ended at `end`; before its first one, the first.
fn scheduled(end: DateTime<Utc>, now: DateTime<Utc>) -> CheckCause {
    CheckCause::Schedule(SCHEDULE.iter().rposition(|(after, _)| end + *after <= now).unwrap_or(0))
}

/// A day that is to be checked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The day.
    pub day: NaiveDate,
    /// Why.
    pub cause: CheckCause,
}

/// Makes the rows of an account's days up to today, opens those that were compared under a clock that was ahead, and returns the day that has been due for longest, if one is and has been
/// for at least so long.
pub async fn due(
    connection: &mut PgConnection,
    account: &AccountId,
    at_least: Duration,
) -> Result<Option<Due>, sqlx::Error> {
    sqlx::query!(
        "insert into vobiz.provider_day (account_id, day, from_at, to_at, check_at)
         select $1, d.day, vobiz.provider_day_start($1, d.day), vobiz.provider_day_start($1, d.day + 1),
                vobiz.provider_day_start($1, d.day + 1) + interval '1 hour'
         from vobiz.account a
         cross join lateral (
           select g::date as day
           from generate_series(vobiz.provider_day_of($1, least(a.ledger_since, vobiz.now())), vobiz.provider_day_of($1, vobiz.now()), interval '1 day') g) d
         where a.account_id = $1 and not exists (select from vobiz.provider_day x where x.account_id = $1 and x.day = d.day)
         on conflict do nothing",
        account.as_str()
    )
    .execute(&mut *connection)
    .await?;
    let mended = sqlx::query_scalar!(r#"select vobiz.mend_days($1) as "day!""#, account.as_str())
        .fetch_all(&mut *connection)
        .await?;
    if !mended.is_empty() {
        warn!(%account, days = ?mended, "days that were compared before they were over, or under a clock that was ahead, are open again");
    }
    let row = sqlx::query!(
        r#"select day, state, to_at, reopened_at is not null as "reopened!", vobiz.now() as "now!"
           from vobiz.provider_day
           where account_id = $1 and check_at <= vobiz.now() - $2::interval
           -- A day that goes on differing holds up no other.
           order by state in ('differs', 'unproven') and reopened_at is null, check_at, day limit 1"#,
        account.as_str(),
        interval(at_least) as _
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Due {
        day: row.day,
        cause: match row.state.as_str() {
            _ if row.reopened => CheckCause::Reopened,
            "differs" | "unproven" => CheckCause::Again,
            _ => scheduled(row.to_at, row.now),
        },
    }))
}

/// Makes the rows of some days, where they are missing: days before the ledger began, too. They are checked only when a person
/// asks for it.
pub async fn ensure(
    connection: &mut PgConnection,
    account: &AccountId,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into vobiz.provider_day (account_id, day, from_at, to_at)
         select $1, g::date, vobiz.provider_day_start($1, g::date), vobiz.provider_day_start($1, g::date + 1)
         from generate_series($2::date, $3::date, interval '1 day') g
         on conflict do nothing",
        account.as_str(),
        first,
        last
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A check that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// When, by the clock of Postgres.
    pub at: DateTime<Utc>,
    /// The writers of then, which may not have seen it.
    pub writers: Writers,
}

/// Transactions that were writing to `vobiz.cdr` at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writers(Vec<String>);

/// Writes down that a check of a day begins: from when that is committed, a writer that changes a call of the day says so on its row, and
/// the [`writers`] are to be asked for.
pub async fn begin(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"update vobiz.provider_day
           -- Behind the check before it, whatever the clock has done since: else nobody sees that one is at work.
           set began_at = greatest(vobiz.now(), checked_at + interval '1 microsecond')
           where account_id = $1 and day = $2 returning began_at as "at!""#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await
}

/// Who is writing to `vobiz.cdr` just now. A statement locks the table before its triggers look at the days, and the lock stays
/// until the end of its transaction: so a writer that changed a call without seeing what is committed by now is among these.
pub async fn writers(connection: &mut PgConnection) -> Result<Writers, sqlx::Error> {
    let writers = sqlx::query_scalar!(
        r#"select distinct l.virtualtransaction as "writer!"
           from pg_locks l
           where l.locktype = 'relation' and l.granted and l.relation = 'vobiz.cdr'::regclass
             and l.database = (select oid from pg_database where datname = current_database())
             and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
             and l.pid is distinct from pg_backend_pid()"#
    )
    .fetch_all(connection)
    .await?;
    Ok(Writers(writers))
}

impl Writers {
    /// Whether all of them have ended since.
    pub async fn have_ended(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let now = writers(connection).await?;
        Ok(!self.0.iter().any(|writer| now.0.contains(writer)))
    }
}

/// Whether a day was compared since an instant, is settled, and has not changed since.
pub async fn is_settled_since(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
    since: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
             select from vobiz.provider_day
             where account_id = $1 and day = $2 and state = 'settled' and reopened_at is null and began_at >= $3) as "settled!""#,
        account.as_str(),
        day,
        since
    )
    .fetch_one(connection)
    .await
}

/// Name of the lease of the one that checks days of an account.
pub fn lease_name(account: &AccountId) -> String {
    format!("day {account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_checked_after_an_hour_a_day_and_up_to_ninety() {
        let end = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hours = |hours: i64| end + chrono::TimeDelta::hours(hours);
        for (now, next) in
            [(0, 1), (1, 24), (23, 24), (24, 72), (100, 168), (168, 720), (720, 1440), (1440, 2160)]
        {
            assert_eq!(next_check(end, hours(now), 0), Some(hours(next)), "{now}");
        }
        assert_eq!(next_check(end, hours(2160), 0), None);
        let minutes = |now, tries| (next_check(end, hours(now), tries).unwrap() - hours(now)).num_minutes();
        let waits: Vec<i64> = (1..8).map(|tries| minutes(100, tries)).collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 360, 360]);
        assert_eq!(minutes(23, 5), 60, "the schedule may come first");
        assert_eq!((minutes(300, u32::MAX), minutes(3000, u32::MAX)), (1440, 7 * 1440));
        let names: Vec<&str> = [0, 1, 23, 24, 72, 167, 168, 720, 1440, 9999]
            .map(|now| scheduled(end, hours(now)).as_str())
            .into();
        assert_eq!(names, ["1h", "1h", "1h", "24h", "72h", "72h", "7d", "30d", "60d", "90d"]);
    }
}
