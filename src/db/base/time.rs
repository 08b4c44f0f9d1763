//! Lengths of time on their way to Postgres and back.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

/// A duration as an interval.
pub(in crate::db) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Seconds from Postgres as a duration; negative is zero.
pub(in crate::db) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::ZERO)
}
