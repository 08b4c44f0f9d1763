//! A trouble that lasts is said once when it begins, again every ten minutes while it lasts, and once when it is over: a log
//! that repeats itself every two seconds hides what else goes wrong.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// While it lasts, it is said again after this long.
const REMIND: Duration = Duration::from_secs(600);

/// A condition that has not been raised for this long counts as over for `/status`, although nothing has shown that it is.
const FRESH: Duration = Duration::from_secs(60);

/// One kind of trouble of one loop.
#[derive(Debug)]
pub struct Condition {
    /// What does not work, and what follows from it.
    what: &'static str,
    /// What to do about it.
    cure: &'static str,
    /// Of whom: an account, or empty.
    whose: String,
    lasting: Mutex<Option<Lasting>>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    said: Instant,
    last: Instant,
    times: u64,
}

impl Condition {
    /// No trouble yet.
    pub fn new(what: &'static str, cure: &'static str) -> Self {
        Self::of(what, cure, "")
    }

    /// No trouble yet of an account.
    pub fn of(what: &'static str, cure: &'static str, whose: &str) -> Self {
        Self { what, cure, whose: whose.to_owned(), lasting: Mutex::default() }
    }

    /// It happened (again).
    pub fn hit(&self, error: &dyn Display) {
        if let Some(times) = self.count(Instant::now()) {
            let Self { what, cure, whose: account, .. } = self;
            warn!(%error, times, account = (!account.is_empty()).then_some(account), "{what}: {cure}");
        }
    }

    /// What does not work, and for how long, as long as it keeps happening.
    pub fn lasting(&self) -> Option<(&'static str, &'static str, Duration)> {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = lasting.as_ref().filter(|lasting| lasting.last.elapsed() < FRESH)?;
        Some((self.what, self.cure, lasting.since.elapsed()))
    }

    /// It works; says so if it did not before.
    pub fn over(&self) {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Lasting { since, times, .. }) = lasting {
            let (what, account) = (self.what, &self.whose);
            let seconds = since.elapsed().as_secs();
            info!(times, seconds, account = (!account.is_empty()).then_some(account), "over: {what}");
        }
    }

    /// Counts it; the count if it is to be said now.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *lasting {
            None => {
                *lasting = Some(Lasting { since: now, said: now, last: now, times: 1 });
                Some(1)
            }
            Some(lasting) => {
                lasting.times += 1;
                lasting.last = now;
                let due = now.duration_since(lasting.said) >= REMIND;
                due.then(|| {
                    lasting.said = now;
                    lasting.times
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_trouble_is_said_at_its_beginning_and_every_ten_minutes() {
        let condition = Condition::new("x", "y");
        let start = Instant::now();
        let said: Vec<u64> =
            (0..1200).filter_map(|second| condition.count(start + Duration::from_secs(second))).collect();
        assert_eq!(said, [1, 601]);
        condition.over();
        assert_eq!(condition.count(start), Some(1), "a new one is said at once");
    }
}
