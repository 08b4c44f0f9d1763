//! What a value of a CDR can mean at all. A bill adds up whatever stands in a column, so what nobody can have meant (seconds below
//! zero, an opinion score of 45, a time in 2099) becomes nothing, and a note says so; words that are keys get one spelling. Pure.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};

use super::cdr::CdrFields;
use super::currency;
use super::id::{is_placeholder, uuid_in_lower_case};
use super::json;
use super::numeric::{Half, Numeric};
use super::time::YEAR_2000;
use super::value::{Notes, shorten};

/// The fields that are seconds of a call.
const SECONDS: [&str; 3] = ["duration", "billsec", "ring_time"];
/// No call is longer: 30 days.
const LONGEST_CALL: i32 = 30 * 86_400;
/// Digits before the point of an amount: a number beyond the atoms of the earth is none, and sums of amounts have to be numbers, too.
const LONGEST_AMOUNT: usize = 50;
/// What another clock and another zone explain. A time further ahead was never measured.
const AHEAD: TimeDelta = TimeDelta::days(2);
/// `updated_at` orders versions: one that lies ahead would keep every correction out until then.
const UPDATE_AHEAD: TimeDelta = TimeDelta::days(1);

/// The value in the spelling that its column is read in. Seconds also come as `00:01:12`, `01:12` and `42.5`.
pub(super) fn spelled<'a>(key: &str, written: &'a str, notes: &mut Notes) -> Cow<'a, str> {
    if !SECONDS.contains(&key) {
        return Cow::Borrowed(written);
    }
    let text = match written.as_bytes().first() {
        Some(b'"') => json::string(written).0,
        _ => Cow::Borrowed(written),
    };
    match by_the_clock(text.trim()).or_else(|| fraction(text.trim())) {
        Some(seconds) => {
            let seconds = seconds.rounded(0, Half::Up).to_string();
            notes.add(key, &format!("read as {seconds} seconds: {}", shorten(written)));
            Cow::Owned(seconds)
        }
        None => Cow::Borrowed(written),
    }
}

/// `hh:mm:ss` and `mm:ss`, also with a fraction.
pub(super) fn by_the_clock(text: &str) -> Option<Numeric> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let first = parts.next()?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=6).contains(&first.len()) || !digits(first) || !digits(fraction) {
        return None;
    }
    let (mut seconds, mut places): (u64, _) = (first.parse().ok()?, 1);
    for part in parts {
        let value: u64 = part.parse().ok()?;
        if part.len() != 2 || !digits(part) || value >= 60 {
            return None;
        }
        seconds = seconds * 60 + value;
        places += 1;
    }
    (2..=3).contains(&places).then(|| format!("{seconds}.{fraction}").parse().ok())?
}

/// A number of seconds that is no whole one. Below zero nothing is rounded: there it means nothing.
fn fraction(text: &str) -> Option<Numeric> {
    let number: Numeric = text.parse().ok()?;
    (number.normalize().scale() > 0 && !number.is_negative()).then_some(number)
}

/// Takes out what cannot be, and gives words that are keys their one spelling.
pub(super) fn bound(fields: &mut CdrFields, notes: &mut Notes) {
    for (key, field) in [
        ("duration", &mut fields.duration),
        ("billsec", &mut fields.billsec),
        ("ring_time", &mut fields.ring_time),
    ] {
        let complaint = match *field {
            Some(seconds) if seconds < 0 => format!("below zero: {seconds}"),
            Some(seconds) if seconds > LONGEST_CALL => format!("more than 30 days: {seconds}"),
            _ => continue,
        };
        notes.add(key, &complaint);
        *field = None;
    }
    for (key, field, most) in [
        ("mos", &mut fields.mos, Some(5)),
        ("jitter", &mut fields.jitter, None),
        ("packet_loss", &mut fields.packet_loss, Some(100)),
    ] {
        let complaint = match (&*field, most) {
            (Some(number), _) if number.is_negative() => format!("below zero: {}", shorten(number.as_str())),
            (Some(number), Some(most)) if *number > Numeric::from(most) => {
                format!("more than {most}: {}", shorten(number.as_str()))
            }
            _ => continue,
        };
        notes.add(key, &complaint);
        *field = None;
    }
    for (key, field) in [
        ("cost", &mut fields.cost),
        ("streaming_cost", &mut fields.streaming_cost),
        ("total_cost", &mut fields.total_cost),
    ] {
        if let Some(amount) = field.take_if(|amount| amount.whole_digits() > LONGEST_AMOUNT) {
            notes.add(key, &format!("more digits than an amount has: {}", shorten(amount.as_str())));
        }
    }
    fields.currency = fields.currency.take().and_then(|word| currency(&word, notes));
    fields.call_direction = fields.call_direction.take().and_then(|word| direction(&word, notes));
    fields.bridge_uuid = fields.bridge_uuid.take().and_then(|id| bridge(&id, notes));
}

/// The code of a currency. A word that certainly names none is kept, as a line of the bill of its own.
fn currency(word: &str, notes: &mut Notes) -> Option<String> {
    let plain = word.trim().to_uppercase();
    if plain.is_empty() {
        return None;
    }
    if let Some(code) = currency::code(word) {
        if code != plain {
            notes.add("currency", &format!("read as {code}: {}", quoted(word)));
        }
        return Some(code.to_owned());
    }
    let why =
        if plain.chars().count() == 3 { "no currency that is known" } else { "no code of three letters" };
    notes.add("currency", &format!("{why}: {}", quoted(word)));
    let says_something = plain.chars().any(|c| !c.is_ascii_punctuation() || c == '$');
    (says_something && !is_placeholder(&plain)).then_some(plain)
}

fn direction(word: &str, notes: &mut Notes) -> Option<String> {
    let direction = word.trim().to_lowercase();
    match direction.as_str() {
        "" => None,
        "inbound" | "incoming" => Some("inbound".into()),
        "outbound" | "outgoing" => Some("outbound".into()),
        _ => {
            notes.add("call_direction", &format!("neither inbound nor outbound: {}", quoted(word)));
            Some(direction)
        }
    }
}

/// Legs with the same id are one conversation: a word for "none" would make one of all calls.
fn bridge(id: &str, notes: &mut Notes) -> Option<String> {
    if id.trim().is_empty() {
        return None;
    }
    if is_placeholder(id.trim()) {
        notes.add("bridge_uuid", &format!("no id: {}", quoted(id)));
        return None;
    }
    Some(uuid_in_lower_case(id).into_owned())
}

/// What came, short and on one line.
fn quoted(word: &str) -> String {
    shorten(&format!("{word:?}"))
}

/// Whether a time may be one of a call, seen from now: not a sentinel for none, and not in the future.
pub(super) fn is_of_our_time(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    time.timestamp() >= YEAR_2000 && now.checked_add_signed(AHEAD).is_none_or(|latest| time <= latest)
}

/// Takes out times that lie in the future, seen from when the record was asked for; each with a note.
pub(super) fn until(fields: &mut CdrFields, requested_at: DateTime<Utc>, notes: &mut Vec<String>) {
    for (key, field, ahead) in [
        ("answer_time", &mut fields.answer_time, AHEAD),
        ("start_time", &mut fields.start_time, AHEAD),
        ("end_time", &mut fields.end_time, AHEAD),
        ("progress_time", &mut fields.progress_time, AHEAD),
        ("created_at", &mut fields.created_at, AHEAD),
        ("updated_at", &mut fields.updated_at, UPDATE_AHEAD),
    ] {
        let latest = requested_at.checked_add_signed(ahead);
        if let Some(time) = field.take_if(|time| latest.is_some_and(|latest| *time > latest)) {
            notes.push(format!("{key}: in the future: {}", time.format("%Y-%m-%dT%H:%M:%S%.fZ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(written: &str) -> (String, Vec<String>) {
        let mut notes = Notes::default();
        (spelled("billsec", written, &mut notes).into_owned(), notes.into_vec())
    }

    #[test]
    fn seconds_in_other_spellings_are_read_with_a_note() {
        for (written, read) in [
            ("\"00:01:12\"", "72"),
            ("\" 01:12 \"", "72"),
            ("\"1:2:3\"", ""),
            ("\"1:02:03\"", "3723"),
            ("\"90:00\"", "5400"),
            ("\"00:00:00\"", "0"),
            ("\"00:01:12.5\"", "73"),
            ("\"00:01:12.499\"", "72"),
            ("\"00:60:00\"", ""),
            ("\"00:00:00:01\"", ""),
            ("\"-00:01:12\"", ""),
            ("\"12:\"", ""),
            ("\":12\"", ""),
            ("42.5", "43"),
            ("\"42.5\"", "43"),
            ("42.49999999999999999999999999999999999", "42"),
            ("0.4", "0"),
            ("4.25e1", "43"),
            ("42.0", ""),
            ("42", ""),
            ("-0.4", ""),
            ("\"\"", ""),
            ("{}", ""),
            ("null", ""),
        ] {
            let (value, notes) = seconds(written);
            if read.is_empty() {
                assert_eq!((value.as_str(), notes.len()), (written, 0));
            } else {
                let note = format!("billsec: read as {read} seconds: {written}");
                assert_eq!((value.as_str(), notes), (read, vec![note]));
            }
        }
        let mut notes = Notes::default();
        assert_eq!(spelled("hangup_cause_code", "42.5", &mut notes), "42.5", "only seconds are rounded");
        assert!(notes.into_vec().is_empty());
    }

    fn bounded(mut fields: CdrFields) -> (CdrFields, Vec<String>) {
        let mut notes = Notes::default();
        bound(&mut fields, &mut notes);
        (fields, notes.into_vec())
    }

    #[test]
    fn seconds_that_no_call_has_are_none() {
        for (seconds, note) in [
            (0, ""),
            (2_592_000, ""),
            (-1, "below zero: -1"),
            (-1_589_286_045, "below zero: -1589286045"),
            (2_592_001, "more than 30 days: 2592001"),
            (i32::MAX, "more than 30 days: 2147483647"),
        ] {
            let said = Some(seconds);
            let fields = CdrFields { duration: said, billsec: said, ring_time: said, ..CdrFields::default() };
            let (fields, notes) = bounded(fields);
            let kept = said.filter(|_| note.is_empty());
            assert_eq!([fields.duration, fields.billsec, fields.ring_time], [kept; 3]);
            let expected = SECONDS.map(|key| format!("{key}: {note}"));
            assert_eq!(notes, if note.is_empty() { &[][..] } else { &expected }, "{seconds}");
        }
    }

    #[test]
    fn measures_that_cannot_be_are_none() {
        for (mos, jitter, loss, expected) in [
            ("0", "0", "0", vec![]),
            ("5.0", "100000", "100", vec![]),
            (
                "5.01",
                "-0.1",
                "100.5",
                vec![
                    "mos: more than 5: 5.01",
                    "jitter: below zero: -0.1",
                    "packet_loss: more than 100: 100.5",
                ],
            ),
            ("-1", "0", "-2", vec!["mos: below zero: -1", "packet_loss: below zero: -2"]),
        ] {
            let number = |text: &str| text.parse::<Numeric>().ok();
            let fields = CdrFields {
                mos: number(mos),
                jitter: number(jitter),
                packet_loss: number(loss),
                ..CdrFields::default()
            };
            let (fields, notes) = bounded(fields);
            assert_eq!(notes, expected);
            let kept = [fields.mos, fields.jitter, fields.packet_loss];
            assert_eq!(kept.iter().flatten().count(), 3 - expected.len());
        }
        for (digits, kept) in [(50, true), (51, false), (100, false)] {
            let amount: Option<Numeric> = format!("-{}.5", "9".repeat(digits)).parse().ok();
            let fields =
                CdrFields { cost: amount.clone(), total_cost: amount.clone(), ..CdrFields::default() };
            let (fields, notes) = bounded(fields);
            assert_eq!((fields.cost.is_some(), fields.total_cost.is_some()), (kept, kept), "{digits}");
            assert_eq!(notes.len(), if kept { 0 } else { 2 }, "{notes:?}");
            assert!(
                notes.iter().all(|note| note.contains(": more digits than an amount has: -999")),
                "{notes:?}"
            );
        }
        // An amount below zero is a credit.
        let credit: Option<Numeric> = "-0.45".parse().ok();
        let (fields, notes) = bounded(CdrFields { cost: credit.clone(), ..CdrFields::default() });
        assert_eq!((fields.cost, notes.len()), (credit, 0));
    }

    #[test]
    fn words_that_are_keys_have_one_spelling() {
        for (came, kept, note) in [
            ("INR", Some("INR"), ""),
            (" inr\n", Some("INR"), ""),
            ("\u{a0}Usd", Some("USD"), ""),
            ("", None, ""),
            ("  ", None, ""),
            ("Rupees", Some("INR"), "currency: read as INR: \"Rupees\""),
            ("₹", Some("INR"), "currency: read as INR: \"₹\""),
            ("INR.", Some("INR"), "currency: read as INR: \"INR.\""),
            ("US$", Some("USD"), "currency: read as USD: \"US$\""),
            ("$", Some("$"), "currency: no code of three letters: \"$\""),
            ("Credits", Some("CREDITS"), "currency: no code of three letters: \"Credits\""),
            ("irn", Some("IRN"), "currency: no currency that is known: \"irn\""),
            (".", None, "currency: no code of three letters: \".\""),
            ("N/A", Some("N/A"), "currency: no currency that is known: \"N/A\""),
            ("null", None, "currency: no code of three letters: \"null\""),
        ] {
            let (fields, notes) = bounded(CdrFields { currency: Some(came.into()), ..CdrFields::default() });
            assert_eq!((fields.currency.as_deref(), notes.join("; ").as_str()), (kept, note), "{came:?}");
        }
        for (came, kept, note) in [
            ("inbound", Some("inbound"), ""),
            (" Outbound ", Some("outbound"), ""),
            ("INCOMING", Some("inbound"), ""),
            ("outgoing", Some("outbound"), ""),
            ("", None, ""),
            ("Internal", Some("internal"), "call_direction: neither inbound nor outbound: \"Internal\""),
        ] {
            let (fields, notes) =
                bounded(CdrFields { call_direction: Some(came.into()), ..CdrFields::default() });
            assert_eq!(
                (fields.call_direction.as_deref(), notes.join("; ").as_str()),
                (kept, note),
                "{came:?}"
            );
        }
        for (came, kept, note) in [
            ("0D0D0018-0000-4000-8000-00000000000A", Some("0d0d0018-0000-4000-8000-00000000000a"), ""),
            ("Conf1", Some("Conf1"), ""),
            ("", None, ""),
            ("undefined", None, "bridge_uuid: no id: \"undefined\""),
            (
                "00000000-0000-0000-0000-000000000000",
                None,
                "bridge_uuid: no id: \"00000000-0000-0000-0000-000000000000\"",
            ),
        ] {
            let (fields, notes) =
                bounded(CdrFields { bridge_uuid: Some(came.into()), ..CdrFields::default() });
            assert_eq!((fields.bridge_uuid.as_deref(), notes.join("; ").as_str()), (kept, note), "{came:?}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_none() {
        let asked: DateTime<Utc> = "2026-11-20T05:00:00Z".parse().unwrap();
        let at = |time: DateTime<Utc>| CdrFields {
            answer_time: Some(time),
            start_time: Some(time),
            end_time: Some(time),
            progress_time: Some(time),
            created_at: Some(time),
            updated_at: Some(time),
            ..CdrFields::default()
        };
        for (ahead, left) in
            [(0, 6), (24 * 60, 6), (24 * 60 + 1, 5), (48 * 60, 5), (48 * 60 + 1, 0), (10 * 365 * 1440, 0)]
        {
            let (mut fields, mut notes) = (at(asked + TimeDelta::minutes(ahead)), vec![]);
            until(&mut fields, asked, &mut notes);
            let times = [
                fields.answer_time,
                fields.start_time,
                fields.end_time,
                fields.progress_time,
                fields.created_at,
                fields.updated_at,
            ];
            assert_eq!((times.iter().flatten().count(), notes.len()), (left, 6 - left), "{ahead} {notes:?}");
            if ahead == 24 * 60 + 1 {
                assert_eq!(notes, ["updated_at: in the future: 2026-11-21T05:01:00Z"]);
            }
        }
        let times = CdrFields::KEYS
            .iter()
            .filter(|key| key.ends_with("_at") || (key.ends_with("_time") && **key != "ring_time"));
        assert_eq!(times.count(), 6, "another time needs its bound, too");
    }

    proptest! {
        #[test]
        fn any_text_is_spelled_and_bounded(text in any::<String>(), seconds: i32) {
            let written = serde_json::Value::from(text.as_str()).to_string();
            let mut notes = Notes::default();
            let spelled = spelled("duration", &written, &mut notes);
            prop_assert!(spelled == written || spelled.bytes().all(|b| b.is_ascii_digit()), "{}", spelled);
            let (fields, _) = bounded(CdrFields {
                billsec: Some(seconds),
                currency: Some(text.clone()),
                call_direction: Some(text.clone()),
                bridge_uuid: Some(text),
                ..CdrFields::default()
            });
            prop_assert!(fields.billsec.is_none_or(|seconds| (0..=LONGEST_CALL).contains(&seconds)));
        }

        #[test]
        fn a_clock_says_its_seconds(seconds in 0u32..=2_592_000) {
            let clock = format!("\"{:02}:{:02}:{:02}\"", seconds / 3600, seconds / 60 % 60, seconds % 60);
            let mut notes = Notes::default();
            prop_assert_eq!(spelled("duration", &clock, &mut notes).into_owned(), seconds.to_string());
            prop_assert_eq!(notes.into_vec().len(), 1);
        }
    }
}
