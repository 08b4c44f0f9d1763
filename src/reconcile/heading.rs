//! What one heading says: which of the values that we read stands below it, and in which unit. Pure.

use super::date::DateOrder;
use crate::db::reconcile::{AMOUNTS, NUMBERS};

/// What we read, and the names of its columns in exports, as they are without case, blanks and signs. The first is Vobiz's own. The
/// start is taken as `vobiz.cdr.day_at` takes it.
pub(super) const NAMES: [(&str, &[&str]); 12] = [
    ("call_id", &["uuid", "callid", "calluuid"]),
    ("record_id", &["id"]),
    ("account_id", &["accountid"]),
    ("from", &["calleridnumber", "fromnumber", "callernumber", "from", "caller"]),
    ("to", &["destinationnumber", "tonumber", "callednumber", "destination", "to"]),
    (
        "started_at",
        &[
            "starttime",
            "startedat",
            "calldatetime",
            "datetime",
            "timestamp",
            "start",
            "endtime",
            "endedat",
            "end",
            "createdat",
        ],
    ),
    ("duration", &["duration", "callduration", "totalduration"]),
    (
        "billsec",
        &["billsec", "billseconds", "billableseconds", "billedseconds", "billedduration", "billduration"],
    ),
    ("cost", &["cost", "callcost"]),
    ("streaming_cost", &["streamingcost"]),
    (
        "total_cost",
        &["totalcost", "totalamount", "amount", "totalcharge", "totalcharges", "charge", "charges"],
    ),
    ("currency", &["currency", "currencycode"]),
];

/// Bytes of the longest heading that is looked at. A text is tried at each of its words, so that of a file without a header, which
/// may be one long line, would cost the square of its length.
const LONGEST: usize = 200;

/// Units of amounts beside the currencies.
const AMOUNT_UNITS: &[(&[&str], Unit)] = &[
    (&["paise", "paisa", "inrpaise"], Unit::Smaller(2, Some("INR"))),
    (&["cents", "cent"], Unit::Smaller(2, None)),
    (
        &["lakh", "lakhs", "crore", "crores", "thousand", "thousands", "million", "mn", "%", "percent"],
        Unit::Other,
    ),
];
/// Units of times that are spans.
const SECOND_UNITS: &[(&[&str], Unit)] = &[
    (
        &["s", "sec", "secs", "second", "seconds", "hh:mm:ss", "h:mm:ss", "mm:ss", "hhmmss", "hms", "mmss"],
        Unit::Plain,
    ),
    (&["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"], Unit::Smaller(3, None)),
    (&["us", "usec", "usecs", "microsecond", "microseconds"], Unit::Smaller(6, None)),
    (
        &["min", "mins", "minute", "minutes", "hr", "hrs", "h", "hour", "hours", "hh:mm", "hhmm", "pulses"],
        Unit::Other,
    ),
];

/// Codes of currencies, and other ways in which they are written.
pub(super) const CURRENCIES: [(&str, &str); 17] = [
    ("₹", "INR"),
    ("rupees", "INR"),
    ("rupee", "INR"),
    ("inr", "INR"),
    ("rs.", "INR"),
    ("rs", "INR"),
    ("usd", "USD"),
    ("€", "EUR"),
    ("eur", "EUR"),
    ("£", "GBP"),
    ("gbp", "GBP"),
    ("aed", "AED"),
    ("sgd", "SGD"),
    ("aud", "AUD"),
    ("cad", "CAD"),
    ("jpy", "JPY"),
    ("chf", "CHF"),
];

/// What a heading says of the values below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    Plain,
    Currency(&'static str),
    /// Of a smaller unit: so many places behind the point of ours; and the currency.
    Smaller(u8, Option<&'static str>),
    Zone(String),
    Dates(DateOrder),
    /// One that we cannot compare.
    Other,
}

impl Unit {
    /// The currency that it names.
    pub(super) fn currency(&self) -> Option<&'static str> {
        match self {
            Self::Currency(code) => Some(code),
            Self::Smaller(_, code) => *code,
            _ => None,
        }
    }

    /// By how many places the point of its values stands too far to the right.
    pub(super) fn places(&self) -> u8 {
        if let Self::Smaller(places, _) = self { *places } else { 0 }
    }

    /// What is rather read of two columns for one thing.
    pub(super) fn preference(&self) -> u8 {
        match self {
            Self::Smaller(..) => 1,
            Self::Other => 2,
            _ => 0,
        }
    }
}

/// Text of a file as a terminal may be given it, and not too much of it.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Without case, blanks and signs, but for those of a currency.
pub(super) fn squeezed(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric() || "₹€£$%".contains(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

/// A heading in words: `totalCost_INR` is three.
fn words(title: &str) -> Vec<String> {
    let mut apart = String::new();
    let mut after_small = false;
    for c in title.chars() {
        if after_small && c.is_uppercase() {
            apart.push(' ');
        }
        after_small = c.is_lowercase();
        apart.push(c);
    }
    let words = apart.split(|c: char| !(c.is_alphanumeric() || "₹€£$%".contains(c)));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The value of this name, and by which of its names.
fn named(name: &str) -> Option<(usize, usize)> {
    let name = squeezed(name);
    let of =
        |name: &str, field: usize| Some((field, NAMES[field].1.iter().position(|known| *known == name)?));
    let costs = name.strip_suffix('s');
    let mut fields = 0..NAMES.len();
    fields.clone().find_map(|field| of(&name, field)).or_else(|| {
        costs.and_then(|name| fields.find_map(|field| of(name, field).filter(|_| is_number(field))))
    })
}

/// Which of [`NAMES`] a heading is, by which of its names, and in which unit.
pub(super) fn place(title: &str) -> Option<(usize, usize, Unit)> {
    if title.len() > LONGEST {
        return None;
    }
    if let Some((field, rank)) = named(title) {
        return Some((field, rank, Unit::Plain));
    }
    let closed = title.strip_suffix([')', ']']);
    if let Some((name, written)) = closed.and_then(|title| title.rsplit_once(['(', '[']))
        && let Some((field, rank)) = named(name)
    {
        // An id or a number of a phone has no unit: `Call ID (SIP)` is another thing.
        let has_unit = matches!(NAMES[field].0, "started_at") || is_number(field);
        let written = written.trim();
        let written = written.strip_prefix("in ").unwrap_or(written);
        return has_unit.then(|| (field, rank, unit(field, written).unwrap_or(Unit::Other)));
    }
    let separated = title.rmatch_indices([' ', '_', '-', '/', ',']).find_map(|(at, _)| {
        let (field, rank) = named(&title[..at])?;
        let written = &title[at + 1..];
        let written = written.strip_prefix("in ").or_else(|| written.strip_prefix("in_")).unwrap_or(written);
        Some((field, rank, unit(field, written)?))
    });
    separated.or_else(|| with_unit(&words(title)))
}

/// A number whose unit is a word before or behind its name, whatever stands between them.
fn with_unit(words: &[String]) -> Option<(usize, usize, Unit)> {
    let of = |name: &[String], written: &str| {
        let (field, rank) = named(&name.concat()).filter(|(field, _)| is_number(*field))?;
        Some((field, rank, unit(field, written)?))
    };
    let joined = || {
        // `durationms`
        let [word] = words else { return None };
        let at_its_end = NAMES.iter().enumerate().filter(|(field, _)| is_number(*field));
        let mut names =
            at_its_end.flat_map(|(field, (_, names))| names.iter().zip(0..).map(move |n| (field, n)));
        names.find_map(|(field, (name, rank))| Some((field, rank, unit(field, word.strip_prefix(name)?)?)))
    };
    let (first, behind) = words.split_first()?;
    let (last, before) = words.split_last()?;
    let before =
        if before.last().is_some_and(|word| word == "in") { &before[..before.len() - 1] } else { before };
    // `min duration` is the shortest one.
    of(before, last).or_else(|| of(behind, first).filter(|(field, ..)| is_money(*field))).or_else(joined)
}

/// Whether a heading that has no place may still be that of an amount or of seconds, such as `Net Amount` or `cost_thb`.
pub(super) fn may_be_a_number(title: &str) -> bool {
    if title.len() > LONGEST {
        return false;
    }
    let words = words(title);
    let is_one = |words: &[String]| named(&words.concat()).is_some_and(|(field, _)| is_number(field));
    (1..words.len()).any(|at| is_one(&words[..at]) || is_one(&words[at..]))
}

pub(super) fn is_number(field: usize) -> bool {
    NUMBERS.contains(&NAMES[field].0)
}

pub(super) fn is_money(field: usize) -> bool {
    AMOUNTS.contains(&NAMES[field].0)
}

/// The unit that is written at a name; None if it is none that we know.
fn unit(field: usize, written: &str) -> Option<Unit> {
    let written = written.trim().to_lowercase();
    if is_number(field) {
        let known = if is_money(field) { AMOUNT_UNITS } else { SECOND_UNITS };
        let currency = CURRENCIES.iter().find(|(sign, _)| is_money(field) && *sign == written);
        return currency.map(|(_, code)| Unit::Currency(code)).or_else(|| {
            known.iter().find(|(words, _)| words.contains(&&*written)).map(|(_, unit)| unit.clone())
        });
    }
    if NAMES[field].0 != "started_at" {
        return None;
    }
    if ["ms", "msec", "millis", "epoch", "unix", "epoch ms", "epoch_ms", "unix ms", "unix_ms"]
        .contains(&&*written)
    {
        return Some(Unit::Plain);
    }
    match &*written {
        "utc" | "gmt" | "z" => return Some(Unit::Zone("UTC".into())),
        // Of India, where Vobiz is: which zone was taken is said.
        "ist" | "asia/kolkata" | "asia/calcutta" | "utc+5:30" | "utc+05:30" | "gmt+5:30" | "gmt+05:30"
        | "+05:30" => {
            return Some(Unit::Zone("Asia/Kolkata".into()));
        }
        _ => {}
    }
    let order: String = written.split([' ', 't']).next()?.chars().filter(|c| "dmy".contains(*c)).collect();
    let mut order: Vec<char> = order.chars().collect();
    order.dedup();
    order.into_iter().collect::<String>().parse().ok().map(Unit::Dates)
}

#[cfg(test)]
mod tests {
    use super::super::header::title;
    use super::*;

    fn placed(title: &str) -> Option<(&'static str, Unit)> {
        place(title).map(|(field, _, unit)| (NAMES[field].0, unit))
    }

    #[test]
    fn a_heading_is_found_however_it_is_spelt() {
        for name in [
            "uuid",
            "UUID",
            "Call UUID",
            "call_uuid",
            "CallUUID",
            "Call Id",
            "CALL-ID",
            "call.id",
            " call  id ",
        ] {
            assert_eq!(placed(&title(name)), Some(("call_id", Unit::Plain)), "{name}");
        }
        for (name, field, unit) in [
            ("Amount (INR)", "total_cost", Unit::Currency("INR")),
            ("Amount [₹]", "total_cost", Unit::Currency("INR")),
            ("Total Cost in Rs.", "total_cost", Unit::Currency("INR")),
            ("TOTAL_COST_INR", "total_cost", Unit::Currency("INR")),
            ("Cost ₹", "cost", Unit::Currency("INR")),
            ("Cost (USD)", "cost", Unit::Currency("USD")),
            ("Cost (paise)", "cost", Unit::Smaller(2, Some("INR"))),
            ("total_cost_paise", "total_cost", Unit::Smaller(2, Some("INR"))),
            ("cost_in_paise", "cost", Unit::Smaller(2, Some("INR"))),
            ("totalCostInPaise", "total_cost", Unit::Smaller(2, Some("INR"))),
            ("amount_cents", "total_cost", Unit::Smaller(2, None)),
            ("Total Costs", "total_cost", Unit::Plain),
            ("costUSD", "cost", Unit::Currency("USD")),
            ("inr_cost", "cost", Unit::Currency("INR")),
            ("duration_ms", "duration", Unit::Smaller(3, None)),
            ("durationms", "duration", Unit::Smaller(3, None)),
            ("Bill Sec in ms", "billsec", Unit::Smaller(3, None)),
            ("billsec_min", "billsec", Unit::Other),
            ("duration in minutes", "duration", Unit::Other),
            ("Amount in lakhs", "total_cost", Unit::Other),
            ("start_utc", "started_at", Unit::Zone("UTC".into())),
            ("start_time_ms", "started_at", Unit::Plain),
            ("Amount (incl. GST)", "total_cost", Unit::Other),
            ("Duration (min)", "duration", Unit::Other),
            ("Duration (Sec)", "duration", Unit::Plain),
            ("duration_seconds", "duration", Unit::Plain),
            ("Bill Sec", "billsec", Unit::Plain),
            ("Start Time (IST)", "started_at", Unit::Zone("Asia/Kolkata".into())),
            ("Start Time UTC", "started_at", Unit::Zone("UTC".into())),
            ("Start Time (DD/MM/YYYY HH:MM)", "started_at", Unit::Dates(DateOrder::DayMonthYear)),
        ] {
            assert_eq!(placed(name), Some((field, unit)), "{name}");
        }
        for name in
            ["Cost Center", "SIP Call ID", "bridge_uuid", "UUID of bridge", "Call ID (SIP)", "Account", ""]
        {
            assert_eq!(placed(name), None, "{name}");
        }
    }

    #[test]
    fn a_text_that_is_no_heading_is_not_tried_at_each_of_its_words() {
        for (blanks, is_short) in [(180, true), (200_000, false)] {
            let title = format!("cost{}(INR)", " ".repeat(blanks));
            assert_eq!(placed(&title).is_some(), is_short, "{blanks}");
            assert_eq!(may_be_a_number(&title.replace("(INR)", "thb")), is_short, "{blanks}");
        }
    }

    #[test]
    fn a_heading_that_may_be_an_amount_is_known_for_one() {
        for title in ["Net Amount", "cost_thb", "Cost Center", "bridge_duration", "callCostMax"] {
            assert!(placed(title).is_none() && may_be_a_number(title), "{title}");
        }
        for title in ["hangup_cause", "trunk_id", "ring_time", "Customer", ""] {
            assert!(placed(title).is_none() && !may_be_a_number(title), "{title}");
        }
    }
}
