//! Lease, fetch, store in a group.
//!
//! One dispatcher leases due calls, account by account in turn, never more than there are free worker slots and free slots in
//! the shared rate limit. Each lease goes to a worker slot: one request, no transaction open. The outcomes gather while the last
//! group commits, and are stored in one transaction; a worker slot is free again as soon as its answer is there, so that
//! Vobiz is asked while Postgres writes. How much may lie between the two is bounded.
//!
//! The promise: a call leaves the queue only together with its CDR, or as a dead letter, or closed with its evidence. What
//! is cut off falls due again. What a failed request leads to is not decided here but in [`crate::retry`].

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
use crate::watch::condition::Condition;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;
use other_accounts::OtherAccounts;
pub use scan_start::FROM_BEGINNING_EVERY;
use scan_start::ScanStart;

/// How the worker behaves.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// Requests under way at once, over all accounts.
    pub concurrency: u32,
    /// A lease runs out after this long; longer than any request and the storing of its outcome.
    pub lease: Duration,
    /// Between two scans of an account's queue from its beginning: [`FROM_BEGINNING_EVERY`], but for a test of the scans between them.
    pub from_beginning_every: Duration,
}

/// The shortest and the longest pause between two polls of the queue.
const IDLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Outcomes that may wait to be stored beside those that worker slots are busy with: two groups, so that one gathers while
/// the other commits. They are what a crash makes us ask for again.
const GATHERED: usize = 1000;
/// While calls are waiting, a poll of the queue is worth its price for a quarter of the worker slots; for fewer it waits this long.
const GATHER_SLOTS: Duration = Duration::from_millis(5);
const DB_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that were put off too far and are brought back at once, each half minute.
const MENDED: i64 = 1000;
/// A poll of an account's queue waits for a worker slot, at most as long as a request may take, and for Postgres.
const STALL_AFTER: Duration = Duration::from_secs(120);

/// The fetching of owed calls of some accounts.
#[derive(Debug)]
pub struct Fetcher {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    other_accounts: Arc<OtherAccounts>,
    settings: FetchSettings,
    /// Worker slots: requests under way.
    slots: Arc<Semaphore>,
    /// Calls between lease and store.
    capacity: Arc<Semaphore>,
    metrics: Metrics,
    /// In the order of the accounts: calls that were put off too far stay so.
    unmended: Vec<Arc<Condition>>,
}

/// A worker slot: the right to one request, and the capacity that its outcome takes.
struct Slot {
    request: OwnedSemaphorePermit,
    capacity: OwnedSemaphorePermit,
}

/// An outcome, and the capacity that it takes until it is stored.
struct Finished {
    outcome: FetchOutcome,
    capacity: OwnedSemaphorePermit,
}

impl Fetcher {
    /// A fetcher for these accounts.
    pub fn new(pool: PgPool, accounts: Vec<Arc<Account>>, settings: FetchSettings, metrics: Metrics) -> Self {
        let other_accounts =
            OtherAccounts::new(pool.clone(), accounts.clone(), settings.concurrency, settings.lease);
        let other_accounts = Arc::new(other_accounts);
        let slots = Arc::new(Semaphore::new(settings.concurrency as usize));
        let capacity = Arc::new(Semaphore::new(settings.concurrency as usize + GATHERED));
        let unmended = accounts.iter().map(|account| {
            metrics.condition_of(
                "calls that were put off under a clock that was ahead cannot be made due, so these are fetched late",
                "it is tried again; the error says whose turn it is",
                account.id().as_str(),
            )
        });
        let unmended = unmended.collect();
        Self { pool, accounts, other_accounts, settings, slots, capacity, metrics, unmended }
    }

    /// Fetches until told to stop; then finishes what is under way.
    pub async fn run(&self, stop: CancellationToken) {
        self.fetch(&stop, false).await;
    }

    /// Fetches until nothing is due and nothing is under way: for tests and for one-off runs.
    pub async fn run_until_idle(&self) {
        self.fetch(&CancellationToken::new(), true).await;
    }

    async fn fetch(&self, stop: &CancellationToken, until_idle: bool) {
        let (finished, outcomes) = mpsc::unbounded_channel();
        let tracker = TaskTracker::new();
        let storer = tokio::spawn(store::run(self.pool.clone(), outcomes, self.metrics.clone()));
        let heartbeat = self.metrics.heartbeats.start("fetch", STALL_AFTER);
        let condition = self.metrics.condition(
            "the queue cannot be read, so nothing is fetched and nothing is lost",
            "see that Postgres runs and can be reached",
        );
        let mut idle = IDLE.0;
        let (mut turn, mut found_calls) = (0, false);
        let mut scan_starts = vec![ScanStart::new(self.settings.from_beginning_every); self.accounts.len()];
        // With nothing to store it, everything fetched would be thrown away.
        while !stop.is_cancelled() && !finished.is_closed() {
            heartbeat.beat();
            let round = self
                .lease_round((turn, found_calls), &mut scan_starts, stop, &finished, &tracker, &heartbeat)
                .await;
            found_calls = matches!(round, Ok(1..));
            if round.is_ok() {
                condition.clear();
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
                    condition.raise_for(&error.cause(), error.cure());
                    tokio::select! {
                        () = tokio::time::sleep(IDLE.1) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
            turn += 1;
        }
        // From here on another fetcher may beat under this name; what is under way is bounded by its own timeouts.
        heartbeat.idle();
        drop(finished);
        tracker.close();
        tracker.wait().await;
        if let Err(error) = storer.await {
            warn!(%error, "storing ended badly: its calls fall due again");
        }
    }

    /// Polls the queue of every account once, beginning with another account each time, and starts a fetch for each lease;
    /// returns how many calls were leased. `found_calls`: the last
    /// round leased some.
    async fn lease_round(
        &self,
        (turn, found_calls): (usize, bool),
        scan_starts: &mut [ScanStart],
        stop: &CancellationToken,
        finished: &mpsc::UnboundedSender<Finished>,
        tracker: &TaskTracker,
        heartbeat: &Heartbeat,
    ) -> Result<usize, DbError> {
        let mut count = 0;
        for n in 0..self.accounts.len() {
            let n = (turn + n) % self.accounts.len();
            let (account, scan_start) = (&self.accounts[n], &mut scan_starts[n]);
            // Each account may have to wait for a worker slot.
            heartbeat.beat();
            if stop.is_cancelled() {
                break;
            }
            if account.is_in_question() {
                continue;
            }
            // Wait for one worker slot; lease no more calls than there are free ones.
            let Some(first) = self.acquire_slot(found_calls, stop).await else { break };
            if account.client.style().is_none() && !self.ensure_ready(account, tracker).await? {
                continue;
            }
            match account.check_clock_now().await {
                // It is said by `/status`; the other accounts are none the worse for it.
                Err(DbError::ClockBehind(_)) => continue,
                checked => checked?,
            }
            let free = 1 + self.slots.available_permits().min(self.capacity.available_permits());
            let free = u32::try_from(free).unwrap_or(u32::MAX);
            let from = scan_start.begin(Instant::now());
            if scan_start.mends(Instant::now()) {
                self.mend_due(account, &self.unmended[n]).await;
            }
            let (leases, reserved) = timed!(&self.pool, DB_TIMEOUT, |connection| queue::lease(
                connection,
                (account.id(), &account.replica),
                free,
                account.max_rps,
                AHEAD,
                self.settings.lease,
                from
            ))
            .await?;
            scan_start.found(&leases);
            if leases.is_empty() {
                self.ensure_ready(account, tracker).await?;
                continue;
            }
            count += leases.len();
            let mut first = Some(first);
            let mut requests = 0;
            for lease in leases {
                // They are there: only this task takes any.
                let slot = match first.take() {
                    Some(slot) => Some(slot),
                    None => self.acquire_slot(false, stop).await,
                };
                let Some(slot) = slot else { break };
                let wait = reserved.wait + reserved.every * requests;
                requests += u32::from(!lease.stored);
                self.start_fetch(Arc::clone(account), lease, wait, slot, finished, tracker);
            }
        }
        Ok(count)
    }

    /// Makes calls due that a clock that was ahead put off for longer than any rule does. Where that fails, the others are fetched all
    /// the same.
    async fn mend_due(&self, account: &Account, unmended: &Condition) {
        let mended =
            timed!(&self.pool, DB_TIMEOUT, |connection| queue::mend_due(connection, account.id(), MENDED));
        match mended.await {
            Ok(calls) => {
                unmended.clear();
                if calls > 0 {
                    warn!(account = %account.id(), calls, "calls were put off under a clock that was ahead: they are due now");
                }
            }
            Err(error) if error.refuses_rows() || matches!(error, DbError::TimedOut(_)) => {
                unmended.raise_for(&error.cause(), error.cure());
            }
            // That Postgres is away is said by the lease.
            Err(_) => {}
        }
    }

    /// A free worker slot; where the last round found calls, so that more may be due, one of several if that takes but a moment. None:
    /// we are to stop.
    async fn acquire_slot(&self, found_calls: bool, stop: &CancellationToken) -> Option<Slot> {
        if found_calls {
            let several = Arc::clone(&self.slots).acquire_many_owned(self.settings.concurrency.div_ceil(4));
            // They are given back at once: only this task takes worker slots.
            drop(tokio::time::timeout(GATHER_SLOTS, several).await);
        }
        tokio::select! {
            // What is free is taken also when we are to stop: a call that is leased is fetched.
            biased;
            slot = async {
                let request = Arc::clone(&self.slots).acquire_owned().await.ok()?;
                let capacity = Arc::clone(&self.capacity).acquire_owned().await.ok()?;
                Some(Slot { request, capacity })
            } => slot,
            () = stop.cancelled() => None,
        }
    }

    /// Starts the fetch of one call in its worker slot, after `wait`.
    fn start_fetch(
        &self,
        account: Arc<Account>,
        lease: Lease,
        wait: Duration,
        Slot { request, capacity }: Slot,
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
            let fetch = AssertUnwindSafe(slot::fetch(&account, lease, &other_accounts, &metrics)).catch_unwind();
            let Ok(outcome) = fetch.await else {
                error!(%call_id, "a defect: the fetch of this call panicked; it falls due again with its lease");
                return;
            };
            drop(request);
            // The receiver lives as long as any worker slot.
            let _ = finished.send(Finished { outcome, capacity });
        });
    }

    /// Whether an account may be asked; finds out its API path first, and probes it when it is paused and a probe is due.
    async fn ensure_ready(&self, account: &Arc<Account>, tracker: &TaskTracker) -> Result<bool, DbError> {
        let Some(status) = account.status().await? else { return Ok(false) };
        match status.pause_reason {
            Some(reason) if status.probe => {
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

    /// Whether nothing is due for an account that is not paused, and nothing is between lease and store.
    async fn is_idle(&self) -> bool {
        if self.capacity.available_permits() < self.settings.concurrency as usize + GATHERED {
            return false;
        }
        let Some(account) = self.accounts.first() else { return true };
        let due =
            timed!(&self.pool, DB_TIMEOUT, |connection| queue::any_due(connection, &account.replica)).await;
        due.is_ok_and(|due| !due)
    }
}
