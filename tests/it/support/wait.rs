//! Waiting for what happens. A wait ends as soon as it has happened, so its limit is for what never does, and lies far beyond what
//! the slowest machine needs. How fast something is, is a figure, and figures are the business of the benchmarks.
//!
//! A wait proves nothing where another way leads to the same within the limit: the scan from the beginning every 30 s, the probe of a
//! paused account every minute, the next sweep, a lease or a reservation that runs out. A test that waits for the one way switches
//! the others off.
//!
//! That something does *not* happen is shown by an event that comes after it would have, not by a silence of so many seconds.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Nothing that these tests wait for takes so long, beside whatever the machine has to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Between two polls.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    until_some(what, async move || if holds().await { Ok(()) } else { Err("it is not so") })
}

/// Waits until a value is the expected one.
#[track_caller]
pub(crate) fn until_is<T: Debug + PartialEq<E>, E: Debug>(
    what: &str,
    expected: E,
    mut value: impl AsyncFnMut() -> T,
) -> impl Future<Output = ()> {
    until_some(what, async move || {
        let found = value().await;
        if found == expected { Ok(()) } else { Err(format!("it is {found:?}, not {expected:?}")) }
    })
}

/// Waits until there is something, and returns it; an error is what there is instead.
#[track_caller]
pub(crate) fn until_some<T, W: Debug>(
    what: &str,
    mut found: impl AsyncFnMut() -> Result<T, W>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + LIMIT;
        let mut last = None;
        loop {
            let Ok(now) = timeout_at(end, found()).await else {
                panic!("{caller}: {LIMIT:?} were not enough: {what}: it hung; before that: {last:?}");
            };
            match now {
                Ok(found) => return found,
                Err(instead) => {
                    assert!(Instant::now() < end, "{caller}: {LIMIT:?} were not enough: {what}: {instead:?}");
                    last = Some(instead);
                }
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// Waits for the end of what ends by itself, so that a test that hangs is one that fails.
#[track_caller]
pub(crate) fn in_the_end<T>(what: &str, ends: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        // Whole tests are waited for as well.
        let ended = tokio::time::timeout(3 * LIMIT, ends).await;
        ended.unwrap_or_else(|_| panic!("{caller}: {:?} were not enough: {what}", 3 * LIMIT))
    }
}

/// The same as [`until_some`] outside of any runtime.
#[track_caller]
pub(crate) fn until_some_blocking<T, W: Debug>(what: &str, mut found: impl FnMut() -> Result<T, W>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        match found() {
            Ok(found) => return found,
            Err(instead) => {
                assert!(Instant::now() < end, "{LIMIT:?} were not enough: {what}: {instead:?}");
            }
        }
        pause(POLL_EVERY);
    }
}

#[expect(clippy::disallowed_methods, reason = "processes are waited for outside of any runtime")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
