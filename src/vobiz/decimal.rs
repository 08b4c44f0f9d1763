//! Numbers read from their decimal text, exactly or not at all. Nothing is rounded, and no exponent is expanded before
//! its result is known to fit.

use std::borrow::Cow;

use super::numeric::{MOST_DECIMALS, MOST_WHOLE, Numeric};

/// A number as it was written: sign, digits without leading zeros, and the power of ten they are multiplied with.
pub(super) struct Written {
    negative: bool,
    /// Empty for zero. Trailing zeros stay: they say how many decimals were printed.
    digits: String,
    /// None if the exponent is beyond counting.
    exponent: Option<i64>,
}

/// Why a number is no whole number of the wanted size.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotWhole {
    /// It has a fraction.
    Fraction,
    /// It is too large or too small.
    Range,
}

/// Reads JSON's number syntax, and a little more for numbers inside strings: `+1`, `007`, `.5`, `5.`.
pub(super) fn scan(text: &str) -> Option<Written> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, power) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let only_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !only_digits(whole) || !only_digits(fraction) {
        return None;
    }
    let power = match power {
        None => Some(0),
        Some(power) => {
            let digits = power.strip_prefix(['-', '+']).unwrap_or(power);
            if digits.is_empty() || !only_digits(digits) {
                return None;
            }
            // Eighteen digits leave room to subtract the length of the fraction.
            power.parse::<i64>().ok().filter(|power| power.unsigned_abs() < 1_000_000_000_000_000_000)
        }
    };
    let exponent = power.and_then(|power| power.checked_sub_unsigned(fraction.len() as u64));
    let digits = [whole, fraction].concat().trim_start_matches('0').to_owned();
    Some(Written { negative, digits, exponent })
}

impl Written {
    /// The same number without trailing zeros in its digits: one form for `0.30`, `0.3` and `3e-1`.
    fn shortest(&self) -> (&str, Option<i64>) {
        let digits = self.digits.trim_end_matches('0');
        let cut = (self.digits.len() - digits.len()) as u64;
        (digits, self.exponent.and_then(|exponent| exponent.checked_add_unsigned(cut)))
    }

    /// Exactly this number, with the decimals that were printed where there is room for them; None if it has more digits than a
    /// [`Numeric`] takes.
    pub(super) fn to_numeric(&self) -> Option<Numeric> {
        if self.digits.is_empty() {
            let decimals = self.exponent.map_or(0, |exponent| usize::try_from(-exponent).unwrap_or(0));
            return Some(Numeric::of(false, "", &"0".repeat(decimals.min(MOST_DECIMALS))));
        }
        let (shortest, exponent) = self.shortest();
        self.fit(&self.digits, self.exponent?).or_else(|| self.fit(shortest, exponent?))
    }

    fn fit(&self, digits: &str, exponent: i64) -> Option<Numeric> {
        let whole = i64::try_from(digits.len()).ok()?.checked_add(exponent)?;
        if usize::try_from(whole).unwrap_or(0) > MOST_WHOLE
            || usize::try_from(-exponent).unwrap_or(0) > MOST_DECIMALS
        {
            return None;
        }
        let Ok(decimals) = usize::try_from(-exponent) else {
            return Some(Numeric::of(
                self.negative,
                &[digits, &"0".repeat(usize::try_from(exponent).ok()?)].concat(),
                "",
            ));
        };
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        Some(Numeric::of(self.negative, whole, &format!("{fraction:0>decimals$}")))
    }

    /// Exactly this number as an integer; `42.0` and `4.2e1` are whole.
    pub(super) fn to_whole(&self) -> Result<i64, NotWhole> {
        let (digits, exponent) = self.shortest();
        if digits.is_empty() {
            return Ok(0);
        }
        let Some(exponent) = exponent else { return Err(NotWhole::Range) };
        if exponent < 0 {
            return Err(NotWhole::Fraction);
        }
        let size = i64::try_from(digits.len()).unwrap_or(i64::MAX).saturating_add(exponent);
        if size > 19 {
            return Err(NotWhole::Range);
        }
        let zeros = "0".repeat(usize::try_from(exponent).unwrap_or(0));
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{digits}{zeros}").parse().map_err(|_| NotWhole::Range)
    }
}

/// The one way to write a number: equal numbers give equal texts. A text that is none stays as it is.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    // Almost every number is a short plain one.
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (!text.starts_with('0') || text == "0");
    if plain && text.len() <= 20 && !text.is_empty() {
        return Cow::Borrowed(text);
    }
    let Some(written) = scan(text) else { return Cow::Borrowed(text) };
    if written.digits.is_empty() {
        return Cow::Borrowed("0");
    }
    let (digits, Some(exponent)) = written.shortest() else { return Cow::Borrowed(text) };
    let sign = if written.negative { "-" } else { "" };
    // Which form is taken depends on digits and exponent alone, so it is the same for all spellings of one number.
    let (zeros, decimals) = (usize::try_from(exponent).unwrap_or(0), usize::try_from(-exponent).unwrap_or(0));
    Cow::Owned(if exponent >= 0 && digits.len().saturating_add(zeros) <= 20 {
        format!("{sign}{digits}{}", "0".repeat(zeros))
    } else if (-30..0).contains(&exponent) {
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        format!("{sign}{}.{fraction:0>decimals$}", if whole.is_empty() { "0" } else { whole })
    } else {
        format!("{sign}{digits}e{exponent}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Option<String> {
        scan(text)?.to_numeric().map(|number| number.to_string())
    }

    #[test]
    fn money_is_exact_or_nothing() {
        let cases = [
            ("0.45", Some("0.45")),
            ("0.30", Some("0.30")),
            ("0.00000", Some("0.00000")),
            ("-0.3", Some("-0.3")),
            ("3e-1", Some("0.3")),
            ("1.5E3", Some("1500")),
            ("0e999999999999999999999", Some("0")),
            ("0e-3", Some("0.000")),
            ("79228162514264337593543950335", Some("79228162514264337593543950335")),
            ("79228162514264337593543950336", Some("79228162514264337593543950336")),
            ("0.12345678901234567890123456789", Some("0.12345678901234567890123456789")),
            ("0.1234567890000000000000000000000000", Some("0.1234567890000000000000000000000000")),
            ("1e29", Some("100000000000000000000000000000")),
            ("1e-29", Some("0.00000000000000000000000000001")),
            ("1e100", None),
            ("1e-1101", None),
            ("1e200000", None),
            ("1e-200000", None),
            ("1e99999999999999999999999", None),
            ("1234567890123456789012345678901234567890", Some("1234567890123456789012345678901234567890")),
        ];
        for (text, expected) in cases {
            assert_eq!(decimal(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "", " ", "-", "+", ".", "e5", "1e", "1e+", "0x10", "1,5", "1.2.3", "NaN", "inf", "--1", "1 2",
            "₹1",
        ] {
            assert!(scan(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn whole_numbers() {
        let whole = |text: &str| scan(text).unwrap().to_whole();
        assert_eq!(whole("42.0"), Ok(42));
        assert_eq!(whole("4.2e1"), Ok(42));
        assert_eq!(whole("-007"), Ok(-7));
        assert_eq!(whole("0.000"), Ok(0));
        assert_eq!(whole("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(whole("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(whole("9223372036854775808"), Err(NotWhole::Range));
        assert_eq!(whole("1e999999999"), Err(NotWhole::Range));
        assert_eq!(whole("1e99999999999999999999"), Err(NotWhole::Range));
        assert_eq!(whole("42.5"), Err(NotWhole::Fraction));
        assert_eq!(whole("1e-5"), Err(NotWhole::Fraction));
    }

    #[test]
    fn equal_numbers_have_one_text() {
        let groups: &[(&str, &[&str])] = &[
            ("0.3", &["0.30", "3e-1", "0.3", "30E-2", "0.03e+1"]),
            ("0", &["0", "-0", "0.000", "0e5", "0e99999999999999999999"]),
            ("-1500", &["-1500", "-1.5e3", "-1500.00"]),
            ("12.345", &["12.345", "12345e-3"]),
            ("0.00045", &["0.00045", "45e-5"]),
            ("1e200000", &["1e200000", "10e199999", "1.0E+200000"]),
            ("5e-200000", &["5e-200000", "0.5e-199999"]),
            ("100000000000000000000000", &[]),
        ];
        for (text, spellings) in groups {
            for spelling in *spellings {
                assert_eq!(canonical(spelling), *text, "{spelling}");
            }
            assert_eq!(canonical(&canonical(text)), canonical(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn money_survives_exactly(text in "-?(0|[1-9][0-9]{0,13})(\\.[0-9]{1,14})?") {
            // Zero has no sign.
            let zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
            let expected = if zero { text.trim_start_matches('-') } else { &text };
            prop_assert_eq!(decimal(&text).unwrap(), expected);
        }

        #[test]
        fn the_canonical_text_is_the_same_number(text in "-?[0-9]{1,12}(\\.[0-9]{1,12})?([eE][+-]?[0-9])?") {
            let canonical = canonical(&text);
            prop_assert_eq!(scan(&canonical).unwrap().to_numeric(), scan(&text).unwrap().to_numeric());
            prop_assert_eq!(super::canonical(&canonical), canonical.as_ref());
        }
    }
}
