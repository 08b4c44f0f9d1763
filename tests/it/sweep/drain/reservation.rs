//! Calls that are reserved for the list, and the sweep that drains.

use super::{all_stored_once, hold, outage, paced};
use crate::support::calls::{account as id, try_lease};
use crate::support::database::Database;
use crate::support::world::{World, eventually, fetcher};
use chrono::TimeDelta;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::queue::backlog;
use vobiz_cdr::db::timed;
use vobiz_cdr::simulator::CallSpec;
use vobiz_cdr::sweep::Sweeper;
use vobiz_cdr::watch::metrics::Metrics;

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

#[tokio::test]
async fn a_reservation_keeps_calls_from_leasing_and_that_of_a_dead_replica_runs_out() {
    let db = Database::new().await;
    db.owe(&["a", "b"], true).await;
    db.owe(&["c"], false).await;
    let due_to = db.now().await;
    let hold = async |due_to| {
        timed!(&db.pool, Duration::from_secs(5), |connection| backlog::reserve(
            connection,
            &id(),
            due_to,
            Duration::from_secs(60)
        ))
        .await
        .unwrap();
    };
    hold(due_to).await;
    assert!(db.lease(9).await.is_empty());
    let any_due = async || vobiz_cdr::db::queue::any_due(&mut *db.connection().await).await.unwrap();
    assert!(!any_due().await, "whoever drains the queue does not wait for the list");
    // What falls due later is leased, certain or not.
    db.owe(&["d"], true).await;
    db.owe(&["e"], false).await;
    assert!(any_due().await);
    let mut later: Vec<String> = db.lease(9).await.iter().map(|lease| lease.call_id().to_string()).collect();
    later.sort();
    assert_eq!(later, ["d", "e"]);
    // Another one's hold is not ended by accident.
    backlog::release(&mut *db.connection().await, &id(), due_to - TimeDelta::seconds(1)).await.unwrap();
    assert!(db.lease(9).await.is_empty());
    db.shift_clock("59 seconds").await;
    assert!(db.lease(9).await.is_empty());
    db.shift_clock("61 seconds").await;
    assert!(any_due().await);
    assert_eq!(db.lease(9).await.len(), 5, "the three that were held, and two whose leases ended");
    let ended = async || {
        backlog::release(&mut *db.connection().await, &id(), due_to).await.unwrap();
        db.text("select listing_until::text from vobiz.account").await
    };
    assert_eq!(ended().await, "-");
}

#[tokio::test]
async fn a_lease_costs_the_same_however_many_calls_are_reserved() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
         select 'held-' || n, 'MA_TESTAB12', true, n % 2 = 0, vobiz.now() - interval '1 day' + n * interval '1 s'
         from generate_series(1, 60000) n",
    )
    .await;
    db.run("analyze vobiz.cdr_queue").await;
    let due_to = db.now().await;
    backlog::reserve(&mut *db.connection().await, &id(), due_to, Duration::from_secs(60)).await.unwrap();
    db.owe(&["fresh"], true).await;
    let mut connection = db.connection().await;
    let read = async |connection: &mut sqlx::PgConnection| -> i64 {
        sqlx::raw_sql("select pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
        sqlx::query_scalar(
            "select (idx_tup_read + (select seq_tup_read from pg_stat_user_tables where relname = 'cdr_queue'))::bigint
             from pg_stat_user_indexes where indexrelname = 'cdr_queue_due'",
        )
        .fetch_one(connection)
        .await
        .unwrap()
    };
    let before = read(&mut connection).await;
    assert_eq!(try_lease(&mut connection, 9).await.unwrap().len(), 1);
    let after = read(&mut connection).await;
    assert!(after - before < 50, "{} entries of the index were read for one lease", after - before);
}

#[tokio::test]
async fn a_sweep_that_meets_a_backlog_is_the_drain_and_reads_it_once() {
    let world = World::new().await;
    outage(&world, 3000, 12).await;
    // The last sweep completed before the outage; a wide one is due as well.
    world
        .database
        .run(
            "update vobiz.account set sweep_from = vobiz.now() - interval '12 hours',
                    swept_at = vobiz.now() - interval '12 hours', swept_wide_at = vobiz.now() - interval '13 hours'",
        )
        .await;
    let every = Duration::from_secs(300);
    let paced = paced(&world, 100.0);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![paced.clone()], every, Metrics::new());
    // Even the loop that looks for backlogs leaves it to the sweep.
    let drained = sweeper.drain_if_backlogged(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (3000, 0));
    all_stored_once(&world, 3000).await;
    let requests = world.vobiz.stats().total_requests();
    assert!(requests <= 32, "{requests} requests for 3000 calls");
    assert_eq!(hold(&world).await, "∅");
    let stop = CancellationToken::new();
    assert_eq!(sweeper.sweep_if_due(&paced, &stop).await.unwrap(), None, "it was the sweep");
    assert_eq!(sweeper.drain_if_backlogged(&paced, &stop).await.unwrap(), None);
    // The wide overlap has its turn with the next one, and covers what it would have covered.
    world.database.shift_clock("6 minutes").await;
    let mut connection = world.database.connection().await;
    let plan = vobiz_cdr::db::account::plan_sweep(&mut connection, &id(), every).await.unwrap().unwrap();
    assert!(plan.wide);
    let reach = plan.now - plan.down_to;
    assert!(reach > TimeDelta::hours(13 + 25), "{reach}");
    world.end().await;
}

#[tokio::test]
async fn a_sweep_without_a_deep_backlog_reserves_nothing_and_keeps_its_overlap() {
    let world = World::new().await;
    outage(&world, 200, 2).await;
    let seen = world.database.pool.clone();
    let stop = CancellationToken::new();
    let watching = stop.clone();
    let holds = tokio::spawn(async move {
        let mut holds = 0;
        while !watching.is_cancelled() {
            let held: i64 =
                sqlx::query_scalar("select count(*) from vobiz.account where listing_until is not null")
                    .fetch_one(&seen)
                    .await
                    .unwrap();
            holds += held;
        }
        holds
    });
    let paced = paced(&world, 20.0);
    let sweeper =
        Sweeper::new(world.database.pool.clone(), vec![paced.clone()], Duration::ZERO, Metrics::new());
    let swept = sweeper.sweep_if_due(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    stop.cancel();
    assert_eq!(holds.await.unwrap(), 0);
    assert_eq!((swept.new, swept.recovered), (200, 0));
    assert_eq!(world.text("select swept_wide_at is not null from vobiz.account").await, "true");
    all_stored_once(&world, 200).await;
    world.end().await;
}

#[tokio::test]
async fn a_sweep_releases_its_calls_as_soon_as_the_list_is_no_longer_worth_it() {
    let world = World::new().await;
    // Many listed calls that nobody owes, and a backlog that no list shows.
    let now = world.database.now().await;
    for n in 0..1500 {
        let ended_at = Some(now - TimeDelta::seconds(n * 2));
        world.vobiz.place_call(CallSpec { ended_at, ..CallSpec::default() });
    }
    let ids: Vec<String> = (0..1200).map(|n| format!("not-there-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    world.database.owe(&ids, true).await;
    world
        .database
        .run("update vobiz.cdr_queue set enqueued_at = vobiz.now() - interval '30 minutes', due_at = vobiz.now()")
        .await;
    let metrics = Metrics::new();
    let paced = paced(&world, 100.0);
    let every = Duration::from_secs(300);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![paced.clone()], every, metrics.clone());
    let drained = sweeper.drain_if_backlogged(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    // Fifteen pages are cheaper than 1200 fetches, so it holds them to the end, and no longer.
    assert_eq!((drained.paid, drained.left, drained.was_worth_it()), (0, 1200, false));
    assert_eq!(hold(&world).await, "∅");
    assert_eq!(world.stored().await, 1500);
    let text = metrics.text();
    assert!(text.contains("vobiz_cdr_sweep_recovered_total 1500"), "{text}");
    assert!(text.contains("vobiz_cdr_list_pages_total{flow=\"sweep\"} 15"), "{text}");
    assert!(text.contains("vobiz_cdr_freshness_seconds_count 1500"), "{text}");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr where origin = 'sweep'").await, 1500);
    world.end().await;
}
