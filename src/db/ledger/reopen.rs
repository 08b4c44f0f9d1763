//! Days that are compared again because of what was found beside them: sums that do not equal their calls, and calls that do not equal
//! what was listed.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::settled::SettledDifference;

/// A day that settled again after so many reopenings in a row is left to a person.
const MOST_REOPENINGS: i32 = 3;

/// A sum of the bill that does not equal its calls: of a quarter of an hour, or of a whole billing day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrongSpan {
    /// Account that owns the calls.
    pub account_id: String,
    /// Day in the billing zone.
    pub day: NaiveDate,
    /// Start of the quarter of an hour, if it is the sum of one.
    pub quarter: Option<DateTime<Utc>>,
}

/// Has the settled days compared again, call by call, in which calls of wrong sums may lie: the calls changed past the triggers, which would
/// have reopened their days, and made right, a sum says what they say. Days of the owner and of all whose lists show its calls; the audit
/// log has each. To be committed before the sum is made right, and without the lock of the proofs: all checks wait for that one, and this
/// may wait for the rows of days. Returns how many.
pub async fn of_sums(connection: &mut PgConnection, wrong: &[WrongSpan]) -> Result<u64, sqlx::Error> {
    let found = days_of_sums(&mut *connection, wrong, true).await?;
    let days: Vec<(&str, NaiveDate)> = found.iter().map(|row| (row.account_id.as_str(), row.day)).collect();
    let reopened = reopen_days(&mut *connection, &days, None).await?;
    sqlx::query!(
        "insert into vobiz.audit (action, account_id, reason, detail)
         select 'day_reopened', r.account_id, 'sums of the bill did not equal the calls: the day is compared with Vobiz''s list again',
                json_build_object('day', r.day, 'was', 'settled', 'check_id', r.check_id)
         from unnest($1::text[], $2::date[], $3::bigint[]) as r (account_id, day, check_id) order by r.account_id, r.day",
        &reopened.iter().map(|day| day.account_id.as_str()).collect::<Vec<_>>() as &[&str],
        &reopened.iter().map(|day| day.day).collect::<Vec<_>>(),
        &reopened.iter().map(|day| day.check_id).collect::<Vec<_>>() as &[Option<i64>]
    )
    .execute(connection)
    .await?;
    Ok(u64::try_from(reopened.len()).unwrap_or(u64::MAX))
}

/// Makes the days due at once that differed because of these sums: they are right now. Those that nobody is promised anything of are left alone.
pub async fn hurry_days_of_sums(
    connection: &mut PgConnection,
    right: &[WrongSpan],
) -> Result<(), sqlx::Error> {
    let found = days_of_sums(&mut *connection, right, false).await?;
    sqlx::query!(
        "with locked as materialized (
           -- In the order of all who lock days.
           select d.account_id, d.day from vobiz.provider_day d
           where (d.account_id, d.day) in (select n.account_id, n.day from unnest($1::text[], $2::date[]) as n (account_id, day))
           order by d.account_id, d.day for no key update of d
         )
         update vobiz.provider_day d set check_at = vobiz.now(), tries = 0
         from locked l
         where d.account_id = l.account_id and d.day = l.day and d.state = 'differs' and d.check_at > vobiz.now()",
        &found.iter().map(|day| day.account_id.as_str()).collect::<Vec<_>>() as &[&str],
        &found.iter().map(|day| day.day).collect::<Vec<_>>()
    )
    .execute(connection)
    .await
    .map(drop)
}

/// A day of an account.
struct DayOfSums {
    account_id: String,
    day: NaiveDate,
}

/// The days in which calls of wrong sums may lie: those that are settled, or those that differ by their sums.
async fn days_of_sums(
    connection: &mut PgConnection,
    wrong: &[WrongSpan],
    settled: bool,
) -> Result<Vec<DayOfSums>, sqlx::Error> {
    let accounts: Vec<&str> = wrong.iter().map(|span| span.account_id.as_str()).collect();
    let days: Vec<NaiveDate> = wrong.iter().map(|span| span.day).collect();
    let quarters: Vec<Option<DateTime<Utc>>> = wrong.iter().map(|span| span.quarter).collect();
    sqlx::query_as!(
        DayOfSums,
        r#"with wrong as materialized (
             select w.account_id, coalesce(w.quarter, vobiz.billing_day_start(w.day, s.billing_zone)) as first,
                    coalesce(w.quarter + interval '15 minutes', vobiz.billing_day_start(w.day + 1, s.billing_zone)) as last
             from (select distinct account_id, day, quarter
                   from unnest($1::text[], $2::date[], $3::timestamptz[]) as n (account_id, day, quarter)) w
             cross join vobiz.setting s
           ), span as materialized (
             -- Where it is not the start that decides, a call may be listed in a later day than the one in which it began.
             select w.account_id, w.first, w.last, greatest(w.last + vobiz.longest_call(), c.last) as latest, c.listed_by
             from wrong w
             cross join lateral (
               select max(greatest(c.end_time, c.created_at)) as last, array_agg(distinct c.listed_by) as listed_by
               from vobiz.cdr c where c.account_id = w.account_id and c.day_at >= w.first and c.day_at < w.last) c
           ), day as materialized (
             select distinct d.account_id, d.day
             from span w
             join vobiz.account a
               on a.account_id = w.account_id or a.account_id = any(w.listed_by)
               or exists (select from vobiz.listed_owner o where o.account_id = a.account_id and o.owner = w.account_id)
             join vobiz.provider_day d
               on d.account_id = a.account_id and d.to_at > w.first
              and (d.from_at < w.last or a.day_of <> 'start_time' and d.from_at <= w.latest)
             where case when $4 then d.state = 'settled' and d.reopened_at is null
                        else d.state = 'differs' and d.check_at > vobiz.now()
                             and exists (select from vobiz.ledger_check k where k.id = d.check_id and k.wrong_sums > 0) end
           )
           select d.account_id as "account_id!", d.day as "day!" from day d"#,
        &accounts as &[&str],
        &days,
        &quarters as &[Option<DateTime<Utc>>],
        settled
    )
    .fetch_all(connection)
    .await
}

/// A day that was reopened, and the check that had settled it.
struct ReopenedDay {
    account_id: String,
    day: NaiveDate,
    check_id: Option<i64>,
}

/// Reopens those of some days that are settled, and due at once; none that was reopened so many times in a row, if a most is given.
async fn reopen_days(
    connection: &mut PgConnection,
    days: &[(&str, NaiveDate)],
    most: Option<i32>,
) -> Result<Vec<ReopenedDay>, sqlx::Error> {
    let (accounts, days): (Vec<&str>, Vec<NaiveDate>) = days.iter().copied().unzip();
    sqlx::query_as!(
        ReopenedDay,
        r#"with locked as materialized (
             -- In the order of all who lock days.
             select d.account_id, d.day from vobiz.provider_day d
             where (d.account_id, d.day) in (select n.account_id, n.day from unnest($1::text[], $2::date[]) as n (account_id, day))
             order by d.account_id, d.day for no key update of d
           )
           update vobiz.provider_day d set reopened_at = vobiz.now(), check_at = vobiz.now()
           from locked l
           where d.account_id = l.account_id and d.day = l.day and d.state = 'settled' and d.reopened_at is null
             and ($3::integer is null or d.reopenings < $3)
           returning d.account_id, d.day, d.check_id"#,
        &accounts as &[&str],
        &days,
        most
    )
    .fetch_all(connection)
    .await
}

/// The same for what a proof has noted of a billing day.
pub async fn of_noted(connection: &mut PgConnection, day: NaiveDate) -> Result<u64, sqlx::Error> {
    let accounts =
        sqlx::query_scalar!("select account_id from vobiz.wrong_sum where day = $1 order by 1", day)
            .fetch_all(&mut *connection)
            .await?;
    let wrong: Vec<WrongSpan> =
        accounts.into_iter().map(|account_id| WrongSpan { account_id, day, quarter: None }).collect();
    of_sums(connection, &wrong).await
}

/// Has days compared again that are settled and not what was listed; until then they are reopened, and no bill goes past them. One that
/// settled again after `MOST_REOPENINGS` is left to a person: `verify` tells of it.
pub async fn reopen(
    connection: &mut PgConnection,
    differences: &[SettledDifference],
) -> Result<(), sqlx::Error> {
    let days: Vec<(&str, NaiveDate)> =
        differences.iter().map(|day| (day.account_id.as_str(), day.day)).collect();
    reopen_days(connection, &days, Some(MOST_REOPENINGS)).await.map(drop)
}
