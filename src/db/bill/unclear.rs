//! Calls of the last weeks with something that could not be read, counted from the sums.

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;

/// Billing days that are counted, today included: the month that is being billed, and the one that runs.
const DAYS: i32 = 62;

/// Calls of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnclearCalls {
    /// Account that owns them.
    pub account_id: String,
    /// All.
    pub calls: i64,
    /// Of which a field of the bill could not be read (`vobiz.unclear`).
    pub unclear: i64,
    /// Without an amount (`vobiz.cost_gap`).
    pub without_cost: i64,
}

/// What the bills of the last weeks cannot say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UnclearSnapshot {
    /// First day that is counted, in the billing zone; none before the first look.
    pub since: Option<NaiveDate>,
    /// Owners that have calls since then, by name.
    pub owners: Vec<UnclearCalls>,
}

/// Counts them: as many rows as the days have sums, whatever the number of calls.
pub async fn read(connection: &mut PgConnection) -> Result<UnclearSnapshot, sqlx::Error> {
    let since = sqlx::query_scalar!(
        r#"select vobiz.billing_day_of(vobiz.now(), z.billing_zone) - ($1::int - 1) as "since!" from vobiz.setting z"#,
        DAYS
    )
    .fetch_one(&mut *connection)
    .await?;
    let owners = sqlx::query_as!(
        UnclearCalls,
        r#"select r.account_id as "account_id!", sum(r.calls)::bigint as "calls!", sum(r.unclear)::bigint as "unclear!",
                  sum(r.without_cost)::bigint as "without_cost!"
           from vobiz.rollup_day_part r where r.day >= $1
           group by r.account_id having sum(r.calls) <> 0 order by r.account_id"#,
        since
    )
    .fetch_all(connection)
    .await?;
    Ok(UnclearSnapshot { since: Some(since), owners })
}
