//! Storing: outcomes gather while the last group commits, then [`queue::store`] makes them true in one transaction (calls that were
//! stored already in one before it).

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tracing::warn;

use super::Finished;
use crate::db::base::retry::{OneByOne, on_conflict};
use crate::db::queue::{self, Failed, FetchOutcome, Then};
use crate::db::{DbError, Fault, timed};
use crate::retry::ErrorClass;
use crate::watch::condition::Condition;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// Outcomes in one transaction.
const GROUP: usize = 500;
/// A transaction that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A group has its timeout a few times over, and so has each member of one that goes one by one.
const STALL_AFTER: Duration = Duration::from_secs(120);

/// Stores until all worker slots are gone and nothing waits.
pub(super) async fn run(pool: PgPool, mut outcomes: mpsc::UnboundedReceiver<Finished>, metrics: Metrics) {
    let heartbeat = metrics.heartbeats.start("store", STALL_AFTER);
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
        storer.store(group, &heartbeat).await;
        drop(capacity);
        heartbeat.idle();
    }
}

/// What stores one group after the other.
struct Storer {
    pool: PgPool,
    metrics: Metrics,
    condition: Arc<Condition>,
}

impl Storer {
    /// Stores a group. One that fails on data goes one by one, and the culprit becomes a dead letter with its body. Anything else
    /// that fails is our fault: the leases run out and the calls fall due again, at no cost to them.
    async fn store(&self, group: Vec<FetchOutcome>, heartbeat: &Heartbeat) {
        let mut parts = OneByOne::of(group);
        while let Some(part) = parts.next() {
            heartbeat.beat();
            let result = self.commit_retrying(&part).await;
            let Some((part, Err(error))) = parts.unless_split(part, result) else { continue };
            if error.fault() == Fault::Data {
                for outcome in part {
                    self.bury(outcome, &error).await;
                }
            } else {
                self.condition.raise_for(&error.cause(), error.cure());
            }
        }
    }

    /// Makes a dead letter of a call whose CDR Postgres refuses.
    async fn bury(&self, outcome: FetchOutcome, error: &DbError) {
        let (FetchOutcome::Store(lease, incoming) | FetchOutcome::OtherId(lease, incoming)) = outcome else {
            warn!(%error, "a failure could not be written down: the call falls due again");
            return;
        };
        warn!(call_id = %lease.call_id(), %error, "Postgres refuses this CDR: dead letter");
        let body = incoming.cdr.payload.text().as_bytes();
        let buried = [FetchOutcome::Fail(Failed {
            error: format!("Postgres refuses the CDR: {error}"),
            body: Some(body[..body.len().min(65_536)].to_vec()),
            class: ErrorClass::Unstorable,
            then: Then::Bury,
            lease,
        })];
        if let Err(error) = self.commit_retrying(&buried).await {
            warn!(%error, "a dead letter could not be written: the call falls due again");
        }
    }

    /// Commits, and tries again where that may help: at once after a deadlock, a few times while Postgres is away. What was
    /// fetched is worth a few seconds of waiting; the lease bounds it.
    async fn commit_retrying(&self, group: &[FetchOutcome]) -> Result<(), DbError> {
        let committed = (|| on_conflict!(self.commit(group)))
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(20))
                    .with_max_delay(Duration::from_secs(2))
                    .with_max_times(6)
                    .with_jitter(),
            )
            .when(|error| error.fault() == Fault::Ours && !matches!(error, DbError::TimedOut(_)))
            .await;
        if committed.is_ok() {
            self.condition.clear();
            self.observe_freshness(group);
        }
        committed
    }

    async fn commit(&self, group: &[FetchOutcome]) -> Result<(), DbError> {
        timed!(&self.pool, TIMEOUT, |connection| queue::store(connection, group)).await?;
        Ok(())
    }

    /// Measures how fresh what was just committed is. A clock of Vobiz meets the one of Postgres here; before the end is none.
    fn observe_freshness(&self, group: &[FetchOutcome]) {
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
