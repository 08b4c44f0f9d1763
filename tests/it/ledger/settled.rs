//! Settled days hold what Vobiz listed, and `verify` proves it whatever went past the triggers.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::ledger::reopen::reopen;
use vobiz_cdr::db::ledger::settled::{SettledDays, compare};
use vobiz_cdr::ledger::prove_sums;
use vobiz_cdr::simulator::CallSpec;
use vobiz_cdr::watch::metrics::Metrics;

use super::{at, check, check_again, hurry, safe_to, settled_day, states};
use crate::support::database::Database;
use crate::support::process::{program, run};
use crate::support::wait::until;
use crate::support::world::World;

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
            prove_until(&world, "the day is reopened", async || world.database.count(day).await > 0).await;
        } else {
            let repaired = run(program(&["verify", "--repair"]).env("DATABASE_URL", &world.database.url));
            assert_eq!(repaired.status.code(), Some(1), "{damage}: {}", repaired.stderr);
            assert_eq!(world.database.count(day).await, 1, "{damage}");
        }
        assert_eq!(safe_to(&world).await.0, began, "{damage}");
        world.end().await;
    }
}

/// Proves the sums day by day, as the service does, until something holds.
async fn prove_until(world: &World, what: &str, holds: impl AsyncFnMut() -> bool) {
    let (stop, metrics) = (CancellationToken::new(), Metrics::new());
    let heartbeat = metrics.heartbeats.start("sums", Duration::from_secs(180));
    let proving = tokio::spawn(prove_sums(world.database.pool.clone(), metrics, heartbeat, stop.clone()));
    until(what, holds).await;
    stop.cancel();
    proving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_broke_off_before_it_reopened_what_differs_comes_back_to_it() {
    for damage in [
        // The sums do not equal the calls; they do, but these are not what was listed.
        "update vobiz.cdr set total_cost = total_cost + 1 where call_id = (select min(call_id) from vobiz.cdr)",
        "update vobiz.ledger_owner_total set calls = calls + 1",
    ] {
        let (world, _, _) = settled_day().await;
        let db = &world.database;
        db.run(&format!("begin; set local session_replication_role = replica; {damage}; commit")).await;
        // A sequence counts what is rolled back, too.
        db.run(
            "create sequence vobiz.tried;
             create function vobiz.not_now() returns trigger language plpgsql as $$
               begin perform nextval('vobiz.tried'); raise exception 'not now'; end $$;
             create trigger not_now before update on vobiz.provider_day for each row execute function vobiz.not_now()",
        )
        .await;
        let tried = "select is_called::int::bigint from vobiz.tried";
        prove_until(&world, "it broke off", async || db.count(tried).await == 1).await;
        let done = "select count(*) from vobiz.task where name = 'prove sums' and (done > 0 or finished_at is not null)";
        assert_eq!(db.count(done).await, 0, "{damage}: the day was not done");
        db.run("drop function vobiz.not_now cascade").await;
        prove_until(&world, "the day is reopened", async || reopened(&world).await == ["0"]).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_reopened_in_the_order_in_which_all_lock_them() {
    let (world, began, _) = settled_day().await;
    let db = &world.database;
    for hours in [30.0, 31.0] {
        at(&world, began, hours);
    }
    world.sweep().await;
    hurry(&world).await;
    check(&world).await;
    // Two days, of three accounts, differ. In the table the first lies last.
    db.run(
        "begin; set local session_replication_role = replica;
         insert into vobiz.account (account_id, ledger_since, registered_at)
         select n, a.ledger_since, a.registered_at from vobiz.account a cross join unnest('{SA_B00001,SA_A00001}'::text[]) n;
         insert into vobiz.provider_day (account_id, day, from_at, to_at, state, began_at, checked_at, check_id)
         select n, d.day, d.from_at, d.to_at, d.state, d.began_at, d.checked_at, d.check_id
         from vobiz.provider_day d cross join unnest('{SA_B00001,SA_A00001}'::text[]) n where d.state = 'settled';
         update vobiz.ledger_owner_total set calls = calls + 1;
         update vobiz.provider_day set error = error
         where (account_id, day) = (select account_id, day from vobiz.provider_day order by account_id, day limit 1);
         commit",
    )
    .await;
    let mut differing = compare(&mut *db.connection().await, None, None, None).await.unwrap().differences;
    differing.reverse();
    let first = differing.last().unwrap().clone();
    assert!(differing.len() >= 3, "{differing:?}");
    let mut writer = db.pool.begin().await.unwrap();
    let hold = "select from vobiz.provider_day where account_id = $1 and day = $2 for no key update nowait";
    let row = sqlx::query(hold).bind(&first.account_id).bind(first.day);
    row.execute(&mut *writer).await.unwrap();
    let pool = db.pool.clone();
    let given = differing.clone();
    let reopening =
        tokio::spawn(async move { reopen(&mut pool.acquire().await.unwrap(), &given).await.unwrap() });
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    until("it waits for the first", async || db.count(waits).await == 1).await;
    for next in &differing {
        // It holds none of those behind, so it cannot be waited for in a ring.
        let row = sqlx::query(hold).bind(&next.account_id).bind(next.day);
        row.execute(&mut *writer).await.unwrap();
    }
    writer.commit().await.unwrap();
    reopening.await.unwrap();
    let open = "select count(*) from vobiz.provider_day where state = 'settled' and reopened_at is not null";
    assert_eq!(db.count(open).await, i64::try_from(differing.len()).unwrap());
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_day_that_differs_only_the_days_of_its_account_are_added_up() {
    let (world, _, _) = settled_day().await;
    let db = &world.database;
    // The first day differs; whoever adds up the second one of the other account fails.
    db.run(
        "begin; set local session_replication_role = replica;
         update vobiz.ledger_owner_total set calls = calls + 1;
         insert into vobiz.account (account_id, ledger_since, registered_at)
         select 'SA_A00001', ledger_since, registered_at from vobiz.account;
         with copied as (
           insert into vobiz.ledger_check
             (account_id, day, cause, began_at, state, requests, day_of, from_at, to_at, missing_here, missing_there, differing, unreadable,
              recovered, revised, billed_elsewhere, listed_twice, wrong_sums, unannounced)
           select 'SA_A00001', day, cause, began_at, state, requests, day_of, from_at, to_at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
           from vobiz.ledger_check order by day desc limit 1
           returning id, account_id, day, from_at, to_at, state, began_at, checked_at
         ), opened as (
           insert into vobiz.provider_day (account_id, day, from_at, to_at, state, began_at, checked_at, check_id)
           select account_id, day, from_at, to_at, state, began_at, checked_at, id from copied
         )
         insert into vobiz.ledger_owner_total (check_id, owner, currency, calls, duration, billsec, cost, total)
         select id, account_id, 'INR', 1, 0, 0, 0, 'NaN' from copied;
         commit",
    )
    .await;
    let mut connection = db.connection().await;
    compare(&mut connection, None, None, None).await.unwrap_err();
    let day = db.text("select min(day)::text from vobiz.provider_day").await.parse().unwrap();
    let found = compare(&mut connection, None, Some(day), Some(day)).await.unwrap().differences;
    let found: Vec<_> = found.iter().map(|found| (found.day, found.calls_here, found.calls_there)).collect();
    assert_eq!(found, [(day, 20, 21)]);
    world.end().await;
}

/// Settled days that are open again, counted from the first of the ledger.
async fn reopened(world: &World) -> Vec<String> {
    let days = "select (d.day - vobiz.provider_day_of(a.account_id, a.ledger_since))::text
                from vobiz.provider_day d join vobiz.account a using (account_id)
                where d.state = 'settled' and d.reopened_at is not null order by d.day";
    world.database.texts(days).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_that_is_made_right_reopens_the_days_of_its_calls() {
    let moved = "update vobiz.cdr set start_time = start_time + interval '24 h', end_time = end_time + interval '24 h',
                                      created_at = created_at + interval '24 h' where call_id = $call";
    let pair = "update vobiz.cdr set total_cost = total_cost + case when call_id = $call then 1 else -1 end
                where call_id in ($call, $other)";
    // A call that runs over midnight may stand in either list, and one that was moved hides behind it from the comparison of sums.
    for (by_service, over_midnight, damage, told, open) in [
        (false, false, moved, vec![0], vec!["0", "1"]),
        (false, true, moved, vec![], vec!["0", "1"]),
        (false, false, pair, vec![], vec!["0"]),
        (true, false, pair, vec![], vec!["0"]),
        (true, true, moved, vec![], vec!["0", "1"]),
    ] {
        let (world, began, calls) = settled_day().await;
        at(&world, began, 27.0);
        if over_midnight {
            let started = began + TimeDelta::hours(23);
            world.vobiz.place_call(CallSpec {
                started_at: Some(started),
                ended_at: Some(started + TimeDelta::hours(2)),
                ring_time: Some(200),
                billsec: Some(7000),
                cost: Some("70".parse().unwrap()),
                ..CallSpec::default()
            });
        }
        world.sweep().await;
        hurry(&world).await;
        check(&world).await;
        assert_eq!(settled_days(&world.database).await, (2, 21 + i64::from(over_midnight)));
        assert!(safe_to(&world).await.0 > began);
        let damage =
            damage.replace("$call", &format!("'{}'", calls[3])).replace("$other", &format!("'{}'", calls[9]));
        world
            .database
            .run(&format!("begin; set local session_replication_role = replica; {damage}; commit"))
            .await;
        let differences =
            compare(&mut *world.database.connection().await, None, None, None).await.unwrap().differences;
        let days: Vec<_> = differences.iter().map(|day| (day.calls_here, day.calls_there)).collect();
        assert_eq!(days, told.iter().map(|_: &i32| (19, 20)).collect::<Vec<_>>(), "{damage}");
        assert_eq!(reopened(&world).await, [""; 0]);
        if by_service {
            prove_until(&world, "the days are reopened", async || reopened(&world).await == open).await;
        }
        let repaired = run(program(&["verify", "--repair"]).env("DATABASE_URL", &world.database.url));
        let code = i32::from(!told.is_empty());
        assert_eq!(repaired.status.code(), Some(code), "{damage}: {}", repaired.stderr);
        assert!(repaired.stderr.contains("differed and were repaired"), "{}", repaired.stderr);
        let says = format!("{} settled day", open.len());
        assert_eq!(repaired.stderr.contains(&says), !by_service, "{}", repaired.stderr);
        assert_eq!(reopened(&world).await, open, "{damage}");
        let audited =
            "select count(*) from vobiz.audit where action = 'day_reopened' and detail->>'was' = 'settled'";
        assert_eq!(world.database.count(audited).await, i64::try_from(open.len()).unwrap());
        // All sums equal their calls now, and yet nothing goes out: Vobiz's list is asked first, and says something else.
        assert_eq!(run(program(&["verify"]).env("DATABASE_URL", &world.database.url)).status.code(), Some(0));
        assert_eq!(safe_to(&world).await.0, began, "{damage}");
        hurry(&world).await;
        check(&world).await;
        let after = states(&world).await;
        assert!(after[0].starts_with("differs"), "{damage}: {after:?}");
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
