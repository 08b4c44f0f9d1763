//! A condition is something that does not work, and lasts. It is logged once when it is raised, again every ten minutes while it
//! lasts, and once when it is over: a log that repeats itself every two seconds hides what else goes wrong.
//!
//! It is over after quiet: one success between two failures ends nothing. One that comes back soon has to be quiet for twice as long.
//! What is tried seldom is not over for being quiet: without a success, it goes on from where it was when it fails again.
//! All of them stand in `/status`, for [`crate::watch::metrics::Metrics`] alone makes them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// While it lasts, it is logged again after this long; what comes back within it has not been over.
const REMIND: Duration = Duration::from_secs(600);
/// After a success, so long without a failure ends it.
const QUIET: Duration = Duration::from_secs(10);
/// The most that this grows to.
const LONGEST_QUIET: Duration = Duration::from_secs(640);
/// One that has not been raised for this long, nor for three times what passed between its last two failures, is no longer shown:
/// there is nothing to do that could fail.
const UNSHOWN: Duration = Duration::from_secs(180);
/// What fails again within this, with no success between, has not worked all the while, however seldom it is tried (a day of the ledger
/// that is put off, a quarter of an hour later).
const FORGOTTEN: Duration = Duration::from_secs(7200);
/// Words of a failure that are kept.
const WORDS: usize = 300;

/// One condition of one loop.
#[derive(Debug)]
pub struct Condition {
    /// What does not work, and what follows from it.
    what: &'static str,
    /// What to do about it.
    cure: &'static str,
    /// The account that it is of, or empty.
    account: String,
    /// Nothing tries it again by itself: it lasts until it is mended.
    until_mended: bool,
    state: Mutex<ConditionState>,
}

#[derive(Debug)]
struct ConditionState {
    lasting: Option<Lasting>,
    quiet: Duration,
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    logged: Instant,
    last: Instant,
    /// Between its last two failures.
    gap: Duration,
    /// There was a success after the last failure.
    succeeded: bool,
    times: u64,
    error: String,
    cure: Option<&'static str>,
}

/// A condition that lasts, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastingCondition {
    /// What does not work.
    pub what: &'static str,
    /// The account that it is of, or empty.
    pub account: String,
    /// The words of the last failure.
    pub error: String,
    /// What to do about it, by its reason where one is known.
    pub cure: &'static str,
    /// Time since its first failure.
    pub began: Duration,
    /// From its first failure to its last one; to now where nothing tries again by itself.
    pub lasting: Duration,
}

impl Lasting {
    /// How long after its last failure it is known of, if `least` is the shortest time for that.
    fn remembered(&self, least: Duration) -> Duration {
        least.max(self.gap * 3)
    }
}

impl Condition {
    pub(super) fn new(what: &'static str, cure: &'static str, account: &str) -> Self {
        let state = Mutex::new(ConditionState { lasting: None, quiet: QUIET, ended: None });
        Self { what, cure, account: account.to_owned(), until_mended: false, state }
    }

    /// One that `/status` shows by other means (a pause of the account): it is logged alone.
    pub fn logged_only(what: &'static str, cure: &'static str, account: &str) -> Self {
        Self::new(what, cure, account)
    }

    pub(super) fn until_mended(self) -> Self {
        Self { until_mended: true, ..self }
    }

    /// Raises it (again): it does not work, and this is why.
    pub fn raise(&self, error: &dyn Display) {
        self.raise_for(error, None);
    }

    /// The same for a reason that has a cure of its own.
    pub fn raise_for(&self, error: &dyn Display, cure: Option<&'static str>) {
        if let Some(times) = self.count(Instant::now(), error, cure) {
            let Self { what, account, .. } = self;
            let cure = cure.unwrap_or(self.cure);
            warn!(%error, times, account = (!account.is_empty()).then_some(account), "{what}: {cure}");
        }
    }

    /// It works: the condition is over once there has been quiet for long enough. Logs that.
    pub fn clear(&self) {
        if let Some(lasting) = &mut self.state().lasting {
            lasting.succeeded = true;
        }
        self.end_if_quiet(Instant::now());
    }

    /// Whether it is not over, shown or not.
    pub fn is_raised(&self) -> bool {
        self.state().lasting.is_some()
    }

    /// What does not work, until it is over.
    pub fn lasting(&self) -> Option<LastingCondition> {
        self.lasting_at(Instant::now())
    }

    fn lasting_at(&self, now: Instant) -> Option<LastingCondition> {
        self.end_if_quiet(now);
        let state = self.state();
        let lasting = state.lasting.as_ref()?;
        if !self.until_mended && now.duration_since(lasting.last) >= lasting.remembered(UNSHOWN) {
            return None;
        }
        let began = now.duration_since(lasting.since);
        Some(LastingCondition {
            what: self.what,
            account: self.account.clone(),
            error: lasting.error.clone(),
            cure: lasting.cure.unwrap_or(self.cure),
            began,
            lasting: if self.until_mended { began } else { lasting.last.duration_since(lasting.since) },
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ConditionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_if_quiet(&self, now: Instant) {
        let mut state = self.state();
        let quiet = if self.until_mended { Duration::ZERO } else { state.quiet };
        let is_over = state.lasting.as_ref().is_some_and(|lasting| {
            let silence = now.duration_since(lasting.last);
            let forgotten = !self.until_mended && silence >= lasting.remembered(FORGOTTEN);
            (lasting.succeeded && silence >= quiet) || forgotten
        });
        if !is_over {
            return;
        }
        if let Some(Lasting { since, last, times, succeeded, .. }) = state.lasting.take() {
            state.ended = succeeded.then_some(now);
            let (what, account) = (self.what, &self.account);
            let seconds = last.duration_since(since).as_secs();
            let how = if succeeded { "cleared" } else { "not tried again" };
            info!(times, seconds, account = (!account.is_empty()).then_some(account), "{how}: {what}");
        }
    }

    /// Counts it; the count if it is to be logged now.
    fn count(&self, now: Instant, error: &dyn Display, cure: Option<&'static str>) -> Option<u64> {
        self.end_if_quiet(now);
        let mut state = self.state();
        let error: String = error.to_string().chars().take(WORDS).collect();
        if let Some(lasting) = &mut state.lasting {
            lasting.times += 1;
            lasting.gap = now.duration_since(lasting.last);
            (lasting.last, lasting.succeeded, lasting.error, lasting.cure) = (now, false, error, cure);
            // What nothing tries by itself, a person has just tried.
            let due = self.until_mended || now.duration_since(lasting.logged) >= REMIND;
            return due.then(|| {
                lasting.logged = now;
                lasting.times
            });
        }
        let is_back = state.ended.is_some_and(|ended| now.duration_since(ended) < REMIND);
        state.quiet = if is_back { (state.quiet * 2).min(LONGEST_QUIET) } else { QUIET };
        let gap = Duration::ZERO;
        state.lasting = Some(Lasting {
            since: now,
            logged: now,
            last: now,
            gap,
            succeeded: false,
            times: 1,
            error,
            cure,
        });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_lasting_condition_is_logged_when_it_is_raised_and_every_ten_minutes() {
        let condition = Condition::new("x", "y", "");
        let start = Instant::now();
        let logged: Vec<u64> =
            (0..1200).filter_map(|n| condition.count(start + second(n), &"why", None)).collect();
        assert_eq!(logged, [1, 601]);
    }

    #[test]
    fn a_condition_is_over_after_quiet_and_not_after_one_success() {
        let condition = Condition::new("x", "y", "MA_1");
        let start = Instant::now();
        let mut logged = 0;
        // Every second statement fails, for five minutes.
        for n in 0..300 {
            logged += u32::from(condition.count(start + second(2 * n), &"why", Some("cure")).is_some());
            condition.state().lasting.as_mut().unwrap().succeeded = true;
            let lasting = condition.lasting_at(start + second(2 * n + 1)).unwrap();
            assert_eq!((lasting.lasting, lasting.cure), (second(2 * n), "cure"));
        }
        assert_eq!(logged, 1, "no flapping log");
        assert!(condition.lasting_at(start + second(598 + 9)).is_some());
        assert_eq!(condition.lasting_at(start + second(598 + 10)), None);
        // It comes back: it has to be quiet for twice as long.
        let start = start + second(620);
        condition.count(start, &"why", None);
        condition.state().lasting.as_mut().unwrap().succeeded = true;
        assert!(condition.lasting_at(start + second(19)).is_some());
        assert_eq!(condition.lasting_at(start + second(20)), None);
    }

    #[test]
    fn what_is_tried_seldom_lasts_from_one_failure_to_the_next() {
        let start = Instant::now();
        for (gaps, shown) in
            [(vec![900], true), (vec![3600], true), (vec![600, 3000], true), (vec![7201], false)]
        {
            let condition = Condition::new("x", "y", "");
            condition.count(start, &"why", None);
            let mut last = start;
            for gap in &gaps {
                // Somebody looks meanwhile.
                condition.lasting_at(last + second(gap - 1));
                last += second(*gap);
                condition.count(last, &"why", None);
            }
            let lasting = condition.lasting_at(last + second(1)).unwrap().lasting;
            let all = if shown { second(gaps.iter().sum()) } else { Duration::ZERO };
            assert_eq!(lasting, all, "{gaps:?}");
            // One success ends it, seldom as it is.
            condition.state().lasting.as_mut().unwrap().succeeded = true;
            assert_eq!(condition.lasting_at(last + QUIET), None, "{gaps:?}");
            assert_eq!(condition.count(last + second(20), &"why", None), Some(1), "{gaps:?}");
        }
    }

    #[test]
    fn what_nothing_tries_again_is_forgotten_unless_it_is_to_be_mended() {
        let start = Instant::now();
        for (gaps, until) in [(vec![0], 180), (vec![0, 5, 5], 180), (vec![0, 150, 300], 900)] {
            let condition = Condition::new("x", "y", "");
            let mut last = start;
            for gap in gaps {
                last += second(gap);
                condition.count(last, &"why", None);
            }
            assert!(condition.lasting_at(last + second(until - 1)).is_some());
            assert_eq!(condition.lasting_at(last + second(until)), None);
        }
        let mended = Condition::new("x", "y", "").until_mended();
        mended.count(start, &"why", None);
        assert_eq!(mended.lasting_at(start + second(100_000)).unwrap().lasting, second(100_000));
        mended.clear();
        assert_eq!(mended.lasting_at(start + second(100_000)), None);
    }
}
