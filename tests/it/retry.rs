//! The whole rule of what happens when a request fails, as one table: a failure, the steps with what each brought, and its end.
//! Rows marked CORNER hold what one would not guess.

use std::time::Duration;

use proptest::prelude::*;
use vobiz_cdr::retry::Elsewhere::{NoTurn, Nowhere, SomeAway};
use vobiz_cdr::retry::ErrorClass::{self, NeverAppeared, NotYet, Refused, Unavailable, Unreadable};
use vobiz_cdr::retry::ListAnswer::{AccessChanged, CallAlone, Paused};
use vobiz_cdr::retry::NextStep::{
    AskList, AskOtherAccounts, Bury, Close, CountInStreak, LookUpBySip, PauseAccount, Release, Wait,
};
use vobiz_cdr::retry::ProbeDepth::{List, Single};
use vobiz_cdr::retry::{
    self, Elsewhere, Failure, History, Learned, ListAnswer, NextStep, PauseReason, ProbeDepth, Streak,
};
use vobiz_cdr::vobiz::{CallId, FetchError};

const HOUR: u64 = 3600;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn not_yet() -> FetchError {
    FetchError::NotYet("404: {}".into())
}

fn down() -> FetchError {
    FetchError::Unavailable("502".into())
}

fn refused() -> FetchError {
    FetchError::Refused("422".into())
}

fn denied() -> FetchError {
    FetchError::Denied("403: {}".into())
}

fn unreadable() -> FetchError {
    FetchError::Unreadable { why: "no uuid".into(), body: bytes::Bytes::new() }
}

fn throttled(retry_after: Option<u64>) -> FetchError {
    FetchError::Throttled { retry_after: retry_after.map(s), said: "429: {}".into() }
}

/// What is known of a call: its failures so far, and whether its callback named a SIP Call-ID.
type Known = (History, bool);

/// A certain call without failures so far.
fn fresh() -> Known {
    (History { certain: true, ..History::default() }, false)
}

/// A certain call after so many failures of one class.
fn after(class: ErrorClass, failures: u32) -> Known {
    (History { class: Some(class), failures, ..fresh().0 }, false)
}

/// A certain call that has been missing for so many seconds, and was asked for nine times.
fn missing(seconds: u64) -> Known {
    (History { not_yet_for: Some(s(seconds)), ..after(NotYet, 9).0 }, false)
}

/// A certain call that was unavailable for so many hours, while others came or not.
fn unavailable_for(hours: u64, others_succeed: bool) -> Known {
    (History { failing_for: Some(s(hours * HOUR)), others_succeed, ..after(Unavailable, 300).0 }, false)
}

fn speculative((history, sip): Known) -> Known {
    (History { certain: false, ..history }, sip)
}

fn with_sip((history, _): Known) -> Known {
    (history, true)
}

/// So many equal failures in a row.
fn counted(class: ErrorClass, in_a_row: u32) -> (NextStep, Learned) {
    (CountInStreak(class), Learned::InARow(in_a_row))
}

/// The first of its class.
fn once(class: ErrorClass) -> (NextStep, Learned) {
    counted(class, 1)
}

/// The account is asked after a denial.
fn denial(access: ListAnswer) -> (NextStep, Learned) {
    (AskList(List, "denied: 403".into()), Learned::Access(List, access))
}

/// The account is asked after many failures.
fn question(class: &str, depth: ProbeDepth, access: ListAnswer) -> (NextStep, Learned) {
    (AskList(depth, format!("many {class} answers in a row")), Learned::Access(depth, access))
}

fn pause(reason: PauseReason, seconds: u64) -> (NextStep, Learned) {
    let why = match reason {
        PauseReason::Throttled => "throttled: 429",
        _ => "many answers in a row cannot be read: the format may have changed (see last_body)",
    };
    (PauseAccount(reason, s(seconds), why.into()), Learned::Paused)
}

/// Looked up by its SIP Call-ID, and not in the list.
fn not_listed() -> (NextStep, Learned) {
    (LookUpBySip, Learned::NotListed)
}

/// The other accounts are asked after 24 hours, with or without an end to the waiting.
fn others(until_all: bool, said: Elsewhere) -> (NextStep, Learned) {
    (AskOtherAccounts { until_all }, Learned::Elsewhere(said))
}

const ALL: Elsewhere = Nowhere { asked: 2, others: 2 };
const SOME: Elsewhere = Nowhere { asked: 1, others: 2 };
const NO_OTHERS: Elsewhere = Nowhere { asked: 0, others: 0 };

type Row = (FetchError, Known, Vec<(NextStep, Learned)>, NextStep);

#[rustfmt::skip]
fn table() -> Vec<Row> {
    use PauseReason::Throttled;
    vec![
        // not_yet: 4 s doubling to 15 min; the count restarts with the class.
        (not_yet(), fresh(), vec![once(NotYet)], Wait(NotYet, s(4))),
        (not_yet(), after(NotYet, 1), vec![once(NotYet)], Wait(NotYet, s(8))),
        (not_yet(), after(NotYet, 7), vec![once(NotYet)], Wait(NotYet, s(512))),
        (not_yet(), after(NotYet, 8), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), after(NotYet, u32::MAX), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), after(Unavailable, 7), vec![once(NotYet)], Wait(NotYet, s(4))),
        // A speculative call is closed after an hour of it.
        (not_yet(), speculative(fresh()), vec![once(NotYet)], Wait(NotYet, s(4))),
        (not_yet(), speculative(missing(HOUR - 1)), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), speculative(missing(HOUR)), vec![once(NotYet)], Close(NotYet)),
        (not_yet(), speculative(missing(30 * HOUR)), vec![once(NotYet)], Close(NotYet)),
        // From 10 min on, a call whose SIP Call-ID is known is looked up each time; if it is not listed, it goes on as before.
        (not_yet(), with_sip(fresh()), vec![once(NotYet)], Wait(NotYet, s(4))),
        (not_yet(), with_sip(missing(599)), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), missing(600), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), with_sip(missing(600)), vec![once(NotYet), not_listed()], Wait(NotYet, s(900))),
        (not_yet(), with_sip(missing(24 * HOUR - 1)), vec![once(NotYet), not_listed()], Wait(NotYet, s(900))),
        (not_yet(), with_sip(speculative(missing(HOUR))), vec![once(NotYet), not_listed()], Close(NotYet)),
        // CORNER: at 24 h it is looked up no more.
        (not_yet(), with_sip(missing(24 * HOUR)), vec![once(NeverAppeared), others(true, ALL)], Bury(NeverAppeared)),
        // CORNER: an outage after 10 min of 404 looks nothing up.
        (down(), with_sip(missing(600)), vec![once(Unavailable)], Wait(Unavailable, s(2))),
        // At 24 h the other accounts are asked. The call waits until all of them have answered, but not beyond 48 h.
        (not_yet(), missing(24 * HOUR - 1), vec![once(NotYet)], Wait(NotYet, s(900))),
        (not_yet(), missing(24 * HOUR), vec![once(NeverAppeared), others(true, ALL)], Bury(NeverAppeared)),
        (not_yet(), missing(24 * HOUR), vec![once(NeverAppeared), others(true, SomeAway)], Release(s(HOUR))),
        (not_yet(), missing(24 * HOUR), vec![once(NeverAppeared), others(true, NoTurn)], Release(s(900))),
        (not_yet(), missing(48 * HOUR - 1), vec![once(NeverAppeared), others(true, SomeAway)], Release(s(HOUR))),
        (not_yet(), missing(48 * HOUR), vec![once(NeverAppeared), others(false, SOME)], Bury(NeverAppeared)),
        // CORNER: for a turn it waits beyond 48 h as well.
        (not_yet(), missing(48 * HOUR), vec![once(NeverAppeared), others(false, NoTurn)], Release(s(900))),
        // CORNER: the call of an only account takes its turn too, to ask nobody.
        (not_yet(), missing(24 * HOUR), vec![once(NeverAppeared), others(true, NO_OTHERS)], Bury(NeverAppeared)),
        // 20 in a row: the account is asked, down to a single call. Its pause costs the call nothing.
        (not_yet(), fresh(), vec![counted(NotYet, 0)], Wait(NotYet, s(4))),
        (not_yet(), fresh(), vec![counted(NotYet, 19)], Wait(NotYet, s(4))),
        (not_yet(), fresh(), vec![counted(NotYet, 20), question("not_yet", Single, CallAlone)], Wait(NotYet, s(4))),
        (not_yet(), fresh(), vec![counted(NotYet, 20), question("not_yet", Single, AccessChanged)], Release(s(0))),
        (not_yet(), fresh(), vec![counted(NotYet, 20), question("not_yet", Single, Paused)], Release(s(0))),
        (not_yet(), fresh(), vec![counted(NotYet, 21)], Wait(NotYet, s(4))),
        (not_yet(), speculative(missing(HOUR)), vec![counted(NotYet, 40), question("not_yet", Single, Paused)], Release(s(0))),
        (not_yet(), with_sip(missing(600)), vec![counted(NotYet, 40), question("not_yet", Single, Paused)], Release(s(0))),
        (not_yet(), with_sip(missing(600)), vec![counted(NotYet, 40), question("not_yet", Single, CallAlone), not_listed()], Wait(NotYet, s(900))),
        // CORNER: calls that never appeared are a class of their own in the streak, and 20 of them ask nothing.
        (not_yet(), missing(24 * HOUR), vec![counted(NeverAppeared, 20), others(true, ALL)], Bury(NeverAppeared)),

        // throttled: the account pauses as long as Vobiz says, at least a second. It counts nowhere.
        (throttled(None), fresh(), vec![pause(Throttled, 60)], Release(s(0))),
        (throttled(Some(7)), after(Refused, 4), vec![pause(Throttled, 7)], Release(s(0))),
        (throttled(Some(0)), with_sip(missing(30 * HOUR)), vec![pause(Throttled, 1)], Release(s(0))),

        // unavailable: 2 s doubling to 15 min, for ever; 20 in a row: the list is asked.
        (down(), fresh(), vec![once(Unavailable)], Wait(Unavailable, s(2))),
        (down(), after(Unavailable, 5), vec![once(Unavailable)], Wait(Unavailable, s(64))),
        (down(), after(Unavailable, u32::MAX), vec![once(Unavailable)], Wait(Unavailable, s(900))),
        (down(), after(NotYet, 5), vec![once(Unavailable)], Wait(Unavailable, s(2))),
        (down(), missing(1000 * HOUR), vec![once(Unavailable)], Wait(Unavailable, s(2))),
        (down(), speculative(missing(1000 * HOUR)), vec![once(Unavailable)], Wait(Unavailable, s(2))),
        // Alone for three days, while others come: it is the call.
        (down(), unavailable_for(71, true), vec![once(Unavailable)], Wait(Unavailable, s(900))),
        (down(), unavailable_for(72, true), vec![once(Unavailable)], Bury(Unavailable)),
        (down(), unavailable_for(900, false), vec![once(Unavailable)], Wait(Unavailable, s(900))),
        (down(), speculative(unavailable_for(72, true)), vec![once(Unavailable)], Close(Unavailable)),
        (not_yet(), unavailable_for(900, true), vec![once(NotYet)], Wait(NotYet, s(4))),
        (down(), unavailable_for(900, true), vec![counted(Unavailable, 20), question("unavailable", List, Paused)], Release(s(0))),
        (down(), fresh(), vec![counted(Unavailable, 20), question("unavailable", List, CallAlone)], Wait(Unavailable, s(2))),
        (down(), fresh(), vec![counted(Unavailable, 20), question("unavailable", List, AccessChanged)], Release(s(0))),
        (down(), fresh(), vec![counted(Unavailable, 20), question("unavailable", List, Paused)], Release(s(0))),

        // denied: the list is asked at once. If it works, this call alone is refused.
        (denied(), after(Refused, 4), vec![denial(Paused)], Release(s(0))),
        (denied(), after(Refused, 4), vec![denial(AccessChanged)], Release(s(0))),
        (denied(), fresh(), vec![denial(CallAlone), once(Refused)], Wait(Refused, s(60))),
        (denied(), after(Refused, 4), vec![denial(CallAlone), once(Refused)], Bury(Refused)),
        (denied(), speculative(after(Refused, 4)), vec![denial(CallAlone), once(Refused)], Close(Refused)),
        // CORNER: the list works while 20 in a row are denied: the account is asked a second time, down to a single call.
        (denied(), fresh(), vec![denial(CallAlone), counted(Refused, 20), question("refused", Single, CallAlone)], Wait(Refused, s(60))),
        (denied(), fresh(), vec![denial(CallAlone), counted(Refused, 20), question("refused", Single, Paused)], Release(s(0))),

        // refused: five tries over an hour.
        (refused(), fresh(), vec![once(Refused)], Wait(Refused, s(60))),
        (refused(), after(Refused, 1), vec![once(Refused)], Wait(Refused, s(240))),
        (refused(), after(Refused, 2), vec![once(Refused)], Wait(Refused, s(900))),
        (refused(), after(Refused, 3), vec![once(Refused)], Wait(Refused, s(HOUR - 60 - 240 - 900))),
        (refused(), after(Refused, 4), vec![once(Refused)], Bury(Refused)),
        (refused(), after(Refused, u32::MAX), vec![once(Refused)], Bury(Refused)),
        (refused(), speculative(after(Refused, 4)), vec![once(Refused)], Close(Refused)),
        (refused(), after(Unreadable, 4), vec![once(Refused)], Wait(Refused, s(60))),
        (refused(), after(Refused, 4), vec![counted(Refused, 20), question("refused", Single, CallAlone)], Bury(Refused)),
        (refused(), after(Refused, 4), vec![counted(Refused, 20), question("refused", Single, AccessChanged)], Release(s(0))),
        (refused(), after(Refused, 4), vec![counted(Refused, 20), question("refused", Single, Paused)], Release(s(0))),

        // unreadable: the same tries.
        (unreadable(), fresh(), vec![once(Unreadable)], Wait(Unreadable, s(60))),
        (unreadable(), after(Refused, 4), vec![once(Unreadable)], Wait(Unreadable, s(60))),
        (unreadable(), after(Unreadable, 4), vec![once(Unreadable)], Bury(Unreadable)),
        (unreadable(), speculative(after(Unreadable, 4)), vec![once(Unreadable)], Close(Unreadable)),
        // CORNER: 20 in a row pause the account without a question, and cost each call a try all the same.
        (unreadable(), fresh(), vec![counted(Unreadable, 20), pause(PauseReason::Unreadable, 60)], Wait(Unreadable, s(60))),
        (unreadable(), after(Unreadable, 4), vec![counted(Unreadable, 40), pause(PauseReason::Unreadable, 60)], Bury(Unreadable)),
    ]
}

#[test]
fn each_failure_takes_its_steps_to_its_end() {
    for (error, (history, sip), steps, end) in table() {
        let name = format!("{error} after {history:?}, SIP Call-ID known: {sip}, {steps:?}");
        let mut failure = Failure::new(error, history, sip, 0.0);
        for (step, answer) in steps {
            assert_eq!(failure.next_step(), step, "{name}");
            failure.learn(answer);
        }
        assert_eq!(failure.next_step(), end, "{name}");
    }
}

#[test]
fn what_was_found_out_is_kept_with_the_call() {
    let evidence = |error: FetchError, answers: &[Learned]| {
        let mut failure = Failure::new(error, fresh().0, false, 0.0);
        for answer in answers {
            failure.learn(*answer);
        }
        failure.evidence()
    };
    let alone = Learned::Access(List, CallAlone);
    assert_eq!(evidence(denied(), &[alone]), "refused: denied: 403: {}; the account's list works");
    assert_eq!(evidence(not_yet(), &[]), "not yet: 404: {}");
    assert_eq!(evidence(not_yet(), &[Learned::Elsewhere(NO_OTHERS)]), "not yet: 404: {}");
    let asked = "not yet: 404: {}; 1 of 2 other accounts asked, none has it";
    assert_eq!(evidence(not_yet(), &[Learned::Elsewhere(SOME)]), asked);
    assert_eq!(evidence(unreadable(), &[Learned::Paused]), "unreadable: no uuid");
}

#[test]
fn another_account_answers_by_saying_no() {
    for (error, is_answer, pause) in [
        (not_yet(), true, None),
        (refused(), true, None),
        (unreadable(), true, None),
        (throttled(Some(0)), false, Some(s(1))),
        (throttled(None), false, Some(s(60))),
        (down(), false, None),
        (denied(), false, None),
    ] {
        assert_eq!(retry::answer_of_other_account(&error), (is_answer, pause), "{error}");
    }
}

#[test]
fn a_list_that_fails_pauses_its_account() {
    for (error, after_page, list, single) in [
        (throttled(None), Some(60), Some((PauseReason::Throttled, 60)), Some((PauseReason::Throttled, 60))),
        // CORNER: no second at least, unlike a 429 on a call.
        (throttled(Some(0)), Some(0), Some((PauseReason::Throttled, 0)), Some((PauseReason::Throttled, 0))),
        (down(), None, Some((PauseReason::Unavailable, 60)), None),
        (unreadable(), None, Some((PauseReason::Unreadable, 60)), Some((PauseReason::Unreadable, 60))),
        (denied(), None, Some((PauseReason::Denied, 60)), Some((PauseReason::Denied, 60))),
        (not_yet(), None, Some((PauseReason::Denied, 60)), Some((PauseReason::Denied, 60))),
        (refused(), None, Some((PauseReason::Denied, 60)), Some((PauseReason::Denied, 60))),
    ] {
        let seconds = |(reason, length): (PauseReason, Duration)| (reason, length.as_secs());
        assert_eq!(retry::pause_after_page(&error).map(|length| length.as_secs()), after_page, "{error}");
        assert_eq!(retry::pause_after_question(&error, List).map(seconds), list, "{error}");
        assert_eq!(retry::pause_after_question(&error, Single).map(seconds), single, "{error}");
    }
}

#[test]
fn a_streak_is_of_one_class_and_of_different_calls() {
    let id = |n: u32| CallId::new(&format!("call-{n}")).unwrap();
    let mut streak = Streak::default();
    let counts: Vec<u32> = (0..100).map(|n| streak.count(Unavailable, &id(n))).collect();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    assert_eq!(streak.count(Unreadable, &id(1)), 1, "it restarts with the class");
    for _ in 0..100 {
        assert_eq!(streak.count(Unreadable, &id(1)), 0, "one call alone proves nothing");
    }
    assert_eq!(streak.count(Unreadable, &id(2)), 2);
    assert_eq!(streak.count(Unreadable, &id(1)), 3);
    streak.succeeded();
    assert_eq!(streak.count(Unreadable, &id(2)), 1, "a good answer ends it");
}

#[test]
fn jitter_shortens_waits_and_no_tries() {
    let end = |error, (history, sip): Known, answers: &[Learned]| {
        let mut failure = Failure::new(error, history, sip, 1.0);
        for answer in answers {
            failure.learn(*answer);
        }
        failure.next_step()
    };
    let counted = Learned::InARow(1);
    assert_eq!(end(not_yet(), fresh(), &[counted]), Wait(NotYet, s(3)));
    assert_eq!(end(down(), after(Unavailable, 1), &[counted]), Wait(Unavailable, s(3)));
    assert_eq!(end(refused(), fresh(), &[counted]), Wait(Refused, s(60)));
    let day = missing(24 * HOUR);
    assert_eq!(end(not_yet(), day, &[counted, Learned::Elsewhere(SomeAway)]), Release(s(2700)));
    assert_eq!(end(not_yet(), day, &[counted, Learned::Elsewhere(NoTurn)]), Release(s(675)));
}

proptest! {
    #[test]
    fn a_delay_stays_within_its_bounds(failures in any::<u32>(), jitter in -1.0f64..2.0, is_down in any::<bool>()) {
        let (error, class, first) = if is_down { (down(), Unavailable, s(2)) } else { (not_yet(), NotYet, s(4)) };
        let mut failure = Failure::new(error, after(class, failures).0, false, jitter);
        failure.learn(Learned::InARow(1));
        let Wait(_, delay) = failure.next_step() else {
            return Err(TestCaseError::fail("it waits"));
        };
        prop_assert!(delay >= first.mul_f64(0.75) && delay <= s(900), "{delay:?}");
    }
}
