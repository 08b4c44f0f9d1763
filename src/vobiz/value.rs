//! One value of a CDR read as the type its column wants. Lenient in spelling, strict in meaning: what cannot be read
//! exactly becomes nothing plus a note that says why, and never an error; a CDR must not be lost over one field.

use super::decimal::{self, NotWhole};
use super::json;
use super::numeric::Numeric;

/// What was noticed while reading: `cost: not a number: "abc"`. There is no limit to them here: a field whose note were left out for the
/// notes of others would be nothing without a word. Whoever notes what is not of a field bounds that.
#[derive(Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    pub(super) fn add(&mut self, about: &str, complaint: &str) {
        self.0.push(format!("{about}: {complaint}"));
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
pub(super) type Reading<T> = (Option<T>, Option<String>);

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

pub(super) fn refuse<T>(why: &str, written: &str) -> Reading<T> {
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
}
