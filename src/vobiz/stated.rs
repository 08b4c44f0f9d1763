//! Seconds as a row states them, before anything is taken out or rounded: below zero, beyond a month, with a fraction. No sum of ours has
//! them, but Vobiz's own totals may count them. Pure.

use super::cdr::Cdr;
use super::value::Read;
use super::{Numeric, json, plausible};

/// The seconds of a row that are compared with Vobiz's totals; none where nothing came, or nothing that is a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatedSeconds {
    /// `duration`.
    pub duration: Option<Numeric>,
    /// `billsec`.
    pub billsec: Option<Numeric>,
}

impl Cdr {
    /// The seconds that its text states.
    pub fn stated_seconds(&self) -> StatedSeconds {
        let noted = |note: &String| {
            note.split_once(": ").is_some_and(|(field, _)| matches!(field, "duration" | "billsec"))
        };
        // Of almost every row that is what was read.
        if !self.notes.iter().any(noted) {
            let whole = |seconds: Option<i32>| seconds.and_then(|seconds| seconds.to_string().parse().ok());
            return StatedSeconds {
                duration: whole(self.fields.duration),
                billsec: whole(self.fields.billsec),
            };
        }
        let members = json::members(self.payload.text());
        let of = |key| {
            members.iter().rev().find(|member| member.key == key).and_then(|member| seconds(member.value))
        };
        StatedSeconds { duration: of("duration"), billsec: of("billsec") }
    }
}

/// A number of seconds as it was written: a number, or by the clock.
pub(super) fn seconds(written: &str) -> Option<Numeric> {
    let by_the_clock = || plausible::by_the_clock(json::string(written).0.trim());
    Numeric::read(written).0.or_else(|| written.starts_with('"').then(by_the_clock)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vobiz::{HomeCountry, Payload};

    #[test]
    fn seconds_are_stated_as_they_were_written() {
        for (written, stated) in [
            ("42", Some("42")),
            ("-5", Some("-5")),
            ("42.5", Some("42.5")),
            ("\" 42.50 \"", Some("42.50")),
            ("-1589286045", Some("-1589286045")),
            ("4294967295", Some("4294967295")),
            ("1e3", Some("1000")),
            ("\"00:01:12\"", Some("72")),
            ("\"01:12.5\"", Some("72.5")),
            ("\"abc\"", None),
            ("{}", None),
            ("null", None),
            ("true", None),
        ] {
            let text = format!(r#"{{"uuid":"a","duration":7,"duration":{written},"billsec":{written}}}"#);
            let cdr = Cdr::read_kept(&Payload::new(text.as_str()), HomeCountry::INDIA, false).unwrap();
            let stated: Option<Numeric> = stated.map(|text| text.parse().unwrap());
            assert_eq!(
                cdr.stated_seconds(),
                StatedSeconds { duration: stated.clone(), billsec: stated },
                "{written}"
            );
        }
    }
}
