//! One value of a CDR read as the type its column wants. Lenient in spelling, strict in meaning: what cannot be read
//! exactly becomes nothing plus a note that says why, and never an error; a CDR must not be lost over one field.

use chrono::{DateTime, NaiveDateTime, Utc};
use rust_decimal::Decimal;

use super::decimal::{self, NotWhole};
use super::json;

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

impl Read for Decimal {
    fn read(written: &str) -> Reading<Self> {
        match number(written).map(|number| number.to_decimal()) {
            Some(Some(decimal)) => (Some(decimal), None),
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
        (Some(text), (!complaints.is_empty()).then(|| complaints.join(", ")))
    }
}

impl Read for DateTime<Utc> {
    /// RFC 3339 with any fraction and offset (documented: whole seconds and `Z`); without a zone it counts as UTC and
    /// says so (a vendor mock writes it like that). Kept to the microsecond, as Postgres does, in the years 1 to 9999.
    fn read(written: &str) -> Reading<Self> {
        if !written.starts_with('"') {
            return refuse("not a time", written);
        }
        let (text, _) = json::string(written);
        let text = text.trim();
        // Go's zero time, in whatever spelling, and no text at all both mean "no time".
        if text.is_empty() || text.starts_with("0001-01-01") {
            return refuse("no time", written);
        }
        let (time, complaint) = match moment(text) {
            Some(Moment::Instant(time)) => (time, None),
            Some(Moment::Local(time)) => {
                (time.and_utc(), Some(format!("no zone, taken as UTC: {}", shorten(written))))
            }
            None => return refuse("not a time", written),
        };
        match kept(time) {
            Some(time) => (Some(time), complaint),
            None => refuse("not a time between the years 1 and 9999", written),
        }
    }
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

fn zoned(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text)
        // Offsets without a colon or without minutes: `+0530`, Postgres's `+00`.
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    time.ok().map(|time| time.to_utc())
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
        reads::<Decimal>("0.45", Some("0.45"), "");
        reads::<Decimal>("\" 0.10 \"", Some("0.10"), "");
        reads::<Decimal>("null", None, "");
        reads::<Decimal>("\"abc\"", None, "f: not a number: \"abc\"");
        reads::<Decimal>("\"\"", None, "f: not a number: \"\"");
        reads::<Decimal>("true", None, "f: not a number: true");
        reads::<Decimal>("{\"a\":1}", None, "f: not a number: {\"a\":1}");
        reads::<Decimal>("1e200000", None, "f: more digits than can be kept exactly: 1e200000");
        let (value, note) = read::<Decimal>(&format!("\"{}\"", "é".repeat(500)));
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
        reads::<String>(r#""a\ud800""#, Some("a\u{fffd}"), "f: half a surrogate pair became U+FFFD");
    }

    #[test]
    fn times() {
        let utc = Some("2026-03-25 10:00:42 UTC");
        reads::<DateTime<Utc>>("\"2026-03-25T10:00:42Z\"", utc, "");
        reads::<DateTime<Utc>>("\"2026-03-25T15:30:42+05:30\"", utc, "");
        reads::<DateTime<Utc>>("\"2026-03-25 15:30:42+0530\"", utc, "");
        reads::<DateTime<Utc>>("\"2026-03-25 10:00:42+00\"", utc, "");
        reads::<DateTime<Utc>>(
            "\"2026-03-25T10:00:42.123456789012Z\"",
            Some("2026-03-25 10:00:42.123456 UTC"),
            "",
        );
        reads::<DateTime<Utc>>("\"2026-12-31T23:59:60Z\"", Some("2027-01-01 00:00:00 UTC"), "");
        for written in ["\"2026-03-25 10:00:42\"", "\"2026-03-25T10:00:42\""] {
            reads::<DateTime<Utc>>(written, utc, &format!("f: no zone, taken as UTC: {written}"));
        }
        reads::<DateTime<Utc>>(
            "\"2026-03-25 10:00:42.662991\"",
            Some("2026-03-25 10:00:42.662991 UTC"),
            "f: no zone, taken as UTC: \"2026-03-25 10:00:42.662991\"",
        );
        for written in ["\"\"", "\"0001-01-01T00:00:00Z\"", "\"0001-01-01 00:00:00\""] {
            reads::<DateTime<Utc>>(written, None, &format!("f: no time: {written}"));
        }
        for written in [
            "\"yesterday\"",
            "\"2026-03-25\"",
            "\"2026-02-30T10:00:00Z\"",
            "\"+12026-03-25T10:00:42Z\"",
            "1774432842",
            "{}",
        ] {
            reads::<DateTime<Utc>>(written, None, &format!("f: not a time: {written}"));
        }
        for written in ["\"0000-01-01T00:00:00Z\"", "\"9999-12-31T23:59:59-01:00\""] {
            let note = format!("f: not a time between the years 1 and 9999: {written}");
            reads::<DateTime<Utc>>(written, None, &note);
        }
    }
}
