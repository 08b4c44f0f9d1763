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

/// What follows once the list of a day was read, and those of the days beside it where it showed rows that lie outside its day; `twice`
/// says that one of these shows a row of it as well.
///
/// A zone that moves reopens all days between which calls change over: so it moves only to where all these lists fit at once, and not
/// because of a row by itself, unless it leads to a zone that people use and nothing known speaks against it. What speaks against
/// what is known is believed of two days. A list that is not believed teaches nothing; the others still do.
pub(super) fn infer(zone: &InferredZone, lists: &[(NaiveDate, Extremes)], twice: bool) -> InferredZone {
    let days = lists.iter().filter(|(_, list)| list.strays > 0).count();
    let rows: i64 = lists.iter().map(|(_, list)| list.strays).sum();
    let (known, anew) = (tighten(&zone.bounds, lists), tighten(&[], lists));
    let inferred = if stays(&known, zone) {
        Some((known, (zone.day_of.clone(), zone.offset)))
    } else if days == 0 {
        // All rows lie in their days, but not at one distance from UTC: a billing zone with a summer time.
        stays(&anew, zone).then(|| (anew, (zone.day_of.clone(), zone.offset)))
    } else if let Some(found) = likeliest(&known, zone).filter(|_| !twice) {
        (rows > 1 || [None, Some(0), Some(INDIA)].contains(&found.1)).then_some((known, found))
    } else {
        // The zone changed, or a row has taught what it should not have: one that two lists show, when one of them was read alone.
        likeliest(&anew, zone).filter(|_| days > 1 || twice && rows > 1).map(|found| (anew, found))
    };
    if let Some((bounds, (day_of, offset))) = inferred {
        return InferredZone { bounds, day_of, offset, ..zone.clone() };
    }
    let believed: Vec<_> = lists.iter().filter(|(_, list)| list.strays == 0).copied().collect();
    let bounds = tighten(&zone.bounds, &believed);
    if believed.is_empty() || !stays(&bounds, zone) {
        return zone.clone();
    }
    InferredZone { bounds, ..zone.clone() }
}

/// What is left of bounds by lists of days.
fn tighten(known: &[Bound], lists: &[(NaiveDate, Extremes)]) -> Vec<Bound> {
    let bound = |day_of: &&str| {
        let before = known.iter().find(|bound| bound.day_of == **day_of);
        let (mut least, mut most) = before.map_or(WIDEST, |bound| (bound.least, bound.most));
        for (day, list) in lists {
            let of = match *day_of {
                "start_time" => list.start_time,
                "end_time" => list.end_time,
                _ => list.created_at,
            };
            let midnight = day.and_time(NaiveTime::MIN).and_utc();
            let seconds = |instant: DateTime<Utc>| (midnight - instant).num_seconds();
            if let Some((first, last)) = of {
                // Rounded so that the instant itself still lies within the day.
                (least, most) = (least.max(seconds(first)), most.min(seconds(last) + DAY));
            }
        }
        Bound { day_of: (*day_of).to_owned(), least, most }
    };
    DAY_OFS.iter().map(bound).collect()
}

fn fits(bound: &Bound, offset: i64) -> bool {
    bound.least <= offset && offset < bound.most
}

/// What was inferred before is still possible.
fn stays(bounds: &[Bound], zone: &InferredZone) -> bool {
    let offset = zone.offset.unwrap_or(zone.billing_offset);
    bounds.iter().any(|bound| bound.day_of == zone.day_of && fits(bound, offset))
}

/// The likeliest of what is possible, where what was inferred before is not: first a zone that people use, then a whole hour, a half,
/// a quarter; of several the one in the middle. None if nothing is possible. How far it is safe to bill goes by the earliest of all that
/// are possible (`vobiz.provider_day_start_earliest`).
fn likeliest(bounds: &[Bound], zone: &InferredZone) -> Option<(String, Option<i64>)> {
    if stays(bounds, zone) {
        return Some((zone.day_of.clone(), zone.offset));
    }
    // A time that no list has shown would always be possible.
    let shown = || bounds.iter().filter(|bound| (bound.least, bound.most) != WIDEST);
    for (offset, inferred) in [(zone.billing_offset, None), (0, Some(0)), (INDIA, Some(INDIA))] {
        if let Some(bound) = shown().find(|bound| fits(bound, offset)) {
            return Some((bound.day_of.clone(), inferred));
        }
    }
    for step in STEPS {
        if let Some((bound, offset)) = shown().find_map(|bound| Some((bound, middle(bound, step)?))) {
            return Some((bound.day_of.clone(), Some(offset)));
        }
    }
    shown().find(|bound| bound.least < bound.most).map(|bound| (bound.day_of.clone(), Some(bound.least)))
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
        Extremes {
            start_time: Some((at(first), at(last))),
            end_time: ends,
            created_at: ends,
            ..Extremes::default()
        }
    }

    fn day(of_november: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, of_november).unwrap()
    }

    /// The same list; of its first row and its last one counted those that lie outside the day as it is thought to lie.
    fn of(zone: &InferredZone, day: NaiveDate, list: Extremes) -> (NaiveDate, Extremes) {
        let midnight = day.and_time(NaiveTime::MIN).and_utc();
        let from = midnight - chrono::TimeDelta::seconds(zone.offset.unwrap_or(zone.billing_offset));
        let within = |instant: DateTime<Utc>| (from..from + chrono::TimeDelta::days(1)).contains(&instant);
        let rows = if zone.day_of == "start_time" { list.start_time } else { list.end_time };
        let strays = rows
            .map_or(0, |(first, last)| i64::from(!within(first)) + i64::from(first != last && !within(last)));
        (day, Extremes { strays, ..list })
    }

    /// Of a list with many calls at each end.
    fn inferred(zone: &InferredZone, first: &str, last: &str) -> InferredZone {
        let (day, shown) = of(zone, day(20), list(first, last));
        infer(zone, &[(day, Extremes { strays: shown.strays * 10, ..shown })], false)
    }

    #[test]
    fn business_hours_leave_the_billing_zone_standing() {
        let zone = inferred(&nothing(), "2026-11-20T03:30:00Z", "2026-11-20T12:30:00Z");
        assert_eq!((zone.day_of.as_str(), zone.offset), ("start_time", None));
        // Nobody called at all.
        let zone = infer(&nothing(), &[(day(20), Extremes::default())], false);
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
        // One day does not say so against what is known, nor do its neighbours that do not fit it. A second one does.
        let first = of(&utc, day(20), list("2026-11-19T18:30:00Z", "2026-11-20T18:29:59Z"));
        let before = of(&utc, day(19), list("2026-11-19T00:00:00Z", "2026-11-19T23:59:59Z"));
        let idle = (day(19), Extremes::default());
        for lists in [vec![first], vec![first, idle], vec![first, before]] {
            assert_eq!(infer(&utc, &lists, false), utc, "{lists:?}");
        }
        let second = of(&utc, day(21), list("2026-11-20T18:31:00Z", "2026-11-21T18:20:00Z"));
        let moved = infer(&utc, &[second, first], false);
        assert_eq!((moved.day_of.as_str(), moved.offset), ("start_time", None));
        assert_eq!(infer(&utc, &[second, first, before], false), utc, "not all of them fit");
    }

    #[test]
    fn a_row_by_itself_moves_no_zone_that_is_known() {
        let utc = inferred(&nothing(), "2026-11-20T00:00:00Z", "2026-11-20T23:59:59Z");
        let day_of_calls = |zone, of_november: u32, first: &str, last: &str| {
            let at = |time: &str| format!("2026-11-{of_november:02}T{time}:00Z");
            of(zone, day(of_november), list(&at(first), &at(last)))
        };
        // Calls of the whole day, and in business hours; the list of the day shows one of the day before as well.
        let stray = |zone, start: &str, last: &str| of(zone, day(22), list(start, last));
        let found = infer(
            &utc,
            &[
                stray(&utc, "2026-11-21T16:00:00Z", "2026-11-22T23:50:00Z"),
                day_of_calls(&utc, 21, "00:10", "23:50"),
                day_of_calls(&utc, 23, "00:10", "12:00"),
            ],
            false,
        );
        assert_eq!(found, utc);
        let business = inferred(&nothing(), "2026-11-20T03:30:00Z", "2026-11-20T14:00:00Z");
        for start in ["2026-11-21T13:00:00Z", "2026-11-21T10:30:00Z", "2026-11-21T18:00:00Z"] {
            let lists = [
                stray(&business, start, "2026-11-22T12:30:00Z"),
                day_of_calls(&business, 21, "03:30", "12:30"),
                day_of_calls(&business, 23, "03:30", "12:30"),
            ];
            let found = infer(&business, &lists, false);
            assert_eq!((found.day_of.as_str(), found.offset), ("start_time", None), "{start}");
            assert_eq!(found.bounds, business.bounds, "what was known is not forgotten");
            // Nothing else is known: it would be a zone that nobody uses.
            let found = infer(&nothing(), &lists, false);
            assert_eq!((found.day_of.as_str(), found.offset), ("start_time", None), "{start}");
        }
        // By itself it may say that the zone is one that people use.
        let lists = [stray(&business, "2026-11-22T04:00:00Z", "2026-11-22T20:00:00Z")];
        assert_eq!(infer(&business, &lists, false).offset, Some(0));
        // What rows of no list have told is not what decides.
        let no_creation = |(day, list): (NaiveDate, Extremes)| (day, Extremes { created_at: None, ..list });
        let utc = infer(
            &nothing(),
            &[no_creation(of(&nothing(), day(20), list("2026-11-20T00:00:00Z", "2026-11-20T23:59:59Z")))],
            false,
        );
        let lists = [no_creation(stray(&utc, "2026-11-21T16:00:00Z", "2026-11-22T12:30:00Z"))];
        assert_eq!(infer(&utc, &lists, false), utc);
    }

    #[test]
    fn a_billing_zone_with_a_summer_time_is_followed() {
        let berlin = InferredZone { billing_offset: 7200, ..nothing() };
        let summer = inferred(&berlin, "2026-11-19T22:00:00Z", "2026-11-20T21:59:59Z");
        assert_eq!(summer.offset, None);
        let winter = InferredZone { billing_offset: 3600, ..summer };
        let list = list("2026-11-19T23:00:00Z", "2026-11-20T22:59:59Z");
        let found = infer(&winter, &[of(&winter, day(20), list)], false);
        assert_eq!((found.offset, found.bounds[0].least, found.bounds[0].most), (None, 3600, 3601));
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
                let list = of(&zone, day, Extremes { start_time, ..Extremes::default() });
                zone = infer(&zone, &[list], false);
                proptest::prop_assert!(zone.bounds.is_empty() || fits(&zone.bounds[0], offset));
            }
        }
    }
}
