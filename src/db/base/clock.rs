//! The one clock, as a process may use it between two statements.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// Clocks differ a little. Beyond this much behind, times of calls that are right look like none (`vobiz::plausible`), and records are
/// older than those before them.
pub const MOST_BEHIND: TimeDelta = TimeDelta::hours(1);

/// The clock of Postgres is behind by more than [`MOST_BEHIND`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of Postgres says {}, {whose} {}: nothing is fetched, listed or compared by it",
    postgres.format("%Y-%m-%d %H:%M:%SZ"), witness.format("%Y-%m-%d %H:%M:%SZ")
)]
pub struct ClockBehind {
    /// What it says.
    pub postgres: DateTime<Utc>,
    /// What the other clock says.
    pub witness: DateTime<Utc>,
    /// The other clock, as words.
    pub whose: &'static str,
}

impl ClockBehind {
    /// What to do about it.
    pub const CURE: &str = "set the clock of the machine of Postgres by NTP (timedatectl, chronyc tracking). Callbacks are taken, and the work \
                            goes on by itself once it is right";
}

/// The clock of Postgres, read once and carried on by ours, which only measures durations.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    read: DateTime<Utc>,
    at: Instant,
}

impl Clock {
    /// A reading of `vobiz.now()` by a statement that was sent at `at`: the clock stands still while a statement waits for
    /// locks, so it counts from its sending.
    pub(in crate::db) fn new(read: DateTime<Utc>, at: Instant) -> Self {
        Self { read, at }
    }

    /// Reads the clock.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let sent = Instant::now();
        let now = sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(connection).await?;
        Ok(Self::new(now, sent))
    }

    /// Refuses an instant of Postgres's clock that is behind what another one says.
    pub fn check(
        postgres: DateTime<Utc>,
        (whose, witness): (&'static str, DateTime<Utc>),
    ) -> Result<(), ClockBehind> {
        if witness - postgres > MOST_BEHIND {
            return Err(ClockBehind { postgres, witness, whose });
        }
        Ok(())
    }

    /// Now, by the clock of Postgres.
    pub fn now(&self) -> DateTime<Utc> {
        self.read + self.at.elapsed()
    }
}
