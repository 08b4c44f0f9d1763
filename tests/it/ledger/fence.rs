//! A check and those who write beside it: none of them is missed, and none of them waits without need.

use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::ledger;
use vobiz_cdr::ledger::Ledger;
use vobiz_cdr::simulator::{CallSpec, RequestKind, SimulatorOptions};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::calls::account as id;
use crate::support::database::ACCOUNT;
use crate::support::world::{World, eventually, noon, options};

const INSERT: &str =
    "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
     select $1, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time from vobiz.cdr limit 1";

/// A world at noon in India with one stored call of the day before yesterday, whose beginning is returned; its check is due.
async fn one_call(latency: Duration) -> (World, DateTime<Utc>) {
    let world = World::with(SimulatorOptions { day_zone: 330, latency, ..options() }).await;
    let began = noon(&world.database, &world.vobiz, 330).await - TimeDelta::days(2);
    sqlx::query("update vobiz.account set ledger_since = $1, registered_at = $1")
        .bind(began)
        .execute(&world.database.pool)
        .await
        .unwrap();
    world.vobiz.place_call(CallSpec {
        started_at: Some(began + TimeDelta::hours(3)),
        ended_at: Some(began + TimeDelta::hours(3) + TimeDelta::seconds(60)),
        ..CallSpec::default()
    });
    world.sweep().await;
    (world, began)
}

fn checker(world: &World) -> Ledger {
    Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new())
}

async fn days(world: &World) -> Vec<String> {
    world
        .database
        .texts("select concat_ws(' ', state, calls_here, reason) from vobiz.ledger_day order by day")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_whoever_was_writing_when_it_began_and_sees_what_they_wrote() {
    let (world, _) = one_call(Duration::ZERO).await;
    let mut early = world.database.pool.begin().await.unwrap();
    sqlx::query(INSERT).bind("early").execute(&mut *early).await.unwrap();
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    let before = world.vobiz.stats().requests_of(RequestKind::List);
    let account = world.accounts[0].clone();
    let mut check = pin!(ledger.check_if_due(&account, &stop));
    assert!(timeout(Duration::from_millis(1500), &mut check).await.is_err(), "it did not wait");
    assert_eq!(world.vobiz.stats().requests_of(RequestKind::List), before, "waiting costs no request");
    early.commit().await.unwrap();
    let checked = check.await.unwrap().unwrap();
    assert_eq!(checked.state.as_str(), "differs");
    assert!(checked.reason.unwrap().contains("1 call is missing at Vobiz: early"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_something_else_holds_up_no_check() {
    let (world, _) = one_call(Duration::ZERO).await;
    let mut elsewhere = world.database.pool.begin().await.unwrap();
    sqlx::query("create table public.of_theirs as select 1 as one").execute(&mut *elsewhere).await.unwrap();
    sqlx::query("select from vobiz.cdr for key share").execute(&mut *elsewhere).await.unwrap();
    let ledger = checker(&world);
    let stop = CancellationToken::new();
    let check = ledger.check_if_due(&world.accounts[0], &stop);
    let checked = timeout(Duration::from_secs(10), check).await.expect("it waited").unwrap().unwrap();
    assert_eq!(checked.state.as_str(), "settled");
    elsewhere.rollback().await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_after_it_began_reopens_the_day() {
    let (world, _) = one_call(Duration::ZERO).await;
    let mut connection = world.database.connection().await;
    let due = ledger::due(&mut connection, &id(), Duration::ZERO).await.unwrap().unwrap();
    let check = ledger::begin(&mut connection, &id(), due.day).await.unwrap();
    let mut late = world.database.pool.begin().await.unwrap();
    sqlx::query(INSERT).bind("late").execute(&mut *late).await.unwrap();
    assert!(
        check.writers.have_ended(&mut connection).await.unwrap(),
        "it is none of those that are waited for"
    );
    let held =
        sqlx::query("select from vobiz.provider_day where day = $1 for no key update nowait").bind(due.day);
    assert!(held.execute(&mut *connection).await.is_err(), "it holds the row of the day until it commits");
    late.commit().await.unwrap();
    let reopened =
        world.database.count("select count(*) from vobiz.provider_day where reopened_at is not null").await;
    assert_eq!(reopened, 1);
    // With an old snapshot it could not know of the check.
    let mut old = world.database.pool.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *old).await.unwrap();
    let refused = sqlx::query(INSERT).bind("old").execute(&mut *old).await.unwrap_err().to_string();
    assert!(refused.contains("transaction that is repeatable read"), "{refused}");
    drop(old);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_loses_its_connection_says_nothing() {
    let (world, _) = one_call(Duration::from_millis(700)).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    let cut = async {
        let holder = "select count(pg_terminate_backend(pid)) from pg_locks
             where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
        eventually("its connection is cut", Duration::from_secs(5), async || {
            world.database.count("select count(*) from vobiz.provider_day where began_at is not null").await
                == 1
                && world.database.count(holder).await >= 1
        })
        .await;
    };
    let (checked, ()) = tokio::join!(ledger.check_if_due(&world.accounts[0], &stop), cut);
    assert!(checked.is_err(), "{checked:?}");
    assert_eq!(world.database.count("select count(*) from vobiz.ledger_check").await, 0);
    let held_by = world.text("select held_by from vobiz.safe_to_bill").await;
    assert!(
        held_by.contains("cannot be compared: ") && held_by.contains("it is tried again at"),
        "{held_by}"
    );
    // What it left behind harms nobody.
    world.database.run("update vobiz.provider_day set check_at = from_at where began_at is not null").await;
    let checked = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().unwrap();
    assert_eq!(checked.state.as_str(), "settled");
    assert_eq!(
        world.database.count("select count(*) from vobiz.provider_day where error is not null").await,
        0
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_being_compared_holds_up_only_who_changes_its_calls() {
    let (world, began) = one_call(Duration::ZERO).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    while ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
    assert_eq!(days(&world).await[..2], ["settled 1", "settled"]);
    // As a comparison does.
    let mut compares = world.database.pool.begin().await.unwrap();
    sqlx::query("select from vobiz.provider_day where day = (select min(day) from vobiz.provider_day) for no key update")
        .execute(&mut *compares)
        .await
        .unwrap();
    let write = |call_id: &'static str, days: i64| {
        let pool = world.database.pool.clone();
        let sql = format!(
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
             select '{call_id}', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                    start_time + interval '{days} days' from vobiz.cdr where start_time < $1 limit 1"
        );
        let bound = began + TimeDelta::days(1);
        async move { sqlx::query(AssertSqlSafe(sql)).bind(bound).execute(&pool).await.unwrap() }
    };
    let waits = tokio::spawn(write("of-the-day", 0));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waits.is_finished(), "it did not wait");
    timeout(Duration::from_secs(5), write("of-the-next-day", 1)).await.expect("another day waited");
    compares.commit().await.unwrap();
    waits.await.unwrap();
    let reopened = "select state from vobiz.ledger_day where to_at < vobiz.now()";
    assert_eq!(world.database.texts(reopened).await, ["reopened", "reopened"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reopens_the_days_of_those_whose_lists_have_shown_the_call() {
    let (world, began) = one_call(Duration::ZERO).await;
    let (day, from) = ((began + TimeDelta::hours(6)).date_naive(), began);
    world
        .database
        .run(&format!(
            "insert into vobiz.account (account_id) values ('MA_PARENT01'), ('MA_STRANGER');
             insert into vobiz.listed_owner (account_id, owner) values ('MA_PARENT01', '{ACCOUNT}');
             insert into vobiz.provider_day (account_id, day, from_at, to_at, began_at)
             select a.account_id, '{day}', '{from}', '{from}'::timestamptz + interval '1 day', vobiz.now() from vobiz.account a"
        ))
        .await;
    world.database.run("update vobiz.cdr set cost = cost + 1").await;
    let reopened = "select account_id from vobiz.provider_day where reopened_at is not null order by 1";
    assert_eq!(world.database.texts(reopened).await, ["MA_PARENT01", ACCOUNT]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_billing_zone_moves_the_days_of_the_ledger() {
    let (world, _) = one_call(Duration::ZERO).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    while ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
    assert_eq!(days(&world).await[..2], ["settled 1", "settled"]);
    // Nothing was learnt from the lists: the days are those of the billing zone.
    world.database.run("update vobiz.account set day_offset = null").await;
    world.database.run("update vobiz.setting set billing_zone = 'America/New_York'").await;
    let astray = "select count(*) from vobiz.provider_day d where (from_at, to_at) is distinct from
                    (vobiz.provider_day_start(account_id, day), vobiz.provider_day_start(account_id, day + 1))";
    assert_eq!(world.database.count(astray).await, 0);
    // The call, of three in the morning in India, belongs to the day before now; no other one changes over.
    let states = "select concat_ws(' ', state, reopened_at is not null) from vobiz.provider_day order by day";
    assert_eq!(world.database.texts(states).await, ["settled t", "settled f", "open f"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_older_than_the_check_reopens_the_day() {
    let (world, _) = one_call(Duration::ZERO).await;
    world
        .database
        .run(
            "insert into vobiz.provider_day (account_id, day, from_at, to_at, began_at)
             select account_id, (vobiz.now() at time zone 'UTC')::date, vobiz.now() - interval '25 hours',
                    vobiz.now() - interval '1 hour' + interval '1 s', vobiz.now() from vobiz.account",
        )
        .await;
    let reopened = "select count(*) from vobiz.provider_day where reopened_at is not null";
    assert_eq!(world.database.count(reopened).await, 0);
    // When it began, the call was younger than an hour.
    world
        .database
        .run(&format!(
            "begin; select pg_sleep(1); {}; commit",
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
             select 'late', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                    vobiz.now() - interval '1 hour' + interval '500 ms' from vobiz.cdr limit 1"
        ))
        .await;
    assert_eq!(world.database.count(reopened).await, 1);
    world.end().await;
}
