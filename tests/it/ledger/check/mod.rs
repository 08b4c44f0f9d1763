//! The ledger: a day is settled only when it equals what Vobiz lists, and whatever differs shows, in words.

mod safe_to_bill;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::account::Account;
use vobiz_cdr::ledger::{Checked, Ledger};
use vobiz_cdr::simulator::{CallSpec, SimulatorOptions, SummaryCost};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::database::ACCOUNT;
use crate::support::world::{TOKEN, World, account, credentials, noon, options};

/// A world at noon, whose ledger began with the day before yesterday, and that instant: all checks of that day up to the one a day
/// later are due, and the first of yesterday's.
async fn ledger_world(options: SimulatorOptions) -> (World, DateTime<Utc>) {
    let zone = options.day_zone;
    let world = World::with(options).await;
    let began = noon(&world.database, &world.vobiz, zone).await - TimeDelta::days(2);
    since(&world, began).await;
    (world, began)
}

async fn since(world: &World, began: DateTime<Utc>) {
    sqlx::query("update vobiz.account set ledger_since = $1, registered_at = $1")
        .bind(began)
        .execute(&world.database.pool)
        .await
        .unwrap();
}

/// A call that begins at `hours` after an instant and lasts a minute.
fn at(world: &World, began: DateTime<Utc>, hours: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a few days")]
    let started = began + TimeDelta::seconds((hours * 3600.0) as i64);
    let spec = CallSpec {
        started_at: Some(started),
        ended_at: Some(started + TimeDelta::seconds(60)),
        ring_time: Some(10),
        billsec: Some(50),
        cost: Some("0.45".parse().unwrap()),
        streaming_cost: Some("0".parse().unwrap()),
        ..CallSpec::default()
    };
    world.vobiz.place_call(spec).call_id
}

fn checker(world: &World) -> Ledger {
    Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new())
}

/// Checks all days that are due.
async fn check(world: &World) -> Vec<Checked> {
    let (ledger, stop) = (checker(world), CancellationToken::new());
    let mut checked = Vec::new();
    while let Some(one) = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap() {
        checked.push(one);
        assert!(checked.len() < 20, "the days do not come to an end: {checked:?}");
    }
    checked
}

/// Makes what is to be checked again due now.
async fn hurry(world: &World) {
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where check_at is not null and to_at < vobiz.now() and (state <> 'settled' or reopened_at is not null)").await;
}

async fn states(world: &World) -> Vec<String> {
    world
        .database
        .texts(
            "select concat_ws(' ', state, calls_here, calls_there, total_here, total_there, recovered, reason)
             from vobiz.ledger_day order by day, currency",
        )
        .await
}

async fn safe_to(world: &World) -> (DateTime<Utc>, String) {
    sqlx::query_as("select safe_to, held_by from vobiz.safe_to_bill")
        .fetch_one(&world.database.pool)
        .await
        .unwrap()
}

/// A call that only we have.
const COPY: &str = "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                                           start_time, total_cost, cost, currency, duration, billsec)
    select 'ours-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, total_cost,
           cost, currency, duration, billsec
    from (select * from vobiz.cdr order by call_id limit 1) one";

/// A settled day of twenty calls and the ids of them.
async fn settled_day() -> (World, DateTime<Utc>, Vec<String>) {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    let calls: Vec<String> = (0..20).map(|n| at(&world, began, f64::from(n) + 0.5)).collect();
    let checked = check(&world).await;
    assert_eq!(checked.len(), 2, "{checked:?}");
    (world, began, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_equal_the_list_are_settled_and_safe_to_bill() {
    let (world, began, _) = settled_day().await;
    let today = format!("day {} is not over", (began + TimeDelta::hours(54)).date_naive());
    assert_eq!(states(&world).await, ["settled 20 20 9.00 9.00 20", "settled 0", "open"]);
    let (safe, held_by) = safe_to(&world).await;
    assert_eq!((safe, held_by), (began + TimeDelta::days(2), today));
    let told: DateTime<Utc> =
        sqlx::query_scalar(AssertSqlSafe(format!("select vobiz.safe_to_bill('{ACCOUNT}')")))
            .fetch_one(&world.database.pool)
            .await
            .unwrap();
    assert_eq!(told, safe);
    // Each check is kept with the provider's own words.
    let kept = world
        .database
        .texts("select concat_ws(' ', cause, state, requests, summary->>'totalCalls', summary_cost, recovered) from vobiz.ledger_check order by id")
        .await;
    assert_eq!(kept.len(), 2);
    assert!(kept.contains(&"24h settled 1 20 either 20".to_owned()), "{kept:?}");
    assert_eq!(world.database.count("select count(*) from vobiz.listed_call").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mutation_shows_in_the_ledger_and_stops_the_bill() {
    let (world, began, calls) = settled_day().await;
    let first = &calls[0];
    for (mutation, shows, mend) in [
        (
            format!(
                "update vobiz.cdr set total_cost = total_cost + 0.01, cost = cost + 0.01 where call_id = '{first}'"
            ),
            format!("differs 20 20 9.01 9.00 0 0.01 INR more here; 1 call differs: {first}"),
            format!("update vobiz.cdr set total_cost = 0.45, cost = 0.45 where call_id = '{first}'"),
        ),
        (
            format!("update vobiz.cdr set billsec = billsec + 1 where call_id = '{first}'"),
            format!("differs 20 20 9.00 9.00 0 1 call differs: {first}"),
            format!("update vobiz.cdr set billsec = billsec - 1 where call_id = '{first}'"),
        ),
        (
            format!("update vobiz.cdr set call_id = 'forged' where call_id = '{first}'"),
            "differs 21 20 9.45 9.00 1 0.45 INR more here; 1 call is missing at Vobiz: forged".to_owned(),
            "delete from vobiz.cdr where call_id = 'forged'".to_owned(),
        ),
        (
            COPY.to_owned(),
            "differs 21 20 9.45 9.00 0 0.45 INR more here; 1 call is missing at Vobiz: ours-alone".to_owned(),
            "delete from vobiz.cdr where call_id = 'ours-alone'".to_owned(),
        ),
    ] {
        let before = safe_to(&world).await.0;
        world.database.run(&mutation).await;
        // At once, and before anybody looks.
        let (safe, held_by) = safe_to(&world).await;
        assert!(safe == began && held_by.contains("changed here after it was compared"), "{held_by}");
        hurry(&world).await;
        check(&world).await;
        assert_eq!(states(&world).await[0], shows, "{mutation}");
        let (safe, held_by) = safe_to(&world).await;
        assert!(safe < before && held_by.contains("differs: "), "{safe} {held_by}");
        world.database.run(&mend).await;
        hurry(&world).await;
        check(&world).await;
        assert_eq!(safe_to(&world).await.0, before, "mended: {mend}");
    }
    // A row that we lack is brought back, and the ledger says that it was gone.
    world.database.run(&format!("delete from vobiz.cdr where call_id = '{first}'")).await;
    assert_eq!(safe_to(&world).await.0, began);
    hurry(&world).await;
    check(&world).await;
    assert_eq!(states(&world).await[0], "settled 20 20 9.00 9.00 1");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_field_that_the_summary_adds_up_is_recorded() {
    let (world, began) =
        ledger_world(SimulatorOptions { day_zone: 330, summary_cost: SummaryCost::Cost, ..options() }).await;
    let streamed = CallSpec {
        started_at: Some(began + TimeDelta::hours(3)),
        ended_at: Some(began + TimeDelta::hours(3) + TimeDelta::seconds(90)),
        streaming_cost: Some("0.90".parse().unwrap()),
        ..CallSpec::default()
    };
    world.vobiz.place_call(streamed);
    check(&world).await;
    assert_eq!(world.text("select summary_cost from vobiz.account").await, "cost");
    let kept = world
        .database
        .texts(
            "select state || ' ' || summary_cost from vobiz.ledger_check where summary->>'totalCalls' = '1'",
        )
        .await;
    assert_eq!(kept, ["settled cost"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_proves_nothing() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    at(&world, began, 3.0);
    world.sweep().await;
    // Stored once, and unknown to the Vobiz that is asked now.
    world.database.run(COPY).await;
    world
        .database
        .run("update vobiz.cdr set start_time = start_time + interval '1 day' where call_id = 'ours-alone'")
        .await;
    check(&world).await;
    let states = states(&world).await;
    assert_eq!(
        states[1],
        "unproven 1 0 0.45 0 0 Vobiz lists no call, and 1 are here: an empty list proves nothing"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_revision_reopens_its_day() {
    let (world, _, calls) = settled_day().await;
    let before = safe_to(&world).await.0;
    world.vobiz.revise(&calls[3], |call| call.cost = "0.50".parse().unwrap()).unwrap();
    // The wide sweep may see it first.
    world.sweep().await;
    assert_eq!(states(&world).await[0], "reopened 20 20 9.00 9.00 20");
    assert!(safe_to(&world).await.0 < before);
    hurry(&world).await;
    check(&world).await;
    assert_eq!(states(&world).await[0], "settled 20 20 9.05 9.05 0");
    assert_eq!(safe_to(&world).await.0, before);
    let causes = world.database.texts("select cause from vobiz.ledger_check order by id desc limit 1").await;
    assert_eq!(causes, ["reopened"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_only_the_check_sees_becomes_a_revision() {
    let (world, _, calls) = settled_day().await;
    world.vobiz.revise(&calls[3], |call| call.cost = "0.50".parse().unwrap()).unwrap();
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'").await;
    let revised: usize = check(&world).await.iter().map(|checked| checked.revised).sum();
    assert_eq!(revised, 1);
    assert_eq!(states(&world).await[0], "settled 20 20 9.05 9.05 0");
    assert_eq!(
        world.text(&format!("select revision from vobiz.cdr where call_id = '{}'", calls[3])).await,
        "2"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_checks() {
    let (world, began) =
        ledger_world(SimulatorOptions { day_zone: 330, latency: Duration::from_millis(100), ..options() })
            .await;
    at(&world, began, 3.0);
    let other: Vec<Arc<Account>> =
        vec![account(&world.database.pool, &world.vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 1000.0)];
    let replica = Ledger::new(world.database.pool.clone(), other.clone(), Duration::ZERO, Metrics::new());
    let (ours, stop) = (checker(&world), CancellationToken::new());
    let (a, b) =
        tokio::join!(ours.check_if_due(&world.accounts[0], &stop), replica.check_if_due(&other[0], &stop));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.is_some() != b.is_some(), "{a:?} {b:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_callbacks_are_counted_however_the_call_was_stored() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    let calls: Vec<String> = (0..10).map(|n| at(&world, began, f64::from(n) + 1.0)).collect();
    // Announced first; stored by the sweep and announced later; announced later, and the note was lost; and seven that were lost.
    world.owe(&calls[0], true).await;
    world.drain().await;
    world.sweep().await;
    world.owe(&calls[1], true).await;
    world.owe(&calls[2], true).await;
    world
        .database
        .run(&format!("update vobiz.cdr set first_callback_at = null where call_id = '{}'", calls[2]))
        .await;
    let loss =
        "select concat_ws(' ', calls, announced, only_listed, loss) from vobiz.callback_loss order by day";
    assert_eq!(world.database.texts(loss).await.len(), 0, "the days have not been looked at");
    check(&world).await;
    assert_eq!(world.database.texts(loss).await[0], "10 3 7 0.700000");
    // Frozen before the log is pruned.
    world.database.run("truncate vobiz.callback").await;
    assert_eq!(world.database.texts(loss).await[0], "10 3 7 0.700000");
    let kept = world.database.texts("select unannounced::text from vobiz.ledger_day order by day").await;
    assert_eq!(kept[0], "7");
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_appended_to_only() {
    let (world, _, _) = settled_day().await;
    for sql in [
        "update vobiz.ledger_check set state = 'settled'",
        "update vobiz.ledger_total set total_there = 0",
        "update vobiz.safe_to_bill_move set safe_to = vobiz.now()",
        "truncate vobiz.ledger_difference",
    ] {
        let refused = sqlx::query(sql).execute(&world.database.pool).await.unwrap_err().to_string();
        assert!(refused.contains("what is in it is evidence"), "{refused}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_that_trickle_in_do_not_have_a_day_listed_every_hour() {
    let (world, _, calls) = settled_day().await;
    let mut waits = Vec::new();
    for n in 0..6 {
        world.vobiz.revise(&calls[n], |call| call.cost += rust_decimal::Decimal::ONE).unwrap();
        world.sweep().await;
        let wait = "select (extract(epoch from check_at - reopened_at) / 60)::int from vobiz.provider_day where reopened_at is not null";
        waits.push(world.text(wait).await);
        // Another change meanwhile does not put it off.
        world.vobiz.revise(&calls[n + 10], |call| call.cost += rust_decimal::Decimal::ONE).unwrap();
        world.sweep().await;
        assert_eq!(world.text(wait).await, waits[n]);
        hurry(&world).await;
        check(&world).await;
    }
    // The 24 h of the schedule may come before.
    assert_eq!(waits[..4], ["10", "40", "160", "640"]);
    assert!(waits[4..].iter().all(|wait| wait.parse::<i32>().unwrap() <= 1440), "{waits:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_deleted_and_comes_again_goes_on_counting() {
    let (world, _, calls) = settled_day().await;
    world.database.run(&format!("delete from vobiz.cdr where call_id = '{}'", calls[0])).await;
    world.vobiz.revise(&calls[0], |call| call.cost = "0.50".parse().unwrap()).unwrap();
    hurry(&world).await;
    check(&world).await;
    assert_eq!(
        world.text(&format!("select revision from vobiz.cdr where call_id = '{}'", calls[0])).await,
        "2"
    );
    let change = format!(
        "select concat_ws(' ', field, was, \"is\") from vobiz.cdr_change where call_id = '{}' order by 1",
        calls[0]
    );
    assert_eq!(world.database.texts(&change).await, ["cost 0.45 0.5", "total_cost 0.45 0.5"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_a_backlog_but_not_for_ever() {
    let (world, _, _) = settled_day().await;
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'").await;
    for n in 0..40 {
        world.owe(&format!("behind-{n}"), true).await;
    }
    // So slow that single fetches would take four seconds.
    let slow = account(&world.database.pool, &world.vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 10.0);
    let ledger = Ledger::new(world.database.pool.clone(), vec![slow.clone()], Duration::ZERO, Metrics::new());
    let stop = CancellationToken::new();
    let checked = async || ledger.check_if_due(&slow, &stop).await.unwrap().is_some();
    assert!(!checked().await, "the walk through the backlog comes first");
    world
        .database
        .run("update vobiz.provider_day set check_at = vobiz.now() - interval '2 hours' where state = 'settled'")
        .await;
    assert!(checked().await, "it has waited for long enough");
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'").await;
    world.database.run("update vobiz.cdr_queue set due_at = vobiz.now() + interval '1 hour'").await;
    assert!(checked().await, "nothing is due");
    world.end().await;
}
