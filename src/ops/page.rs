//! What was seen, as `/status` and `/metrics` show it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::status::{
    Act, ClockSkew, LoopSnapshot, PostgresSnapshot, SchemaSnapshot, StatusSnapshot, evaluate,
};
use super::{Ops, Phase};
use crate::db::bill::proof::SumsSnapshot;
use crate::db::ledger::status::{DifferenceCounts, LedgerSnapshot};
use crate::db::overview::{AccountSnapshot, DeadLetterSnapshot, OwedSnapshot};

/// All reasons for a pause: each has its series.
const REASONS: [&str; 4] = ["throttled", "denied", "unavailable", "unreadable"];
/// All classes of dead letters: each has its series.
const CLASSES: [&str; 4] = ["never_appeared", "refused", "unreadable", "unstorable"];

/// The answer of `/status`.
#[derive(Debug, Serialize)]
pub(super) struct StatusPage {
    /// `ok`, or `act` when a person must act.
    status: &'static str,
    /// What must be done.
    pub(super) act: Vec<Act>,
    process: Process,
    postgres: PostgresStatus,
    queue: Queue,
    dead_letters: Vec<DeadLetterSnapshot>,
    ledger: LedgerSnapshot,
    sums: SumsSnapshot,
    accounts: Vec<AccountSnapshot>,
    loops: Vec<LoopSnapshot>,
    clocks_ahead_seconds: ClockSkew,
    schema: SchemaSnapshot,
}

#[derive(Debug, Serialize)]
struct Process {
    version: String,
    phase: String,
    parts: Vec<String>,
    uptime_seconds: u64,
}

#[derive(Debug, Serialize)]
struct PostgresStatus {
    #[serde(flatten)]
    snapshot: PostgresSnapshot,
    version: Option<String>,
    /// Age of what is shown of accounts and dead letters.
    polled_seconds_ago: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Queue {
    due: i64,
    waiting: i64,
    dead: i64,
    /// Age of the two counts before it.
    counted_seconds_ago: Option<u64>,
    accounts: Vec<OwedSnapshot>,
}

impl Ops {
    /// What is known now; everything from memory.
    pub(super) fn snapshot(&self) -> StatusSnapshot {
        let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        // A loop that waited for a Postgres that was away is not stalled for that.
        let answering = if polls.answers { polls.since.elapsed() } else { Duration::ZERO };
        let configured = self.accounts();
        let quick = polls.quick.as_ref().map(|(_, quick)| quick);
        let thorough = polls.thorough.as_ref().map(|(_, thorough)| thorough);
        let is_configured = |id: &str| configured.iter().any(|account| account.id().as_str() == id);
        // Of several accounts, the answer that differs most is the one to worry about.
        let vobiz = configured
            .iter()
            .filter_map(|account| account.client.clock_skew())
            .max_by(|a, b| a.abs().total_cmp(&b.abs()));
        StatusSnapshot {
            postgres: PostgresSnapshot {
                answers: polls.answers,
                lasting: polls.since.elapsed(),
                read_only: quick.is_some_and(|quick| quick.read_only),
            },
            accounts: quick
                .map(|quick| {
                    let ours = quick.accounts.iter().filter(|account| is_configured(&account.account_id));
                    ours.cloned().collect()
                })
                .unwrap_or_default(),
            owed: thorough.map(|thorough| thorough.owed.clone()).unwrap_or_default(),
            dead: thorough.map(|thorough| thorough.dead.clone()).unwrap_or_default(),
            ledger: thorough.map(|thorough| thorough.ledger.clone()).unwrap_or_default(),
            sums: thorough.map(|thorough| thorough.sums.clone()).unwrap_or_default(),
            loops: self
                .metrics
                .heartbeats
                .all()
                .iter()
                .map(|heartbeat| LoopSnapshot {
                    name: heartbeat.name().to_owned(),
                    silence: heartbeat.silence(),
                    stalled: heartbeat.is_stalled(answering),
                })
                .collect(),
            schema: thorough
                .map(|thorough| SchemaSnapshot {
                    pending: thorough.pending,
                    changed: thorough.changed,
                    ahead: thorough.ahead,
                    missing_partitions: thorough.missing_partitions.clone(),
                })
                .unwrap_or_default(),
            clocks: ClockSkew { postgres: polls.clock_skew, vobiz },
            conditions: self.metrics.lasting_conditions(),
            counted: polls.thorough.as_ref().map(|(at, _)| at.elapsed()),
            uptime: self.started.elapsed(),
            starting: self.phase() == Phase::Starting,
            sweep_interval: self.settings.sweep_interval,
        }
    }

    pub(super) fn page(&self) -> StatusPage {
        let snapshot = self.snapshot();
        let (phase, act) = (self.phase(), evaluate(&snapshot));
        let (version, polled, counted) = {
            let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
            (
                polls.quick.as_ref().map(|(_, quick)| quick.version.clone()),
                polls.quick.as_ref().map(|(at, _)| at.elapsed().as_secs()),
                polls.thorough.as_ref().map(|(at, _)| at.elapsed().as_secs()),
            )
        };
        StatusPage {
            status: if act.is_empty() { "ok" } else { "act" },
            act,
            process: Process {
                version: env!("CARGO_PKG_VERSION").into(),
                phase: format!("{phase:?}").to_lowercase(),
                parts: self.settings.parts.iter().map(ToString::to_string).collect(),
                uptime_seconds: self.started.elapsed().as_secs(),
            },
            postgres: PostgresStatus { snapshot: snapshot.postgres, version, polled_seconds_ago: polled },
            queue: Queue {
                due: snapshot.owed.iter().map(|owed| owed.due).sum(),
                waiting: snapshot.owed.iter().map(|owed| owed.waiting).sum(),
                dead: snapshot.dead.iter().map(|dead| dead.calls).sum(),
                counted_seconds_ago: counted,
                accounts: snapshot.owed,
            },
            dead_letters: snapshot.dead,
            ledger: snapshot.ledger,
            sums: snapshot.sums,
            accounts: snapshot.accounts,
            loops: snapshot.loops,
            clocks_ahead_seconds: snapshot.clocks,
            schema: snapshot.schema,
        }
    }

    /// Puts what was seen into the gauges. What was not seen yet has no sample: a zero would be a claim.
    pub(super) fn show_in_metrics(&self) {
        let (snapshot, metrics) = (self.snapshot(), &self.metrics);
        metrics.postgres_up.set(i64::from(snapshot.postgres.answers));
        let polled = {
            let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
            polls.thorough.is_some()
        };
        if polled {
            let sum = |of: fn(&OwedSnapshot) -> i64| snapshot.owed.iter().map(of).sum::<i64>();
            metrics.queue_calls.with_label_values(&["due"]).set(sum(|owed| owed.due));
            metrics.queue_calls.with_label_values(&["waiting"]).set(sum(|owed| owed.waiting));
            let mut classes: BTreeMap<&str, i64> = CLASSES.iter().map(|class| (*class, 0)).collect();
            for dead in &snapshot.dead {
                *classes.entry(&dead.class).or_default() += dead.calls;
            }
            metrics.queue_calls.with_label_values(&["dead"]).set(classes.values().sum());
            for (class, calls) in classes {
                metrics.dead_letters.with_label_values(&[class]).set(calls);
            }
            let DifferenceCounts { missing_here, missing_there, differing, billed_elsewhere, unreadable } =
                snapshot.ledger.differences;
            for (kind, calls) in [
                ("missing_here", missing_here),
                ("missing_there", missing_there),
                ("differs", differing),
                ("billed_elsewhere", billed_elsewhere),
                ("sums", snapshot.sums.wrong_sums),
                ("unreadable", unreadable),
            ] {
                metrics.ledger_difference.with_label_values(&[kind]).set(calls);
            }
            metrics.safe_to_bill_seconds.reset();
            for safe in &snapshot.ledger.safe_to_bill {
                let at = safe.safe_to.timestamp();
                metrics.safe_to_bill_seconds.with_label_values(&[safe.account_id.as_str()]).set(at);
            }
        }
        metrics.account_paused.reset();
        metrics.oldest_due_seconds.reset();
        for account in &snapshot.accounts {
            let id = account.account_id.as_str();
            for reason in REASONS {
                let paused = account.pause_reason.as_deref() == Some(reason);
                metrics.account_paused.with_label_values(&[id, reason]).set(i64::from(paused));
            }
            metrics.oldest_due_seconds.with_label_values(&[id]).set(account.oldest_due_seconds);
        }
        for (against, skew) in [("postgres", snapshot.clocks.postgres), ("vobiz", snapshot.clocks.vobiz)] {
            if let Some(skew) = skew {
                metrics.clock_skew_seconds.with_label_values(&[against]).set(skew);
            }
        }
        metrics.last_progress.reset();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        for snapshot in &snapshot.loops {
            let moved = now.saturating_sub(snapshot.silence).as_secs_f64();
            metrics.last_progress.with_label_values(&[snapshot.name.as_str()]).set(moved);
        }
    }
}
