//! A backlog that the list resolves: its calls are reserved for the reader of the list, and for no longer than that.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection;
use vobiz_cdr::db::base::work_lease::{LENGTH, WorkLease, is_lost};
use vobiz_cdr::db::queue::backlog;

use crate::support::calls::{account as id, replica, try_lease};
use crate::support::database::Database;
use crate::support::wait::until;

#[tokio::test]
async fn a_reservation_keeps_calls_from_leasing_and_that_of_a_dead_replica_runs_out() {
    let db = Database::new().await;
    db.owe(&["a", "b"], true).await;
    db.owe(&["c"], false).await;
    let due_to = db.now().await;
    db.reserve(due_to, Duration::from_secs(60)).await;
    assert!(db.lease(9).await.is_empty());
    let any_due =
        async || vobiz_cdr::db::queue::any_due(&mut *db.connection().await, &replica()).await.unwrap();
    assert!(!any_due().await, "a worker that drains the queue does not wait for the list");
    // What falls due later is leased, certain or not.
    db.owe(&["d"], true).await;
    db.owe(&["e"], false).await;
    assert!(any_due().await);
    let leased = db.lease(9).await;
    let mut later: Vec<&str> = leased.iter().map(|lease| lease.call_id().as_str()).collect();
    later.sort_unstable();
    assert_eq!(later, ["d", "e"]);
    // Each says so: no scan may start behind the reserved ones because of it.
    assert!(leased.iter().all(|lease| lease.beside_reservation));
    // Another one's hold is not ended by accident.
    backlog::release(&mut *db.connection().await, &id(), due_to - TimeDelta::seconds(1)).await.unwrap();
    assert!(db.lease(9).await.is_empty());
    db.shift_clock("59 seconds").await;
    assert!(db.lease(9).await.is_empty());
    db.shift_clock("61 seconds").await;
    assert!(any_due().await);
    let leased = db.lease(9).await;
    assert_eq!(leased.len(), 5, "the three that were held, and two whose leases ended");
    assert!(leased.iter().all(|lease| !lease.beside_reservation), "the reservation ran out");
    let ended = async || {
        backlog::release(&mut *db.connection().await, &id(), due_to).await.unwrap();
        db.text("select listing_until::text from vobiz.account").await
    };
    assert_eq!(ended().await, "-");
}

/// What the index and the table gave to read so far.
async fn read(connection: &mut sqlx::PgConnection) -> i64 {
    sqlx::raw_sql("select pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar(
        "select (idx_tup_read + (select seq_tup_read from pg_stat_user_tables where relname = 'cdr_queue'))::bigint
         from pg_stat_user_indexes where indexrelname = 'cdr_queue_due'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_lease_costs_the_same_however_many_calls_of_each_priority_wait() {
    for due in ["- interval '1 day'", "+ interval '1 day'"] {
        let db = Database::new().await;
        db.run(&format!(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, by_secret, attempts, due_at)
             select 'call-' || n, case n % 10 when 0 then 'MA_OTHER001' else 'MA_TESTAB12' end, true, n % 4 > 0, n % 4 > 1, n % 2,
                    vobiz.now() {due} + n * interval '10 ms'
             from generate_series(1, 100000) n"
        ))
        .await;
        db.run("analyze vobiz.cdr_queue").await;
        db.owe(&["fresh"], true).await;
        let mut connection = db.connection().await;
        let before = read(&mut connection).await;
        let leases = try_lease(&mut connection, 9).await.unwrap();
        let after = read(&mut connection).await;
        assert!(leases.iter().any(|lease| lease.call_id().as_str() == "fresh"), "{due}");
        assert!(after - before < 60, "{} entries were read for one lease, due {due}", after - before);
        let counted = backlog::snapshot(&mut connection, &id(), 10.0).await.unwrap().unwrap();
        assert_eq!(counted.is_backlog(), due.starts_with('-'));
        let counting = read(&mut connection).await - after;
        assert!(counting < 200, "{counting} entries were read to see a backlog, due {due}");
    }
}

#[tokio::test]
async fn a_holder_that_was_only_slow_reserves_nothing_more() {
    // Its lease ran out, or its session was ended under it.
    for ran_out in [true, false] {
        let db = Database::new().await;
        let (mut slow, mut next) = (db.connection().await.detach(), db.connection().await);
        let (account, minute) = (id(), Duration::from_secs(60));
        let name = backlog::lease_name(&account);
        let slows = WorkLease::take(&mut slow, &name).await.unwrap().unwrap();
        let due_to = db.now().await;
        backlog::reserve(&mut slow, &slows, &account, due_to, minute).await.unwrap();
        let abandoned = async || {
            backlog::snapshot(&mut *db.connection().await, &account, 10.0).await.unwrap().unwrap().abandoned
        };
        assert!(!abandoned().await, "it drains");
        if ran_out {
            db.shift_clock(&format!("{} seconds", LENGTH.as_secs() + 1)).await;
            assert!(!abandoned().await, "nothing is reserved any more");
        } else {
            slow.close().await.unwrap();
            until("its session is gone", async || abandoned().await).await;
            slow = db.connection().await.detach();
        }
        let nexts = WorkLease::take_soon(&mut next, &name).await.unwrap().unwrap();
        assert!(backlog::void(&mut next, &nexts, &account).await.unwrap(), "{ran_out}");
        assert!(!backlog::void(&mut next, &nexts, &account).await.unwrap(), "there is none");
        let reserved = async || db.text("select listed_due_to::text from vobiz.account").await;
        assert_eq!(reserved().await, "-");
        // It comes back: with nothing reserved, and beside what the next one has.
        for _ in 0..2 {
            let lost = backlog::reserve(&mut slow, &slows, &account, due_to, minute).await.unwrap_err();
            assert!(is_lost(&lost), "{lost}");
            let lost = backlog::void(&mut slow, &slows, &account).await.unwrap_err();
            assert!(is_lost(&lost), "{lost}");
            backlog::reserve(&mut next, &nexts, &account, db.now().await, minute).await.unwrap();
            backlog::release(&mut slow, &account, due_to).await.unwrap();
            assert_ne!(reserved().await, "-");
        }
    }
}

#[tokio::test]
async fn a_lease_costs_the_same_however_many_calls_are_reserved() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
         select 'held-' || n, 'MA_TESTAB12', true, n % 2 = 0, vobiz.now() - interval '1 day' + n * interval '1 s'
         from generate_series(1, 60000) n",
    )
    .await;
    db.run("analyze vobiz.cdr_queue").await;
    let due_to = db.now().await;
    db.reserve(due_to, Duration::from_secs(60)).await;
    db.owe(&["fresh"], true).await;
    let mut connection = db.connection().await;
    let before = read(&mut connection).await;
    assert_eq!(try_lease(&mut connection, 9).await.unwrap().len(), 1);
    let after = read(&mut connection).await;
    assert!(after - before < 50, "{} entries of the index were read for one lease", after - before);
}
