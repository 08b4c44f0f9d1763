//! The status of the ledger, for an operator: of accounts that were retired it says nothing.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// Days that are shown; all are counted.
const SHOWN: i64 = 20;

/// A day that was compared and is not settled.
#[derive(Debug, Clone, Serialize)]
pub struct DaySnapshot {
    /// The account whose list was read.
    pub account_id: String,
    /// The day as Vobiz names it.
    pub day: NaiveDate,
    /// differs or unproven.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Comparisons in a row that did not settle it.
    pub tries: i32,
    /// When it is compared next.
    pub next_check_at: Option<DateTime<Utc>>,
}

/// Up to when an account is safe to bill.
#[derive(Debug, Clone, Serialize)]
pub struct SafeToBillSnapshot {
    /// The account.
    pub account_id: String,
    /// Everything before is complete and equals Vobiz's own rows and totals.
    pub safe_to: DateTime<Utc>,
    /// What keeps it from moving on.
    pub held_by: String,
    /// Since when it is there.
    pub since: Option<DateTime<Utc>>,
    /// When it last moved back.
    pub moved_back_at: Option<DateTime<Utc>>,
    /// Days before it that settled without all of their money compared.
    pub money_not_compared: i64,
}

/// Differences in the last comparison of days that are not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DifferenceCounts {
    /// Calls that Vobiz lists and we lack.
    pub missing_here: i64,
    /// Calls of ours that Vobiz does not list.
    pub missing_there: i64,
    /// Calls of which a billed field differs.
    pub differing: i64,
    /// Calls that are listed in a day and billed in another.
    pub billed_elsewhere: i64,
    /// Rows of the list that could not be read.
    pub unreadable: i64,
    /// Calls that the lists of two days show, also where these are settled.
    pub listed_twice: i64,
}

/// The status of the ledger.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerSnapshot {
    /// Days that are not settled, the first ones.
    pub unsettled: Vec<DaySnapshot>,
    /// How many there are.
    pub unsettled_days: i64,
    /// What differs in them.
    pub differences: DifferenceCounts,
    /// Up to when each account is safe to bill.
    pub safe_to_bill: Vec<SafeToBillSnapshot>,
}

/// Reads the status of the ledger.
pub async fn read(connection: &mut PgConnection) -> Result<LedgerSnapshot, sqlx::Error> {
    let unsettled = sqlx::query_as!(
        DaySnapshot,
        r#"select d.account_id, d.day, d.state, k.reason as "reason!", d.tries, d.check_at as next_check_at
           from vobiz.provider_day d join vobiz.ledger_check k on k.id = d.check_id
           join vobiz.account a on a.account_id = d.account_id
           where d.state in ('differs', 'unproven') and a.retired_at is null
           order by d.account_id, d.day limit $1"#,
        SHOWN
    )
    .fetch_all(&mut *connection)
    .await?;
    let sums = sqlx::query!(
        r#"select count(*) as "days!", coalesce(sum(k.missing_here), 0) as "missing_here!",
                  coalesce(sum(k.missing_there), 0) as "missing_there!", coalesce(sum(k.differing), 0) as "differing!",
                  coalesce(sum(k.billed_elsewhere), 0) as "billed_elsewhere!", coalesce(sum(k.unreadable), 0) as "unreadable!"
           from vobiz.provider_day d join vobiz.ledger_check k on k.id = d.check_id
           join vobiz.account a on a.account_id = d.account_id
           where d.state in ('differs', 'unproven') and a.retired_at is null"#
    )
    .fetch_one(&mut *connection)
    .await?;
    let listed_twice = sqlx::query_scalar!(
        r#"select coalesce(sum(k.listed_twice), 0) as "calls!"
           from vobiz.ledger_check k join vobiz.provider_day d on d.account_id = k.account_id and d.day = k.day and d.check_id = k.id
           join vobiz.account a on a.account_id = d.account_id
           where k.listed_twice > 0 and a.retired_at is null"#
    )
    .fetch_one(&mut *connection)
    .await?;
    let safe_to_bill = sqlx::query_as!(
        SafeToBillSnapshot,
        r#"select account_id as "account_id!", safe_to as "safe_to!", held_by as "held_by!", since, moved_back_at,
                  money_not_compared as "money_not_compared!"
           from vobiz.safe_to_bill where retired_at is null order by account_id"#
    )
    .fetch_all(connection)
    .await?;
    Ok(LedgerSnapshot {
        unsettled,
        unsettled_days: sums.days,
        differences: DifferenceCounts {
            missing_here: sums.missing_here,
            missing_there: sums.missing_there,
            differing: sums.differing,
            billed_elsewhere: sums.billed_elsewhere,
            unreadable: sums.unreadable,
            listed_twice,
        },
        safe_to_bill,
    })
}
