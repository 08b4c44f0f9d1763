//! One row of another's list, from the texts in it to a call of theirs. Pure. Read as leniently as a CDR, but a value that
//! cannot be read makes the row unreadable: it is reported, never compared by halves and never dropped.

use crate::db::reconcile::{COLUMNS, TheirCall};
use crate::vobiz::written;

/// Reads a row. `says` gives the text of one of [`COLUMNS`], if the row has it.
pub(super) fn read<'a>(line: i64, says: impl Fn(&str) -> Option<&'a str>) -> TheirCall {
    let mut wrong = Vec::new();
    let said = |name: &str| says(name).filter(|text| !written::is_nothing(text));
    let text = |name: &str, wrong: &mut Vec<String>| take(name, said(name), written::text, wrong);
    let number = |name: &str, wrong: &mut Vec<String>| take(name, said(name), written::decimal, wrong);
    let call = TheirCall {
        line,
        call_id: take("call_id", said("call_id"), written::call_id, &mut wrong),
        account_id: text("account_id", &mut wrong),
        from_number: text("from", &mut wrong),
        to_number: text("to", &mut wrong),
        called_at: take("started_at", said("started_at"), written::time, &mut wrong).flatten(),
        duration: number("duration", &mut wrong),
        billsec: number("billsec", &mut wrong),
        cost: number("cost", &mut wrong),
        streaming_cost: number("streaming_cost", &mut wrong),
        total_cost: number("total_cost", &mut wrong),
        currency: text("currency", &mut wrong),
        unreadable: None,
    };
    TheirCall { unreadable: (!wrong.is_empty()).then(|| wrong.join("; ")), ..call }
}

/// A row of a table, its texts in the order of [`COLUMNS`].
pub(super) fn of_table(line: i64, texts: &[Option<String>; COLUMNS.len()]) -> TheirCall {
    read(line, |name| texts[COLUMNS.iter().position(|column| *column == name)?].as_deref())
}

fn take<T>(
    name: &str,
    text: Option<&str>,
    read: fn(&str) -> Result<T, String>,
    wrong: &mut Vec<String>,
) -> Option<T> {
    read(text?).map_err(|why| wrong.push(format!("{name}: {why}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_kept() {
        let call = read(7, |name| match name {
            "call_id" => Some(" 0D0D0018-0000-4000-8000-00000000000A "),
            "billsec" => Some("42"),
            "cost" => Some("0,45"),
            "total_cost" => Some("\\N"),
            "started_at" => Some("yesterday"),
            _ => None,
        });
        assert_eq!((call.line, call.call_id.as_deref()), (7, Some("0d0d0018-0000-4000-8000-00000000000a")));
        assert_eq!((call.billsec, call.cost, call.total_cost), (Some(42.into()), None, None));
        assert_eq!(
            call.unreadable.as_deref(),
            Some(
                "started_at: not a time such as 2026-03-25 10:00:42: \"yesterday\"; cost: not a number: \"0,45\""
            )
        );
    }
}
