//! The one rule for failures: what went wrong (a [`FetchError`]) and what came before (a [`History`]) -> what to do.
//!
//! Pure: no clock, no randomness, no IO. Ages come in measured by Postgres without the time in which the account was
//! paused, and jitter comes in as a number, so that all of it tests as a table.

use std::time::Duration;

use crate::vobiz::{CallId, FetchError};

/// The class of a failure, as it is kept in `vobiz.cdr_queue.error_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The record is not there (yet).
    NotYet,
    /// The API is not there.
    Unavailable,
    /// The API is there and does not want this request.
    Refused,
    /// The answer is not the CDR.
    Unreadable,
    /// Final: Postgres refuses the CDR.
    Unstorable,
    /// Final: 24 hours of [`ErrorClass::NotYet`].
    NeverAppeared,
}

impl ErrorClass {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Unstorable => "unstorable",
            Self::NeverAppeared => "never_appeared",
        }
    }

    /// Reads the word in the table.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::NotYet,
            Self::Unavailable,
            Self::Refused,
            Self::Unreadable,
            Self::Unstorable,
            Self::NeverAppeared,
        ]
        .into_iter()
        .find(|class| class.as_str() == text)
    }
}

/// What is known of a call's failures before the one at hand.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// A proven hang-up announced the call; else it is speculative.
    pub certain: bool,
    /// Class of the failures so far, and how many in a row.
    pub class: Option<ErrorClass>,
    /// Failures in a row of that class.
    pub failures: u32,
    /// Age of the first real "not there", without the pauses of the account; `None` before it.
    pub not_yet_for: Option<Duration>,
}

/// What to do about a failed fetch.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Try again after this long; the failure counts in its class.
    Wait(ErrorClass, Duration),
    /// Make it a dead letter.
    Bury(ErrorClass),
    /// A speculative call that came to nothing: close it with its evidence.
    Close(ErrorClass),
    /// The account waits this long; the call loses nothing.
    PauseAccount(Duration),
    /// One list request decides whether the account is denied (pause) or only this call (decide again as refused).
    AskList,
}

/// A call that stays unknown this long is given up.
pub const NEVER_APPEARED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// A speculative one already after this long.
pub const NOT_FOUND_AFTER: Duration = Duration::from_secs(3600);
/// A trunk call that stays unknown this long is looked up in the list by its SIP Call-ID.
pub const LOOK_UP_BY_SIP_AFTER: Duration = Duration::from_secs(600);
/// The pause after a 429 that does not say how long.
const THROTTLED_FOR: Duration = Duration::from_secs(60);
/// The least pause after a 429: all that were in flight then belong to one pause, which halves the rate once.
const THROTTLED_AT_LEAST: Duration = Duration::from_secs(1);
/// No backoff is longer.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Waits between the five tries of a refused or unreadable call: an hour in all.
const FEW_TRIES: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(240), Duration::from_secs(900), Duration::from_secs(2400)];

/// Decides. `jitter` lies in `0.0..=1.0` and shortens a wait by up to a quarter, never lengthens it.
pub fn decide(error: &FetchError, history: &History, jitter: f64) -> Decision {
    match error {
        FetchError::NotYet(_) => {
            let limit = if history.certain { NEVER_APPEARED_AFTER } else { NOT_FOUND_AFTER };
            if history.not_yet_for.is_some_and(|age| age >= limit) {
                return give_up(history, ErrorClass::NotYet, ErrorClass::NeverAppeared);
            }
            wait(ErrorClass::NotYet, history, Duration::from_secs(4), jitter)
        }
        FetchError::Unavailable(_) => wait(ErrorClass::Unavailable, history, Duration::from_secs(2), jitter),
        FetchError::Throttled { retry_after, .. } => {
            Decision::PauseAccount(retry_after.map_or(THROTTLED_FOR, |wait| wait.max(THROTTLED_AT_LEAST)))
        }
        FetchError::Denied(_) => Decision::AskList,
        FetchError::Refused(_) => few_tries(ErrorClass::Refused, history),
        FetchError::Unreadable { .. } => few_tries(ErrorClass::Unreadable, history),
    }
}

/// Failures in a row of `class`, this one included: the count restarts when the class changes.
fn in_a_row(class: ErrorClass, history: &History) -> u32 {
    if history.class == Some(class) { history.failures.saturating_add(1) } else { 1 }
}

fn wait(class: ErrorClass, history: &History, first: Duration, jitter: f64) -> Decision {
    let doublings = in_a_row(class, history).saturating_sub(1).min(16);
    let full = first.saturating_mul(1 << doublings).min(LONGEST);
    Decision::Wait(class, full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0)))
}

fn few_tries(class: ErrorClass, history: &History) -> Decision {
    let failed = in_a_row(class, history) as usize;
    FEW_TRIES
        .get(failed - 1)
        .map_or_else(|| give_up(history, class, class), |delay| Decision::Wait(class, *delay))
}

fn give_up(history: &History, closed_as: ErrorClass, buried_as: ErrorClass) -> Decision {
    if history.certain { Decision::Bury(buried_as) } else { Decision::Close(closed_as) }
}

/// Signs that not a call but its account or the API is in trouble: equal failures in a row, over all calls of an account.
#[derive(Debug, Default)]
pub struct Streak {
    class: Option<ErrorClass>,
    length: u32,
    last_call: Option<CallId>,
}

/// So many equal failures in a row raise a suspicion.
const SUSPICIOUS: u32 = 20;

impl Streak {
    /// A good answer: whatever was suspected is over.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure; `Some` when it is time to ask the list whether the account is in trouble: every twentieth failure
    /// in a row of one class. The same call twice in a row counts once.
    pub fn failed(&mut self, class: ErrorClass, call_id: &CallId) -> Option<ErrorClass> {
        if self.class != Some(class) {
            *self = Self { class: Some(class), length: 0, last_call: None };
        }
        if self.last_call.as_ref() == Some(call_id) {
            return None;
        }
        self.last_call = Some(call_id.clone());
        self.length += 1;
        self.length.is_multiple_of(SUSPICIOUS).then_some(class)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn not_yet() -> FetchError {
        FetchError::NotYet("404".into())
    }

    fn after(class: ErrorClass, failures: u32) -> History {
        History { certain: true, class: Some(class), failures, not_yet_for: None }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_table() {
        use Decision::{AskList, Bury, Close, PauseAccount, Wait};
        use ErrorClass::{NeverAppeared, NotYet, Refused, Unavailable, Unreadable};
        let fresh = || History { certain: true, ..History::default() };
        let aged = |certain, hours: u64| History {
            certain,
            class: Some(NotYet),
            failures: 9,
            not_yet_for: Some(s(hours * 3600)),
        };
        let down = || FetchError::Unavailable("502".into());
        let throttled = |retry_after| FetchError::Throttled { retry_after, said: String::new() };
        let refused = || FetchError::Refused("422".into());
        let unreadable = || FetchError::Unreadable { why: String::new(), body: bytes::Bytes::new() };
        for (error, history, expected) in [
            (not_yet(), fresh(), Wait(NotYet, s(4))),
            (not_yet(), after(NotYet, 1), Wait(NotYet, s(8))),
            (not_yet(), after(NotYet, 30), Wait(NotYet, s(900))),
            (not_yet(), after(Unavailable, 7), Wait(NotYet, s(4))),
            (not_yet(), aged(true, 23), Wait(NotYet, s(900))),
            (not_yet(), aged(true, 24), Bury(NeverAppeared)),
            (not_yet(), aged(false, 0), Wait(NotYet, s(900))),
            (not_yet(), aged(false, 1), Close(NotYet)),
            (down(), fresh(), Wait(Unavailable, s(2))),
            (down(), after(Unavailable, 5), Wait(Unavailable, s(64))),
            (down(), after(Unavailable, u32::MAX), Wait(Unavailable, s(900))),
            (down(), aged(true, 1000), Wait(Unavailable, s(2))),
            (throttled(None), fresh(), PauseAccount(s(60))),
            (throttled(Some(s(0))), fresh(), PauseAccount(s(1))),
            (throttled(Some(s(7))), after(Refused, 4), PauseAccount(s(7))),
            (FetchError::Denied("401".into()), after(Refused, 4), AskList),
            (refused(), fresh(), Wait(Refused, s(60))),
            (refused(), after(Refused, 3), Wait(Refused, s(2400))),
            (refused(), after(Refused, 4), Bury(Refused)),
            (refused(), after(Unreadable, 4), Wait(Refused, s(60))),
            (unreadable(), after(Unreadable, 4), Bury(Unreadable)),
            (unreadable(), History { certain: false, ..after(Unreadable, 4) }, Close(Unreadable)),
        ] {
            assert_eq!(decide(&error, &history, 0.0), expected, "{error} after {history:?}");
        }
        assert_eq!(FEW_TRIES.iter().sum::<Duration>(), s(3600));
    }

    #[test]
    fn a_streak_asks_the_list_once_in_twenty() {
        let id = |n: u32| CallId::new(&format!("call-{n}")).unwrap();
        let mut streak = Streak::default();
        let asked = (0..100).filter(|n| streak.failed(ErrorClass::Unavailable, &id(*n)).is_some()).count();
        assert_eq!(asked, 5);
        for _ in 0..100 {
            assert_eq!(streak.failed(ErrorClass::Unreadable, &id(1)), None, "one call alone proves nothing");
        }
        for n in 0..19 {
            assert_eq!(streak.failed(ErrorClass::Unavailable, &id(n)), None);
        }
        streak.succeeded();
        assert_eq!(streak.failed(ErrorClass::Unavailable, &id(99)), None);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(failures in any::<u32>(), jitter in -1.0f64..2.0, which in 0..2) {
            let (error, class, first) = if which == 0 {
                (not_yet(), ErrorClass::NotYet, s(4))
            } else {
                (FetchError::Unavailable(String::new()), ErrorClass::Unavailable, s(2))
            };
            let Decision::Wait(_, delay) = decide(&error, &after(class, failures), jitter) else {
                return Err(TestCaseError::fail("it waits"));
            };
            prop_assert!(delay >= first.mul_f64(0.75) && delay <= LONGEST, "{delay:?}");
        }
    }
}
