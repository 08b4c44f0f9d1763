//! One row of another's list, from the texts in it to a call of theirs. Pure. A value that cannot be read makes the row unreadable: it is
//! reported, never compared by halves and never dropped.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::cell::{self, Spelling, Time};
use super::{Wrong, heading};
use crate::db::reconcile::{AMOUNTS, COLUMNS, TheirCall};
use crate::vobiz::{Numeric, written};

/// What a row says in one column.
pub(super) struct SaidValue<'a> {
    /// The column as they name it.
    pub(super) title: Cow<'a, str>,
    pub(super) text: Cow<'a, str>,
    /// The currency in which the heading says that amounts are.
    pub(super) currency: Option<&'static str>,
    /// Places by which the point stands too far to the right, where the heading says a smaller unit.
    pub(super) places: u8,
}

impl SaidValue<'_> {
    /// Seconds that it says.
    fn seconds(&self, spelling: Option<Spelling>) -> Result<Numeric, String> {
        cell::seconds(&self.text, spelling).and_then(|number| self.in_our_unit(number))
    }

    /// An amount that it says, and the currency that is written at it.
    fn amount(&self, spelling: Option<Spelling>) -> Result<(Numeric, Option<&'static str>), String> {
        let (number, sign) = cell::amount_or_number(&self.text, spelling)?;
        Ok((self.in_our_unit(number)?, sign))
    }

    fn in_our_unit(&self, number: Numeric) -> Result<Numeric, String> {
        if self.places == 0 {
            return Ok(number);
        }
        let ours = format!("{}e-{}", number.as_str(), self.places).parse::<Numeric>();
        ours.map(|number| number.normalize()).map_err(|error| error.to_string())
    }

    /// Whether another column says the same of a value of this name: the same number, or both nothing but zero.
    pub(super) fn says_the_same(&self, other: &Self, name: &str, spelling: Spelling) -> bool {
        let nothing = [self, other].map(|said| written::is_nothing(&said.text));
        if name == "currency" {
            return nothing[0] || nothing[1] || cell::currency(&self.text) == cell::currency(&other.text);
        }
        let number = |said: &Self| {
            if written::is_nothing(&said.text) {
                return Ok(Numeric::default());
            }
            let spelling = Some(spelling);
            if AMOUNTS.contains(&name) {
                said.amount(spelling).map(|(number, _)| number)
            } else {
                said.seconds(spelling)
            }
        };
        // What cannot be read is said of the column that is read.
        let ours = number(self);
        ours.is_err() || ours == number(other)
    }
}

/// A row that was read.
pub(super) struct ReadRow {
    pub(super) call: TheirCall,
    /// Times that mean none.
    pub(super) no_times: i64,
}

/// Reads a row. `says` gives what it says of one of [`COLUMNS`], the first that counts first. Without a `spelling` values are written as
/// Postgres writes them, and in no other way.
pub(super) fn read<'a>(
    line: i64,
    says: impl Fn(&str) -> Vec<SaidValue<'a>>,
    spelling: Option<Spelling>,
    now: DateTime<Utc>,
) -> Result<ReadRow, Wrong> {
    let mut wrong = Vec::new();
    let mut no_times = 0;
    let said = |name: &str| {
        says(name).into_iter().filter(|said| !written::is_nothing(&said.text)).collect::<Vec<_>>()
    };
    let text = |name: &str, read: fn(&str) -> Result<String, String>, wrong: &mut Vec<String>| {
        let said = said(name).into_iter().next()?;
        read(&said.text).map_err(|why| wrong.push(format!("{}: {why}", said.title))).ok()
    };
    let call_id = text("call_id", written::call_id, &mut wrong);
    let record_id = text("record_id", written::text, &mut wrong);
    let account_id = text("account_id", written::text, &mut wrong);
    let from_number = text("from", written::text, &mut wrong);
    let to_number = text("to", written::text, &mut wrong);
    let mut called_at = None;
    for said in said("started_at") {
        match cell::time(&said.text, spelling, now) {
            Time::At(moment) => called_at = Some(moment),
            Time::Never => {
                no_times += 1;
                continue;
            }
            Time::Unreadable(why) => wrong.push(format!("{}: {why}", said.title)),
            Time::Ambiguous => {
                let text = heading::shown(&said.text);
                return Err(Wrong::AmbiguousDate { line, column: said.title.into_owned(), text });
            }
        }
        break;
    }
    let seconds = |name: &str, wrong: &mut Vec<String>| {
        let said = said(name).into_iter().next()?;
        let read = said.seconds(spelling);
        read.map_err(|why| wrong.push(format!("{}: {why}", said.title))).ok()
    };
    let (duration, billsec) = (seconds("duration", &mut wrong), seconds("billsec", &mut wrong));
    let mut currency = text("currency", written::text, &mut wrong).map(|currency| cell::currency(&currency));
    let mut amount = |name: &str, wrong: &mut Vec<String>| {
        let said = said(name).into_iter().next()?;
        match said.amount(spelling) {
            Ok((number, sign)) => {
                for code in [sign, said.currency].into_iter().flatten() {
                    match &currency {
                        Some(other) if other != code => {
                            wrong.push(format!("{}: in {code}, and the row says {other}", said.title));
                        }
                        _ => currency = Some(code.to_owned()),
                    }
                }
                Some(number)
            }
            Err(why) => {
                wrong.push(format!("{}: {why}", said.title));
                None
            }
        }
    };
    let cost = amount("cost", &mut wrong);
    let streaming_cost = amount("streaming_cost", &mut wrong);
    let total_cost = amount("total_cost", &mut wrong);
    let unreadable = (!wrong.is_empty()).then(|| wrong.join("; "));
    let call = TheirCall {
        line,
        call_id,
        record_id,
        account_id,
        from_number,
        to_number,
        called_at,
        duration,
        billsec,
        cost,
        streaming_cost,
        total_cost,
        currency,
        unreadable,
    };
    Ok(ReadRow { call, no_times })
}

/// A row of a table, its texts in the order of [`COLUMNS`].
pub(super) fn of_table(
    line: i64,
    texts: &[Option<String>; COLUMNS.len()],
    now: DateTime<Utc>,
) -> Result<TheirCall, Wrong> {
    let says = |name: &str| {
        let text = COLUMNS
            .iter()
            .zip(texts)
            .find(|(column, _)| **column == name)
            .and_then(|(_, text)| text.as_deref());
        let said = text.map(|text| SaidValue {
            title: name.to_owned().into(),
            text: text.into(),
            currency: None,
            places: 0,
        });
        said.into_iter().collect()
    };
    read(line, says, None, now).map(|row| row.call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, &'static str, &'static str, Option<&'static str>)]) -> ReadRow {
        let says = |name: &str| {
            let cells = cells.iter().filter(|(field, ..)| *field == name);
            cells
                .map(|(_, title, text, currency)| SaidValue {
                    title: (*title).into(),
                    text: (*text).into(),
                    currency: *currency,
                    places: 0,
                })
                .collect()
        };
        read(7, says, Some(Spelling::default()), "2026-11-27T00:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_kept() {
        let call = row(&[
            ("call_id", "uuid", " 0D0D0018-0000-4000-8000-00000000000A ", None),
            ("billsec", "billsec", "42", None),
            ("cost", "Amount", "0;45", None),
            ("total_cost", "total_cost", "\\N", None),
            ("started_at", "start_time", "yesterday", None),
        ])
        .call;
        assert_eq!((call.line, call.call_id.as_deref()), (7, Some("0d0d0018-0000-4000-8000-00000000000a")));
        assert_eq!((call.billsec, call.cost, call.total_cost), (Some(42.into()), None, None));
        assert_eq!(
            call.unreadable.as_deref(),
            Some(
                "start_time: not a time such as 2026-03-25 10:00:42: \"yesterday\"; Amount: not a number: \"0;45\""
            )
        );
    }

    #[test]
    fn the_currency_is_said_by_a_column_a_heading_or_a_sign_and_all_say_the_same() {
        let said = |cells: &[(&str, &'static str, &'static str, Option<&'static str>)]| {
            let call = row(cells).call;
            (call.currency.unwrap_or_default(), call.unreadable.unwrap_or_default())
        };
        assert_eq!(said(&[("cost", "Cost (INR)", "0.45", Some("INR"))]).0, "INR");
        assert_eq!(said(&[("cost", "Cost", "₹0.45", None)]).0, "INR");
        for rupees in ["Rs.", "INR.", "Indian Rupees"] {
            assert_eq!(said(&[("currency", "currency", rupees, None)]).0, "INR");
        }
        assert_eq!(
            said(&[("currency", "currency", "inr", None), ("cost", "Cost", "0.45 INR", None)]),
            ("INR".into(), String::new())
        );
        assert_eq!(
            said(&[("cost", "Cost (INR)", "NULL", Some("INR"))]).0,
            "",
            "of an amount that is not there"
        );
        let both =
            said(&[("currency", "currency", "USD", None), ("cost", "Cost (INR)", "0.45", Some("INR"))]);
        assert_eq!(both.1, "Cost (INR): in INR, and the row says USD");
    }

    #[test]
    fn a_time_that_means_none_leaves_the_word_to_the_next() {
        let read = row(&[
            ("started_at", "start_time", "1970-01-01 00:00:00", None),
            ("started_at", "end_time", "2026-03-25T10:00:42Z", None),
        ]);
        assert!(read.call.called_at.is_some() && read.call.unreadable.is_none());
        assert_eq!(read.no_times, 1);
    }
}
