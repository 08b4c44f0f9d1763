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
use crate::account::Account;
use crate::db::base::work_lease::{LeaseSession, LeasedWork, WorkLease};
use crate::db::queue::backlog::{self, Backlog};
use crate::db::timed;
use crate::list::{self, DB_TIMEOUT, ListError, ListReader, ListWalk, MOST_PAGES, StoredPage};
use crate::watch::heartbeat::Heartbeat;

/// Between two polls for a backlog.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A reservation outlives its last page by this.
const RESERVATION: Duration = Duration::from_secs(60);
/// The first pause after a drain that was not worth it, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// A page that pays fewer calls than this is no better than fetching them.
const WORTH: u64 = 3;
/// An announced call may lie this much deeper in the list than its callback came.
const LATE_CALLBACK: TimeDelta = TimeDelta::hours(1);

/// What a drain did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Pages read.
    pub pages: u32,
    /// Owed calls that they paid.
    pub paid: u64,
    /// Calls that were released: the list did not show them, or they are fetched sooner than found.
    pub left: u64,
}

impl Drained {
    /// Whether it was clearly cheaper than fetching singly.
    pub fn was_worth_it(&self) -> bool {
        self.paid >= 2 * u64::from(self.pages)
    }
}

/// How far a drain has come: decides, from numbers alone, whether it goes on.
#[derive(Debug, Clone, Copy)]
struct DrainProgress {
    drained: Drained,
    /// What the last two pages paid.
    recent: [u64; 2],
}

impl DrainProgress {
    fn new(calls: u64) -> Self {
        Self { drained: Drained { left: calls, ..Drained::default() }, recent: [WORTH, WORTH] }
    }

    /// A page out of turn, read for calls that are not reserved.
    fn count(&mut self, paid: u64, reserved: u64) {
        self.drained.pages += 1;
        self.drained.paid += paid;
        self.drained.left = self.drained.left.saturating_sub(reserved);
    }

    /// The next page: what it paid, and how much of that was reserved.
    fn read(&mut self, paid: u64, reserved: u64) {
        self.count(paid, reserved);
        self.recent = [self.recent[1], paid];
    }

    /// Whether the next page is worth its request: all the pages that are left cost less than fetching the calls that are left,
    /// or the list is dense with owed calls just here.
    fn goes_on(&self, pages_left: Option<u64>) -> bool {
        let left = self.drained.left;
        let cheaper = pages_left.is_some_and(|pages| 0 < pages && pages < left);
        cheaper || (left >= WORTH && self.recent.iter().sum::<u64>() >= WORTH)
    }
}

/// How many pages lie before a goal, if the list goes on as it has come: `None` if that cannot be said, 0 once it is reached.
fn pages_before(
    read: u32,
    newest: Option<DateTime<Utc>>,
    reached: Option<DateTime<Utc>>,
    goal: DateTime<Utc>,
) -> Option<u64> {
    let (newest, reached) = (newest?, reached?);
    let (come, to_go) = ((newest - reached).num_milliseconds(), (reached - goal).num_milliseconds());
    if to_go <= 0 {
        return Some(0);
    }
    u64::try_from(i128::from(read) * i128::from(to_go) / i128::from(come.max(1))).ok()
}

/// The fewer pages of what the list says and what its pace says; only the list knows what lies beyond the goal.
fn pages_left(page: u32, listed: Option<i64>, estimated: Option<u64>) -> Option<u64> {
    let listed = listed.and_then(|pages| u64::try_from(pages - i64::from(page)).ok());
    match (listed, estimated) {
        (Some(listed), Some(estimated @ 1..)) => Some(listed.min(estimated)),
        (Some(listed), _) => Some(listed),
        (None, estimated) => estimated,
    }
}

/// How long nobody drains after a drain: `unpaid` of them in a row were not worth it, the last of which took so long.
fn pause_after(unpaid: u32, took: Duration) -> Duration {
    match unpaid {
        0 => POLL_EVERY,
        // At most half of the time goes into drains that pay nothing.
        _ => PAUSE.0.saturating_mul(1 << (unpaid - 1).min(10)).min(PAUSE.1).max(took),
    }
}

/// A drain under way, or a sweep that does its work. Its owner holds the lock of the drain.
#[derive(Debug)]
pub(super) struct Drain<'a> {
    reader: ListReader<'a>,
    backlog: Backlog,
    progress: DrainProgress,
    /// The newest instant of the list.
    newest: Option<DateTime<Utc>>,
    /// When to poll next whether fresh calls have become a backlog.
    next_poll: Instant,
}

impl<'a> Drain<'a> {
    /// Reserves a backlog.
    pub(super) async fn begin(reader: ListReader<'a>, backlog: Backlog) -> Result<Self, ListError> {
        let calls = u64::try_from(backlog.calls).unwrap_or(0);
        let progress = DrainProgress::new(calls);
        let drain = Self { reader, backlog, progress, newest: None, next_poll: Instant::now() + POLL_EVERY };
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
        info!(%account, pages, paid, left, "drained a backlog by pages of the list");
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
                    unpaid += u32::from(!error.is_clock_behind());
                    pause_after(unpaid, began.elapsed())
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
        let Some(backlog) = reader.backlog().await? else { return Ok(None) };
        if account.is_paused().await? {
            return Ok(None);
        }
        if backlog.calls >= super::SWEEP_DRAINS_FROM
            && let Some((swept, drained)) = self.sweep_with(account, heartbeat, stop).await?
        {
            super::log_swept(account, &swept);
            return Ok(drained);
        }
        let Some(mut session) = LeaseSession::open(&self.pool, LeasedWork::Long).await? else {
            return Ok(None);
        };
        let taken =
            list::in_time(WorkLease::take(session.connection(), &backlog::lease_name(account.id()))).await;
        let result = match &taken {
            Ok(Some(lease)) => {
                let work = async {
                    // The replica that held the lease before may just have drained.
                    match reader.backlog().await? {
                        Some(backlog) => Self::drain(reader, backlog).await.map(Some),
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

    async fn drain(reader: ListReader<'_>, backlog: Backlog) -> Result<Drained, ListError> {
        if !reader.account.ensure_access().await {
            return Err(ListError::Paused);
        }
        let mut drain = Drain::begin(reader, backlog).await?;
        let result = drain.read_on().await;
        let drained = drain.release().await;
        if let Err(ListError::Endless(_)) = result {
            warn!(account = %reader.account.id(), "a drain gave up after {MOST_PAGES} pages");
        }
        result.map(|()| drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(calls: u64, pages: &[(u64, u64)]) -> DrainProgress {
        let mut progress = DrainProgress::new(calls);
        for (paid, reserved) in pages {
            progress.read(*paid, *reserved);
        }
        progress
    }

    #[test]
    fn a_drain_goes_on_while_a_page_is_the_cheaper_request() {
        for (calls, pages, pages_left, goes_on) in [
            // An outage: more calls than pages, whatever the last ones paid.
            (200_000, vec![(100, 100)], Some(6000), true),
            (200_000, vec![(0, 0), (0, 0), (0, 0)], Some(1900), true),
            // A small backlog in a large list: as long as the pages are dense.
            (40, vec![(90, 30)], Some(6000), true),
            (40, vec![(90, 30), (4, 4)], Some(6000), true),
            (40, vec![(0, 0)], Some(6000), true),
            (40, vec![(0, 0), (0, 0)], Some(6000), false),
            (40, vec![(90, 30), (0, 0), (2, 2)], Some(6000), false),
            (40, vec![(90, 30), (0, 0), (2, 2)], Some(7), true),
            // Nothing left, or so little that a page cannot beat fetching it.
            (40, vec![(90, 40)], Some(1), false),
            (40, vec![(90, 38)], Some(6000), false),
            (40, vec![(90, 38)], None, false),
            // Past the last of them, by the pace of the list.
            (40, vec![(0, 0), (2, 2)], Some(0), false),
            (40, vec![(0, 0), (3, 0)], Some(0), true),
            (40, vec![(90, 30)], None, true),
        ] {
            let progress = progress(calls, &pages);
            assert_eq!(progress.goes_on(pages_left), goes_on, "{calls} {pages:?} {pages_left:?}");
        }
    }

    #[test]
    fn the_pace_of_the_list_says_how_far_the_goal_is() {
        let at = |minutes: i64| DateTime::from_timestamp(minutes * 60, 0);
        let goal = at(100).unwrap();
        assert_eq!(pages_before(10, at(200), at(190), goal), Some(90));
        assert_eq!(pages_before(10, at(200), at(100), goal), Some(0));
        assert_eq!(pages_before(10, at(200), at(50), goal), Some(0));
        assert_eq!(pages_before(10, None, at(190), goal), None);
        // A page all of whose rows are of one instant is no pace: as far as can be.
        assert!(pages_before(1, at(200), at(200), goal).unwrap() > 1_000_000);
        // A row that comes out of order.
        assert!(pages_before(1, at(190), at(200), goal).unwrap() > 1_000_000);
        for (page, listed, estimated, left) in [
            (10, Some(4500), Some(90), Some(90)),
            (10, Some(20), Some(90), Some(10)),
            (10, Some(20), Some(0), Some(10)),
            (10, None, Some(90), Some(90)),
            (10, None, Some(0), Some(0)),
            (10, Some(5), None, None),
            (10, None, None, None),
        ] {
            assert_eq!(pages_left(page, listed, estimated), left, "{page} {listed:?} {estimated:?}");
        }
    }

    #[test]
    fn drains_that_pay_nothing_come_ever_less_often() {
        let pauses: Vec<u64> =
            (0..7).map(|unpaid| pause_after(unpaid, Duration::from_secs(5)).as_secs()).collect();
        assert_eq!(pauses, [1, 30, 60, 120, 240, 480, 600]);
        assert_eq!(pause_after(1, Duration::from_secs(900)), Duration::from_secs(900));
        assert_eq!(pause_after(0, Duration::from_secs(900)), POLL_EVERY);
        assert_eq!(pause_after(u32::MAX, Duration::ZERO), PAUSE.1);
        let drained = |pages, paid| Drained { pages, paid, left: 0 };
        assert!(drained(10, 20).was_worth_it() && !drained(10, 19).was_worth_it());
    }
}
