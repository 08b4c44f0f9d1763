//! Reading pages of the list: how old a page is, and what a bad moment costs.

use std::cell::Cell;
use std::time::Duration;

use chrono::SubsecRound as _;
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::simulator::{Answer, CallSpec, Faults, ListFaults, RequestKind, SimulatorOptions};
use vobiz_cdr::sweep::Sweeper;
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::database::ACCOUNT;
use crate::support::wait::{in_the_end, until};
use crate::support::world::{TOKEN, World, account_that_waits, credentials, options};
use crate::sweep::{Drain, all_stored_once, outage};

#[tokio::test]
async fn a_list_page_is_as_old_as_its_request_however_long_it_took() {
    let world = World::new().await;
    let call = world.vobiz.place_call(CallSpec::default());
    world.owe(&call.call_id, true).await;
    // Finds out the path, so that the page below is the next list request.
    world.drain().await;
    sqlx::query("delete from vobiz.cdr").execute(&world.database.pool).await.unwrap();
    sqlx::query("delete from vobiz.cdr_revision").execute(&world.database.pool).await.unwrap();
    world.owe(&call.call_id, true).await;
    let slow = world.vobiz.clone();
    let before = slow.stats().requests_of(RequestKind::List);
    slow.script_account(ACCOUNT, Some(Answer::Slow(Duration::from_secs(10))));
    let fetched = Cell::new(false);
    let sweeping = async {
        let swept = world.sweep().await;
        assert!(fetched.get(), "the page came before the fetch, so nothing was shown");
        swept
    };
    let (swept, ()) = tokio::join!(sweeping, async {
        let lists = || slow.stats().requests_of(RequestKind::List);
        until("the page is asked for", async || lists() > before).await;
        slow.script_account(ACCOUNT, None);
        world.drain().await;
        assert_eq!(world.stored().await, 1, "the fetch's row is there first");
        fetched.set(true);
    });
    assert_eq!(swept.rows, 1);
    assert_eq!(
        world.text("select total_cost from vobiz.cdr").await,
        call.total_cost().normalize().to_string()
    );
    // The page is as old as its request: it does not count as a confirmation later than the fetch.
    let order = "select (fetched_at = (select max(fetched_at) from vobiz.cdr_revision))::text from vobiz.cdr";
    assert_eq!(world.text(order).await, "true");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_page_is_asked_for_again_and_not_the_whole_list() {
    let world = World::new().await;
    outage(&world, 1200, 24).await;
    let timeout = Duration::from_secs(2);
    let (pool, api) = (&world.database.pool, world.vobiz.api_url());
    let slow = account_that_waits(timeout, pool, &api, credentials(ACCOUNT, &[TOKEN]), 8.0);
    let drain = Drain::begin_with(&world, slow).await;
    // A page fails; the request that asks whether the account works finds that it does.
    world.vobiz.script_account(ACCOUNT, Some(Answer::Slow(Duration::from_secs(60))));
    let lists = || world.vobiz.stats().requests_of(RequestKind::List);
    let before = lists();
    until("a page is asked for", async || lists() > before).await;
    world.vobiz.script_account(ACCOUNT, None);
    let drained = drain.ended.await.unwrap().unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (1200, 0));
    assert_eq!(drained.pages, 12);
    all_stored_once(&world, 1200).await;
    world.end().await;
}

#[tokio::test]
async fn one_odd_row_costs_no_other_row_of_its_page() {
    let world = World::new().await;
    let spec = CallSpec::default;
    let whole = world.vobiz.place_call(spec());
    let token = world.vobiz.place_call(spec().with("packet_loss", "NaN").with("codec", "undefined"));
    let broken = world.vobiz.place_call(spec().with("caller_id_name", r#""Asha 5" Rao""#));
    let other = world.vobiz.place_call(spec().with("account_id", r#""MA_OTHER999""#));
    let swept = world.sweep().await;
    assert_eq!((swept.rows, swept.unreadable), (4, 2));
    let stored = "select string_agg(call_id, ' ' order by call_id) from vobiz.cdr";
    let mut expected = [whole.call_id.as_str(), token.call_id.as_str()];
    expected.sort_unstable();
    assert_eq!(world.text(stored).await, expected.join(" "));
    let notes =
        format!("select array_to_string(notes, '; ') from vobiz.cdr where call_id = '{}'", token.call_id);
    assert_eq!(
        world.text(&notes).await,
        "codec: no JSON, taken as null: undefined; packet_loss: no JSON, taken as null: NaN"
    );
    // What shows its uuid is owed, once; its single record may be whole.
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue").await, 1);
    assert_eq!(world.status(&broken.call_id).await, "- 0 alive");
    world
        .vobiz
        .script(&broken.call_id, [Answer::Body(format!(r#"{{"uuid":"{}","cost":1}}"#, broken.call_id))]);
    world.drain().await;
    assert_eq!(world.stored().await, 3);
    // A record of another account is a dead letter with its body, and pauses nobody.
    world.owe(&other.call_id, true).await;
    world.drain().await;
    assert_eq!(world.status(&other.call_id).await, "unreadable 1 alive");
    assert_eq!(world.pause_reason().await, "∅");
    world.end().await;
}

#[tokio::test]
async fn a_page_that_holds_what_no_page_does_is_one_failure_and_not_a_million_rows() {
    for (count, json) in [(1_000_000, None), (300, Some("{}")), (201, Some(r#"{"uuid":"a"}"#))] {
        let lists = ListFaults { elements: Some((count, json)), ..ListFaults::default() };
        let world = World::with(SimulatorOptions { lists, ..options() }).await;
        world.vobiz.place_call(CallSpec::default());
        let sweeper =
            Sweeper::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new());
        let swept = sweeper.sweep_if_due(&world.accounts[0], &CancellationToken::new()).await;
        let said = swept.unwrap_err().to_string();
        assert!(said.contains("more than") || said.contains("is paused"), "{count}: {said}");
        assert_eq!(world.stored().await, 0);
        assert_eq!(world.database.count("select count(*) from vobiz.unreadable_row").await, 0, "{count}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_list_that_claims_pages_without_end_is_read_all_the_same() {
    // As its page is refused, it is read in parts: of as many rows as a page really has.
    for claimed in [usize::try_from(u32::MAX).unwrap(), 1_000_000] {
        let lists = ListFaults { claims_per_page: Some(claimed), ..ListFaults::default() };
        let world = World::with(SimulatorOptions { lists, ..options() }).await;
        for _ in 0..150 {
            world.vobiz.place_call(CallSpec::default());
        }
        world.vobiz.refuse_page(ACCOUNT, Some(2));
        let swept = in_the_end("the sweep ends", world.sweep()).await;
        assert!(swept.rows >= 100, "{claimed}: {swept:?}");
        let asked = world.vobiz.stats().requests_of(RequestKind::List);
        assert!(asked < 100, "{claimed}: {asked} requests");
        world.end().await;
    }
}

#[tokio::test]
async fn a_broken_row_owes_no_call_that_was_given_up_but_one_that_nobody_had_found() {
    let world = World::new().await;
    let broken = world.vobiz.place_call(CallSpec::default().with("caller_id_name", r#""Asha 5" Rao""#));
    let owed = "select count(*) from vobiz.cdr_queue";
    for (closed_as, again) in
        [("by_operator", 0), ("unreadable", 0), ("refused", 0), ("not_found", 1), ("never_appeared", 1)]
    {
        world
            .database
            .run(&format!(
                "delete from vobiz.cdr_queue;
                 alter table vobiz.closed_call disable trigger user; delete from vobiz.closed_call;
                 alter table vobiz.closed_call enable trigger user;
                 insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence)
                 values ('{}', '{ACCOUNT}', true, '{closed_as}', 'a test')",
                broken.call_id
            ))
            .await;
        for _ in 0..2 {
            assert_eq!(world.sweep().await.unreadable, 1);
            assert_eq!(world.database.count(owed).await, again, "{closed_as}");
        }
    }
    world.database.run("delete from vobiz.cdr_queue").await;
    world.end().await;
}

#[tokio::test]
async fn a_list_that_denies_its_next_page_is_read_on() {
    let world = World::with(SimulatorOptions { denies_next: true, ..options() }).await;
    for _ in 0..150 {
        world.vobiz.place_call(CallSpec::default());
    }
    assert_eq!(world.sweep().await.rows, 150);
    assert_eq!(world.stored().await, 150);
    world.end().await;
}

#[tokio::test]
async fn no_odd_value_enters_a_sum() {
    let share = 0.5;
    let faults = Faults {
        no_time: share,
        time_spelling: share,
        impossible_seconds: share,
        seconds_spelling: share,
        impossible_measure: share,
        word_spelling: share,
        long_amount: share,
        bad_token: share,
        ..Faults::default()
    };
    let world = World::with(SimulatorOptions { faults, ..options() }).await;
    let calls: Vec<_> = (0..200).map(|_| world.vobiz.place_call(CallSpec::default())).collect();
    assert_eq!(world.sweep().await.rows, 200);
    assert_eq!(world.stored().await, 200);
    let outside = "select count(*) from vobiz.cdr where billsec not between 0 and 2592000 or duration not between 0 and 2592000
                   or mos not between 0 and 5 or jitter < 0 or packet_loss not between 0 and 100 or currency <> 'INR'
                   or call_direction not in ('inbound', 'outbound')
                   or least(start_time, progress_time, answer_time, updated_at) < vobiz.now() - interval '1 day'
                   or greatest(start_time, progress_time, answer_time, updated_at) > vobiz.now() + interval '2 days'";
    assert_eq!(world.database.count(outside).await, 0);
    // Whatever is readable is what the call was, and enters the sums of the bill so, to the last digit.
    let (mut billsec, mut cost, mut total) = (0, Decimal::ZERO, Decimal::ZERO);
    for call in &calls {
        let readable =
            format!("select billsec is not null from vobiz.cdr where call_id = '{}'", call.call_id);
        billsec += if world.text(&readable).await == "true" { u64::from(call.billsec) } else { 0 };
        cost += call.cost;
        total += call.total_cost();
        let found = format!(
            "select coalesce(billsec, {0}) = {0} and cost = {1} and coalesce(date_trunc('second', start_time), '{2}') = '{2}' and call_direction = '{3}'
             from vobiz.cdr where call_id = '{4}'",
            call.billsec,
            call.cost,
            call.started_at.trunc_subsecs(0).to_rfc3339(),
            call.direction.as_str(),
            call.call_id
        );
        assert_eq!(world.text(&found).await, "true", "{call:?}");
    }
    // And what is not has its note.
    let silent = "select count(*) from vobiz.cdr
                  where num_nulls(billsec, duration, start_time, progress_time, updated_at, mos, jitter, packet_loss, codec) > cardinality(notes)";
    assert_eq!(world.database.count(silent).await, 0);
    let long = "select count(*) from vobiz.cdr where scale(streaming_cost) = 55";
    let long = world.database.count(long).await;
    assert!(long > 50, "{long}");
    let streaming = world.text("select trim_scale(sum(streaming_cost)) from vobiz.cdr").await;
    let billed = "select concat_ws(' ', sum(calls), sum(billsec), trim_scale(sum(cost)), trim_scale(sum(streaming_cost)),
                                   trim_scale(sum(total_cost))) from vobiz.billing_day";
    let expected = format!("200 {billsec} {} {streaming} {}", cost.normalize(), total.normalize());
    assert_eq!(world.text(billed).await, expected);
    // None of it because hardly anything was readable.
    for column in ["billsec", "start_time", "total_cost", "mos"] {
        let there = world.database.count(&format!("select count({column}) from vobiz.cdr")).await;
        assert!(there > 50, "{column}: {there}");
    }
    world.end().await;
}
