//! Where the worker begins to look for calls that are due: what becomes due before that place is found as well.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::queue::backlog;

use crate::support::calls::account as id;
use crate::support::world::{World, eventually, fetcher};
use crate::sweep::paced;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reservation_releases_is_fetched_at_once_also_if_newer_calls_were_fetched_meanwhile() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let worker = fetcher(&world.database.pool, vec![paced(&world, 1000.0)]);
    let told = stop.clone();
    let working = tokio::spawn(async move { worker.run(told).await });
    // So the worker has looked from the beginning, and found something: from here on it knows where to begin.
    let first = world.owed_call().await.call_id;
    let stored = async |call_id: &str| world.standing(call_id).await == "∅" && world.stored().await > 0;
    eventually("the first is stored", Duration::from_secs(10), async || stored(&first).await).await;

    let due_to = world.database.now().await + TimeDelta::milliseconds(500);
    let minute = Duration::from_secs(60);
    backlog::reserve(&mut *world.database.connection().await, &id(), due_to, minute).await.unwrap();
    let held = world.owed_call().await.call_id;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let newer = world.owed_call().await.call_id;
    eventually("the newer one is stored", Duration::from_secs(10), async || world.stored().await == 2).await;
    assert_ne!(world.standing(&held).await, "∅", "the held one waits for the list");
    assert_eq!(world.standing(&newer).await, "∅");

    backlog::release(&mut *world.database.connection().await, &id(), due_to).await.unwrap();
    eventually("the held one is stored", Duration::from_secs(10), async || world.stored().await == 3).await;
    stop.cancel();
    working.await.unwrap();
    world.end().await;
}
