//! Single values as plain text, in a CSV file or in a table of the owner's: as lenient in spelling and as strict in meaning as the
//! values of a CDR, but what cannot be read is an error that quotes it, for there is no record to keep it beside.

use super::Numeric;
use super::id::uuid_in_lower_case;
use super::numeric::InvalidNumeric;
use super::time::{Moment, kept, moment};
use super::value::shorten;

/// Nothing, in the spellings of exports and of Postgres. A text beyond these is something.
pub fn is_nothing(text: &str) -> bool {
    matches!(text.trim(), "" | "null" | "NULL" | "\\N" | "-")
}

/// A number, exactly or not at all.
pub fn decimal(text: &str) -> Result<Numeric, String> {
    text.trim().parse().map_err(|error: InvalidNumeric| format!("{error}: {:?}", shorten(text)))
}

/// A time with its zone or without one; Go's zero time is none.
pub fn time(text: &str) -> Result<Option<Moment>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with("0001-01-01") {
        return Ok(None);
    }
    let read = match moment(trimmed) {
        Some(Moment::Instant(time)) => kept(time).map(Moment::Instant),
        Some(Moment::Local(time)) => kept(time.and_utc()).map(|time| Moment::Local(time.naive_utc())),
        None => None,
    };
    read.map(Some).ok_or_else(|| format!("not a time such as 2026-03-25 10:00:42: {:?}", shorten(text)))
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
        let instant = |text| match time(text) {
            Ok(Some(Moment::Instant(time))) => time.to_rfc3339(),
            other => format!("{other:?}"),
        };
        assert_eq!(instant("2026-03-25T15:30:42+05:30"), "2026-03-25T10:00:42+00:00");
        assert_eq!(instant("2026-03-25 10:00:42+00"), "2026-03-25T10:00:42+00:00");
        let local = time("2026-03-25 15:30:42").unwrap();
        assert!(matches!(local, Some(Moment::Local(time)) if time.to_string() == "2026-03-25 15:30:42"));
        assert_eq!(time("0001-01-01T00:00:00Z"), Ok(None));
        for wrong in ["25/03/2026 10:00", "2026-03-25", "0000-01-01 00:00:00", "infinity"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(any in any::<String>()) {
            let _ = (is_nothing(&any), decimal(&any), time(&any), text(&any));
        }
    }
}
