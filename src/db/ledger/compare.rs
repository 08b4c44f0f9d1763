//! Compares the listed rows of a day with what we hold. The caller holds the row of the day, so no writer of its calls commits
//! between two of these questions.

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use sqlx::PgConnection;

use crate::db::base::brief::Brief;
use crate::vobiz::{AccountId, Numeric};

/// Differences that are kept of one check; all are counted.
pub const MOST: usize = 1000;

/// A day of an account, and the instants between which it lies.
#[derive(Debug, Clone)]
pub struct DaySpan<'a> {
    /// The account whose list is read.
    pub account: &'a AccountId,
    /// The day.
    pub day: NaiveDate,
    /// The time of a call that decides its day: `start_time`, `end_time` or `created_at`.
    pub day_of: &'a str,
    /// First instant.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
}

/// What differs, call by call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerDifferences {
    /// Calls that are listed and not stored.
    pub missing_here: u32,
    /// Calls that are stored and not listed.
    pub missing_there: u32,
    /// Calls of which a billed field differs.
    pub differing: u32,
    /// Of these, calls that the list of their own account shows as they are stored.
    pub differing_of_owner: u32,
    /// Calls that are listed in this day and billed in another, which the way Vobiz cuts its days does not explain.
    pub billed_elsewhere: u32,
    /// Calls that lie in a day beside it, whose list shows them as well: the bill counts each once, so this alone keeps no day from settling.
    pub listed_twice: u32,
    /// The first of them.
    pub first: Vec<LedgerDifference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerDifference {
    /// missing_here, missing_there, differs, billed_elsewhere, listed_twice, unreadable, summary or sums.
    pub kind: String,
    /// The call.
    pub call_id: Option<String>,
    /// The field.
    pub field: Option<String>,
    /// Its value here.
    pub here: Option<String>,
    /// Its value at Vobiz.
    pub there: Option<String>,
}

/// Locks the row of a day: writers of its calls wait from now on. None if another session holds it for longer than a moment: the caller
/// has the lock of the proofs, for which the checks of others wait.
pub async fn lock_soon(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Option<i32>, sqlx::Error> {
    let brief = Brief::begin(&mut *connection).await?;
    let locked = sqlx::query_scalar!(
        "select tries from vobiz.provider_day where account_id = $1 and day = $2 for no key update",
        account.as_str(),
        day
    )
    .fetch_one(&mut *connection)
    .await;
    brief.end(connection, locked).await
}

/// How many calls of a day that its list ought to show were not listed at all, in the lists that were read.
pub async fn unlisted(connection: &mut PgConnection, span: &DaySpan<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "calls!" from vobiz.unlisted_call($1, $2, $3, $4)"#,
        span.account.as_str(),
        span.day_of,
        span.from,
        span.to
    )
    .fetch_one(connection)
    .await
}

/// Finds what differs. What a listed row leaves out says nothing.
pub async fn differences(
    connection: &mut PgConnection,
    span: &DaySpan<'_>,
) -> Result<LedgerDifferences, sqlx::Error> {
    let mut rows = sqlx::query!(
        r#"with listed as (
             select * from vobiz.listed_call where account_id = $1 and list_day = $5
           ), twice as materialized (
             select t.call_id, t.other_day, t.own_day from vobiz.listed_twice($1, $2, $5) t
           ), difference as (
             select 'missing_here' as kind, l.call_id, null as field, null as here, l.total_cost::text as there, false as by_owner
             from listed l where not exists (select from vobiz.cdr c where c.call_id = l.call_id)
             union all
             select 'missing_there', c.call_id, null, c.total_cost::text, null, false
             from vobiz.unlisted_call($1, $2, $3, $4) c
             union all
             select 'differs', l.call_id, f.field, f.here, f.there,
                    c.listed_by <> $1 and vobiz.is_shown_by_owner(c)
             from listed l
             join vobiz.cdr c on c.call_id = l.call_id
             cross join lateral (values
               ('duration', c.duration is distinct from l.duration, c.duration::text, l.duration::text),
               ('billsec', c.billsec is distinct from l.billsec, c.billsec::text, l.billsec::text),
               ('cost', c.cost is distinct from l.cost, c.cost::text, l.cost::text),
               ('streaming_cost', c.streaming_cost is distinct from l.streaming_cost, c.streaming_cost::text, l.streaming_cost::text),
               ('total_cost', c.total_cost is distinct from l.total_cost, c.total_cost::text, l.total_cost::text),
               ('currency', c.currency is distinct from l.currency, c.currency, l.currency),
               ('call_direction', c.call_direction is distinct from l.call_direction, c.call_direction, l.call_direction),
               ('start_time', c.start_time is distinct from l.start_time, c.start_time::text, l.start_time::text),
               ('account_id', c.account_id is distinct from l.owner, c.account_id, l.owner)
             ) as f (field, differs, here, there)
             where (c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.call_direction, c.start_time, c.account_id)
                   is distinct from
                   (l.duration, l.billsec, l.cost, l.streaming_cost, l.total_cost, l.currency, l.call_direction, l.start_time, l.owner)
               and f.differs and f.there is not null
             union all
             -- By its end, or when its record was made, a call may be listed in the day after that in which it began and is billed.
             select 'billed_elsewhere', l.call_id,
                    case when c.start_time is null and c.end_time is null and c.created_at is null then 'no time' else 'day' end, vobiz.provider_day_of($1, c.day_at)::text, $5::date::text, false
             from listed l
             join vobiz.cdr c on c.call_id = l.call_id
             where (c.day_at >= $4
                    or c.day_at < $3 - case $2 when 'start_time' then interval '0' when 'end_time' then vobiz.longest_call()
                                               else interval '1 day' end)
               -- One of any length, if its own record bears it out: it ended in the day, and lasted since its start. (Seconds beyond
               -- what a call can last are read as none.)
               and not ($2 <> 'start_time' and c.day_at < $3 and c.end_time < $4
                        and c.end_time >= $3 - case $2 when 'end_time' then interval '0' else interval '1 day' end
                        and coalesce(abs(extract(epoch from c.end_time - c.start_time) - c.duration) <= 60, false))
               -- Or in the day in which it lies its list shows it as well.
               and not exists (select from twice t where t.call_id = l.call_id and t.own_day = t.other_day)
             union all
             select 'listed_twice', t.call_id, 'day', t.own_day::text,
                    format('%s and %s', least($5::date, t.other_day), greatest($5::date, t.other_day)), false
             from twice t where t.own_day is distinct from $5
           )
           select kind as "kind!", call_id as "call_id!", field, here, there, by_owner as "by_owner!" from difference
           order by kind, call_id, field"#,
        span.account.as_str(),
        span.day_of,
        span.from,
        span.to,
        span.day
    )
    .fetch(connection);
    let mut found = LedgerDifferences::default();
    let mut before = None;
    while let Some(row) = rows.try_next().await? {
        let of = (row.kind.clone(), row.call_id.clone());
        if before.as_ref() != Some(&of) {
            match row.kind.as_str() {
                "missing_here" => found.missing_here += 1,
                "missing_there" => found.missing_there += 1,
                "billed_elsewhere" => found.billed_elsewhere += 1,
                "listed_twice" => found.listed_twice += 1,
                _ => {
                    found.differing += 1;
                    found.differing_of_owner += u32::from(row.by_owner);
                }
            }
        }
        before = Some(of);
        if found.first.len() < MOST {
            found.first.push(LedgerDifference {
                kind: row.kind,
                call_id: Some(row.call_id),
                field: row.field,
                here: row.here,
                there: row.there,
            });
        }
    }
    Ok(found)
}

/// Both sides of a day in one currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerTotal {
    /// Currency; empty where the calls name none.
    pub currency: String,
    /// Here.
    pub here: SideTotals,
    /// In Vobiz's rows.
    pub there: SideTotals,
    /// The seconds of Vobiz's rows in other ways of adding them up.
    pub stated: StatedSums,
    /// Of Vobiz's rows, those whose `total_cost` is not `cost` and `streaming_cost` together.
    pub odd: i64,
}

/// Sums of seconds as Vobiz's rows state them, each with what no call can have counted where our sums leave it out, and then with fractions
/// not rounded either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatedSums {
    /// Of `duration`.
    pub duration: [Numeric; 2],
    /// Of `billsec`.
    pub billsec: [Numeric; 2],
}

/// One side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideTotals {
    /// Calls.
    pub calls: i64,
    /// Seconds, ringing and talking.
    pub duration: i64,
    /// Seconds talked.
    pub billsec: i64,
    /// Sum of `cost`.
    pub cost: Numeric,
    /// Sum of `total_cost`.
    pub total: Numeric,
}

impl std::ops::Add for &SideTotals {
    type Output = SideTotals;

    fn add(self, other: Self) -> SideTotals {
        SideTotals {
            calls: self.calls + other.calls,
            duration: self.duration + other.duration,
            billsec: self.billsec + other.billsec,
            cost: &self.cost + &other.cost,
            total: &self.total + &other.total,
        }
    }
}

/// Adds up both sides: ours are the calls that are listed, and those that ought to be.
pub async fn totals(
    connection: &mut PgConnection,
    span: &DaySpan<'_>,
) -> Result<Vec<LedgerTotal>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"with listed as (
             select * from vobiz.listed_call where account_id = $1 and list_day = $5
           ), both_sides as (
             select coalesce(currency, '') as currency, 0 as here, 1 as there, duration, billsec, cost, total_cost,
                    duration_stated, billsec_stated,
                    -- Nothing stands for zero, but not for the total of a call that has a cost.
                    (coalesce(total_cost, 0) <> coalesce(cost, 0) + coalesce(streaming_cost, 0)
                     or total_cost is null and coalesce(cost, streaming_cost) is not null) as odd
             from listed
             union all
             select coalesce(c.currency, ''), 1, 0, c.duration, c.billsec, c.cost, c.total_cost, null, null, false
             from listed l join vobiz.cdr c on c.call_id = l.call_id
             union all
             select coalesce(c.currency, ''), 1, 0, c.duration, c.billsec, c.cost, c.total_cost, null, null, false
             from vobiz.unlisted_call($1, $2, $3, $4) c
           )
           select currency as "currency!", sum(here) as "calls_here!", sum(there) as "calls_there!",
                  coalesce(sum(here * duration), 0)::bigint as "duration_here!", coalesce(sum(there * duration), 0)::bigint as "duration_there!",
                  coalesce(sum(here * billsec), 0)::bigint as "billsec_here!", coalesce(sum(there * billsec), 0)::bigint as "billsec_there!",
                  coalesce(sum(coalesce(duration, duration_stated)) filter (where there = 1), 0)::text as "duration_whole!",
                  coalesce(sum(duration_stated), 0)::text as "duration_stated!",
                  coalesce(sum(coalesce(billsec, billsec_stated)) filter (where there = 1), 0)::text as "billsec_whole!",
                  coalesce(sum(billsec_stated), 0)::text as "billsec_stated!",
                  coalesce(sum(cost) filter (where here = 1), 0)::text as "cost_here!",
                  coalesce(sum(cost) filter (where there = 1), 0)::text as "cost_there!",
                  coalesce(sum(total_cost) filter (where here = 1), 0)::text as "total_here!",
                  coalesce(sum(total_cost) filter (where there = 1), 0)::text as "total_there!",
                  count(*) filter (where odd) as "odd!"
           from both_sides group by currency order by currency"#,
        span.account.as_str(),
        span.day_of,
        span.from,
        span.to,
        span.day
    )
    .fetch_all(connection)
    .await?;
    let sum = |text: &str| Numeric::of_sum(text).map_err(|error| sqlx::Error::Decode(error.into()));
    rows.into_iter()
        .map(|row| -> Result<LedgerTotal, sqlx::Error> {
            Ok(LedgerTotal {
                currency: row.currency,
                here: SideTotals {
                    calls: row.calls_here,
                    duration: row.duration_here,
                    billsec: row.billsec_here,
                    cost: sum(&row.cost_here)?,
                    total: sum(&row.total_here)?,
                },
                there: SideTotals {
                    calls: row.calls_there,
                    duration: row.duration_there,
                    billsec: row.billsec_there,
                    cost: sum(&row.cost_there)?,
                    total: sum(&row.total_there)?,
                },
                stated: StatedSums {
                    duration: [sum(&row.duration_whole)?, sum(&row.duration_stated)?],
                    billsec: [sum(&row.billsec_whole)?, sum(&row.billsec_stated)?],
                },
                odd: row.odd,
            })
        })
        .collect()
}
