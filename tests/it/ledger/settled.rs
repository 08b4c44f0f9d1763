//! Settled days hold what Vobiz listed, and `verify` proves it whatever went past the triggers.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::ledger::settled::{SettledDays, compare};
use vobiz_cdr::ledger::prove_sums;
use vobiz_cdr::watch::metrics::Metrics;

use super::{at, check, check_again, hurry, safe_to, settled_day, states};
use crate::support::database::Database;
use crate::support::process::{program, run};
use crate::support::wait::until;

/// Asserts that no settled day differs; how many there are, and their calls.
pub(crate) async fn settled_days(database: &Database) -> (i64, i64) {
    let SettledDays { days, calls, differences } =
        compare(&mut *database.connection().await, None, None, None).await.unwrap();
    assert_eq!(differences, [], "{days} days");
    (days, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_settled_day_past_the_triggers_is_found_although_its_sums_are_repaired() {
    for (by_service, (damage, found)) in [true, false, true, false].into_iter().zip([
        ("delete from vobiz.cdr where call_id = (select min(call_id) from vobiz.cdr)", "19 20"),
        (
            "update vobiz.cdr set total_cost = total_cost + 0.0001 where call_id = (select min(call_id) from vobiz.cdr)",
            "9.0001",
        ),
        ("update vobiz.cdr set currency = 'USD' where call_id = (select min(call_id) from vobiz.cdr)", "USD"),
        // Whole days away, into a day that is settled as well: the sums of both together are right.
        (
            "update vobiz.cdr set start_time = start_time - interval '3 days' where call_id = (select min(call_id) from vobiz.cdr)",
            "19 20",
        ),
    ]) {
        let (world, began, _) = settled_day().await;
        assert_eq!(settled_days(&world.database).await, (2, 20));
        let verify = || run(program(&["verify"]).env("DATABASE_URL", &world.database.url));
        let right = verify();
        assert!(right.status.success(), "{}", right.stderr);
        let says = "the settled days hold what Vobiz listed of them: 20 calls in 2 days";
        assert!(right.stderr.contains(says), "{}", right.stderr);
        world
            .database
            .run(&format!("begin; set local session_replication_role = replica; {damage}; commit"))
            .await;
        let wrong = verify();
        assert_eq!(wrong.status.code(), Some(1), "{damage}: {}", wrong.stderr);
        assert!(wrong.stderr.contains("not what Vobiz listed"), "{damage}: {}", wrong.stderr);
        let line =
            wrong.stdout.split_whitespace().filter(|word| *word != "│" && *word != "┆").collect::<Vec<_>>();
        assert!(line.join(" ").contains(found), "{damage}: {}", wrong.stdout);
        // Whoever repairs the sums, or proves them day by day, has the day compared again: no bill goes past it until then.
        let day = "select count(*) from vobiz.provider_day where state = 'settled' and reopened_at is not null";
        if by_service {
            let (stop, metrics) = (CancellationToken::new(), Metrics::new());
            let heartbeat = metrics.heartbeats.start("sums", Duration::from_secs(180));
            let proving = tokio::spawn(prove_sums(world.database.pool.clone(), vobiz_cdr::watch::metrics::Metrics::new(), heartbeat, stop.clone()));
            until("the day is reopened", async || world.database.count(day).await > 0).await;
            stop.cancel();
            proving.await.unwrap();
        } else {
            let repaired = run(program(&["verify", "--repair"]).env("DATABASE_URL", &world.database.url));
            assert_eq!(repaired.status.code(), Some(1), "{damage}: {}", repaired.stderr);
            assert_eq!(world.database.count(day).await, 1, "{damage}");
        }
        assert_eq!(safe_to(&world).await.0, began, "{damage}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_list_shows_unreadably_is_not_settled_by_what_was_known_before() {
    for (field, unreadable) in [("billsec", "-5"), ("billsec", "\"zz\""), ("duration", "NaN")] {
        let (world, began, calls) = settled_day().await;
        world.vobiz.revise(&calls[3], |call| {
            call.set.insert(field.into(), Some(unreadable.into()));
            call.updated_at += chrono::TimeDelta::hours(1);
            // Vobiz's own summary counts nothing of it either.
            if field == "billsec" {
                call.billsec = 0;
            } else {
                call.ended_at = call.started_at;
            }
        });
        check_again(&world).await;
        let first = states(&world).await.remove(0);
        assert!(first.starts_with("differs"), "{field} {unreadable}: {first}");
        assert!(first.contains("shows unreadably is known here"), "{field} {unreadable}: {first}");
        assert_eq!(safe_to(&world).await.0, began);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_emptied_up_to_one_that_is_not_settled_are_told() {
    let (world, began, _) = settled_day().await;
    // A further day, so that the last of three borders today.
    for hours in [25.0, 26.0, 27.0] {
        at(&world, began, hours);
    }
    world.sweep().await;
    hurry(&world).await;
    check(&world).await;
    assert_eq!(settled_days(&world.database).await, (2, 23));
    let emptied = "begin; set local session_replication_role = replica; delete from vobiz.cdr; commit";
    world.database.run(emptied).await;
    let found = compare(&mut *world.database.connection().await, None, None, None).await.unwrap().differences;
    // Of the one beside today nothing is told before today is settled.
    let told: Vec<_> = found.iter().map(|day| (day.calls_here, day.calls_there)).collect();
    assert_eq!(told, [(0, 20)], "{found:?}");
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_another_configured_account_in_a_list_are_no_loss_of_the_others() {
    let (world, _, _) = settled_day().await;
    // One row of it was in a list of ours once; it has calls that our lists do not show.
    world
        .database
        .run(
            "insert into vobiz.account (account_id, ledger_since, registered_at) select 'MA_OTHER999', ledger_since, registered_at from vobiz.account;
             insert into vobiz.listed_owner select account_id, 'MA_OTHER999' from vobiz.account where account_id <> 'MA_OTHER999';
             insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, total_cost, currency)
             select 'theirs-' || call_id, 'MA_OTHER999', 'MA_OTHER999', origin, attempts, fetched_at, revision, content_hash, start_time, total_cost, currency
             from vobiz.cdr",
        )
        .await;
    world.database.run("update vobiz.provider_day set reopened_at = null").await;
    assert_eq!(settled_days(&world.database).await, (2, 20));
    // But none of ours may be missing for it, however many there are of theirs.
    for (lost, left) in [("call_id = (select min(call_id) from vobiz.cdr)", 19), ("call_id < '8'", -1)] {
        let mut connection = world.database.connection().await;
        let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let delete = format!("delete from vobiz.cdr where account_id <> 'MA_OTHER999' and {lost}");
        for statement in ["set local session_replication_role = replica", &delete] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await.unwrap();
        }
        let ours = "select count(*) from vobiz.cdr where account_id <> 'MA_OTHER999'";
        let here: i64 = sqlx::query_scalar(ours).fetch_one(&mut *transaction).await.unwrap();
        assert!(here < 20 && (left < 0 || here == left), "{here}");
        let found = compare(&mut transaction, None, None, None).await.unwrap().differences;
        let told: Vec<_> = found.iter().map(|day| (day.calls_here, day.calls_there)).collect();
        assert_eq!(told, [(here, 20)], "{lost}");
    }
    let lost = "begin; set local session_replication_role = replica;
                delete from vobiz.cdr where account_id <> 'MA_OTHER999'; delete from vobiz.cdr where account_id = 'MA_OTHER999'; commit";
    world.database.run(lost).await;
    let found = compare(&mut *world.database.connection().await, None, None, None).await.unwrap().differences;
    assert_eq!(found.len(), 1, "{found:?}");
    world.vobiz.stop().await;
}
