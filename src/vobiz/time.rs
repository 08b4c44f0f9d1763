//! A time as Vobiz writes it, or as anybody might: an instant, or none. What is not exactly one instant is never guessed.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

use super::value::{Read, Reading, refuse, shorten};
use super::{decimal, json};

impl Read for DateTime<Utc> {
    /// RFC 3339 with any fraction and offset (documented: whole seconds and `Z`). What says an instant exactly in another way is
    /// read with a note: offsets without a colon, RFC 2822, seconds and milliseconds since 1970. Without a zone it counts as UTC
    /// and says so (a vendor mock writes it like that). A year before 2000 is how programs write "no time" (0001 in Go, 1899 in
    /// spreadsheets, 1970 where a zero was taken for a time). Kept to the microsecond, as Postgres does, up to the year 9999.
    fn read(written: &str) -> Reading<Self> {
        let text = match written.as_bytes().first() {
            Some(b'"') => json::string(written).0,
            Some(b'-' | b'0'..=b'9') => written.into(),
            _ => return refuse("not a time", written),
        };
        let text = text.trim();
        if text.is_empty() || is_year_before_2000(text) {
            return refuse("no time", written);
        }
        let (time, spelling) = match moment(text) {
            Some(Moment::Instant(time)) => (time, (!is_rfc3339(text)).then_some("")),
            Some(Moment::Local(time)) => (time.and_utc(), Some("no zone, taken as UTC")),
            None => match since_1970(text).or_else(|| rfc2822(text)) {
                Some(time) => (time, Some("")),
                None => return refuse("not a time", written),
            },
        };
        let Some(time) = kept(time) else {
            return refuse("not a time between the years 1 and 9999", written);
        };
        if time.timestamp() < YEAR_2000 {
            return refuse("no time", written);
        }
        let complaint = spelling.map(|spelling| match spelling {
            "" => {
                format!("read as {}: {}", time.to_rfc3339_opts(SecondsFormat::AutoSi, true), shorten(written))
            }
            _ => format!("{spelling}: {}", shorten(written)),
        });
        (Some(time), complaint)
    }
}

/// 2000-01-01, in seconds since 1970.
pub(super) const YEAR_2000: i64 = 946_684_800;

/// Whether a date as it is written, in whatever spelling, has a year before 2000.
pub(super) fn is_year_before_2000(text: &str) -> bool {
    let year = text.get(..4).filter(|year| year.bytes().all(|b| b.is_ascii_digit()));
    year.is_some_and(|year| year < "2000" && text[4..].starts_with('-'))
}

/// Seconds (up to ten digits) or milliseconds (up to thirteen) since 1970, with any fraction. A number that is too small for
/// this century is an instant of the last one.
pub(super) fn since_1970(text: &str) -> Option<DateTime<Utc>> {
    let number = decimal::scan(text)?.to_numeric()?;
    let (whole, fraction) = number.as_str().split_once('.').unwrap_or((number.as_str(), ""));
    let milliseconds = match whole.trim_start_matches('-').len() {
        ..=10 => false,
        12 | 13 => true,
        _ => return None,
    };
    let places = if milliseconds { 3 } else { 6 };
    let fraction = fraction.get(..places).unwrap_or(fraction);
    DateTime::from_timestamp_micros(format!("{whole}{fraction:0<places$}").parse().ok()?)
}

/// `Fri, 20 Nov 2026 05:00:00 +0530`. Of the zones that have a name only those that mean one offset: chrono takes the letters
/// of the military, which RFC 2822 says are UTC, for what they are.
pub(super) fn rfc2822(text: &str) -> Option<DateTime<Utc>> {
    let (rest, zone) = text.rsplit_once(' ')?;
    let known = ["GMT", "UT", "UTC", "Z"].iter().any(|name| zone.eq_ignore_ascii_case(name));
    let text = if known { format!("{} +0000", rest.trim_end()) } else { text.to_owned() };
    if zone.len() == 1 && !known {
        return None;
    }
    DateTime::parse_from_rfc2822(&text).ok().map(|time| time.to_utc())
}

/// A time as it was written: an instant, or what a clock on some wall showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// With a zone.
    Instant(DateTime<Utc>),
    /// Without one.
    Local(NaiveDateTime),
}

/// A date and a time of day, with or without a zone; None if it is not written like that.
pub(super) fn moment(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    // Signs, five-digit years and bare dates are nothing Vobiz writes; chrono would take some of them.
    if bytes.len() < 19 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    zoned(text).map(Moment::Instant).or_else(|| zoneless(text).map(Moment::Local))
}

/// The time to the microsecond, as Postgres keeps it, if it lies in the years 1 to 9999. Also because chrono keeps a leap second
/// beside the second; Postgres does not.
pub(super) fn kept(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let kept = DateTime::from_timestamp_micros(time.timestamp_micros());
    kept.filter(|time| (FIRST..=LAST).contains(&time.timestamp()))
}

/// 0001-01-01 and 9999-12-31 23:59:59, in seconds since 1970.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

fn is_rfc3339(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text).is_ok()
}

fn zoned(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = |text: &str| {
        DateTime::parse_from_rfc3339(text)
            // Offsets without a colon or without minutes: `+0530`, Postgres's `+00`.
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f %#z"))
            .ok()
            .map(|time| time.to_utc())
    };
    // `… UTC` alone, and behind the offset, as Go prints it.
    match text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")) {
        Some(text) => zoneless(text).map(|time| time.and_utc()).or_else(|| with_offset(text)),
        None => with_offset(text),
    }
}

fn zoneless(text: &str) -> Option<NaiveDateTime> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"));
    time.ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vobiz::value::Notes;

    fn read(written: &str) -> (Option<String>, String) {
        let mut notes = Notes::default();
        let value: Option<DateTime<Utc>> = notes.read("f", written);
        (value.map(|value| value.to_string()), notes.into_vec().join("; "))
    }

    #[track_caller]
    fn reads(written: &str, value: Option<&str>, note: &str) {
        assert_eq!(read(written), (value.map(str::to_owned), note.to_owned()), "{written}");
    }

    #[test]
    fn times() {
        let utc = Some("2026-03-25 10:00:42 UTC");
        for written in
            ["\"2026-03-25T10:00:42Z\"", "\"2026-03-25T15:30:42+05:30\"", "\" 2026-03-25 10:00:42+00:00 \""]
        {
            reads(written, utc, "");
        }
        reads("\"2026-03-25T10:00:42.123456789012Z\"", Some("2026-03-25 10:00:42.123456 UTC"), "");
        reads("\"2025-12-31T23:59:60Z\"", Some("2026-01-01 00:00:00 UTC"), "");
        for written in ["\"2026-03-25 10:00:42\"", "\"2026-03-25T10:00:42\""] {
            reads(written, utc, &format!("f: no zone, taken as UTC: {written}"));
        }
        reads(
            "\"2026-03-25 10:00:42.662991\"",
            Some("2026-03-25 10:00:42.662991 UTC"),
            "f: no zone, taken as UTC: \"2026-03-25 10:00:42.662991\"",
        );
        for written in [
            "\"yesterday\"",
            "\"2026-03-25\"",
            "\"2026-02-30T10:00:00Z\"",
            "\"+12026-03-25T10:00:42Z\"",
            "17744328420",
            "1774432842123456",
            "1e300",
            "\"Wed, 25 Mar 2026 10:00:42 A\"",
            "\"Wed, 25 Mar 2026 10:00:42 IST\"",
            "\"Mon, 25 Mar 2026 10:00:42 GMT\"",
            "true",
            "{}",
        ] {
            reads(written, None, &format!("f: not a time: {written}"));
        }
        let written = "\"9999-12-31T23:59:59-01:00\"";
        reads(written, None, &format!("f: not a time between the years 1 and 9999: {written}"));
    }

    #[test]
    fn what_says_an_instant_in_another_way_is_read_with_a_note() {
        for written in [
            "\"2026-03-25T15:30:42+0530\"",
            "\"2026-03-25 15:30:42+0530\"",
            "\"2026-03-25 15:30:42 +0530\"",
            "\"2026-03-25 10:00:42+00\"",
            "\"2026-03-25 10:00:42 UTC\"",
            "\"2026-03-25 15:30:42 +0530 UTC\"",
            "\"Wed, 25 Mar 2026 10:00:42 GMT\"",
            "\"Wed, 25 Mar 2026 10:00:42 UTC\"",
            "\"25 Mar 2026 15:30:42 +0530\"",
            "\"Wed, 25 Mar 2026 06:00:42 EDT\"",
            "1774432842",
            "\"1774432842\"",
            "1774432842000",
            "1774432842.0",
            "1.774432842e9",
        ] {
            let note = format!("f: read as 2026-03-25T10:00:42Z: {written}");
            reads(written, Some("2026-03-25 10:00:42 UTC"), &note);
        }
        for (written, fraction) in
            [("1774432842123", "123"), ("1774432842.1234567", "123456"), ("1774432842123.4567", "123456")]
        {
            let time = format!("2026-03-25 10:00:42.{fraction} UTC");
            let note = format!("f: read as 2026-03-25T10:00:42.{fraction}Z: {written}");
            reads(written, Some(&time), &note);
        }
    }

    #[test]
    fn a_year_before_2000_is_no_time() {
        for written in [
            "\"\"",
            "\"0001-01-01T00:00:00Z\"",
            "\"0001-01-01 00:00:00\"",
            "\"0001-01-01T05:30:00+05:30\"",
            "\"0000-00-00 00:00:00\"",
            "\"0000-01-01T00:00:00Z\"",
            "\"1899-12-30T00:00:00Z\"",
            "\"1900-01-01T00:00:00+05:53\"",
            "\"1970-01-01T00:00:00Z\"",
            "\"1970-01-01T05:30:00+0530\"",
            "\"1970-01-01\"",
            "\"1999-12-31T23:59:59Z\"",
            "\"2000-01-01T05:29:59+05:30\"",
            "\"Thu, 01 Jan 1970 00:00:00 GMT\"",
            "0",
            "\"0\"",
            "-1",
            "-62135596800",
            "946684799",
            "946684799999",
            "-62135596800000",
        ] {
            let (value, note) = read(written);
            let refused = ["f: no time: ", "f: not a time: "].map(|why| format!("{why}{written}"));
            assert!(value.is_none() && refused.contains(&note), "{written} {note}");
        }
        reads("\"2000-01-01T00:00:00Z\"", Some("2000-01-01 00:00:00 UTC"), "");
        reads("0", None, "f: no time: 0");
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TZ:+. -]{0,30}|[A-Za-z0-9,:+ -]{0,40}|.{0,30}") {
            let written = serde_json::Value::from(text).to_string();
            let (time, note) = <DateTime<Utc> as Read>::read(&written);
            prop_assert!(time.is_some() || note.is_some());
            prop_assert!(time.is_none_or(|time| time.timestamp() >= YEAR_2000));
        }

        #[test]
        fn seconds_and_milliseconds_say_the_same(seconds in 946_684_800i64..9_999_999_999) {
            let time = DateTime::from_timestamp(seconds, 0);
            prop_assert_eq!(since_1970(&seconds.to_string()), time);
            prop_assert_eq!(since_1970(&format!("{seconds}000")), time);
        }
    }
}
