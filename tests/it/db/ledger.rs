//! The days of the ledger: what reopens one, what is counted in it, and that it is evidence.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::simulator::SimulatorOptions;

use crate::ledger::ledger_world;
use crate::ledger::{at, check, checker, hurry, one_call, safe_to, settled_day, states};
use crate::support::database::ACCOUNT;
use crate::support::world::{World, options};

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_decides_a_day_reopens_it_too() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    let call = at(&world, began, 23.99);
    check(&world).await;
    // It ended in the first day and was written in the second.
    let written = began + TimeDelta::hours(24) + TimeDelta::seconds(5);
    sqlx::query(
        "update vobiz.cdr set created_at = $1, end_time = start_time + interval '5 s' where call_id = $2",
    )
    .bind(written)
    .bind(&call)
    .execute(&world.database.pool)
    .await
    .unwrap();
    world.database.run("update vobiz.provider_day set reopened_at = null").await;
    world.database.run("update vobiz.cdr set total_cost = 99").await;
    assert_eq!(
        world.database.count("select count(*) from vobiz.provider_day where reopened_at is not null").await,
        2
    );
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
    assert_eq!(world.database.texts(loss).await.len(), 0, "the days have not been checked");
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

async fn days(world: &World) -> Vec<String> {
    world
        .database
        .texts("select concat_ws(' ', state, calls_here, reason) from vobiz.ledger_day order by day")
        .await
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
                    vobiz.now() - interval '1 hour' + interval '1 minute', vobiz.now() from vobiz.account",
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

/// A check adds up the whole billing days that its day touches: where Vobiz's days are cut by another zone, two days differ by one sum.
#[tokio::test]
async fn all_days_that_differed_by_one_sum_are_due_once_it_is_right() {
    use vobiz_cdr::db::ledger::reopen::{WrongSpan, hurry_days_of_sums};
    let db = crate::support::database::Database::new().await;
    db.run(&format!(
        "with spans as (
           select d::date as day, d at time zone 'UTC' as from_at, (d + interval '1 day') at time zone 'UTC' as to_at
           from generate_series(timestamp '2026-10-08', '2026-10-13', '1 day') d
         ), checked as (
           insert into vobiz.ledger_check
             (account_id, day, cause, began_at, state, requests, day_of, from_at, to_at, missing_here, missing_there, differing, unreadable,
              recovered, revised, billed_elsewhere, listed_twice, wrong_sums, unannounced, reason)
           select '{ACCOUNT}', day, '1h', to_at, 'differs', 1, 'start_time', from_at, to_at, 0, 0, 0, 0, 0, 0, 0, 0,
                  (day <> '2026-10-12')::int, 0, 'sums'
           from spans
           returning id, day, from_at, to_at
         )
         insert into vobiz.provider_day (account_id, day, from_at, to_at, state, began_at, checked_at, check_id, check_at)
         select '{ACCOUNT}', day, from_at, to_at, 'differs', to_at, to_at, id, vobiz.now() + interval '7 days' from checked"
    ))
    .await;
    let right = [WrongSpan {
        account_id: ACCOUNT.into(),
        day: "2026-10-11".parse().unwrap(),
        quarter: Some("2026-10-11T06:00:00Z".parse().unwrap()),
    }];
    hurry_days_of_sums(&mut *db.connection().await, &right).await.unwrap();
    let due = "select day::text from vobiz.provider_day where check_at <= vobiz.now() order by day";
    // From 18:30 UTC of the tenth to 18:30 of the eleventh.
    assert_eq!(db.texts(due).await, ["2026-10-10", "2026-10-11"]);
}
