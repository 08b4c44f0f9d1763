//! List, and store what is missing: the way in which a lost callback is healed, and the way out of a backlog.
//!
//! Every few minutes each account's CDR list is read newest first, page by page, down to the start of the last completed
//! sweep minus an overlap (`plan_sweep` in `db/account/sweep.rs`), whatever is known on the way. Rows go through the same upsert
//! as fetched CDRs and pay the same debts. Rows that shift between pages while calls end are harmless: they are seen twice.
//!
//! One sweeper at a time over all replicas, by a lease ([`work_lease`](crate::db::base::work_lease)); when it dies, the lease is free.
//!
//! When more calls are due than single fetches get through, they are resolved by pages of the list: by a drain, or by the sweep
//! itself if one is due (`drain.rs`).

mod drain;
mod drain_progress;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::account::{Account, Priority};
use crate::db::account::{self, SweepPlan};
use crate::db::base::work_lease::{LeaseSession, LeasedWork, WorkLease, fenced};
use crate::db::cdr::Origin;
use crate::db::queue::backlog;
use crate::db::{DbError, timed};
use crate::list::{
    DB_TIMEOUT, Found, LONGEST_BACKOFF, ListError, ListReader, ListTally, ListWalk, MOST_PAGES, PER_PAGE,
    in_time,
};
use crate::watch::condition::Condition;
use crate::watch::heartbeat::{Heartbeat, Heartbeats};
use crate::watch::metrics::Metrics;
use drain::Drain;
pub use drain_progress::Drained;

/// A page is asked for, answered and stored within this, or the sweep is stalled.
const STALL_AFTER: Duration = Duration::from_secs(180);
/// A clock that is behind is looked at again after this.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// From so many calls on it is worth that a sweep that is due is the drain too, so that their pages are not read twice. For
/// fewer, the wide overlap must not be put off.
const SWEEP_DRAINS_FROM: i64 = 10 * PER_PAGE as i64;

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

impl Swept {
    fn add(&mut self, found: Found) {
        self.pages += 1;
        self.rows += found.rows;
        self.new += found.new;
        self.recovered += found.recovered;
        self.revised += found.revised;
        self.unreadable += found.unreadable;
    }
}

/// The sweeper of some accounts.
#[derive(Debug)]
pub struct Sweeper {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    every: Duration,
    metrics: Metrics,
    /// In the order of the accounts.
    loops: Vec<Loops>,
    tally: ListTally,
}

/// The heartbeats of an account's loops.
#[derive(Debug)]
struct Loops {
    sweep: Arc<Heartbeat>,
    drain: Arc<Heartbeat>,
}

impl Sweeper {
    /// A sweeper that sweeps each account every so often.
    pub fn new(pool: PgPool, accounts: Vec<Arc<Account>>, every: Duration, metrics: Metrics) -> Self {
        let heartbeat = |flow: &str, account: &Account| {
            let heartbeat = metrics.heartbeats.start(&format!("{flow} {}", account.id()), STALL_AFTER);
            heartbeat.idle();
            heartbeat
        };
        let loops = accounts
            .iter()
            .map(|account| Loops { sweep: heartbeat("sweep", account), drain: heartbeat("drain", account) })
            .collect();
        Self { pool, accounts, every, metrics, loops, tally: ListTally::default() }
    }

    /// Sweeps and drains until told to stop, each account by itself.
    pub async fn run(&self, stop: CancellationToken) {
        let loops = self.accounts.iter().zip(&self.loops).map(|(account, loops)| {
            join(self.sweep_on(account, &loops.sweep, &stop), self.drain_on(account, &loops.drain, &stop))
        });
        join_all(loops).await;
    }

    /// Sweeps an account until told to stop.
    async fn sweep_on(&self, account: &Account, heartbeat: &Heartbeat, stop: &CancellationToken) {
        let tick = self.tick();
        let mut failed = 0;
        let condition = self.metrics.condition_of(
            "the CDR list cannot be swept, so lost callbacks are not healed",
            "it is tried again; the error says whose turn it is",
            account.id().as_str(),
        );
        while !stop.is_cancelled() {
            heartbeat.beat();
            if self.waits_for_clock(account, &condition, heartbeat, stop).await {
                continue;
            }
            match self.sweep_with(account, heartbeat, stop).await {
                Err(ListError::Stopped) => {}
                // Not due, paused, or another replica's: the next one may begin as soon as it can.
                Ok(None) => {
                    failed = 0;
                    if condition.is_raised() && self.is_swept(account).await {
                        condition.clear();
                    }
                }
                // The pause itself was said.
                Err(ListError::Paused) => failed += 1,
                Ok(Some((swept, _))) => {
                    failed = 0;
                    condition.clear();
                    log_swept(account, &swept);
                }
                Err(error) => {
                    condition.raise_for(&error.brief(), error.cure());
                    // Where Postgres is away, nothing of Vobiz is to be spared: it goes on as soon as Postgres answers.
                    let is_away = error.is_of_postgres() && !account.has_postgres().await;
                    failed = if is_away { 0 } else { failed + 1 };
                }
            }
            // A list that keeps failing far down must not be read from its top again and again.
            heartbeat.idle();
            let backoff = tick.saturating_mul(1 << failed.min(10)).min(LONGEST_BACKOFF.max(tick));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Says it and waits a moment where nothing that is listed could be stored.
    async fn waits_for_clock(
        &self,
        account: &Account,
        condition: &Condition,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> bool {
        let Err(error @ DbError::ClockBehind(_)) = account.check_clock_again().await else { return false };
        let error = ListError::from(error);
        condition.raise_for(&error.brief(), error.cure());
        heartbeat.idle();
        tokio::select! {
            () = tokio::time::sleep(CLOCK_EVERY) => {}
            () = stop.cancelled() => {}
        }
        true
    }

    /// Whether no sweep of an account is due: one that failed stays due, so another replica has swept.
    async fn is_swept(&self, account: &Account) -> bool {
        let plan = timed!(&self.pool, DB_TIMEOUT, |connection| account::plan_sweep(
            connection,
            account.id(),
            self.every
        ));
        plan.await.is_ok_and(|plan| plan.is_none())
    }

    /// Between two polls whether something is due.
    fn tick(&self) -> Duration {
        (self.every / 10).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// The heartbeat of an account; for one that is not ours, a new one that nobody watches.
    fn heartbeat(&self, account: &Account, of: fn(&Loops) -> &Arc<Heartbeat>) -> Arc<Heartbeat> {
        let place = self.accounts.iter().position(|ours| ours.id() == account.id());
        let ours = place.and_then(|place| self.loops.get(place)).map(of);
        ours.map_or_else(|| Heartbeats::default().start("", STALL_AFTER), Arc::clone)
    }

    fn reader<'a>(
        &'a self,
        flow: &'static str,
        account: &'a Account,
        heartbeat: &'a Heartbeat,
        stop: &'a CancellationToken,
    ) -> ListReader<'a> {
        let (pool, metrics, accounts) = (&self.pool, &self.metrics, &self.accounts);
        let (priority, origin) = (Priority::Sweep, Origin::Sweep);
        let (tally, most_pages) = (&self.tally, MOST_PAGES);
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

    /// Sweeps an account if a sweep is due, it is not paused, and no other replica is at it.
    pub async fn sweep_if_due(
        &self,
        account: &Account,
        stop: &CancellationToken,
    ) -> Result<Option<Swept>, ListError> {
        let swept = self.sweep_with(account, &self.heartbeat(account, |loops| &loops.sweep), stop).await?;
        Ok(swept.map(|(swept, _)| swept))
    }

    /// The same, with its heartbeat; also says what the sweep did as a drain, if it was one.
    async fn sweep_with(
        &self,
        account: &Account,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Result<Option<(Swept, Option<Drained>)>, ListError> {
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
        let Some(mut session) =
            LeaseSession::open(&self.pool, LeasedWork::Sweep, &account::lease_name(account.id())).await?
        else {
            return Ok(None);
        };
        let taken = in_time(WorkLease::take(session.connection(), &account::lease_name(account.id()))).await;
        let result = match &taken {
            Ok(Some(lease)) => {
                let reader = self.reader("sweep", account, heartbeat, stop);
                let sweep = Box::pin(self.sweep(reader, plan, lease, &mut session));
                lease.hold(&self.pool, sweep).await.map(Some)
            }
            Ok(None) | Err(_) => Ok(None),
        };
        session.close(taken?).await;
        result
    }

    /// Reads the list and stores what is missing. If it meets a deep backlog, it is the drain too: it takes the narrow overlap and
    /// reserves the calls that are due, for as long as a drain would.
    async fn sweep(
        &self,
        reader: ListReader<'_>,
        plan: SweepPlan,
        lease: &WorkLease,
        session: &mut LeaseSession,
    ) -> Result<(Swept, Option<Drained>), ListError> {
        let account = reader.account;
        if !account.ensure_access().await {
            return Err(ListError::Paused);
        }
        let backlog = reader.backlog().await?.filter(|backlog| backlog.calls >= SWEEP_DRAINS_FROM);
        let (mut swept, mut drained) = (Swept::default(), None);
        let draining = match backlog {
            Some(_) => {
                in_time(WorkLease::take(session.connection(), &backlog::lease_name(account.id()))).await?
            }
            None => None,
        };
        let Some((drain_lease, backlog)) = draining.zip(backlog) else {
            Box::pin(sweep_down(reader, &plan, (lease, session), &mut None, &mut drained, &mut swept))
                .await?;
            return Ok((swept, drained));
        };
        let plan = plan.narrowed();
        let mut drain = Some((&drain_lease, Drain::begin(reader, &drain_lease, backlog).await?));
        let work =
            Box::pin(sweep_down(reader, &plan, (lease, session), &mut drain, &mut drained, &mut swept));
        let result = drain_lease.hold(&self.pool, work).await;
        if let Some((_, drain)) = drain {
            drained = Some(drain.release().await);
        }
        in_time(drain_lease.give_back(session.connection())).await?;
        result.map(|()| (swept, drained))
    }
}

/// Reads the list down to `plan.down_to`. By which column Vobiz sorts is unknown: only a page on which everything is older ends
/// the sweep.
async fn sweep_down<'a>(
    reader: ListReader<'a>,
    plan: &SweepPlan,
    (lease, session): (&WorkLease, &mut LeaseSession),
    drain: &mut Option<(&WorkLease, Drain<'a>)>,
    drained: &mut Option<Drained>,
    swept: &mut Swept,
) -> Result<(), ListError> {
    let account = reader.account;
    let mut walk = ListWalk::new(reader, "sweep", None);
    for number in 1.. {
        let page = walk.next(drain.as_ref().map(|(_, drain)| drain.due_to())).await?;
        swept.add(page.found);
        if let Some((_, draining)) = drain
            && !draining.goes_on(number, &page, false).await?
            && let Some((drain_lease, ended)) = drain.take()
        {
            // From here on it is a sweep like any other.
            *drained = Some(ended.release().await);
            in_time(drain_lease.give_back(session.connection())).await?;
        }
        if page.is_last || page.newest.is_some_and(|newest| newest < plan.down_to) {
            // One that lost its lease may be older than the one that holds it now: its mark would leave a gap.
            in_time(fenced!(lease, session.connection(), |transaction| account::swept(
                transaction,
                account.id(),
                plan
            )))
            .await?;
            return walk.end().await;
        }
    }
    Err(ListError::Endless(MOST_PAGES))
}

fn log_swept(account: &Account, swept: &Swept) {
    let account = account.id();
    let &Swept { pages, rows, new, recovered, revised, unreadable } = swept;
    if new + revised + unreadable > 0 {
        info!(%account, pages, rows, new, recovered, revised, unreadable, "swept");
    } else {
        debug!(%account, pages, rows, "swept");
    }
}
