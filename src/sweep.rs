//! List, and store what is missing: the way in which a lost callback is healed.
//!
//! Every few minutes each account's CDR list is read newest first, page by page, down to the start of the last completed
//! sweep minus an overlap, whatever is known on the way. Rows go through the same upsert as fetched CDRs and pay the same
//! debts. Rows that shift between pages while calls end are harmless: they are seen twice.
//!
//! One sweeper at a time over all replicas, by an advisory lock; when it dies, its lock dies with its connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::account::{Account, SWEEP_AHEAD};
use crate::db::account::{self, SweepPlan};
use crate::db::cdr::{Incoming, Origin, Upserted};
use crate::db::clock::Clock;
use crate::db::{self, Fault, cdr, queue};
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::timed;
use crate::trouble::Trouble;
use crate::vobiz::{AccountId, Cdr, FetchError, ListPage, ListQuery};

/// Rows a page: the most that Vobiz gives (documented).
const PER_PAGE: u32 = 100;
/// A sweep that needs more pages than this is a backfill; it stops and says so.
const MOST_PAGES: u32 = 20_000;
const DB_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest pause after sweeps that failed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// A page is asked for, answered and stored within this, or the sweep is wedged.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The list could not be read.
    #[error("the CDR list: {0}")]
    List(#[from] FetchError),
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] db::DbError),
    /// The list does not end.
    #[error("more than {MOST_PAGES} pages of the list")]
    Endless,
    /// A page came twice, or an empty one in the middle: the list cannot be trusted to be complete.
    #[error("the CDR list is odd: {0}")]
    Odd(&'static str),
    /// The account stayed paused.
    #[error("the account is paused")]
    Paused,
    /// We were told to stop.
    #[error("stopped")]
    Stopped,
}

impl SweepError {
    /// The failure for the log: without what Vobiz said, which may hold numbers.
    fn brief(&self) -> String {
        match self {
            Self::List(error) => format!("the CDR list: {}", error.brief()),
            other => other.to_string(),
        }
    }
}

impl From<sqlx::Error> for SweepError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Pages read.
    pub pages: u32,
    /// Rows seen, repeats included.
    pub rows: usize,
    /// Calls stored for the first time.
    pub new: usize,
    /// Of these, calls that nothing had owed: no callback had come, or none was accepted.
    pub recovered: usize,
    /// Calls with a new version.
    pub revised: usize,
    /// Rows that could not be read.
    pub unreadable: usize,
}

/// The sweeper of some accounts.
#[derive(Debug)]
pub struct Sweeper {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    every: Duration,
    metrics: Metrics,
    pulses: HashMap<AccountId, Arc<Pulse>>,
}

impl Sweeper {
    /// A sweeper that sweeps each account every so often.
    pub fn new(pool: PgPool, accounts: Vec<Arc<Account>>, every: Duration, metrics: Metrics) -> Self {
        let pulse = |account: &Arc<Account>| {
            let pulse = metrics.pulses.start(&format!("sweep {}", account.id()), PATIENCE);
            pulse.rest();
            (account.id().clone(), pulse)
        };
        let pulses = accounts.iter().map(pulse).collect();
        Self { pool, accounts, every, metrics, pulses }
    }

    /// The account's sweeping moved.
    fn beat(&self, account: &Account) {
        if let Some(pulse) = self.pulses.get(account.id()) {
            pulse.beat();
        }
    }

    /// The account's sweeping waits for a time that is set.
    fn rest(&self, account: &Account) {
        if let Some(pulse) = self.pulses.get(account.id()) {
            pulse.rest();
        }
    }

    /// Sweeps until told to stop, each account by itself.
    pub async fn run(&self, stop: CancellationToken) {
        join_all(self.accounts.iter().map(|account| self.run_one(account, &stop))).await;
    }

    async fn run_one(&self, account: &Account, stop: &CancellationToken) {
        let tick = (self.every / 10).clamp(Duration::from_millis(100), Duration::from_secs(10));
        let mut failed = 0;
        let trouble = Trouble::of(
            "the CDR list cannot be swept, so lost callbacks are not healed",
            "it is tried again; the error says whose turn it is",
            account.id().as_str(),
        );
        while !stop.is_cancelled() {
            self.beat(account);
            match self.sweep_if_due(account, stop).await {
                Err(SweepError::Stopped) => {}
                // Not due, paused, or another replica's: the next one may begin as soon as it can.
                Ok(None) => failed = 0,
                // The pause itself was said.
                Err(SweepError::Paused) => failed += 1,
                Ok(Some(swept)) => {
                    failed = 0;
                    trouble.over();
                    if swept.new + swept.revised + swept.unreadable > 0 {
                        info!(account = %account.id(), ?swept, "sweep");
                    } else {
                        debug!(account = %account.id(), ?swept, "sweep");
                    }
                }
                Err(error) => {
                    failed += 1;
                    trouble.hit(&error.brief());
                }
            }
            // A list that keeps failing far down must not be read from its top again and again.
            self.rest(account);
            let backoff = tick.saturating_mul(1 << failed.min(10)).min(LONGEST_BACKOFF.max(tick));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Sweeps an account if a sweep is due, it is not paused, and no other replica is at it.
    pub async fn sweep_if_due(
        &self,
        account: &Account,
        stop: &CancellationToken,
    ) -> Result<Option<Swept>, SweepError> {
        let plan = timed!(&self.pool, DB_TIMEOUT, |connection| account::plan_sweep(
            connection,
            account.id(),
            self.every
        ))
        .await?;
        let Some(plan) = plan else { return Ok(None) };
        if account.is_paused().await? {
            return Ok(None);
        }
        // The lock lives on a connection of its own, outside the pool, for as long as the sweep takes.
        let mut holder = self.pool.acquire().await?.detach();
        let locked = timeout(DB_TIMEOUT, account::try_lock_sweep(&mut holder, account.id())).await;
        let result = match locked {
            Ok(Ok(true)) => self.sweep(account, &plan, stop).await.map(Some),
            Ok(Ok(false)) => Ok(None),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(SweepError::Db(db::DbError::TimedOut(DB_TIMEOUT))),
        };
        if !matches!(timeout(DB_TIMEOUT, holder.close()).await, Ok(Ok(()))) {
            debug!("the connection of the sweep's lock did not close well");
        }
        result
    }

    /// Reads the list down to `plan.down_to` and stores what is missing.
    async fn sweep(
        &self,
        account: &Account,
        plan: &SweepPlan,
        stop: &CancellationToken,
    ) -> Result<Swept, SweepError> {
        if !account.ensure_access().await {
            return Err(SweepError::Paused);
        }
        let mut swept = Swept::default();
        let mut before = Vec::new();
        for page in 1..=MOST_PAGES {
            self.beat(account);
            if stop.is_cancelled() {
                return Err(SweepError::Stopped);
            }
            self.wait_while_paused(account, stop).await?;
            // At a low rate a slot may be minutes away.
            self.rest(account);
            account.pace(SWEEP_AHEAD).await;
            self.beat(account);
            let clock = timed!(&self.pool, DB_TIMEOUT, |connection| Clock::read(connection)).await?;
            // A version is as old as its request, however long the answer took.
            let requested_at = clock.now();
            let query = ListQuery { page, per_page: PER_PAGE, ..ListQuery::default() };
            let listed = match account.client.list_cdrs(&query).await {
                Ok(listed) => listed,
                Err(error) => {
                    account.list_failed(&error).await;
                    let paused = account.is_paused().await?;
                    return Err(if paused { SweepError::Paused } else { error.into() });
                }
            };
            if listed.rows.is_empty() && listed.pages.is_some_and(|pages| i64::from(page) <= pages) {
                return Err(SweepError::Odd("an empty page where its pagination promises rows"));
            }
            let (rows, end) = self.take(account, listed, requested_at, plan.down_to, &mut swept);
            let ids: Vec<_> = rows.iter().map(|row| row.cdr.call_id.clone()).collect();
            if !ids.is_empty() && ids == before {
                return Err(SweepError::Odd("the same page came twice"));
            }
            before = ids;
            self.store(&rows, &mut swept).await?;
            swept.pages = page;
            if end {
                timed!(&self.pool, DB_TIMEOUT, |connection| async {
                    account::swept(&mut *connection, account.id(), plan).await?;
                    account::answered(connection, account.id()).await
                })
                .await?;
                return Ok(swept);
            }
        }
        Err(SweepError::Endless)
    }

    /// A pause that a fetch found holds for the sweep too; a short one is waited for.
    async fn wait_while_paused(&self, account: &Account, stop: &CancellationToken) -> Result<(), SweepError> {
        for _ in 0..120 {
            self.beat(account);
            if !account.is_paused().await? {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => return Err(SweepError::Stopped),
            }
        }
        Err(SweepError::Paused)
    }

    /// The readable rows of a page, and whether the list was read far enough. By which column Vobiz sorts is unknown: only a
    /// page on which everything is older ends the sweep.
    fn take(
        &self,
        account: &Account,
        page: ListPage,
        requested_at: DateTime<Utc>,
        down_to: DateTime<Utc>,
        swept: &mut Swept,
    ) -> (Vec<Incoming>, bool) {
        swept.rows += page.rows.len();
        let short = page.rows.is_empty() || page.has_next == Some(false);
        let mut incoming = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            match row {
                Ok(cdr) if self.is_foreign(account, &cdr) => {}
                Ok(cdr) => {
                    incoming.push(Incoming::new(cdr, account.id(), Origin::Sweep, false, requested_at));
                }
                Err(error) => {
                    swept.unreadable += 1;
                    warn!(account = %account.id(), %error, "a row of the list could not be read");
                }
            }
        }
        let newest = incoming.iter().filter_map(|row| latest(&row.cdr)).max();
        (incoming, short || newest.is_some_and(|newest| newest < down_to))
    }

    fn is_foreign(&self, account: &Account, cdr: &Cdr) -> bool {
        cdr.account_id.as_ref().is_some_and(|owner| {
            owner != account.id()
                && owner.as_str().starts_with("MA_")
                && account.id().as_str().starts_with("MA_")
                && self.accounts.iter().any(|other| other.id() == owner)
        })
    }

    /// Stores a page in one transaction; one that fails on data row by row.
    async fn store(&self, rows: &[Incoming], swept: &mut Swept) -> Result<(), SweepError> {
        let rows: Vec<&Incoming> = rows.iter().collect();
        match self.commit(&rows).await {
            Ok(done) => self.count(swept, done),
            Err(error) if error.fault() == Fault::Data => {
                for row in rows {
                    match self.commit(&[row]).await {
                        Ok(done) => self.count(swept, done),
                        Err(error) if error.fault() == Fault::Data => {
                            swept.unreadable += 1;
                            warn!(call_id = %row.cdr.call_id, %error, "Postgres refuses this row of the list");
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn count(&self, swept: &mut Swept, (done, recovered): (Upserted, usize)) {
        swept.new += done.new;
        swept.revised += done.revised;
        swept.recovered += recovered;
        self.metrics.recovered.inc_by(recovered as u64);
    }

    async fn commit(&self, rows: &[&Incoming]) -> Result<(Upserted, usize), db::DbError> {
        let mut tries = 0;
        loop {
            let result = timed!(&self.pool, DB_TIMEOUT, |connection| store(connection, rows)).await;
            tries += 1;
            match result {
                Err(error) if error.fault() == Fault::Retry && tries < 5 => {}
                result => return result,
            }
        }
    }
}

/// Stores rows and pays their debts; also says how many of the new ones nothing had owed.
async fn store(connection: &mut PgConnection, rows: &[&Incoming]) -> Result<(Upserted, usize), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let done = cdr::upsert(&mut transaction, rows).await?;
    let mut call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    call_ids.sort_unstable();
    queue::lock(&mut transaction, &call_ids).await?;
    let paid = queue::complete(&mut transaction, &call_ids).await?;
    transaction.commit().await?;
    // A call that is owed although it is stored already is rare: between a sweep and the lease that finds it so.
    let recovered = done.new.saturating_sub(usize::try_from(paid).unwrap_or(usize::MAX));
    Ok((done, recovered))
}

fn latest(cdr: &Cdr) -> Option<DateTime<Utc>> {
    let fields = &cdr.fields;
    [fields.start_time, fields.end_time, fields.created_at].into_iter().flatten().max()
}
