//! The one clock, as a process may use it between two statements.

use std::time::Instant;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

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

    /// Now, by the clock of Postgres.
    pub fn now(&self) -> DateTime<Utc> {
        self.read + self.at.elapsed()
    }
}
