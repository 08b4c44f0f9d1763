//! What we owe: a row a call, on a real Postgres.

mod backlog;
mod enqueue;
mod lease;
mod outcome;
mod races;

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
