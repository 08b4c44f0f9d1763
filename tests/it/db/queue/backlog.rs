//! A backlog that the list resolves: its calls are reserved for the reader of the list, and for no longer than that.

use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::queue::backlog;
use vobiz_cdr::db::timed;

use crate::support::calls::{account as id, replica, try_lease};
use crate::support::database::Database;

#[tokio::test]
async fn a_reservation_keeps_calls_from_leasing_and_that_of_a_dead_replica_runs_out() {
    let db = Database::new().await;
    db.owe(&["a", "b"], true).await;
    db.owe(&["c"], false).await;
    let due_to = db.now().await;
    let hold = async |due_to| {
        timed!(&db.pool, Duration::from_secs(5), |connection| backlog::reserve(
            connection,
            &id(),
            due_to,
            Duration::from_secs(60)
        ))
        .await
        .unwrap();
    };
    hold(due_to).await;
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
    backlog::reserve(&mut *db.connection().await, &id(), due_to, Duration::from_secs(60)).await.unwrap();
    db.owe(&["fresh"], true).await;
    let mut connection = db.connection().await;
    let before = read(&mut connection).await;
    assert_eq!(try_lease(&mut connection, 9).await.unwrap().len(), 1);
    let after = read(&mut connection).await;
    assert!(after - before < 50, "{} entries of the index were read for one lease", after - before);
}
