//! The same inputs, read by somebody else: objects by serde's own parser, numbers by moving their point and by `rust_decimal`, times by
//! counting days. Nothing in here calls the code that is fuzzed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in their order, repeated keys included.
pub struct Pairs<'a>(pub Vec<(String, &'a str)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    pairs.push((key, map.next_value::<&RawValue>()?.get()));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'a> Pairs<'a> {
    /// An object; None for anything else, and for one with a key that is no Unicode.
    pub fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The last value of a key, which is the one that counts.
    pub fn last(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// The elements of an array; None for anything else.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    Some(serde_json::from_str::<Vec<&RawValue>>(text).ok()?.into_iter().map(RawValue::get).collect())
}

/// What a string says; None for anything else, and for one that is no Unicode.
pub fn string(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

pub fn is_number(value: &str) -> bool {
    value.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The text of a body as it came over the wire.
pub fn text_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}

/// A number as a sign, digits that neither begin nor end with a zero, and a power of ten: equal numbers are equal here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exact {
    pub negative: bool,
    pub digits: String,
    pub power: i128,
    /// Decimals that were printed, where there is no exponent.
    pub printed: Option<usize>,
}

impl Exact {
    /// JSON's numbers, and inside of strings also `+1`, `007`, `.5` and `5.`.
    pub fn of(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let mut parts = unsigned.splitn(2, ['e', 'E']);
        let mantissa = parts.next()?;
        let power = parts.next();
        let mut halves = mantissa.splitn(2, '.');
        let (whole, fraction) = (halves.next()?, halves.next().unwrap_or(""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let exponent = match power {
            None => 0,
            Some(power) => {
                let size = power.strip_prefix(['+', '-']).unwrap_or(power);
                if size.is_empty() || !size.chars().all(|c| c.is_ascii_digit()) {
                    return None;
                }
                let size = size.trim_start_matches('0');
                // Beyond these nothing can be kept anyhow.
                let size: i128 = if size.len() > 17 { 1 << 100 } else { format!("0{size}").parse().ok()? };
                if power.starts_with('-') { -size } else { size }
            }
        };
        let shifted = exponent - i128::try_from(fraction.len()).ok()?;
        let digits = digits.trim_start_matches('0');
        let short = digits.trim_end_matches('0');
        let printed = power.is_none().then_some(fraction.len());
        if short.is_empty() {
            return Some(Self { negative: false, digits: String::new(), power: 0, printed });
        }
        let cut = i128::try_from(digits.len() - short.len()).ok()?;
        Some(Self {
            negative: text.starts_with('-'),
            digits: short.to_owned(),
            power: shifted + cut,
            printed,
        })
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Digits before the point; zero or less for a number below one.
    pub fn whole_digits(&self) -> i128 {
        i128::try_from(self.digits.len()).unwrap_or(i128::MAX) + self.power
    }

    pub fn decimals(&self) -> i128 {
        (-self.power).max(0)
    }

    pub fn same_number(&self, other: &Self) -> bool {
        (self.negative, &self.digits, self.power) == (other.negative, &other.digits, other.power)
    }

    /// As an integer, if it is one of at most 38 digits.
    pub fn integer(&self) -> Option<i128> {
        if self.is_zero() {
            return Some(0);
        }
        if self.power < 0 || self.whole_digits() > 38 {
            return None;
        }
        let zeros = "0".repeat(usize::try_from(self.power).ok()?);
        let size: i128 = format!("{}{zeros}", self.digits).parse().ok()?;
        Some(if self.negative { -size } else { size })
    }

    /// Rounded to an integer, a half up; for numbers that are not below zero.
    pub fn rounded(&self) -> Option<i128> {
        if self.power >= 0 {
            return self.integer();
        }
        let whole = self.whole_digits();
        if whole > 30 {
            return None;
        }
        let (before, first) = match usize::try_from(whole) {
            Ok(at) => (&self.digits[..at], self.digits.as_bytes()[at]),
            Err(_) => ("", b'0'),
        };
        let before: i128 = format!("0{before}").parse().ok()?;
        Some(before + i128::from(first >= b'5'))
    }
}

/// Sees that what was read is exactly what was written, by the digits and by another's arithmetic.
pub fn assert_exact(read: &str, written: &str) {
    let (ours, theirs) = (Exact::of(read), Exact::of(written));
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        panic!("{written:?} was read as {read:?}");
    };
    assert!(ours.same_number(&theirs), "{written:?} was read as {read:?}");
    if let Some(printed) = theirs.printed.filter(|printed| *printed <= 1100) {
        assert_eq!(ours.printed, Some(printed), "decimals of {written:?}, read as {read:?}");
    }
    if theirs.digits.len() <= 28 && theirs.decimals() <= 28 && (0..=28).contains(&theirs.whole_digits()) {
        let other = |text: &str| {
            rust_decimal::Decimal::from_scientific(text)
                .or_else(|_| rust_decimal::Decimal::from_str_exact(text))
        };
        if let (Ok(read), Ok(written)) = (other(read), other(written)) {
            assert_eq!(read, written);
        }
    }
}

/// Microseconds since 1970 of an RFC 3339 time of the years 1 to 9999, digits beyond them cut off; None for anything else.
pub fn rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |at: std::ops::Range<usize>| -> Option<i64> {
        let digits = bytes.get(at)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, one_of: &[u8]| bytes.get(at).is_some_and(|b| one_of.contains(b));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let shaped = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !shaped || year == 0 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = &text[19..];
    let fraction = rest
        .strip_prefix('.')
        .map_or("", |rest| &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()]);
    if rest.starts_with('.') && fraction.is_empty() {
        return None;
    }
    let zone = &rest[if fraction.is_empty() { 0 } else { fraction.len() + 1 }..];
    let offset = if zone == "Z" || zone == "z" {
        0
    } else {
        let at = text.len() - zone.len();
        if zone.len() != 6 || !is(at, b"+-") || !is(at + 3, b":") {
            return None;
        }
        let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        (hours * 3600 + minutes * 60) * if bytes[at] == b'-' { -1 } else { 1 }
    };
    let days = |year: i64| (year - 1) * 365 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let month = usize::try_from(month - 1).ok()?;
    let in_year: i64 = lengths[..month].iter().sum::<i64>() + day - 1;
    let days = days(year) - days(1970) + in_year;
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000 + micros)
}

/// Whether a character may stand in an id.
pub fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'@' | b'+' | b'-'))
}

/// Whether an id was kept as it was written; a UUID has no case.
pub fn same_id(kept: &str, written: &str) -> bool {
    kept == written || written.len() == 36 && kept == written.to_ascii_lowercase()
}
