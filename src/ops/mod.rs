//! What an operator sees: `/healthz`, `/readyz`, `/status`, `/metrics`, on a port of their own.
//!
//! What lives here: polling Postgres every few seconds on a connection of its own (`poll.rs`), the rule of what a person must do
//! ([`fn@evaluate`]), and the answers: `ready.rs`, `status.rs`, `gauges.rs`. Every answer but `/readyz` comes from memory, so it comes at
//! once also when Postgres hangs, whatever the size of the queue. What does not live here: mending anything.
//!
//! Each question has one meaning. `/healthz`: the process lives. `/readyz`: it can do its own work right now; for one that
//! receives, commit a callback, and nothing else: a load balancer must not throw callbacks away because Vobiz denies us.
//! `/status`: 503 when a person must act, with what and how.

mod callbacks;
mod conditions;
mod evaluate;
mod gauges;
mod late;
mod locks;
mod pauses;
mod poll;
mod ready;
mod status;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;

use crate::account::Account;
use crate::watch::condition::Condition;
use crate::watch::metrics::Metrics;
pub use evaluate::{
    Act, ClockSkew, LoopSnapshot, PostgresSnapshot, SchemaSnapshot, StatusSnapshot, evaluate,
};
use poll::Polls;

/// The heartbeat of the public port.
pub const PORT: &str = "receive";

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Connecting, migrating, finding out.
    Starting = 0,
    /// At work.
    Running = 1,
    /// Finishing what is in hand.
    Stopping = 2,
}

/// Asks whether a callback could be committed right now; the error says why not.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the ops port needs to know.
#[derive(Debug, Clone)]
pub struct OpsSettings {
    /// Names of the parts that this process runs: receive, fetch, sweep.
    pub parts: Vec<&'static str>,
    /// What is set so that a person should know it is, in words.
    pub warnings: Vec<String>,
    /// Pause between two sweeps.
    pub sweep_interval: Duration,
    /// Pause between two polls of Postgres.
    pub poll_every: Duration,
}

/// The state behind the ops port.
pub struct Ops {
    settings: OpsSettings,
    metrics: Metrics,
    started: Instant,
    phase: AtomicU8,
    probe: RwLock<Option<Arc<Probe>>>,
    accounts: RwLock<Vec<Arc<Account>>>,
    polls: Mutex<Polls>,
    ready: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    uncounted: Arc<Condition>,
    /// One scrape at a time: gauges are set and read together.
    scrape: Mutex<()>,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ops {
    /// The state of a process that starts.
    pub fn new(settings: OpsSettings, metrics: Metrics) -> Arc<Self> {
        let uncounted = metrics.condition(
            evaluate::UNPOLLED,
            "the error says why: a missing permission, a lock, or a Postgres that is too slow",
        );
        Arc::new(Self {
            settings,
            metrics,
            started: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            probe: RwLock::default(),
            accounts: RwLock::default(),
            polls: Mutex::new(Polls::new()),
            ready: tokio::sync::Mutex::default(),
            uncounted,
            scrape: Mutex::default(),
        })
    }

    /// The process is here now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    /// How to find out whether a callback could be committed, for a process that receives; none once it stops, so that what
    /// the probe holds can end.
    pub fn set_probe(&self, probe: Option<Probe>) {
        *self.probe.write().unwrap_or_else(PoisonError::into_inner) = probe.map(Arc::new);
    }

    /// The accounts of the process from now on.
    pub fn set_accounts(&self, accounts: Vec<Arc<Account>>) {
        *self.accounts.write().unwrap_or_else(PoisonError::into_inner) = accounts;
    }

    /// Whether this process takes callbacks.
    fn receives(&self) -> bool {
        self.settings.parts.contains(&"receive")
    }

    /// The accounts that are in force.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The routes of the ops port.
pub fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn readyz(State(ops): State<Arc<Ops>>) -> Response {
    match ops.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn status(State(ops): State<Arc<Ops>>) -> Response {
    let page = ops.page();
    let code = if page.act.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = serde_json::to_string_pretty(&page).unwrap_or_default();
    text.push('\n');
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    let text = {
        let _alone = ops.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        ops.show_in_metrics();
        ops.metrics.text()
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
