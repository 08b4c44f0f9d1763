//! The scan start: where the search for due calls begins: what becomes due before that place is found as well.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::queue::backlog;
use vobiz_cdr::fetch::{FetchSettings, Fetcher};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::calls::account as id;
use crate::support::wait::{until, until_is};
use crate::support::world::{World, fetch_settings};
use crate::sweep::{NEVER, paced};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reservation_releases_is_fetched_at_once_also_if_newer_calls_were_fetched_meanwhile() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    // A scan from the beginning would find it as well, and hide that the scan start had moved past it: there is only the first.
    let settings = FetchSettings { from_beginning_every: NEVER, ..fetch_settings() };
    let worker =
        Fetcher::new(world.database.pool.clone(), vec![paced(&world, 1000.0)], settings, Metrics::new());
    let told = stop.clone();
    let working = tokio::spawn(async move { worker.run(told).await });
    // So the worker has searched from the beginning, and found something: from here on it has a scan start.
    let first = world.owed_call().await.call_id;
    let stored = async |call_id: &str| world.status(call_id).await == "∅" && world.stored().await > 0;
    until("the first is stored", async || stored(&first).await).await;

    let due_to = world.database.now().await + TimeDelta::seconds(40);
    // No longer: a reservation that ends later than any is made for is not believed.
    let length = Duration::from_secs(115);
    world.database.reserve(due_to, length).await;
    let held = world.owed_call().await.call_id;
    world.advance(TimeDelta::seconds(50)).await;
    let newer = world.owed_call().await.call_id;
    until_is("the newer one is stored", 2, async || world.stored().await).await;
    assert_ne!(world.status(&held).await, "∅", "the held one waits for the list");
    assert_eq!(world.status(&newer).await, "∅");

    backlog::release(&mut *world.database.connection().await, &id(), due_to).await.unwrap();
    until_is("the held one is stored", 3, async || world.stored().await).await;
    stop.cancel();
    working.await.unwrap();
    world.end().await;
}

/// What makes calls due that a clock put off fails on these; the others are none of its business.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_fetched_although_those_that_were_put_off_too_far_cannot_be_made_due() {
    for owed in [1, 3] {
        let world = World::new().await;
        world.owe("far", true).await;
        world
            .database
            .run(
                "update vobiz.cdr_queue set due_at = vobiz.now() + interval '3 hours';
                 create function refuse() returns trigger language plpgsql as $$ begin raise sqlstate '53100'; end $$;
                 create trigger refuse before update on vobiz.cdr_queue for each row
                   when (old.call_id = 'far') execute function refuse()",
            )
            .await;
        for _ in 0..owed {
            world.owed_call().await;
        }
        world.drain().await;
        assert_eq!(world.stored().await, owed);
        world.end().await;
    }
}

/// Forged calls are certain by a secret that got about, or were asked for before and never appear.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_that_never_appear_does_not_delay_real_ones() {
    for (by_secret, attempts) in [(true, 0), (false, 1)] {
        let world = World::new().await;
        world
            .database
            .run(&format!(
                "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, by_secret, attempts, due_at)
                 select 'forged-' || n, 'MA_TESTAB12', true, true, {by_secret}, {attempts}, vobiz.now() - interval '1 h' + n * interval '1 s'
                 from generate_series(1, 3000) n"
            ))
            .await;
        let stop = CancellationToken::new();
        // The default rate.
        let accounts = vec![paced(&world, 10.0)];
        let worker = Fetcher::new(world.database.pool.clone(), accounts, fetch_settings(), Metrics::new());
        let told = stop.clone();
        let working = tokio::spawn(async move { worker.run(told).await });
        let asked = async || {
            let sum =
                "select coalesce(sum(attempts), 0)::bigint from vobiz.cdr_queue where call_id like 'forged%'";
            world.database.count(sum).await - 3000 * attempts
        };
        until("some forged ones were asked for", async || asked().await > 0).await;
        let before = asked().await;
        for _ in 0..20 {
            world.owed_call().await;
        }
        until_is("the real ones are stored", 20, async || world.stored().await).await;
        // What was leased before, and while the last real ones were on their way.
        let meanwhile = asked().await - before;
        assert!(meanwhile < 40, "{meanwhile} forged calls were asked for before 20 real ones were stored");
        stop.cancel();
        working.await.unwrap();
        world.vobiz.stop().await;
    }
}
