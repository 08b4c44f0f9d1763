//! Where the look for due calls begins.
//!
//! Every lease takes the calls that fell due first, so the index on `due_at` fills with dead entries from its beginning. Vacuum
//! removes them, unless somebody on the same database holds an old snapshot: then each look would read through all that was
//! ever leased since, slower by the minute, until the queue grows faster than it is read. So a look begins where the last one
//! found its first call, and only now and then at the very beginning.
//!
//! It promises nothing but speed: what lies below the floor is found within [`EVERY`].

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::queue::Lease;

/// Between two looks from the beginning: for calls that came to lie below the floor, because somebody who held their rows when
/// they were looked for has given them back, or their commit was late.
const EVERY: Duration = Duration::from_secs(30);
/// A call may be committed this much after it fell due.
const LATE: TimeDelta = TimeDelta::seconds(1);

/// The floor of one account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ScanStart {
    from: Option<DateTime<Utc>>,
    looked_from_beginning: Option<Instant>,
}

impl ScanStart {
    /// Where to begin now; `None` is the very beginning.
    pub(super) fn begin(&mut self, now: Instant) -> Option<DateTime<Utc>> {
        if self.looked_from_beginning.is_some_and(|last| now.duration_since(last) < EVERY) {
            return self.from;
        }
        self.looked_from_beginning = Some(now);
        None
    }

    /// What a look found. Nothing is left below the first of its calls; speculative ones know no floor. A look that found
    /// nothing says nothing: there may just have been no room in the rate limit.
    pub(super) fn found(&mut self, leases: &[Lease]) {
        let certain = || leases.iter().filter(|lease| lease.history.certain);
        self.rise(certain().map(|lease| lease.due_at).min(), certain().any(|lease| lease.beside_hold));
    }

    /// While older calls are held for the list, the floor stays below them: those that the list does not show are let go at any
    /// moment, and are fetched then.
    fn rise(&mut self, first_due: Option<DateTime<Utc>>, beside_hold: bool) {
        if let Some(first) = first_due
            && !beside_hold
        {
            self.from = Some(first - LATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_begins_where_the_last_one_found_something_and_now_and_then_at_the_beginning() {
        let (mut floor, start) = (ScanStart::default(), Instant::now());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(floor.begin(start), None);
        floor.rise(Some(at(100)), false);
        assert_eq!(floor.begin(later(1)), Some(at(99)));
        floor.rise(None, false);
        floor.rise(Some(at(500)), true);
        assert_eq!(floor.begin(later(29)), Some(at(99)));
        assert_eq!(floor.begin(later(30)), None);
        // Something old had come to light: the floor goes down to it.
        floor.rise(Some(at(50)), false);
        assert_eq!(floor.begin(later(31)), Some(at(49)));
    }
}
