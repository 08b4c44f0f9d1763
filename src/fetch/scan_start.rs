//! Where a scan for due calls starts.
//!
//! Every lease takes the calls that fell due first, so the index on `due_at` fills with dead entries from its beginning. Vacuum
//! removes them, unless a session on the same database holds an old snapshot: then each scan would read through all that was
//! ever leased since, slower by the minute, until the queue grows faster than it is read. So a scan starts where the last one
//! found its first call, and only now and then at the very beginning. Each priority has a scan start of its own: calls that are asked
//! for again fell due before many that never were.
//!
//! It promises nothing but speed: a due call that lies before the scan start is found within [`FROM_BEGINNING_EVERY`].

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::queue::{CERTAIN_PRIORITIES, Lease, ScanStarts};

/// Between two scans from the beginning: for calls that came to lie before the scan start, because a worker that held their rows
/// during the scan has given them back, or their commit was late.
pub const FROM_BEGINNING_EVERY: Duration = Duration::from_secs(30);
/// Between two searches for calls that were put off for longer than any rule does.
const MEND_EVERY: Duration = Duration::from_secs(30);
/// A call may be committed this much after it fell due.
const LATE: TimeDelta = TimeDelta::seconds(1);

/// The scan starts of one account.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanStart {
    from_beginning_every: Duration,
    from: ScanStarts,
    scanned_from_beginning: Option<Instant>,
    mended: Option<Instant>,
}

impl ScanStart {
    pub(super) fn new(from_beginning_every: Duration) -> Self {
        Self { from_beginning_every, from: ScanStarts::default(), scanned_from_beginning: None, mended: None }
    }

    /// Where to start now; `None` is the very beginning.
    pub(super) fn begin(&mut self, now: Instant) -> ScanStarts {
        if self
            .scanned_from_beginning
            .is_some_and(|last| now.duration_since(last) < self.from_beginning_every)
        {
            return self.from;
        }
        self.scanned_from_beginning = Some(now);
        ScanStarts::default()
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
        for priority in 0..CERTAIN_PRIORITIES {
            let found = || leases.iter().filter(|lease| lease.priority == priority);
            let first_due = found().map(|lease| lease.due_at).min();
            self.move_to(priority, first_due, found().any(|lease| lease.beside_reservation));
        }
    }

    /// While older calls are reserved for the list, the scan start stays before them: those that the list does not show are
    /// released at any moment, and are fetched then.
    fn move_to(&mut self, priority: usize, first_due: Option<DateTime<Utc>>, beside_reservation: bool) {
        if let Some(first) = first_due
            && !beside_reservation
        {
            self.from[priority] = Some(first - LATE);
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
                assert_eq!(scan.begin(now), ScanStarts::default());
                scan.move_to(0, None, false);
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
        assert_eq!(scan.begin(start), [None; 3]);
        scan.move_to(0, Some(at(100)), false);
        assert_eq!(scan.begin(later(1)), [Some(at(99)), None, None]);
        scan.move_to(0, None, false);
        scan.move_to(0, Some(at(500)), true);
        // Those that are asked for again fell due long before those that never were.
        scan.move_to(2, Some(at(7)), false);
        assert_eq!(scan.begin(later(29)), [Some(at(99)), None, Some(at(6))]);
        assert_eq!(scan.begin(later(30)), [None; 3]);
        // An older call had come to light: the scan start moves back to it.
        scan.move_to(0, Some(at(50)), false);
        assert_eq!(scan.begin(later(31)), [Some(at(49)), None, Some(at(6))]);
    }
}
