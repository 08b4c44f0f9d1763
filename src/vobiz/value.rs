//! One value of a CDR read as the type its column wants. Lenient in spelling, strict in meaning: what cannot be read
//! exactly becomes nothing plus a note that says why, and never an error; a CDR must not be lost over one field.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

use super::decimal::{self, NotWhole};
use super::json;
use super::numeric::Numeric;

/// More notes than a CDR has fields mean a hostile text, not a helpful record.
const MOST_NOTES: usize = 64;

/// What was noticed while reading: `cost: not a number: "abc"`.
#[derive(Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    pub(super) fn add(&mut self, about: &str, complaint: &str) {
        if self.0.len() < MOST_NOTES {
            self.0.push(format!("{about}: {complaint}"));
        }
    }

    /// Reads a value; null and what cannot be read are None.
    pub(super) fn read<T: Read>(&mut self, field: &str, written: &str) -> Option<T> {
        if written == "null" {
            return None;
        }
        if let Some(token) = json::not_json(written) {
            self.add(field, &format!("no JSON, taken as null: {}", shorten(&token)));
            return None;
        }
        let (value, complaint) = T::read(written);
        if let Some(complaint) = complaint {
            self.add(field, &complaint);
        }
        value
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// A value, and what there is to say about it; a value can be fit for use and still deserve a note.
type Reading<T> = (Option<T>, Option<String>);

/// A type that a value's JSON text can be read as.
pub(super) trait Read: Sized {
    fn read(written: &str) -> Reading<Self>;
}

/// The value as it was written, cut to about 80 characters.
pub(super) fn shorten(written: &str) -> String {
    match written.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &written[..end]),
        None => written.to_owned(),
    }
}

fn refuse<T>(why: &str, written: &str) -> Reading<T> {
    (None, Some(format!("{why}: {}", shorten(written))))
}

fn number(written: &str) -> Option<decimal::Written> {
    match written.as_bytes().first()? {
        b'"' => decimal::scan(json::string(written).0.trim()),
        b'-' | b'0'..=b'9' => decimal::scan(written),
        _ => None,
    }
}

impl Read for Numeric {
    fn read(written: &str) -> Reading<Self> {
        match number(written).map(|number| number.to_numeric()) {
            Some(Some(number)) => (Some(number), None),
            Some(None) => refuse("more digits than can be kept exactly", written),
            None => refuse("not a number", written),
        }
    }
}

impl Read for i64 {
    fn read(written: &str) -> Reading<Self> {
        match number(written).map(|number| number.to_whole()) {
            Some(Ok(whole)) => (Some(whole), None),
            Some(Err(NotWhole::Fraction)) => refuse("not a whole number", written),
            Some(Err(NotWhole::Range)) => refuse("out of range", written),
            None => refuse("not a number", written),
        }
    }
}

impl Read for i32 {
    fn read(written: &str) -> Reading<Self> {
        match i64::read(written) {
            (Some(wide), _) => Self::try_from(wide)
                .map_or_else(|_| refuse("out of range", written), |fits| (Some(fits), None)),
            (None, complaint) => (None, complaint),
        }
    }
}

impl Read for bool {
    fn read(written: &str) -> Reading<Self> {
        match written {
            "true" => (Some(true), None),
            "false" => (Some(false), None),
            _ => refuse("not true or false", written),
        }
    }
}

impl Read for String {
    fn read(written: &str) -> Reading<Self> {
        match written.as_bytes().first() {
            Some(b'"') => {}
            // A number where text is documented (a `failure_code` of 16) says the same as its digits.
            Some(b'-' | b'0'..=b'9') => return (Some(written.to_owned()), None),
            _ => return refuse("not a text", written),
        }
        let (text, lone) = json::string(written);
        let mut complaints = Vec::new();
        if lone {
            complaints.push("half a surrogate pair became U+FFFD");
        }
        // Postgres text cannot hold it.
        let text = if text.contains('\0') {
            complaints.push("U+0000 was removed");
            text.replace('\0', "")
        } else {
            text.into_owned()
        };
        if text.contains(|c| c < ' ') {
            complaints.push("control characters are in it");
        }
        (Some(text), (!complaints.is_empty()).then(|| complaints.join(", ")))
    }
}

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
const YEAR_2000: i64 = 946_684_800;

/// Whether a date as it is written, in whatever spelling, has a year before 2000.
fn is_year_before_2000(text: &str) -> bool {
    let year = text.get(..4).filter(|year| year.bytes().all(|b| b.is_ascii_digit()));
    year.is_some_and(|year| year < "2000" && text[4..].starts_with('-'))
}

/// Seconds (up to ten digits) or milliseconds (up to thirteen) since 1970, with any fraction. A number that is too small for
/// this century is an instant of the last one.
fn since_1970(text: &str) -> Option<DateTime<Utc>> {
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
fn rfc2822(text: &str) -> Option<DateTime<Utc>> {
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
    use super::*;

    fn read<T: Read + ToString>(written: &str) -> (Option<String>, String) {
        let mut notes = Notes::default();
        let value: Option<T> = notes.read("f", written);
        (value.map(|value| value.to_string()), notes.into_vec().join("; "))
    }

    #[track_caller]
    fn reads<T: Read + ToString>(written: &str, value: Option<&str>, note: &str) {
        assert_eq!(read::<T>(written), (value.map(str::to_owned), note.to_owned()), "{written}");
    }

    #[test]
    fn money() {
        reads::<Numeric>("0.45", Some("0.45"), "");
        reads::<Numeric>("\" 0.10 \"", Some("0.10"), "");
        for digits in [
            "0.450000000000000011102230246251565404236316680908203125",
            "0.01333333333333333333333333333",
            "-0.45",
        ] {
            reads::<Numeric>(digits, Some(digits), "");
        }
        reads::<Numeric>(r#"{"not JSON":"NaN"}"#, None, "f: no JSON, taken as null: NaN");
        reads::<Numeric>("null", None, "");
        reads::<Numeric>("\"abc\"", None, "f: not a number: \"abc\"");
        reads::<Numeric>("\"\"", None, "f: not a number: \"\"");
        reads::<Numeric>("true", None, "f: not a number: true");
        reads::<Numeric>("{\"a\":1}", None, "f: not a number: {\"a\":1}");
        reads::<Numeric>("1e200000", None, "f: more digits than can be kept exactly: 1e200000");
        let (value, note) = read::<Numeric>(&format!("\"{}\"", "é".repeat(500)));
        assert!(value.is_none() && note.chars().count() < 110 && note.ends_with('…'), "{note}");
    }

    #[test]
    fn whole_numbers() {
        reads::<i32>("42.0", Some("42"), "");
        reads::<i32>("\" 42 \"", Some("42"), "");
        reads::<i32>("42.5", None, "f: not a whole number: 42.5");
        reads::<i32>("2147483648", None, "f: out of range: 2147483648");
        reads::<i64>("2147483648", Some("2147483648"), "");
        reads::<i64>("9223372036854775808", None, "f: out of range: 9223372036854775808");
        reads::<i64>("[]", None, "f: not a number: []");
    }

    #[test]
    fn texts() {
        reads::<String>("\"\"", Some(""), "");
        reads::<String>("16", Some("16"), "");
        reads::<String>("1e2", Some("1e2"), "");
        reads::<String>("false", None, "f: not a text: false");
        reads::<String>("[1]", None, "f: not a text: [1]");
        reads::<String>(r#""a\u0000b""#, Some("ab"), "f: U+0000 was removed");
        reads::<String>(r#""a\nb""#, Some("a\nb"), "f: control characters are in it");
        reads::<String>(r#"{"not JSON":"-nan"}"#, None, "f: no JSON, taken as null: -nan");
        reads::<String>(r#""a\ud800""#, Some("a\u{fffd}"), "f: half a surrogate pair became U+FFFD");
    }

    #[test]
    fn times() {
        let utc = Some("2026-03-25 10:00:42 UTC");
        for written in
            ["\"2026-03-25T10:00:42Z\"", "\"2026-03-25T15:30:42+05:30\"", "\" 2026-03-25 10:00:42+00:00 \""]
        {
            reads::<DateTime<Utc>>(written, utc, "");
        }
        reads::<DateTime<Utc>>(
            "\"2026-03-25T10:00:42.123456789012Z\"",
            Some("2026-03-25 10:00:42.123456 UTC"),
            "",
        );
        reads::<DateTime<Utc>>("\"2025-12-31T23:59:60Z\"", Some("2026-01-01 00:00:00 UTC"), "");
        for written in ["\"2026-03-25 10:00:42\"", "\"2026-03-25T10:00:42\""] {
            reads::<DateTime<Utc>>(written, utc, &format!("f: no zone, taken as UTC: {written}"));
        }
        reads::<DateTime<Utc>>(
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
            reads::<DateTime<Utc>>(written, None, &format!("f: not a time: {written}"));
        }
        let written = "\"9999-12-31T23:59:59-01:00\"";
        reads::<DateTime<Utc>>(
            written,
            None,
            &format!("f: not a time between the years 1 and 9999: {written}"),
        );
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
            reads::<DateTime<Utc>>(written, Some("2026-03-25 10:00:42 UTC"), &note);
        }
        for (written, fraction) in
            [("1774432842123", "123"), ("1774432842.1234567", "123456"), ("1774432842123.4567", "123456")]
        {
            let time = format!("2026-03-25 10:00:42.{fraction} UTC");
            let note = format!("f: read as 2026-03-25T10:00:42.{fraction}Z: {written}");
            reads::<DateTime<Utc>>(written, Some(&time), &note);
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
            let (value, note) = read::<DateTime<Utc>>(written);
            let refused = ["f: no time: ", "f: not a time: "].map(|why| format!("{why}{written}"));
            assert!(value.is_none() && refused.contains(&note), "{written} {note}");
        }
        reads::<DateTime<Utc>>("\"2000-01-01T00:00:00Z\"", Some("2000-01-01 00:00:00 UTC"), "");
        reads::<DateTime<Utc>>("0", None, "f: no time: 0");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TZ:+. -]{0,30}|[A-Za-z0-9,:+ -]{0,40}|.{0,30}") {
            let written = serde_json::Value::from(text).to_string();
            let (time, note) = <DateTime<Utc> as Read>::read(&written);
            proptest::prop_assert!(time.is_some() || note.is_some());
            proptest::prop_assert!(time.is_none_or(|time| time.timestamp() >= YEAR_2000));
        }

        #[test]
        fn seconds_and_milliseconds_say_the_same(seconds in 946_684_800i64..9_999_999_999) {
            let time = DateTime::from_timestamp(seconds, 0);
            proptest::prop_assert_eq!(since_1970(&seconds.to_string()), time);
            proptest::prop_assert_eq!(since_1970(&format!("{seconds}000")), time);
        }
    }
}
