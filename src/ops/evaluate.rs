//! What was seen -> what a person must do. Pure: everything it needs comes in as a value, so each line of it tests as a table.
//! The words of a condition are where its loop raises it.

use std::time::Duration;

use serde::Serialize;

use super::conditions::{conditions, postgres};
use super::late::{ahead, clocks, long_owed};
use super::locks::locks;
use super::pauses::{is_unfetched, paused, paused_alone, unanswered, unfetched};

use crate::db::Cause;
use crate::db::account::ReplicaSnapshot;
use crate::db::base::blocker::Blocker;
use crate::db::bill::proof::SumsSnapshot;
use crate::db::bill::unclear::UnclearSnapshot;
use crate::db::ledger::status::LedgerSnapshot;
use crate::db::overview::{
    AccountSnapshot, AheadSnapshot, DeadLetterSnapshot, LongOwedSnapshot, NewestCalls, OwedSnapshot,
};
use crate::watch::arrivals::ArrivalCounts;
use crate::watch::condition::LastingCondition;

/// An API that is away for longer than this, after twenty failures and a question to its list, is no hiccup.
pub(super) const OUTAGE: f64 = 30.0;
/// A process that asks has had its first good answer by then.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// Nobody fetches: a process that is restarted or moved is back by then.
pub(super) const UNFETCHED: f64 = 150.0;
/// A due call that waits longer than this is not being fetched.
const STUCK: f64 = 3600.0;
/// Postgres may restart, and a commit may fail: it is a person's matter after this.
pub(super) const AWAY: Duration = Duration::from_secs(10);
/// Throttled for more than this part of a quarter of an hour is throttled all the time.
pub(super) const THROTTLED: f64 = 0.5;
/// A start takes seconds, unless it migrates or recovers.
const SLOW_START: Duration = Duration::from_secs(300);
/// A day that differs is compared again after 15 and 30 minutes: what differs then is no list that lags behind.
const LASTING_TRIES: i32 = 3;
/// What changes the sums of the bill is folded into them every five seconds.
const UNFOLDED: f64 = 15.0 * 60.0;
/// The queue is counted at least this often, however large it is.
pub(super) const UNCOUNTED: Duration = Duration::from_secs(1800);

/// The condition of a queue and a schema that cannot be polled.
pub(super) const UNPOLLED: &str =
    "the queue and the schema cannot be polled, so /status knows little of them";

/// What a person must do, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Act {
    /// What is the matter.
    pub what: String,
    /// For how many seconds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// What to do about it.
    #[serde(rename = "do")]
    pub cure: String,
}

/// The polls of Postgres so far.
#[derive(Debug, Clone, Serialize)]
pub struct PostgresSnapshot {
    /// The last poll succeeded.
    pub answers: bool,
    /// For how long it has been so.
    #[serde(rename = "for_seconds", serialize_with = "seconds")]
    pub lasting: Duration,
    /// Why the last poll failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Cause>,
    /// Why no further connection opens, where one of our pools waits for one in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_connection: Option<Cause>,
    /// Why it takes no writes, if so: `standby`, or where it was set to read only, as `pg_settings` names the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// Who holds locks that sessions of ours wait for, or waited for within the last minute (then with nobody waiting).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<Blocker>,
    /// Who keeps rows of `vobiz.work_lease` locked that is none of ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lease_holders: Vec<Blocker>,
}

/// One loop of the process.
#[derive(Debug, Clone, Serialize)]
pub struct LoopSnapshot {
    /// Its name.
    pub name: String,
    /// How long it has stood still; zero while it rightly waits.
    #[serde(rename = "silent_seconds", serialize_with = "seconds")]
    pub silence: Duration,
    /// Longer than it ever should, while Postgres answered.
    pub stalled: bool,
}

/// The schema against this binary.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SchemaSnapshot {
    /// Migrations that the database lacks.
    pub pending: usize,
    /// Migrations that the database has with another text.
    pub changed: usize,
    /// Migrations that this binary does not know: fine, a newer release has migrated.
    pub ahead: usize,
    /// Partitions of this month and the next that are not there.
    pub missing_partitions: Vec<String>,
}

/// How far other clocks are ahead of ours, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClockSkew {
    /// Postgres's.
    pub postgres: Option<f64>,
    /// The Vobiz API's, by its Date header.
    pub vobiz: Option<f64>,
    /// By how many seconds Postgres's clock is so far behind that nothing is stored by it.
    pub behind: Option<f64>,
}

/// All that is known of this process and its database.
#[derive(Debug, Clone)]
pub struct StatusSnapshot {
    /// Postgres.
    pub postgres: PostgresSnapshot,
    /// The accounts of this process.
    pub accounts: Vec<AccountSnapshot>,
    /// The processes that are configured with accounts.
    pub replicas: Vec<ReplicaSnapshot>,
    /// This process asks Vobiz.
    pub asks: bool,
    /// Calls that have been owed for long, of all accounts.
    pub long_owed: Vec<LongOwedSnapshot>,
    /// Instants that lie in the future.
    pub ahead: Vec<AheadSnapshot>,
    /// What is owed, of all accounts.
    pub owed: Vec<OwedSnapshot>,
    /// Dead letters, of all accounts.
    pub dead: Vec<DeadLetterSnapshot>,
    /// The callbacks of the last 15 minutes; none for a process that takes none.
    pub callbacks: Option<ArrivalCounts>,
    /// The newest calls of the accounts of this process.
    pub newest: Vec<NewestCalls>,
    /// The ledger of days, of all accounts.
    pub ledger: LedgerSnapshot,
    /// The sums of the bill.
    pub sums: SumsSnapshot,
    /// Calls with something that could not be read.
    pub unclear: UnclearSnapshot,
    /// The loops.
    pub loops: Vec<LoopSnapshot>,
    /// The schema.
    pub schema: SchemaSnapshot,
    /// The clocks.
    pub clocks: ClockSkew,
    /// Conditions that last.
    pub conditions: Vec<LastingCondition>,
    /// Since when queue and schema were last polled; none if never.
    pub counted: Option<Duration>,
    /// Age of the process.
    pub uptime: Duration,
    /// It does not work yet.
    pub starting: bool,
    /// Pause between two sweeps.
    pub sweep_interval: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

/// What a person must do; nothing, if all is well or mends itself.
pub fn evaluate(snapshot: &StatusSnapshot) -> Vec<Act> {
    let mut acts = Vec::new();
    if snapshot.starting {
        // Nothing can be said yet of what it should have done.
        slow_start(snapshot, &mut acts);
        return acts;
    }
    postgres(snapshot, &mut acts);
    locks(snapshot, &mut acts);
    for account in &snapshot.accounts {
        paused(account, snapshot, &mut acts);
        paused_alone(account, snapshot, &mut acts);
        unanswered(account, snapshot, &mut acts);
        unfetched(account, snapshot, &mut acts);
        refused_pages(account, &mut acts);
    }
    if snapshot.postgres.answers {
        conditions(snapshot, &mut acts);
        snapshot.accounts.iter().for_each(|account| overdue(account, snapshot, &mut acts));
        unconfigured(snapshot, &mut acts);
        stalled(snapshot, &mut acts);
    }
    super::callbacks::callbacks(snapshot, &mut acts);
    for dead in &snapshot.dead {
        let cure = if dead.class == "never_appeared" {
            "Vobiz announced these calls and has not listed them in 24 h: ask Vobiz, with `vobiz-cdr dead-letters list`; `vobiz-cdr \
             dead-letters revive` asks for another day, and a sweep that finds one removes it"
        } else {
            "see `vobiz-cdr dead-letters list` and `show CALL_ID`, mend the cause, then `vobiz-cdr dead-letters revive`"
        };
        acts.push(Act {
            what: format!(
                "{} of account {}: {}",
                counted(dead.calls, "dead letter", "dead letters"),
                dead.account_id,
                dead.class
            ),
            for_seconds: whole(dead.oldest_seconds),
            cure: cure.into(),
        });
    }
    long_owed(snapshot, &mut acts);
    ahead(snapshot, &mut acts);
    unsettled(snapshot, &mut acts);
    wrong_bill(snapshot, &mut acts);
    unfolded(snapshot, &mut acts);
    schema(snapshot, &mut acts);
    clocks(snapshot, &mut acts);
    acts
}

fn slow_start(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    if snapshot.uptime > SLOW_START {
        acts.push(Act {
            what: "the service is still starting: it takes no callbacks yet".into(),
            for_seconds: Some(snapshot.uptime.as_secs()),
            cure: "see its log, and pg_stat_activity: a long migration, a Postgres that recovers, or one that hangs".into(),
        });
    }
}

/// So many of something, in the form of the word that goes with the number.
pub(super) fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Seconds as they are shown.
pub(super) fn whole(seconds: f64) -> Option<u64> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok().map(|duration| duration.as_secs())
}

/// Rows of the list that Vobiz does not show.
fn refused_pages(account: &AccountSnapshot, acts: &mut Vec<Act>) {
    if let Some(words) = account.refused_pages.as_deref().filter(|_| account.rows_lost > 0) {
        acts.push(Act {
            what: format!("Vobiz refuses a part of the CDR list of account {}: {words}", account.account_id),
            for_seconds: None,
            cure: "what lies before and behind is stored, and calls that were announced are fetched singly; a day with such a page does \
                   not settle: tell Vobiz which page of which list it cannot print (docs/runbook.md)"
                .into(),
        });
    }
}

/// A queue or a list that nobody works on, although the account is not paused.
fn overdue(account: &AccountSnapshot, snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    if account.pause_reason.as_deref().is_some_and(|reason| reason != "throttled") {
        return;
    }
    // It can only be late by the time in which it could have worked: since the start, the last outage, the last pause.
    let possible = snapshot.uptime.min(snapshot.postgres.lasting).as_secs_f64();
    let possible = account.unpaused_seconds.map_or(possible, |unpaused| possible.min(unpaused));
    // What is under a reservation moves with every page of the list, or it runs out.
    if account.oldest_single_due_seconds.min(possible) > STUCK && !is_unfetched(account, snapshot) {
        acts.push(Act {
            what: format!("calls of account {} are due and not fetched", account.account_id),
            for_seconds: whole(account.oldest_single_due_seconds),
            cure: "see that a process with fetch runs (--only), and whether VOBIZ_MAX_RPS is too low for the calls that come in"
                .into(),
        });
    }
    if account.swept_seconds_ago.min(possible) > STUCK + 3.0 * snapshot.sweep_interval.as_secs_f64() {
        acts.push(Act {
            what: format!(
                "the CDR list of account {} has not been swept: lost callbacks are not healed",
                account.account_id
            ),
            for_seconds: whole(account.swept_seconds_ago),
            cure: "see that a process with sweep runs (--only), and its log for `cannot be swept`".into(),
        });
    }
}

/// Days that differ from the provider's, and not only for a moment.
fn unsettled(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for day in snapshot.ledger.unsettled.iter().filter(|day| day.tries >= LASTING_TRIES) {
        let what =
            format!("day {} of account {} {}: {}", day.day, day.account_id, verb(&day.state), day.reason);
        let cure = "see vobiz.ledger_difference for what differs call by call (docs/completeness.md); `vobiz-cdr reconcile \
                    --day` compares again at once; it does so by itself every few hours"
            .into();
        acts.push(Act { what, for_seconds: None, cure });
    }
}

/// Sums that do not equal their calls, and what lets them drift.
fn wrong_bill(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let sums = &snapshot.sums;
    if !sums.disabled_triggers.is_empty() {
        acts.push(Act {
            what: format!(
                "triggers are disabled, so bill, versions and days do not follow the calls: {}",
                sums.disabled_triggers.join(", ")
            ),
            for_seconds: None,
            cure: "as the owner of the table: `alter table vobiz.cdr enable trigger user` (each table that is named); then `vobiz-cdr \
                   verify --repair`, and `vobiz-cdr recover` for the days in which calls were written meanwhile"
                .into(),
        });
    }
    if let Some(first) = sums.wrong.first() {
        let n = sums.wrong_sums;
        acts.push(Act {
            what: format!(
                "{} not equal the calls, first on {} of account {}",
                counted(n, "sum of the bill does", "sums of the bill do"),
                first.day,
                first.account_id
            ),
            for_seconds: None,
            cure: "`vobiz-cdr verify` shows them, `vobiz-cdr verify --repair` makes them right and keeps what they were; then find \
                   out what went past the triggers (data restored into a migrated database, a session with session_replication_role \
                   = replica, an update by hand)"
                .into(),
        });
    }
}

fn unfolded(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let (sums, n) = (&snapshot.sums, snapshot.sums.unfolded);
    if sums.unfolded_seconds > UNFOLDED {
        acts.push(Act {
            what: format!(
                "{} not folded into them: reports are right, and become slower",
                counted(n, "change of the sums of the bill is", "changes of the sums of the bill are"),
            ),
            for_seconds: whole(sums.unfolded_seconds),
            cure: "see that a process of the service runs, and its log for `the rollup cannot be folded`; if nothing is said there, see \
                   that vobiz.work_lease has its row `rollup`"
                .into(),
        });
    }
}

fn verb(state: &str) -> &str {
    if state == "unproven" { "is unproven" } else { "differs from Vobiz's own rows and totals" }
}

fn unconfigured(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for owed in &snapshot.owed {
        if !snapshot.accounts.iter().any(|account| account.account_id == owed.account_id) {
            let (calls, id) = (counted(owed.due + owed.waiting, "call is", "calls are"), &owed.account_id);
            let (what, cure) = if owed.retired {
                (
                    format!("{calls} owed for account {id}, which was retired before they came"),
                    "a process still takes its callbacks: take the account out of the settings of that one as well (SIGHUP); then `vobiz-cdr \
                     account retire` with --give-up closes them. If the account is to go on, configure it again everywhere",
                )
            } else {
                (
                    format!("{calls} owed for account {id}, which is not configured"),
                    "add the account to the settings (and send SIGHUP): until then nobody fetches them. One that has left for good: `vobiz-cdr \
                     account retire`",
                )
            };
            acts.push(Act { what, for_seconds: None, cure: cure.into() });
        }
    }
}

fn stalled(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for stalled in snapshot.loops.iter().filter(|snapshot| snapshot.stalled) {
        let (what, cure) = if stalled.name == super::PORT {
            (
                "the public port takes no connections".to_owned(),
                "see who holds them open (ss -tn; a proxy, an attack), and the limit of open files (ulimit -n)",
            )
        } else {
            (
                format!("the loop `{}` makes no progress", stalled.name),
                "this is a defect: keep the log, and restart the process; what it had in hand falls due again",
            )
        };
        acts.push(Act { what, for_seconds: Some(stalled.silence.as_secs()), cure: cure.into() });
    }
}

fn schema(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let schema = &snapshot.schema;
    if schema.pending > 0 || schema.changed > 0 {
        acts.push(Act {
            what: format!(
                "the schema does not fit this binary: {} missing, {} with another text",
                counted(i64::try_from(schema.pending).unwrap_or(i64::MAX), "migration is", "migrations are"),
                schema.changed
            ),
            for_seconds: None,
            cure: "run `vobiz-cdr migrate status`, then `vobiz-cdr migrate apply` with the newest binary"
                .into(),
        });
    }
    if !schema.missing_partitions.is_empty() {
        acts.push(Act {
            what: format!("partitions are missing: {}", schema.missing_partitions.join(", ")),
            for_seconds: None,
            cure: "run `vobiz-cdr migrate apply`; if it fails, its message says why (a lock, a missing permission)".into(),
        });
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
pub(super) mod tests;
