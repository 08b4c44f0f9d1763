//! One record of a call beside another's reading of the same text. Promises: a value is the one that was written, or none with a note that
//! names its field; an amount is exact to the digit; the record is the one of its uuid; what is kept of it reads as the same again.

use chrono::{DateTime, Utc};

use crate::independent::{Exact, Pairs, assert_exact, is_id, is_number, rfc3339, same_id, string};
use crate::vobiz::{Cdr, CdrFields, HomeCountry, Numeric, Payload, cdr_fields};

/// What holds for every record, whoever else can read its text.
pub fn check(cdr: &Cdr) {
    let text = cdr.payload.text();
    serde_json::from_str::<serde::de::IgnoredAny>(text).expect("a kept text is JSON");
    let replaced = cdr.notes.iter().any(|note| note == Cdr::REPLACED);
    let again = Cdr::read_kept(&cdr.payload, HomeCountry::INDIA, replaced);
    assert_eq!(again.as_ref(), Ok(cdr), "read again");
    let content = Payload::new(text).content();
    assert_eq!(Payload::new(content.as_str()).content(), content, "content of the content");
    assert!(is_id(cdr.call_id.as_str()));
    assert!(cdr.notes.iter().all(|note| note.len() <= 1024), "{:?}", cdr.notes);
    if let Some(pairs) = Pairs::of(text) {
        against(cdr, &pairs);
    }
}

/// A record beside its members, which another has read.
fn against(cdr: &Cdr, pairs: &Pairs<'_>) {
    let uuid = pairs.last("uuid").expect("a record has its uuid");
    if let Some(written) = string(uuid).or_else(|| is_number(uuid).then(|| uuid.to_owned())) {
        assert!(same_id(cdr.call_id.as_str(), &written), "{written:?} is kept under {}", cdr.call_id);
    }
    // That a key came twice says nothing of its value.
    let notes = cdr.notes.iter().filter(|note| !note.ends_with("given more than once, the last one counts"));
    let notes: Vec<&str> = notes.map(String::as_str).collect();
    let noted = |key: &str| {
        notes.iter().any(|note| note.strip_prefix(key).is_some_and(|note| note.starts_with(": ")))
    };
    if let Some(owner) = pairs.last("account_id") {
        match (&cdr.account_id, string(owner)) {
            (Some(account), Some(owner)) => {
                assert!(same_id(account.as_str(), owner.replace('\0', "").trim()))
            }
            (Some(account), None) => assert!(account.as_str() == owner || owner.contains('\\')),
            (None, Some(owner)) => assert!(noted("account_id") || owner.replace('\0', "").trim().is_empty()),
            (None, None) => assert!(owner == "null" || noted("account_id")),
        }
    }
    fields(&cdr.fields, &|key| pairs.last(key), &noted);
    extra(cdr, pairs);
    for (number, raw) in [
        (&cdr.fields.caller_e164, &cdr.fields.caller_id_number),
        (&cdr.fields.destination_e164, &cdr.fields.destination_number),
    ] {
        let Some(number) = number else { continue };
        let raw: String = raw.iter().flat_map(|raw| raw.chars()).filter(char::is_ascii_digit).collect();
        let digits = number.strip_prefix('+').expect("E.164");
        assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), "{number}");
        let tail = raw.len().min(6);
        assert!(digits.ends_with(&raw[raw.len() - tail..]), "{raw} was read as {number}");
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])+ $name:ident: $type:ty = $key:literal $(called $called:literal)?;)+) => {
        fn fields<'a>(fields: &CdrFields, written: &dyn Fn(&str) -> Option<&'a str>, noted: &dyn Fn(&str) -> bool) {
            $(<$type as Written>::check($key, fields.$name.as_ref(), written($key).unwrap_or("null"), noted($key));)+
        }
    };
}
cdr_fields!((fields));

/// A type that a value is read as.
trait Written {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool);
}

/// A value that is not there was not said, or has a note.
fn none(key: &str, written: &str, noted: bool) {
    assert!(written == "null" || noted, "{key} of {written} is nothing, and no note says why");
}

/// What a number says, be it in a string or not.
fn number(written: &str) -> Option<Exact> {
    match string(written) {
        Some(text) => Exact::of(text.trim()),
        None if is_number(written) => Exact::of(written),
        None => None,
    }
}

impl Written for Numeric {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool) {
        let is_amount = key.ends_with("cost");
        let Some(read) = read else {
            none(key, written, noted);
            let Some(number) = number(written) else { return };
            let fits = number.whole_digits() <= if is_amount { 50 } else { 1 } && number.decimals() <= 1000;
            let is_none = !is_amount && (number.negative || !matches!(number.rounded(), Some(0..=4)));
            assert!(!fits || is_none, "{key} of {written} is nothing");
            return;
        };
        let text = string(written);
        assert_exact(read.as_str(), text.as_deref().unwrap_or(written).trim());
    }
}

impl Written for i64 {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool) {
        let exact = number(written).and_then(|number| number.integer());
        match read {
            Some(read) => assert_eq!(Some(i128::from(*read)), exact, "{key} of {written}"),
            None => {
                none(key, written, noted);
                assert!(
                    exact.is_none_or(|exact| i64::try_from(exact).is_err()),
                    "{key} of {written} is nothing"
                );
            }
        }
    }
}

impl Written for i32 {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool) {
        let is_seconds = key != "hangup_cause_code";
        let exact = number(written);
        let Some(read) = read.map(|read| i128::from(*read)) else {
            none(key, written, noted);
            let whole = exact.and_then(|number| number.integer());
            let fits = |whole: i128| {
                if is_seconds { (0..=2_592_000).contains(&whole) } else { i32::try_from(whole).is_ok() }
            };
            assert!(!whole.is_some_and(fits), "{key} of {written} is nothing");
            return;
        };
        assert!(!is_seconds || (0..=2_592_000).contains(&read), "{key} is {read}");
        match exact {
            Some(number) if number.integer().is_some() => {
                assert_eq!(Some(read), number.integer(), "{key} of {written}");
            }
            Some(number) => {
                assert!(is_seconds && noted && !number.negative, "{key} of {written} is {read}");
                assert_eq!(Some(read), number.rounded(), "{key} of {written}");
            }
            None => {
                let clock = string(written).and_then(|text| by_the_clock(text.trim()));
                assert!(is_seconds && noted && clock == Some(read), "{key} of {written} is {read}");
            }
        }
    }
}

/// Seconds of `hh:mm:ss` and `mm:ss`, rounded.
fn by_the_clock(text: &str) -> Option<i128> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts = clock.split(':').map(|part| part.parse::<i128>().ok()).collect::<Option<Vec<_>>>()?;
    let seconds = match parts.as_slice() {
        [minutes, seconds] => minutes * 60 + seconds,
        [hours, minutes, seconds] => (hours * 60 + minutes) * 60 + seconds,
        _ => return None,
    };
    Some(seconds + i128::from(fraction.as_bytes().first().is_some_and(|first| *first >= b'5')))
}

impl Written for String {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool) {
        let said = string(written).map(|text| text.replace('\0', ""));
        let said = said.or_else(|| is_number(written).then(|| written.to_owned()));
        // Words that are keys have a spelling of ours.
        let is_word = matches!(key, "currency" | "call_direction" | "bridge_uuid");
        match (read, said) {
            (Some(read), Some(said)) if is_word => {
                let plain = said.trim();
                let same = match key {
                    "bridge_uuid" => same_id(read, &said),
                    "currency" => *read == plain.to_uppercase() || read.len() == 3 && noted || *read == "INR",
                    _ => *read == plain.to_lowercase() || matches!(read.as_str(), "inbound" | "outbound"),
                };
                assert!(same, "{key} of {written} is {read:?}");
            }
            (Some(read), Some(said)) => assert_eq!(*read, said, "{key} of {written}"),
            // Half a pair of surrogates, which the other reader takes for no text.
            (Some(_), None) => {
                assert!(written.starts_with('"') && (noted || written.contains("\\u")), "{key} of {written}")
            }
            (None, Some(said)) if is_word => {
                assert!(said.trim().is_empty() || noted, "{key} of {written} is nothing")
            }
            (None, Some(_)) => panic!("{key} of {written} is nothing"),
            (None, None) => none(key, written, noted),
        }
    }
}

impl Written for DateTime<Utc> {
    fn check(key: &str, read: Option<&Self>, written: &str, noted: bool) {
        let exact = string(written).and_then(|text| rfc3339(text.trim()));
        let in_our_time = |micros: &i64| (946_684_800_000_000..253_402_300_800_000_000).contains(micros);
        match (read.map(DateTime::timestamp_micros), exact) {
            (Some(read), Some(exact)) => assert_eq!(read, exact, "{key} of {written}"),
            (Some(read), None) => assert!(noted && in_our_time(&read), "{key} of {written} is {read}"),
            (None, exact) => {
                none(key, written, noted);
                // A local year before 2000 is none, wherever the instant lies.
                let exact = exact.filter(|micros| *micros >= 946_771_200_000_000);
                assert!(!exact.is_some_and(|micros| in_our_time(&micros)), "{key} of {written} is nothing");
            }
        }
    }
}

/// The keys that nobody knows, each with its last value, as they came.
fn extra(cdr: &Cdr, pairs: &Pairs<'_>) {
    let known = |key: &str| matches!(key, "uuid" | "account_id") || CdrFields::KEYS.contains(&key);
    let extra = cdr.extra.as_deref().map(|extra| Pairs::of(extra).expect("extra keys are an object"));
    let kept = extra.map_or_else(Vec::new, |extra| extra.0);
    let mut names: Vec<&str> =
        pairs.0.iter().map(|(key, _)| key.as_str()).filter(|key| !known(key)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(kept.len(), names.len(), "{kept:?} of {names:?}");
    for (key, value) in &kept {
        assert_eq!(pairs.last(key), Some(*value), "extra {key}");
    }
}
