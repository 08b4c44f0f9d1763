//! What a person must know to read the figures rightly, on stderr.

use crate::cli::output::table::plain;
use crate::reconcile::{Comparison, FileFacts};

/// All of it, a line each.
pub(super) fn all(comparison: &Comparison) -> Vec<String> {
    let mut notes = comparison.file.as_ref().map(of_file).unwrap_or_default();
    notes.extend(of_comparison(comparison));
    notes.iter().map(|note| plain(note)).collect()
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
    left_out(i64::try_from(file.totals.len()).unwrap_or(i64::MAX), "total row", "total rows");
    for total in &file.totals {
        notes.extend(
            total.wrong.iter().map(|why| format!("line {}, the total row is wrong: {why}", total.line)),
        );
        notes.extend(total.rounded.iter().map(|why| format!("line {}, the total row: {why}", total.line)));
        if total.wrong.is_empty() && total.right > 0 {
            notes.push(format!("line {}, the total row: its sums are those of the rows", total.line));
        }
    }
    if file.encoding != "UTF-8" {
        notes.push(format!("the file is {}", file.encoding));
    }
    if file.windows_rows > 0 {
        notes.push(format!("{} rows have text that is not UTF-8: read as Windows-1252", file.windows_rows));
    }
    for (title, name) in &file.read_as {
        notes.push(format!("the column {title:?} was read as {name}"));
    }
    for title in &file.not_read {
        notes.push(format!("the column {title:?} was not read: another one says the same"));
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

fn of_comparison(comparison: &Comparison) -> Vec<String> {
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
            "the sums differ where rows of theirs say nothing, or by what --decimals and --tolerance allow; the rest is equal".to_owned(),
        );
    }
    if counts.repeated > 0 {
        notes.push(format!("{} rows say again what a row before them said; compared once", counts.repeated));
    }
    if counts.left_out > 0 {
        notes.push(format!(
            "{} rows of other days or accounts than were asked for: left out",
            counts.left_out
        ));
    }
    if comparison.compared.is_empty() && comparison.rows > 0 {
        notes.push(
            "they have no column of seconds, cost or currency: only whether calls are there was compared"
                .to_owned(),
        );
    }
    notes
}
