//! A number that Postgres's `numeric` holds and no machine number does: as text, exact, with the decimals that were printed.
//! Nothing is rounded unless it is asked for. Arithmetic is what sums of a day need, digit by digit; a bill is added up in SQL.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Add;

use serde::{Serialize, Serializer};

use super::decimal;

/// Digits before the point. No amount has them; `numeric` has room for 131,072.
pub(super) const MOST_WHOLE: usize = 100;
/// Digits behind it: more than the 1,074 of the longest binary float, fewer than the 16,383 of `numeric`.
pub(super) const MOST_DECIMALS: usize = 1100;

/// An exact decimal number. Two of them are equal if they are the same number: 0.30 and 0.3.
#[derive(Clone)]
pub struct Numeric(Box<str>);

/// What becomes of a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Away from zero.
    Up,
    /// To the even digit.
    Even,
}

/// Why a text is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumeric {
    /// It is none.
    #[error("not a number")]
    NoNumber,
    /// More than 100 digits before the point or 1,100 behind it.
    #[error("more digits than can be kept exactly")]
    Digits,
}

impl Numeric {
    /// The number in plain digits, as `numeric` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A sum of such numbers as Postgres prints it. It may have more digits than one number is read with.
    pub fn of_sum(text: &str) -> Result<Self, InvalidNumeric> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(InvalidNumeric::NoNumber);
        }
        Ok(Self::of(negative, whole.trim_start_matches('0'), fraction))
    }

    /// Digits before the point.
    pub(super) fn whole_digits(&self) -> usize {
        self.parts().1.len()
    }

    /// Decimals that were printed.
    pub fn scale(&self) -> usize {
        self.parts().2.len()
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        self.parts().0
    }

    /// The same number without zeros at its end.
    #[must_use]
    pub fn normalize(&self) -> Self {
        let (negative, whole, fraction) = self.parts();
        Self::of(negative, whole, fraction.trim_end_matches('0'))
    }

    /// The same number without its sign.
    #[must_use]
    pub fn abs(&self) -> Self {
        let (_, whole, fraction) = self.parts();
        Self::of(false, whole, fraction)
    }

    /// This less the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let (negative, whole, fraction) = other.parts();
        self + &Self::of(!negative, whole, fraction)
    }

    /// The number at so many decimals; as it is if it has no more.
    #[must_use]
    pub fn rounded(&self, decimals: usize, half: Half) -> Self {
        let (negative, whole, fraction) = self.parts();
        if fraction.len() <= decimals {
            return self.clone();
        }
        let (kept, cut) = fraction.split_at(decimals);
        let mut digits = digits(whole, kept, decimals);
        let is_half = cut.starts_with('5') && cut[1..].bytes().all(|b| b == b'0');
        let up = match half {
            Half::Even if is_half => digits.last().is_some_and(|digit| digit % 2 == 1),
            _ => cut.as_bytes()[0] >= b'5',
        };
        if let Some(last) = digits.last_mut() {
            *last += i16::from(up);
        }
        Self::carried(negative, digits, decimals)
    }

    fn parts(&self) -> (bool, &str, &str) {
        let (negative, rest) = self.0.strip_prefix('-').map_or((false, &*self.0), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        (negative, whole, fraction)
    }

    /// `whole` has no zeros in front; zero has no sign.
    pub(super) fn of(negative: bool, whole: &str, fraction: &str) -> Self {
        let zero = whole.bytes().chain(fraction.bytes()).all(|b| b == b'0');
        let sign = if negative && !zero { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        Self([sign, whole, point, fraction].concat().into())
    }

    /// A number of digits that may be out of bounds, but whose sum is not below zero.
    fn carried(negative: bool, mut digits: Vec<i16>, decimals: usize) -> Self {
        let mut carry = 0;
        for digit in digits.iter_mut().rev() {
            let sum = *digit + carry;
            (*digit, carry) = (sum.rem_euclid(10), sum.div_euclid(10));
        }
        let text: String = [carry]
            .into_iter()
            .chain(digits)
            .filter_map(|digit| char::from_digit(digit.unsigned_abs().into(), 10))
            .collect();
        let (whole, fraction) = text.split_at(text.len() - decimals);
        Self::of(negative, whole.trim_start_matches('0'), fraction)
    }
}

/// Digits from the first to the last, with so many decimals.
fn digits(whole: &str, fraction: &str, decimals: usize) -> Vec<i16> {
    let zeros = std::iter::repeat_n(b'0', decimals - fraction.len());
    whole.bytes().chain(fraction.bytes()).chain(zeros).map(|b| i16::from(b - b'0')).collect()
}

impl Add for &Numeric {
    type Output = Numeric;

    fn add(self, other: Self) -> Numeric {
        let decimals = self.scale().max(other.scale());
        let negative = match (self.is_negative(), other.is_negative()) {
            (true, true) => true,
            (false, false) => false,
            (ours, theirs) => {
                if self.abs() >= other.abs() {
                    ours
                } else {
                    theirs
                }
            }
        };
        let signed = |number: &Numeric| {
            let (sign, whole, fraction) = number.parts();
            let mut digits = digits(whole, fraction, decimals);
            if sign != negative {
                for digit in &mut digits {
                    *digit = -*digit;
                }
            }
            digits.reverse();
            digits
        };
        let (ours, theirs) = (signed(self), signed(other));
        let at = |digits: &[i16], place: usize| digits.get(place).copied().unwrap_or(0);
        let sum = (0..ours.len().max(theirs.len())).rev().map(|place| at(&ours, place) + at(&theirs, place));
        Numeric::carried(negative, sum.collect(), decimals)
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.parts(), other.parts());
        match (ours.0, theirs.0) {
            (false, true) => return Ordering::Greater,
            (true, false) => return Ordering::Less,
            _ => {}
        }
        let size = |(_, whole, fraction): (bool, &'_ str, &'_ str)| {
            (whole.len(), whole.to_owned(), fraction.trim_end_matches('0').to_owned())
        };
        let order = size(ours).cmp(&size(theirs));
        if ours.0 { order.reverse() } else { order }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Numeric {}

impl Default for Numeric {
    fn default() -> Self {
        Self("0".into())
    }
}

impl From<u32> for Numeric {
    fn from(number: u32) -> Self {
        Self(number.to_string().into())
    }
}

impl std::str::FromStr for Numeric {
    type Err = InvalidNumeric;

    fn from_str(text: &str) -> Result<Self, InvalidNumeric> {
        decimal::scan(text).ok_or(InvalidNumeric::NoNumber)?.to_numeric().ok_or(InvalidNumeric::Digits)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Numeric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::{Decimal, RoundingStrategy};

    use super::*;

    fn number(text: &str) -> Numeric {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_number_is_equal_however_it_is_printed() {
        assert_eq!(number("0.30"), number("3e-1"));
        assert_eq!(number("-0.00"), number("0"));
        assert_eq!(number("-0.00").as_str(), "0.00");
        assert_eq!(number("007.50").normalize().as_str(), "7.5");
        assert!(
            number("-2") < number("-1.5") && number("0.45") < number("0.5") && number("10") > number("9.99")
        );
        assert_eq!("x".parse::<Numeric>(), Err(InvalidNumeric::NoNumber));
        assert_eq!("1e100".parse::<Numeric>(), Err(InvalidNumeric::Digits));
        assert_eq!("1e-1101".parse::<Numeric>(), Err(InvalidNumeric::Digits));
    }

    #[test]
    fn a_sum_may_have_more_digits_than_its_numbers() {
        let most = "9".repeat(MOST_WHOLE);
        let sum = &number(&most) + &number(&most);
        assert_eq!(sum.as_str().len(), MOST_WHOLE + 1);
        assert_eq!(sum.as_str().parse::<Numeric>(), Err(InvalidNumeric::Digits));
        for text in [sum.as_str(), "-0.450", "0", "12.5"] {
            assert_eq!(Numeric::of_sum(text).map(|sum| sum.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "-", ".5", "NaN", "Infinity", "1e5", "1.2.3", "+1", "--1"] {
            assert_eq!(Numeric::of_sum(text), Err(InvalidNumeric::NoNumber), "{text}");
        }
    }

    #[test]
    fn digits_beyond_a_machine_number_are_added_up() {
        let sum = &number("0.450000000000000011102230246251565404236316680908203125")
            + &number("99999999999999999999999999999999.55");
        assert_eq!(
            sum.as_str(),
            "100000000000000000000000000000000.000000000000000011102230246251565404236316680908203125"
        );
        assert_eq!(sum.minus(&sum).normalize().as_str(), "0");
        assert_eq!(number("9.995").rounded(2, Half::Up).as_str(), "10.00");
        assert_eq!(number("0.00499999999999999999999999999999999999").rounded(2, Half::Up).as_str(), "0.00");
        assert_eq!(number("0.125").rounded(2, Half::Even).as_str(), "0.12");
        assert_eq!(number("0.1250000000000000000000000000000000001").rounded(2, Half::Even).as_str(), "0.13");
        assert_eq!(number("0.5").rounded(0, Half::Even).as_str(), "0");
    }

    proptest! {
        #[test]
        fn it_reckons_like_a_machine_number_as_far_as_that_goes(
            a in "-?[0-9]{1,10}(\\.[0-9]{1,8})?",
            b in "-?[0-9]{1,10}(\\.[0-9]{1,8})?",
            decimals in 0u32..9,
        ) {
            let exact = |text: &str| Decimal::from_str_exact(text).unwrap();
            let (x, y) = (number(&a), number(&b));
            prop_assert_eq!(x.cmp(&y), exact(&a).cmp(&exact(&b)));
            prop_assert_eq!(exact((&x + &y).as_str()), exact(&a) + exact(&b));
            prop_assert_eq!(exact(x.minus(&y).as_str()), exact(&a) - exact(&b));
            for (half, strategy) in [
                (Half::Up, RoundingStrategy::MidpointAwayFromZero),
                (Half::Even, RoundingStrategy::MidpointNearestEven),
            ] {
                let rounded = x.rounded(decimals as usize, half);
                prop_assert_eq!(exact(rounded.as_str()), exact(&a).round_dp_with_strategy(decimals, strategy));
            }
        }
    }
}
