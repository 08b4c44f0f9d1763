//! The sums that are kept beside the calls: folding what triggers have noted, and proving that they equal the calls.
//!
//! Writers only add rows to `vobiz.rollup_delta`; folding merges them into `vobiz.rollup` (by quarter of an hour) and
//! `vobiz.rollup_day` (by day of the billing zone). A reader adds up what is folded and what is not, so it does not matter when,
//! or whether, anything is folded: only how fast a report is.

use chrono::{DateTime, NaiveDate, Utc};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use crate::db::base::audit;

/// Folds up to `most` rows of the delta into the sums, in a transaction of its own; returns how many. One folds at a time: none
/// are folded while another does, or while the billing zone changes.
pub async fn fold(connection: &mut PgConnection, most: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let ours = sqlx::query_scalar!(
        r#"select l.name from vobiz.work_lease l cross join vobiz.need_read_committed() n
           where l.name = 'rollup' for no key update of l skip locked"#
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if ours.is_none() {
        return Ok(0);
    }
    // The row is locked: this statement sees the zone by which all that is folded was cut.
    let row = sqlx::query!(
        r#"with taken as (
             delete from vobiz.rollup_delta
             where ctid = any (array(select ctid from vobiz.rollup_delta limit $1 for update skip locked))
             returning *
           ), folded as (
             insert into vobiz.rollup as r (
               account_id, customer, bucket, currency, call_direction, answered,
               /* each sum: {} */
               calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits,
               unclear
               /* end */)
             select account_id, customer, bucket, currency, call_direction, answered,
                    /* each sum: sum({}) */
                    sum(calls), sum(duration), sum(billsec), sum(pulse_minutes), sum(cost), sum(streaming_cost), sum(total_cost),
                    sum(with_cost), sum(without_cost), sum(credits), sum(unclear)
                    /* end */
             from taken
             group by account_id, customer, bucket, currency, call_direction, answered
             on conflict on constraint rollup_key do update set
               /* each sum: {} = r.{} + excluded.{} */
               calls = r.calls + excluded.calls, duration = r.duration + excluded.duration,
               billsec = r.billsec + excluded.billsec, pulse_minutes = r.pulse_minutes + excluded.pulse_minutes,
               cost = r.cost + excluded.cost, streaming_cost = r.streaming_cost + excluded.streaming_cost,
               total_cost = r.total_cost + excluded.total_cost, with_cost = r.with_cost + excluded.with_cost,
               without_cost = r.without_cost + excluded.without_cost, credits = r.credits + excluded.credits,
               unclear = r.unclear + excluded.unclear
               /* end */
             returning bucket, calls
           ), quarter as materialized (
             select bucket, vobiz.billing_day_of(bucket, (select billing_zone from vobiz.setting)) as day
             from (select distinct bucket from taken) b
           ), folded_day as (
             insert into vobiz.rollup_day as r (
               account_id, customer, day, currency, call_direction, answered,
               /* each sum: {} */
               calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits,
               unclear
               /* end */)
             select account_id, customer, day, currency, call_direction, answered,
                    /* each sum: sum({}) */
                    sum(calls), sum(duration), sum(billsec), sum(pulse_minutes), sum(cost), sum(streaming_cost), sum(total_cost),
                    sum(with_cost), sum(without_cost), sum(credits), sum(unclear)
                    /* end */
             from taken join quarter using (bucket)
             group by account_id, customer, day, currency, call_direction, answered
             on conflict on constraint rollup_day_key do update set
               /* each sum: {} = r.{} + excluded.{} */
               calls = r.calls + excluded.calls, duration = r.duration + excluded.duration,
               billsec = r.billsec + excluded.billsec, pulse_minutes = r.pulse_minutes + excluded.pulse_minutes,
               cost = r.cost + excluded.cost, streaming_cost = r.streaming_cost + excluded.streaming_cost,
               total_cost = r.total_cost + excluded.total_cost, with_cost = r.with_cost + excluded.with_cost,
               without_cost = r.without_cost + excluded.without_cost, credits = r.credits + excluded.credits,
               unclear = r.unclear + excluded.unclear
               /* end */
             returning day, calls
           )
           select (select count(*) from taken) as "taken!",
                  (select array_agg(distinct bucket) from folded where calls = 0) as emptied,
                  (select array_agg(distinct day) from folded_day where calls = 0) as emptied_days"#,
        most
    )
    .fetch_one(&mut *transaction)
    .await?;
    // All of it must be zero: a change may be folded before the call that it changes.
    if let Some(buckets) = row.emptied {
        sqlx::query!(
            "delete from vobiz.rollup
             where bucket = any($1)
               and (/* each sum: {} */ calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear /* end */)
                   = (/* each sum: 0 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 /* end */)",
            &buckets
        )
        .execute(&mut *transaction)
        .await?;
    }
    if let Some(days) = row.emptied_days {
        sqlx::query!(
            "delete from vobiz.rollup_day
             where day = any($1)
               and (/* each sum: {} */ calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear /* end */)
                   = (/* each sum: 0 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 /* end */)",
            &days
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(row.taken.try_into().unwrap_or_default())
}

/// Which part of the sums to prove; nothing set means all.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyScope<'a> {
    /// Only calls of these accounts.
    pub accounts: Option<&'a [String]>,
    /// First day in the billing zone.
    pub from: Option<NaiveDate>,
    /// Last day in the billing zone, included.
    pub to: Option<NaiveDate>,
}

/// What the sums are kept by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Account that owns the calls.
    pub account_id: String,
    /// Customer they belong to.
    pub customer: String,
    /// Start of the quarter of an hour.
    pub bucket: DateTime<Utc>,
    /// Currency of the costs.
    pub currency: Option<String>,
    /// inbound, outbound, …
    pub call_direction: Option<String>,
    /// Whether billsec > 0; none where billsec is NULL.
    pub answered: Option<bool>,
}

/// Sums over some calls, by name, in the order of `vobiz.sums_of`: whole numbers, and amounts as text, to the last digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sums(IndexMap<String, Value>);

impl Sums {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(name, value)| {
            (name.as_str(), value.as_str().map_or_else(|| value.to_string(), Into::into))
        })
    }
}

/// `calls 3, cost 1.2`: those that are not zero.
impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self
            .iter()
            .filter(|(_, value)| value != "0")
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

/// A key whose sums are not those of its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollupDifference {
    /// The key.
    #[serde(flatten)]
    pub key: Key,
    /// The day in the billing zone in which the quarter of an hour begins.
    #[serde(skip)]
    pub day: NaiveDate,
    /// What is kept: the rollup and what is not folded yet.
    pub rollup: Sums,
    /// What the calls add up to.
    pub calls: Sums,
}

/// What comparing the sums with the calls found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Keys of either side.
    pub keys: i64,
    /// Calls that were added up.
    pub calls: i64,
    /// Those that differ, by time.
    pub differences: Vec<RollupDifference>,
}

/// Adds up the calls and compares, key by key, in one statement, which sees both sides at one instant. It reads all calls of the
/// scope.
pub async fn verify(connection: &mut PgConnection, scope: VerifyScope<'_>) -> Result<Verified, sqlx::Error> {
    let rows = sqlx::query!(
        r#"with span as (
             select coalesce(vobiz.billing_day_start($2, billing_zone), '-infinity') as from_at,
                    coalesce(vobiz.billing_day_start($3::date + 1, billing_zone), 'infinity') as to_at
             from vobiz.setting
           ), side as (
             select true as kept, account_id, customer, bucket, currency, call_direction, answered,
                    /* each sum: {} */
                    calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits,
                    unclear
                    /* end */
             from vobiz.rollup_part
             where ($1::text[] is null or account_id = any($1))
               and bucket >= (select from_at from span) and bucket < (select to_at from span)
             union all
             -- As vobiz.rollup_base, with a condition on the calls themselves, which an index knows.
             select false, c.account_id, c.customer, vobiz.bucket_of(c.day_at), c.currency, c.call_direction,
                    c.billsec > 0,
                    /* each sum: sum(s.{}) */
                    sum(s.calls), sum(s.duration), sum(s.billsec), sum(s.pulse_minutes), sum(s.cost), sum(s.streaming_cost),
                    sum(s.total_cost), sum(s.with_cost), sum(s.without_cost), sum(s.credits), sum(s.unclear)
                    /* end */
             from vobiz.customer_cdr c
             cross join lateral vobiz.sums_of(/* each input: c.{} */ c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes /* end */) s
             where ($1::text[] is null or c.account_id = any($1))
               and c.day_at >= (select from_at from span) and c.day_at < (select to_at from span)
             group by 2, 3, 4, 5, 6, 7
           ), key as materialized (
             select account_id, customer, bucket, currency, call_direction, answered,
                    /* each sum: coalesce(sum({}) filter (where kept), 0)::{type} as {} */
                    coalesce(sum(calls) filter (where kept), 0)::bigint as calls,
                    coalesce(sum(duration) filter (where kept), 0)::bigint as duration,
                    coalesce(sum(billsec) filter (where kept), 0)::bigint as billsec,
                    coalesce(sum(pulse_minutes) filter (where kept), 0)::bigint as pulse_minutes,
                    coalesce(sum(cost) filter (where kept), 0)::numeric as cost,
                    coalesce(sum(streaming_cost) filter (where kept), 0)::numeric as streaming_cost,
                    coalesce(sum(total_cost) filter (where kept), 0)::numeric as total_cost,
                    coalesce(sum(with_cost) filter (where kept), 0)::bigint as with_cost,
                    coalesce(sum(without_cost) filter (where kept), 0)::bigint as without_cost,
                    coalesce(sum(credits) filter (where kept), 0)::numeric as credits,
                    coalesce(sum(unclear) filter (where kept), 0)::bigint as unclear
                    /* end */,
                    /* each sum: coalesce(sum({}) filter (where not kept), 0)::{type} as true_{} */
                    coalesce(sum(calls) filter (where not kept), 0)::bigint as true_calls,
                    coalesce(sum(duration) filter (where not kept), 0)::bigint as true_duration,
                    coalesce(sum(billsec) filter (where not kept), 0)::bigint as true_billsec,
                    coalesce(sum(pulse_minutes) filter (where not kept), 0)::bigint as true_pulse_minutes,
                    coalesce(sum(cost) filter (where not kept), 0)::numeric as true_cost,
                    coalesce(sum(streaming_cost) filter (where not kept), 0)::numeric as true_streaming_cost,
                    coalesce(sum(total_cost) filter (where not kept), 0)::numeric as true_total_cost,
                    coalesce(sum(with_cost) filter (where not kept), 0)::bigint as true_with_cost,
                    coalesce(sum(without_cost) filter (where not kept), 0)::bigint as true_without_cost,
                    coalesce(sum(credits) filter (where not kept), 0)::numeric as true_credits,
                    coalesce(sum(unclear) filter (where not kept), 0)::bigint as true_unclear
                    /* end */
             from side
             group by 1, 2, 3, 4, 5, 6
           )
           select n.keys as "keys!", n.all_calls as "all_calls!",
                  k.account_id as "account_id?", k.customer as "customer?", k.bucket as "bucket?", k.currency as "currency?",
                  k.call_direction as "call_direction?", k.answered as "answered?",
                  vobiz.billing_day_of(k.bucket, (select billing_zone from vobiz.setting)) as "day?",
                  json_build_object(
                    /* each sum: '{}', k.{} | '{}', trim_scale(k.{})::text */
                    'calls', k.calls, 'duration', k.duration, 'billsec', k.billsec, 'pulse_minutes', k.pulse_minutes,
                    'cost', trim_scale(k.cost)::text, 'streaming_cost', trim_scale(k.streaming_cost)::text,
                    'total_cost', trim_scale(k.total_cost)::text, 'with_cost', k.with_cost, 'without_cost', k.without_cost,
                    'credits', trim_scale(k.credits)::text, 'unclear', k.unclear
                    /* end */) as "rollup!: Json<Sums>",
                  json_build_object(
                    /* each sum: '{}', k.true_{} | '{}', trim_scale(k.true_{})::text */
                    'calls', k.true_calls, 'duration', k.true_duration, 'billsec', k.true_billsec,
                    'pulse_minutes', k.true_pulse_minutes, 'cost', trim_scale(k.true_cost)::text,
                    'streaming_cost', trim_scale(k.true_streaming_cost)::text, 'total_cost', trim_scale(k.true_total_cost)::text,
                    'with_cost', k.true_with_cost, 'without_cost', k.true_without_cost,
                    'credits', trim_scale(k.true_credits)::text, 'unclear', k.true_unclear
                    /* end */) as "sums!: Json<Sums>"
           from (select count(*) as keys, coalesce(sum(true_calls), 0)::bigint as all_calls from key
                 where calls <> 0 or true_calls <> 0) n
           left join key k
             on (/* each sum: k.{} */ k.calls, k.duration, k.billsec, k.pulse_minutes, k.cost, k.streaming_cost, k.total_cost, k.with_cost, k.without_cost, k.credits, k.unclear /* end */)
                <> (/* each sum: k.true_{} */ k.true_calls, k.true_duration, k.true_billsec, k.true_pulse_minutes, k.true_cost, k.true_streaming_cost, k.true_total_cost, k.true_with_cost, k.true_without_cost, k.true_credits, k.true_unclear /* end */)
           order by k.bucket, k.account_id, k.customer, k.currency, k.call_direction, k.answered"#,
        scope.accounts as Option<&[String]>,
        scope.from,
        scope.to
    )
    .fetch_all(connection)
    .await?;
    let mut verified = Verified { keys: 0, calls: 0, differences: Vec::new() };
    for row in rows {
        (verified.keys, verified.calls) = (row.keys, row.all_calls);
        // The one row without a key, where nothing differs.
        let (Some(account_id), Some(customer), Some(bucket), Some(day)) =
            (row.account_id, row.customer, row.bucket, row.day)
        else {
            continue;
        };
        let (currency, call_direction, answered) = (row.currency, row.call_direction, row.answered);
        verified.differences.push(RollupDifference {
            key: Key { account_id, customer, bucket, currency, call_direction, answered },
            day,
            rollup: row.rollup.0,
            calls: row.sums.0,
        });
    }
    Ok(verified)
}

/// Makes these keys right, in the caller's transaction, and writes into the audit log what they said before. What is missing is
/// added as a delta: whatever was written to the calls since they were added up has brought its own, so nobody has to wait.
/// Only once for each [`verify`].
pub async fn repair(
    connection: &mut PgConnection,
    differences: &[RollupDifference],
    by: &str,
) -> Result<(), sqlx::Error> {
    audit::sign(&mut *connection, by).await?;
    let json = serde_json::to_string(differences).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query!(
        r#"with wrong as (
             select d.* from json_to_recordset($1::text::json) as d (
               account_id text, customer text, bucket timestamptz, currency text, call_direction text, answered boolean, rollup json,
               calls json)
           ), side as (
             select w.*, s.sign, s.sums
             from wrong w cross join lateral (values (-1, w.rollup), (1, w.calls)) as s (sign, sums)
           ), added as (
             insert into vobiz.rollup_delta (
               account_id, customer, bucket, currency, call_direction, answered,
               /* each sum: {} */
               calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits,
               unclear
               /* end */)
             select account_id, customer, bucket, currency, call_direction, answered,
                    /* each sum: sum(sign * (sums->>'{}')::{type}) */
                    sum(sign * (sums->>'calls')::bigint), sum(sign * (sums->>'duration')::bigint),
                    sum(sign * (sums->>'billsec')::bigint), sum(sign * (sums->>'pulse_minutes')::bigint),
                    sum(sign * (sums->>'cost')::numeric), sum(sign * (sums->>'streaming_cost')::numeric),
                    sum(sign * (sums->>'total_cost')::numeric), sum(sign * (sums->>'with_cost')::bigint),
                    sum(sign * (sums->>'without_cost')::bigint), sum(sign * (sums->>'credits')::numeric),
                    sum(sign * (sums->>'unclear')::bigint)
                    /* end */
             from side
             group by account_id, customer, bucket, currency, call_direction, answered
           )
           insert into vobiz.audit (action, account_id, detail)
           select 'rollup_repaired', account_id,
                  json_build_object('customer', customer, 'bucket', bucket, 'currency', currency, 'call_direction', call_direction,
                                    'answered', answered, 'was', rollup, 'is', calls)
           from wrong"#,
        json
    )
    .execute(connection)
    .await?;
    Ok(())
}
