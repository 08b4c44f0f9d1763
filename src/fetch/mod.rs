//! Lease, fetch, settle in a group.
//!
//! One dispatcher leases due calls, account by account in turn, never more than there are free hands and free slots in the
//! shared rate limit. Each lease goes to a hand: one request, no transaction open. What the hands bring is gathered while
//! the last group commits, and settled as one transaction; a hand is free again as soon as its answer is there, so that
//! Vobiz is asked while Postgres writes. How much may lie between the two is bounded.
//!
//! The promise: a call leaves the queue only together with its CDR, or as a dead letter, or closed with its evidence. What
//! is cut off falls due again.

mod other_accounts;
mod scan_start;
mod slot;
mod store;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::account::{AHEAD, Account};
use crate::db::DbError;
use crate::db::queue::{self, FetchOutcome, Lease};
use crate::db::timed;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;
use other_accounts::OtherAccounts;
use scan_start::ScanStart;

/// How the worker behaves.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// Requests under way at once, over all accounts.
    pub concurrency: u32,
    /// A lease runs out after this long; longer than any request and its settling.
    pub lease: Duration,
}

/// The shortest and the longest pause between two looks at the queue.
const IDLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Outcomes that may wait for their settling beside those that hands are busy with: two groups, so that one gathers while
/// the other commits. They are what a crash makes us ask for again.
const GATHERED: usize = 1000;
/// While calls are waiting, a look at the queue is worth its price for a quarter of the hands; for fewer it waits this long.
const GATHER_HANDS: Duration = Duration::from_millis(5);
const DB_TIMEOUT: Duration = Duration::from_secs(10);
/// A look at an account's queue waits for a hand, at most as long as a request may take, and for Postgres.
const PATIENCE: Duration = Duration::from_secs(120);

/// The worker.
#[derive(Debug)]
pub struct Fetcher {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    other_accounts: Arc<OtherAccounts>,
    settings: FetchSettings,
    /// Requests under way.
    hands: Arc<Semaphore>,
    /// Calls between lease and settling.
    room: Arc<Semaphore>,
    metrics: Metrics,
}

/// The right to one request, and room for what it brings.
struct Slot {
    hand: OwnedSemaphorePermit,
    room: OwnedSemaphorePermit,
}

/// An outcome, and the room that it takes until it is settled.
struct Finished {
    outcome: FetchOutcome,
    room: OwnedSemaphorePermit,
}

impl Fetcher {
    /// A worker for these accounts.
    pub fn new(pool: PgPool, accounts: Vec<Arc<Account>>, settings: FetchSettings, metrics: Metrics) -> Self {
        let other_accounts =
            OtherAccounts::new(pool.clone(), accounts.clone(), settings.concurrency, settings.lease);
        let other_accounts = Arc::new(other_accounts);
        let hands = Arc::new(Semaphore::new(settings.concurrency as usize));
        let room = Arc::new(Semaphore::new(settings.concurrency as usize + GATHERED));
        Self { pool, accounts, other_accounts, settings, hands, room, metrics }
    }

    /// Works until told to stop; then finishes what is in hand.
    pub async fn run(&self, stop: CancellationToken) {
        self.work(&stop, false).await;
    }

    /// Works until nothing is due and nothing is in hand: for tests and for one-off runs.
    pub async fn drain(&self) {
        self.work(&CancellationToken::new(), true).await;
    }

    async fn work(&self, stop: &CancellationToken, until_idle: bool) {
        let (finished, outcomes) = mpsc::unbounded_channel();
        let tracker = TaskTracker::new();
        let storer = tokio::spawn(store::run(self.pool.clone(), outcomes, self.metrics.clone()));
        let heartbeat = self.metrics.heartbeats.start("fetch", PATIENCE);
        let condition = self.metrics.condition(
            "the queue cannot be read, so nothing is fetched and nothing is lost",
            "see that Postgres runs and can be reached",
        );
        let mut idle = IDLE.0;
        let (mut turn, mut backlog) = (0, false);
        let mut floors = vec![ScanStart::default(); self.accounts.len()];
        // Without a settler, everything fetched would be thrown away.
        while !stop.is_cancelled() && !finished.is_closed() {
            heartbeat.beat();
            let round = self.round((turn, backlog), &mut floors, stop, &finished, &tracker, &heartbeat).await;
            backlog = matches!(round, Ok(1..));
            if round.is_ok() {
                condition.over();
            }
            match round {
                Ok(0) if until_idle && self.is_idle().await => break,
                Ok(0) => {
                    tokio::select! {
                        () = tokio::time::sleep(idle) => {}
                        () = stop.cancelled() => {}
                    }
                    idle = (idle * 2).min(if until_idle { IDLE.0 } else { IDLE.1 });
                }
                Ok(_) => idle = IDLE.0,
                Err(error) => {
                    condition.hit(&error);
                    tokio::select! {
                        () = tokio::time::sleep(IDLE.1) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
            turn += 1;
        }
        // From here on others may be at work under this name; what is in hand is bounded by its own timeouts.
        heartbeat.rest();
        drop(finished);
        tracker.close();
        tracker.wait().await;
        if let Err(error) = storer.await {
            warn!(%error, "the settler ended badly: its calls fall due again");
        }
    }

    /// One look at the queue of every account, beginning with another one each time; returns how many calls were leased.
    async fn round(
        &self,
        (turn, backlog): (usize, bool),
        floors: &mut [ScanStart],
        stop: &CancellationToken,
        finished: &mpsc::UnboundedSender<Finished>,
        tracker: &TaskTracker,
        heartbeat: &Heartbeat,
    ) -> Result<usize, DbError> {
        let mut leased = 0;
        for n in 0..self.accounts.len() {
            let n = (turn + n) % self.accounts.len();
            let (account, floor) = (&self.accounts[n], &mut floors[n]);
            // Each account may have to wait for a hand.
            heartbeat.beat();
            if stop.is_cancelled() {
                break;
            }
            if account.is_in_question() {
                continue;
            }
            // Wait for one hand and room for what it brings; take no more calls than there are of both.
            let Some(first) = self.hand(backlog, stop).await else { break };
            if account.client.style().is_none() && !self.open(account, tracker).await? {
                continue;
            }
            let free = 1 + self.hands.available_permits().min(self.room.available_permits());
            let free = u32::try_from(free).unwrap_or(u32::MAX);
            let from = floor.begin(Instant::now());
            let (taken, slots) = timed!(&self.pool, DB_TIMEOUT, |connection| queue::lease(
                connection,
                account.id(),
                free,
                account.max_rps,
                AHEAD,
                self.settings.lease,
                from
            ))
            .await?;
            floor.found(&taken);
            if taken.is_empty() {
                self.open(account, tracker).await?;
                continue;
            }
            leased += taken.len();
            let mut first = Some(first);
            let mut slot = 0;
            for lease in taken {
                // They are there: nobody else takes any.
                let hand = match first.take() {
                    Some(hand) => Some(hand),
                    None => self.hand(false, stop).await,
                };
                let Some(hand) = hand else { break };
                let wait = slots.wait + slots.every * slot;
                slot += u32::from(!lease.stored);
                self.attend(Arc::clone(account), lease, wait, hand, finished, tracker);
            }
        }
        Ok(leased)
    }

    /// A free hand, and room for what it brings; while there is a backlog, one hand of several if that takes but a moment. None:
    /// we are to stop.
    async fn hand(&self, backlog: bool, stop: &CancellationToken) -> Option<Slot> {
        if backlog {
            let several = Arc::clone(&self.hands).acquire_many_owned(self.settings.concurrency.div_ceil(4));
            // They are given back at once: only this task takes hands.
            drop(tokio::time::timeout(GATHER_HANDS, several).await);
        }
        tokio::select! {
            // What is free is taken also when we are to stop: a call that is leased is attended to.
            biased;
            hand = async {
                let hand = Arc::clone(&self.hands).acquire_owned().await.ok()?;
                let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
                Some(Slot { hand, room })
            } => hand,
            () = stop.cancelled() => None,
        }
    }

    fn attend(
        &self,
        account: Arc<Account>,
        lease: Lease,
        wait: Duration,
        Slot { hand, room }: Slot,
        finished: &mpsc::UnboundedSender<Finished>,
        tracker: &TaskTracker,
    ) {
        let (finished, other_accounts, metrics) =
            (finished.clone(), Arc::clone(&self.other_accounts), self.metrics.clone());
        tracker.spawn(async move {
            // The timer is no finer than this, and rounds up: at high rates it would be most of the waiting.
            if wait >= Duration::from_millis(1) {
                tokio::time::sleep(wait).await;
            }
            let call_id = lease.call_id().clone();
            let attending = AssertUnwindSafe(slot::attend(&account, lease, &other_accounts, &metrics)).catch_unwind();
            let Ok(outcome) = attending.await else {
                error!(%call_id, "a defect: attending to this call panicked; it falls due again with its lease");
                return;
            };
            drop(hand);
            // The settler lives as long as any hand.
            let _ = finished.send(Finished { outcome, room });
        });
    }

    /// Whether an account may be asked; finds out its API path first, and probes it when it is paused and a probe is due.
    async fn open(&self, account: &Arc<Account>, tracker: &TaskTracker) -> Result<bool, DbError> {
        let Some(standing) = account.standing().await? else { return Ok(false) };
        match standing.pause_reason {
            Some(reason) if standing.probe => {
                debug!(account = %account.id(), reason, "probing");
                let account = Arc::clone(account);
                tracker.spawn(async move { account.probe(&reason).await });
                Ok(false)
            }
            Some(_) => Ok(false),
            None if account.client.style().is_none() => {
                // Not here: an API that does not answer would hold up the other accounts.
                let account = Arc::clone(account);
                tracker.spawn(async move { account.find_access_once().await });
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Nothing is due for an account that is not paused, and nothing is between lease and settling.
    async fn is_idle(&self) -> bool {
        if self.room.available_permits() < self.settings.concurrency as usize + GATHERED {
            return false;
        }
        let due = timed!(&self.pool, DB_TIMEOUT, |connection| queue::any_due(connection)).await;
        due.is_ok_and(|due| !due)
    }
}
