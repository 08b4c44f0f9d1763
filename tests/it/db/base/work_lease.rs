//! Work that one process does at a time, and what becomes of it when that process vanishes.

use chrono::TimeDelta;
use sqlx::Connection;
use vobiz_cdr::db::base::work_lease::{LENGTH, LeaseSession, LeasedWork, MOST_SESSIONS, WorkLease, is_lost};

use crate::support::database::Database;
use crate::support::wait::{in_the_end, until};

fn beyond_a_lease() -> TimeDelta {
    TimeDelta::from_std(LENGTH).unwrap() + TimeDelta::seconds(1)
}

#[tokio::test]
async fn one_session_has_a_lease_and_its_end_frees_it() {
    let db = Database::new().await;
    for name in ["sweep MA_1", "prove sums"] {
        let mut mine = db.connection().await;
        let mut theirs = db.connection().await;
        assert!(WorkLease::take(&mut mine, name).await.unwrap().is_some());
        assert!(WorkLease::take(&mut theirs, name).await.unwrap().is_none());
        assert!(WorkLease::take(&mut mine, name).await.unwrap().is_none(), "not twice either");
        assert!(WorkLease::take(&mut theirs, &format!("{name}2")).await.unwrap().is_some());
        mine.close().await.unwrap();
        // The server notices the end of a connection a little later.
        until("it is free", async || WorkLease::take(&mut theirs, name).await.unwrap().is_some()).await;
    }
    let mut session = LeaseSession::open(&db.pool, LeasedWork::Sweep).await.unwrap().unwrap();
    let lease = WorkLease::take(session.connection(), "given back").await.unwrap().unwrap();
    session.close([lease]).await;
    let held =
        db.count("select count(*) from vobiz.work_lease where name = 'given back' and holder is not null");
    assert_eq!(held.await, 0);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_and_its_holder_writes_nothing_more() {
    let db = Database::new().await;
    let (mut mine, mut theirs) = (db.connection().await, db.connection().await);
    for name in ["day MA_1", "day MA_2"] {
        let lost = WorkLease::take(&mut mine, name).await.unwrap().unwrap();
        db.advance_clock(TimeDelta::seconds(100)).await;
        assert!(WorkLease::take(&mut theirs, name).await.unwrap().is_none());
        let mut writes = mine.begin().await.unwrap();
        lost.fence(&mut writes).await.unwrap();
        writes.commit().await.unwrap();
        // It was renewed by that.
        db.advance_clock(TimeDelta::seconds(100)).await;
        assert!(WorkLease::take(&mut theirs, name).await.unwrap().is_none());

        db.advance_clock(beyond_a_lease()).await;
        let held = WorkLease::take(&mut theirs, name).await.unwrap().unwrap();
        let mut writes = mine.begin().await.unwrap();
        let error = lost.fence(&mut writes).await.unwrap_err();
        assert!(is_lost(&error) && error.to_string().contains(name), "{error}");
        writes.rollback().await.unwrap();
        // What it does about its end harms nobody.
        lost.give_back(&mut mine).await.unwrap();
        assert!(WorkLease::take(&mut mine, name).await.unwrap().is_none());
        let mut writes = theirs.begin().await.unwrap();
        held.fence(&mut writes).await.unwrap();
        writes.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_another_takes_just_now_is_no_clock_that_is_ahead() {
    let db = Database::new().await;
    let (mut mine, mut theirs) = (db.connection().await, db.connection().await);
    // A statement that began a moment before sees an end that is later than by its own now.
    for ahead in ["0.4 seconds", "20 seconds"] {
        assert!(WorkLease::take(&mut mine, ahead).await.unwrap().is_some());
        db.run(&format!("update vobiz.work_lease set expires_at = expires_at + interval '{ahead}'")).await;
        assert!(WorkLease::take(&mut theirs, ahead).await.unwrap().is_none(), "{ahead}");
    }
}

#[tokio::test]
async fn a_lease_that_a_clock_wrote_that_was_ahead_keeps_nobody_out() {
    let db = Database::new().await;
    let (mut mine, mut theirs) = (db.connection().await, db.connection().await);
    for ahead in ["2 hours", "40 days"] {
        db.shift_clock(ahead).await;
        assert!(WorkLease::take(&mut mine, ahead).await.unwrap().is_some());
        db.shift_clock("0").await;
        assert!(WorkLease::take(&mut theirs, ahead).await.unwrap().is_some(), "{ahead}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_a_little_takes_the_lease_from_nobody() {
    let db = Database::new().await;
    let (mut mine, mut theirs) = (db.connection().await, db.connection().await);
    for ahead in ["10 seconds", "149 seconds"] {
        db.shift_clock(ahead).await;
        let lease = WorkLease::take(&mut mine, ahead).await.unwrap().unwrap();
        db.shift_clock("0").await;
        assert!(WorkLease::take(&mut theirs, ahead).await.unwrap().is_none(), "{ahead}");
        let mut writes = mine.begin().await.unwrap();
        lease.fence(&mut writes).await.unwrap();
        writes.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_the_holder_keeps_the_lease_until_it_ends() {
    let db = Database::new().await;
    let (mut mine, mut theirs) = (db.connection().await, db.connection().await);
    let lease = WorkLease::take(&mut mine, "day MA_1").await.unwrap().unwrap();
    let mut writes = mine.begin().await.unwrap();
    lease.fence(&mut writes).await.unwrap();
    db.advance_clock(TimeDelta::hours(1)).await;
    let theirs = in_the_end("it does not wait", WorkLease::take(&mut theirs, "day MA_1")).await.unwrap();
    assert!(theirs.is_none());
    writes.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_broken_off_when_its_lease_is_lost_and_goes_on_while_it_is_held() {
    let db = Database::new().await;
    let mut session = LeaseSession::of_command(&db.pool).await.unwrap();
    let mut leases = Vec::new();
    for name in ["backfill MA_1", "backfill MA_2"] {
        leases.push(WorkLease::take(session.connection(), name).await.unwrap().unwrap());
    }
    let expiry = "select sum(extract(epoch from expires_at))::bigint from vobiz.work_lease where name like 'backfill %'";
    let before = db.count(expiry).await;
    let renewed = async {
        until("both are renewed", async || db.count(expiry).await >= before + 20).await;
        Ok::<_, sqlx::Error>("done")
    };
    assert_eq!(WorkLease::hold_all(&leases, &db.pool, renewed).await.unwrap(), "done");
    db.run("update vobiz.work_lease set fence = fence + 1 where name = 'backfill MA_2'").await;
    let broken_off =
        WorkLease::hold_all(&leases, &db.pool, std::future::pending::<Result<(), sqlx::Error>>());
    let error = in_the_end("it is broken off", broken_off).await.unwrap_err();
    assert!(is_lost(&error) && error.to_string().contains("backfill MA_2"), "{error}");
}

#[tokio::test]
async fn a_process_has_so_many_sessions_of_leases_and_long_work_takes_not_the_last() {
    let db = Database::new().await;
    let open = async |work| LeaseSession::open(&db.pool, work).await.unwrap();
    let mut long = Vec::new();
    while let Some(session) = open(LeasedWork::Long).await {
        long.push(session);
        assert!(long.len() < MOST_SESSIONS, "a sweep must find a place");
    }
    let sweep = open(LeasedWork::Sweep).await.expect("the place that is kept for a sweep");
    assert!(open(LeasedWork::Sweep).await.is_none());
    // Who waits for its turn must not stand in the way of who has what it waits for: what ends makes room, of either kind.
    long.pop().unwrap().close([]).await;
    let second = open(LeasedWork::Sweep).await.expect("a sweep takes any");
    assert!(open(LeasedWork::Long).await.is_none());
    sweep.close([]).await;
    assert!(open(LeasedWork::Long).await.is_some());
    drop(second);
    // Another database has its own; and a command that holds one for as long as it runs takes none of those of its work.
    let other = Database::new().await;
    for work in [LeasedWork::Sweep, LeasedWork::Long] {
        assert!(LeaseSession::open(&other.pool, work).await.unwrap().is_some());
    }
    let mut of_commands = Vec::new();
    for _ in 0..=MOST_SESSIONS {
        of_commands.push(LeaseSession::of_command(&other.pool).await.unwrap());
    }
    assert!(LeaseSession::open(&other.pool, LeasedWork::Long).await.unwrap().is_some());
}
