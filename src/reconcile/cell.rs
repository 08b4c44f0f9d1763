//! Single values as other programs write them: amounts with their currency and grouped digits, seconds by the clock, times in any
//! common order. Pure. A value is read exactly or not at all, and why not is said with what to do.

use chrono::{DateTime, Utc};

use super::date::{self, DateOrder, NoMoment};
use super::decimal::{DecimalMark, no_number, plain};
use super::heading::{CURRENCIES, shown};
use crate::vobiz::{Moment, Numeric, written};

/// How values are written, as far as they do not say so themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spelling {
    /// In numbers; where nobody says, a point, as far as the numbers allow.
    pub decimal: Option<DecimalMark>,
    /// In dates of numbers.
    pub dates: Option<DateOrder>,
}

/// What a text says of a time.
pub(super) enum Time {
    At(Moment),
    /// A sentinel for no time: a year before 2000, or the future.
    Never,
    Unreadable(String),
    /// One day or another, and nobody said which.
    Ambiguous,
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || "\u{feff}\u{200b}\u{1a}".contains(c))
}

/// The text itself: without blanks and marks around it, nor what keeps a spreadsheet from making another value of it.
pub(super) fn bare(text: &str) -> &str {
    let text = trim(text);
    if let Some(text) = text.strip_prefix("=\"").and_then(|text| text.strip_suffix('"')) {
        return trim(text);
    }
    text.strip_prefix('\'').map_or(text, trim)
}

/// An amount, and the currency that is written at it.
pub(super) fn amount(text: &str, decimal: DecimalMark) -> Result<(Numeric, Option<&'static str>), String> {
    let (mut rest, mut negative, mut currency) = (text.trim(), false, None);
    let in_brackets = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    if let Some(inner) = in_brackets {
        (rest, negative) = (inner.trim(), true);
    }
    // A sign stands before or behind the currency, once: `-+1` and `(+1)` may be either.
    let mut signed = in_brackets.is_some();
    loop {
        let before = rest.strip_prefix(['-', '−', '+']);
        let (left, sign) = if let Some(left) = before.or_else(|| rest.strip_suffix(['-', '−'])) {
            // `100/-` is how amounts of rupees are closed.
            let closed = before.is_none().then(|| left.strip_suffix('/')).flatten();
            (closed.unwrap_or(left), closed.is_none())
        } else if let Some((left, code)) = without_currency(rest).filter(|_| currency.is_none()) {
            currency = Some(code);
            (left, false)
        } else {
            break;
        };
        if sign && signed {
            return Err(no_number(text, decimal));
        }
        (signed, negative) = (signed || sign, negative || sign && !rest.starts_with('+'));
        rest = left.trim();
    }
    let number = plain(rest, decimal).ok_or_else(|| no_number(text, decimal))?;
    let number = if negative { format!("-{number}") } else { number };
    let number: Numeric = number.parse().map_err(|error| format!("{error}: {:?}", shorten(text)))?;
    Ok((number, currency))
}

fn without_currency(text: &str) -> Option<(&str, &'static str)> {
    CURRENCIES.iter().find_map(|(sign, code)| {
        let begins = text.get(..sign.len()).filter(|begin| begin.eq_ignore_ascii_case(sign));
        let before = begins.map(|_| &text[sign.len()..]);
        let at = text.len().checked_sub(sign.len())?;
        let ends = text.get(at..).filter(|end| end.eq_ignore_ascii_case(sign));
        Some((before.or_else(|| ends.map(|_| &text[..at]))?, *code))
    })
}

/// The same, or without a spelling a number as Postgres writes it.
pub(super) fn amount_or_number(
    text: &str,
    spelling: Option<Spelling>,
) -> Result<(Numeric, Option<&'static str>), String> {
    match spelling {
        Some(spelling) => amount(text, spelling.decimal.unwrap_or_default()),
        None => written::decimal(text).map(|number| (number, None)),
    }
}

/// Seconds, in a file also by the clock (`00:01:12`). Nothing is rounded.
pub(super) fn seconds(text: &str, spelling: Option<Spelling>) -> Result<Numeric, String> {
    let Some(spelling) = spelling else { return written::decimal(text) };
    let decimal = spelling.decimal.unwrap_or_default();
    let lower = text.trim().to_ascii_lowercase();
    let unit = ["seconds", "secs", "sec", "s"].into_iter().find_map(|unit| lower.strip_suffix(unit));
    let number = unit.unwrap_or(&lower).trim();
    if let Some(seconds) = written::by_the_clock(&number.replace(',', ".")) {
        return Ok(seconds);
    }
    match amount(number, decimal) {
        Ok((read, None)) => Ok(read),
        _ => Err(no_number(text, decimal)),
    }
}

/// A time.
pub(super) fn time(text: &str, spelling: Option<Spelling>, now: DateTime<Utc>) -> Time {
    let no_time = || Time::Unreadable(format!("not a time such as 2026-03-25 10:00:42: {:?}", shorten(text)));
    if written::is_before_2000(text) {
        return Time::Never;
    }
    let moment = match (written::moment(text), spelling) {
        (Some(moment), _) => Ok(moment),
        (None, Some(spelling)) => date::moment(text, spelling.dates),
        (None, None) => Err(NoMoment::NoTime),
    };
    match moment {
        Ok(moment) => written::possible(moment, now).map_or(Time::Never, Time::At),
        Err(NoMoment::Ambiguous) => Time::Ambiguous,
        Err(NoMoment::DayAlone) => {
            Time::Unreadable(format!("a day without a time of day: {:?}", shorten(text)))
        }
        Err(NoMoment::NoSuchDay(order)) => {
            let order = order.name();
            Time::Unreadable(format!("no day in the order {order}: {:?}; see --dates", shorten(text)))
        }
        Err(NoMoment::NoTime) => no_time(),
    }
}

/// The code of a currency, whatever it is written as.
pub(super) fn currency(text: &str) -> String {
    let known = CURRENCIES.iter().find(|(sign, _)| text.eq_ignore_ascii_case(sign));
    known.map_or_else(|| written::currency(text), |(_, code)| (*code).to_owned())
}

/// Whether a text is a currency that we know.
pub(super) fn is_currency(text: &str) -> bool {
    CURRENCIES.iter().any(|(sign, _)| text.eq_ignore_ascii_case(sign))
}

/// What came, not too much of it.
pub(super) fn shorten(text: &str) -> String {
    let short: String = shown(text).chars().take(80).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POINT: Option<Spelling> = Some(Spelling { decimal: Some(DecimalMark::Point), dates: None });
    const COMMA: Option<Spelling> = Some(Spelling { decimal: Some(DecimalMark::Comma), dates: None });
    const DAY_FIRST: Option<Spelling> =
        Some(Spelling { decimal: Some(DecimalMark::Point), dates: Some(DateOrder::DayMonthYear) });

    #[test]
    fn an_amount_is_read_in_each_spelling() {
        for (text, number, currency) in [
            ("0.450", "0.450", None),
            ("1,23,456.78", "123456.78", None),
            ("123,456.78", "123456.78", None),
            ("12,34,56,789", "123456789", None),
            ("1 234.50", "1234.50", None),
            ("1\u{a0}234.50", "1234.50", None),
            ("1'234.50", "1234.50", None),
            ("₹ 1,234.50", "1234.50", Some("INR")),
            ("₹0.45", "0.45", Some("INR")),
            ("0.45 ₹", "0.45", Some("INR")),
            ("Rs. 0.45", "0.45", Some("INR")),
            ("Rs 0.45/-", "0.45", Some("INR")),
            ("0.45 INR", "0.45", Some("INR")),
            ("INR\u{a0}0.45", "0.45", Some("INR")),
            ("usd 0.45", "0.45", Some("USD")),
            ("-₹0.45", "-0.45", Some("INR")),
            ("₹ -0.45", "-0.45", Some("INR")),
            ("(0.45)", "-0.45", None),
            ("0.45-", "-0.45", None),
            ("−0.45", "-0.45", None),
            ("+0.45", "0.45", None),
            ("₹ +1,234.50", "1234.50", Some("INR")),
            ("+₹0.45/-", "0.45", Some("INR")),
            ("(₹0.45)", "-0.45", Some("INR")),
            ("4.5E-1", "0.45", None),
            (".45", "0.45", None),
        ] {
            let read = amount(text, DecimalMark::Point).map(|(number, sign)| (number.to_string(), sign));
            assert_eq!(read, Ok((number.to_owned(), currency)), "{text}");
        }
        for (text, number) in [
            ("0,45", "0.45"),
            ("1.234,50", "1234.50"),
            ("1.23.456,78", "123456.78"),
            ("1 234,50 €", "1234.50"),
            ("-1.234.567,5", "-1234567.5"),
            ("7", "7"),
        ] {
            assert_eq!(amount(text, DecimalMark::Comma).unwrap().0.to_string(), number, "{text}");
        }
    }

    #[test]
    fn what_is_not_grouped_as_people_do_is_no_number_and_says_the_flag() {
        for wrong in [
            "1,23",
            "1,2345.6",
            "12,34.5",
            "1234,567.8",
            ",123",
            "0,034",
            "00,123",
            "1,,234",
            "1,234 567.8",
            "0;45",
            "",
            "₹",
            "--1",
            "(-1)",
            "(+0.45)",
            "-+0.45",
            "+-0.45",
            "++0.45",
            "+0.45-",
            "−+0.45",
            "-₹+0.45",
            "(+₹1,234.50)",
            "(₹+0.45)",
            "-(0.45)",
            "$1",
            "NaN",
            "1.2.3",
            "₹1 INR ₹",
        ] {
            let said = amount(wrong, DecimalMark::Point).unwrap_err();
            assert!(said.starts_with("not a number: "), "{said}");
        }
        assert!(amount("₹ 0,45", DecimalMark::Point).unwrap_err().contains("say --decimal ,"));
        assert!(amount("0.45", DecimalMark::Comma).unwrap_err().contains("leave --decimal away"));
        assert!(!amount("abc", DecimalMark::Point).unwrap_err().contains("--decimal"));
        assert!(!amount("\u{1b}[2J", DecimalMark::Point).unwrap_err().contains('\u{1b}'));
    }

    #[test]
    fn seconds_are_read_by_the_clock_too_and_never_rounded() {
        for (text, number) in [
            ("47", "47"),
            ("47.0", "47.0"),
            ("00:01:12", "72"),
            ("1:12", "72"),
            ("42.5", "42.5"),
            ("42 s", "42"),
            ("1,234", "1234"),
            ("72 sec", "72"),
        ] {
            assert_eq!(seconds(text, POINT).unwrap().to_string(), number, "{text}");
        }
        assert_eq!(seconds("00:01:12,5", COMMA).unwrap().to_string(), "72.5");
        assert_eq!(seconds("+42 s", POINT).unwrap().to_string(), "42");
        for wrong in ["forty", "00:60:00", "₹42", "2 min", "(+42)", "-+42", "+42-", "+00:01:12", "(+1:12)"]
        {
            assert!(seconds(wrong, POINT).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sentinel_is_no_time() {
        let now = "2026-11-27T10:00:00Z".parse().unwrap();
        for never in [
            "0001-01-01T00:00:00Z",
            "1970-01-01 05:30:00",
            "1899-12-30 00:00",
            "01/01/1970 00:00",
            "0000-00-00 00:00:00",
            "2099-01-01T00:00:00Z",
            "31/12/9999 23:59",
            "0",
        ] {
            assert!(matches!(time(never, DAY_FIRST, now), Time::Never), "{never}");
        }
        for at in [
            "2026-11-27T10:00:00Z",
            "1764237600",
            "20/11/2026 10:31",
            "Fri, 20 Nov 2026 10:31:00 GMT",
            "2026-11-20T10:31:00+0530",
        ] {
            assert!(matches!(time(at, POINT, now), Time::At(_)), "{at}");
        }
        assert!(matches!(time("05/11/2026 10:31", POINT, now), Time::Ambiguous));
        for wrong in ["46346.5", "yesterday", "2026-11-20"] {
            assert!(matches!(time(wrong, POINT, now), Time::Unreadable(_)), "{wrong}");
        }
    }

    #[test]
    fn what_keeps_a_spreadsheet_from_changing_a_value_is_taken_off() {
        for (text, value) in [
            ("=\"0044\"", "0044"),
            ("'0044", "0044"),
            (" a1\u{a0}", "a1"),
            ("\u{feff}a1", "a1"),
            ("\u{1a}", ""),
        ] {
            assert_eq!(bare(text), value);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_amount_or_none(text in "[0-9.,₹Rs ()-]{0,20}|.{0,20}") {
            for mark in [DecimalMark::Point, DecimalMark::Comma] {
                let _ = (amount(&text, mark), seconds(&text, Some(Spelling { decimal: Some(mark), dates: None })));
            }
        }

        #[test]
        fn a_grouped_number_is_the_number(number in 0u64..10_000_000_000, cents in 0u32..100, indian: bool) {
            let digits = number.to_string();
            let mut grouped = String::new();
            for (at, digit) in digits.chars().enumerate() {
                let left = digits.len() - at;
                if at > 0 && (left == 3 || (left > 3 && (left - 3) % (if indian { 2 } else { 3 }) == 0)) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            let read = amount(&format!("{grouped}.{cents:02}"), DecimalMark::Point).unwrap().0;
            prop_assert_eq!(read.as_str(), format!("{digits}.{cents:02}"));
        }
    }
}
