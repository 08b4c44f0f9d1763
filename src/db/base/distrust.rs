//! Which of the open connections are used no more, and when a new one would be of no use either.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::time::Instant;

/// A pool whose new connections say the same as the old ones opens no more of them for this long.
const FUTILE_FOR: Duration = Duration::from_secs(5);

/// Connections that were opened before this instant are not used again. One for the process: after a failover, or a change of a table
/// under kept plans, each connection of each pool has the same to say, and an idle one costs milliseconds to replace.
static DISTRUSTED: Mutex<Option<Instant>> = Mutex::new(None);
/// A session was ended at this instant, and others may have been with it: what was used last before it is asked whether it lives.
static DOUBTED: Mutex<Option<Instant>> = Mutex::new(None);
/// Where connections lead whose newest ones fail as well, and since when that is known. (A pool that goes over to another URL has other
/// options.)
static FUTILE: Mutex<Vec<(Weak<PgConnectOptions>, Instant)>> = Mutex::new(Vec::new());

/// From now on, connections that are open already are closed instead of used.
pub fn distrust_open_connections() {
    *lock(&DISTRUSTED) = Some(Instant::now());
}

/// Whether a connection of this age is used no more.
pub(super) fn is_distrusted(age: Duration) -> bool {
    is_before(&DISTRUSTED, age)
}

/// From now on, connections that are open already are asked whether they live before they are used.
pub(super) fn doubt() {
    *lock(&DOUBTED) = Some(Instant::now());
}

/// Whether a connection that has been idle for so long may have ended.
pub(super) fn is_doubted(idle_for: Duration) -> bool {
    is_before(&DOUBTED, idle_for)
}

/// A new connection of a pool says the same as the one that it replaced.
pub(super) fn note_futile(pool: &PgPool) {
    let mut futile = lock(&FUTILE);
    futile.retain(|(_, since)| since.elapsed() < FUTILE_FOR);
    futile.push((Arc::downgrade(&pool.connect_options()), Instant::now()));
}

/// Whether a new connection of a pool would say the same as the one that it is to replace.
pub(super) fn is_futile(pool: &PgPool) -> bool {
    let here = Arc::downgrade(&pool.connect_options());
    lock(&FUTILE).iter().any(|(options, since)| options.ptr_eq(&here) && since.elapsed() < FUTILE_FOR)
}

fn is_before(instant: &Mutex<Option<Instant>>, ago: Duration) -> bool {
    lock(instant).is_some_and(|since| Instant::now().checked_sub(ago).is_none_or(|then| then < since))
}

fn lock<T>(kept: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
