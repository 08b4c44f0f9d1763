//! Draining a backlog by list: it is resolved by pages of the list, a hundred calls a request, instead of one request a call.
//!
//! A drain reserves the calls that are due when it begins ([`crate::db::queue::backlog`]), reads the list of their days newest first, and
//! releases what the list does not show, which is then fetched singly. Calls that fall due meanwhile are fetched singly all
//! along; if they become a backlog themselves, the head of the list is read in between.
//!
//! It ends as soon as single fetches are the cheaper way ([`DrainProgress`]), so it never costs much more than they would.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Sweeper;
use super::drain_progress::{
    DrainProgress, Drained, PAUSE, POLL_EVERY, WORTH, pages_before, pages_left, pause_after,
};
use crate::account::Account;
use crate::db::base::work_lease::{LeaseSession, LeasedWork, WorkLease};
use crate::db::queue::backlog::{self, Backlog};
use crate::db::timed;
use crate::list::{self, DB_TIMEOUT, FoundBacklog, ListError, ListReader, ListWalk, MOST_PAGES, StoredPage};
use crate::watch::heartbeat::Heartbeat;

/// A reservation outlives its last page by this.
const RESERVATION: Duration = Duration::from_secs(60);
/// An announced call may lie this much deeper in the list than its callback came.
const LATE_CALLBACK: TimeDelta = TimeDelta::hours(1);

/// A drain under way, or a sweep that does its work. Its owner holds the lock of the drain.
#[derive(Debug)]
pub(super) struct Drain<'a> {
    reader: ListReader<'a>,
    lease: &'a WorkLease,
    backlog: Backlog,
    progress: DrainProgress,
    /// The newest instant of the list.
    newest: Option<DateTime<Utc>>,
    /// When to poll next whether fresh calls have become a backlog.
    next_poll: Instant,
}

impl<'a> Drain<'a> {
    /// Reserves a backlog.
    pub(super) async fn begin(
        reader: ListReader<'a>,
        lease: &'a WorkLease,
        backlog: Backlog,
    ) -> Result<Self, ListError> {
        let calls = u64::try_from(backlog.calls).unwrap_or(0);
        let progress = DrainProgress::new(calls);
        let drain =
            Self { reader, lease, backlog, progress, newest: None, next_poll: Instant::now() + POLL_EVERY };
        drain.reserve().await?;
        Ok(drain)
    }

    /// The reservation.
    pub(super) fn due_to(&self) -> DateTime<Utc> {
        self.backlog.due_to
    }

    async fn reserve(&self) -> Result<(), ListError> {
        let account = self.reader.account.id();
        timed!(self.reader.pool, DB_TIMEOUT, |connection| backlog::reserve(
            connection,
            self.lease,
            account,
            self.backlog.due_to,
            RESERVATION
        ))
        .await?;
        Ok(())
    }

    /// After a page: whether to go on. Then the reservation is renewed, and the head of the list is read first if fresh calls wait.
    /// `bounded`: the list ends a little below the backlog, so its own count of pages means something.
    pub(super) async fn goes_on(
        &mut self,
        number: u32,
        page: &StoredPage,
        bounded: bool,
    ) -> Result<bool, ListError> {
        self.progress.read(page.found.paid, page.found.reserved);
        self.newest = self.newest.max(page.newest);
        let goal = self.backlog.oldest - LATE_CALLBACK;
        let estimated = pages_before(number, self.newest, page.oldest, goal);
        let left = pages_left(number, page.pages.filter(|_| bounded), estimated);
        if page.is_last || !self.progress.goes_on(left) {
            return Ok(false);
        }
        self.reserve().await?;
        self.relieve().await?;
        Ok(true)
    }

    /// Once a second, sees whether the calls that fell due since are a backlog too, and reads the head of the list for them: they
    /// must not wait for the end of a deep drain.
    async fn relieve(&mut self) -> Result<(), ListError> {
        if Instant::now() < self.next_poll {
            return Ok(());
        }
        self.next_poll = Instant::now() + POLL_EVERY;
        if !self.reader.has_backlog().await? {
            return Ok(());
        }
        let mut head = Drained::default();
        let mut walk = ListWalk::new(self.reader, "drain", None);
        for page in 1..=MOST_PAGES {
            let read = walk.next(Some(self.due_to())).await?;
            self.progress.count(read.found.paid, read.found.reserved);
            head = Drained { pages: page, paid: head.paid + read.found.paid, left: 0 };
            self.reserve().await?;
            if read.is_last || read.found.paid < WORTH {
                break;
            }
        }
        if !head.was_worth_it() && self.reader.has_backlog().await? {
            self.next_poll = Instant::now() + PAUSE.0;
        }
        Ok(())
    }

    /// Reads the list of the backlog's days until the drain ends.
    async fn read_on(&mut self) -> Result<(), ListError> {
        // A day more on each side: neither the zone of Vobiz's days nor the time that puts a call into one is known, and a call may
        // have begun the day before its callback came.
        let first = self.backlog.oldest.date_naive().pred_opt().unwrap_or(chrono::NaiveDate::MIN);
        let last = self.backlog.newest.date_naive().succ_opt().unwrap_or(chrono::NaiveDate::MAX);
        let mut walk = ListWalk::new(self.reader, "drain", Some((first, last)));
        for page in 1..=MOST_PAGES {
            let read = walk.next(Some(self.due_to())).await?;
            if !self.goes_on(page, &read, true).await? {
                return Ok(());
            }
        }
        Err(ListError::Endless(MOST_PAGES))
    }

    /// Releases the reserved calls, and says what became of the drain.
    pub(super) async fn release(self) -> Drained {
        let (account, Drained { pages, paid, left }) = (self.reader.account.id(), self.progress.drained);
        let done = timed!(self.reader.pool, DB_TIMEOUT, |connection| backlog::release(
            connection,
            account,
            self.backlog.due_to
        ));
        if let Err(error) = done.await {
            debug!(%account, %error, "a reservation could not be ended: it runs out within a minute");
        }
        if pages > 0 {
            info!(%account, pages, paid, left, "drained a backlog by pages of the list");
        }
        self.progress.drained
    }
}

impl Sweeper {
    /// Polls for a backlog of an account until told to stop.
    pub(super) async fn drain_on(&self, account: &Account, heartbeat: &Heartbeat, stop: &CancellationToken) {
        let condition = self.metrics.condition_of(
            "the CDR list cannot be drained, so a backlog is fetched call by call",
            "it is tried again; the error says whose turn it is",
            account.id().as_str(),
        );
        let mut unpaid = 0;
        while !stop.is_cancelled() {
            heartbeat.beat();
            if self.waits_for_clock(account, &condition, heartbeat, stop).await {
                continue;
            }
            let began = Instant::now();
            let wait = match self.drain_with(account, heartbeat, stop).await {
                // No backlog, paused, or another replica's.
                Ok(None) => {
                    if condition.is_raised() && self.has_no_backlog(account, heartbeat, stop).await {
                        condition.clear();
                    }
                    POLL_EVERY
                }
                Err(ListError::Paused | ListError::Stopped) => POLL_EVERY,
                Ok(Some(drained)) => {
                    condition.clear();
                    // A sweep that read the same pages may have been faster: then there is nothing to wait for.
                    let done = drained.was_worth_it() || self.has_no_backlog(account, heartbeat, stop).await;
                    unpaid = if done { 0 } else { unpaid + 1 };
                    pause_after(unpaid, began.elapsed())
                }
                Err(error) => {
                    condition.raise_for(&error.brief(), error.cure());
                    if error.is_of_postgres() && !account.has_postgres().await {
                        unpaid = 0;
                        POLL_EVERY
                    } else {
                        unpaid += 1;
                        pause_after(unpaid, began.elapsed())
                    }
                }
            };
            heartbeat.idle();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Whether nothing is left that would be drained.
    async fn has_no_backlog(
        &self,
        account: &Account,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> bool {
        let reader = self.reader("drain", account, heartbeat, stop);
        reader.has_backlog().await.is_ok_and(|backlog| !backlog)
    }

    /// Drains the backlog of an account if there is one, the account is not paused, and nobody else is at it. If a sweep is
    /// due as well and the backlog is deep, the sweep is the drain.
    pub async fn drain_if_backlogged(
        &self,
        account: &Account,
        stop: &CancellationToken,
    ) -> Result<Option<Drained>, ListError> {
        self.drain_with(account, &self.heartbeat(account, |loops| &loops.drain), stop).await
    }

    async fn drain_with(
        &self,
        account: &Account,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Result<Option<Drained>, ListError> {
        let reader = self.reader("drain", account, heartbeat, stop);
        let backlog = match reader.look().await? {
            FoundBacklog::Whole(backlog) => backlog,
            FoundBacklog::Abandoned => {
                self.void_reservation(account).await?;
                return Ok(None);
            }
            FoundBacklog::Nothing => return Ok(None),
        };
        if account.is_paused().await? {
            return Ok(None);
        }
        if backlog.calls >= super::SWEEP_DRAINS_FROM
            && let Some((swept, drained)) = self.sweep_with(account, heartbeat, stop).await?
        {
            super::log_swept(account, &swept);
            return Ok(drained);
        }
        let Some(mut session) =
            LeaseSession::open(&self.pool, LeasedWork::Long, &backlog::lease_name(account.id())).await?
        else {
            return Ok(None);
        };
        let taken =
            list::in_time(WorkLease::take(session.connection(), &backlog::lease_name(account.id()))).await;
        let result = match &taken {
            Ok(Some(lease)) => {
                let work = async {
                    // The replica that held the lease before may just have drained.
                    match reader.backlog().await? {
                        Some(backlog) => Self::drain(reader, lease, backlog).await.map(Some),
                        None => Ok(None),
                    }
                };
                lease.hold(&self.pool, Box::pin(work)).await
            }
            Ok(None) | Err(_) => Ok(None),
        };
        session.close(taken?).await;
        result
    }

    /// Ends the reservation of a replica that died in the midst of a drain, so that its calls are leased, or drained, at once.
    async fn void_reservation(&self, account: &Account) -> Result<(), ListError> {
        let Some(mut session) =
            LeaseSession::open(&self.pool, LeasedWork::Long, &backlog::lease_name(account.id())).await?
        else {
            return Ok(());
        };
        let id = account.id();
        let taken = list::in_time(WorkLease::take(session.connection(), &backlog::lease_name(id))).await;
        let voided = match &taken {
            Ok(Some(lease)) => list::in_time(backlog::void(session.connection(), lease, id)).await,
            Ok(None) | Err(_) => Ok(false),
        };
        session.close(taken?).await;
        if voided? {
            info!(account = %id, "a drain was left by its process: the calls that it had reserved are free again");
        }
        Ok(())
    }

    async fn drain(
        reader: ListReader<'_>,
        lease: &WorkLease,
        backlog: Backlog,
    ) -> Result<Drained, ListError> {
        if !reader.account.ensure_access().await {
            return Err(ListError::Paused);
        }
        let mut drain = Drain::begin(reader, lease, backlog).await?;
        let result = drain.read_on().await;
        let drained = drain.release().await;
        if let Err(ListError::Endless(_)) = result {
            warn!(account = %reader.account.id(), "a drain gave up after {MOST_PAGES} pages");
        }
        result.map(|()| drained)
    }
}
