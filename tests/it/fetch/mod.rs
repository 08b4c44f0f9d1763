//! Lease, fetch, store: every row of the retry table, over real HTTP and in a real queue.

mod other_accounts;
mod scan_start;

use std::time::Duration;

use vobiz_cdr::fetch::{FetchSettings, Fetcher};
use vobiz_cdr::simulator::{Answer, CallKind, CallSpec, RequestKind};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::database::{ACCOUNT, Database};
use crate::support::wait::in_the_end;
use crate::support::world::{
    TOKEN, World, account, account_that_waits, credentials, fetch_settings, fetcher, rate_was_held,
};

#[tokio::test]
async fn an_owed_call_becomes_a_stored_cdr() {
    let world = World::new().await;
    let call = world.owed_call().await;
    world.drain().await;
    let row = format!("from vobiz.cdr where call_id = '{}'", call.call_id);
    assert_eq!(
        world.text(&format!("select total_cost {row}")).await,
        call.total_cost().normalize().to_string()
    );
    assert_eq!(world.text(&format!("select billsec {row}")).await, call.billsec.to_string());
    assert_eq!(
        world.text(&format!("select origin || ' ' || attempts || ' ' || revision {row}")).await,
        "callback 1 1"
    );
    assert_eq!(world.text(&format!("select first_callback_at is not null {row}")).await, "true");
    assert_eq!(world.text(&format!("select notes {row}")).await, "{}");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue").await, 0);
    assert_eq!(
        world.database.count("select count(*) from vobiz.cdr_revision where source = 'single'").await,
        1
    );
    world.end().await;
}

#[tokio::test]
async fn each_failure_has_its_class_and_costs_one_request() {
    let mut world = World::new().await;
    // One of the answers never comes.
    let (pool, api) = (world.database.pool.clone(), world.vobiz.api_url());
    let timeout = Duration::from_secs(2);
    let account = account_that_waits(timeout, &pool, &api, credentials(ACCOUNT, &[TOKEN]), 1000.0);
    world.fetcher = fetcher(&pool, vec![account]);
    let cases = [
        (Answer::NotFound, "not_yet 1 alive"),
        (Answer::SuccessFalse, "not_yet 1 alive"),
        (Answer::DataNull, "not_yet 1 alive"),
        (Answer::Empty, "not_yet 1 alive"),
        (Answer::server_error(), "unavailable 1 alive"),
        (Answer::Status(503, String::new()), "unavailable 1 alive"),
        (Answer::Html, "unavailable 1 alive"),
        (Answer::HalfBody, "unavailable 1 alive"),
        (Answer::Reset, "unavailable 1 alive"),
        (Answer::Slow(Duration::from_secs(60)), "unavailable 1 alive"),
        (Answer::Redirect("http://127.0.0.1:9/elsewhere".into()), "unavailable 1 alive"),
        (Answer::Body("{\"data\":{\"uuid\":\"cut".into()), "unavailable 1 alive"),
        (Answer::Status(422, "{}".into()), "refused 1 alive"),
        (Answer::Status(402, "{}".into()), "refused 1 alive"),
        // The list works: the call alone is denied.
        (Answer::Status(403, "{}".into()), "refused 1 alive"),
        (Answer::WrongUuid, "unreadable 1 alive"),
        (Answer::Body("[1, 2]".into()), "unreadable 1 alive"),
        (Answer::Body("{\"data\":{\"cost\":1},\"success\":true}".into()), "unreadable 1 alive"),
    ];
    let mut calls = Vec::new();
    for (answer, expected) in cases {
        let call = world.vobiz.place_call(CallSpec::default());
        world.vobiz.script(&call.call_id, [answer.clone()]);
        world.owe(&call.call_id, true).await;
        calls.push((call.call_id, answer, expected));
    }
    // Nothing falls due again before the slowest of them is through.
    world.database.stop_clock(world.database.now().await).await;
    world.drain().await;
    for (call_id, answer, expected) in &calls {
        assert_eq!(world.status(call_id).await, *expected, "{answer:?}");
        let fetches = world.vobiz.stats().fetches_of(call_id);
        assert_eq!(fetches, 1, "{answer:?}");
    }
    assert_eq!(world.pause_reason().await, "∅");
    // All of it passes: an hour later everything is there.
    world.database.shift_clock("1 hour").await;
    world.drain().await;
    assert_eq!(world.stored().await, i64::try_from(calls.len()).unwrap());
    world.end().await;
}

#[tokio::test]
async fn a_call_that_never_appears_dies_after_a_day_and_a_speculative_one_is_closed_after_an_hour() {
    let world = World::new().await;
    world.owe("certain-1", true).await;
    world.owe("speculative-1", false).await;
    world.drain().await;
    for (clock, certain, speculative) in [
        ("59 minutes", "not_yet 2 alive", "not_yet 2 alive"),
        ("2 hours", "not_yet 3 alive", "∅"),
        ("23 hours", "not_yet 4 alive", "∅"),
        ("25 hours", "never_appeared 5 dead", "∅"),
        ("26 hours", "never_appeared 5 dead", "∅"),
    ] {
        world.database.shift_clock(clock).await;
        world.drain().await;
        assert_eq!(world.status("certain-1").await, certain, "{clock}");
        assert_eq!(world.status("speculative-1").await, speculative, "{clock}");
    }
    let closed = world.text("select reason || ': ' || evidence from vobiz.closed_call").await;
    assert!(closed.starts_with("not_found: not yet: 404"), "{closed}");
    // The list shows it after all: the sweep pays the debt, dead or not.
    let call = world.vobiz.place_call(CallSpec { call_id: Some("certain-1".into()), ..CallSpec::default() });
    assert_eq!(world.sweep().await.new, 1);
    assert_eq!(world.status(&call.call_id).await, "∅");
    world.end().await;
}

#[tokio::test]
async fn five_refusals_over_an_hour_make_a_dead_letter_with_what_was_said() {
    let world = World::new().await;
    let unreadable = Answer::Body("{\"data\":{\"uuid\":\"someone-else\"},\"success\":true}".into());
    for (call_id, answer) in
        [("refused-1", Answer::Status(422, "no such filter".into())), ("unreadable-1", unreadable)]
    {
        world.vobiz.place_call(CallSpec { call_id: Some(call_id.into()), ..CallSpec::default() });
        world.vobiz.script(call_id, vec![answer; 6]);
        world.owe(call_id, true).await;
    }
    for minutes in [0, 1, 6, 21, 62] {
        world.database.shift_clock(&format!("{minutes} minutes")).await;
        world.drain().await;
    }
    assert_eq!(world.status("refused-1").await, "refused 5 dead");
    assert_eq!(world.status("unreadable-1").await, "unreadable 5 dead");
    let said = world.text("select last_error from vobiz.cdr_queue where call_id = 'refused-1'").await;
    assert_eq!(said, "refused: 422: no such filter");
    let body = "select convert_from(last_body, 'UTF8') from vobiz.cdr_queue where call_id = 'unreadable-1'";
    assert!(world.text(body).await.contains("someone-else"));
    world.end().await;
}

#[tokio::test]
async fn odd_call_ids_stay_in_their_path_segment() {
    let world = World::new().await;
    for id in ["abc123@10.0.0.1", "a:b+c-d_e.f", "hQ7Zp2kLmT9vXc4RbN8sWd1YfGj3", "...", "a..b"] {
        world.vobiz.place_call(CallSpec { call_id: Some(id.into()), ..CallSpec::default() });
        world.owe(id, true).await;
    }
    world.drain().await;
    assert_eq!(world.stored().await, 5);
    world.end().await;
}

#[tokio::test]
async fn a_poison_record_dies_alone_with_its_body() {
    let world = World::new().await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(world.owed_call().await);
    }
    // Postgres refuses JSON nested deeper than its stack; our reader has no stack to overflow.
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    world
        .vobiz
        .place_call(CallSpec { call_id: Some("poison".into()), ..CallSpec::default().with("odd", &nested) });
    world.owe("poison", true).await;
    world.drain().await;
    assert_eq!(world.stored().await, 20);
    assert_eq!(world.status("poison").await, "unstorable 1 dead");
    assert_eq!(world.text("select length(last_body) from vobiz.cdr_queue").await, "65536");
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_at_its_limit() {
    let world = World::new().await;
    let call = world.owed_call().await;
    world.vobiz.script(&call.call_id, [Answer::Body(" ".repeat(3 << 20))]);
    world.drain().await;
    assert_eq!(world.status(&call.call_id).await, "unreadable 1 alive");
    assert!(
        world.text("select length(last_body) from vobiz.cdr_queue").await.parse::<u32>().unwrap() <= 65536
    );
    world.end().await;
}

#[tokio::test]
async fn a_trunk_call_announced_under_another_id_is_found_by_its_sip_call_id() {
    let world = World::new().await;
    let call = world.vobiz.place_call(CallSpec {
        kind: CallKind::Trunk,
        announced_as: Some("announced-1".into()),
        sip_call_id: Some("abc123@10.0.0.1".into()),
        ..CallSpec::default()
    });
    world.owe_with("announced-1", ACCOUNT, true, Some("abc123@10.0.0.1")).await;
    world.drain().await;
    assert_eq!(world.status("announced-1").await, "not_yet 1 alive");
    world.database.shift_clock("11 minutes").await;
    world.drain().await;
    assert_eq!(world.text("select call_id from vobiz.cdr").await, call.call_id);
    let closed = world
        .text("select reason || ' ' || found_call_id from vobiz.closed_call where call_id = 'announced-1'");
    assert_eq!(closed.await, format!("other_id {}", call.call_id));
    assert_eq!(world.text("select first_callback_at is not null from vobiz.cdr").await, "true");
    world.end().await;
}

/// Fetches under way at once, where the rate limit is tested.
const UNDER_WAY: u32 = 4;

#[tokio::test]
async fn the_rate_limit_is_held() {
    let world = World::new().await;
    let slow = account(&world.database.pool, &world.vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 20.0);
    let settings = FetchSettings { concurrency: UNDER_WAY, ..fetch_settings() };
    let fetcher = Fetcher::new(world.database.pool.clone(), vec![slow], settings, Metrics::new());
    for _ in 0..60 {
        world.owed_call().await;
    }
    let started = std::time::Instant::now();
    fetcher.run_until_idle().await;
    let took = started.elapsed();
    assert_eq!(world.stored().await, 60);
    assert!(took >= Duration::from_millis(2700), "60 calls at 20 a second took {took:?}");
    let stats = world.vobiz.stats();
    assert_eq!(stats.requests_of(RequestKind::Single), 60);
    rate_was_held(&stats.asked_at, 20.0, UNDER_WAY);
    world.end().await;
}

#[tokio::test]
async fn an_empty_database_is_idle() {
    let database = Database::new().await;
    let nobody = account(&database.pool, "http://127.0.0.1:9", credentials(ACCOUNT, &[TOKEN]), 10.0);
    in_the_end("it finds nothing", fetcher(&database.pool, vec![nobody]).run_until_idle()).await;
}
