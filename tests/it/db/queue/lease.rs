//! Leasing: which calls, how many, and for whom.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::account::{self, Pause};
use vobiz_cdr::db::queue::{self, FetchOutcome, QueueDepth, Then};
use vobiz_cdr::retry::{ErrorClass, PauseReason};

use super::HOUR;
use crate::support::calls::{LEASE, account, failed, plain, replica, try_lease, waiting};
use crate::support::database::Database;

#[tokio::test]
async fn the_oldest_due_call_is_leased_first_and_no_more_than_asked() {
    let db = Database::new().await;
    db.owe(&["b", "c", "a", "later"], true).await;
    db.run(
        "update vobiz.cdr_queue set due_at = vobiz.now() - case call_id
           when 'b' then interval '3 s' when 'c' then interval '2 s' when 'a' then interval '1 s'
           else interval '-1 hour' end",
    )
    .await;
    let begun = db.now().await;
    let first = db.lease(2).await;
    assert_eq!(first.iter().map(|lease| lease.call_id().as_str()).collect::<Vec<_>>(), ["b", "c"]);
    let second = db.lease(9).await;
    assert_eq!(second.iter().map(|lease| lease.call_id().as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(db.lease(9).await.is_empty(), "what is leased is not due");
    assert_eq!(
        db.count("select count(distinct lease_id) from vobiz.cdr_queue where lease_id is not null").await,
        3
    );
    let soonest = begun + LEASE;
    assert_eq!(
        db.count(&format!("select count(*) from vobiz.cdr_queue where due_at >= '{soonest}'")).await,
        4,
        "a lease pushes due_at"
    );
    let before: i64 = db.count("select max(lease_id) from vobiz.cdr_queue").await;
    db.shift_clock("2 minutes").await;
    assert_eq!(db.lease(9).await.len(), 3);
    assert_eq!(db.count(&format!("select count(*) from vobiz.cdr_queue where lease_id > {before}")).await, 3);
}

#[tokio::test]
async fn certain_calls_go_before_speculative_ones() {
    let db = Database::new().await;
    db.owe(&["guess-1", "guess-2", "guess-3"], false).await;
    db.owe(&["sure-1", "sure-2"], true).await;
    let leased: Vec<String> = db.lease(3).await.iter().map(|lease| lease.call_id().to_string()).collect();
    assert_eq!(leased.iter().filter(|id| id.starts_with("sure")).count(), 2, "{leased:?}");
    assert_eq!(leased.len(), 3, "and what is left goes to the others");
}

/// Calls that never appear come back and back: however many they are, and however long they have been due, one that is new is asked for
/// first, and one that a signature proved before one that a secret did.
#[tokio::test]
async fn what_was_never_asked_for_goes_before_what_is_asked_for_again() {
    let db = Database::new().await;
    db.owe(&["new-1", "new-2"], true).await;
    db.run(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, by_secret, attempts, due_at)
         select kind || n, 'MA_TESTAB12', true, certain, by_secret, attempts, vobiz.now() - make_interval(hours => ago) + n * interval '1 s'
         from (values ('again-', true, false, 1, 3), ('by-secret-', true, true, 0, 2), ('by-secret-again-', true, true, 4, 4),
                      ('guess-', false, false, 0, 5)) as k (kind, certain, by_secret, attempts, ago)
         cross join generate_series(1, 3) n",
    )
    .await;
    let mut order: Vec<String> = Vec::new();
    for most in [1, 3, 4, 9] {
        let mut leased: Vec<String> = db
            .lease(most)
            .await
            .iter()
            .map(|lease| format!("{} {}", lease.priority, lease.call_id()))
            .collect();
        leased.sort();
        order.extend(leased);
    }
    let priorities: Vec<&str> = order.iter().map(|call| &call[..1]).collect();
    assert_eq!(priorities.concat(), "00111222222333", "{order:?}");
    assert!(order[..2].iter().all(|call| call.contains("new")), "{order:?}");
}

#[tokio::test]
async fn leasers_at_the_same_time_never_share_a_call() {
    let db = Database::new().await;
    let calls: Vec<String> = (0..300).map(|n| format!("call-{n}")).collect();
    db.owe(&calls.iter().map(String::as_str).collect::<Vec<_>>(), true).await;
    let mut leasers = tokio::task::JoinSet::new();
    for most in [1, 3, 7, 7, 11, 50] {
        let pool = db.pool.clone();
        leasers.spawn(async move {
            let mut mine = Vec::new();
            // A leaser may find all rows in other hands for a moment, so it asks a few times more.
            let mut empty = 0;
            while empty < 3 {
                let mut connection = pool.acquire().await.unwrap();
                let some = try_lease(&mut connection, most).await.unwrap();
                empty = if some.is_empty() { empty + 1 } else { 0 };
                assert!(some.len() <= most as usize);
                mine.extend(some.into_iter().map(|lease| lease.call_id().to_string()));
            }
            mine
        });
    }
    let leased: Vec<String> = leasers.join_all().await.into_iter().flatten().collect();
    assert_eq!(leased.len(), 300);
    assert_eq!(leased.into_iter().collect::<BTreeSet<_>>().len(), 300);
}

#[tokio::test]
async fn a_paused_account_leases_nothing_and_its_calls_stay_as_they_are() {
    for reason in
        [PauseReason::Throttled, PauseReason::Denied, PauseReason::Unavailable, PauseReason::Unreadable]
    {
        let db = Database::new().await;
        db.owe(&["a", "b"], true).await;
        let before = (db.owed_row("a", &[]).await, db.owed_row("b", &[]).await);
        account::pause(
            &mut *db.connection().await,
            &account(),
            &replica(),
            Pause { reason, length: HOUR, error: "said so" },
        )
        .await
        .unwrap();
        assert!(db.lease(9).await.is_empty());
        assert!(!queue::any_due(&mut *db.connection().await, &replica()).await.unwrap());
        assert_eq!((db.owed_row("a", &[]).await, db.owed_row("b", &[]).await), before, "{reason:?}");
        db.shift_clock("61 minutes").await;
        // A throttling pause ends by itself, the others wait for a probe.
        let over = reason == PauseReason::Throttled;
        assert_eq!(queue::any_due(&mut *db.connection().await, &replica()).await.unwrap(), over);
        assert_eq!(db.lease(9).await.len(), if over { 2 } else { 0 }, "{reason:?}");
        if !over {
            assert_eq!((db.owed_row("a", &[]).await, db.owed_row("b", &[]).await), before, "{reason:?}");
            account::resume(&mut *db.connection().await, &account(), &replica(), reason.as_str())
                .await
                .unwrap();
            assert_eq!(db.lease(9).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn an_account_without_slots_leases_nothing() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let before = db.owed_row("a", &[]).await;
    db.stop_clock(db.now().await).await;
    db.run("update vobiz.account set next_slot = vobiz.now() + interval '900 milliseconds'").await;
    let ahead = Duration::from_millis(250);
    let (leases, _) =
        queue::lease(&mut *db.connection().await, (&account(), &replica()), 9, 1e6, ahead, LEASE, [None; 3])
            .await
            .unwrap();
    assert!(leases.is_empty());
    assert_eq!(db.owed_row("a", &[]).await, before);
    db.run("delete from vobiz.account").await;
    assert!(db.lease(9).await.is_empty(), "an account that nobody registered");
    assert_eq!(db.owed_row("a", &[]).await, before);
}

#[tokio::test]
async fn a_dead_letter_is_never_leased_until_it_is_revived() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let lease = db.lease_one().await;
    let body = vec![b'x'; 70_000];
    let mut dead = failed(lease, ErrorClass::Unreadable, Then::Bury);
    dead.body = Some(body);
    assert_eq!(db.bury(dead).await, 1);
    assert_eq!(db.count("select length(last_body)::bigint from vobiz.cdr_queue").await, 65_536);
    db.shift_clock("1 year").await;
    assert!(db.lease(9).await.is_empty());
    let depth = queue::depth(&mut *db.connection().await).await.unwrap();
    assert_eq!(depth, QueueDepth { owed: 0, due: 0, dead: 1 });
    assert_eq!(db.revive("a").await, 1);
    assert_eq!(db.revive("a").await, 0, "it lives");
    let revived = db.lease_one().await;
    assert_eq!((revived.history.failures, revived.history.class, revived.attempts), (0, None, 1));
    assert!(revived.history.certain && revived.history.not_yet_for.is_none());
}

#[tokio::test]
async fn a_lease_that_was_cut_off_or_given_back_costs_the_call_nothing() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    db.postpone(waiting(db.lease_one().await, ErrorClass::Unavailable)).await;
    let unmoved = ["due_at", "lease_id"];
    let before = db.owed_row("a", &unmoved).await;
    drop(db.lease_one().await);
    assert_eq!(db.owed_row("a", &unmoved).await, before);
    db.shift_clock("61 seconds").await;
    let again = db.lease_one().await;
    assert_eq!((again.attempts, again.history.failures), (1, 1));
    assert_eq!(db.end(FetchOutcome::Release(again, Duration::ZERO)).await.released, 1);
    assert_eq!(db.owed_row("a", &unmoved).await, before);
    assert_eq!(db.lease_one().await.attempts, 1, "a released call is due at once");
}

#[tokio::test]
async fn a_lease_from_a_scan_start_leaves_what_fell_due_before_it() {
    let db = Database::new().await;
    db.stop_clock(db.now().await).await;
    db.owe(&["early", "late"], true).await;
    db.owe(&["guessed"], false).await;
    for (call_id, ago) in [("early", 60), ("late", 10), ("guessed", 60)] {
        sqlx::query(
            "update vobiz.cdr_queue set due_at = vobiz.now() - make_interval(secs => $2) where call_id = $1",
        )
        .bind(call_id)
        .bind(f64::from(ago))
        .execute(&db.pool)
        .await
        .unwrap();
    }
    let (now, ahead) = (db.now().await, Duration::from_secs(1));
    let scan_start = [Some(now - TimeDelta::seconds(30)), None, None];
    let mut connection = db.connection().await;
    let (leases, _) =
        queue::lease(&mut connection, (&account(), &replica()), 9, 1e6, ahead, LEASE, scan_start)
            .await
            .unwrap();
    let told: Vec<_> = leases.iter().map(|lease| lease.call_id().as_str()).collect();
    assert_eq!(
        told,
        ["guessed", "late"],
        "speculative calls know no scan start, and the first due comes first"
    );
    let late = (now - leases[1].due_at).num_seconds();
    assert_eq!(late, 10, "it says how many seconds ago it had fallen due");
    let (leases, _) =
        queue::lease(&mut connection, (&account(), &replica()), 9, 1e6, ahead, LEASE, [None; 3])
            .await
            .unwrap();
    assert_eq!(leases.len(), 1, "a search from the beginning finds it");
}

#[tokio::test]
async fn a_stored_call_is_leased_as_stored_and_takes_no_slot() {
    let db = Database::new().await;
    db.owe(&["stored", "owed"], true).await;
    let now = db.now().await;
    db.upsert(&[&plain("stored", now)]).await;
    let ahead = Duration::from_millis(250);
    let (leases, slots) = queue::lease(
        &mut *db.connection().await,
        (&account(), &replica()),
        10,
        100.0,
        ahead,
        LEASE,
        [None; 3],
    )
    .await
    .unwrap();
    let told: BTreeSet<_> = leases.iter().map(|lease| (lease.call_id().as_str(), lease.stored)).collect();
    assert_eq!(told, BTreeSet::from([("owed", false), ("stored", true)]));
    assert_eq!(slots.count, 1);
    let stored = leases.into_iter().find(|lease| lease.stored).unwrap();
    assert_eq!(db.end(FetchOutcome::Paid(stored)).await.paid, 1);
    assert_eq!(db.texts("select call_id from vobiz.cdr_queue").await, ["owed"]);
}
