//! Lists a range of days because an operator asks for it: the history before the service was there, or what a restore lost.
//! Each day is a check like any other (`check.rs`), from the last day back to the first, so that the ledger grows without a gap. What a day
//! brings may change one that was compared before it (a call over midnight; a zone that its list tells): such days are compared once more.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Checked, Ledger};
use crate::account::Account;
use crate::db::Fault;
use crate::db::cdr::Origin;
use crate::db::ledger::backfill::{self, DayRange, Reopened};
use crate::db::ledger::{CheckCause, Due};
use crate::db::timed;
use crate::list::{DB_TIMEOUT, ListError, ListTally};
use crate::vobiz::{FetchError, ListQuery};

/// Between two tries of a day whose list cannot be read: this, doubling.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A list that is odd so often stays odd: the other days go on without it.
const ODD: u32 = 3;
/// From so many new calls on, what Postgres knows of its tables is out of date.
const MANY: usize = 1000;
/// To look at tables of any size takes it less.
const ANALYZE_TIMEOUT: Duration = Duration::from_secs(600);
/// Days are reopened by others, and these by others again: so often in the end.
const ROUNDS: u32 = 3;

/// What listing a range brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Days listed.
    pub days: u32,
    /// Days of the range that are not settled in the end, although they have been over for an hour.
    pub unsettled: u32,
    /// Days of the range that have not been over for an hour: sooner they cannot be settled.
    pub not_over: u32,
    /// Days whose list could not be read.
    pub unread: u32,
    /// Calls listed.
    pub calls: u64,
    /// Calls stored for the first time.
    pub new: usize,
    /// Calls with a new version.
    pub revised: usize,
    /// Pages asked for.
    pub requests: u32,
}

impl Backfilled {
    fn add(&mut self, checked: &Checked) {
        self.days += 1;
        self.calls += checked.calls;
        self.new += checked.new;
        self.revised += checked.revised;
        self.requests += checked.requests;
    }
}

impl Ledger {
    /// How many calls Vobiz lists for a range of days: one request.
    pub async fn count(&self, account: &Account, range: &DayRange) -> Result<Option<i64>, ListError> {
        if !account.ensure_access().await {
            return Err(ListError::Paused);
        }
        account.wait_for_slot(crate::account::Priority::Backfill).await;
        let query =
            ListQuery { page: 1, per_page: 1, days: Some((range.first, range.last)), ..ListQuery::default() };
        Ok(account.client.list_cdrs(&query).await?.total)
    }

    /// Lists the rest of a range, and moves the beginning of the ledger with it. Goes on through outages and pauses, until told
    /// to stop.
    pub async fn backfill(
        &self,
        account: &Account,
        range: &DayRange,
        stop: &CancellationToken,
    ) -> Result<Backfilled, ListError> {
        let (mut done, mut began) = (Backfilled::default(), None);
        for day in
            range.first.iter_days().take_while(|day| *day <= range.next).collect::<Vec<_>>().iter().rev()
        {
            let due = Due { day: *day, cause: CheckCause::Backfill };
            let unread = done.unread;
            self.list_retrying(account, due, Origin::Backfill, None, stop, &mut done).await?;
            if *day == range.first {
                // Before the range is finished: one that is stopped meanwhile goes on here.
                let why = (due.cause, Origin::Backfill);
                self.compare_reopened(account, (range.first, range.last), why, stop, &mut done).await?;
            }
            if done.unread > unread {
                // The range stays unfinished at this day.
                continue;
            }
            let moved = timed!(&self.pool, DB_TIMEOUT, |connection| async {
                backfill::advance(&mut *connection, range.id, *day).await?;
                backfill::extend_ledger(connection, account.id()).await
            });
            began = moved.await?.or(began);
        }
        if let Some(since) = began {
            info!(account = %account.id(), %since, "the ledger begins earlier now");
        }
        if done.new >= MANY {
            self.analyze().await;
        }
        self.count_unsettled(account, (range.first, range.last), &mut done).await?;
        Ok(done)
    }

    /// Has Postgres look at what was filled; if it may not or cannot, it does so by itself in a while.
    async fn analyze(&self) {
        let analyzed = timed!(&self.pool, ANALYZE_TIMEOUT, |connection| backfill::analyze(connection));
        match analyzed.await {
            Ok(true) => {}
            Ok(false) => debug!("not the owner of the tables: what they hold is looked at by autovacuum"),
            Err(error) => debug!(%error, "what the tables hold is looked at by autovacuum"),
        }
    }

    /// The same range once those of other accounts were listed as well: their lists may show calls of this one, and change its days.
    pub async fn settle_again(
        &self,
        account: &Account,
        range: &DayRange,
        stop: &CancellationToken,
        done: &mut Backfilled,
    ) -> Result<(), ListError> {
        let (days, why) = ((range.first, range.last), (CheckCause::Backfill, Origin::Backfill));
        self.compare_reopened(account, days, why, stop, done).await?;
        self.count_unsettled(account, days, done).await
    }

    /// Compares the days of a range once more that changed here after they were compared: a day that was listed later brought a call that
    /// reaches into them, or told how Vobiz cuts its days.
    async fn compare_reopened(
        &self,
        account: &Account,
        (first, last): (NaiveDate, NaiveDate),
        (cause, origin): (CheckCause, Origin),
        stop: &CancellationToken,
        done: &mut Backfilled,
    ) -> Result<(), ListError> {
        for _ in 0..ROUNDS {
            let id = account.id();
            let days =
                timed!(&self.pool, DB_TIMEOUT, |connection| backfill::reopened(connection, id, first, last))
                    .await?;
            if days.is_empty() {
                break;
            }
            for day in days {
                let mut again = Backfilled::default();
                let due = Due { day, cause };
                self.list_retrying(account, due, origin, None, stop, &mut again).await?;
                done.requests += again.requests;
                done.new += again.new;
                done.revised += again.revised;
            }
        }
        Ok(())
    }

    /// How the days of a range stand in the end, whatever was seen of them on the way.
    async fn count_unsettled(
        &self,
        account: &Account,
        (first, last): (NaiveDate, NaiveDate),
        done: &mut Backfilled,
    ) -> Result<(), ListError> {
        let id = account.id();
        let unsettled =
            timed!(&self.pool, DB_TIMEOUT, |connection| backfill::unsettled(connection, id, first, last));
        (done.unsettled, done.not_over) = unsettled.await?;
        Ok(())
    }

    /// Lists every day since an instant again, the last one first: after a restore.
    pub async fn recover(
        &self,
        account: &Account,
        since: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<Backfilled, ListError> {
        let Reopened { first, last, at } =
            timed!(&self.pool, DB_TIMEOUT, |connection| backfill::reopen_since(
                connection,
                account.id(),
                since
            ))
            .await?;
        let mut done = Backfilled::default();
        for day in first.iter_days().take_while(|day| *day <= last).collect::<Vec<_>>().into_iter().rev() {
            let due = Due { day, cause: CheckCause::Recover };
            // A service that runs beside us is at these days, too.
            self.list_retrying(account, due, Origin::Manual, Some(at), stop, &mut done).await?;
        }
        let why = (CheckCause::Recover, Origin::Manual);
        self.compare_reopened(account, (first, last), why, stop, &mut done).await?;
        self.count_unsettled(account, (first, last), &mut done).await?;
        Ok(done)
    }

    /// Lists a day, again and again until it is done or turns out to be odd. A rule of its own beside `retry.rs`, which ends a call
    /// that is owed: an operator waits for these days, so an outage only delays them, and a day that stays odd is left out.
    async fn list_retrying(
        &self,
        account: &Account,
        due: Due,
        origin: Origin,
        settled_since: Option<DateTime<Utc>>,
        stop: &CancellationToken,
        done: &mut Backfilled,
    ) -> Result<(), ListError> {
        let (mut wait, mut odd) = (AGAIN.0, 0);
        loop {
            let tally = ListTally::default();
            let error = match self.check_unless(account, due, settled_since, origin, &tally, stop).await {
                Ok(checked) => {
                    if let Some(checked) = &checked {
                        done.add(checked);
                    }
                    return Ok(());
                }
                Err(ListError::Stopped) => return Err(ListError::Stopped),
                Err(error) => error,
            };
            // What was read before it failed is stored.
            let found = tally.found();
            done.requests += tally.requests();
            done.new += found.new;
            done.revised += found.revised;
            // What neither time nor a token mends: a day of which Vobiz keeps nothing any more, or rows that Postgres does not take.
            let stays = match &error {
                ListError::Odd(_) | ListError::Endless(_) | ListError::Refused { .. } => true,
                ListError::List(error) => matches!(
                    error,
                    FetchError::Refused(_) | FetchError::NotYet(_) | FetchError::Unreadable { .. }
                ),
                ListError::Db(error) => error.fault() == Fault::Data,
                ListError::Busy | ListError::Held | ListError::Paused | ListError::Stopped => false,
            };
            if stays {
                odd += 1;
                if odd == ODD {
                    warn!(account = %account.id(), day = %due.day, error = error.brief(), "the list of this day cannot be read: it is left out");
                    done.unread += 1;
                    done.calls += u64::try_from(found.rows).unwrap_or(0);
                    return Ok(());
                }
            }
            warn!(
                account = %account.id(), day = %due.day, error = error.brief(), seconds = wait.as_secs(),
                "the list of this day could not be read: it is tried again"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Err(ListError::Stopped),
            }
            wait = wait.saturating_mul(2).min(AGAIN.1);
        }
    }
}
