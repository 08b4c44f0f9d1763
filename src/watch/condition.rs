//! A condition is something that does not work, and lasts. It is logged once when it is raised, again every ten minutes while it
//! lasts, and once when it is cleared: a log that repeats itself every two seconds hides what else goes wrong.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// While it lasts, it is logged again after this long.
const REMIND: Duration = Duration::from_secs(600);

/// A condition that has not been raised for this long counts as cleared for `/status`, although nothing has shown that it is.
const FRESH: Duration = Duration::from_secs(60);

/// One condition of one loop.
#[derive(Debug)]
pub struct Condition {
    /// What does not work, and what follows from it.
    what: &'static str,
    /// What to do about it.
    cure: &'static str,
    /// The account that it is of, or empty.
    account: String,
    lasting: Mutex<Option<Lasting>>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    logged: Instant,
    last: Instant,
    times: u64,
}

impl Condition {
    /// A condition that is not raised.
    pub fn new(what: &'static str, cure: &'static str) -> Self {
        Self::of(what, cure, "")
    }

    /// A condition of an account, not raised.
    pub fn of(what: &'static str, cure: &'static str, account: &str) -> Self {
        Self { what, cure, account: account.to_owned(), lasting: Mutex::default() }
    }

    /// Raises it (again): it does not work, and this is why.
    pub fn raise(&self, error: &dyn Display) {
        if let Some(times) = self.count(Instant::now()) {
            let Self { what, cure, account, .. } = self;
            warn!(%error, times, account = (!account.is_empty()).then_some(account), "{what}: {cure}");
        }
    }

    /// What does not work, and for how long, as long as it keeps happening.
    pub fn lasting(&self) -> Option<(&'static str, &'static str, Duration)> {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = lasting.as_ref().filter(|lasting| lasting.last.elapsed() < FRESH)?;
        Some((self.what, self.cure, lasting.since.elapsed()))
    }

    /// Clears it: it works. Logs that if it was raised.
    pub fn clear(&self) {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Lasting { since, times, .. }) = lasting {
            let (what, account) = (self.what, &self.account);
            let seconds = since.elapsed().as_secs();
            info!(times, seconds, account = (!account.is_empty()).then_some(account), "cleared: {what}");
        }
    }

    /// Counts it; the count if it is to be logged now.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *lasting {
            None => {
                *lasting = Some(Lasting { since: now, logged: now, last: now, times: 1 });
                Some(1)
            }
            Some(lasting) => {
                lasting.times += 1;
                lasting.last = now;
                let due = now.duration_since(lasting.logged) >= REMIND;
                due.then(|| {
                    lasting.logged = now;
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
    fn a_lasting_condition_is_logged_when_it_is_raised_and_every_ten_minutes() {
        let condition = Condition::new("x", "y");
        let start = Instant::now();
        let logged: Vec<u64> =
            (0..1200).filter_map(|second| condition.count(start + Duration::from_secs(second))).collect();
        assert_eq!(logged, [1, 601]);
        condition.clear();
        assert_eq!(condition.count(start), Some(1), "the next one is logged at once");
    }
}
