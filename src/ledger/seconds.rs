//! Whether the seconds in Vobiz's summary are those of its rows. Pure.

use crate::db::ledger::compare::{LedgerTotal, StatedSums};
use crate::vobiz::{Cdr, Half, Numeric, StatedSeconds};

/// The other sums of seconds over all currencies.
pub(super) fn stated(totals: &[LedgerTotal], of: fn(&StatedSums) -> &[Numeric; 2]) -> [Numeric; 2] {
    [0, 1].map(|place| totals.iter().fold(Numeric::default(), |sum, total| &sum + &of(&total.stated)[place]))
}

/// Adds what a row states to the other sums of seconds, as the comparison does for all of a day.
pub(super) fn add_stated(sums: &mut StatedSums, row: &Cdr) {
    let StatedSeconds { duration, billsec } = row.stated_seconds();
    for (sums, read, stated) in [
        (&mut sums.duration, row.fields.duration, duration),
        (&mut sums.billsec, row.fields.billsec, billsec),
    ] {
        let read = read.and_then(|seconds| seconds.to_string().parse().ok());
        for (sum, seconds) in sums.iter_mut().zip([read.or_else(|| stated.clone()), stated]) {
            *sum = &*sum + &seconds.unwrap_or_default();
        }
    }
}

/// Adds sums to others.
pub(super) fn add_sums(sums: &mut StatedSums, more: &StatedSums) {
    for (sums, more) in [(&mut sums.duration, &more.duration), (&mut sums.billsec, &more.billsec)] {
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum = &*sum + more;
        }
    }
}

/// Whether a figure of the summary is the sum of these seconds as they were read, or as the rows state them: seconds that no call can
/// have are in no sum of ours, and Vobiz's may count them. A whole number may be the stated sum, rounded.
pub(super) fn are_seconds(said: &Numeric, read: i64, stated: &[Numeric; 2]) -> bool {
    let rounded = |sum: &Numeric| {
        said.normalize().scale() == 0
            && [Half::Up, Half::Even].into_iter().any(|half| sum.rounded(0, half) == *said)
    };
    read.to_string().parse().as_ref() == Ok(said) || stated.iter().any(|sum| sum == said || rounded(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_compared_as_read_and_as_stated() {
        let number = |text: &str| -> Numeric { text.parse().unwrap() };
        // Read, read with what was taken out, all as stated; the figures that are explained, and some that are not.
        for (read, whole, stated, explained, not) in [
            (42, "37", "37", &["42", "37", "37.0"][..], &["38", "41", "0", "-37"][..]),
            (85, "85", "84.5", &["85", "84.5", "84"], &["84.4", "86", "83"]),
            (127, "122", "121.4", &["127", "122", "121.4", "121"], &["126", "123"]),
            (42, "-1589286003", "-1589286003", &["42", "-1589286003"], &["-1589286045"]),
        ] {
            let stated = [number(whole), number(stated)];
            for said in explained {
                assert!(are_seconds(&number(said), read, &stated), "{read} {said}");
            }
            for said in not {
                assert!(!are_seconds(&number(said), read, &stated), "{read} {said}");
            }
        }
    }

    #[test]
    fn the_sums_of_all_currencies_are_added_up() {
        let total = |seconds: &str| {
            let sums = [seconds, "0.5"].map(|text| text.parse::<Numeric>().unwrap());
            let stated = StatedSums { duration: sums.clone(), billsec: sums };
            LedgerTotal { stated, ..LedgerTotal::default() }
        };
        let sums = stated(&[total("-5"), total("42")], |sums| &sums.billsec);
        assert_eq!(sums.map(|sum| sum.to_string()), ["37", "1.0"]);
    }
}
