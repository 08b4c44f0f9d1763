//! Dates and times as spreadsheets and invoices write them. Pure. Which of two numbers is the month is never guessed.

use std::str::FromStr;

use chrono::{FixedOffset, NaiveDate, NaiveTime, TimeZone};

use crate::vobiz::Moment;

/// In which order a date of numbers names its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOrder {
    /// 20/11/2026
    DayMonthYear,
    /// 11/20/2026
    MonthDayYear,
    /// 26/11/20
    YearMonthDay,
}

impl DateOrder {
    /// As the flag names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DayMonthYear => "dmy",
            Self::MonthDayYear => "mdy",
            Self::YearMonthDay => "ymd",
        }
    }
}

impl FromStr for DateOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::DayMonthYear, Self::MonthDayYear, Self::YearMonthDay];
        let named = all.into_iter().find(|order| order.name() == text.to_ascii_lowercase());
        named.ok_or_else(|| "write dmy for 20/11/2026, mdy for 11/20/2026, ymd for 26/11/20".to_owned())
    }
}

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoMoment {
    /// It is not written like one.
    NoTime,
    /// A day without the time of day.
    DayAlone,
    /// There is no such day in the order that was said.
    NoSuchDay(DateOrder),
    /// It may be two days.
    Ambiguous,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A day and a time of day, as in `20/11/2026 10:31`, `20-Nov-26, 10:31:07 PM` or `2026/11/20 05:01 +05:30`.
pub(super) fn moment(text: &str, order: Option<DateOrder>) -> Result<Moment, NoMoment> {
    let text = text.trim();
    let Some(colon) = text.find(':') else {
        return Err(date(text, order).map_or_else(|wrong| wrong, |_| NoMoment::DayAlone));
    };
    let hour = text[..colon].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let day = text[..hour].strip_suffix(['T', 't']).unwrap_or(&text[..hour]);
    let (time, zone) = time(&text[hour..]).ok_or(NoMoment::NoTime)?;
    let local = date(day, order)?.and_time(time);
    match zone {
        None => Ok(Moment::Local(local)),
        Some(zone) => {
            let at = zone.from_local_datetime(&local).single().ok_or(NoMoment::NoTime)?;
            Ok(Moment::Instant(at.to_utc()))
        }
    }
}

fn date(text: &str, order: Option<DateOrder>) -> Result<NaiveDate, NoMoment> {
    let is = |word: &str, names: &[&str]| {
        let word = word.to_lowercase();
        names.iter().position(|name| word.starts_with(name) && word.bytes().all(|b| b.is_ascii_lowercase()))
    };
    let mut parts: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if parts.len() == 4 && is(parts[0], &WEEKDAYS).is_some() {
        parts.remove(0);
    }
    let [first, second, third] = parts[..] else { return Err(NoMoment::NoTime) };
    let month = |at: usize| is(parts[at], &MONTHS).and_then(|at| u32::try_from(at + 1).ok());
    let named = |day: &str, month: u32, year: &str| {
        let day = number(day, 1, 2).ok_or(NoMoment::NoTime)?;
        let year = year_of(year).ok_or(NoMoment::NoTime)?;
        NaiveDate::from_ymd_opt(year, month, day).ok_or(NoMoment::NoTime)
    };
    if let Some(month) = month(1) {
        return if first.len() == 4 { named(third, month, first) } else { named(first, month, third) };
    }
    if let Some(month) = month(0) {
        return named(second, month, third);
    }
    if first.len() == 4 {
        let month = number(second, 1, 2).ok_or(NoMoment::NoTime)?;
        return named(third, month, first);
    }
    let [a, b, c] = [first, second, third].map(|part| number(part, 1, 4));
    let (Some(a), Some(b), Some(_)) = (a, b, c) else { return Err(NoMoment::NoTime) };
    let order = match order {
        Some(order) => order,
        None if third.len() != 4 => return Err(NoMoment::Ambiguous),
        None if a > 12 || a == b => DateOrder::DayMonthYear,
        None if b > 12 => DateOrder::MonthDayYear,
        None => return Err(NoMoment::Ambiguous),
    };
    let made = match order {
        DateOrder::DayMonthYear => named(first, b, third),
        DateOrder::MonthDayYear => named(second, a, third),
        DateOrder::YearMonthDay => named(third, b, first),
    };
    made.map_err(|_| NoMoment::NoSuchDay(order))
}

fn number(text: &str, least: usize, most: usize) -> Option<u32> {
    let fits = (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// Of two digits it is a year of this century.
fn year_of(text: &str) -> Option<i32> {
    let year = i32::try_from(number(text, 2, 4)?).ok()?;
    match text.len() {
        4 => Some(year),
        2 => Some(2000 + year),
        _ => None,
    }
}

/// A time of day, by which it is the afternoon or not, and the offset behind it.
fn time(text: &str) -> Option<(NaiveTime, Option<FixedOffset>)> {
    let clock = text.find(|c: char| !c.is_ascii_digit() && !":.,".contains(c)).unwrap_or(text.len());
    let (clock, rest) = text.split_at(clock);
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let parts: Vec<u32> = clock.split(':').map(|part| number(part, 1, 2)).collect::<Option<_>>()?;
    let (mut hour, minute, second) = match parts[..] {
        [hour, minute] if fraction.is_empty() => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let rest = rest.trim();
    let half: String =
        rest.chars().filter(|c| !". ".contains(*c)).take(2).flat_map(char::to_lowercase).collect();
    let rest = if matches!(&*half, "am" | "pm") {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if half == "pm" { 12 } else { 0 };
        rest.trim_start_matches(|c: char| ".aApPmM ".contains(c))
    } else {
        rest
    };
    let micros = fraction.get(..6).unwrap_or(fraction);
    let micros = if micros.is_empty() { 0 } else { number(&format!("{micros:0<6}"), 6, 6)? };
    let time = NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?;
    Some((time, if rest.is_empty() { None } else { Some(offset(rest)?) }))
}

fn offset(text: &str) -> Option<FixedOffset> {
    let text = text.to_uppercase();
    let signed = text.strip_prefix("UTC").or_else(|| text.strip_prefix("GMT")).unwrap_or(&text);
    if matches!(signed, "" | "Z") {
        return FixedOffset::east_opt(0);
    }
    let digits = signed.strip_prefix(['+', '-'])?;
    let (hours, minutes) =
        digits.split_once(':').unwrap_or_else(|| digits.split_at_checked(2).unwrap_or((digits, "")));
    let minutes =
        if minutes.is_empty() { 0 } else { number(minutes, 2, 2).filter(|minutes| *minutes < 60)? };
    let seconds = i32::try_from(number(hours, 1, 2)? * 3600 + minutes * 60).ok()?;
    FixedOffset::east_opt(if signed.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, order: Option<DateOrder>) -> String {
        match moment(text, order) {
            Ok(Moment::Local(local)) => local.to_string(),
            Ok(Moment::Instant(at)) => at.to_rfc3339(),
            Err(wrong) => format!("{wrong:?}"),
        }
    }

    #[test]
    fn a_date_that_can_be_one_day_only_is_read() {
        for text in [
            "20/11/2026 10:31",
            "20-11-2026 10:31:00",
            "20.11.2026 10:31",
            "11/20/2026 10:31 AM",
            "2026/11/20 10:31",
            "2026-11-20 10:31",
            "2026-11-20T10:31",
            "20-Nov-2026 10:31",
            "20 November 2026, 10:31 am",
            "20-Nov-26 10:31",
            "Nov 20, 2026 10:31 a.m.",
            "Fri, 20 Nov 2026 10:31",
            "2026-Nov-20 10:31",
        ] {
            assert_eq!(read(text, None), "2026-11-20 10:31:00", "{text}");
        }
        assert_eq!(read("11/11/2026 12:01 AM", None), "2026-11-11 00:01:00");
        assert_eq!(read("20/11/2026 12:01:02.5 PM", None), "2026-11-20 12:01:02.500");
        for text in [
            "20/11/2026 10:31 +05:30",
            "20/11/2026 10:31 UTC+0530",
            "20/11/2026 05:01 Z",
            "20/11/2026 05:01 GMT",
        ] {
            assert_eq!(read(text, None), "2026-11-20T05:01:00+00:00", "{text}");
        }
    }

    #[test]
    fn a_date_that_can_be_two_is_read_as_the_order_says_or_not_at_all() {
        use DateOrder::{DayMonthYear, MonthDayYear, YearMonthDay};

        for text in ["05/11/2026 10:31", "5.11.2026 10:31", "05/11/26 10:31", "20/11/26 10:31"] {
            assert_eq!(read(text, None), "Ambiguous", "{text}");
        }
        for (text, order, day) in [
            ("05/11/2026 10:31", DayMonthYear, "2026-11-05 10:31:00"),
            ("05/11/2026 10:31", MonthDayYear, "2026-05-11 10:31:00"),
            ("05/11/26 10:31", DayMonthYear, "2026-11-05 10:31:00"),
            ("26/11/05 10:31", YearMonthDay, "2026-11-05 10:31:00"),
            ("2026-11-05 10:31", DayMonthYear, "2026-11-05 10:31:00"),
            ("20/11/2026 10:31", MonthDayYear, "NoSuchDay(MonthDayYear)"),
            ("05/11/2026 10:31", YearMonthDay, "NoSuchDay(YearMonthDay)"),
            ("31/02/2026 10:31", DayMonthYear, "NoSuchDay(DayMonthYear)"),
            ("20/11/2026", DayMonthYear, "DayAlone"),
        ] {
            assert_eq!(read(text, Some(order)), day, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "10:31",
            "20/11 10:31",
            "20/11/2026 25:00",
            "20/11/2026 13:00 PM",
            "20/11/2026 10:31 XYZ",
            "46346.5",
        ] {
            assert_eq!(read(text, None), "NoTime", "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9/:.,APM +-]{0,25}|.{0,25}") {
            for order in [None, Some(DateOrder::DayMonthYear), Some(DateOrder::YearMonthDay)] {
                let _ = moment(&text, order);
            }
        }
    }
}
