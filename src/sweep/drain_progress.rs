//! How far a drain has come, and whether its next page is worth the request. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Between two polls for a backlog.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(1);
/// The first pause after a drain that was not worth it, and the longest.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// A page that pays fewer calls than this is no better than fetching them.
pub(super) const WORTH: u64 = 3;

/// What a drain did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Pages read.
    pub pages: u32,
    /// Owed calls that they paid.
    pub paid: u64,
    /// Calls that were released: the list did not show them, or they are fetched sooner than found.
    pub left: u64,
}

impl Drained {
    /// Whether it was clearly cheaper than fetching singly.
    pub fn was_worth_it(&self) -> bool {
        self.paid >= 2 * u64::from(self.pages)
    }
}

/// How far a drain has come: decides, from numbers alone, whether it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainProgress {
    pub(super) drained: Drained,
    /// What the last two pages paid.
    recent: [u64; 2],
}

impl DrainProgress {
    pub(super) fn new(calls: u64) -> Self {
        Self { drained: Drained { left: calls, ..Drained::default() }, recent: [WORTH, WORTH] }
    }

    /// A page out of turn, read for calls that are not reserved.
    pub(super) fn count(&mut self, paid: u64, reserved: u64) {
        self.drained.pages += 1;
        self.drained.paid += paid;
        self.drained.left = self.drained.left.saturating_sub(reserved);
    }

    /// The next page: what it paid, and how much of that was reserved.
    pub(super) fn read(&mut self, paid: u64, reserved: u64) {
        self.count(paid, reserved);
        self.recent = [self.recent[1], paid];
    }

    /// Whether the next page is worth its request: all the pages that are left cost less than fetching the calls that are left,
    /// or the list is dense with owed calls just here.
    pub(super) fn goes_on(&self, pages_left: Option<u64>) -> bool {
        let left = self.drained.left;
        let cheaper = pages_left.is_some_and(|pages| 0 < pages && pages < left);
        cheaper || (left >= WORTH && self.recent.iter().sum::<u64>() >= WORTH)
    }
}

/// How many pages lie before a goal, if the list goes on as it has come: `None` if that cannot be said, 0 once it is reached.
pub(super) fn pages_before(
    read: u32,
    newest: Option<DateTime<Utc>>,
    reached: Option<DateTime<Utc>>,
    goal: DateTime<Utc>,
) -> Option<u64> {
    let (newest, reached) = (newest?, reached?);
    let (come, to_go) = ((newest - reached).num_milliseconds(), (reached - goal).num_milliseconds());
    if to_go <= 0 {
        return Some(0);
    }
    u64::try_from(i128::from(read) * i128::from(to_go) / i128::from(come.max(1))).ok()
}

/// The fewer pages of what the list says and what its pace says; only the list knows what lies beyond the goal.
pub(super) fn pages_left(page: u32, listed: Option<i64>, estimated: Option<u64>) -> Option<u64> {
    let listed = listed.and_then(|pages| u64::try_from(pages - i64::from(page)).ok());
    match (listed, estimated) {
        (Some(listed), Some(estimated @ 1..)) => Some(listed.min(estimated)),
        (Some(listed), _) => Some(listed),
        (None, estimated) => estimated,
    }
}

/// How long nobody drains after a drain: `unpaid` of them in a row were not worth it, the last of which took so long.
pub(super) fn pause_after(unpaid: u32, took: Duration) -> Duration {
    match unpaid {
        0 => POLL_EVERY,
        // At most half of the time goes into drains that pay nothing.
        _ => PAUSE.0.saturating_mul(1 << (unpaid - 1).min(10)).min(PAUSE.1).max(took),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(calls: u64, pages: &[(u64, u64)]) -> DrainProgress {
        let mut progress = DrainProgress::new(calls);
        for (paid, reserved) in pages {
            progress.read(*paid, *reserved);
        }
        progress
    }

    #[test]
    fn a_drain_goes_on_while_a_page_is_the_cheaper_request() {
        for (calls, pages, pages_left, goes_on) in [
            // An outage: more calls than pages, whatever the last ones paid.
            (200_000, vec![(100, 100)], Some(6000), true),
            (200_000, vec![(0, 0), (0, 0), (0, 0)], Some(1900), true),
            // A small backlog in a large list: as long as the pages are dense.
            (40, vec![(90, 30)], Some(6000), true),
            (40, vec![(90, 30), (4, 4)], Some(6000), true),
            (40, vec![(0, 0)], Some(6000), true),
            (40, vec![(0, 0), (0, 0)], Some(6000), false),
            (40, vec![(90, 30), (0, 0), (2, 2)], Some(6000), false),
            (40, vec![(90, 30), (0, 0), (2, 2)], Some(7), true),
            // Nothing left, or so little that a page cannot beat fetching it.
            (40, vec![(90, 40)], Some(1), false),
            (40, vec![(90, 38)], Some(6000), false),
            (40, vec![(90, 38)], None, false),
            // Past the last of them, by the pace of the list.
            (40, vec![(0, 0), (2, 2)], Some(0), false),
            (40, vec![(0, 0), (3, 0)], Some(0), true),
            (40, vec![(90, 30)], None, true),
        ] {
            let progress = progress(calls, &pages);
            assert_eq!(progress.goes_on(pages_left), goes_on, "{calls} {pages:?} {pages_left:?}");
        }
    }

    #[test]
    fn the_pace_of_the_list_says_how_far_the_goal_is() {
        let at = |minutes: i64| DateTime::from_timestamp(minutes * 60, 0);
        let goal = at(100).unwrap();
        assert_eq!(pages_before(10, at(200), at(190), goal), Some(90));
        assert_eq!(pages_before(10, at(200), at(100), goal), Some(0));
        assert_eq!(pages_before(10, at(200), at(50), goal), Some(0));
        assert_eq!(pages_before(10, None, at(190), goal), None);
        // A page all of whose rows are of one instant is no pace: as far as can be.
        assert!(pages_before(1, at(200), at(200), goal).unwrap() > 1_000_000);
        // A row that comes out of order.
        assert!(pages_before(1, at(190), at(200), goal).unwrap() > 1_000_000);
        for (page, listed, estimated, left) in [
            (10, Some(4500), Some(90), Some(90)),
            (10, Some(20), Some(90), Some(10)),
            (10, Some(20), Some(0), Some(10)),
            (10, None, Some(90), Some(90)),
            (10, None, Some(0), Some(0)),
            (10, Some(5), None, None),
            (10, None, None, None),
        ] {
            assert_eq!(pages_left(page, listed, estimated), left, "{page} {listed:?} {estimated:?}");
        }
    }

    #[test]
    fn drains_that_pay_nothing_come_ever_less_often() {
        let pauses: Vec<u64> =
            (0..7).map(|unpaid| pause_after(unpaid, Duration::from_secs(5)).as_secs()).collect();
        assert_eq!(pauses, [1, 30, 60, 120, 240, 480, 600]);
        assert_eq!(pause_after(1, Duration::from_secs(900)), Duration::from_secs(900));
        assert_eq!(pause_after(0, Duration::from_secs(900)), POLL_EVERY);
        assert_eq!(pause_after(u32::MAX, Duration::ZERO), PAUSE.1);
        let drained = |pages, paid| Drained { pages, paid, left: 0 };
        assert!(drained(10, 20).was_worth_it() && !drained(10, 19).was_worth_it());
    }
}
