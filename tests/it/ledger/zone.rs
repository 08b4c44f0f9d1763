//! Which days the lists of Vobiz are of: inferred from the lists themselves.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use vobiz_cdr::simulator::{CallSpec, DayOf, SimulatorOptions};

use super::ledger_world;
use super::{at, check, check_again, hurry, safe_to, settled_day, states};
use crate::support::calls::account as id;
use crate::support::world::options;

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_of_the_providers_days_is_found_out() {
    for (zone, day_of) in [(0, DayOf::Start), (330, DayOf::End), (345, DayOf::Start)] {
        let (world, began) = ledger_world(SimulatorOptions { day_zone: zone, day_of, ..options() }).await;
        // Around midnight in UTC, in India and in Nepal, and calls that last over it.
        for hours in [
            0.01, 0.2, 5.0, 5.45, 5.495, 12.0, 18.24, 18.26, 18.49, 18.51, 23.7, 23.99, 24.0, 24.01, 29.6,
            30.0, 42.3, 47.99,
        ] {
            at(&world, began, hours);
        }
        world.sweep().await;
        check(&world).await;
        let zone_found: String = world
            .text("select concat_ws(' ', day_of, coalesce(extract(epoch from day_offset)::int / 60, 330)) from vobiz.account")
            .await;
        let by = if day_of == DayOf::Start { "start_time" } else { "end_time" };
        assert_eq!(zone_found, format!("{by} {zone}"));
        // A day cut wrongly at first may have to be checked again; none of them differs in the end.
        hurry(&world).await;
        check(&world).await;
        let states =
            world.database.texts("select state from vobiz.ledger_day where to_at < vobiz.now()").await;
        assert!(
            states.iter().all(|state| state == "settled"),
            "{zone} {states:?} {:?}",
            self::states(&world).await
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_inferred_late_reopens_the_days_that_it_moves() {
    let (world, began, _) = settled_day().await;
    let known = vobiz_cdr::db::ledger::bound::InferredZone {
        bounds: vec![],
        day_of: "start_time".into(),
        offset: Some(0),
        billing_offset: 19_800,
        summary_cost: None,
        ledger_since: began,
    };
    vobiz_cdr::db::ledger::bound::write_down(&mut *world.database.connection().await, &id(), &known)
        .await
        .unwrap();
    // All days move. Calls change over from the first one to the day before it; beside the second one there are none.
    let moved = "select concat_ws(' ', state, extract(hour from from_at at time zone 'UTC')) from vobiz.ledger_day order by day";
    assert_eq!(world.database.texts(moved).await, ["reopened 0", "settled 0", "open 0"]);
    let due = "select count(*) from vobiz.provider_day where check_at <= vobiz.now()";
    assert_eq!(world.database.count(due).await, 1);
    // Where the end of a call decides, it changes over although the midnights stay. The day before belongs to the ledger by now.
    at(&world, began + TimeDelta::minutes(330), 23.995);
    world.sweep().await;
    hurry(&world).await;
    check(&world).await;
    let known = vobiz_cdr::db::ledger::bound::InferredZone { day_of: "end_time".into(), ..known };
    vobiz_cdr::db::ledger::bound::write_down(&mut *world.database.connection().await, &id(), &known)
        .await
        .unwrap();
    assert_eq!(world.database.texts(moved).await, ["reopened 0", "reopened 0", "reopened 0", "open 0"]);
    world.end().await;
}

/// The cut of the days that is inferred, and what holds the bill.
const CUT: &str = "select concat_ws(' ', day_of, day_offset) from vobiz.account";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_times_contradict_its_duration_teaches_nothing() {
    // Nor do rows whose duration could not be read.
    for (minutes, read) in [(30, true), (210, true), (30, false), (210, false)] {
        let (world, began, _) = settled_day().await;
        let before = world.text(CUT).await;
        // They lie within the day by their end, and lasted a minute.
        let odd = [at(&world, began, 9.5), at(&world, began, 10.5)];
        let start = (began - TimeDelta::minutes(minutes)).to_rfc3339();
        for odd in &odd {
            world.vobiz.revise(odd, |call| {
                call.set.insert("start_time".into(), Some(format!("\"{start}\"")));
                if !read {
                    call.set.insert("duration".into(), Some("-5".into()));
                }
            });
        }
        world
            .database
            .run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'")
            .await;
        check(&world).await;
        assert_eq!(world.text(CUT).await, before, "{start} {read}");
        let first = states(&world).await.remove(0);
        assert!(first.starts_with("differs"), "{start} {read}: {first}");
        assert!(odd.iter().all(|odd| first.contains(odd)), "{start} {read}: {first}");
        assert_eq!(safe_to(&world).await.0, began, "{start}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_by_itself_that_contradicts_what_is_known_moves_no_days() {
    for (zone, hours, stray) in [
        // Calls at all hours; in business hours, where rows would also fit eleven hours east of UTC; and there, where nothing else
        // rules these out.
        (0, vec![0.1, 4.0, 12.0, 17.0, 20.0, 23.9], 960),
        (330, vec![0.1, 4.0, 12.0, 17.0, 20.0, 23.9], 960),
        (330, vec![9.0, 12.0, 18.0], 1110),
        (0, vec![0.1, 9.0, 23.9], 600),
    ] {
        let (world, began) = ledger_world(SimulatorOptions { day_zone: zone, ..options() }).await;
        for day in [0.0, 24.0] {
            for hours in &hours {
                at(&world, began, day + hours);
            }
        }
        world.sweep().await;
        for _ in 0..2 {
            check(&world).await;
            hurry(&world).await;
        }
        let known = "select concat_ws(' ', day_of, least, most) from vobiz.provider_day_bound order by 1";
        let (cut, bounds) = (world.text(CUT).await, world.database.texts(known).await);
        let all = world.database.texts("select state from vobiz.ledger_day where to_at < vobiz.now()").await;
        assert_eq!(all, ["settled", "settled"], "{zone} {hours:?}");
        // The list of the second day shows one of the first as well, and that of the first does not.
        let started = began + TimeDelta::minutes(stray);
        let times = [("start_time", 0), ("end_time", 2), ("created_at", 2)];
        let spec = CallSpec {
            started_at: Some(began + TimeDelta::hours(34)),
            ended_at: Some(began + TimeDelta::hours(34) + TimeDelta::minutes(2)),
            ring_time: Some(10),
            billsec: Some(110),
            ..CallSpec::default()
        };
        let spec = times.into_iter().fold(spec, |spec, (key, minutes)| {
            spec.with(key, &format!("\"{}\"", (started + TimeDelta::minutes(minutes)).to_rfc3339()))
        });
        let stray = world.vobiz.place_call(spec).call_id;
        world.sweep().await;
        check_again(&world).await;
        let others = "select concat_ws(' ', d.day, d.state, d.reopened_at, d.reopenings, (select count(*) from vobiz.ledger_check k where k.day = d.day))
                      from vobiz.provider_day d where d.state is distinct from 'differs' order by d.day";
        let before = world.database.texts(others).await;
        let days = world.database.texts("select concat_ws(' ', state, (reopened_at is null)::text) from vobiz.provider_day where to_at < vobiz.now() order by day").await;
        assert_eq!(days, ["settled true", "differs true"], "{zone} {hours:?}");
        for _ in 0..3 {
            hurry(&world).await;
            let checked = check(&world).await;
            assert_eq!(checked.len(), 1, "{zone} {hours:?} {checked:?}");
            let reason = checked[0].reason.as_ref().unwrap();
            assert!(
                reason.contains("listed in one day and billed in another") && reason.contains(&stray),
                "{reason}"
            );
            assert_eq!(world.database.texts(others).await, before, "{zone} {hours:?}");
            assert_eq!(world.text(CUT).await, cut, "{zone} {hours:?}");
            assert_eq!(world.database.texts(known).await, bounds, "what was known is not forgotten");
        }
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(1), "{zone} {hours:?}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_the_lists_of_two_days_is_not_listed_without_end() {
    let (world, began, _) = settled_day().await;
    // It began ten minutes before midnight, and ended ten minutes after it; the next day's list shows it as well.
    let midnight = began + TimeDelta::hours(24);
    let place = |listed, set| {
        world.vobiz.place_call(CallSpec {
            started_at: Some(listed),
            ended_at: Some(midnight + TimeDelta::minutes(10)),
            ring_time: Some(10),
            billsec: Some(
                u32::try_from((midnight + TimeDelta::minutes(10) - listed).num_seconds()).unwrap() - 10,
            ),
            set,
            ..CallSpec::default()
        })
    };
    let call = place(midnight - TimeDelta::minutes(10), BTreeMap::default());
    let same = |key: &str, json: String| (key.to_owned(), Some(json));
    place(
        midnight + TimeDelta::minutes(1),
        BTreeMap::from([
            same("uuid", format!("\"{}\"", call.call_id)),
            same("id", call.vobiz_id.to_string()),
            same("start_time", format!("\"{}\"", call.started_at.to_rfc3339())),
            same("duration", call.duration().to_string()),
            same("billsec", call.billsec.to_string()),
        ]),
    );
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'").await;
    for _ in 0..4 {
        // Fails where the days do not come to an end.
        check(&world).await;
        world.database.advance_clock(TimeDelta::minutes(1)).await;
    }
    let checks = world.database.count("select count(*) from vobiz.ledger_check").await;
    assert!(checks < 12, "{checks} checks");
    // The lists contradict one another: what the second one changed of the call is compared with the first one later, and once.
    let states = states(&world).await;
    assert_eq!(
        (states.len(), states[0].as_str(), states[2].as_str()),
        (3, "reopened 21 21 18.00 18.00 1", "open")
    );
    let said = format!("1 call is in the lists of two days: {} (", call.call_id);
    assert!(states[1].starts_with("differs 1 1 ") && states[1].contains(&said), "{states:?}");
    assert_eq!(world.text(CUT).await, "start_time");
    let (up_to, held_by) = safe_to(&world).await;
    assert_eq!(up_to, began, "{held_by}");
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_two_lists_show_are_billed_once_and_said_and_teach_nothing() {
    // In the billing zone, and where the zone is learnt on the way.
    for zone in [330, 0] {
        let options = SimulatorOptions { day_zone: zone, day_of: DayOf::Either, ..options() };
        let (world, began) = ledger_world(options).await;
        for hours in [0.1, 3.0, 12.0, 17.0, 23.9, 24.1, 30.0, 36.0, 42.0, 47.9] {
            at(&world, began, hours);
        }
        let midnight = began + TimeDelta::hours(24);
        let twice = world
            .vobiz
            .place_call(CallSpec {
                started_at: Some(midnight - TimeDelta::minutes(10)),
                ended_at: Some(midnight + TimeDelta::minutes(10)),
                ring_time: Some(10),
                billsec: Some(1190),
                cost: Some("7".parse().unwrap()),
                streaming_cost: Some("0".parse().unwrap()),
                ..CallSpec::default()
            })
            .call_id;
        world.sweep().await;
        for _ in 0..3 {
            check(&world).await;
            hurry(&world).await;
        }
        let cut = world
            .text("select concat_ws(' ', day_of, coalesce(extract(epoch from day_offset)::int / 60, 330)) from vobiz.account")
            .await;
        assert_eq!(cut, format!("start_time {zone}"));
        let day = |days| (began + TimeDelta::minutes(zone.into()) + TimeDelta::days(days)).date_naive();
        let ledger = world
            .database
            .texts("select concat_ws(' ', day, state, calls_there, listed_twice) from vobiz.ledger_day where to_at < vobiz.now() order by day")
            .await;
        assert_eq!(ledger, [format!("{} settled 6 0", day(0)), format!("{} settled 6 1", day(1))], "{zone}");
        let found = world
            .database
            .texts("select distinct concat_ws(' ', kind, call_id, here, there) from vobiz.ledger_difference where kind = 'listed_twice'")
            .await;
        assert_eq!(found, [format!("listed_twice {twice} {} {} and {}", day(0), day(0), day(1))]);
        // Once in the bill, which goes on, and in what settled days hold.
        assert_eq!(
            world.text("select (count(*) || ' ' || sum(total_cost)::numeric(9, 2)) from vobiz.cdr").await,
            "11 11.50"
        );
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2), "{zone}");
        crate::ledger::settled::settled_days(&world.database).await;
        // And it stays so.
        let checks = "select count(*) from vobiz.ledger_check";
        let before = world.database.count(checks).await;
        check_again(&world).await;
        let states =
            world.database.texts("select state from vobiz.ledger_day where to_at < vobiz.now()").await;
        assert_eq!(states, ["settled", "settled"], "{zone}");
        assert_eq!(world.database.count(checks).await, before + 2, "each once more");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_several_zones_fit_the_bill_goes_as_far_as_the_earliest_of_them() {
    // Eight hours west and four east, by few rows.
    for (zone, first, last) in [(-480, 0.6, 23.2), (240, 0.7, 23.1)] {
        let (world, began) = ledger_world(SimulatorOptions { day_zone: zone, ..options() }).await;
        for hours in [first, 12.0, last - 0.1, last, 36.0] {
            at(&world, began, hours);
        }
        world.sweep().await;
        for _ in 0..3 {
            check(&world).await;
            hurry(&world).await;
        }
        let cut = world
            .text(
                "select concat_ws(' ', day_of, extract(epoch from day_offset)::int / 60) from vobiz.account",
            )
            .await;
        assert_eq!(cut, format!("start_time {zone}"), "whole hours before halves");
        let (safe, _) = safe_to(&world).await;
        let end = began + TimeDelta::days(2);
        assert!(safe < end && safe >= end - TimeDelta::hours(1), "{zone}: {safe} {end}");
        // Calls at midnight leave one answer.
        for hours in [0.001, 23.999, 24.001, 47.999] {
            at(&world, began, hours);
        }
        world.sweep().await;
        world
            .database
            .run("update vobiz.provider_day set check_at = vobiz.now() where to_at < vobiz.now()")
            .await;
        check(&world).await;
        hurry(&world).await;
        check(&world).await;
        assert_eq!(safe_to(&world).await.0, end, "{zone}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_two_lists_whose_record_lacks_a_time_is_counted_in_one_day() {
    // Which times are lacking; whether the call then lies in the second day, by its start and by its end.
    for (lacking, by_start, by_end) in [
        (&["start_time"][..], true, true),
        (&["end_time"], false, false),
        (&["created_at"], false, true),
        (&["start_time", "end_time"], true, true),
        (&["start_time", "created_at"], true, true),
    ] {
        for (day_of, second) in [("start_time", by_start), ("end_time", by_end)] {
            let options = SimulatorOptions { day_zone: 330, day_of: DayOf::Either, ..options() };
            let (world, began) = ledger_world(options).await;
            world.database.run(&format!("update vobiz.account set day_of = '{day_of}'")).await;
            for hours in [3.0, 12.0, 17.0, 30.0, 36.0, 42.0] {
                at(&world, began, hours);
            }
            let midnight = began + TimeDelta::hours(24);
            let twice = CallSpec {
                started_at: Some(midnight - TimeDelta::minutes(10)),
                ended_at: Some(midnight + TimeDelta::minutes(10)),
                ring_time: Some(10),
                billsec: Some(1190),
                ..CallSpec::default()
            };
            world.vobiz.place_call(lacking.iter().fold(twice, |spec, key| spec.with(key, "null")));
            world.sweep().await;
            for _ in 0..3 {
                check(&world).await;
                hurry(&world).await;
            }
            let ledger = world
                .database
                .texts("select concat_ws(' ', state, calls_there, listed_twice) from vobiz.ledger_day where to_at < vobiz.now() order by day")
                .await;
            let said = if second { ["settled 4 1", "settled 4 0"] } else { ["settled 4 0", "settled 4 1"] };
            assert_eq!(ledger, said, "{lacking:?} by {day_of}");
            assert_eq!(
                super::settled::settled_days(&world.database).await,
                (2, 7),
                "{lacking:?} by {day_of}"
            );
            world.end().await;
        }
    }
}
