//! The sums by day of the billing zone, proved against those by quarter of an hour.

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::rollup::{Sums, VerifyScope};
use crate::db::base::audit;

/// A day whose sums are not those of its quarters of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollupDayDifference {
    /// Account that owns the calls.
    pub account_id: String,
    /// Customer they belong to.
    pub customer: String,
    /// Day in the billing zone.
    pub day: NaiveDate,
    /// Currency of the costs.
    pub currency: Option<String>,
    /// inbound, outbound, …
    pub call_direction: Option<String>,
    /// Whether billsec > 0; none where billsec is NULL.
    pub answered: Option<bool>,
    /// What is kept for the day.
    pub rollup_day: Json<Sums>,
    /// What its quarters add up to.
    pub rollup: Json<Sums>,
}

/// Adds up the quarters that are folded and compares them with the days, in one statement; what is not folded is in neither.
pub async fn verify(
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
) -> Result<Vec<RollupDayDifference>, sqlx::Error> {
    sqlx::query_as!(
        RollupDayDifference,
        r#"with span as (
             select coalesce(vobiz.billing_day_start($2, billing_zone), '-infinity') as from_at,
                    coalesce(vobiz.billing_day_start($3::date + 1, billing_zone), 'infinity') as to_at, billing_zone
             from vobiz.setting
           ), quarter as materialized (
             select bucket, vobiz.billing_day_of(bucket, (select billing_zone from span)) as day
             from (select distinct bucket from vobiz.rollup
                   where bucket >= (select from_at from span) and bucket < (select to_at from span)) b
           ), side as (
             select 1 as sign, account_id, customer, day, currency, call_direction, answered,
                    /* each sum: {} */
                    calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits,
                    unclear
                    /* end */
             from vobiz.rollup_day
             where ($1::text[] is null or account_id = any($1)) and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)
             union all
             select -1, r.account_id, r.customer, q.day, r.currency, r.call_direction, r.answered,
                    /* each sum: r.{} */
                    r.calls, r.duration, r.billsec, r.pulse_minutes, r.cost, r.streaming_cost, r.total_cost, r.with_cost,
                    r.without_cost, r.credits, r.unclear
                    /* end */
             from vobiz.rollup r join quarter q using (bucket)
             where $1::text[] is null or r.account_id = any($1)
           )
           select account_id as "account_id!", customer as "customer!", day as "day!", currency, call_direction, answered,
                  json_build_object(
                    /* each sum: '{}', coalesce(sum({}) filter (where sign > 0), 0) | '{}', trim_scale(coalesce(sum({}) filter (where sign > 0), 0))::text */
                    'calls', coalesce(sum(calls) filter (where sign > 0), 0),
                    'duration', coalesce(sum(duration) filter (where sign > 0), 0),
                    'billsec', coalesce(sum(billsec) filter (where sign > 0), 0),
                    'pulse_minutes', coalesce(sum(pulse_minutes) filter (where sign > 0), 0),
                    'cost', trim_scale(coalesce(sum(cost) filter (where sign > 0), 0))::text,
                    'streaming_cost', trim_scale(coalesce(sum(streaming_cost) filter (where sign > 0), 0))::text,
                    'total_cost', trim_scale(coalesce(sum(total_cost) filter (where sign > 0), 0))::text,
                    'with_cost', coalesce(sum(with_cost) filter (where sign > 0), 0),
                    'without_cost', coalesce(sum(without_cost) filter (where sign > 0), 0),
                    'credits', trim_scale(coalesce(sum(credits) filter (where sign > 0), 0))::text,
                    'unclear', coalesce(sum(unclear) filter (where sign > 0), 0)
                    /* end */) as "rollup_day!: Json<Sums>",
                  json_build_object(
                    /* each sum: '{}', coalesce(sum({}) filter (where sign < 0), 0) | '{}', trim_scale(coalesce(sum({}) filter (where sign < 0), 0))::text */
                    'calls', coalesce(sum(calls) filter (where sign < 0), 0),
                    'duration', coalesce(sum(duration) filter (where sign < 0), 0),
                    'billsec', coalesce(sum(billsec) filter (where sign < 0), 0),
                    'pulse_minutes', coalesce(sum(pulse_minutes) filter (where sign < 0), 0),
                    'cost', trim_scale(coalesce(sum(cost) filter (where sign < 0), 0))::text,
                    'streaming_cost', trim_scale(coalesce(sum(streaming_cost) filter (where sign < 0), 0))::text,
                    'total_cost', trim_scale(coalesce(sum(total_cost) filter (where sign < 0), 0))::text,
                    'with_cost', coalesce(sum(with_cost) filter (where sign < 0), 0),
                    'without_cost', coalesce(sum(without_cost) filter (where sign < 0), 0),
                    'credits', trim_scale(coalesce(sum(credits) filter (where sign < 0), 0))::text,
                    'unclear', coalesce(sum(unclear) filter (where sign < 0), 0)
                    /* end */) as "rollup!: Json<Sums>"
           from side
           group by account_id, customer, day, currency, call_direction, answered
           having (/* each sum: sum(sign * {}) */ sum(sign * calls), sum(sign * duration), sum(sign * billsec), sum(sign * pulse_minutes), sum(sign * cost), sum(sign * streaming_cost), sum(sign * total_cost), sum(sign * with_cost), sum(sign * without_cost), sum(sign * credits), sum(sign * unclear) /* end */)
                  <> (/* each sum: 0 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 /* end */)
           order by day, account_id, customer, currency, call_direction, answered"#,
        scope.accounts as Option<&[String]>,
        scope.from,
        scope.to
    )
    .fetch_all(connection)
    .await
}

/// Makes these days anew from their quarters, in the caller's transaction, and writes into the audit log what they said before.
/// Nothing is folded until its end; writers do not wait.
pub async fn repair(
    connection: &mut PgConnection,
    differences: &[RollupDayDifference],
    by: &str,
) -> Result<(), sqlx::Error> {
    audit::sign(&mut *connection, by).await?;
    let days: Vec<_> = differences.iter().map(|difference| difference.day).collect();
    sqlx::query!(
        "select vobiz.recompute_rollup_day(day, day) as cut from (select distinct day from unnest($1::date[]) d (day)) d",
        &days
    )
    .fetch_all(&mut *connection)
    .await?;
    let json = serde_json::to_string(differences).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query!(
        r#"insert into vobiz.audit (action, account_id, detail)
           select 'rollup_repaired', account_id,
                  json_build_object('customer', customer, 'day', day, 'currency', currency, 'call_direction', call_direction,
                                    'answered', answered, 'was', rollup_day, 'is', rollup)
           from json_to_recordset($1::text::json) as d (
             account_id text, customer text, day date, currency text, call_direction text, answered boolean, rollup_day json, rollup json)"#,
        json
    )
    .execute(connection)
    .await?;
    Ok(())
}
