//! What the list of a day and its summary prove, in words. Pure.

use super::money::{self, Money, on_odd_rows};
use super::part::RepeatedRow;
use super::seconds::{add_sums, are_seconds, stated};
use super::words::{
    in_words, on_contradicting_rows, on_refused_pages, on_repeated_rows, on_two_lists, on_zeroed_summary,
};
use crate::db::ledger::compare::{LedgerDifference, LedgerDifferences, LedgerTotal, SideTotals};
use crate::db::ledger::record::DayState;
use crate::db::ledger::unreadable::UnreadableRow;
use crate::vobiz::Summary;

/// All that a check has seen.
#[derive(Debug)]
pub(super) struct CheckSnapshot<'a> {
    /// The summary of the first page, and of the last one.
    pub(super) summaries: (Option<&'a Summary>, Option<&'a Summary>),
    /// Rows of the whole list, as the last page says.
    pub(super) total: Option<i64>,
    /// Pages of the list that Vobiz refused, and what of them could not be read, in words.
    pub(super) refused: &'a [String],
    /// The same of the lists of the days beside it.
    pub(super) refused_beside: &'a [String],
    /// Rows that could not be read.
    pub(super) unreadable: &'a [UnreadableRow],
    /// Calls that the list shows more than once.
    pub(super) repeated: &'a [RepeatedRow],
    /// Rows that lie in no zone's version of the day.
    pub(super) outside: i64,
    /// Call by call.
    pub(super) differences: &'a LedgerDifferences,
    /// Sums of the bill that do not equal their calls.
    pub(super) wrong_sums: usize,
    /// Both sides.
    pub(super) totals: &'a [LedgerTotal],
    /// The field that the summaries of this account add up, if that is known.
    pub(super) summary_cost: Option<&'a str>,
    /// The day has been over for an hour.
    pub(super) over: bool,
}

/// What it proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayDecision {
    pub(super) state: DayState,
    /// Why it is not settled.
    pub(super) reason: Option<String>,
    /// Which field the summary adds up: `total_cost`, `cost` or `either`.
    pub(super) summary_cost: Option<&'static str>,
    /// The day says of the account which field that is: its rows are not odd themselves.
    pub(super) teaches: bool,
    /// Which money was not compared with the summary, or what else is to be said of it; none if all of it was.
    pub(super) money: Option<String>,
    /// Both sides as the summary counts them, where that is more than each call once.
    pub(super) counted: Option<Vec<LedgerTotal>>,
    /// What differs besides the calls.
    pub(super) besides: Vec<LedgerDifference>,
}

/// What the list of a day proves: settled, or why not.
pub(super) fn evaluate(seen: &CheckSnapshot<'_>) -> DayDecision {
    let decide = |state, reason: Option<String>| DayDecision {
        state,
        reason,
        summary_cost: None,
        teaches: false,
        money: None,
        counted: None,
        besides: vec![],
    };
    let there = sum(seen.totals.iter().map(|total| &total.there));
    let here = sum(seen.totals.iter().map(|total| &total.here));
    if there.calls == 0 && seen.unreadable.is_empty() && here.calls > 0 {
        let reason =
            format!("Vobiz lists no call, and {} are here: an empty list proves nothing", here.calls);
        return decide(DayState::Unproven, Some(reason));
    }
    if seen.outside > 0 {
        let reason = format!(
            "{} of {} calls that Vobiz lists for the day lie outside it in every time zone: it was not the list that was asked for",
            seen.outside, there.calls
        );
        return decide(DayState::Unproven, Some(reason));
    }
    if let Some(reason) = on_refused_pages(seen) {
        return decide(DayState::Unproven, Some(reason));
    }
    let (Some(first), Some(last)) = seen.summaries else {
        return decide(DayState::Unproven, Some("the list came without a summary".into()));
    };
    if let Some(reason) = on_zeroed_summary(last, &there) {
        return decide(DayState::Unproven, Some(reason));
    }
    if first != last {
        return decide(DayState::Unproven, Some("the list changed while it was read".into()));
    }
    if let Some(reason) = on_contradicting_rows(seen.repeated) {
        return decide(DayState::Unproven, Some(reason));
    }
    // Rows that are repeated: a total, and a summary, may count them or not.
    let repeated = i64::try_from(seen.repeated.len()).unwrap_or(i64::MAX);
    let counted = |total: i64| last.calls.is_none_or(|calls| (calls - total).abs() <= repeated);
    if !seen.total.is_none_or(counted) {
        return decide(DayState::Unproven, Some("the list changed while it was read".into()));
    }
    let counts_them = repeated > 0 && last.calls == Some(there.calls + repeated);
    let totals = if counts_them { with_repeated(seen) } else { seen.totals.to_vec() };
    let there = sum(totals.iter().map(|total| &total.there));
    let (besides, Money { summary_cost, words: mut money }) = compare_summary(last, &there, &totals, seen);
    let mut reasons = in_words(seen);
    if repeated > 0 {
        let words = on_repeated_rows(seen.repeated);
        if !reasons.is_empty() || !besides.is_empty() {
            reasons.push(words);
        } else if counts_them {
            let words = format!("{words}, and Vobiz's summary counts it each time");
            money = Some(money.map_or(words.clone(), |money| format!("{money}; {words}")));
        }
    }
    let counted = counts_them.then(|| totals.clone());
    reasons.extend(besides.iter().filter(|difference| difference.kind == "summary").map(|difference| {
        let value = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
        format!(
            "Vobiz's summary says {} {}, its own rows say {}",
            value(&difference.field),
            value(&difference.there),
            value(&difference.here)
        )
    }));
    let odd: i64 = totals.iter().map(|total| total.odd).sum();
    if odd > 0 && besides.iter().any(|difference| difference.field.as_deref() == Some("total_cost")) {
        reasons.push(on_odd_rows(odd));
    }
    // That a call is in two lists is said beside what differs, and is by itself no difference: the bill counts it once.
    let twice = on_two_lists(seen.differences);
    if reasons.is_empty() && !seen.over {
        let reason = "it equals Vobiz's list, but it has not been over for an hour";
        let decision = decide(DayState::Unproven, Some(reason.into()));
        return DayDecision { summary_cost, money, counted, ..decision };
    }
    if reasons.is_empty() {
        let teaches = odd == 0;
        return DayDecision { summary_cost, teaches, money, counted, ..decide(DayState::Settled, None) };
    }
    reasons.extend(twice);
    let decision = decide(DayState::Differs, Some(reasons.join("; ")));
    DayDecision { summary_cost, money, counted, besides, ..decision }
}

fn sum<'a>(sides: impl Iterator<Item = &'a SideTotals>) -> SideTotals {
    sides.fold(SideTotals::default(), |sum, side| &sum + side)
}

/// Both sides, as they are where a call counts each time that the list shows it.
fn with_repeated(seen: &CheckSnapshot<'_>) -> Vec<LedgerTotal> {
    let mut totals = seen.totals.to_vec();
    for row in seen.repeated {
        if let Some(total) = totals.iter_mut().find(|total| total.currency == row.currency) {
            total.there = &total.there + &row.adds;
            add_sums(&mut total.stated, &row.states);
        }
    }
    totals
}

/// Compares the summary with the sums of its own rows.
fn compare_summary(
    summary: &Summary,
    rows: &SideTotals,
    totals: &[LedgerTotal],
    seen: &CheckSnapshot<'_>,
) -> (Vec<LedgerDifference>, Money) {
    let mut differences: Vec<LedgerDifference> = seen
        .unreadable
        .iter()
        .map(|row| LedgerDifference {
            kind: "unreadable".into(),
            call_id: row.call_id.clone(),
            field: None,
            here: None,
            there: Some(row.why.clone()),
        })
        .collect();
    let mut differs = |field: &str, rows: String, said: Option<String>| {
        differences.push(LedgerDifference {
            kind: "summary".into(),
            call_id: None,
            field: Some(field.into()),
            here: Some(rows),
            there: said,
        });
    };
    // With rows that could not be read the sums say nothing; that the rows could not be read is said already.
    if !seen.unreadable.is_empty() {
        return (differences, Money::default());
    }
    if summary.calls != Some(rows.calls) {
        differs("totalCalls", rows.calls.to_string(), summary.calls.map(|said| said.to_string()));
    }
    for (field, said, rows, stated) in [
        (
            "total_duration_seconds",
            &summary.duration_seconds,
            rows.duration,
            stated(totals, |sums| &sums.duration),
        ),
        (
            "total_billable_seconds",
            &summary.billable_seconds,
            rows.billsec,
            stated(totals, |sums| &sums.billsec),
        ),
    ] {
        if !said.as_ref().is_some_and(|said| are_seconds(said, rows, &stated)) {
            differs(field, rows.to_string(), said.as_ref().map(ToString::to_string));
        }
    }
    let said = summary.total_cost.as_ref();
    let money = money::compare(said, rows, totals, seen.summary_cost);
    if money.is_err() {
        let ours = if seen.summary_cost == Some("cost") { &rows.cost } else { &rows.total };
        differs("total_cost", ours.normalize().to_string(), said.map(ToString::to_string));
    }
    (differences, money.unwrap_or_else(|summary_cost| Money { summary_cost, words: None }))
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
