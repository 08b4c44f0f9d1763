//! The ledger: a day is settled only when it equals what Vobiz lists, and whatever differs shows, in words.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::account::Account;
use vobiz_cdr::ledger::Ledger;
use vobiz_cdr::simulator::{CallSpec, SimulatorOptions, SummaryCost};
use vobiz_cdr::watch::metrics::Metrics;

use super::ledger_world;
use super::{COPY, at, check, checker, hurry, safe_to, settled_day, states};
use crate::support::database::ACCOUNT;
use crate::support::running::Running;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, account, credentials, options, serve_config};

#[tokio::test(flavor = "multi_thread")]
async fn days_that_equal_the_list_are_settled_and_safe_to_bill() {
    let (world, began, _) = settled_day().await;
    let today = format!("day {} is not over", (began + TimeDelta::hours(54)).date_naive());
    assert_eq!(states(&world).await, ["settled 20 20 9.00 9.00 20", "settled 0", "open"]);
    let (safe, held_by) = safe_to(&world).await;
    assert_eq!((safe, held_by), (began + TimeDelta::days(2), today));
    let told: DateTime<Utc> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select max(to_at) from vobiz.billable_day where account_id = '{ACCOUNT}'"
    )))
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
        // At once, and before anything polls.
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
async fn a_day_that_stays_different_calls_a_person_and_shows_in_the_metrics() {
    let (world, _, calls) = settled_day().await;
    world
        .database
        .run(&format!("update vobiz.cdr set total_cost = total_cost + 1 where call_id = '{}'", calls[0]))
        .await;
    for _ in 0..3 {
        hurry(&world).await;
        check(&world).await;
    }
    let config = serve_config(&world.vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0);
    let service = Running::start(config, &world.database.url).await;
    let words =
        format!("differs from Vobiz's own rows and totals: 1 INR more here; 1 call differs: {}", calls[0]);
    // The clocks were moved, which it says as well.
    let says = async || service.acts().await.iter().any(|act| act.ends_with(&words));
    until("a person is called", says).await;
    assert_eq!(service.metric("vobiz_cdr_ledger_difference{kind=\"differs\"}").await, Some(1.0));
    assert_eq!(service.metric("vobiz_cdr_ledger_difference{kind=\"missing_here\"}").await, Some(0.0));
    let safe =
        service.metric(&format!("vobiz_cdr_safe_to_bill_timestamp_seconds{{account=\"{ACCOUNT}\"}}")).await;
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let expected = safe_to(&world).await.0.timestamp() as f64;
    assert_eq!(safe, Some(expected));
    let (_, page) = service.page("/status").await;
    assert!(page.contains("\"unsettled_days\": 1") && page.contains("\"held_by\""), "{page}");
    service.end().await;
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
    let inferred = "select concat_ws(' ', day_of, day_offset) from vobiz.account";
    assert_eq!(world.text(inferred).await, "start_time");
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
    assert!(!checked().await, "the drain of the backlog comes first");
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

/// The loop goes on to the other days meanwhile, and these succeed.
#[tokio::test(flavor = "multi_thread")]
async fn that_a_day_cannot_be_checked_is_not_over_because_another_one_can() {
    let goes_on_to_the_next_day = async |sqlstate: &str| {
        let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
        at(&world, began, 1.0);
        at(&world, began, 25.0);
        let day = (began + TimeDelta::minutes(330)).date_naive();
        let fault = format!(
            "create function refuse() returns trigger language plpgsql as $$ begin raise sqlstate '{sqlstate}'; end $$;
             create trigger refuse before update on vobiz.provider_day for each row
               when (new.check_id is distinct from old.check_id and new.day = '{day}') execute function refuse()"
        );
        world.database.run(&fault).await;
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let ledger =
            Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, metrics.clone());
        let told = stop.clone();
        let running = tokio::spawn(async move { ledger.run(told).await });
        let said = || {
            let mut lasting = metrics.lasting_conditions().into_iter();
            lasting.find(|lasting| lasting.what.starts_with("days cannot be compared"))
        };
        until_is("the other day is settled", 1, async || {
            world.database.count("select count(*) from vobiz.provider_day where state = 'settled'").await
        })
        .await;
        // After a success, ten seconds of quiet end what is over.
        until("it has been quiet", async || said().is_none_or(|said| said.began > Duration::from_secs(12)))
            .await;
        assert!(said().is_some_and(|said| said.error.contains(sqlstate)), "{:?}", said());
        world.database.run("drop trigger refuse on vobiz.provider_day").await;
        hurry(&world).await;
        until("it is over", async || said().is_none()).await;
        stop.cancel();
        running.await.unwrap();
        world.end().await;
    };
    tokio::join!(goes_on_to_the_next_day("53100"), goes_on_to_the_next_day("42501"));
}
