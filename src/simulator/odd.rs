//! Odd records: values that billing systems were reported to send and that must not enter a sum as they stand. Each is written
//! into a CDR as raw JSON, in lists and single fetches alike; totals of lists go on telling the truth. How often is for
//! [`super::Faults`] to say. Promise: the number that is drawn decides which form a call gets.

use std::collections::BTreeMap;

use super::call::Call;

/// What is odd about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// "No time", as programs write it, or a time far ahead.
    NoTime,
    /// An instant in another spelling than RFC 3339.
    TimeSpelling,
    /// Seconds that no call can have.
    ImpossibleSeconds,
    /// Seconds as a clock or with a fraction.
    SecondsSpelling,
    /// Quality figures that cannot be.
    ImpossibleMeasure,
    /// Currency and direction in other spellings.
    WordSpelling,
    /// More decimals than a machine number holds.
    LongAmount,
    /// A token that is no JSON, a raw control character.
    BadToken,
    /// A row that is no JSON and cannot be mended.
    BrokenRow,
}

impl Odd {
    /// Makes the record odd; `nth` chooses the form. What a call sets itself stays.
    pub fn apply(self, call: &mut Call, nth: usize) {
        for (key, json) in self.values(call, nth) {
            call.set.entry(key.to_owned()).or_insert(Some(json));
        }
    }

    fn values(self, call: &Call, nth: usize) -> BTreeMap<&'static str, String> {
        let one_of = |forms: &[&str]| forms[nth % forms.len()].to_owned();
        let pairs = match self {
            Self::NoTime => {
                let no_time = one_of(&[
                    r#""1970-01-01T00:00:00Z""#,
                    r#""1970-01-01T05:30:00+05:30""#,
                    r#""0001-01-01T00:00:00Z""#,
                    r#""1899-12-30 00:00:00""#,
                    r#""2099-12-31T23:59:59Z""#,
                    r#""9999-12-31T00:00:00Z""#,
                    "0",
                    r#""""#,
                ]);
                let keys = ["start_time", "progress_time", "answer_time", "updated_at"];
                vec![(keys[nth / 8 % keys.len()], no_time)]
            }
            Self::TimeSpelling => {
                let at = call.started_at;
                let time = match nth % 5 {
                    0 => at.timestamp().to_string(),
                    1 => at.timestamp_millis().to_string(),
                    2 => format!("\"{}\"", at.to_rfc2822()),
                    3 => format!("\"{}\"", at.format("%Y-%m-%d %H:%M:%S")),
                    _ => format!("\"{}+0000\"", at.format("%Y-%m-%dT%H:%M:%S")),
                };
                vec![("start_time", time)]
            }
            Self::ImpossibleSeconds => {
                let seconds = one_of(&["-1589286045", "-1", "2592001", "4294967295"]);
                vec![("billsec", seconds.clone()), ("duration", seconds)]
            }
            Self::SecondsSpelling => {
                let (seconds, duration) = (call.billsec, call.duration());
                let clock = |s: u64| format!("\"{:02}:{:02}:{:02}\"", s / 3600, s / 60 % 60, s % 60);
                match nth % 3 {
                    0 => vec![("billsec", clock(seconds.into())), ("duration", clock(duration))],
                    1 => {
                        vec![("billsec", format!("{seconds}.4")), ("duration", format!("\"{duration}.25\""))]
                    }
                    _ => vec![("billsec", format!("\"{seconds}\""))],
                }
            }
            Self::ImpossibleMeasure => match nth % 3 {
                0 => vec![("mos", "45".into())],
                1 => vec![("jitter", "-0.1".into())],
                _ => vec![("packet_loss", "250.5".into())],
            },
            Self::WordSpelling => {
                let word = if nth.is_multiple_of(2) { "incoming" } else { "OUTGOING " };
                let direction = match call.direction {
                    super::Direction::Inbound if nth.is_multiple_of(2) => word,
                    super::Direction::Outbound if !nth.is_multiple_of(2) => word,
                    other => other.as_str(),
                };
                let currency =
                    if nth % 4 < 2 { call.currency.to_lowercase() } else { format!(" {} ", call.currency) };
                vec![("currency", format!("\"{currency}\"")), ("call_direction", format!("\"{direction}\""))]
            }
            // A tenth as a binary float prints it, to its last digit; it is what the float would be, not what the call costs.
            Self::LongAmount => {
                vec![("streaming_cost", "0.1000000000000000055511151231257827021181583404541015625".into())]
            }
            Self::BadToken => match nth % 4 {
                0 => vec![("packet_loss", "NaN".into())],
                1 => vec![("jitter", "-nan".into()), ("codec", "undefined".into())],
                2 => vec![("mos", "Infinity".into())],
                _ => vec![("caller_id_name", "\"Asha\nRao\"".into())],
            },
            Self::BrokenRow => {
                vec![("caller_id_name", one_of(&[r#""Asha "the boss" Rao""#, r#""Asha 5" Rao""#, ""]))]
            }
        };
        pairs.into_iter().collect()
    }
}

/// Ids that callbacks were seen to carry in place of one: what JavaScript, Python and unfilled templates say.
pub(super) const NO_IDS: [&str; 6] = ["undefined", "null", "None", "0", "{{CallUUID}}", "NaN"];
