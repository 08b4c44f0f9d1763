//! The drain: a backlog is resolved by pages of the list, and nothing is lost, held for ever or read twice on the way.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::config::ServeConfig;
use vobiz_cdr::fetch::{FetchSettings, Fetcher};
use vobiz_cdr::list::ListError;
use vobiz_cdr::simulator::{Answer, CallSpec, RequestKind, RetryAfter, SimulatorOptions};
use vobiz_cdr::sweep::{Drained, Sweeper};
use vobiz_cdr::watch::metrics::Metrics;

use super::{
    Drain, NEVER, all_stored_once, drain_by_list, outage, owe_since, owed, paced, reserved, swept_just_now,
};
use crate::support::database::ACCOUNT;
use crate::support::endpoint::Callback;
use crate::support::running::Running;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, World, fetch_settings, options, serve_config};

/// The URL that Vobiz signs for.
const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";

#[tokio::test]
async fn a_backlog_is_resolved_by_pages_of_the_list_and_each_call_is_stored_once() {
    let world = World::new().await;
    outage(&world, 4000, 24).await;
    let drained = drain_by_list(&world, 100.0).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (4000, 0));
    all_stored_once(&world, 4000).await;
    let requests = world.vobiz.stats().total_requests();
    // The list of these days is the backlog: a page each hundred, and one to find out the path.
    assert!(requests <= 42, "{requests} requests for 4000 calls");
    assert_eq!(world.vobiz.stats().requests_of(RequestKind::Single), 0);
    assert_eq!(world.text("select max(attempts) from vobiz.cdr").await, "0");
    assert_eq!(reserved(&world).await, "∅");
    world.drain().await;
    // The fetcher finds out the path for itself.
    assert!(world.vobiz.stats().total_requests() <= requests + 1, "nothing was left to ask");
    world.end().await;
}

#[tokio::test]
async fn what_single_fetches_get_through_is_no_backlog() {
    let world = World::new().await;
    let slow = paced(&world, 10.0);
    swept_just_now(&world).await;
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![slow.clone()], NEVER, Metrics::new());
    let drain = async || sweeper.drain_if_backlogged(&slow, &CancellationToken::new()).await.unwrap();
    let calls = outage(&world, 31, 1).await;
    // Three seconds at ten a second.
    world.database.run(&format!("delete from vobiz.cdr_queue where call_id = '{}'", calls[30].call_id)).await;
    assert_eq!(drain().await, None);
    owe_since(&world, &calls[30..]).await;
    assert_eq!(drain().await.unwrap().paid, 31);
    // After a 429 the rate is lower, and so is what it gets through: the least is 25.
    let calls = outage(&world, 26, 1).await;
    assert_eq!(drain().await, None);
    world.database.run("update vobiz.account set rate_share = 0.5, rate_share_at = vobiz.now()").await;
    assert_eq!(drain().await.unwrap().paid, 26);
    assert_eq!(calls.len() + 31, usize::try_from(world.stored().await).unwrap());
    world.end().await;
}

#[tokio::test]
async fn calls_that_the_list_does_not_show_are_fetched_singly_afterwards() {
    let world = World::new().await;
    outage(&world, 400, 6).await;
    // Ten that lie deeper than any day that is asked for, and ten that do not exist yet.
    let (mut old, now) = (Vec::new(), world.database.now().await);
    for days in 10..20 {
        let ended_at = Some(now - TimeDelta::days(days));
        old.push(world.vobiz.place_call(CallSpec { ended_at, ..CallSpec::default() }));
    }
    for call in &old {
        world.owe(&call.call_id, true).await;
    }
    for n in 0..10 {
        world.owe(&format!("not-there-{n}"), true).await;
    }
    let drained = drain_by_list(&world, 50.0).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (400, 20));
    assert_eq!(reserved(&world).await, "∅");
    world.drain().await;
    for call in &old {
        assert_eq!(world.vobiz.stats().fetches_of(&call.call_id), 1);
        assert_eq!(world.status(&call.call_id).await, "∅");
    }
    assert_eq!(world.status("not-there-3").await, "not_yet 1 alive");
    assert_eq!((world.stored().await, owed(&world).await), (410, 10));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_calls_are_fetched_singly_while_a_drain_goes_on() {
    let world = World::new().await;
    outage(&world, 9000, 24).await;
    // So slow that it would go on for a quarter of a minute; slower, and its next slot would be further ahead than a fetch takes one.
    let drain = Drain::begin(&world, 6.0).await;
    let newer = world.owed_call().await;
    world.drain().await;
    assert_eq!(world.status(&newer.call_id).await, "∅");
    let left = owed(&world).await;
    assert!(left > 500, "{left}: the drain is not over yet");
    let stats = world.vobiz.stats();
    assert_eq!((stats.requests_of(RequestKind::Single), stats.fetches_of(&newer.call_id)), (1, 1));
    // The rest at a better pace.
    drain.stopped().await;
    let left = u64::try_from(owed(&world).await).unwrap();
    let drained = drain_by_list(&world, 100.0).await.unwrap().unwrap();
    // The newer call pushed one call onto a page of its own, which costs as much as its single fetch.
    assert!(drained.left <= 1 && drained.left + drained.paid == left, "{drained:?} of {left}");
    world.drain().await;
    all_stored_once(&world, 9001).await;
    world.end().await;
}

/// The next slot lies further ahead than a fetch reserves at a better pace, and the reader of the list is always there to take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rate_is_shared_by_a_drain_and_the_fetcher() {
    let world = World::new().await;
    outage(&world, 9000, 24).await;
    let drain = Drain::begin(&world, 2.5).await;
    let newer = world.owed_call().await;
    let settings = FetchSettings { concurrency: 4, lease: Duration::from_secs(60), ..fetch_settings() };
    let accounts = vec![drain.account.clone()];
    let fetcher = Fetcher::new(world.database.pool.clone(), accounts, settings, Metrics::new());
    let told = drain.stop.clone();
    let fetching = tokio::spawn(async move { fetcher.run(told).await });
    until("the newer call is fetched", async || world.vobiz.stats().fetches_of(&newer.call_id) > 0).await;
    let left = owed(&world).await;
    assert!(left > 500, "{left}: the drain is not over yet");
    drain.stopped().await;
    fetching.await.unwrap();
    drain_by_list(&world, 100.0).await.unwrap().unwrap();
    world.drain().await;
    all_stored_once(&world, 9001).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_calls_that_become_a_backlog_are_read_at_the_head_of_the_list() {
    let world = World::new().await;
    outage(&world, 9000, 24).await;
    // So slow that it would go on for a quarter of a minute.
    let drain = Drain::begin(&world, 6.0).await;
    // Nobody fetches here: only the head of the list can bring them before the end of the drain.
    let newer: Vec<String> = (0..40).map(|_| world.vobiz.place_call(CallSpec::default()).call_id).collect();
    world.database.owe(&newer.iter().map(String::as_str).collect::<Vec<_>>(), true).await;
    let waiting = format!("select count(*) from vobiz.cdr_queue where call_id in ('{}')", newer.join("','"));
    until_is("they are stored", 0, async || world.database.count(&waiting).await).await;
    let left = owed(&world).await;
    assert!(left > 500, "{left}: the drain is not over yet");
    drain.stopped().await;
    assert_eq!(drain_by_list(&world, 100.0).await.unwrap().unwrap().left, 0);
    all_stored_once(&world, 9040).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_does_not_pay_pauses_before_the_next_one() {
    let world = World::new().await;
    for _ in 0..1500 {
        world.vobiz.place_call(CallSpec::default());
    }
    let ids: Vec<String> = (0..200).map(|n| format!("not-there-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    world.database.owe(&ids, true).await;
    swept_just_now(&world).await;
    let metrics = Metrics::new();
    let slow = paced(&world, 60.0);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![slow], NEVER, metrics.clone());
    let stop = CancellationToken::new();
    let told = stop.clone();
    let draining = tokio::spawn(async move { sweeper.run(told).await });
    until("it has drained", async || {
        metrics.text().contains("vobiz_cdr_list_pages_total{flow=\"drain\"} 15")
    })
    .await;
    until_is("it has let go", "∅", async || reserved(&world).await).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(metrics.text().contains("vobiz_cdr_list_pages_total{flow=\"drain\"} 15"), "{}", metrics.text());
    world.drain().await;
    assert_eq!(world.status("not-there-7").await, "not_yet 1 alive");
    stop.cancel();
    draining.await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_drains() {
    let world = World::new().await;
    outage(&world, 2000, 24).await;
    let stop = CancellationToken::new();
    swept_just_now(&world).await;
    let drains = (0..4).map(|_| {
        let slow = paced(&world, 50.0);
        let sweeper = Sweeper::new(world.database.pool.clone(), vec![slow.clone()], NEVER, Metrics::new());
        let stop = stop.clone();
        tokio::spawn(async move { sweeper.drain_if_backlogged(&slow, &stop).await.unwrap() })
    });
    let drained: Vec<Option<Drained>> = join_all(drains).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(drained.iter().flatten().count(), 1, "{drained:?}");
    let requests = world.vobiz.stats().total_requests();
    // The others find out the path at most.
    assert!(requests <= 20 + 4, "{requests}");
    all_stored_once(&world, 2000).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_to_stop_ends_a_drain_within_a_page_and_its_reservation_with_it() {
    let world = World::new().await;
    outage(&world, 3000, 24).await;
    let drain = Drain::begin(&world, 5.0).await;
    let reserved_for =
        world.database.count("select count(*) from vobiz.account where listing_until is not null").await;
    assert_eq!(reserved_for, 1);
    let pages = || world.vobiz.stats().requests_of(RequestKind::List);
    let before = pages();
    drain.stopped().await;
    assert!(pages() <= before + 1, "{} pages after {before}", pages());
    assert_eq!(reserved(&world).await, "∅");
    let stored = world.stored().await;
    assert_eq!(stored + owed(&world).await, 3000);
    // What is left is another replica's now, and the days that are done are not asked for again.
    assert_eq!(drain_by_list(&world, 50.0).await.unwrap().unwrap().left, 0);
    all_stored_once(&world, 3000).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_in_the_middle_is_waited_for_and_a_denial_loses_nothing() {
    let world = World::new().await;
    outage(&world, 3000, 24).await;
    swept_just_now(&world).await;
    let run = |max_rps: f64| {
        let account = paced(&world, max_rps);
        let sweeper = Sweeper::new(world.database.pool.clone(), vec![account.clone()], NEVER, Metrics::new());
        tokio::spawn(async move { sweeper.drain_if_backlogged(&account, &CancellationToken::new()).await })
    };
    // So slow that it is still on whenever it is met.
    let draining = run(5.0);
    until("the drain is on", async || world.stored().await > 300).await;
    world.vobiz.script_account(ACCOUNT, Some(Answer::Throttled(RetryAfter::Seconds(1))));
    until_is("it is throttled", "throttled", async || world.pause_reason().await).await;
    world.vobiz.script_account(ACCOUNT, None);
    let before = world.stored().await;
    until("it goes on by itself", async || world.stored().await > before + 300).await;
    world.vobiz.set_token(ACCOUNT, "rotated away");
    let ended = draining.await.unwrap();
    assert!(matches!(ended, Err(ListError::Paused)), "{ended:?}");
    assert_eq!(world.pause_reason().await, "denied");
    assert_eq!(reserved(&world).await, "∅");
    let left = owed(&world).await;
    assert!(left > 0 && left + world.stored().await == 3000, "{left}");
    assert_eq!(run(100.0).await.unwrap().unwrap(), None, "a paused account is not drained");
    world.vobiz.set_token(ACCOUNT, TOKEN);
    world.end_pauses().await;
    let pages = world.vobiz.stats().requests_of(RequestKind::List);
    run(100.0).await.unwrap().unwrap().unwrap();
    let again = world.vobiz.stats().requests_of(RequestKind::List) - pages;
    assert!(again <= 32, "{again}");
    all_stored_once(&world, 3000).await;
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue where failures > 0").await, 0);
    world.end().await;
}

/// As `kill -9` ends a replica: its sessions are closed, and nothing more is said.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_replica_had_reserved_is_free_as_soon_as_another_one_looks() {
    for goes_on_by_list in [true, false] {
        let world = World::new().await;
        outage(&world, 2000, 24).await;
        let drain = Drain::begin(&world, 6.0).await;
        let looks = paced(&world, 100.0);
        let sweeper = Sweeper::new(world.database.pool.clone(), vec![looks.clone()], NEVER, Metrics::new());
        let look = async || sweeper.drain_if_backlogged(&looks, &CancellationToken::new()).await.unwrap();
        assert_eq!(look().await, None, "another one is at it");
        assert_ne!(reserved(&world).await, "∅");
        drain.ended.abort();
        assert!(drain.ended.await.unwrap_err().is_cancelled());
        assert_ne!(reserved(&world).await, "∅");
        until("its reservation is void", async || look().await.is_none() && reserved(&world).await == "∅")
            .await;
        if goes_on_by_list {
            let drained = look().await.unwrap();
            assert_eq!(drained.left, 0);
        } else {
            world.drain().await;
        }
        all_stored_once(&world, 2000).await;
        world.end().await;
    }
}

#[tokio::test]
async fn rows_that_appear_late_are_stored_by_the_single_fetch_or_the_next_drain() {
    let options = SimulatorOptions { latency: Duration::from_millis(1), ..options() };
    let world = World::with(options).await;
    outage(&world, 300, 3).await;
    let (mut late, now) = (Vec::new(), world.database.now().await);
    for n in 0..40 {
        let appears_after = Some(Duration::from_secs(50 * 60));
        let ended_at = Some(now - TimeDelta::minutes(n));
        late.push(world.vobiz.place_call(CallSpec { appears_after, ended_at, ..CallSpec::default() }));
    }
    owe_since(&world, &late).await;
    let drained = drain_by_list(&world, 8.0).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (300, 40));
    world.drain().await;
    assert_eq!(world.status(&late[7].call_id).await, "not_yet 1 alive");
    world.advance(TimeDelta::hours(1)).await;
    // Ten are fetched; for the rest the list is cheaper again.
    let few: Vec<&str> = late[..10].iter().map(|call| call.call_id.as_str()).collect();
    world
        .database
        .run(&format!(
            "update vobiz.cdr_queue set due_at = vobiz.now() + interval '1 hour' where call_id in ('{}')",
            few.join("','")
        ))
        .await;
    let requests = world.vobiz.stats().total_requests();
    assert_eq!(drain_by_list(&world, 8.0).await.unwrap().unwrap().left, 0);
    assert!(world.vobiz.stats().total_requests() - requests <= 4);
    world.advance(TimeDelta::hours(2)).await;
    world.drain().await;
    assert_eq!((world.stored().await, owed(&world).await), (340, 0));
    // The failed fetch before the list brought it is not forgotten.
    let fetched = format!("select attempts from vobiz.cdr where call_id = '{}'", late[20].call_id);
    assert_eq!(world.text(&fetched).await, "1");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_rate_is_too_low_for_its_calls_keeps_up_by_pages() {
    let options = SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() };
    let world = World::with(options).await;
    // No sweep comes to its help after the first one.
    let config = ServeConfig {
        first_fetch_delay: Duration::from_millis(500),
        ..serve_config(&world.vobiz.api_url(), &[(ACCOUNT, TOKEN)], 4.0)
    };
    let running = Running::start(config, &world.database.url).await;
    until_is("the first sweep is over", 1, async || {
        world.database.count("select count(*) from vobiz.account where swept_at is not null").await
    })
    .await;
    // It keeps up, at whatever rate, if it needs fewer requests for some calls than there are calls. (How old a CDR is then, is a
    // matter of the benchmark `day`.)
    for wave in 1..=3 {
        let before = world.vobiz.stats().total_requests();
        let calls: Vec<_> = (0..50).map(|_| world.vobiz.place_call(CallSpec::default())).collect();
        let sent = calls.iter().map(|call| Callback::of(&world.vobiz, call).send(running.public.unwrap()));
        assert_eq!(join_all(sent).await, [200; 50]);
        until_is("nothing is owed", 0, async || owed(&world).await).await;
        let requests = world.vobiz.stats().total_requests() - before;
        assert!(requests < 40, "{requests} requests for the 50 calls of wave {wave}");
    }
    let announced =
        world.database.count("select count(*) from vobiz.cdr where first_callback_at is not null").await;
    assert_eq!(announced, 150);
    let requests = world.vobiz.stats().total_requests();
    let ages = "select percentile_cont(array[0.5, 0.99, 1]) within group (order by extract(epoch from stored_at - end_time)::float8) from vobiz.cdr";
    println!("{requests} requests; freshness p50, p99, most: {}", world.text(ages).await);
    let (_, metrics) = running.page("/metrics").await;
    // A call that is listed while its fetch is under way counts twice.
    assert!(running.metric("vobiz_cdr_freshness_seconds_count").await.unwrap() >= 150.0, "{metrics}");
    assert!(running.metric("vobiz_cdr_list_pages_total{flow=\"drain\"}").await.unwrap() > 0.0, "{metrics}");
    running.all_is_well().await;
    running.end().await;
    world.end().await;
}
