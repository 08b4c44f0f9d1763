//! Which days the lists of Vobiz are of: inferred from the lists themselves.

use chrono::TimeDelta;
use vobiz_cdr::simulator::{DayOf, SimulatorOptions};

use super::ledger_world;
use super::{at, check, hurry, settled_day, states};
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
