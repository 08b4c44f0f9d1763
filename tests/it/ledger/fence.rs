//! A check and those who write beside it: none of them is missed, and none of them waits without need.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::base::work_lease::WorkLease;
use vobiz_cdr::db::bill::proof;
use vobiz_cdr::db::cdr::Origin;
use vobiz_cdr::db::ledger;
use vobiz_cdr::simulator::RequestKind;

use super::{INSERT, check, checker, one_call, settled_day};
use crate::support::calls::account as id;
use crate::support::wait::{in_the_end, until};
use crate::support::world::World;

async fn days(world: &World) -> Vec<String> {
    world
        .database
        .texts("select concat_ws(' ', state, calls_here, reason) from vobiz.ledger_day order by day")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_the_writers_of_when_it_began_and_sees_what_they_wrote() {
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
async fn a_writer_of_something_else_holds_up_no_check() {
    let (world, _) = one_call(Duration::ZERO).await;
    let mut elsewhere = world.database.pool.begin().await.unwrap();
    sqlx::query("create table public.of_theirs as select 1 as one").execute(&mut *elsewhere).await.unwrap();
    sqlx::query("select from vobiz.cdr for key share").execute(&mut *elsewhere).await.unwrap();
    let ledger = checker(&world);
    let stop = CancellationToken::new();
    let check = Box::pin(ledger.check_if_due(&world.accounts[0], &stop));
    let checked = in_the_end("it does not wait", check).await.unwrap().unwrap();
    assert_eq!(checked.state.as_str(), "settled");
    elsewhere.rollback().await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_after_it_began_reopens_the_day() {
    let (world, _) = one_call(Duration::ZERO).await;
    let mut connection = world.database.connection().await;
    let due = ledger::due(&mut connection, &id(), Duration::ZERO).await.unwrap().unwrap();
    ledger::begin(&mut connection, &id(), due.day).await.unwrap();
    let writers = ledger::writers(&mut connection).await.unwrap();
    let mut late = world.database.pool.begin().await.unwrap();
    sqlx::query(INSERT).bind("late").execute(&mut *late).await.unwrap();
    assert!(writers.have_ended(&mut connection).await.unwrap(), "it is none of those that are waited for");
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
    let (world, _) = one_call(Duration::ZERO).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    // It has begun, and waits for this one.
    let mut early = world.database.pool.begin().await.unwrap();
    sqlx::query(INSERT).bind("early").execute(&mut *early).await.unwrap();
    let cut = async {
        let holder = "select count(pg_terminate_backend(pid)) from vobiz.work_lease where name like 'day %' and pid is not null";
        until("its connection is cut", async || {
            world.database.count("select count(*) from vobiz.provider_day where began_at is not null").await
                == 1
                && world.database.count(holder).await >= 1
        })
        .await;
    };
    let (checked, ()) = tokio::join!(ledger.check_if_due(&world.accounts[0], &stop), cut);
    early.rollback().await.unwrap();
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
async fn a_check_that_lost_its_lease_writes_nothing() {
    // Another process takes it: as the check begins, as it stores a page, and after it has noted one.
    for at in ["vobiz.provider_day", "vobiz.cdr", "vobiz.listed_call"] {
        let (world, _) = one_call(Duration::ZERO).await;
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        world
            .database
            .run(&format!(
                "create function vobiz.take_away() returns trigger language plpgsql as $$
                   begin update vobiz.work_lease set fence = fence + 1 where name like 'day %'; return null; end $$;
                 create trigger take_away after insert or update on {at} for each statement execute function vobiz.take_away()"
            ))
            .await;
        let checked = ledger.check_if_due(&world.accounts[0], &stop).await;
        let error = checked.unwrap_err().to_string();
        assert!(error.contains("was lost to another process"), "{at}: {error}");
        assert_eq!(world.database.count("select count(*) from vobiz.ledger_check").await, 0, "{at}");
        let said = "select count(*) from vobiz.provider_day where error is not null";
        assert_eq!(world.database.count(said).await, 0, "{at}: of that day the other one speaks");
        // The other one.
        world.database.run("drop function vobiz.take_away cascade").await;
        until("its session is gone", async || {
            world.database.count(
                "select count(*) from vobiz.work_lease l where name like 'day %' and exists (select from pg_stat_activity a where a.pid = l.pid)",
            )
            .await
                == 0
        })
        .await;
        let checked = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().unwrap();
        assert_eq!(checked.state.as_str(), "settled", "{at}");
        world.end().await;
    }
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
    in_the_end("another day does not wait", write("of-the-next-day", 1)).await;
    compares.commit().await.unwrap();
    waits.await.unwrap();
    let reopened = "select state from vobiz.ledger_day where to_at < vobiz.now()";
    assert_eq!(world.database.texts(reopened).await, ["reopened", "reopened"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_another_opens_while_it_is_checked_is_not_settled_by_that_check() {
    // As its page is noted, and as it compares.
    for at in ["vobiz.listed_call", "vobiz.ledger_check"] {
        let (world, _) = one_call(Duration::ZERO).await;
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        // What is done to a day that was compared under a clock that was ahead.
        world
            .database
            .run(&format!(
                "create function vobiz.open_days() returns trigger language plpgsql as $$
                   begin update vobiz.provider_day set began_at = null; return null; end $$;
                 create trigger open_days after insert on {at} for each statement execute function vobiz.open_days()"
            ))
            .await;
        let error = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap_err().to_string();
        assert!(error.contains("opened again while it was checked"), "{at}: {error}");
        assert_eq!(world.database.count("select count(*) from vobiz.ledger_check").await, 0, "{at}");
        let held_by = world.text("select held_by from vobiz.safe_to_bill").await;
        assert!(held_by.contains("cannot be compared: "), "{at}: {held_by}");
        world.database.run("drop function vobiz.open_days cascade").await;
        world.database.run("update vobiz.provider_day set check_at = from_at where error is not null").await;
        let checked = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().unwrap();
        assert_eq!(checked.state.as_str(), "settled", "{at}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_check_that_begins_or_ends_just_now_is_no_clock_that_is_ahead() {
    let (world, _, _) = settled_day().await;
    let safe = "select safe_to::text from vobiz.safe_to_bill";
    let settled = world.text(safe).await;
    let mut connection = world.database.connection().await;
    for column in ["began_at", "checked_at"] {
        // A statement that began a moment before others committed sees what they wrote later than its own now.
        for (ahead, days) in [("0.4 seconds", 0), ("20 seconds", 0), ("2 hours", 1)] {
            let day = "(select min(day) from vobiz.provider_day)";
            let set = format!(
                "update vobiz.provider_day set {column} = vobiz.now() + interval '{ahead}' where day = {day}"
            );
            world.database.run(&set).await;
            if days == 0 {
                assert_eq!(world.text(safe).await, settled, "{column} {ahead}");
            }
            ledger::due(&mut connection, &id(), Duration::ZERO).await.unwrap();
            let open =
                format!("select count(*) from vobiz.provider_day where day = {day} and state = 'open'");
            assert_eq!(world.database.count(&open).await, days, "{column} {ahead}");
            let unsaid =
                "select count(*) from vobiz.provider_day where state = 'settled' and began_at is null";
            assert_eq!(world.database.count(unsaid).await, 0);
        }
        check(&world).await;
    }
    // Nor can anybody else leave a day settled whose changes reopen nothing.
    let unsaid = sqlx::query("update vobiz.provider_day set began_at = null where state = 'settled'");
    let refused = unsaid.execute(&mut *connection).await.unwrap_err();
    assert!(refused.to_string().contains("settled_was_begun"), "{refused}");
    world.end().await;
}

/// Waits until a session has begun so many transactions that wait for a row.
async fn tried(world: &World, times: usize) {
    let waiting = "select a.xact_start::text from pg_stat_activity a join pg_locks l on l.pid = a.pid
         where l.locktype = 'transactionid' and not l.granted and a.datname = current_database()";
    let mut begun = BTreeSet::new();
    until("it has tried again", async || {
        begun.extend(world.database.texts(waiting).await);
        begun.len() >= times
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_its_turn_and_reads_its_list_once() {
    let (world, _) = one_call(Duration::ZERO).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    let mut proves = world.database.pool.begin().await.unwrap();
    proof::lock(&mut proves).await.unwrap();
    let turns = async {
        // Each try gives up by itself.
        tried(&world, 2).await;
        let listed = world.vobiz.stats().requests_of(RequestKind::List);
        let mut writes = world.database.pool.begin().await.unwrap();
        let days = sqlx::query("select from vobiz.provider_day for no key update");
        days.execute(&mut *writes).await.unwrap();
        proves.rollback().await.unwrap();
        // As it compares, and twice before it does so again.
        tried(&world, 3).await;
        writes.rollback().await.unwrap();
        listed
    };
    let account = &world.accounts[0];
    let (checked, listed) = tokio::join!(ledger.check_if_due(account, &stop), turns);
    let checked = checked.unwrap().unwrap();
    assert_eq!(checked.state.as_str(), "settled");
    assert_eq!(world.vobiz.stats().requests_of(RequestKind::List), listed, "nothing is read a second time");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_replica_does_it_on_one_session() {
    let (world, _) = one_call(Duration::ZERO).await;
    let (ledger, stop) = (checker(&world), CancellationToken::new());
    let due = ledger::due(&mut *world.database.connection().await, &id(), Duration::ZERO).await.unwrap();
    let mut other = world.database.connection().await;
    let lease = WorkLease::take(&mut other, &ledger::lease_name(&id())).await.unwrap().unwrap();
    // A statement that takes nothing is a try as well.
    world
        .database
        .run(
            "create table vobiz.tried (pid integer);
             create function vobiz.try() returns trigger language plpgsql as $$
               begin insert into vobiz.tried values (pg_backend_pid()); return null; end $$;
             create trigger try after update on vobiz.work_lease for each statement execute function vobiz.try()",
        )
        .await;
    let give_way = async {
        let tries = "select count(*) from vobiz.tried";
        until("it has tried several times", async || world.database.count(tries).await >= 3).await;
        let sessions = "select count(distinct pid) from vobiz.tried";
        let waiting = world.database.count(sessions).await;
        // A session that is ended while it waits is no failure of the check.
        world
            .database
            .run("select pg_terminate_backend(pid) from (select distinct pid from vobiz.tried) t")
            .await;
        until("it tries on another one", async || world.database.count(sessions).await > waiting).await;
        let seen = world.database.count(sessions).await;
        lease.give_back(&mut other).await.unwrap();
        (waiting, seen)
    };
    let account = &world.accounts[0];
    let check = ledger.check_day(account, due.unwrap(), Origin::Manual, &stop);
    let (checked, sessions) = tokio::join!(check, give_way);
    assert_eq!((checked.unwrap().state.as_str(), sessions), ("settled", (1, 2)));
    world.end().await;
}
