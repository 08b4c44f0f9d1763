//! Tests of `total.rs`.

use super::*;

fn number(text: &str) -> Numeric {
    text.parse().unwrap()
}

fn call(cost: &str) -> TheirCall {
    TheirCall { cost: Some(number(cost)), ..TheirCall::default() }
}

fn said(label: &str, cost: &str) -> SaidTotal {
    let call = if cost.is_empty() { TheirCall::default() } else { call(cost) };
    SaidTotal { call, label: label.to_owned(), others: Vec::new() }
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
        "TOTAL INR 109.97",
        "Total: $5",
        "Total USD 1,234.50",
        "Total INR109.97",
    ] {
        assert!(is_label(label), "{label}");
    }
    for other in ["", "Totally", "Total Recall", "Summer", "a1", "Grand Hotel", "0.45", "Total a1"] {
        assert!(!is_label(other), "{other}");
    }
}

#[test]
fn a_total_is_of_all_rows_or_of_those_since_the_last() {
    let judged = |closeness: Closeness| {
        let mut totals = Totals::new(closeness);
        totals.say(said("Total", "1.35"), DecimalMark::Point);
        totals.add(&call("0.45"));
        totals.add(&call("0.45"));
        totals.say(said("Total", "0.9"), DecimalMark::Point);
        totals.add(&call("0.45"));
        for of in ["0.45", "1.35", "1.4", "1.36"] {
            totals.say(said("Total", of), DecimalMark::Point);
        }
        totals.judge(DecimalMark::Point)
    };
    let all = judged(Closeness::default());
    assert_eq!((all.rows, all.wrong), (6, 1));
    let remarks: Vec<_> = all.shown.iter().flat_map(|row| &row.remarks).collect();
    assert_eq!(remarks, ["cost 1.4 is the sum of the rows, 1.35, rounded"]);
    let wrong: Vec<_> = all.shown.iter().flat_map(|row| &row.wrong).collect();
    assert_eq!(wrong, ["cost 1.36, but the rows before it add up to 1.35"]);
    let off =
        |tolerance: &str| judged(Closeness { decimals: None, tolerance: Some(number(tolerance)) }).wrong;
    assert_eq!((off("0.01"), off("0.0099")), (0, 1));
}

#[test]
fn a_total_is_off_by_what_its_rows_are_rounded_and_one_tolerance() {
    let judged = |(decimals, tolerance): (Option<u8>, Option<&str>), total: SaidTotal| {
        let mut totals = Totals::new(Closeness { decimals, tolerance: tolerance.map(number) });
        for nth in 0..300 {
            totals.add(&call("0.45"));
            // Rows that the sum is not of are no room for it either.
            totals.add(&match nth {
                0..100 => TheirCall { currency: Some("USD".to_owned()), ..call("7") },
                _ => TheirCall { billsec: Some(1.into()), ..TheirCall::default() },
            });
        }
        totals.say(total, DecimalMark::Point);
        totals.judge(DecimalMark::Point).shown.remove(0)
    };
    let in_usd = |cost: &str| SaidTotal {
        call: TheirCall { currency: Some("USD".to_owned()), ..call(cost) },
        ..said("Total", "")
    };
    // 100 rows in USD, 700 together.
    for (closeness, near, wrong) in [
        ((None, Some("0.5")), &["700.5", "699.5"][..], ["700.51", "701"]),
        ((None, Some("0.01")), &["700.01", "699.99"], ["703", "698.99"]),
        // Rows that have no more decimals lose nothing by it.
        ((Some(2), None), &[], ["700.01", "699.99"]),
        ((Some(0), None), &[], ["701", "650"]),
        ((Some(2), Some("0.5")), &["700.5", "699.5"], ["700.51", "850"]),
    ] {
        for cost in near {
            for total in [in_usd(cost), said(&format!("Total USD {cost}"), "")] {
                let row = judged(closeness, total);
                assert_eq!((row.near, row.right, row.wrong.len()), (1, 0, 0), "{closeness:?} {cost} {row:?}");
                assert!(
                    row.remarks[0].contains(cost) && row.remarks[0].contains("the rows, 700,"),
                    "{row:?}"
                );
            }
        }
        for cost in wrong {
            for total in [in_usd(cost), said(&format!("Total USD {cost}"), "")] {
                let row = judged(closeness, total);
                assert_eq!((row.near, row.right, row.wrong.len()), (0, 0, 1), "{closeness:?} {cost} {row:?}");
            }
        }
        let row = judged(closeness, in_usd("700.00"));
        assert_eq!((row.near, row.right, row.remarks.len(), row.wrong.len()), (0, 1, 0, 0), "{row:?}");
    }
    assert_eq!(
        judged((Some(2), Some("9")), SaidTotal { others: vec!["301".to_owned()], ..in_usd("700") })
            .wrong
            .len(),
        1
    );
}

#[test]
fn a_total_may_add_up_rows_as_they_are_rounded() {
    for (cost, decimals, near, wrong) in [
        ("0.4549", 2, ["45.00", "45.0"], ["44.99", "45.03"]),
        ("0.455", 2, ["46.00", "46.0"], ["46.01", "45.01"]),
        ("0.6", 0, ["100", "100.00"], ["101", "20"]),
        ("0.45", 0, ["0", "0.00"], ["44.99", "90"]),
    ] {
        let judged = |total: &str| {
            let mut totals = Totals::new(Closeness { decimals: Some(decimals), tolerance: None });
            for _ in 0..100 {
                totals.add(&call(cost));
            }
            totals.say(said("Total", total), DecimalMark::Point);
            totals.judge(DecimalMark::Point).shown.remove(0)
        };
        for total in near {
            let row = judged(total);
            assert_eq!((row.near, row.wrong.len()), (1, 0), "{cost} {total} {row:?}");
        }
        for total in wrong {
            let row = judged(total);
            assert_eq!((row.near, row.wrong.len()), (0, 1), "{cost} {total} {row:?}");
        }
    }
}

fn judged(rows: &[(&str, &str)], total: SaidTotal) -> TotalRow {
    let mut totals = Totals::default();
    for (cost, currency) in rows {
        let currency = Some((*currency).to_owned()).filter(|code| !code.is_empty());
        totals.add(&TheirCall { currency, billsec: Some(42.into()), ..call(cost) });
    }
    totals.say(total, DecimalMark::Point);
    totals.judge(DecimalMark::Point).shown.remove(0)
}

#[test]
fn a_total_is_of_its_currency() {
    let rows = [("0.45", "INR"), ("0.45", "INR"), ("2", "USD")];
    let in_currency = |cost: &str, code: &str| {
        let call = TheirCall { currency: Some(code.to_owned()), ..call(cost) };
        judged(&rows, SaidTotal { call, ..said("Total", "") })
    };
    for right in [("0.9", "INR"), ("2", "USD")] {
        assert_eq!((in_currency(right.0, right.1).right, in_currency(right.0, right.1).wrong.len()), (1, 0));
    }
    assert_eq!(in_currency("0.9", "USD").wrong, ["cost 0.9 USD, but the rows before it add up to 2"]);
    assert_eq!(in_currency("2.9", "EUR").wrong, ["cost 2.9 EUR, but no row before it is in EUR"]);
    assert_eq!(judged(&rows, said("Total USD", "0.9")).wrong.len(), 1);
    assert_eq!(judged(&rows, said("Total (INR)", "0.9")).right, 1);
    assert_eq!(judged(&[("0.45", ""), ("0.45", "")], said("Total INR", "0.9")).right, 1);
}

#[test]
fn a_sum_that_stands_under_no_column_is_held_too() {
    let rows = [("0.45", "INR"), ("0.45", "INR")];
    for label in ["TOTAL INR 0.90", "Total: 0.9", "Total (2 calls)", "Total 84", "Grand Total ₹0.90/-"] {
        let row = judged(&rows, said(label, ""));
        assert_eq!((row.right, row.wrong.len()), (1, 0), "{label}: {row:?}");
    }
    for label in ["TOTAL INR 109.97", "Total: 0.91", "Total (3 calls)", "TOTAL USD 0.90", "Total 85"] {
        let row = judged(&rows, said(label, ""));
        assert_eq!((row.right, row.wrong.len()), (0, 1), "{label}: {row:?}");
    }
    let with =
        |other: &str| judged(&rows, SaidTotal { others: vec![other.to_owned()], ..said("Total", "0.9") });
    assert_eq!(with("INR 0.9").right, 2);
    assert_eq!(
        with("INR 0.8").wrong,
        ["\"INR 0.8\" is no sum of the rows before it that is known, and not how many they are"]
    );
    assert_eq!(with("as of 31 March").remarks, ["\"as of 31 March\" was not held against the rows"]);
    assert_eq!(judged(&rows, said("Total", "")).remarks, ["it says no sum"]);
    for right in ["2", "2 calls", "0.9", "84", "00:01:24", "Amount: 0.90", "Total 0.9"] {
        assert_eq!((with(right).right, with(right).wrong.len()), (2, 0), "{right}");
    }
    for wrong in [
        "999.99",
        "7",
        "3 calls",
        "7 minutes",
        "999,99",
        "00:01:25",
        "Amount: 999.99",
        "Total 9",
        "0.8 rupees",
    ] {
        assert_eq!((with(wrong).right, with(wrong).wrong.len()), (1, 1), "{wrong}: {:?}", with(wrong));
    }
    for other in ["2026-03-31", "31/03/2026", "2026-03-31 23:59", "MA_ABC123"] {
        assert_eq!(
            (with(other).wrong.len(), with(other).remarks.len()),
            (0, 1),
            "{other}: {:?}",
            with(other)
        );
    }
}

#[test]
fn a_sum_of_a_part_that_is_that_of_all_is_said() {
    let mut totals = Totals::default();
    for (label, cost) in [("Subtotal", "0.45"), ("Subtotal", "0.90"), ("Sub-total", "0.45")] {
        totals.add(&call("0.45"));
        totals.say(said(label, cost), DecimalMark::Point);
    }
    let all = totals.judge(DecimalMark::Point);
    assert_eq!(all.wrong, 0);
    let remarks: Vec<usize> = all.shown.iter().map(|row| row.remarks.len()).collect();
    assert_eq!(remarks, [0, 1, 0]);
    assert!(all.shown[1].remarks[0].contains("sum of all rows, not of those since"));
}

#[test]
fn however_many_there_are_they_take_little_room_and_none_goes_unheld() {
    let mut totals = Totals::default();
    for nth in 0..20_000 {
        totals.add(&call("1"));
        totals.say(said("Subtotal", if nth % 4 == 0 { "1" } else { "7000000" }), DecimalMark::Point);
        assert!(totals.waiting.len() <= KEPT && totals.judged.shown.len() <= SHOWN);
    }
    let all = totals.judge(DecimalMark::Point);
    assert_eq!((all.rows, all.wrong, all.shown.len()), (20_000, 15_000, SHOWN));
}
