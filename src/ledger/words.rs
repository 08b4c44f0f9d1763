//! Why a day is not settled, in words. Pure.

use std::collections::BTreeSet;

use super::evaluate::CheckSnapshot;
use super::part::RepeatedRow;
use crate::db::ledger::compare::{LedgerDifference, LedgerDifferences, LedgerTotal, SideTotals};
use crate::vobiz::Summary;

/// Calls that are named in the reason.
const NAMED: usize = 3;
/// The field of a call that is billed elsewhere because its record has no time.
const NO_TIME: &str = "no time";

/// A list with a hole proves nothing of what may be in it, but what its other rows say differs all the same.
pub(super) fn on_refused_pages(seen: &CheckSnapshot<'_>) -> Option<String> {
    let found = seen.differences;
    let beside = if found.missing_there > 0 { seen.refused_beside } else { &[] };
    let mut reasons: Vec<String> = seen.refused.iter().chain(beside).cloned().collect();
    if reasons.is_empty() {
        return None;
    }
    for (kind, n, words) in
        [("differs", found.differing, "differing"), ("missing_here", found.missing_here, "missing here")]
    {
        if n > 0 {
            reasons.push(format!("{} {words}: {}", calls(n), named(found, kind, n)));
        }
    }
    Some(reasons.join("; "))
}

/// A summary that says nothing at all of rows that are there: Vobiz could not add them up, and says zero for it.
pub(super) fn on_zeroed_summary(summary: &Summary, there: &SideTotals) -> Option<String> {
    let rows = there.calls;
    (summary.calls == Some(0) && rows > 0).then(|| {
        let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
        format!("a degraded answer: Vobiz's summary says no calls beside {rows} of its own list")
    })
}

/// Calls that two lists show.
pub(super) fn on_two_lists(found: &LedgerDifferences) -> Option<String> {
    let n = found.listed_twice;
    let verb = if n == 1 { "is" } else { "are" };
    (n > 0)
        .then(|| format!("{} {verb} in the lists of two days: {}", calls(n), named(found, "listed_twice", n)))
}

/// A list that shows a call more than once and contradicts itself says nothing of it.
pub(super) fn on_contradicting_rows(repeated: &[RepeatedRow]) -> Option<String> {
    let calls: Vec<&RepeatedRow> = repeated.iter().filter(|row| !row.same).collect();
    (!calls.is_empty()).then(|| format!("{}, with different records: {}", twice(&calls), ids(&calls)))
}

/// A list that shows calls more than once, with the same record each time.
pub(super) fn on_repeated_rows(repeated: &[RepeatedRow]) -> String {
    let calls: Vec<&RepeatedRow> = repeated.iter().collect();
    format!("{}, with the same record: {}", twice(&calls), ids(&calls))
}

/// Calls that a list shows on more than one of its pages.
pub(super) fn on_rows_across_pages(call_ids: &BTreeSet<String>) -> String {
    let n = u32::try_from(call_ids.len()).unwrap_or(u32::MAX);
    let (verb, others) = if n == 1 { ("stands", "another call") } else { ("stand", "other calls") };
    let ids = listed(&call_ids.iter().map(String::as_str).collect());
    format!("{} {verb} on more than one of its pages, so that {others} may stand on none: {ids}", calls(n))
}

fn twice(rows: &[&RepeatedRow]) -> String {
    format!("Vobiz lists {} more than once", calls(u32::try_from(distinct(rows).len()).unwrap_or(u32::MAX)))
}

fn ids(rows: &[&RepeatedRow]) -> String {
    listed(&distinct(rows))
}

/// The first of them.
fn listed(ids: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = ids.iter().copied().take(NAMED).collect();
    format!("{}{}", shown.join(", "), if ids.len() > NAMED { ", …" } else { "" })
}

fn distinct<'a>(rows: &[&'a RepeatedRow]) -> BTreeSet<&'a str> {
    rows.iter().map(|row| row.call_id.as_str()).collect()
}

pub(super) fn calls(n: u32) -> String {
    if n == 1 { "1 call".into() } else { format!("{n} calls") }
}

/// What differs call by call, with the money and the first ids.
pub(super) fn in_words(seen: &CheckSnapshot<'_>) -> Vec<String> {
    let found = seen.differences;
    let verb = |n: u32, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let mut reasons = Vec::new();
    if !seen.unreadable.is_empty() {
        let n = seen.unreadable.len();
        let shown: Vec<&str> = seen.unreadable.iter().filter_map(|row| row.call_id.as_deref()).collect();
        let named = shown.iter().copied().take(NAMED).collect::<Vec<_>>().join(", ");
        let more = if n > shown.len().min(NAMED) { ", …" } else { "" };
        let named = if shown.is_empty() { String::new() } else { format!(": {named}{more}") };
        let rows = if n == 1 { "row" } else { "rows" };
        reasons.push(format!("{n} {rows} of the list could not be read{named}"));
    }
    let timeless = timeless(found);
    if timeless > 0 {
        let verb = verb(timeless, "has", "have");
        reasons.push(format!(
            "{} of the list {verb} no time at all, so that nothing says in which day they are to be billed: {}",
            calls(timeless),
            named_where(found, timeless, |d| d.field.as_deref() == Some(NO_TIME))
        ));
    }
    for (kind, n, words) in [
        ("differs", found.differing, verb(found.differing, "differs", "differ")),
        ("missing_here", found.missing_here, verb(found.missing_here, "is missing here", "are missing here")),
        (
            "missing_there",
            found.missing_there,
            verb(found.missing_there, "is missing at Vobiz", "are missing at Vobiz"),
        ),
        (
            "billed_elsewhere",
            found.billed_elsewhere - timeless,
            verb(
                found.billed_elsewhere - timeless,
                "is listed in one day and billed in another",
                "are listed in one day and billed in others",
            ),
        ),
    ] {
        if n > 0 {
            reasons.push(format!("{} {words}: {}", calls(n), named(found, kind, n)));
        }
    }
    let by_owner = found.differing_of_owner;
    if by_owner > 0 {
        reasons.push(format!(
            "the list of the sub-account itself shows {} as stored here: Vobiz's two lists contradict each other",
            match by_owner {
                1 => "one of them".to_owned(),
                n => format!("{n} of them"),
            }
        ));
    }
    if seen.wrong_sums > 0 {
        let (n, verb) = (seen.wrong_sums, if seen.wrong_sums == 1 { "sum does" } else { "sums do" });
        reasons.push(format!("{n} {verb} not equal the calls in the bill: see `vobiz-cdr verify`"));
    }
    if found.differing + found.missing_here + found.missing_there == 0 {
        reasons.extend(sums_beside_rows(seen));
    }
    let money: Vec<String> = seen
        .totals
        .iter()
        .filter(|total| total.here.total != total.there.total)
        .map(|total| {
            let difference = total.here.total.minus(&total.there.total).abs().normalize();
            let side = if total.here.total > total.there.total { "more" } else { "less" };
            format!("{difference} {} {side} here", total.currency)
        })
        .collect();
    if !money.is_empty() {
        reasons.insert(0, money.join(", "));
    }
    reasons
}

/// Sums that differ although no row does: what a row of the list leaves out, or shows so that it cannot be read, is no difference of
/// its call. What was known of it before stays in the bill, and is not what the list says now.
fn sums_beside_rows(seen: &CheckSnapshot<'_>) -> Vec<String> {
    let differ = |total: &&LedgerTotal| {
        let (here, there) = (&total.here, &total.there);
        (here.duration, here.billsec, &here.cost) != (there.duration, there.billsec, &there.cost)
    };
    let words = |total: &LedgerTotal| {
        let (here, there) = (&total.here, &total.there);
        format!(
            "what the list leaves out or shows unreadably is known here: duration {} here and {} listed, billsec {} and {}, cost {} and {} \
             {}",
            here.duration,
            there.duration,
            here.billsec,
            there.billsec,
            here.cost.normalize(),
            there.cost.normalize(),
            total.currency
        )
    };
    seen.totals.iter().filter(differ).map(words).collect()
}

/// Calls that are billed elsewhere for want of any time.
fn timeless(found: &LedgerDifferences) -> u32 {
    let timeless = found.first.iter().filter(|d| d.field.as_deref() == Some(NO_TIME)).count();
    u32::try_from(timeless).unwrap_or(u32::MAX).min(found.billed_elsewhere)
}

fn named(found: &LedgerDifferences, kind: &str, n: u32) -> String {
    named_where(found, n, |d| d.kind == kind && d.field.as_deref() != Some(NO_TIME))
}

fn named_where(found: &LedgerDifferences, n: u32, which: impl Fn(&&LedgerDifference) -> bool) -> String {
    let mut ids: Vec<String> =
        found.first.iter().filter(which).filter_map(|d| Some(with_days(d, d.call_id.as_deref()?))).collect();
    ids.dedup();
    ids.truncate(NAMED);
    let more = if n as usize > ids.len() { ", …" } else { "" };
    format!("{}{more}", ids.join(", "))
}

/// A call, and the days between which it stands.
fn with_days(difference: &LedgerDifference, call_id: &str) -> String {
    let (here, there) =
        (difference.here.as_deref().unwrap_or("no day"), difference.there.as_deref().unwrap_or("no day"));
    match difference.kind.as_str() {
        "billed_elsewhere" if difference.field.as_deref() != Some(NO_TIME) => {
            format!("{call_id} (listed {there}, billed {here})")
        }
        "listed_twice" => format!("{call_id} ({there})"),
        _ => call_id.to_owned(),
    }
}
