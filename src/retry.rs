//! The whole rule of what happens when a request fails. [`Failure::next_step`] is the rule for the CDR of one call; the small
//! functions below it are the rule for a page of the list and for a question to another account.
//!
//! | class | from | what happens |
//! |---|---|---|
//! | not_yet | 404; a 200 that is empty, says `success: false` or `data: null` | 4 s doubling to 15 min. After 10 min of it, a call whose SIP Call-ID is known is looked up in the list. After 24 h each other account is asked, then it is a dead letter `never_appeared`; a speculative call is closed after 1 h |
//! | throttled | 429 | the account pauses as long as Vobiz says, else 60 s; the call loses nothing |
//! | unavailable | 5xx, 408, 3xx, a timeout, a broken connection, HTML, half a body | 2 s doubling to 15 min; 20 in a row: one list request decides. After 3 days in which other calls came it is a dead letter; a speculative call is closed |
//! | denied | 401, 403 | one list request decides: it fails, so the account pauses and the call loses nothing; it works, so the call alone is refused |
//! | refused | any other 4xx, or denied for this call alone | 5 tries over an hour, then a dead letter; a speculative call is closed |
//! | unreadable | a 200 that is not the CDR that was asked for | the same, with up to 64 KiB of the body; 20 in a row from different calls: the format changed, the account pauses |
//! | ours | Postgres is away, the disk is full, we were killed | not seen here: the lease runs out and the call falls due again, at no cost |
//!
//! "In a row" is over all calls of an account, and after 20 of not_yet or refused the newest listed call is asked for as well:
//! the list may work where single calls do not. Failures of one call count within a class and restart when the class changes.
//! Backoffs and the waits for other accounts are shortened by up to a quarter, so that calls do not come back all at once.
//!
//! How often a page of the list is asked for again is no matter of this file: see `list/reader.rs` and `ledger/backfill.rs`.
//!
//! Pure: no clock, no randomness, no IO. Ages come in measured by Postgres without the pauses of the account, jitter as a number, and
//! what has to be found out is a [`NextStep`] whose [`Learned`] comes in again. So all of it tests as a table.

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
        use ErrorClass::{NeverAppeared, NotYet, Refused, Unavailable, Unreadable, Unstorable};
        [NotYet, Unavailable, Refused, Unreadable, Unstorable, NeverAppeared]
            .into_iter()
            .find(|class| class.as_str() == text)
    }
}

/// Why an account is paused, as it is kept in `vobiz.account.pause_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// 429: ends by itself.
    Throttled,
    /// Credentials or path do not work: ends when a probe succeeds.
    Denied,
    /// The API is away: ends when a probe succeeds.
    Unavailable,
    /// The format of the answers changed: ends when a probe is readable again.
    Unreadable,
}

impl PauseReason {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How much has to work for an account to be fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeDepth {
    /// Its list.
    List,
    /// Its list, and the newest call of the list by itself: the two may sit behind different rules at Vobiz.
    Single,
}

/// What the list of an account said of a failure: whether it is the account's or the call's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListAnswer {
    /// The list works: the account is fine, the call alone fails.
    CallAlone,
    /// The list works, but only since the path or the token was found anew: ask for the call again.
    AccessChanged,
    /// The list fails too: the account is paused now.
    Paused,
}

/// What is known of a call's failures before the present one.
#[derive(Debug, Clone, Copy, Default)]
pub struct History {
    /// A proven hang-up announced the call; else it is speculative.
    pub certain: bool,
    /// Class of the failures so far.
    pub class: Option<ErrorClass>,
    /// Failures in a row of that class.
    pub failures: u32,
    /// Age of the first real "not there", without the pauses of the account; `None` before it.
    pub not_yet_for: Option<Duration>,
    /// Age of the first failure of that class, in the same way.
    pub failing_for: Option<Duration>,
    /// Another call of the account was fetched within a day.
    pub others_succeed: bool,
}

/// The next thing to do about a failure. The last four end it; so does a CDR that a look-up finds.
#[derive(Debug, Clone, PartialEq)]
pub enum NextStep {
    /// Find out whether the account works, so deep and for this reason.
    AskList(ProbeDepth, String),
    /// Count it among the failures of all calls of the account, in a [`Streak`].
    CountInStreak(ErrorClass),
    /// Pause the account for all replicas, so long and for this reason.
    PauseAccount(PauseReason, Duration, String),
    /// Look the call up in the list by its SIP Call-ID.
    LookUpBySip,
    /// Ask the other accounts for the call.
    AskOtherAccounts {
        /// The call waits until all of them have answered.
        until_all: bool,
    },
    /// Ask again after this long; the failure counts in its class.
    Wait(ErrorClass, Duration),
    /// Make the call a dead letter.
    Bury(ErrorClass),
    /// Close a speculative call that came to nothing, with its evidence.
    Close(ErrorClass),
    /// Give the call back for this long; the failure costs it nothing.
    Release(Duration),
}

/// What a step brought that did not end the failure.
#[derive(Debug, Clone, Copy)]
pub enum Learned {
    /// Of [`NextStep::AskList`].
    Access(ProbeDepth, ListAnswer),
    /// Of [`NextStep::CountInStreak`]: what [`Streak::count`] says.
    InARow(u32),
    /// Of [`NextStep::PauseAccount`].
    Paused,
    /// Of [`NextStep::LookUpBySip`]: the list does not show the call, or could not be read.
    NotListed,
    /// Of [`NextStep::AskOtherAccounts`].
    Elsewhere(Elsewhere),
}

/// What the other accounts said of a call that none of them has shown.
#[derive(Debug, Clone, Copy)]
pub enum Elsewhere {
    /// None of those that could be asked has it.
    Nowhere {
        /// How many have answered.
        asked: usize,
        /// How many there are.
        others: usize,
    },
    /// Some are paused or away; those that have answered are written down and not asked again.
    SomeAway,
    /// They could not be asked to the end: other calls have their turn, no slot is free, or Postgres is away.
    NoTurn,
}

/// A trunk call that stays unknown this long is looked up in the list by its SIP Call-ID.
const LOOK_UP_BY_SIP_AFTER: Duration = Duration::from_secs(600);
/// A speculative call that stays unknown this long is given up.
const NOT_FOUND_AFTER: Duration = Duration::from_secs(3600);
/// A certain one only after this long.
const NEVER_APPEARED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// So old, it is given up although some of the other accounts could not be asked.
const GIVE_UP_AFTER: Duration = Duration::from_secs(48 * 3600);
/// A call that alone is unavailable for this long is given up.
const ALONE_UNAVAILABLE_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
/// A call waits this long for its turn to be asked of the other accounts: as it did between its last requests.
const NEXT_TURN: Duration = Duration::from_secs(15 * 60);
/// And this long for one of them that is paused or away.
const AWAY: Duration = Duration::from_secs(3600);
/// The pause after a 429 that does not say how long.
const THROTTLED_FOR: Duration = Duration::from_secs(60);
/// The least pause after a 429: all that were in flight then belong to one pause, which halves the rate once.
const THROTTLED_AT_LEAST: Duration = Duration::from_secs(1);
/// Any other pause, until a probe finds whether the account works again.
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// No backoff is longer.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Waits between the five tries of a refused or unreadable call: an hour in all.
const FEW_TRIES: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(240), Duration::from_secs(900), Duration::from_secs(2400)];
/// So many equal failures in a row, and each time so many more, are a reason to suspect the account.
const SUSPICIOUS: u32 = 20;
/// The reason of a pause after that many unreadable ones.
const UNREADABLE: &str = "many answers in a row cannot be read: the format may have changed (see last_body)";

/// A failed request for a call, and what has been found out about it since.
#[derive(Debug)]
pub struct Failure {
    error: FetchError,
    history: History,
    jitter: f64,
    /// Under another id, with the SIP Call-ID that its callback named.
    may_be_listed: bool,
    list: Option<ListAnswer>,
    single: Option<ListAnswer>,
    in_a_row: Option<u32>,
    paused: bool,
    elsewhere: Option<Elsewhere>,
}

impl Failure {
    /// A failure of which nothing more is known. `jitter` lies in `0.0..=1.0` and shortens a wait by up to a quarter.
    pub fn new(error: FetchError, history: History, sip_call_id_known: bool, jitter: f64) -> Self {
        Self {
            error,
            history,
            jitter: jitter.clamp(0.0, 1.0),
            may_be_listed: sip_call_id_known,
            list: None,
            single: None,
            in_a_row: None,
            paused: false,
            elsewhere: None,
        }
    }

    /// The rule. Each question is asked once; then its answer is known, and the next step is another one.
    pub fn next_step(&self) -> NextStep {
        use ErrorClass::{NeverAppeared, NotYet, Refused, Unavailable, Unreadable, Unstorable};
        use ListAnswer::{AccessChanged, CallAlone, Paused};
        let History { certain, .. } = self.history;

        // Is it the account that fails? And if not: what does a failure of this class cost the call?
        let (class, end) = match &self.error {
            FetchError::Throttled { retry_after, .. } if !self.paused => {
                let length = throttled_for(*retry_after);
                return NextStep::PauseAccount(PauseReason::Throttled, length, self.error.brief());
            }
            FetchError::Throttled { .. } => return NextStep::Release(Duration::ZERO),
            FetchError::Denied(_) => match self.list {
                None => return NextStep::AskList(ProbeDepth::List, self.error.brief()),
                Some(Paused | AccessChanged) => return NextStep::Release(Duration::ZERO),
                Some(CallAlone) => self.few_tries(Refused),
            },
            FetchError::Refused(_) => self.few_tries(Refused),
            FetchError::Unreadable { .. } => self.few_tries(Unreadable),
            FetchError::Unavailable(_) if self.is_alone_unavailable() => {
                (Unavailable, self.given_up(Unavailable))
            }
            FetchError::Unavailable(_) => self.back_off(Unavailable, Duration::from_secs(2)),
            FetchError::NotYet(_) if certain && self.is_unknown_for(NEVER_APPEARED_AFTER) => {
                (NeverAppeared, NextStep::Bury(NeverAppeared))
            }
            FetchError::NotYet(_) if !certain && self.is_unknown_for(NOT_FOUND_AFTER) => {
                (NotYet, NextStep::Close(NotYet))
            }
            FetchError::NotYet(_) => self.back_off(NotYet, Duration::from_secs(4)),
        };

        // Many in a row: is it the account after all?
        let Some(in_a_row) = self.in_a_row else { return NextStep::CountInStreak(class) };
        if in_a_row > 0 && in_a_row.is_multiple_of(SUSPICIOUS) {
            let (depth, answer) = match class {
                // Nothing to ask: the bodies tell, and are kept with the calls, which pay for their failures.
                Unreadable if !self.paused => {
                    return NextStep::PauseAccount(PauseReason::Unreadable, PROBE_AFTER, UNREADABLE.into());
                }
                Unreadable | NeverAppeared | Unstorable => (ProbeDepth::List, Some(CallAlone)),
                Unavailable => (ProbeDepth::List, self.list),
                NotYet | Refused => (ProbeDepth::Single, self.single),
            };
            match answer {
                None => return NextStep::AskList(depth, format!("many {} answers in a row", class.as_str())),
                // The failures were the account's and cost the calls nothing.
                Some(Paused | AccessChanged) => return NextStep::Release(Duration::ZERO),
                Some(CallAlone) => {}
            }
        }

        // Is the CDR somewhere else?
        match (class, self.elsewhere) {
            (NotYet, _) if self.may_be_listed && self.is_unknown_for(LOOK_UP_BY_SIP_AFTER) => {
                NextStep::LookUpBySip
            }
            (NeverAppeared, None) => {
                NextStep::AskOtherAccounts { until_all: !self.is_unknown_for(GIVE_UP_AFTER) }
            }
            // A call that has waited for a day can wait some more; until then it costs what it has cost before.
            (NeverAppeared, Some(Elsewhere::SomeAway)) => NextStep::Release(self.shortened(AWAY)),
            (NeverAppeared, Some(Elsewhere::NoTurn)) => NextStep::Release(self.shortened(NEXT_TURN)),
            _ => end,
        }
    }

    /// Takes down what a step brought.
    pub fn learn(&mut self, answer: Learned) {
        match answer {
            Learned::Access(ProbeDepth::List, said) => self.list = Some(said),
            Learned::Access(ProbeDepth::Single, said) => self.single = Some(said),
            Learned::InARow(count) => self.in_a_row = Some(count),
            Learned::Paused => self.paused = true,
            Learned::NotListed => self.may_be_listed = false,
            Learned::Elsewhere(said) => self.elsewhere = Some(said),
        }
    }

    /// The failure in words, as it is kept with the call.
    pub fn evidence(&self) -> String {
        let error = &self.error;
        match (error, self.elsewhere) {
            (FetchError::Denied(_), _) => format!("refused: {error}; the account's list works"),
            (_, Some(Elsewhere::Nowhere { asked, others: others @ 1.. })) => {
                format!("{error}; {asked} of {others} other accounts asked, none has it")
            }
            _ => error.to_string(),
        }
    }

    /// The failure as Vobiz made it.
    pub fn error(&self) -> &FetchError {
        &self.error
    }

    fn is_unknown_for(&self, age: Duration) -> bool {
        self.history.not_yet_for.is_some_and(|not_yet_for| not_yet_for >= age)
    }
    /// For days, while other calls came: it is not the API that is away.
    fn is_alone_unavailable(&self) -> bool {
        let History { class, failing_for, others_succeed, .. } = self.history;
        let for_days = failing_for.is_some_and(|age| age >= ALONE_UNAVAILABLE_AFTER);
        others_succeed && for_days && class == Some(ErrorClass::Unavailable)
    }

    /// Failures in a row of this class, this one included: the count restarts when the class changes.
    fn tries(&self, class: ErrorClass) -> u32 {
        if self.history.class == Some(class) { self.history.failures.saturating_add(1) } else { 1 }
    }

    fn shortened(&self, wait: Duration) -> Duration {
        wait.mul_f64(1.0 - 0.25 * self.jitter)
    }

    fn back_off(&self, class: ErrorClass, first: Duration) -> (ErrorClass, NextStep) {
        let doublings = self.tries(class).saturating_sub(1).min(16);
        let wait = first.saturating_mul(1 << doublings).min(LONGEST);
        (class, NextStep::Wait(class, self.shortened(wait)))
    }

    fn given_up(&self, class: ErrorClass) -> NextStep {
        if self.history.certain { NextStep::Bury(class) } else { NextStep::Close(class) }
    }

    fn few_tries(&self, class: ErrorClass) -> (ErrorClass, NextStep) {
        let end = match FEW_TRIES.get(self.tries(class) as usize - 1) {
            Some(wait) => NextStep::Wait(class, *wait),
            None => self.given_up(class),
        };
        (class, end)
    }
}

/// The pause that a 429 on a call makes.
fn throttled_for(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(THROTTLED_FOR, |wait| wait.max(THROTTLED_AT_LEAST))
}

/// When another account was asked for a call: whether this failure answers that it does not have it, and the pause of that account if
/// it is throttled. Anything else that is wrong with it is found out with its own calls.
pub fn answer_of_other_account(error: &FetchError) -> (bool, Option<Duration>) {
    match error {
        FetchError::NotYet(_) | FetchError::Refused(_) | FetchError::Unreadable { .. } => (true, None),
        FetchError::Throttled { retry_after, .. } => (false, Some(throttled_for(*retry_after))),
        FetchError::Unavailable(_) | FetchError::Denied(_) => (false, None),
    }
}

/// When a page of the list failed: a 429 pauses the account for this long. At `None` its list is asked whether it works at all.
pub fn pause_after_page(error: &FetchError) -> Option<Duration> {
    let FetchError::Throttled { retry_after, .. } = error else { return None };
    Some(retry_after.unwrap_or(THROTTLED_FOR))
}

/// Whether a page of the list that failed so says nothing of its account: the API is there, knows us, and does not want this page.
pub fn is_of_the_page(error: &FetchError) -> bool {
    matches!(error, FetchError::Refused(_))
}

/// When the question failed whether an account works: the pause, or `None` if that is no reason for one.
pub fn pause_after_question(error: &FetchError, depth: ProbeDepth) -> Option<(PauseReason, Duration)> {
    match error {
        FetchError::Throttled { .. } => {
            pause_after_page(error).map(|length| (PauseReason::Throttled, length))
        }
        // Asked because of many 404 or refusals: one bad moment of the API answers nothing.
        FetchError::Unavailable(_) if depth == ProbeDepth::Single => None,
        FetchError::Unavailable(_) => Some((PauseReason::Unavailable, PROBE_AFTER)),
        FetchError::Unreadable { .. } => Some((PauseReason::Unreadable, PROBE_AFTER)),
        FetchError::NotYet(_) | FetchError::Denied(_) | FetchError::Refused(_) => {
            Some((PauseReason::Denied, PROBE_AFTER))
        }
    }
}

/// Equal failures in a row over all calls of an account: signs that not a call but its account or the API fails.
#[derive(Debug, Default)]
pub struct Streak {
    class: Option<ErrorClass>,
    length: u32,
    last_call: Option<CallId>,
}

impl Streak {
    /// A good answer: whatever was suspected is over.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure and says how many of its class there are in a row, this one included; zero if it is of the same call as
    /// the last one: one call alone proves nothing.
    pub fn count(&mut self, class: ErrorClass, call_id: &CallId) -> u32 {
        if self.class != Some(class) {
            *self = Self { class: Some(class), length: 0, last_call: None };
        }
        if self.last_call.as_ref() == Some(call_id) {
            return 0;
        }
        self.last_call = Some(call_id.clone());
        self.length += 1;
        self.length
    }
}
