//! Writes the outcome of a check: one row of the ledger with its two sides and its differences, and the status of the day.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::db::base::time::interval;

use super::compare::{DaySpan, LedgerDifference, LedgerTotal};
use super::{Begun, CheckCause};
use crate::vobiz::AccountId;

/// The status of a day after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayState {
    /// The provider's rows and totals equal ours.
    Settled,
    /// They differ.
    Differs,
    /// The provider's answer proves nothing.
    Unproven,
}

impl DayState {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Differs => "differs",
            Self::Unproven => "unproven",
        }
    }
}

/// A check that has compared.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// Which day.
    pub span: DaySpan<'a>,
    /// Why it was checked.
    pub cause: CheckCause,
    /// Its beginning.
    pub begun: &'a Begun,
    /// Its outcome.
    pub state: DayState,
    /// Why it is not settled.
    pub reason: Option<&'a str>,
    /// Pages read.
    pub requests: u32,
    /// Vobiz's own totals as they came.
    pub summary: Option<&'a str>,
    /// The field they add up: `total_cost`, `cost` or `either`.
    pub summary_cost: Option<&'a str>,
    /// Which money was not compared with them, in words.
    pub money: Option<&'a str>,
    /// Calls listed and not stored.
    pub missing_here: u32,
    /// Calls stored and not listed.
    pub missing_there: u32,
    /// Calls that differ.
    pub differing: u32,
    /// Calls listed in the day and billed in another.
    pub billed_elsewhere: u32,
    /// Calls that lie in a day beside it, whose list shows them as well.
    pub listed_twice: u32,
    /// Sums of the bill that do not equal their calls.
    pub wrong_sums: u32,
    /// Rows that could not be read.
    pub unreadable: u32,
    /// Calls that the check stored first and nothing had owed.
    pub recovered: u32,
    /// Calls of which it brought a newer version.
    pub revised: u32,
    /// Both sides.
    pub totals: &'a [LedgerTotal],
    /// What differs.
    pub differences: &'a [LedgerDifference],
    /// When the day is checked next.
    pub next: Option<DateTime<Utc>>,
    /// Checks in a row that did not settle it.
    pub tries: u32,
}

fn count(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// The day was opened again while it was checked: the clock of Postgres went back, or the day was found to end later than was known.
#[derive(Debug, thiserror::Error)]
#[error(
    "the day was opened again while it was checked (the clock of Postgres went back, or the day ends later than was known): it is checked anew"
)]
struct OpenedMeanwhile;

/// Appends a check to the ledger, and sets its day. The row of the day is locked by the caller. Returns the number of the check. Fails where
/// the day does not bear the check's beginning any more: a change of a call was then not said on its row.
pub async fn append(connection: &mut PgConnection, check: &Check<'_>) -> Result<i64, sqlx::Error> {
    let span = &check.span;
    let id = sqlx::query_scalar!(
        r#"insert into vobiz.ledger_check
             (account_id, day, cause, began_at, state, reason, requests, day_of, from_at, to_at, summary, summary_cost,
              missing_here, missing_there, differing, unreadable, recovered, revised, billed_elsewhere,
              wrong_sums, money, listed_twice, unannounced)
           select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::json, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                  count(*) filter (where c.first_callback_at is null)
           from vobiz.listed_call l join vobiz.cdr c on c.call_id = l.call_id
           where l.account_id = $1 and l.list_day = $2
           returning id"#,
        span.account.as_str(),
        span.day,
        check.cause.as_str(),
        check.begun.at,
        check.state.as_str(),
        check.reason,
        count(check.requests),
        span.day_of,
        span.from,
        span.to,
        check.summary,
        check.summary_cost,
        count(check.missing_here),
        count(check.missing_there),
        count(check.differing),
        count(check.unreadable),
        count(check.recovered),
        count(check.revised),
        count(check.billed_elsewhere),
        count(check.wrong_sums),
        check.money,
        count(check.listed_twice)
    )
    .fetch_one(&mut *connection)
    .await?;
    for total in check.totals {
        append_total(connection, id, total).await?;
    }
    append_owner_totals(connection, id, span).await?;
    append_differences(connection, id, check.differences).await?;
    let set = sqlx::query!(
        "update vobiz.provider_day set state = $3, checked_at = vobiz.now(), check_id = $4, tries = $5, check_at = $6,
                error = null, reopened_at = null, reopenings = case $7 when 'reopened' then reopenings + 1 when 'again' then reopenings else 0 end
         where account_id = $1 and day = $2 and began_at = $8",
        span.account.as_str(),
        span.day,
        check.state.as_str(),
        id,
        count(check.tries),
        check.next,
        check.cause.as_str(),
        check.begun.at
    )
    .execute(connection)
    .await?;
    if set.rows_affected() == 1 { Ok(id) } else { Err(sqlx::Error::Configuration(Box::new(OpenedMeanwhile))) }
}

async fn append_total(
    connection: &mut PgConnection,
    id: i64,
    total: &LedgerTotal,
) -> Result<(), sqlx::Error> {
    let (here, there) = (&total.here, &total.there);
    sqlx::query!(
        "insert into vobiz.ledger_total
           (check_id, currency, calls_here, calls_there, duration_here, duration_there, billsec_here, billsec_there,
            cost_here, cost_there, total_here, total_there)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::numeric, $10::text::numeric, $11::text::numeric, $12::text::numeric)",
        id,
        total.currency,
        here.calls,
        there.calls,
        here.duration,
        there.duration,
        here.billsec,
        there.billsec,
        here.cost.as_str(),
        there.cost.as_str(),
        here.total.as_str(),
        there.total.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What the list showed of whom. A call that another list shows as well counts in the day in which it lies, so that it counts once.
async fn append_owner_totals(
    connection: &mut PgConnection,
    id: i64,
    span: &DaySpan<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into vobiz.ledger_owner_total (check_id, owner, currency, calls, duration, billsec, cost, total)
         select $1, l.owner, coalesce(l.currency, ''), count(*), coalesce(sum(l.duration), 0), coalesce(sum(l.billsec), 0),
                coalesce(sum(l.cost), 0), coalesce(sum(l.total_cost), 0)
         from vobiz.listed_call l
         where l.account_id = $2 and l.list_day = $4
           and l.call_id not in (select t.call_id from vobiz.listed_twice($2, $3, $4) t where t.own_day = t.other_day)
         group by 2, 3",
        id,
        span.account.as_str(),
        span.day_of,
        span.day
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn append_differences(
    connection: &mut PgConnection,
    id: i64,
    differences: &[LedgerDifference],
) -> Result<(), sqlx::Error> {
    let column = |read: fn(&LedgerDifference) -> Option<&str>| -> Vec<Option<String>> {
        differences.iter().map(|difference| read(difference).map(str::to_owned)).collect()
    };
    let kinds: Vec<&str> = differences.iter().map(|difference| difference.kind.as_str()).collect();
    sqlx::query!(
        "insert into vobiz.ledger_difference (check_id, number, kind, call_id, field, here, there)
         select $1, n.ordinality, n.kind, n.call_id, n.field, n.here, n.there
         from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
           with ordinality as n (kind, call_id, field, here, there)",
        id,
        &kinds as &[&str],
        &column(|d| d.call_id.as_deref()) as &[Option<String>],
        &column(|d| d.field.as_deref()) as &[Option<String>],
        &column(|d| d.here.as_deref()) as &[Option<String>],
        &column(|d| d.there.as_deref()) as &[Option<String>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down why a check did not come to its end, and when the day is checked next.
pub async fn put_off(
    connection: &mut PgConnection,
    account: &AccountId,
    day: chrono::NaiveDate,
    by: std::time::Duration,
    why: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.provider_day set
           error = $4, check_at = case when check_at <= vobiz.now() then vobiz.now() + $3 else check_at end
         where account_id = $1 and day = $2",
        account.as_str(),
        day,
        interval(by) as _,
        why
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the last check of any day of an account did not come to its end, and is to be tried again.
pub async fn is_any_put_off(connection: &mut PgConnection, account: &AccountId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from vobiz.provider_day
                          where account_id = $1 and error is not null and check_at is not null) as "any!""#,
        account.as_str()
    )
    .fetch_one(connection)
    .await
}

/// What the callback log knows of the calls of a day is kept on the CDRs, before the log is pruned: callbacks that came after the
/// CDR was stored, and whose note was lost.
pub async fn keep_announcements(
    connection: &mut PgConnection,
    account: &AccountId,
    day: chrono::NaiveDate,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update vobiz.cdr c set first_callback_at = k.received_at
         from (select c.call_id, b.received_at
               from vobiz.listed_call l
               join vobiz.cdr c on c.call_id = l.call_id and c.first_callback_at is null
               cross join lateral (
                 select min(b.received_at) as received_at from vobiz.callback b
                 where b.call_id = c.call_id and b.outcome = 'owed') b
               where l.account_id = $1 and l.list_day = $2 and b.received_at is not null
               order by c.call_id for no key update of c) k
         where c.call_id = k.call_id",
        account.as_str(),
        day
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Closes dead letters that never appeared, where the days around their announcement were settled after their death and lack
/// them. Returns their ids.
pub async fn close_never_appeared(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with lacking as (
             select q.call_id, d.days, d.checks
             from vobiz.cdr_queue q
             join vobiz.account a on a.account_id = q.account_id
             cross join lateral (
               select count(*) as settled, string_agg(d.day::text, ', ' order by d.day) as days,
                      string_agg(d.check_id::text, ', ' order by d.day) as checks
               from vobiz.provider_day d
               where d.account_id = q.account_id and d.state = 'settled' and d.reopened_at is null and d.checked_at > q.dead_at
                 and d.day between vobiz.provider_day_of(q.account_id, q.announced_at) - 1
                               and vobiz.provider_day_of(q.account_id, q.announced_at) + 1) d
             -- The day before is not asked for where the ledger had not begun by then.
             where q.account_id = $1 and q.error_class = 'never_appeared' and q.dead_at is not null
               and d.settled = (select count(*) from generate_series(-1, 1) g
                                where g >= 0 or vobiz.provider_day_of(q.account_id, q.announced_at) + g >= vobiz.provider_day_of(a.account_id, a.ledger_since))
               and not exists (select from vobiz.cdr c where c.call_id = q.call_id)
             order by q.call_id for update of q
           ), closed as (
             delete from vobiz.cdr_queue q using lacking l where q.call_id = l.call_id
             returning q.call_id, q.account_id, q.certain, q.announced_at, q.last_error, l.days, l.checks
           )
           insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence, announced_at)
           select call_id, account_id, certain, 'never_appeared',
                  format('%s; the provider''s settled days %s lack it (checks %s)', last_error, days, checks), announced_at
           from closed
           returning call_id as "call_id!""#,
        account.as_str()
    )
    .fetch_all(connection)
    .await
}
