//! What stands before the decimals of a number, and what groups its digits. Pure. `1,234` may be either: a thousand times as much is never
//! read where nothing says so.

use std::borrow::Cow;
use std::str::FromStr;

use serde::Serialize;

use super::Wrong;
use super::cell::shorten;
use super::heading::shown;

/// What stands between a number and its decimals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DecimalMark {
    /// 1,234.56
    #[default]
    Point,
    /// 1.234,56
    Comma,
}

impl FromStr for DecimalMark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "." | "point" => Ok(Self::Point),
            "," | "comma" => Ok(Self::Comma),
            _ => Err("write . or ,".to_owned()),
        }
    }
}

/// Which of the two marks a number shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownMark {
    /// Neither.
    Neither,
    /// It has decimals behind this mark, or groups by the other one.
    Mark(DecimalMark),
    /// It has decimals behind this mark, or groups by it.
    Either(DecimalMark),
}

fn shows(text: &str) -> ShownMark {
    let text = text.trim_matches(|c: char| !c.is_ascii_digit());
    let (points, commas) = (text.matches('.').count(), text.matches(',').count());
    let mark = match (points, commas) {
        _ if text.contains(':') => return ShownMark::Neither,
        (0, 0) => return ShownMark::Neither,
        (2.., 0) => return ShownMark::Mark(DecimalMark::Comma),
        (0, 2..) => return ShownMark::Mark(DecimalMark::Point),
        _ if text.rfind('.') > text.rfind(',') => DecimalMark::Point,
        _ => DecimalMark::Comma,
    };
    let (whole, fraction) = text.rsplit_once(['.', ',']).unwrap_or((text, ""));
    let may_be_a_group = points + commas == 1
        && fraction.len() == 3
        && whole.len() <= 3
        && !whole.starts_with('0')
        && [whole, fraction].iter().all(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    if may_be_a_group { ShownMark::Either(mark) } else { ShownMark::Mark(mark) }
}

/// Where a number stands that may be two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnclearNumber {
    /// Its line.
    pub line: i64,
    /// Its column.
    pub column: String,
    /// What it says.
    pub text: String,
}

/// What the numbers of a file have shown of their mark so far.
#[derive(Debug, Default)]
pub(super) struct Marks {
    has_decimals_behind_a_point: bool,
    by_comma: Option<UnclearNumber>,
    by_point: Option<UnclearNumber>,
}

impl Marks {
    /// Looks at a number.
    pub(super) fn see(&mut self, line: i64, column: &str, text: &str) {
        let unclear = match shows(text) {
            ShownMark::Mark(DecimalMark::Point) => {
                self.has_decimals_behind_a_point = true;
                return;
            }
            ShownMark::Either(DecimalMark::Point) => &mut self.by_point,
            ShownMark::Either(DecimalMark::Comma) => &mut self.by_comma,
            _ => return,
        };
        unclear.get_or_insert_with(|| UnclearNumber { line, column: column.to_owned(), text: shown(text) });
    }

    /// Of a file in which nobody said the mark: numbers were read with a point. Fails where `1,234` stands and nothing says that commas
    /// group; the number by which that must be told, where only numbers like `1.234` have decimals.
    pub(super) fn judge(&self) -> Result<Option<UnclearNumber>, Wrong> {
        if self.has_decimals_behind_a_point {
            return Ok(None);
        }
        match &self.by_comma {
            Some(unclear) => Err(Wrong::AmbiguousNumber(unclear.clone())),
            None => Ok(self.by_point.clone()),
        }
    }
}

pub(super) fn no_number(text: &str, decimal: DecimalMark) -> String {
    let other = match decimal {
        DecimalMark::Point => DecimalMark::Comma,
        DecimalMark::Comma => DecimalMark::Point,
    };
    let hint = match other {
        _ if amount_digits(text, other).is_none() => "",
        DecimalMark::Comma => "; if the comma stands before the decimals, say --decimal ,",
        DecimalMark::Point => "; if the point stands before the decimals, leave --decimal away",
    };
    format!("not a number: {:?}{hint}", shorten(text))
}

fn amount_digits(text: &str, decimal: DecimalMark) -> Option<String> {
    let digits = text.trim_matches(|c: char| !c.is_ascii_digit());
    plain(digits, decimal)
}

/// The number as a program writes it; None if its digits are not grouped as people do, by threes or as in 1,23,456.
pub(super) fn plain(text: &str, decimal: DecimalMark) -> Option<String> {
    let (mark, group) = match decimal {
        DecimalMark::Point => ('.', ','),
        DecimalMark::Comma => (',', '.'),
    };
    let (whole, fraction) = text.split_once(mark).map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let is_group = |c: char| c == group || "\u{20}\u{a0}\u{202f}\u{2009}'’".contains(c);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let whole: Cow<'_, str> = match whole.find(is_group) {
        None => whole.into(),
        Some(at) => {
            let separator = whole[at..].chars().next()?;
            let groups: Vec<&str> = whole.split(separator).collect();
            let (first, rest) = groups.split_first()?;
            let (last, between) = rest.split_last()?;
            let of = |length: usize| between.iter().all(|group| group.len() == length);
            let sound = groups.iter().all(|group| digits(group)) && last.len() == 3;
            // `0,034` is no thirty-four.
            if !(sound
                && !first.starts_with('0')
                && ((first.len() <= 3 && of(3)) || (first.len() <= 2 && of(2))))
            {
                return None;
            }
            groups.concat().into()
        }
    };
    match fraction {
        None => Some(whole.into_owned()),
        Some(fraction) if fraction.contains(is_group) => None,
        Some(fraction) => Some(format!("{whole}.{fraction}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_its_mark_or_may_be_two() {
        use DecimalMark::{Comma, Point};
        for (text, shown) in [
            ("1,234", ShownMark::Either(Comma)),
            ("₹ 12,345/-", ShownMark::Either(Comma)),
            ("-1.234", ShownMark::Either(Point)),
            ("123.456 INR", ShownMark::Either(Point)),
            ("0,034", ShownMark::Mark(Comma)),
            ("0.034", ShownMark::Mark(Point)),
            ("1234,567", ShownMark::Mark(Comma)),
            ("0,45", ShownMark::Mark(Comma)),
            ("1,23,456", ShownMark::Mark(Point)),
            ("1.234.567", ShownMark::Mark(Comma)),
            ("1,234.567", ShownMark::Mark(Point)),
            ("1.234,567", ShownMark::Mark(Comma)),
            ("Rs. 45", ShownMark::Neither),
            ("00:01:12,500", ShownMark::Neither),
            ("45", ShownMark::Neither),
            ("", ShownMark::Neither),
        ] {
            assert_eq!(shows(text), shown, "{text}");
        }
    }

    #[test]
    fn what_groups_is_shown_by_another_number_or_asked_for() {
        let judged = |texts: &[&str]| {
            let mut marks = Marks::default();
            for (text, line) in texts.iter().zip(2..) {
                marks.see(line, "cost", text);
            }
            marks.judge().map(|unclear| unclear.map(|unclear| unclear.line))
        };
        for clear in
            [&["1,234", "0.45"][..], &["12", "1.5", "1.234"], &["1,23,456", "1,234"], &["7"], &["1,234.5"]]
        {
            assert!(matches!(judged(clear), Ok(None)), "{clear:?}");
        }
        assert!(matches!(judged(&["12", "1.234"]), Ok(Some(3))));
        for unclear in [&["1,234"][..], &["0,45", "1,234"], &["1.234", "1,234"]] {
            assert!(matches!(judged(unclear), Err(Wrong::AmbiguousNumber(_))), "{unclear:?}");
        }
    }
}
