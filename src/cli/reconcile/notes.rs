//! What a person must know to read the figures rightly, on stderr.

use crate::cli::output::counted;
use crate::reconcile::{Comparison, FileFacts, NotRead, TotalRows, UnclearNumber};
use crate::vobiz::plain;

/// Notes of one kind at most: a file may have hundreds of thousands of total rows.
const SHOWN: usize = 20;

/// All of it, a line each. `is_close`: amounts need not be the same to be equal.
pub(super) fn all(comparison: &Comparison, is_close: bool) -> Vec<String> {
    let mut notes = comparison.file.as_ref().map(of_file).unwrap_or_default();
    notes.extend(of_comparison(comparison, is_close));
    notes.iter().map(|note| plain(note).into_owned()).collect()
}

fn of_file(file: &FileFacts) -> Vec<String> {
    let mut notes = Vec::new();
    let mut left_out = |count: i64, one: &str, many: &str| match count {
        0 => {}
        1 => notes.push(format!("left out: 1 {one}")),
        _ => notes.push(format!("left out: {count} {many}")),
    };
    left_out(file.title_lines, "line before the header line", "lines before the header line");
    left_out(file.blank_rows, "blank row", "blank rows");
    left_out(file.repeated_headers, "row that repeats the header line", "rows that repeat the header line");
    left_out(file.totals.rows, "total row", "total rows");
    notes.extend(of_totals(&file.totals));
    if file.encoding != "UTF-8" {
        notes.push(format!("the file is {}", file.encoding));
    }
    if file.windows_rows > 0 {
        notes.push(format!(
            "{} text that is not UTF-8: read as Windows-1252",
            counted(file.windows_rows, "row has", "rows have")
        ));
    }
    let read_as = file.read_as.iter().map(|(title, name)| format!("the column {title:?} was read as {name}"));
    notes.extend(bounded(read_as.collect(), "columns"));
    notes.extend(bounded(file.not_read.iter().map(of_not_read).collect(), "columns"));
    let not_known = file.not_known.iter().map(|title| {
        format!("the column {title:?} was not compared: it may be an amount or seconds, but which of ours is not known")
    });
    notes.extend(bounded(not_known.collect(), "columns"));
    if let Some(UnclearNumber { line, column, text }) = &file.unclear_number {
        notes.push(format!(
            "line {line}, column {column}: {text} and numbers like it were read with the point before the decimals; if it groups thousands, \
             say --decimal ,"
        ));
    }
    if let Some((zone, by)) = &file.zone {
        notes.push(format!(
            "{} times without a zone were taken in {zone} ({by}); --zone says another",
            file.zoneless
        ));
    }
    if file.no_times > 0 {
        notes.push(format!(
            "{} times mean none, because they lie before 2000 or in the future",
            file.no_times
        ));
    }
    notes
}

/// The first of many.
fn bounded(mut notes: Vec<String>, what: &str) -> Vec<String> {
    let more = notes.len().saturating_sub(SHOWN);
    notes.truncate(SHOWN);
    if more > 0 {
        notes.push(format!("and {more} more {what} like these"));
    }
    notes
}

/// What is wrong first: of many that are right a few are enough.
fn of_totals(totals: &TotalRows) -> Vec<String> {
    let (wrong, fine): (Vec<_>, Vec<_>) = totals.shown.iter().partition(|row| !row.wrong.is_empty());
    let mut rows = 0;
    let mut notes = Vec::new();
    for row in wrong.into_iter().chain(fine).take(SHOWN) {
        rows += 1;
        let line = row.line;
        notes.extend(row.wrong.iter().map(|why| format!("line {line}, the total row is wrong: {why}")));
        notes.extend(row.remarks.iter().map(|what| format!("line {line}, the total row: {what}")));
        if row.wrong.is_empty() && row.near == 0 && row.right > 0 {
            notes.push(format!("line {line}, the total row: its sums are those of the rows"));
        }
    }
    let more = totals.rows - rows;
    if more > 0 {
        let wrong = totals.wrong;
        notes
            .push(format!("and {more} more total rows; of all {} total rows {wrong} are wrong", totals.rows));
    }
    notes
}

fn of_not_read(column: &NotRead) -> String {
    let NotRead { column, read, checked, differing, first } = column;
    match (first, checked) {
        (Some(first), _) => format!(
            "the column {column:?} was not compared, but {read:?}; the two do not say the same in {}, first in line {first}",
            counted(*differing, "row", "rows")
        ),
        (None, true) => format!("the column {column:?} was not compared: {read:?} says the same in each row"),
        (None, false) => format!("the column {column:?} was not read, but {read:?}"),
    }
}

/// What an invoice must not do, in words of its own.
fn of_charged_twice(calls: &[String]) -> Option<String> {
    let named = calls.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match calls.len() {
        0 => None,
        1 => Some(format!("1 call is charged twice: {named}")),
        count if count > SHOWN => {
            Some(format!("more than {SHOWN} calls are charged twice: {named} and others"))
        }
        count => Some(format!("{count} calls are charged twice: {named}")),
    }
}

fn of_comparison(comparison: &Comparison, is_close: bool) -> Vec<String> {
    let counts = &comparison.counts;
    let mut notes = Vec::new();
    if comparison.rows == 0 && (counts.calls_here > 0 || comparison.from.is_none()) {
        notes.push("they have no rows at all: that proves nothing".to_owned());
        if comparison.from.is_none() {
            notes.push("give --from and --to, to see which calls should be there".to_owned());
        }
    }
    if comparison.rows > 0 && counts.calls_here == 0 && counts.calls_there == 0 {
        notes.push("neither side has a call of these accounts and days: that proves nothing; look at --account, --from and --to".to_owned());
    }
    if comparison.rows == 0 && comparison.from.is_some() && counts.calls_here == 0 {
        notes.push("neither side has a call on these days".to_owned());
    }
    let sums_differ = comparison.totals.iter().any(|total| {
        let known = total.what == "calls" || comparison.compared.contains(&total.what.as_str());
        known && total.difference.as_deref() != Some("0")
    });
    if counts.differences() == 0 && sums_differ {
        notes.push(
            if is_close {
                "the sums differ by what --decimals and --tolerance allow; each call is equal as far as that"
            } else {
                "the sums differ, and no call does: look at the currencies"
            }
            .to_owned(),
        );
    }
    for name in &comparison.not_compared {
        notes.push(format!(
            "not compared: {name}. Every row of theirs leaves it blank{}",
            if comparison.counts.differences() == 0 && !comparison.equal {
                "; where we have it, the lists are not equal. To compare the rest, take the column out"
            } else {
                ""
            }
        ));
    }
    if counts.repeated > 0 {
        notes.push(format!(
            "{} again what a row before said; compared once, summed up each time",
            counted(counts.repeated, "row says", "rows say")
        ));
    }
    notes.extend(of_charged_twice(&comparison.charged_twice));
    if counts.left_out > 0 {
        notes.push(format!(
            "{} of other days or accounts than were asked for: left out",
            counted(counts.left_out, "row", "rows")
        ));
    }
    if comparison.compared.is_empty() && comparison.not_compared.is_empty() && comparison.rows > 0 {
        notes.push(
            "they have no column of seconds, cost or currency: only whether calls are there was compared"
                .to_owned(),
        );
    }
    notes
}
