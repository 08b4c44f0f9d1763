//! Where a scan for due calls starts.
//!
//! Every lease takes the calls that fell due first, so the index on `due_at` fills with dead entries from its beginning. Vacuum
//! removes them, unless a session on the same database holds an old snapshot: then each scan would read through all that was
//! ever leased since, slower by the minute, until the queue grows faster than it is read. So a scan starts where the last one
//! found its first call, and only now and then at the very beginning.
//!
//! It promises nothing but speed: a due call that lies before the scan start is found within [`FROM_BEGINNING_EVERY`].

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::queue::Lease;

/// Between two scans from the beginning: for calls that came to lie before the scan start, because a worker that held their rows
/// during the scan has given them back, or their commit was late.
pub const FROM_BEGINNING_EVERY: Duration = Duration::from_secs(30);
/// Between two searches for calls that were put off for longer than any rule does.
const MEND_EVERY: Duration = Duration::from_secs(30);
/// A call may be committed this much after it fell due.
const LATE: TimeDelta = TimeDelta::seconds(1);

/// The scan start of one account.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanStart {
    from_beginning_every: Duration,
    from: Option<DateTime<Utc>>,
    scanned_from_beginning: Option<Instant>,
    mended: Option<Instant>,
}

impl ScanStart {
    pub(super) fn new(from_beginning_every: Duration) -> Self {
        Self { from_beginning_every, from: None, scanned_from_beginning: None, mended: None }
    }

    /// Where to start now; `None` is the very beginning.
    pub(super) fn begin(&mut self, now: Instant) -> Option<DateTime<Utc>> {
        if self
            .scanned_from_beginning
            .is_some_and(|last| now.duration_since(last) < self.from_beginning_every)
        {
            return self.from;
        }
        self.scanned_from_beginning = Some(now);
        None
    }

    /// Whether calls that were put off too far are to be looked for now: how often says the time alone, not what the scans found.
    pub(super) fn mends(&mut self, now: Instant) -> bool {
        let is_due = self.mended.is_none_or(|last| now.duration_since(last) >= MEND_EVERY);
        if is_due {
            self.mended = Some(now);
        }
        is_due
    }

    /// Learns from the leases of a scan. No call is left before the first of them; speculative calls have no scan start. A scan
    /// that found nothing says nothing: there may just have been no slot in the rate limit.
    pub(super) fn found(&mut self, leases: &[Lease]) {
        let certain = || leases.iter().filter(|lease| lease.history.certain);
        self.move_to(
            certain().map(|lease| lease.due_at).min(),
            certain().any(|lease| lease.beside_reservation),
        );
    }

    /// While older calls are reserved for the list, the scan start stays before them: those that the list does not show are
    /// released at any moment, and are fetched then.
    fn move_to(&mut self, first_due: Option<DateTime<Utc>>, beside_reservation: bool) {
        if let Some(first) = first_due
            && !beside_reservation
        {
            self.from = Some(first - LATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_put_off_too_far_are_looked_for_each_half_minute_whatever_the_scans_find() {
        let (mut scan, start) = (ScanStart::new(Duration::from_secs(30)), Instant::now());
        let looked: Vec<u64> = (0..100)
            .filter(|n| {
                let now = start + Duration::from_secs(*n);
                // There are speculative calls alone, so each scan begins at the very beginning.
                assert_eq!(scan.begin(now), None);
                scan.move_to(None, false);
                scan.mends(now)
            })
            .collect();
        assert_eq!(looked, [0, 30, 60, 90]);
    }

    #[test]
    fn a_scan_starts_where_the_last_one_found_a_call_and_now_and_then_at_the_beginning() {
        let (mut scan, start) = (ScanStart::new(Duration::from_secs(30)), Instant::now());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(scan.begin(start), None);
        scan.move_to(Some(at(100)), false);
        assert_eq!(scan.begin(later(1)), Some(at(99)));
        scan.move_to(None, false);
        scan.move_to(Some(at(500)), true);
        assert_eq!(scan.begin(later(29)), Some(at(99)));
        assert_eq!(scan.begin(later(30)), None);
        // An older call had come to light: the scan start moves back to it.
        scan.move_to(Some(at(50)), false);
        assert_eq!(scan.begin(later(31)), Some(at(49)));
    }
}
