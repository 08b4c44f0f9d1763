//! What the bill is made of.

mod billing;
mod calendar;
mod conversation;
mod customer_rule;
mod rollup;
mod rule_spelling;
mod unclear;
mod views;
mod zone;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use crate::support::database::Database;

/// Keys whose sums are not those of their calls, by quarter of an hour and by day of the billing zone, in one snapshot. Written out
/// here once more, from vobiz.cdr alone.
const DRIFT: &str = "
    with call as (
      select account_id, vobiz.customer_of(account_id, trunk_id, campaign_id, our_number, day_at) as customer,
             to_timestamp(floor(extract(epoch from day_at) / 900) * 900) as bucket, currency, call_direction,
             billsec > 0 as answered, 1 as calls, coalesce(duration, 0) as duration, coalesce(billsec, 0) as billsec,
             ceil(coalesce(billsec, 0) / 60.0) as pulse_minutes, coalesce(cost, 0) as cost, coalesce(streaming_cost, 0) as streaming_cost,
             coalesce(total_cost, 0) as total_cost, coalesce((total_cost > 0)::int, 0) as with_cost, (total_cost is null)::int as without_cost,
             case when total_cost < 0 then total_cost else 0 end as credits,
             (duration is null or billsec is null or coalesce(start_time, end_time) is null
              or exists (select from unnest(notes) n
                         where cost is null and n like 'cost: %' or streaming_cost is null and n like 'streaming_cost: %'
                            or total_cost is null and n like 'total_cost: %' or currency is null and n like 'currency: %'))::int as unclear
      from vobiz.cdr
    ), side as (
      select 1 as sign, account_id, customer, bucket::text as at, currency, call_direction, answered, calls, duration, billsec, pulse_minutes,
             cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      from vobiz.rollup_part
      union all
      select 1, account_id, customer, day::text, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
             streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      from vobiz.rollup_day_part
      union all
      select -1, account_id, customer, at, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
             streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      from call cross join vobiz.setting
      cross join lateral (values (bucket::text), ((bucket at time zone billing_zone)::date::text)) as x (at)
    )
    select count(*) from (
      select from side group by account_id, customer, at, currency, call_direction, answered
      having (sum(sign * calls), sum(sign * duration), sum(sign * billsec), sum(sign * pulse_minutes), sum(sign * cost),
              sum(sign * streaming_cost), sum(sign * total_cost), sum(sign * with_cost), sum(sign * without_cost), sum(sign * credits),
              sum(sign * unclear))
             <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)) wrong";

/// Zones in which the same calls lie in other days.
const ZONES: [&str; 6] = [
    "Asia/Kolkata",
    "UTC",
    "America/Los_Angeles",
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
];

pub(crate) async fn drift(db: &Database) -> i64 {
    db.count(DRIFT).await
}

pub(crate) async fn fold(db: &Database, most: i64) -> u64 {
    vobiz_cdr::db::bill::rollup::fold(&mut *db.connection().await, most).await.unwrap()
}

async fn try_run(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.map(drop)
}

/// What Postgres says against a statement.
async fn refusal(db: &Database, sql: &str) -> String {
    try_run(&db.pool, sql).await.expect_err("it was taken").to_string()
}

/// Inserts calls by a query that gives id, account, trunk, start, seconds talked and cost.
pub(crate) fn insert(query: &str) -> String {
    format!(
        "insert into vobiz.cdr (call_id, account_id, trunk_id, start_time, billsec, total_cost, listed_by, origin, attempts, fetched_at,
                                revision, content_hash, duration, cost, currency, call_direction, caller_e164)
         select *, 'a', 'manual', 0, now(), 1, sha256(''), 70, total_cost, 'INR', 'outbound', '+9180' || billsec from ({query})
           as q (call_id, account_id, trunk_id, start_time, billsec, total_cost)"
    )
}

fn set_zone(zone: &str) -> String {
    format!("update vobiz.setting set billing_zone = '{zone}'")
}

fn rule(field: &str, value: &str, customer: &str) -> String {
    format!(
        "insert into vobiz.customer_rule (field, value, customer) values ('{field}', '{value}', '{customer}')"
    )
}
