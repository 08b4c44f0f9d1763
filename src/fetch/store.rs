//! Settling: outcomes gather while the last group commits, then one transaction makes all of them true, or none.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Finished;
use super::slot::FetchOutcome;
use crate::db::queue::{self, Failed, Lease, Then};
use crate::db::timed;
use crate::db::{DbError, Fault, cdr};
use crate::retry::ErrorClass;
use crate::watch::condition::Condition;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// Outcomes in one transaction.
const GROUP: usize = 500;
const TIMEOUT: Duration = Duration::from_secs(15);
/// A group has its timeout a few times over, and so has each member of one that settles one by one.
const PATIENCE: Duration = Duration::from_secs(120);

/// Settles until all hands are gone and nothing waits.
pub(super) async fn run(pool: PgPool, mut outcomes: mpsc::UnboundedReceiver<Finished>, metrics: Metrics) {
    let heartbeat = metrics.heartbeats.start("store", PATIENCE);
    let storer = Storer {
        pool,
        condition: metrics.condition(
            "what was fetched cannot be stored, so those calls fall due again",
            "see that Postgres runs, takes writes and has disk space",
        ),
        metrics,
    };
    let mut group = Vec::new();
    heartbeat.idle();
    while outcomes.recv_many(&mut group, GROUP).await > 0 {
        heartbeat.beat();
        let (group, capacity): (Vec<_>, Vec<_>) =
            group.drain(..).map(|done| (done.outcome, done.capacity)).unzip();
        storer.settle(group, &heartbeat).await;
        drop(capacity);
        heartbeat.idle();
    }
}

struct Storer {
    pool: PgPool,
    metrics: Metrics,
    condition: Arc<Condition>,
}

impl Storer {
    /// Settles a group. One that fails on data settles one by one, and the culprit becomes a dead letter with its body. Anything
    /// else that fails is our fault: the leases run out and the calls fall due again, at no cost to them.
    async fn settle(&self, group: Vec<FetchOutcome>, heartbeat: &Heartbeat) {
        // What is stored already goes by itself: its rows of `cdr` would otherwise be locked out of their order.
        let (paid, group): (Vec<FetchOutcome>, Vec<FetchOutcome>) =
            group.into_iter().partition(|outcome| matches!(outcome, FetchOutcome::Paid(_)));
        if !paid.is_empty() {
            let mut call_ids: Vec<&str> =
                paid.iter().map(|outcome| lease_of(outcome).call_id().as_str()).collect();
            call_ids.sort_unstable();
            if let Err(error) = timed!(&self.pool, TIMEOUT, |connection| pay(connection, &call_ids)).await {
                debug!(%error, "stored calls could not be taken off the queue: they fall due again");
            }
        }
        if group.is_empty() {
            return;
        }
        match self.commit_patiently(&group).await {
            Ok(()) => {}
            Err(error) if error.fault() == Fault::Data => {
                debug!(%error, outcomes = group.len(), "a group fails on data: one by one");
                for outcome in group {
                    heartbeat.beat();
                    self.store_one(outcome).await;
                }
            }
            Err(error) => {
                self.condition.raise(&error);
            }
        }
    }

    async fn store_one(&self, outcome: FetchOutcome) {
        let single = [outcome];
        let error = match self.commit_patiently(&single).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let [outcome] = single;
        let (FetchOutcome::Store(lease, incoming) | FetchOutcome::OtherId(lease, incoming)) = outcome else {
            warn!(%error, "a failure could not be written down: the call falls due again");
            return;
        };
        if error.fault() != Fault::Data {
            self.condition.raise(&error);
            return;
        }
        warn!(call_id = %lease.call_id(), %error, "Postgres refuses this CDR: dead letter");
        let body = incoming.cdr.payload.text().as_bytes();
        let buried = [FetchOutcome::Fail(Failed {
            error: format!("Postgres refuses the CDR: {error}"),
            body: Some(body[..body.len().min(65_536)].to_vec()),
            class: ErrorClass::Unstorable,
            then: Then::Bury,
            lease,
        })];
        if let Err(error) = self.commit_patiently(&buried).await {
            warn!(%error, "a dead letter could not be written: the call falls due again");
        }
    }

    /// Commits, and tries again where that may help: at once after a deadlock, a few times while Postgres is away. What was
    /// fetched is worth a few seconds of waiting; the lease bounds it.
    async fn commit_patiently(&self, group: &[FetchOutcome]) -> Result<(), DbError> {
        let committed = (|| timed!(&self.pool, TIMEOUT, |connection| commit(connection, group)))
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(20))
                    .with_max_delay(Duration::from_secs(2))
                    .with_max_times(6)
                    .with_jitter(),
            )
            .when(|error| error.fault() != Fault::Data && !matches!(error, DbError::TimedOut(_)))
            .await;
        if committed.is_ok() {
            self.condition.clear();
            self.count(group);
        }
        committed
    }

    /// How fresh what was just committed is. A clock of Vobiz meets the one of Postgres here; before the end is none.
    fn count(&self, group: &[FetchOutcome]) {
        for outcome in group {
            if let FetchOutcome::Store(lease, incoming) = outcome
                && let Some(ended_at) = incoming.cdr.fields.end_time
            {
                let age = (lease.now() - ended_at).as_seconds_f64().max(0.0);
                self.metrics.freshness_seconds.observe(age);
            }
        }
    }
}

/// One transaction. Rows of `cdr` first, then rows of `cdr_queue`, each sorted by `call_id`.
async fn commit(connection: &mut PgConnection, group: &[FetchOutcome]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let connection = &mut *transaction;
    let incoming: Vec<&cdr::Incoming> = group
        .iter()
        .filter_map(|outcome| match outcome {
            FetchOutcome::Store(_, incoming) | FetchOutcome::OtherId(_, incoming) => Some(&**incoming),
            _ => None,
        })
        .collect();
    cdr::upsert(connection, &incoming).await?;

    let mut call_ids: Vec<&str> = group.iter().map(|outcome| lease_of(outcome).call_id().as_str()).collect();
    // A CDR found under another id pays the debt of that id as well, if there is one.
    call_ids.extend(group.iter().filter_map(|outcome| match outcome {
        FetchOutcome::OtherId(_, incoming) => Some(incoming.cdr.call_id.as_str()),
        _ => None,
    }));
    call_ids.sort_unstable();
    queue::lock(connection, &call_ids).await?;

    let paid: Vec<&str> = group
        .iter()
        .filter(|outcome| matches!(outcome, FetchOutcome::Store(..)))
        .map(|outcome| lease_of(outcome).call_id().as_str())
        .collect();
    if !paid.is_empty() {
        queue::complete(connection, &paid).await?;
    }
    let failed = |wanted: fn(Then) -> bool| -> Vec<&Failed> {
        let all = group
            .iter()
            .filter_map(|outcome| if let FetchOutcome::Fail(failed) = outcome { Some(failed) } else { None });
        all.filter(|failed| wanted(failed.then)).collect()
    };
    let waiting = failed(|then| matches!(then, Then::Wait(_)));
    if !waiting.is_empty() {
        queue::postpone(connection, &waiting).await?;
    }
    let dead = failed(|then| then == Then::Bury);
    if !dead.is_empty() {
        queue::bury(connection, &dead).await?;
    }
    let closed = failed(|then| then == Then::Close);
    if !closed.is_empty() {
        queue::close(connection, &closed).await?;
    }
    for outcome in group {
        match outcome {
            FetchOutcome::OtherId(lease, incoming) => {
                let evidence = "404 under its own id; the list shows it under this one by its SIP Call-ID";
                queue::close_as_other_id(connection, lease.call_id(), &incoming.cdr.call_id, evidence)
                    .await?;
                queue::complete(connection, &[incoming.cdr.call_id.as_str()]).await?;
            }
            FetchOutcome::Release(lease, wait) => {
                queue::release(connection, &[lease], *wait).await?;
            }
            _ => {}
        }
    }
    transaction.commit().await
}

/// Pays the debt of calls that are stored already.
async fn pay(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    cdr::lock(&mut transaction, call_ids).await?;
    queue::lock(&mut transaction, call_ids).await?;
    queue::complete(&mut transaction, call_ids).await?;
    transaction.commit().await
}

fn lease_of(outcome: &FetchOutcome) -> &Lease {
    match outcome {
        FetchOutcome::Store(lease, _)
        | FetchOutcome::Paid(lease)
        | FetchOutcome::OtherId(lease, _)
        | FetchOutcome::Release(lease, _) => lease,
        FetchOutcome::Fail(failed) => &failed.lease,
    }
}
