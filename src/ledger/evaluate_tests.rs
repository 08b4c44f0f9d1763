use super::*;
use crate::db::ledger::compare::StatedSums;

fn repeated_row(call_id: &str) -> RepeatedRow {
    RepeatedRow {
        call_id: call_id.into(),
        same: true,
        currency: "INR".into(),
        adds: side(1, 30, "0.5", "0.5"),
        states: StatedSums::default(),
    }
}

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
        differing_of_owner: 0,
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
        repeated: &[],
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
fn a_call_that_a_list_shows_twice_is_one_call_however_the_list_counts_it() {
    let rows = side(2, 60, "1", "1");
    let totals = [both("INR", &rows)];
    let row = |same| RepeatedRow { same, ..repeated_row("a") };
    let evaluated = |repeated: &[RepeatedRow], summary: &Summary, total| {
        let summaries = (Some(summary), Some(summary));
        let seen = CheckSnapshot { summaries, total: Some(total), totals: &totals, repeated, ..snapshot() };
        let decision = evaluate(&seen);
        (decision.state, decision.reason.unwrap_or_default(), decision.money.unwrap_or_default())
    };
    let (once, twice) = (summary(2, 60, "1"), summary(3, 90, "1.5"));
    let settled = |money: &str| (DayState::Settled, String::new(), money.to_owned());
    for total in [2, 3] {
        assert_eq!(evaluated(&[row(true)], &once, total), settled(""));
        assert_eq!(
            evaluated(&[row(true)], &twice, total),
            settled(
                "Vobiz lists 1 call more than once, with the same record: a, and Vobiz's summary counts it each time"
            )
        );
        let (state, reason, _) = evaluated(&[row(false)], &once, total);
        assert_eq!(state, DayState::Unproven);
        assert_eq!(reason, "Vobiz lists 1 call more than once, with different records: a");
    }
    let (state, reason, _) = evaluated(&[row(true)], &summary(3, 90, "1.6"), 3);
    assert_eq!(state, DayState::Differs);
    assert!(
        reason.contains("total_cost 1.6, its own rows say 1.5") && reason.contains("more than once"),
        "{reason}"
    );
    assert_eq!(evaluated(&[], &once, 3).1, "the list changed while it was read");
    assert_eq!(evaluated(&[row(true)], &once, 4).1, "the list changed while it was read");
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

#[test]
fn a_zeroed_summary_beside_rows_is_a_degraded_answer() {
    for (rows, words) in [(1, "beside 1 row of"), (3, "beside 3 rows of")] {
        for total in [None, Some(rows)] {
            let (zeroed, totals) = (summary(0, 0, "0"), [both("INR", &side(rows, 90, "1", "1"))]);
            let snapshot = CheckSnapshot {
                summaries: (Some(&zeroed), Some(&zeroed)),
                total,
                totals: &totals,
                ..snapshot()
            };
            let decision = evaluate(&snapshot);
            assert_eq!(decision.state, DayState::Unproven);
            let reason = decision.reason.unwrap();
            assert!(reason.starts_with("a degraded answer") && reason.contains(words), "{reason}");
        }
    }
    assert_eq!(evaluated(&summary(0, 0, "0"), &side(0, 0, "0", "0"), None).state, DayState::Settled);
}

/// The same with rows whose `total_cost` is not `cost` and `streaming_cost` together.
fn with_odd(said: &str, there: &SideTotals, odd: i64, known: Option<&str>) -> DayDecision {
    let summary = summary(there.calls, there.duration, said);
    let totals = [LedgerTotal { odd, ..both("INR", there) }];
    evaluate(&CheckSnapshot {
        summaries: (Some(&summary), Some(&summary)),
        total: Some(there.calls),
        totals: &totals,
        summary_cost: known,
        ..snapshot()
    })
}

#[test]
fn rows_that_are_odd_themselves_do_not_say_that_the_summary_adds_up_cost() {
    // A total of 9.45 beside a cost of 0.45, and one that could not be read.
    for (total, odd) in [("10.35", 1), ("0.90", 1), ("0", 3)] {
        let rows = side(3, 90, "1.35", total);
        for known in [None, Some("total_cost")] {
            let decision = with_odd("1.35", &rows, odd, known);
            assert_eq!(
                (decision.state, decision.summary_cost),
                (DayState::Differs, None),
                "{total} {known:?}"
            );
            let reason = decision.reason.unwrap();
            let sums = format!(
                "Vobiz's summary says total_cost 1.35, its own rows say {}; ",
                total.trim_end_matches('0')
            );
            let sums = if total == "0" { sums.replace("say ;", "say 0;") } else { sums };
            assert!(reason.starts_with(&sums), "{reason}");
            let verb = if odd == 1 { "1 call has" } else { "3 calls have" };
            assert!(
                reason.ends_with(&format!("{verb} a total_cost that is not cost + streaming_cost")),
                "{reason}"
            );
        }
    }
    // What it is called is what it is, but such a day says nothing of others.
    let by_total = with_odd("10.35", &side(3, 90, "1.35", "10.35"), 1, None);
    assert_eq!((by_total.state, by_total.summary_cost), (DayState::Settled, Some("total_cost")));
    assert_eq!((by_total.teaches, by_total.money), (false, None));
    // A day with streaming does.
    for (cost, total) in [("1.35", "1.95"), ("0", "0.60")] {
        let streamed = with_odd(cost, &side(3, 90, cost, total), 0, None);
        assert_eq!((streamed.state, streamed.summary_cost), (DayState::Settled, Some("cost")));
        assert_eq!((streamed.teaches, streamed.money), (true, None));
    }
}

#[test]
fn where_the_summary_is_known_to_add_up_cost_odd_rows_are_said() {
    for (total, odd, words) in [
        (
            "100.35",
            1,
            "1 call has a total_cost that is not cost + streaming_cost, and Vobiz's summary compares cost only: it says 1.35, its own rows say cost 1.35 and total_cost 100.35",
        ),
        (
            "0.45",
            2,
            "2 calls have a total_cost that is not cost + streaming_cost, and Vobiz's summary compares cost only: it says 1.35, its own rows say cost 1.35 and total_cost 0.45",
        ),
    ] {
        let decision = with_odd("1.35", &side(3, 90, "1.35", total), odd, Some("cost"));
        assert_eq!((decision.state, decision.summary_cost), (DayState::Settled, Some("cost")));
        assert_eq!((decision.teaches, decision.money.as_deref()), (false, Some(words)));
    }
}

#[test]
fn several_currencies_are_no_excuse_for_odd_rows() {
    let (inr, usd) = (side(2, 60, "0.90", "9.90"), side(1, 30, "0.05", "0.05"));
    let totals = [LedgerTotal { odd: 1, ..both("INR", &inr) }, both("USD", &usd)];
    let evaluated = |said: &str, known| {
        let summary = summary(3, 90, said);
        let decision = evaluate(&CheckSnapshot {
            summaries: (Some(&summary), Some(&summary)),
            total: Some(3),
            totals: &totals,
            summary_cost: known,
            ..snapshot()
        });
        (decision.state, decision.teaches, decision.money.unwrap_or_default())
    };
    for said in ["0.95", "0.90", "99"] {
        assert_eq!(evaluated(said, None), (DayState::Differs, false, String::new()), "{said}");
    }
    for (said, begins) in [
        ("0.95", "1 call has a total_cost"),
        ("0.90", "money compared in INR only: "),
        ("99", "money not compared: "),
    ] {
        let (state, teaches, words) = evaluated(said, Some("cost"));
        assert_eq!((state, teaches), (DayState::Settled, false));
        assert!(words.starts_with(begins), "{words}");
        assert!(words.contains("1 call has a total_cost that is not cost + streaming_cost"), "{words}");
    }
}

#[test]
fn a_repeated_row_adds_its_seconds_as_it_states_them() {
    let sums = |read: &str, stated: &str| {
        let both = [read, stated].map(|text| text.parse().unwrap());
        StatedSums { duration: both.clone(), billsec: both }
    };
    for (read, as_read, as_stated, says) in
        [(43, "43", "42.5", "85"), (43, "43", "42.5", "86"), (0, "-1589286045", "-1589286045", "-3178572090")]
    {
        let rows = side(1, read, "1", "1");
        let totals = [LedgerTotal { stated: sums(as_read, as_stated), ..both("INR", &rows) }];
        let (adds, states) = (rows.clone(), sums(as_read, as_stated));
        let repeated = [RepeatedRow { adds, states, ..repeated_row("a") }];
        let evaluated = |says: &str| {
            let said = Summary {
                duration_seconds: says.parse().ok(),
                billable_seconds: says.parse().ok(),
                ..summary(2, 0, "2")
            };
            let decision = evaluate(&CheckSnapshot {
                summaries: (Some(&said), Some(&said)),
                total: Some(2),
                totals: &totals,
                repeated: &repeated,
                ..snapshot()
            });
            (decision.state, decision.besides.len())
        };
        assert_eq!(evaluated(says), (DayState::Settled, 0), "{says}");
        assert_eq!(evaluated("84"), (DayState::Differs, 2), "{says}");
    }
}

#[test]
fn both_sides_are_what_vobiz_counts() {
    let (rows, summary) = (side(2, 60, "1", "1"), summary(4, 120, "2"));
    let evaluated = |summary: &Summary| {
        evaluate(&CheckSnapshot {
            summaries: (Some(summary), Some(summary)),
            total: Some(4),
            totals: &[both("INR", &rows)],
            repeated: &[repeated_row("a"), repeated_row("b")],
            ..snapshot()
        })
    };
    let decision = evaluated(&summary);
    let counted = &decision.counted.unwrap()[0];
    assert_eq!((decision.state, counted.here.calls, counted.there.calls), (DayState::Settled, 2, 4));
    assert_eq!(evaluated(&self::summary(2, 60, "1")).counted, None);
}
