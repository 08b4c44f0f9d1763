//! Whether the one figure of money in Vobiz's summary is that of its rows. Pure.

use super::words::calls;
use crate::db::ledger::compare::{LedgerTotal, SideTotals};
use crate::vobiz::{Half, Numeric, is_currency};

/// The money of a summary that fits its rows, or of which that cannot be said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Money {
    /// Which field it adds up.
    pub(super) summary_cost: Option<&'static str>,
    /// Which money was not compared, or what else is to be said of it.
    pub(super) words: Option<String>,
}

/// Compares the money of a summary with that of its rows. Where they differ: the field that would fit, had it not been another one
/// before.
///
/// The summary has one figure and names no currency. Where the calls name several, it may be their numbers added up blindly, or one
/// currency's alone; both show in the figure. If it is neither, Vobiz may have converted one into another at a rate that nobody knows:
/// then nothing was compared, and the day says so. Calls that name no currency, or one that nobody knows (`CREDITS`), are no other currency:
/// nothing can be converted there, so the figure must be explained.
///
/// The figure is called `total_cost`, and that is what it is by default. That it equals the sum of `cost` says that it adds up that field only
/// where each row's `total_cost` is `cost` and `streaming_cost` together: else the rows themselves are wrong, and the figure shows it. What
/// days without such rows have shown holds in one with them, and then it is said what was not compared.
pub(super) fn compare(
    said: Option<&Numeric>,
    rows: &SideTotals,
    totals: &[LedgerTotal],
    known: Option<&str>,
) -> Result<Money, Option<&'static str>> {
    let any = |sum: &SideTotals, odd: i64| {
        let said = said?;
        match (equals(said, &sum.total), equals(said, &sum.cost)) {
            (true, true) => Some("either"),
            (true, false) => Some("total_cost"),
            (false, true) if odd == 0 || known == Some("cost") => Some("cost"),
            (false, _) => None,
        }
    };
    // It was another one before.
    let fits =
        |sum, odd| any(sum, odd).filter(|fits| known.is_none_or(|known| *fits == "either" || *fits == known));
    let odd: i64 = totals.iter().map(|total| total.odd).sum();
    let odd_words = |field: &str, sum: &SideTotals, odd| {
        (odd > 0 && field == "cost").then(|| not_in_the_figure(said, sum, odd))
    };
    let listed: Vec<&LedgerTotal> = totals.iter().filter(|total| total.there.calls > 0).collect();
    let named: Vec<&LedgerTotal> =
        listed.iter().copied().filter(|total| is_currency(&total.currency)).collect();
    let blind =
        fits(rows, odd).map(|field| Money { summary_cost: Some(field), words: odd_words(field, rows, odd) });
    if listed.len() < 2 {
        return blind.ok_or(any(rows, odd));
    }
    let figure = said.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    // That the few calls of a currency happen to add up to the figure explains nothing of the many others.
    let one = named.iter().find_map(|total| {
        let there = &total.there;
        let counts = there.calls * 2 >= rows.calls && there.total != Numeric::default();
        fits(there, total.odd).filter(|_| counts).map(|field| (*total, field))
    });
    // Of two explanations the one to the last digit: few decimals fit more than one.
    let to_the_digit = |sum: &SideTotals| said.is_some_and(|said| *said == sum.total || *said == sum.cost);
    if let Some(blind) = blind
        && (to_the_digit(rows) || !one.is_some_and(|(total, _)| to_the_digit(&total.there)))
    {
        return Ok(blind);
    }
    if let Some((total, field)) = one {
        let others: Vec<String> = listed
            .iter()
            .filter(|other| other.currency != total.currency)
            .map(|other| amount(other))
            .collect();
        let mut words = format!(
            "money compared in {} only: Vobiz's summary says {figure} and leaves out {}",
            total.currency,
            others.join(", ")
        );
        if let Some(odd) = odd_words(field, &total.there, total.odd) {
            words = format!("{words}; {odd}");
        }
        return Ok(Money { summary_cost: Some(field), words: Some(words) });
    }
    // Nor does a conversion explain it, where rows are wrong and nothing is known.
    if named.len() < 2 || odd > 0 && known.is_none() {
        return Err(any(rows, odd));
    }
    let all: Vec<String> = listed.iter().map(|total| amount(total)).collect();
    let mut words =
        format!("money not compared: Vobiz's summary says {figure}, its own rows say {}", all.join(", "));
    if odd > 0 {
        words = format!("{words}; {}", on_odd_rows(odd));
    }
    Ok(Money { summary_cost: None, words: Some(words) })
}

/// Rows whose `total_cost` nothing explains, in words.
pub(super) fn on_odd_rows(odd: i64) -> String {
    let n = u32::try_from(odd).unwrap_or(u32::MAX);
    let verb = if n == 1 { "has" } else { "have" };
    format!("{} {verb} a total_cost that is not cost + streaming_cost", calls(n))
}

/// What a figure that adds up `cost` says nothing of.
fn not_in_the_figure(said: Option<&Numeric>, sum: &SideTotals, odd: i64) -> String {
    format!(
        "{}, and Vobiz's summary compares cost only: it says {}, its own rows say cost {} and total_cost {}",
        on_odd_rows(odd),
        said.map_or_else(|| "nothing".to_owned(), ToString::to_string),
        sum.cost.normalize(),
        sum.total.normalize()
    )
}

/// Decimals of a paisa. A sum of money is printed to at least so many: JSON drops the zeros at its end, so 21 says 21.00, and 21.4 says
/// 21.40. Else the fewer digits Vobiz printed, the less would be compared, and 21 would be 21.40.
const LEAST_DECIMALS: usize = 2;

/// What a sum of binary numbers may leave over: more would show in some day.
const BINARY_REST: &str = "0.0001";

/// Whether a figure of the summary is this sum, at the decimals that are printed, be they a paisa's; more of them than the rows have are
/// what a binary sum leaves over, and that is little.
pub(super) fn equals(said: &Numeric, sum: &Numeric) -> bool {
    let is_rest = || BINARY_REST.parse().is_ok_and(|rest| said.minus(sum).abs() <= rest);
    if said.scale() > sum.scale().max(LEAST_DECIMALS) && !is_rest() {
        return false;
    }
    let decimals = said.scale().min(sum.scale()).max(LEAST_DECIMALS);
    [Half::Up, Half::Even].into_iter().any(|half| sum.rounded(decimals, half) == said.rounded(decimals, half))
}

/// The money of the calls of one currency, in words.
fn amount(total: &LedgerTotal) -> String {
    let currency = if total.currency.is_empty() { "without a currency" } else { &total.currency };
    let n = u32::try_from(total.there.calls).unwrap_or(u32::MAX);
    format!("{} {currency} of {}", total.there.total.normalize(), calls(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a figure says of calls in several currencies: currency, calls, sum of `total_cost`; the sum of `cost` is 0.01 each.
    fn mixed(
        said: &str,
        totals: &[(&str, i64, &str)],
        known: Option<&str>,
    ) -> Result<Money, Option<&'static str>> {
        let side = |calls, cost: &str, total: &str| SideTotals {
            calls,
            cost: cost.parse().unwrap(),
            total: total.parse().unwrap(),
            ..SideTotals::default()
        };
        let both: Vec<LedgerTotal> = totals
            .iter()
            .map(|(currency, calls, total)| {
                let side = side(*calls, "0.01", total);
                LedgerTotal {
                    currency: (*currency).into(),
                    here: side.clone(),
                    there: side,
                    ..LedgerTotal::default()
                }
            })
            .collect();
        let mut rows = side(0, "0", "0");
        for total in &both {
            rows.calls += total.there.calls;
            rows.cost = &rows.cost + &total.there.cost;
            rows.total = &rows.total + &total.there.total;
        }
        compare(said.parse().ok().as_ref(), &rows, &both, known)
    }

    #[test]
    fn several_currencies_are_compared_as_far_as_the_figure_can_be_explained() {
        let (inr, usd, none) = (("INR", 20, "9.00"), ("USD", 1, "0.05"), ("", 1, "0.45"));
        let odd = ("CREDITS", 1, "0.45");
        let money =
            |summary_cost, words: Option<&str>| Ok(Money { summary_cost, words: words.map(str::to_owned) });
        let not_compared = |said: &str| {
            let rows = "its own rows say 9 INR of 20 calls, 0.05 USD of 1 call";
            money(None, Some(&format!("money not compared: Vobiz's summary says {said}, {rows}")))
        };
        let left_out = |said: &str, what: &str| {
            let words =
                format!("money compared in INR only: Vobiz's summary says {said} and leaves out {what}");
            money(Some("total_cost"), Some(&words))
        };
        for (said, totals, expected) in [
            // The numbers added up blindly.
            ("9.05", vec![inr, usd], money(Some("total_cost"), None)),
            ("9.45", vec![inr, none], money(Some("total_cost"), None)),
            ("0.02", vec![inr, usd], money(Some("cost"), None)),
            // One currency alone, and never that of a few calls.
            ("9.00", vec![inr, usd], left_out("9.00", "0.05 USD of 1 call")),
            ("9.00", vec![none, inr], left_out("9.00", "0.45 without a currency of 1 call")),
            // Zeros at its end are not printed, and count.
            ("9", vec![inr, usd], left_out("9", "0.05 USD of 1 call")),
            ("9.1", vec![inr, usd], not_compared("9.1")),
            ("9.1", vec![inr], Err(None)),
            // No explanation but a conversion: what was not compared is said.
            ("99.00", vec![inr, usd], not_compared("99.00")),
            ("0.05", vec![inr, usd], not_compared("0.05")),
            // Calls without a currency cannot have been converted.
            ("99.00", vec![none, inr], Err(None)),
            ("0.45", vec![none, inr], Err(None)),
            ("99.00", vec![inr], Err(None)),
            // Nor can calls whose currency nobody knows.
            ("9.45", vec![inr, odd], money(Some("total_cost"), None)),
            ("99.00", vec![inr, odd], Err(None)),
            ("9.00", vec![inr, odd], left_out("9.00", "0.45 CREDITS of 1 call")),
            ("99.00", vec![inr, ("$", 1, "0.05")], Err(None)),
            ("null", vec![none, inr], Err(None)),
            ("null", vec![inr, usd], not_compared("nothing")),
        ] {
            assert_eq!(mixed(said, &totals, None), expected, "{said} {totals:?}");
        }
        // What summaries of the account add up is known: the other field explains nothing.
        assert_eq!(mixed("0.02", &[inr, usd], Some("total_cost")), not_compared("0.02"));
        assert_eq!(mixed("0.02", &[inr, none], Some("total_cost")), Err(Some("cost")));
        assert_eq!(mixed("9.05", &[inr, usd], Some("total_cost")), money(Some("total_cost"), None));
    }

    #[test]
    fn the_digits_that_a_summary_does_not_print_are_zeros() {
        let is = |said: &str, rows: &str| equals(&said.parse().unwrap(), &rows.parse().unwrap());
        for (said, rows) in [
            ("21.4", "21.40"),
            ("21", "21.00"),
            ("21", "21"),
            ("0", "0.00000"),
            ("31.08", "31.08356"),
            ("48", "47.99661"),
            ("1.4500000000000002", "1.45"),
            ("-0.9", "-0.90"),
        ] {
            assert!(is(said, rows), "{said} {rows}");
        }
        for (said, rows) in [
            ("21", "21.40"),
            ("0", "0.45"),
            ("1", "0.90"),
            ("1", "1.01"),
            ("1.5", "1.45"),
            ("48", "47.99461"),
            ("0.9", "0.906"),
            // Half a paisa that no row shows.
            ("83.005", "83.00"),
            ("82.995", "83"),
            ("0.5002", "0.5"),
        ] {
            assert!(!is(said, rows), "{said} {rows}");
        }
    }

    proptest::proptest! {
        /// Whatever is printed: beyond half of its last digit, and never beyond half a paisa, it is another sum.
        #[test]
        fn no_difference_beyond_half_of_the_last_digit_is_equal(rows in -1_000_000i64..1_000_000, decimals in 0usize..6, said in -1_000_000i64..1_000_000, near in -600i64..600, printed in 0usize..6, is_near: bool) {
            let number = |whole: i64, decimals: usize| -> Numeric { format!("{whole}e-{decimals}").parse().unwrap() };
            let rows = number(rows, decimals);
            let said = if is_near { &rows.rounded(printed, Half::Up) + &number(near, 5) } else { number(said, printed) }.normalize();
            let last = said.scale().min(rows.scale()).max(2);
            let off = rows.minus(&said).abs();
            if off > number(5, last + 1) || said.scale() > rows.scale().max(2) && off > number(1, 4) {
                proptest::prop_assert!(!equals(&said, &rows), "{said} {rows}");
            }
            // Rounded at whatever it prints, if that is a paisa or less, it is the sum; zeros that JSON drops change nothing.
            let kept = rows.rounded(printed.max(2), Half::Up).normalize();
            proptest::prop_assert!(equals(&kept, &rows), "{kept} {rows}");
        }
    }

    #[test]
    fn a_sum_of_nothing_explains_nothing() {
        let free = ("USD", 30, "0");
        let said = mixed("0", &[("INR", 20, "9.00"), free], Some("total_cost")).unwrap().words.unwrap();
        assert!(said.starts_with("money not compared: "), "{said}");
    }
}
