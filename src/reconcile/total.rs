//! Rows that are no call, but the sum of those before them. Pure. They are never taken for calls, and never believed: each is held against
//! the rows that it sums up.

use serde::Serialize;

use crate::db::reconcile::TheirCall;
use crate::vobiz::{Half, Numeric};

/// What such a row can sum up.
const SUMMED: [&str; 5] = ["duration", "billsec", "cost", "streaming_cost", "total_cost"];

/// A row that sums up others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TotalRow {
    /// Where it stands.
    pub line: i64,
    /// What is wrong with it: its sums that are not those of the rows, or cannot be read.
    pub wrong: Vec<String>,
    /// What is right about it only because it is rounded.
    pub rounded: Vec<String>,
    /// How many of its sums are those of the rows.
    pub right: i64,
}

/// Whether this is how the row of a sum is headed.
pub(super) fn is_label(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words = match words.as_slice() {
        ["grand" | "sub" | "overall" | "net" | "report" | "page", rest @ ..] => rest,
        all => all,
    };
    let (Some(first), rest) = (words.first(), words.get(1..).unwrap_or_default()) else { return false };
    let more = [
        "of", "all", "amount", "cost", "costs", "calls", "call", "total", "rows", "records", "for", "the",
        "inr", "rs", "in",
    ];
    matches!(*first, "total" | "totals" | "subtotal" | "subtotals" | "sum" | "sums" | "gesamt" | "summe")
        && rest.iter().all(|word| more.contains(word) || word.bytes().all(|b| b.is_ascii_digit()))
}

/// RowSums of rows.
#[derive(Debug, Clone, Default)]
struct RowSums([Option<Numeric>; SUMMED.len()]);

fn values(call: &TheirCall) -> [&Option<Numeric>; SUMMED.len()] {
    [&call.duration, &call.billsec, &call.cost, &call.streaming_cost, &call.total_cost]
}

impl RowSums {
    fn add(&mut self, call: &TheirCall) {
        for (sum, value) in self.0.iter_mut().zip(values(call)) {
            if let Some(value) = value {
                *sum = Some(sum.as_ref().map_or_else(|| value.clone(), |sum| sum + value));
            }
        }
    }
}

struct Seen {
    row: TheirCall,
    /// Of all rows before it.
    before: RowSums,
    /// Of the rows since the one before.
    since: RowSums,
}

/// The sums of a file that is being read.
#[derive(Default)]
pub(super) struct Totals {
    all: RowSums,
    since: RowSums,
    rows: u32,
    seen: Vec<Seen>,
}

impl Totals {
    /// A row of a call.
    pub(super) fn add(&mut self, call: &TheirCall) {
        self.all.add(call);
        self.since.add(call);
        self.rows += 1;
    }

    /// A row that says sums.
    pub(super) fn say(&mut self, row: TheirCall) {
        let since = std::mem::take(&mut self.since);
        self.seen.push(Seen { row, before: self.all.clone(), since });
    }

    /// Each with what is to be said of it. `slack` is what one row may be off.
    pub(super) fn judge(&self, slack: Option<&Numeric>) -> Vec<TotalRow> {
        let slack = slack.map_or_else(Numeric::default, |slack| times(slack, self.rows + 1));
        self.seen.iter().map(|seen| self.judge_one(seen, &slack)).collect()
    }

    fn judge_one(&self, seen: &Seen, slack: &Numeric) -> TotalRow {
        let (mut wrong, mut rounded, mut right) = (Vec::new(), Vec::new(), 0);
        wrong.extend(seen.row.unreadable.clone());
        for (at, (name, said)) in SUMMED.iter().zip(values(&seen.row)).enumerate() {
            let Some(said) = said else { continue };
            let sums = [&seen.before, &seen.since, &self.all].map(|sums| sums.0[at].clone());
            // Of no rows there is no sum.
            let sums: Vec<Numeric> = sums.into_iter().flatten().collect();
            let is_money = at >= 2;
            if sums.iter().any(|sum| sum == said) || sums.is_empty() && *said == Numeric::default() {
                right += 1;
            } else if let Some(sum) = sums.iter().find(|sum| sum.rounded(said.scale(), Half::Up) == *said) {
                right += 1;
                rounded.push(format!("{name} {said} is the sum of the rows, {}, rounded", sum.normalize()));
            } else if is_money && sums.iter().any(|sum| sum.minus(said).abs() <= *slack) {
                right += 1;
            } else {
                let sum = seen.before.0[at].clone().unwrap_or_default();
                wrong.push(format!("{name} {said}, but the rows before it add up to {}", sum.normalize()));
            }
        }
        TotalRow { line: seen.row.line, wrong, rounded, right }
    }
}

fn times(number: &Numeric, count: u32) -> Numeric {
    let mut sum = Numeric::default();
    for bit in (0..u32::BITS - count.leading_zeros()).rev() {
        sum = &sum + &sum;
        if count >> bit & 1 == 1 {
            sum = &sum + number;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Numeric {
        text.parse().unwrap()
    }

    fn call(cost: &str) -> TheirCall {
        TheirCall { cost: Some(number(cost)), ..TheirCall::default() }
    }

    #[test]
    fn a_label_is_a_word_for_a_sum() {
        for label in [
            "Total",
            "TOTAL:",
            "Grand Total",
            "grand-total",
            "Sub total",
            "Subtotal",
            "Totals",
            "Total (3 calls)",
            "Total Amount (INR)",
            "Sum",
        ] {
            assert!(is_label(label), "{label}");
        }
        for other in ["", "Totally", "Total Recall", "Summer", "a1", "Grand Hotel", "0.45"] {
            assert!(!is_label(other), "{other}");
        }
    }

    #[test]
    fn a_total_is_of_all_rows_or_of_those_since_the_last() {
        let mut totals = Totals::default();
        totals.say(call("1.35"));
        totals.add(&call("0.45"));
        totals.add(&call("0.45"));
        totals.say(call("0.9"));
        totals.add(&call("0.45"));
        for said in ["0.45", "1.35", "1.4", "1.36"] {
            totals.say(call(said));
        }
        let judged = totals.judge(None);
        assert_eq!(judged.iter().map(|row| row.wrong.len()).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1]);
        assert_eq!(judged[4].rounded, ["cost 1.4 is the sum of the rows, 1.35, rounded"]);
        assert_eq!(judged[5].wrong, ["cost 1.36, but the rows before it add up to 1.35"]);
        assert!(totals.judge(Some(&number("0.005"))).iter().all(|row| row.wrong.is_empty()));
        assert_eq!(times(&number("0.005"), 1_000_003), number("5000.015"));
    }
}
