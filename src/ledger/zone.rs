//! Infers from the lists of days in which zone Vobiz cuts them, and by which time of a call: neither is published. Pure.
//!
//! Every row of the list of day D began (or ended, or was written) within D in Vobiz's zone. So the first row of a list says
//! how far east of UTC that zone is at least, and the last one how far at most. Calls around midnight soon leave one answer.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::db::ledger::bound::{Bound, InferredZone};
use crate::db::ledger::listed::Extremes;

/// Zones lie between 12 hours west and 14 hours east of UTC.
const WIDEST: (i64, i64) = (-12 * 3600, 14 * 3600 + 1);
const DAY: i64 = 24 * 3600;
/// India's, where Vobiz is at home.
const INDIA: i64 = 19_800;
/// All zones of today are whole quarters of an hour, most of them whole hours, and few of them odd quarters.
const STEPS: [i64; 3] = [3600, 1800, 900];

/// The times that may decide the day of a call, the likeliest first.
const DAY_OFS: [&str; 3] = ["start_time", "end_time", "created_at"];

/// What follows once the list of a day was read.
pub(super) fn infer(zone: &InferredZone, day: NaiveDate, extremes: &Extremes) -> InferredZone {
    let mut bounds = tighten(zone, day, extremes, false);
    // Nothing fits any more: the zone changed, or it has a summer time. Only this list counts then.
    if bounds.iter().all(|bound| bound.least >= bound.most) {
        bounds = tighten(zone, day, extremes, true);
    }
    let (day_of, offset) = likeliest(&bounds, zone);
    let day_of = day_of.to_owned();
    InferredZone { bounds, day_of, offset, ..zone.clone() }
}

fn tighten(zone: &InferredZone, day: NaiveDate, extremes: &Extremes, anew: bool) -> Vec<Bound> {
    let midnight = day.and_time(NaiveTime::MIN).and_utc();
    let seconds = |instant: DateTime<Utc>| (midnight - instant).num_seconds();
    let of = |day_of: &str| match day_of {
        "start_time" => extremes.start_time,
        "end_time" => extremes.end_time,
        _ => extremes.created_at,
    };
    let bound = |day_of: &&str| {
        let before = zone.bounds.iter().find(|bound| bound.day_of == **day_of && !anew);
        let (least, most) = before.map_or(WIDEST, |bound| (bound.least, bound.most));
        let (from, to) = of(day_of).map_or(WIDEST, |(first, last)| {
            // Rounded so that the instant itself still lies within the day.
            (seconds(first), seconds(last) + DAY)
        });
        Bound { day_of: (*day_of).to_owned(), least: least.max(from), most: most.min(to) }
    };
    DAY_OFS.iter().map(bound).collect()
}

/// The likeliest of what is possible: first a zone that people use, then a whole hour, a half, a quarter; of several the one in the
/// middle. What was inferred before stays while it can. How far it is safe to bill goes by
/// the earliest of all that are possible (`vobiz.provider_day_start_earliest`).
fn likeliest<'a>(bounds: &'a [Bound], zone: &InferredZone) -> (&'a str, Option<i64>) {
    let fits = |bound: &Bound, offset: i64| bound.least <= offset && offset < bound.most;
    let present = bounds.iter().find(|bound| bound.day_of == zone.day_of);
    if let Some(bound) = present
        && fits(bound, zone.offset.unwrap_or(zone.billing_offset))
    {
        return (&bound.day_of, zone.offset);
    }
    for (offset, inferred) in [(zone.billing_offset, None), (0, Some(0)), (INDIA, Some(INDIA))] {
        if let Some(bound) = bounds.iter().find(|bound| fits(bound, offset)) {
            return (&bound.day_of, inferred);
        }
    }
    for step in STEPS {
        if let Some((bound, offset)) = bounds.iter().find_map(|bound| Some((bound, middle(bound, step)?))) {
            return (&bound.day_of, Some(offset));
        }
    }
    let any = bounds.iter().find(|bound| bound.least < bound.most);
    any.map_or(("start_time", None), |bound| (&bound.day_of, Some(bound.least)))
}

/// The multiple of a step nearest to the middle of what is possible, if one is possible.
fn middle(bound: &Bound, step: i64) -> Option<i64> {
    let (first, last) = (-(-bound.least).div_euclid(step), (bound.most - 1).div_euclid(step));
    (first <= last).then(|| (first + last).div_euclid(2) * step)
}

/// `UTC+05:30`, for a person.
pub(super) fn east(offset: i64) -> String {
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> InferredZone {
        InferredZone {
            bounds: vec![],
            day_of: "start_time".into(),
            offset: None,
            billing_offset: INDIA,
            summary_cost: None,
            ledger_since: DateTime::UNIX_EPOCH,
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// A list of 2026-11-20 whose calls begin between these, and end a minute later each.
    fn list(first: &str, last: &str) -> Extremes {
        let minute = chrono::TimeDelta::minutes(1);
        let ends = Some((at(first) + minute, at(last) + minute));
        Extremes { start_time: Some((at(first), at(last))), end_time: ends, created_at: ends, outside: 0 }
    }

    fn inferred(zone: &InferredZone, first: &str, last: &str) -> InferredZone {
        infer(zone, NaiveDate::from_ymd_opt(2026, 11, 20).unwrap(), &list(first, last))
    }

    #[test]
    fn business_hours_leave_the_billing_zone_standing() {
        let zone = inferred(&nothing(), "2026-11-20T03:30:00Z", "2026-11-20T12:30:00Z");
        assert_eq!((zone.day_of.as_str(), zone.offset), ("start_time", None));
        // Nobody called at all.
        let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
        let zone = infer(&nothing(), day, &Extremes::default());
        assert_eq!((zone.day_of.as_str(), zone.offset), ("start_time", None));
    }

    #[test]
    fn a_call_late_in_utc_says_utc() {
        let zone = inferred(&nothing(), "2026-11-20T00:10:00Z", "2026-11-20T23:50:00Z");
        assert_eq!((zone.day_of.as_str(), zone.offset), ("start_time", Some(0)));
        assert_eq!((zone.bounds[0].least, zone.bounds[0].most), (-600, 600));
    }

    #[test]
    fn calls_over_midnight_say_which_time_decides() {
        // Cut in IST by the end: the first call began before midnight (18:30 UTC) and ended after it.
        let one = inferred(&nothing(), "2026-11-19T18:29:40Z", "2026-11-20T18:28:00Z");
        assert_eq!((one.day_of.as_str(), one.offset), ("end_time", None));
        // The next list ends a second before midnight: by the start nothing is possible any more.
        let two = inferred(&one, "2026-11-19T19:00:00Z", "2026-11-20T18:28:59Z");
        assert!(
            two.bounds[0].least < two.bounds[0].most,
            "the start is still possible, in no zone of this world"
        );
        assert_eq!((two.day_of.as_str(), two.offset), ("end_time", None));
    }

    #[test]
    fn another_zone_is_found_to_the_quarter_of_an_hour() {
        // Nepal, 5:45 east: midnight is 18:15 UTC.
        let zone = inferred(&nothing(), "2026-11-19T18:15:00Z", "2026-11-20T18:14:59Z");
        assert_eq!((zone.day_of.as_str(), zone.offset), ("start_time", Some(20_700)));
    }

    #[test]
    fn of_several_zones_that_fit_a_whole_hour_is_taken() {
        for (first, last, expected) in [
            // Midnight eight hours west is 08:00 UTC.
            ("2026-11-20T08:40:00Z", "2026-11-21T07:10:00Z", -8),
            ("2026-11-20T08:00:00Z", "2026-11-21T07:20:00Z", -8),
            // Nine and eight fit, and half past eight between them.
            ("2026-11-20T09:10:00Z", "2026-11-21T07:50:00Z", -9),
            ("2026-11-19T16:05:00Z", "2026-11-20T15:55:00Z", 8),
        ] {
            let zone = inferred(&nothing(), first, last);
            assert_eq!(
                (zone.day_of.as_str(), zone.offset),
                ("start_time", Some(expected * 3600)),
                "{first} {last}"
            );
        }
        let bound = |least, most| Bound { day_of: "start_time".into(), least, most };
        assert_eq!(middle(&bound(1800, 3600), 3600), None);
        assert_eq!(middle(&bound(1800, 3600), 1800), Some(1800));
        assert_eq!(middle(&bound(-3600, -3599), 3600), Some(-3600));
        assert_eq!(middle(&bound(7, 7), 1), None);
    }

    #[test]
    fn a_zone_that_changes_is_inferred_anew() {
        let utc = inferred(&nothing(), "2026-11-20T00:00:00Z", "2026-11-20T23:59:59Z");
        assert_eq!(utc.offset, Some(0));
        let moved = inferred(&utc, "2026-11-19T18:30:00Z", "2026-11-20T18:29:59Z");
        assert_eq!((moved.day_of.as_str(), moved.offset), ("start_time", None));
    }

    proptest::proptest! {
        #[test]
        fn what_fits_all_lists_is_never_ruled_out(zone in -48i64..57, firsts in proptest::collection::vec((0i64..DAY, 0i64..DAY), 1..20)) {
            let (offset, mut zone) = (zone * 900, nothing());
            for (n, (a, b)) in firsts.into_iter().enumerate() {
                let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Days::new(n as u64);
                let midnight = day.and_time(NaiveTime::MIN).and_utc() - chrono::TimeDelta::seconds(offset);
                let at = |seconds| midnight + chrono::TimeDelta::seconds(seconds);
                let start_time = Some((at(a.min(b)), at(a.max(b))));
                zone = infer(&zone, day, &Extremes { start_time, ..Extremes::default() });
                let bound = &zone.bounds[0];
                proptest::prop_assert!(bound.least <= offset && offset < bound.most);
            }
        }
    }
}
