//! How Vobiz cuts its days is inferred from its lists.

use super::{at, check, hurry, ledger_world, settled_day, states};
use crate::support::calls::account as id;
use crate::support::world::options;
use chrono::TimeDelta;
use vobiz_cdr::simulator::{CallSpec, DayOf, SimulatorOptions};

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
        // A day cut wrongly at first may have to be looked at again; none of them differs in the end.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_decides_a_day_reopens_it_too() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    let call = at(&world, began, 23.99);
    check(&world).await;
    // It ended in the first day and was written in the second.
    let written = began + TimeDelta::hours(24) + TimeDelta::seconds(5);
    sqlx::query(
        "update vobiz.cdr set created_at = $1, end_time = start_time + interval '5 s' where call_id = $2",
    )
    .bind(written)
    .bind(&call)
    .execute(&world.database.pool)
    .await
    .unwrap();
    world.database.run("update vobiz.provider_day set reopened_at = null").await;
    world.database.run("update vobiz.cdr set total_cost = 99").await;
    assert_eq!(
        world.database.count("select count(*) from vobiz.provider_day where reopened_at is not null").await,
        2
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_of_the_day_settles_nothing_and_shows_nothing_of_the_zone() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    at(&world, began, 3.0);
    let time = format!("\"{}\"", (began - TimeDelta::days(2)).format("%Y-%m-%dT%H:%M:%S+00:00"));
    let stray = CallSpec {
        started_at: Some(began + TimeDelta::hours(5)),
        ended_at: Some(began + TimeDelta::hours(5) + TimeDelta::seconds(60)),
        ..CallSpec::default()
    };
    let stray =
        ["start_time", "end_time", "created_at"].into_iter().fold(stray, |spec, key| spec.with(key, &time));
    world.vobiz.place_call(stray);
    check(&world).await;
    let reason = "1 of 2 calls that Vobiz lists for the day lie outside it in every time zone: it was not the list that was asked for";
    assert!(states(&world).await[0].ends_with(reason), "{:?}", states(&world).await);
    assert!(states(&world).await[0].starts_with("unproven 2 2"), "{:?}", states(&world).await);
    let believed = "select concat_ws(' ', day_of, day_offset) from vobiz.account";
    assert_eq!(world.text(believed).await, "start_time");
    world.end().await;
}
