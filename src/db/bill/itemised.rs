//! The calls of one customer in one month, each by itself, and their totals.

use chrono::NaiveDate;
use futures_util::stream::BoxStream;
use sqlx::PgConnection;

use super::billing::ReportLine;

/// Names of the cells of a call.
pub const COLUMNS: [&str; 22] = [
    "call_id",
    "account_id",
    "day",
    "local_start",
    "start_utc",
    "call_direction",
    "our_number",
    "other_number",
    "prefix",
    "destination",
    "trunk_id",
    "campaign_id",
    "outcome",
    "hangup_cause",
    "duration",
    "billsec",
    "pulse_minutes",
    "currency",
    "cost",
    "streaming_cost",
    "total_cost",
    "unclear",
];
/// Names of the cells of a total.
pub const TOTALS: [&str; 15] = [
    "customer",
    "month",
    "billing_zone",
    "currency",
    "calls",
    "answered",
    "billsec",
    "pulse_minutes",
    "cost",
    "streaming_cost",
    "total_cost",
    "without_cost",
    "credits",
    "unclear",
    "complete_to",
];

/// Makes what follows in this transaction see one state of the calls.
pub async fn begin_snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("begin transaction isolation level repeatable read read only").execute(connection).await?;
    Ok(())
}

/// Ends it.
pub async fn end_snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("commit").execute(connection).await?;
    Ok(())
}

/// The calls, one by one, in the order of their start. `month` is its first day.
pub fn calls<'a>(
    connection: &'a mut PgConnection,
    customer: &'a str,
    month: NaiveDate,
    account: Option<&'a str>,
) -> BoxStream<'a, Result<Vec<Option<String>>, sqlx::Error>> {
    sqlx::query_scalar!(
        r#"select array[l.call_id, l.account_id, k.day::text,
                        to_char(l.day_at at time zone k.billing_zone, 'YYYY-MM-DD HH24:MI:SS'),
                        to_char(l.day_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), l.call_direction, l.our_number,
                        l.other_number, l.prefix, p.name, l.trunk_id, l.campaign_id, l.outcome, l.hangup_cause, l.duration::text,
                        l.billsec::text, l.pulse_minutes::text, l.currency, l.cost::text, l.streaming_cost::text,
                        l.total_cost::text, array_to_string(l.unclear_fields, ' ')] as "cells!: Vec<Option<String>>"
           from vobiz.billing_account_day k
           cross join lateral (
             select * from vobiz.leg l
             where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at and l.customer = $1
             offset 0) l
           left join vobiz.prefix p on p.prefix = l.prefix
           where k.month = $2 and ($3::text is null or k.account_id = $3)
           order by l.day_at, l.call_id"#,
        customer,
        month,
        account
    )
    .fetch(connection)
}

/// Their totals, one a currency.
pub async fn totals(
    connection: &mut PgConnection,
    customer: &str,
    month: NaiveDate,
    account: Option<&str>,
    complete_to: Option<&str>,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[$1::text, to_char(k.month, 'YYYY-MM'), k.billing_zone, l.currency, count(*)::text,
                        count(*) filter (where l.answered)::text, coalesce(sum(l.billsec), 0)::text,
                        coalesce(sum(l.pulse_minutes), 0)::text, coalesce(sum(l.cost), 0)::text,
                        coalesce(sum(l.streaming_cost), 0)::text, coalesce(sum(l.total_cost), 0)::text,
                        count(*) filter (where l.total_cost is null)::text,
                        coalesce(sum(l.total_cost) filter (where l.total_cost < 0), 0)::text,
                        count(*) filter (where l.unclear_fields <> '{}')::text, $4] as "cells!: _",
                  true as "total!"
           from vobiz.billing_account_day k
           cross join lateral (
             select * from vobiz.leg l
             where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at and l.customer = $1
             offset 0) l
           where k.month = $2 and ($3::text is null or k.account_id = $3)
           group by k.month, k.billing_zone, l.currency
           order by l.currency"#,
        customer,
        month,
        account,
        complete_to
    )
    .fetch_all(connection)
    .await
}

/// The customers that have calls in this month, by name.
pub async fn customers(connection: &mut PgConnection, month: NaiveDate) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select distinct customer as "customer!" from vobiz.billing_day
           where day >= $1 and day < ($1::date + interval '1 month')::date order by 1"#,
        month
    )
    .fetch_all(connection)
    .await
}
