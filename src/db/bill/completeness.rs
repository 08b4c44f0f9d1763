//! Up to when what a bill says is complete, what holds it, and which of its calls have something that could not be read.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::billing::ReportFilter;

/// Up to when the calls of one owner are complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerCompleteness {
    /// Account that owns the calls.
    pub account_id: String,
    /// Where its ledger begins.
    pub ledger_since: DateTime<Utc>,
    /// From there up to here everything is settled (`vobiz.safe_to_bill`).
    pub safe_to: DateTime<Utc>,
    /// The same, as a clock of the billing zone shows it.
    #[serde(skip)]
    pub safe_to_local: String,
    /// What keeps it from moving on.
    pub held_by: String,
    /// The first day of the range, as Vobiz names it, that lies before the ledger and was not settled by a backfill.
    pub unproven_day: Option<NaiveDate>,
    /// The last day before the ledger.
    #[serde(skip)]
    pub last_day_before: Option<NaiveDate>,
    /// The account whose list its days are compared with: itself, or a parent; none if no configured account lists its calls.
    pub listed_by: Option<String>,
    /// Settled days of the range of whose money something is to be said: not all of it was compared, or a call is counted more than once.
    pub money_not_compared: i64,
    /// Settled days of the range on which Vobiz listed no call: that there was none, or that its records do not go back so far, looks the
    /// same.
    pub days_without_calls: i64,
    /// Whether all days of the range are settled.
    pub complete: bool,
    /// Its account was retired before the end of the range, up to where all is settled, and no call came after that.
    pub retired: bool,
}

/// What is known of a range of billing days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Completeness {
    /// The zone in which the days begin.
    pub billing_zone: String,
    /// When the range ends, as a clock of that zone shows it.
    #[serde(skip)]
    pub ends_local: String,
    /// Whether the range is over.
    pub over: bool,
    /// Whether all days of the range are settled, of every owner whose calls may be in it.
    pub complete: bool,
    /// Up to when all owners are complete, as a clock of the billing zone shows it; none where the beginning is not proven.
    pub complete_to: Option<String>,
    /// Calls of the range without an amount (`vobiz.cost_gap`).
    pub without_cost: i64,
    /// Calls of the range of which a field of the bill could not be read (`vobiz.unclear`).
    pub unclear: i64,
    /// The owners, by name.
    pub owners: Vec<OwnerCompleteness>,
}

/// Looks up what is known of the calls that were asked for. A customer may have calls in every account: which ones, only the calls
/// can say.
pub async fn read(connection: &mut PgConnection, filter: &ReportFilter) -> Result<Completeness, sqlx::Error> {
    let owners = sqlx::query_as!(
        OwnerCompleteness,
        r#"with span as (
             select vobiz.billing_day_start($1, z.billing_zone) as from_at, vobiz.billing_day_start($2::date + 1, z.billing_zone) as to_at,
                    z.billing_zone
             from vobiz.setting z
           )
           select s.account_id as "account_id!", s.ledger_since as "ledger_since!", s.safe_to as "safe_to!",
                  to_char(s.safe_to at time zone span.billing_zone, 'YYYY-MM-DD HH24:MI:SS') as "safe_to_local!",
                  s.held_by as "held_by!", b.unproven_day as "unproven_day?", b.last_day_before as "last_day_before?",
                  s.listed_by, y.days as "money_not_compared!", e.days as "days_without_calls!",
                  (s.safe_to >= span.to_at or r.retired) and b.unproven_day is null as "complete!", r.retired as "retired!"
           from vobiz.safe_to_bill s cross join span
           -- What lies before the ledger may have been listed and settled all the same: a backfill moves its beginning to the first
           -- day that has a call.
           left join lateral (
             select min(g.day::date) filter (
                      where not exists (select from vobiz.ledger_day d
                                        where d.account_id = coalesce(s.listed_by, s.account_id) and d.day = g.day::date and d.state = 'settled')) as unproven_day,
                    max(g.day::date) as last_day_before
             from generate_series(
                    vobiz.provider_day_of(coalesce(s.listed_by, s.account_id), span.from_at),
                    vobiz.provider_day_of(coalesce(s.listed_by, s.account_id), least(s.ledger_since, span.to_at) - interval '1 microsecond'), interval '1 day') g (day)
             where s.ledger_since > span.from_at) b on true
           cross join lateral (
             select count(distinct d.day) as days from vobiz.ledger_day d
             where d.account_id = s.listed_by and d.money is not null and d.state = 'settled'
               and d.to_at > span.from_at and d.from_at < span.to_at) y
           cross join lateral (
             select count(*) as days
             from (select d.day from vobiz.ledger_day d
                   where d.account_id = s.listed_by and d.state = 'settled' and d.from_at >= span.from_at and d.from_at < span.to_at
                   group by d.day having coalesce(sum(d.calls_there), 0) = 0) n) e
           -- What lies after its end is promised by nobody, and waits for nobody; calls of it that are stored are not proven.
           cross join lateral (
             select coalesce(s.retired_at <= s.safe_to, false) and s.retired_at < span.to_at
                    and not exists (select from vobiz.cdr c
                                    where c.account_id = s.account_id and c.day_at >= greatest(s.retired_at, span.from_at)
                                      and c.day_at < span.to_at) as retired) r
           where ($3::text is null or s.account_id = $3)
           order by 1"#,
        filter.from,
        filter.to,
        filter.account.as_deref()
    )
    .fetch_all(&mut *connection)
    .await?;
    let row = sqlx::query!(
        r#"select z.billing_zone as "billing_zone!", e.ends_at <= vobiz.now() as "over!",
                  to_char(e.ends_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI') as "ends_local!",
                  b.without_cost as "without_cost!", b.unclear as "unclear!"
           from vobiz.setting z
           cross join lateral (select vobiz.billing_day_start($2::date + 1, z.billing_zone) as ends_at) e
           cross join lateral (
             select coalesce(sum(d.without_cost), 0)::bigint as without_cost, coalesce(sum(d.unclear), 0)::bigint as unclear
             from vobiz.billing_day d
             where d.day >= $1 and d.day <= $2 and ($3::text is null or d.account_id = $3) and ($4::text is null or d.customer = $4)) b"#,
        filter.from,
        filter.to,
        filter.account.as_deref(),
        filter.customer.as_deref()
    )
    .fetch_one(connection)
    .await?;
    // One that was retired ends nothing for the others.
    let going_on = owners.iter().filter(|owner| !owner.retired).min_by_key(|owner| owner.safe_to);
    let first = going_on.or_else(|| owners.iter().max_by_key(|owner| owner.safe_to));
    let begins = owners.iter().all(|owner| owner.unproven_day.is_none());
    Ok(Completeness {
        billing_zone: row.billing_zone,
        ends_local: row.ends_local,
        over: row.over,
        complete: !owners.is_empty() && owners.iter().all(|owner| owner.complete),
        complete_to: first.filter(|_| begins).map(|owner| owner.safe_to_local.clone()),
        without_cost: row.without_cost,
        unclear: row.unclear,
        owners,
    })
}
