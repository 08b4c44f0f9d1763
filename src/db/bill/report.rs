//! Questions about what is stored, each one query. No arithmetic happens outside of SQL.

use rust_decimal::Decimal;
use sqlx::PgConnection;

/// Calls of one billing day, direction and hangup cause.
#[derive(Debug, Clone)]
pub struct DayRow {
    /// Day in the billing zone, `YYYY-MM-DD`.
    pub day: String,
    /// inbound or outbound.
    pub direction: String,
    /// Hangup cause as Vobiz names it.
    pub hangup_cause: String,
    /// Currency of the cost.
    pub currency: String,
    /// Legs.
    pub calls: i64,
    /// Legs with billable seconds.
    pub answered: i64,
    /// Talked minutes, exact, at two decimals.
    pub minutes: Decimal,
    /// Sum of `total_cost`, to the last digit.
    pub cost: Decimal,
}

/// Calls by day, direction, cause and currency.
pub async fn by_day(connection: &mut PgConnection) -> Result<Vec<DayRow>, sqlx::Error> {
    sqlx::query_as!(
        DayRow,
        r#"select to_char(vobiz.billing_day_of(c.day_at, s.billing_zone), 'YYYY-MM-DD') as "day!",
                  coalesce(c.call_direction, '?') as "direction!",
                  coalesce(c.hangup_cause, '?') as "hangup_cause!",
                  coalesce(c.currency, '?') as "currency!",
                  count(*) as "calls!",
                  count(*) filter (where c.billsec > 0) as "answered!",
                  round(coalesce(sum(c.billsec), 0) / 60.0, 2) as "minutes!",
                  coalesce(sum(c.total_cost), 0) as "cost!"
           from vobiz.cdr c cross join vobiz.setting s
           group by 1, 2, 3, 4
           order by 1, 2, 5 desc, 3, 4"#
    )
    .fetch_all(connection)
    .await
}

/// How the stored calls came to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Story {
    /// Callbacks in the log.
    pub callbacks: i64,
    /// Of these, announcements of the end of a call.
    pub announcements: i64,
    /// CDRs stored.
    pub stored: i64,
    /// Of these, fetched more than once before they came.
    pub retried: i64,
    /// Of these, found by a sweep without any callback.
    pub healed: i64,
    /// Of these, with more than one version.
    pub revised: i64,
}

/// Counts how the stored calls came to be stored.
pub async fn story(connection: &mut PgConnection) -> Result<Story, sqlx::Error> {
    sqlx::query_as!(
        Story,
        r#"select (select count(*) from vobiz.callback) as "callbacks!",
                  (select count(*) from vobiz.callback where outcome = 'owed') as "announcements!",
                  count(*) as "stored!",
                  count(*) filter (where attempts > 1) as "retried!",
                  count(*) filter (where first_callback_at is null) as "healed!",
                  count(*) filter (where revision > 1) as "revised!"
           from vobiz.cdr"#
    )
    .fetch_one(connection)
    .await
}

/// One stored call, as the demo compares it with what the simulator knows.
#[derive(Debug, Clone)]
pub struct StoredCall {
    /// The call.
    pub call_id: String,
    /// Its `total_cost`.
    pub total_cost: Option<Decimal>,
    /// Its `billsec`.
    pub billsec: Option<i32>,
}

/// All stored calls.
pub async fn stored_calls(connection: &mut PgConnection) -> Result<Vec<StoredCall>, sqlx::Error> {
    sqlx::query_as!(StoredCall, "select call_id, total_cost, billsec from vobiz.cdr order by call_id")
        .fetch_all(connection)
        .await
}
