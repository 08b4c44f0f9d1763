//! Single values as plain text, in a CSV file or in a table of the owner's: as lenient in spelling and as strict in meaning as the
//! values of a CDR, but what cannot be read is an error that quotes it, for there is no record to keep it beside.

use chrono::{DateTime, Utc};

use super::id::uuid_in_lower_case;
use super::numeric::InvalidNumeric;
use super::value::shorten;
use super::{Moment, Numeric, plausible, time};

/// Nothing, in the spellings of exports and of Postgres. A text beyond these is something.
pub fn is_nothing(text: &str) -> bool {
    matches!(text.trim(), "" | "null" | "NULL" | "\\N" | "-")
}

/// A number, exactly or not at all.
pub fn decimal(text: &str) -> Result<Numeric, String> {
    text.trim().parse().map_err(|error: InvalidNumeric| format!("{error}: {:?}", shorten(text)))
}

/// Seconds that are written by the clock (`00:01:12`); None for whatever else.
pub fn by_the_clock(text: &str) -> Option<Numeric> {
    plausible::by_the_clock(text.trim())
}

/// The code of a currency; a word that names none in upper case, as those of a CDR.
pub fn currency(text: &str) -> String {
    super::currency::code(text).map_or_else(|| text.trim().to_uppercase(), str::to_owned)
}

/// A time with its zone or without one, in a spelling that says it exactly; None if it is not written like that.
pub fn moment(text: &str) -> Option<Moment> {
    let text = text.trim();
    // A short number is a day of a spreadsheet, or nothing.
    let since_1970 = || if text.len() >= 10 { time::since_1970(text) } else { None };
    let read =
        time::moment(text).or_else(|| since_1970().or_else(|| time::rfc2822(text)).map(Moment::Instant));
    match read? {
        Moment::Instant(at) => time::kept(at).map(Moment::Instant),
        Moment::Local(at) => time::kept(at.and_utc()).map(|at| Moment::Local(at.naive_utc())),
    }
}

/// Whether a text writes no time as a zero or as a year before 2000, be there such a day or not.
pub fn is_before_2000(text: &str) -> bool {
    text.trim() == "0" || time::is_year_before_2000(text.trim())
}

/// The time, if somebody can have meant it, as those of a CDR: none before 2000 and none in the future.
pub fn possible(moment: Moment, now: DateTime<Utc>) -> Option<Moment> {
    let at = match moment {
        Moment::Instant(at) => at,
        Moment::Local(at) => at.and_utc(),
    };
    plausible::is_of_our_time(at, now).then_some(moment)
}

/// A text that Postgres can hold.
pub fn text(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("U+0000 in a text: {:?}", shorten(text)));
    }
    Ok(text.trim().to_owned())
}

/// An id of a call; a UUID in lower case, as calls are stored.
pub fn call_id(text: &str) -> Result<String, String> {
    self::text(text).map(|id| uuid_in_lower_case(&id).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_a_few_spellings() {
        assert!(["", "  ", "null", "NULL", "\\N", "-"].into_iter().all(is_nothing));
        assert!(!["0", "none", "--", "Null"].into_iter().any(is_nothing));
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(decimal(" 0.450 ").unwrap().to_string(), "0.450");
        assert_eq!(decimal("42.0").unwrap(), Numeric::from(42));
        for wrong in ["0,45", "1,234.5", "₹1", "1e100", "", "NaN"] {
            assert!(decimal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_keeps_whether_it_had_a_zone() {
        let instant = |text| match moment(text) {
            Some(Moment::Instant(time)) => time.to_rfc3339(),
            other => format!("{other:?}"),
        };
        assert_eq!(instant("2026-03-25T15:30:42+05:30"), "2026-03-25T10:00:42+00:00");
        assert_eq!(instant("2026-03-25 10:00:42+00"), "2026-03-25T10:00:42+00:00");
        assert_eq!(instant(" 1774432842 "), "2026-03-25T10:00:42+00:00");
        let local = moment("2026-03-25 15:30:42");
        assert!(matches!(local, Some(Moment::Local(time)) if time.to_string() == "2026-03-25 15:30:42"));
        for wrong in ["25/03/2026 10:00", "2026-03-25", "0000-01-01 00:00:00", "infinity", "46106.5", ""] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_of_this_century_and_not_of_the_future() {
        let now = "2026-03-25T10:00:00Z".parse().unwrap();
        for (text, is) in [
            ("2026-03-25T10:00:00Z", true),
            ("2026-03-27 10:00:00", true),
            ("2026-03-27 10:00:01", false),
            ("2000-01-01 00:00:00", true),
            ("1999-12-31 23:59:59", false),
            ("0001-01-01T00:00:00Z", false),
        ] {
            assert_eq!(possible(moment(text).unwrap(), now).is_some(), is, "{text}");
        }
        assert!(
            is_before_2000("0000-00-00 00:00:00") && is_before_2000(" 0 ") && !is_before_2000("2000-01-01")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(any in any::<String>()) {
            let _ = (is_nothing(&any), decimal(&any), moment(&any), by_the_clock(&any), text(&any), is_before_2000(&any));
        }
    }
}
