//! A version that claims to be newer than what the list says: on the third check that finds the same, the list wins.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use vobiz_cdr::simulator::Call;
use vobiz_cdr::vobiz::CallId;

use super::{at, check, hurry, settled_day, states};
use crate::support::calls::DIFFERS_FROM_ITS_VERSIONS;
use crate::support::world::World;

/// Changes a call at Vobiz so that its record claims to have been updated at an instant.
fn claims(world: &World, call_id: &str, at: DateTime<Utc>, change: impl FnOnce(&mut Call)) {
    world
        .vobiz
        .revise(call_id, |call| {
            change(call);
            call.updated_at = at;
        })
        .unwrap();
}

async fn audited(world: &World) -> Vec<String> {
    world
        .database
        .texts(
            "select concat_ws(' ', action, call_id, detail->'was'->>'total_cost', detail->'is'->>'total_cost',
                              detail->'was'->>'billsec', detail->'is'->>'billsec')
             from vobiz.audit order by id",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_contradicts_a_stored_version_on_three_checks_running_wins() {
    let (world, _, calls) = settled_day().await;
    let now = world.database.now().await;
    let (money, seconds) = (&calls[3], &calls[4]);
    // A version of tomorrow morning, then what it really was, under an honest time.
    claims(&world, money, now + TimeDelta::hours(20), |call| call.cost = Decimal::ZERO);
    claims(&world, seconds, now + TimeDelta::hours(9), |call| call.billsec = 5);
    world.sweep().await;
    claims(&world, money, now - TimeDelta::hours(1), |call| call.cost = Decimal::new(45, 2));
    claims(&world, seconds, now - TimeDelta::hours(2), |call| call.billsec = 50);
    for tries in 1..=2 {
        world.advance(TimeDelta::minutes(15)).await;
        hurry(&world).await;
        check(&world).await;
        let first = states(&world).await.remove(0);
        assert!(first.starts_with("differs 20 20 8.55 9.00"), "{tries}: {first}");
        assert!(audited(&world).await.is_empty());
    }
    // Not while all of them may have met the same bad moment of the list.
    world.advance(TimeDelta::minutes(2)).await;
    hurry(&world).await;
    check(&world).await;
    assert!(states(&world).await[0].starts_with("differs"), "{:?}", states(&world).await);
    world.advance(TimeDelta::minutes(20)).await;
    hurry(&world).await;
    check(&world).await;
    assert!(states(&world).await[0].starts_with("settled 20 20 9.00 9.00"), "{:?}", states(&world).await);
    let mut expected = [
        format!("overruled_by_list {money} 0 0.45 50 50"),
        format!("overruled_by_list {seconds} 0.45 0.45 5 50"),
    ];
    expected.sort();
    let mut said = audited(&world).await;
    said.sort();
    assert_eq!(said, expected);
    // Every version is kept, what was known then can be said, and what is shown is what the versions make.
    let kept = format!("select count(*) from vobiz.cdr_revision where call_id = '{money}'");
    assert!(world.database.count(&kept).await >= 3);
    assert_eq!(world.database.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    let won_at = world
        .text(&format!("select fetched_at from vobiz.cdr_revision where call_id = '{money}' and overrules"))
        .await;
    let as_of = async |at: &str| {
        world
            .text(&format!("select total_cost::text from vobiz.cdr_as_of({at}) where call_id = '{money}'"))
            .await
    };
    assert_eq!(as_of(&format!("'{won_at}'::timestamptz - interval '1 millisecond'")).await, "0");
    // A later check confirms it, and moves what is shown on.
    world.sweep().await;
    assert_eq!(as_of(&format!("'{won_at}'::timestamptz")).await, "0.45");
    assert_eq!(as_of("'infinity'").await, "0.45");
    let changes = world
        .database
        .texts(&format!("select concat_ws(' ', was, \"is\") from vobiz.cdr_change where call_id = '{money}' and field = 'total_cost' order by revision"))
        .await;
    assert_eq!(changes.last().map(String::as_str), Some("0 0.45"), "{changes:?}");
    // From here on an honest correction wins at once, and rebuilding changes nothing.
    claims(&world, money, now + TimeDelta::minutes(1), |call| call.cost = Decimal::new(50, 2));
    world.sweep().await;
    assert_eq!(
        world.text(&format!("select total_cost::text from vobiz.cdr where call_id = '{money}'")).await,
        "0.5"
    );
    assert_eq!(world.database.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    let mut connection = world.database.connection().await;
    let (reparsed, _) =
        vobiz_cdr::db::cdr::reparse::reparse(&mut connection, None, None, 100, true).await.unwrap();
    assert_eq!((reparsed.calls, reparsed.changed, reparsed.versions_missing), (20, 0, 0), "{reparsed:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_its_mind_has_to_say_the_same_three_times() {
    let (world, _, calls) = settled_day().await;
    let now = world.database.now().await;
    claims(&world, &calls[3], now + TimeDelta::hours(20), |call| call.cost = Decimal::ZERO);
    world.sweep().await;
    for (cents, state) in
        [(45, "differs"), (45, "differs"), (46, "differs"), (46, "differs"), (46, "settled"), (46, "settled")]
    {
        claims(&world, &calls[3], now - TimeDelta::hours(1), |call| call.cost = Decimal::new(cents, 2));
        world.advance(TimeDelta::minutes(15)).await;
        hurry(&world).await;
        check(&world).await;
        let first = states(&world).await.remove(0);
        assert!(first.starts_with(state), "{cents}: {first}");
    }
    assert_eq!(audited(&world).await.len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_stays_a_difference_for_a_person() {
    let (world, began, calls) = settled_day().await;
    // Whether a list brought it or its single record, which says more than the list.
    let single = at(&world, began, 9.25);
    let listed = world.accounts[0].client.fetch_cdr(&CallId::new(&single).unwrap()).await.unwrap().payload;
    let more = listed.text().replacen('{', "{\"stream_cdrs\":[],", 1);
    world.vobiz.revise(&single, |call| call.body = Some(format!("{{\"data\":{more},\"success\":true}}")));
    world.owe(&single, true).await;
    world.drain().await;
    hurry(&world).await;
    check(&world).await;
    for call in [&calls[0], &single] {
        world.database.run(&format!("update vobiz.cdr set total_cost = 7 where call_id = '{call}'")).await;
    }
    for _ in 0..4 {
        world.advance(TimeDelta::minutes(15)).await;
        hurry(&world).await;
        check(&world).await;
        assert!(states(&world).await[0].starts_with("differs"), "{:?}", states(&world).await);
    }
    let mut expected = [&calls[0], &single].map(|call| format!("cdr_changed_by_hand {call} 0.45 7 50 50"));
    expected.sort();
    let mut said = audited(&world).await;
    said.sort();
    assert_eq!(said, expected);
    world.end().await;
}
