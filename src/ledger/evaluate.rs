//! What the list of a day and its summary prove, in words. Pure.

use super::money::{self, Money};
use super::seconds::{are_seconds, stated};
use super::words::{in_words, on_refused_pages, on_two_lists};
use crate::db::ledger::compare::{LedgerDifference, LedgerDifferences, LedgerTotal, SideTotals};
use crate::db::ledger::record::DayState;
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
    /// Rows that could not be read, each with why.
    pub(super) unreadable: &'a [String],
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
    /// Which money was not compared with the summary, in words; none if all of it was.
    pub(super) money: Option<String>,
    /// What differs besides the calls.
    pub(super) besides: Vec<LedgerDifference>,
}

/// What the list of a day proves: settled, or why not.
pub(super) fn evaluate(seen: &CheckSnapshot<'_>) -> DayDecision {
    let decide = |state, reason: Option<String>| DayDecision {
        state,
        reason,
        summary_cost: None,
        money: None,
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
    if first != last || seen.total.is_some_and(|total| last.calls.is_some_and(|calls| calls != total)) {
        return decide(DayState::Unproven, Some("the list changed while it was read".into()));
    }
    let (besides, Money { summary_cost, words: money }) = compare_summary(last, &there, seen);
    let mut reasons = in_words(seen);
    reasons.extend(besides.iter().filter(|difference| difference.kind == "summary").map(|difference| {
        let value = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
        format!(
            "Vobiz's summary says {} {}, its own rows say {}",
            value(&difference.field),
            value(&difference.there),
            value(&difference.here)
        )
    }));
    // That a call is in two lists is said beside what differs, and is by itself no difference: the bill counts it once.
    let twice = on_two_lists(seen.differences);
    if reasons.is_empty() && !seen.over {
        let reason = "it equals Vobiz's list, but it has not been over for an hour";
        return DayDecision { summary_cost, money, ..decide(DayState::Unproven, Some(reason.into())) };
    }
    if reasons.is_empty() {
        return DayDecision { summary_cost, money, ..decide(DayState::Settled, None) };
    }
    reasons.extend(twice);
    DayDecision { state: DayState::Differs, reason: Some(reasons.join("; ")), summary_cost, money, besides }
}

fn sum<'a>(sides: impl Iterator<Item = &'a SideTotals>) -> SideTotals {
    sides.fold(SideTotals::default(), |sum, side| SideTotals {
        calls: sum.calls + side.calls,
        duration: sum.duration + side.duration,
        billsec: sum.billsec + side.billsec,
        cost: &sum.cost + &side.cost,
        total: &sum.total + &side.total,
    })
}

/// Compares the summary with the sums of its own rows.
fn compare_summary(
    summary: &Summary,
    rows: &SideTotals,
    seen: &CheckSnapshot<'_>,
) -> (Vec<LedgerDifference>, Money) {
    let mut differences: Vec<LedgerDifference> = seen
        .unreadable
        .iter()
        .map(|why| LedgerDifference {
            kind: "unreadable".into(),
            call_id: None,
            field: None,
            here: None,
            there: Some(why.clone()),
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
            stated(seen.totals, |sums| &sums.duration),
        ),
        (
            "total_billable_seconds",
            &summary.billable_seconds,
            rows.billsec,
            stated(seen.totals, |sums| &sums.billsec),
        ),
    ] {
        if !said.as_ref().is_some_and(|said| are_seconds(said, rows, &stated)) {
            differs(field, rows.to_string(), said.as_ref().map(ToString::to_string));
        }
    }
    let said = summary.total_cost.as_ref();
    let money = money::compare(said, rows, seen.totals, seen.summary_cost);
    if money.is_err() {
        let ours = if seen.summary_cost == Some("cost") { &rows.cost } else { &rows.total };
        differs("total_cost", ours.normalize().to_string(), said.map(ToString::to_string));
    }
    (differences, money.unwrap_or_else(|summary_cost| Money { summary_cost, words: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(calls: i64, seconds: i64, cost: &str, total: &str) -> SideTotals {
        SideTotals {
            calls,
            duration: seconds,
            billsec: seconds,
            cost: cost.parse().unwrap(),
            total: total.parse().unwrap(),
        }
    }

    fn summary(calls: i64, seconds: i64, cost: &str) -> Summary {
        Summary {
            calls: Some(calls),
            duration_seconds: seconds.to_string().parse().ok(),
            billable_seconds: seconds.to_string().parse().ok(),
            total_cost: Some(cost.parse().unwrap()),
            text: String::new(),
        }
    }

    fn evaluated(summary: &Summary, there: &SideTotals, known: Option<&str>) -> DayDecision {
        let totals = [both("INR", there)];
        evaluate(&CheckSnapshot {
            summaries: (Some(summary), Some(summary)),
            total: Some(summary.calls.unwrap()),
            totals: &totals,
            summary_cost: known,
            ..snapshot()
        })
    }

    /// A list that was read whole and proves nothing yet.
    fn snapshot() -> CheckSnapshot<'static> {
        static NONE: LedgerDifferences = LedgerDifferences {
            missing_here: 0,
            missing_there: 0,
            differing: 0,
            billed_elsewhere: 0,
            listed_twice: 0,
            first: Vec::new(),
        };
        CheckSnapshot {
            summaries: (None, None),
            total: None,
            refused: &[],
            refused_beside: &[],
            unreadable: &[],
            outside: 0,
            differences: &NONE,
            wrong_sums: 0,
            totals: &[],
            summary_cost: None,
            over: true,
        }
    }

    fn both(currency: &str, side: &SideTotals) -> LedgerTotal {
        LedgerTotal {
            currency: currency.into(),
            here: side.clone(),
            there: side.clone(),
            ..LedgerTotal::default()
        }
    }

    #[test]
    fn the_field_that_the_summary_adds_up_is_found_out() {
        let rows = side(3, 90, "1.20", "1.45");
        let fits = |said: &str, known| {
            let decision = evaluated(&summary(3, 90, said), &rows, known);
            (decision.state, decision.summary_cost)
        };
        assert_eq!(fits("1.45", None), (DayState::Settled, Some("total_cost")));
        assert_eq!(fits("1.2", None), (DayState::Settled, Some("cost")));
        assert_eq!(fits("1.5", None), (DayState::Differs, None), "a zero that was not printed is a digit");
        assert_eq!(fits("1", None), (DayState::Differs, None));
        assert_eq!(fits("1.4500000000000002", None), (DayState::Settled, Some("total_cost")), "a binary sum");
        assert_eq!(fits("1.46", None), (DayState::Differs, None));
        assert_eq!(fits("1.4600000000000002", None), (DayState::Differs, None));
        assert_eq!(fits("1.45", Some("total_cost")), (DayState::Settled, Some("total_cost")));
        assert_eq!(fits("1.45", Some("cost")), (DayState::Differs, Some("total_cost")), "it was another one");
    }

    #[test]
    fn digits_beyond_a_machine_number_count() {
        let cost = "0.450000000000000011102230246251565404236316680908203125";
        let (rows, total) = (side(1, 42, cost, "0.01333333333333333333333333333"), Some("total_cost"));
        assert_eq!(evaluated(&summary(1, 42, "0.0133"), &rows, None).summary_cost, total);
        assert_eq!(evaluated(&summary(1, 42, cost), &rows, None).summary_cost, Some("cost"));
    }

    #[test]
    fn seconds_and_calls_must_be_equal() {
        let rows = side(3, 90, "1", "1");
        assert_eq!(
            evaluated(&summary(4, 90, "1"), &rows, None).reason.unwrap(),
            "Vobiz's summary says totalCalls 4, its own rows say 3"
        );
        assert_eq!(evaluated(&summary(3, 91, "1"), &rows, None).besides.len(), 2);
        let mut none = summary(3, 90, "1");
        none.total_cost = None;
        assert_eq!(evaluated(&none, &rows, None).state, DayState::Differs);
    }

    #[test]
    fn money_that_was_not_compared_is_said_though_the_day_settles() {
        let one = side(1, 30, "1", "1");
        let totals = ["INR", "USD"].map(|currency| both(currency, &one));
        let evaluated = |said: &str| {
            let summary = summary(2, 60, said);
            evaluate(&CheckSnapshot {
                summaries: (Some(&summary), Some(&summary)),
                total: Some(2),
                totals: &totals,
                ..snapshot()
            })
        };
        let blind = evaluated("2");
        assert_eq!((blind.state, blind.summary_cost, blind.money), (DayState::Settled, Some("either"), None));
        let unexplained = evaluated("99");
        assert_eq!((unexplained.state, unexplained.summary_cost), (DayState::Settled, None));
        assert!(unexplained.money.unwrap().starts_with("money not compared: "));
    }

    #[test]
    fn what_proves_nothing_settles_nothing() {
        let held =
            [LedgerTotal { currency: "INR".into(), here: side(2, 60, "1", "1"), ..LedgerTotal::default() }];
        let (empty, full) = (summary(0, 0, "0"), summary(2, 60, "1"));
        let evaluated = |summaries, totals, total| {
            let differences = LedgerDifferences { missing_there: 2, ..LedgerDifferences::default() };
            let seen = CheckSnapshot { summaries, total, differences: &differences, totals, ..snapshot() };
            evaluate(&seen)
        };
        let decision = evaluated((Some(&empty), Some(&empty)), &held, Some(0));
        assert_eq!(decision.state, DayState::Unproven);
        assert!(decision.reason.unwrap().contains("an empty list proves nothing"));
        for summaries in [(None, None), (Some(&empty), Some(&full))] {
            assert_eq!(evaluated(summaries, &[], None).state, DayState::Unproven);
        }
        assert_eq!(evaluated((Some(&full), Some(&full)), &[], Some(3)).state, DayState::Unproven);
    }

    #[test]
    fn a_list_with_a_refused_page_settles_nothing() {
        let rows = side(2, 60, "1", "1");
        let (totals, summary) = ([both("INR", &rows)], summary(3, 90, "2"));
        let refused = ["page 7 of 12 of the list of 2026-11-20 is refused".to_owned()];
        let lacking = LedgerDifferences { missing_there: 1, ..LedgerDifferences::default() };
        let list = CheckSnapshot {
            summaries: (Some(&summary), Some(&summary)),
            total: Some(3),
            totals: &totals,
            ..snapshot()
        };
        let said = |snapshot: CheckSnapshot<'_>| {
            let decision = evaluate(&snapshot);
            (decision.state, decision.reason.unwrap())
        };
        let unproven = (DayState::Unproven, refused[0].clone());
        assert_eq!(said(CheckSnapshot { refused: &refused, ..list }), unproven);
        let list = || CheckSnapshot {
            summaries: (Some(&summary), Some(&summary)),
            total: Some(3),
            totals: &totals,
            refused_beside: &refused,
            ..snapshot()
        };
        // Beside the day, it only matters where a call of ours may be in the hole.
        assert_eq!(said(list()).0, DayState::Differs);
        assert_eq!(said(CheckSnapshot { differences: &lacking, ..list() }), unproven);
    }

    #[test]
    fn a_day_that_is_not_over_is_not_settled() {
        let (side, summary) = (side(1, 30, "1", "1"), summary(1, 30, "1"));
        let totals = [both("INR", &side)];
        let decision = evaluate(&CheckSnapshot {
            summaries: (Some(&summary), Some(&summary)),
            total: Some(1),
            totals: &totals,
            over: false,
            ..snapshot()
        });
        assert_eq!((decision.state, decision.summary_cost), (DayState::Unproven, Some("either")));
    }

    #[test]
    fn an_empty_day_is_settled() {
        let decision = evaluated(&summary(0, 0, "0"), &SideTotals::default(), None);
        assert_eq!((decision.state, decision.reason), (DayState::Settled, None));
    }

    #[test]
    fn a_mismatch_says_which_calls_differ_and_by_how_much() {
        let (here, there) = (side(2, 60, "1.01", "1.01"), side(2, 60, "1", "1"));
        let totals = [LedgerTotal { currency: "INR".into(), here, there, ..LedgerTotal::default() }];
        let differs = |call_id: &str, field: &str| LedgerDifference {
            kind: "differs".into(),
            call_id: Some(call_id.into()),
            field: Some(field.into()),
            here: Some("0.51".into()),
            there: Some("0.50".into()),
        };
        let differences = LedgerDifferences {
            differing: 1,
            missing_here: 5,
            first: vec![
                differs("a", "cost"),
                differs("a", "total_cost"),
                LedgerDifference { kind: "missing_here".into(), ..differs("b", "") },
            ],
            ..LedgerDifferences::default()
        };
        let summary = summary(2, 60, "1");
        let decision = evaluate(&CheckSnapshot {
            summaries: (Some(&summary), Some(&summary)),
            total: Some(2),
            differences: &differences,
            totals: &totals,
            ..snapshot()
        });
        assert_eq!(decision.state, DayState::Differs);
        assert_eq!(
            decision.reason.unwrap(),
            "0.01 INR more here; 1 call differs: a; 5 calls are missing here: b, …"
        );
    }
}
