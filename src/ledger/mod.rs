//! The ledger: each day of each account is listed alone some time after its end and compared with what we hold. That is the
//! proof, and what it says moves safe_to_bill.
//!
//! One check at a time over all replicas and accounts' days (`check.rs`); a backfill and a recovery are checks of many days.

mod backfill;
mod check;
mod contradiction;
mod cut;
mod day_list;
mod evaluate;
mod money;
mod outcome;
mod part;
mod schedule;
mod seconds;
mod sums;
mod words;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::account::{Account, Priority};
use crate::db::cdr::Origin;
use crate::list::{ListReader, ListTally, MOST_PAGES};
use crate::watch::heartbeat::{Heartbeat, Heartbeats};
use crate::watch::metrics::Metrics;
pub use backfill::Backfilled;
pub use outcome::Checked;
pub use sums::{STALL_AFTER as SUMS_STALL_AFTER, prove_sums};

/// A page is asked for, answered and stored within this, or the check has stalled.
const STALL_AFTER: Duration = Duration::from_secs(180);
/// Between two polls for a day that is due.
const TICK: Duration = Duration::from_secs(10);

/// The ledger of some accounts.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    every: Duration,
    metrics: Metrics,
    /// In the order of the accounts.
    loops: Vec<Arc<Heartbeat>>,
    /// Pages of one list.
    most_pages: u32,
}

impl Ledger {
    /// The ledger of these accounts.
    pub fn new(pool: PgPool, accounts: Vec<Arc<Account>>, every: Duration, metrics: Metrics) -> Self {
        let heartbeat = |account: &Arc<Account>| {
            let heartbeat = metrics.heartbeats.start(&format!("ledger {}", account.id()), STALL_AFTER);
            heartbeat.idle();
            heartbeat
        };
        let loops = accounts.iter().map(heartbeat).collect();
        Self { pool, accounts, every, metrics, loops, most_pages: MOST_PAGES }
    }

    /// The same, which reads no list of more pages than these in one piece.
    #[must_use]
    pub fn reading_at_most(self, most_pages: u32) -> Self {
        Self { most_pages, ..self }
    }

    /// Checks days as they fall due until told to stop, each account by itself.
    pub async fn run(&self, stop: CancellationToken) {
        let loops = self.accounts.iter().zip(&self.loops);
        join_all(loops.map(|(account, heartbeat)| self.check_on(account, heartbeat, &stop))).await;
    }

    /// Between two polls for something that is due.
    fn tick(&self) -> Duration {
        (self.every / 10).clamp(Duration::from_millis(100), TICK)
    }

    /// The heartbeat of an account; for one that is not ours, a new one that nobody watches.
    fn heartbeat(&self, account: &Account) -> Arc<Heartbeat> {
        let place = self.accounts.iter().position(|ours| ours.id() == account.id());
        let ours = place.and_then(|place| self.loops.get(place));
        ours.map_or_else(|| Heartbeats::default().start("", STALL_AFTER), Arc::clone)
    }

    fn reader<'a>(
        &'a self,
        flow: &'static str,
        (priority, origin): (Priority, Origin),
        account: &'a Account,
        heartbeat: &'a Heartbeat,
        tally: &'a ListTally,
        stop: &'a CancellationToken,
    ) -> ListReader<'a> {
        let (pool, metrics, accounts, most_pages) =
            (&self.pool, &self.metrics, &self.accounts, self.most_pages);
        ListReader {
            pool,
            metrics,
            accounts,
            account,
            flow,
            priority,
            origin,
            heartbeat,
            stop,
            tally,
            most_pages,
        }
    }
}
