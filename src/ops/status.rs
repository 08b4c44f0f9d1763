//! The page `/status`: the last snapshot, from memory, and what a person must do.

use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;

use super::evaluate::{
    Act, ClockSkew, LoopSnapshot, PostgresSnapshot, SchemaSnapshot, StatusSnapshot, evaluate,
};
use super::{Ops, Phase};
use crate::db::account::ReplicaSnapshot;
use crate::db::bill::proof::SumsSnapshot;
use crate::db::bill::unclear::UnclearSnapshot;
use crate::db::ledger::status::LedgerSnapshot;
use crate::db::overview::{
    AccountSnapshot, AheadSnapshot, DeadLetterSnapshot, LongOwedSnapshot, OwedSnapshot,
};
use crate::watch::arrivals::ArrivalCounts;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    callbacks_last_15_minutes: Option<ArrivalCounts>,
    dead_letters: Vec<DeadLetterSnapshot>,
    ledger: LedgerSnapshot,
    sums: SumsSnapshot,
    unclear: UnclearSnapshot,
    accounts: Vec<AccountSnapshot>,
    replicas: Vec<ReplicaSnapshot>,
    instants_ahead: Vec<AheadSnapshot>,
    loops: Vec<LoopSnapshot>,
    clocks_ahead_seconds: ClockSkew,
    schema: SchemaSnapshot,
}

#[derive(Debug, Serialize)]
struct Process {
    version: String,
    phase: String,
    parts: Vec<String>,
    /// Settings that a person should know of.
    warnings: Vec<String>,
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
    /// Owed for over 36 hours.
    long_owed: Vec<LongOwedSnapshot>,
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
        let behind = configured.iter().filter_map(|account| account.clock_behind());
        let behind =
            behind.map(|behind| (behind.witness - behind.postgres).as_seconds_f64()).reduce(f64::max);
        StatusSnapshot {
            postgres: PostgresSnapshot {
                answers: polls.answers,
                lasting: polls.since.elapsed(),
                failure: polls.failure.clone(),
                no_connection: polls.no_connection.clone(),
                read_only: quick.and_then(|quick| quick.read_only.clone()),
                blockers: polls.blockers(),
                lease_holders: polls.lease_holders(),
            },
            accounts: quick
                .map(|quick| {
                    let ours = quick.accounts.iter().filter(|account| is_configured(&account.account_id));
                    ours.cloned().collect()
                })
                .unwrap_or_default(),
            replicas: quick
                .map(|quick| {
                    let ours = quick.replicas.iter().filter(|replica| is_configured(&replica.account_id));
                    ours.cloned().collect()
                })
                .unwrap_or_default(),
            asks: self.settings.parts.iter().any(|part| *part != "receive"),
            long_owed: thorough.map(|thorough| thorough.long_owed.clone()).unwrap_or_default(),
            ahead: thorough.map(|thorough| thorough.instants_ahead.clone()).unwrap_or_default(),
            owed: thorough.map(|thorough| thorough.owed.clone()).unwrap_or_default(),
            dead: thorough.map(|thorough| thorough.dead.clone()).unwrap_or_default(),
            callbacks: self.receives().then(|| self.metrics.arrivals.counts()),
            newest: thorough
                .map(|thorough| {
                    thorough
                        .newest
                        .iter()
                        .filter(|newest| is_configured(&newest.account_id))
                        .cloned()
                        .collect()
                })
                .unwrap_or_default(),
            ledger: thorough.map(|thorough| thorough.ledger.clone()).unwrap_or_default(),
            sums: thorough.map(|thorough| thorough.sums.clone()).unwrap_or_default(),
            unclear: thorough.map(|thorough| thorough.unclear.clone()).unwrap_or_default(),
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
            clocks: ClockSkew { postgres: polls.clock_skew, vobiz, behind },
            conditions: self.metrics.lasting_conditions(),
            counted: polls.thorough.as_ref().map(|(at, _)| at.elapsed()),
            uptime: self.started.elapsed(),
            starting: self.phase() == Phase::Starting,
            sweep_interval: self.settings.sweep_interval,
        }
    }

    /// What a person should know of settings and API.
    fn warnings(&self) -> Vec<String> {
        let of_api = self.accounts().into_iter().filter_map(|account| {
            let said = account.client.going_away()?;
            Some(format!(
                "the Vobiz API says to account {} that it goes away ({said}): look for a newer release",
                account.id()
            ))
        });
        self.settings.warnings.iter().cloned().chain(of_api).collect()
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
                version: crate::watch::VERSION.into(),
                phase: format!("{phase:?}").to_lowercase(),
                parts: self.settings.parts.iter().map(ToString::to_string).collect(),
                warnings: self.warnings(),
                uptime_seconds: self.started.elapsed().as_secs(),
            },
            postgres: PostgresStatus { snapshot: snapshot.postgres, version, polled_seconds_ago: polled },
            queue: Queue {
                due: snapshot.owed.iter().map(|owed| owed.due).sum(),
                waiting: snapshot.owed.iter().map(|owed| owed.waiting).sum(),
                dead: snapshot.dead.iter().map(|dead| dead.calls).sum(),
                counted_seconds_ago: counted,
                accounts: snapshot.owed,
                long_owed: snapshot.long_owed,
            },
            callbacks_last_15_minutes: snapshot.callbacks,
            dead_letters: snapshot.dead,
            ledger: snapshot.ledger,
            sums: snapshot.sums,
            unclear: snapshot.unclear,
            accounts: snapshot.accounts,
            replicas: snapshot.replicas,
            instants_ahead: snapshot.ahead,
            loops: snapshot.loops,
            clocks_ahead_seconds: snapshot.clocks,
            schema: snapshot.schema,
        }
    }
}
