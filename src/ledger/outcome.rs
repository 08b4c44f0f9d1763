//! What comes of a check, and how it is logged.

use chrono::NaiveDate;
use tracing::{debug, info, warn};

use crate::account::Account;
use crate::db::ledger::CheckCause;
use crate::db::ledger::record::DayState;

/// What came of the check of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The day.
    pub day: NaiveDate,
    /// Its number in the ledger.
    pub id: i64,
    /// The status of the day.
    pub state: DayState,
    /// The day has been over for an hour: sooner it cannot be settled.
    pub over: bool,
    /// Why it is not settled.
    pub reason: Option<String>,
    /// Which money was not compared, or what else is to be said of it.
    pub money: Option<String>,
    /// Pages read.
    pub requests: u32,
    /// Calls listed.
    pub calls: u64,
    /// Calls stored for the first time.
    pub new: usize,
    /// Of these, calls that nothing had owed.
    pub recovered: usize,
    /// Calls with a new version.
    pub revised: usize,
    /// Calls that lie in a day beside it, whose list shows them as well.
    pub listed_twice: u32,
}

/// Says what came of a check: a day that is not settled for a reason is a warning.
pub(super) fn log_outcome(account: &Account, why: CheckCause, checked: &Checked) {
    let (account, day, cause) = (account.id(), checked.day, why.as_str());
    let &Checked { calls, requests, recovered, revised, .. } = checked;
    if checked.listed_twice > 0 {
        let calls = checked.listed_twice;
        warn!(%account, %day, calls, "the list of this day shows calls of a day beside it, whose list shows them as well: the bill counts them once, Vobiz's days twice");
    }
    match (checked.state, &checked.reason) {
        (DayState::Settled, _) if checked.money.is_some() => {
            let money = checked.money.as_deref().unwrap_or("");
            warn!(%account, %day, cause, calls, requests, recovered, revised, money, "day settled, with a word on its money");
        }
        // A person who lists years sees how far it is, and the ledger at the end.
        (DayState::Settled, _) if matches!(why, CheckCause::Backfill | CheckCause::Recover) => {
            debug!(%account, %day, cause, calls, requests, recovered, revised, "day settled");
        }
        (DayState::Settled, _) => {
            info!(%account, %day, cause, calls, requests, recovered, revised, "day settled");
        }
        (DayState::Unproven, Some(reason)) if !checked.over => {
            info!(%account, %day, cause, calls, requests, recovered, revised, reason, "day not over");
        }
        (state, reason) => {
            let reason = reason.as_deref().unwrap_or("");
            warn!(%account, %day, cause, calls, requests, recovered, revised, state = state.as_str(), reason, "day not settled");
        }
    }
}
