//! The loop that proves all sums of the bill against their calls, once a day, a billing day a step. One replica does it.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::db::DbError;
use crate::db::base::retry::on_conflict;
use crate::db::base::work_lease::{LeaseSession, LeasedWork, WorkLease, fenced};
use crate::db::bill::proof::{self, ProofStep, TASK};
use crate::db::ledger::{reopen, settled};
use crate::db::timed;
use crate::list::{DB_TIMEOUT, ListError, in_time, within};
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// The calls of a large day are added up in a second or two.
const STEP_WITHIN: Duration = Duration::from_secs(120);
/// A step takes no longer, or it has stalled.
pub const STALL_AFTER: Duration = Duration::from_secs(180);
/// Between two polls for whether it is due.
const POLL_EVERY: Duration = Duration::from_secs(60);
/// A step is followed by a rest of so many times its own length: it is never more than a fifth of the load of one connection.
const REST: u32 = 4;
/// The shortest rest.
const REST_AT_LEAST: Duration = Duration::from_millis(20);

/// Proves all sums once a day until told to stop.
pub async fn prove_sums(
    pool: PgPool,
    metrics: Metrics,
    heartbeat: std::sync::Arc<Heartbeat>,
    stop: CancellationToken,
) {
    let condition = metrics.condition(
        "the sums of the bill cannot be proved against their calls",
        "it is tried again; the error says whose turn it is; `vobiz-cdr verify` proves them at once",
    );
    while !stop.is_cancelled() {
        heartbeat.beat();
        match prove_if_due(&pool, &heartbeat, &stop).await {
            Ok(()) => condition.clear(),
            // That Postgres is away is said by those who suffer from it.
            Err(error @ ListError::Db(DbError::TimedOut(_))) => {
                condition.raise_for(&error.brief(), error.cure());
            }
            Err(ListError::Db(error)) if error.refuses_rows() => {
                condition.raise_for(&error.cause(), error.cure());
            }
            Err(_) => {}
        }
        heartbeat.idle();
        tokio::select! {
            () = tokio::time::sleep(POLL_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Proves them step by step if it is due and no other replica is at it.
async fn prove_if_due(
    pool: &PgPool,
    heartbeat: &Heartbeat,
    stop: &CancellationToken,
) -> Result<(), ListError> {
    if !timed!(pool, DB_TIMEOUT, |connection| proof::is_due(connection)).await? {
        return Ok(());
    }
    let Some(mut session) = LeaseSession::open(pool, LeasedWork::Long).await? else { return Ok(()) };
    let taken = in_time(WorkLease::take(session.connection(), TASK)).await;
    let proved = match &taken {
        Ok(Some(lease)) => {
            lease.hold(pool, Box::pin(steps(lease, session.connection(), heartbeat, stop))).await
        }
        Ok(None) | Err(_) => Ok(()),
    };
    session.close(taken?).await;
    proved
}

async fn steps(
    lease: &WorkLease,
    connection: &mut PgConnection,
    heartbeat: &Heartbeat,
    stop: &CancellationToken,
) -> Result<(), ListError> {
    while !stop.is_cancelled() {
        heartbeat.beat();
        let begun = Instant::now();
        let done = tokio::select! {
            done = within(STEP_WITHIN, step(lease, connection)) => done?,
            // What it had begun is rolled back, and its day is proved again.
            () = stop.cancelled() => return Ok(()),
        };
        match done {
            ProofStep::NotDue => return Ok(()),
            ProofStep::Proved(_, 0) => {}
            ProofStep::Proved(day, wrong) => {
                warn!(%day, wrong, "sums of the bill do not equal their calls: see `vobiz-cdr verify`");
            }
            ProofStep::Finished(days) => info!(days, "all sums of the bill were proved"),
        }
        heartbeat.idle();
        tokio::select! {
            () = tokio::time::sleep((begun.elapsed() * REST).max(REST_AT_LEAST)) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// One step: what is noted of a day is committed first, then what is done about it, and with the last of that, that it was done. A step
/// that breaks off anywhere is done again, of the same day.
async fn step(lease: &WorkLease, connection: &mut PgConnection) -> Result<ProofStep, sqlx::Error> {
    let proved =
        on_conflict!(fenced!(lease, connection, |transaction| proof::prove_next_day(transaction))).await?;
    if let ProofStep::Proved(day, wrong) = proved {
        if wrong > 0 {
            // Calls changed past the triggers, or the sums did. Whoever makes these right does not thereby settle the day.
            let reopened =
                on_conflict!(fenced!(lease, connection, |transaction| reopen::of_noted(transaction, day)));
            let days = reopened.await?;
            if days > 0 {
                warn!(%day, days, "settled days whose sums do not equal their calls are compared with Vobiz again");
            }
        }
        // The sums are right if they equal the calls; that the calls are those that were listed is another matter.
        let differing = on_conflict!(fenced!(lease, connection, |transaction| async {
            let differing =
                settled::compare(&mut *transaction, None, Some(day), Some(day)).await?.differences;
            reopen::reopen(&mut *transaction, &differing).await?;
            proof::advance(transaction, day, wrong).await?;
            Ok::<_, sqlx::Error>(differing)
        }))
        .await?;
        for found in differing {
            warn!(account = %found.account_id, %day, "a settled day is not what Vobiz listed of it: see `vobiz-cdr verify`");
        }
    }
    Ok(proved)
}
