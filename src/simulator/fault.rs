//! What goes wrong by itself, and how often. A fault is drawn once per call from the seed, in its own stream of
//! numbers: turning faults on changes no call. Scripts of a test are not here, see [`super::Simulator::script`].

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::answer::{Answer, RetryAfter};
use super::odd::{NO_IDS, Odd};

/// The share of calls, 0 to 1, that each fault hits; a call can have several.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The CDR appears `late_by` later than usual.
    pub late: f64,
    /// How late.
    pub late_by: Duration,
    /// The hang-up callback is never sent.
    pub lost_callback: f64,
    /// The hang-up callback is sent twice.
    pub duplicated_callback: f64,
    /// One fetch is answered 429; the forms of [`RetryAfter`] take turns.
    pub throttled: f64,
    /// How long such a 429 asks to wait, in seconds.
    pub throttled_for: u32,
    /// One fetch is answered 500.
    pub server_error: f64,
    /// One fetch is answered with a load balancer's HTML.
    pub html_error: f64,
    /// One fetch is cut off in the middle of the body.
    pub half_body: f64,
    /// One fetch is closed without an answer.
    pub reset: f64,
    /// One fetch is answered `slow_by` later.
    pub slow: f64,
    /// How slow.
    pub slow_by: Duration,
    /// One fetch says `success: false`.
    pub success_false: f64,
    /// One fetch shows another call's `uuid`.
    pub wrong_uuid: f64,
    /// One fetch is answered 200 without a body.
    pub empty_body: f64,
    /// The cost changes, and `updated_at` moves, `revised_after` the CDR's appearance.
    pub revised_later: f64,
    /// How much later.
    pub revised_after: Duration,
    /// A time says "no time" (1970, year 1, 2099). This and the next ones are values of the record: see [`Odd`].
    pub no_time: f64,
    /// A time is written as seconds since 1970, as RFC 2822, or without a zone.
    pub time_spelling: f64,
    /// Seconds below zero or beyond a month.
    pub impossible_seconds: f64,
    /// Seconds as `00:01:12` or with a fraction.
    pub seconds_spelling: f64,
    /// An opinion score of 45, jitter below zero, more loss than all.
    pub impossible_measure: f64,
    /// `inr`, `OUTGOING `.
    pub word_spelling: f64,
    /// An amount with 55 decimals.
    pub long_amount: f64,
    /// `NaN`, `undefined`, a raw line break.
    pub bad_token: f64,
    /// Text that is no JSON and cannot be mended.
    pub broken_row: f64,
    /// A page of a list that would show the call is refused with 400.
    pub unprintable: f64,
    /// The call is charged in USD.
    pub other_currency: f64,
    /// The hang-up callback names `undefined` or the like instead of the call.
    pub no_id: f64,
    /// The hang-up callback writes the UUID in upper case.
    pub upper_case_id: f64,
}

impl Default for Faults {
    /// Nothing goes wrong.
    fn default() -> Self {
        Self {
            late: 0.0,
            late_by: Duration::from_secs(20),
            lost_callback: 0.0,
            duplicated_callback: 0.0,
            throttled: 0.0,
            throttled_for: 1,
            server_error: 0.0,
            html_error: 0.0,
            half_body: 0.0,
            reset: 0.0,
            slow: 0.0,
            slow_by: Duration::from_secs(2),
            success_false: 0.0,
            wrong_uuid: 0.0,
            empty_body: 0.0,
            revised_later: 0.0,
            revised_after: Duration::from_secs(30),
            no_time: 0.0,
            time_spelling: 0.0,
            impossible_seconds: 0.0,
            seconds_spelling: 0.0,
            impossible_measure: 0.0,
            word_spelling: 0.0,
            long_amount: 0.0,
            bad_token: 0.0,
            broken_row: 0.0,
            unprintable: 0.0,
            other_currency: 0.0,
            no_id: 0.0,
            upper_case_id: 0.0,
        }
    }
}

impl Faults {
    /// A bad day at Vobiz: some of everything, yet a demonstration ends within a minute.
    pub fn some() -> Self {
        Self {
            late: 0.05,
            late_by: Duration::from_secs(8),
            lost_callback: 0.02,
            duplicated_callback: 0.05,
            throttled: 0.002,
            server_error: 0.03,
            html_error: 0.02,
            half_body: 0.02,
            reset: 0.02,
            slow: 0.02,
            success_false: 0.01,
            wrong_uuid: 0.005,
            empty_body: 0.01,
            revised_later: 0.02,
            ..Self::default()
        }
    }
}

/// What one call has drawn.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub(super) struct Drawn {
    pub(super) late_by: Option<Duration>,
    pub(super) lost_callback: bool,
    pub(super) duplicated_callback: bool,
    pub(super) revised_after: Option<Duration>,
    /// The answers of its first fetches.
    pub(super) script: Vec<Answer>,
    /// What is odd about its record, and which form each takes.
    pub(super) odd: Vec<(Odd, usize)>,
    /// What its hang-up callback names in place of the call.
    pub(super) no_id: Option<&'static str>,
    pub(super) upper_case_id: bool,
    pub(super) unprintable: bool,
    pub(super) other_currency: bool,
}

impl Faults {
    /// Draws for one call. `throttles` counts the 429 drawn so far, which is what makes their forms take turns.
    pub(super) fn draw(&self, numbers: &mut StdRng, throttles: &mut usize) -> Drawn {
        // Every fault takes its number, hit or not, and always in this order: another share for one fault must not
        // move the others to other calls.
        let mut hit = |share: f64| numbers.random::<f64>() < share;
        let mut drawn = Drawn {
            late_by: hit(self.late).then_some(self.late_by),
            lost_callback: hit(self.lost_callback),
            duplicated_callback: hit(self.duplicated_callback),
            revised_after: hit(self.revised_later).then_some(self.revised_after),
            ..Drawn::default()
        };
        if hit(self.throttled) {
            let forms = RetryAfter::each(self.throttled_for);
            drawn.script.push(Answer::Throttled(forms[*throttles % forms.len()]));
            *throttles += 1;
        }
        let answers = [
            (self.server_error, Answer::server_error as fn() -> Answer),
            (self.html_error, || Answer::Html),
            (self.half_body, || Answer::HalfBody),
            (self.reset, || Answer::Reset),
            (self.success_false, || Answer::SuccessFalse),
            (self.wrong_uuid, || Answer::WrongUuid),
            (self.empty_body, || Answer::Empty),
        ];
        for (share, answer) in answers {
            if hit(share) {
                drawn.script.push(answer());
            }
        }
        if hit(self.slow) {
            drawn.script.push(Answer::Slow(self.slow_by));
        }
        let odd = [
            (self.no_time, Odd::NoTime),
            (self.time_spelling, Odd::TimeSpelling),
            (self.impossible_seconds, Odd::ImpossibleSeconds),
            (self.seconds_spelling, Odd::SecondsSpelling),
            (self.impossible_measure, Odd::ImpossibleMeasure),
            (self.word_spelling, Odd::WordSpelling),
            (self.long_amount, Odd::LongAmount),
            (self.bad_token, Odd::BadToken),
            (self.broken_row, Odd::BrokenRow),
        ];
        for (share, odd) in odd {
            let (hit, nth) = (numbers.random::<f64>() < share, numbers.random_range(0..1000));
            if hit {
                drawn.odd.push((odd, nth));
            }
        }
        let (hit, nth) = (numbers.random::<f64>() < self.no_id, numbers.random_range(0..NO_IDS.len()));
        drawn.no_id = hit.then_some(NO_IDS[nth]);
        drawn.upper_case_id = numbers.random::<f64>() < self.upper_case_id;
        drawn.unprintable = numbers.random::<f64>() < self.unprintable;
        drawn.other_currency = numbers.random::<f64>() < self.other_currency;
        drawn
    }
}
