//! What became of the callbacks of the last 15 minutes, by minute: a counter since the start says that a million were taken, not
//! that of the last hundred none was.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Minutes that are kept.
const MINUTES: usize = 15;
/// The newest ones, the one that runs among them: two whole minutes at least.
const RECENT: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);

/// Why a callback was turned away, or its call is not owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nothing in it proves anything (403).
    NoProof,
    /// A secret in the path that is not ours, and no signature that matches (403).
    WrongSecret,
    /// Signature headers, none of which matches (403).
    WrongSignature,
    /// A signature that matches, with a nonce that was used for another call (403).
    Replayed,
    /// Not a refusal but a slip in a URL at Vobiz: a path like `/callbacks/…` that is none of ours (404).
    WrongPath,
    /// Not a refusal either: the end of a call of no account that is configured (200, logged, not owed). Counted as accepted as well.
    NoAccount,
}

impl Refusal {
    /// Those that were turned away, though Vobiz may have sent them.
    pub const TURNED_AWAY: [Self; 5] =
        [Self::NoProof, Self::WrongSecret, Self::WrongSignature, Self::Replayed, Self::WrongPath];

    /// The word for it, in metrics and in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoProof => "no_proof",
            Self::WrongSecret => "wrong_secret",
            Self::WrongSignature => "wrong_signature",
            Self::Replayed => "replayed",
            Self::WrongPath => "wrong_path",
            Self::NoAccount => "no_account",
        }
    }
}

/// What became of one callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Committed (200).
    Accepted,
    /// Not committed (503).
    Unavailable,
    /// Not readable as a request: too long, too slow, broken off (400, 408, 413).
    BadRequest,
    /// Turned away, or not owed.
    Refused(Refusal),
    /// Not so sure: proved by a secret alone, beyond the cap, so that its call is speculative. Counted as accepted as well.
    OverCap,
}

impl Arrival {
    const KINDS: usize = 10;

    /// The word for it, in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unavailable => "unavailable",
            Self::BadRequest => "bad_request",
            Self::Refused(refusal) => refusal.as_str(),
            Self::OverCap => "over_cap",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let refused = Refusal::TURNED_AWAY.into_iter().chain([Refusal::NoAccount]).map(Self::Refused);
        [Self::Accepted, Self::Unavailable, Self::BadRequest]
            .into_iter()
            .chain(refused)
            .chain([Self::OverCap])
    }

    fn place(self) -> usize {
        match self {
            Self::Accepted => 0,
            Self::Unavailable => 1,
            Self::BadRequest => 2,
            Self::Refused(refusal) => 3 + refusal as usize,
            Self::OverCap => Self::KINDS - 1,
        }
    }
}

/// The callbacks of the last 15 minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArrivalCounts {
    /// How many, by what became of them; what did not happen has no entry.
    #[serde(flatten)]
    pub by_kind: BTreeMap<&'static str, u64>,
    /// By kind of refusal, how the newest such request differs from what is expected, in words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub differs: BTreeMap<&'static str, String>,
    /// The same numbers of the last two minutes alone.
    #[serde(skip)]
    pub recent: BTreeMap<&'static str, u64>,
}

impl ArrivalCounts {
    /// How many of a kind.
    pub fn of(&self, kind: Arrival) -> u64 {
        self.by_kind.get(kind.as_str()).copied().unwrap_or(0)
    }

    /// Whether refusals of these kinds are over: the last two minutes brought callbacks that were accepted, and none of them.
    pub fn are_over(&self, refusals: &[Refusal]) -> bool {
        self.recent.contains_key(Arrival::Accepted.as_str())
            && !refusals.iter().any(|kind| self.recent.contains_key(kind.as_str()))
    }
}

#[derive(Debug)]
struct ByMinute {
    /// When the newest minute began.
    began: Instant,
    newest: usize,
    minutes: [[u64; Arrival::KINDS]; MINUTES],
    differs: BTreeMap<&'static str, String>,
}

/// Counts callbacks by minute. Memory: a little more than a kilobyte, whatever comes.
#[derive(Debug)]
pub struct Arrivals(Mutex<ByMinute>);

impl Default for Arrivals {
    fn default() -> Self {
        Self(Mutex::new(ByMinute {
            began: Instant::now(),
            newest: 0,
            minutes: [[0; Arrival::KINDS]; MINUTES],
            differs: BTreeMap::new(),
        }))
    }
}

impl Arrivals {
    /// Counts one.
    pub fn count(&self, kind: Arrival) {
        self.count_at(kind, Instant::now());
    }

    /// Keeps how the newest refusal of a kind differs from what is expected.
    pub fn differs(&self, kind: Refusal, words: String) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.differs.insert(kind.as_str(), words);
    }

    /// The last 15 minutes.
    pub fn counts(&self) -> ArrivalCounts {
        self.counts_at(Instant::now())
    }

    fn count_at(&self, kind: Arrival, now: Instant) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn(now);
        let newest = window.newest;
        window.minutes[newest][kind.place()] += 1;
    }

    fn counts_at(&self, now: Instant) -> ArrivalCounts {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn(now);
        let mut counts = ArrivalCounts::default();
        for kind in Arrival::all() {
            for (sums, minutes) in [(&mut counts.by_kind, MINUTES), (&mut counts.recent, RECENT)] {
                let sum: u64 = window.last(minutes).map(|minute| minute[kind.place()]).sum();
                if sum > 0 {
                    sums.insert(kind.as_str(), sum);
                }
            }
        }
        // What was said of refusals that are out of the window is over.
        window.differs.retain(|kind, _| counts.by_kind.contains_key(kind));
        counts.differs.clone_from(&window.differs);
        counts
    }
}

impl ByMinute {
    /// The newest minutes.
    fn last(&self, minutes: usize) -> impl Iterator<Item = &[u64; Arrival::KINDS]> {
        (0..minutes).map(|back| &self.minutes[(self.newest + MINUTES - back) % MINUTES])
    }

    /// Goes on to the minute of `now`; what is older than the window is forgotten.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_secs() / MINUTE.as_secs();
        for _ in 0..passed.min(MINUTES as u64) {
            self.newest = (self.newest + 1) % MINUTES;
            self.minutes[self.newest] = [0; Arrival::KINDS];
        }
        self.began += Duration::from_secs(passed * MINUTE.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORGED: Arrival = Arrival::Refused(Refusal::WrongSignature);

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        let places: Vec<usize> = Arrival::all().map(Arrival::place).collect();
        assert_eq!(places, (0..Arrival::KINDS).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_quarter_of_an_hour_is_counted_and_no_more() {
        let arrivals = Arrivals::default();
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(minutes * 60 + 1);
        arrivals.count_at(FORGED, at(0));
        arrivals.differs(Refusal::WrongSignature, "another host".into());
        for minute in 0..10 {
            arrivals.count_at(Arrival::Accepted, at(minute));
        }
        let counts = arrivals.counts_at(at(10));
        assert_eq!((counts.of(Arrival::Accepted), counts.of(FORGED)), (10, 1));
        assert_eq!(counts.differs.len(), 1);

        let counts = arrivals.counts_at(at(16));
        assert_eq!((counts.of(Arrival::Accepted), counts.of(FORGED)), (8, 0));
        assert!(counts.differs.is_empty(), "what was said of it is over with it");
        assert_eq!(arrivals.counts_at(at(100_000)), ArrivalCounts::default(), "a long night");
    }

    #[test]
    fn refusals_are_over_once_two_minutes_bring_accepted_ones_and_none_of_them() {
        for refusal in [Refusal::WrongSecret, Refusal::NoAccount] {
            let arrivals = Arrivals::default();
            let start = Instant::now();
            let at = |minutes: u64| start + Duration::from_secs(minutes * 60 + 1);
            let is_over = |minutes| arrivals.counts_at(at(minutes)).are_over(&[Refusal::Replayed, refusal]);
            for minute in 0..20 {
                arrivals.count_at(Arrival::Refused(refusal), at(minute));
            }
            assert!(!is_over(30), "nothing comes: that says nothing");
            arrivals.count_at(Arrival::Refused(refusal), at(40));
            for (minute, over) in [(40, false), (41, false), (42, false), (43, true), (44, true)] {
                arrivals.count_at(Arrival::Accepted, at(minute));
                assert_eq!(is_over(minute), over, "{minute}");
            }
            assert!(is_over(46) && !is_over(47), "it says nothing again");
            // What others do is none of its business.
            arrivals.count_at(Arrival::Accepted, at(50));
            arrivals.count_at(Arrival::Refused(Refusal::NoProof), at(50));
            assert!(is_over(50));
        }
    }
}
