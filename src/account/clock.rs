//! Whether the clock of Postgres is to be trusted: what Vobiz's answers say of the time decides.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};

use super::{Account, DB_TIMEOUT, Priority};
use crate::db::base::clock::{Clock, ClockBehind};
use crate::db::{DbError, timed};
use crate::vobiz::ListQuery;

/// How often Vobiz is asked for nothing but the time, while its answers say that the clock of Postgres is behind.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A clock that was right is looked at again after this.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known of the clock of Postgres.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// When Vobiz has answered last when it was asked for nothing but the time.
    asked: tokio::sync::Mutex<Option<Instant>>,
    right_at: Mutex<Option<Instant>>,
    behind: Mutex<Option<ClockBehind>>,
}

impl Account {
    /// Refuses an instant of Postgres's clock that is behind: by Vobiz's own clock, or by ours as long as it has not answered yet. What
    /// comes from Vobiz is held against it once it has come, before anything of it is stored.
    pub fn check_clock(&self, postgres: DateTime<Utc>) -> Result<(), ClockBehind> {
        let witness = match self.client.now() {
            Some(now) => ("the answers of Vobiz say", now),
            None => ("ours says", SystemTime::now().into()),
        };
        let checked = Clock::check(postgres, witness);
        *self.clock.behind.lock().unwrap_or_else(PoisonError::into_inner) = checked.err();
        checked
    }

    /// The same of the clock as it is now; one that was right a moment ago is.
    pub async fn check_clock_now(&self) -> Result<(), DbError> {
        let right_at = || self.clock.right_at.lock().unwrap_or_else(PoisonError::into_inner);
        if right_at().is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let clock = timed!(&self.pool, DB_TIMEOUT, |connection| Clock::read(connection)).await?;
        let checked = self.check_clock(clock.now());
        *right_at() = checked.is_ok().then(Instant::now);
        Ok(checked?)
    }

    /// The same, and before it refuses, Vobiz is asked for the time again: a single answer that says something wrong, or a clock of ours
    /// that is wrong, stops nothing.
    pub async fn check_clock_again(&self) -> Result<(), DbError> {
        match self.check_clock_now().await {
            Err(DbError::ClockBehind(_)) => {
                self.ask_the_time().await;
                self.check_clock_now().await
            }
            checked => checked,
        }
    }

    /// Whether Postgres answers just now.
    pub async fn has_postgres(&self) -> bool {
        timed!(&self.pool, DB_TIMEOUT, |connection| Clock::read(connection)).await.is_ok()
    }

    /// Why nothing is stored by the clock of Postgres, when it was looked at last.
    pub fn clock_behind(&self) -> Option<ClockBehind> {
        *self.clock.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks Vobiz for a row, for the time that its answer tells; not if that is being done, or was done just now.
    pub async fn ask_the_time(&self) {
        let Ok(mut asked) = self.clock.asked.try_lock() else { return };
        if asked.is_some_and(|at| at.elapsed() < ASK_EVERY) || self.is_known_throttled() {
            return;
        }
        self.wait_for_slot(Priority::Sweep).await;
        // What it says beside that is a matter of others.
        let _ = self.client.list_cdrs(&ListQuery { page: 1, per_page: 1, ..ListQuery::default() }).await;
        *asked = Some(Instant::now());
    }
}
