//! What an operator sees of the database: ages, pauses and counts, of the very instant.

use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::account::{self, Pause};
use vobiz_cdr::db::overview::{self, AccountSnapshot};
use vobiz_cdr::retry::PauseReason;

use crate::support::calls::{account as id, replica};
use crate::support::database::{ACCOUNT, Database};

async fn of_the_account(db: &Database) -> AccountSnapshot {
    let quick = overview::quick(&mut *db.connection().await).await.unwrap();
    assert_eq!(quick.accounts.len(), 1);
    quick.accounts.into_iter().next().unwrap()
}

#[tokio::test]
async fn the_oldest_due_call_is_told_with_and_without_those_that_the_list_brings() {
    let db = Database::new().await;
    let now = db.now().await;
    db.stop_clock(now).await;
    let seen = of_the_account(&db).await;
    assert_eq!((seen.oldest_due_seconds, seen.oldest_single_due_seconds), (0.0, 0.0));
    db.owe(&["first", "second"], true).await;
    db.owe(&["guessed"], false).await;
    db.run(
        "update vobiz.cdr_queue set due_at = vobiz.now() - case call_id
           when 'first' then interval '300 s' when 'second' then interval '20 s' else interval '100 s' end",
    )
    .await;
    let seen = of_the_account(&db).await;
    assert_eq!((seen.oldest_due_seconds, seen.oldest_single_due_seconds), (300.0, 300.0));
    // What fell due up to a minute ago is reserved for the reader of the list, certain or not.
    let (due_to, length) = (now - TimeDelta::seconds(60), Duration::from_secs(60));
    db.reserve(due_to, length).await;
    let seen = of_the_account(&db).await;
    assert_eq!((seen.oldest_due_seconds, seen.oldest_single_due_seconds), (300.0, 20.0));
    assert_eq!(seen.listed_due_to.map(|to| to.timestamp_micros()), Some(due_to.timestamp_micros()));
    // A reservation runs out, whatever became of its holder.
    db.stop_clock(now + TimeDelta::seconds(61)).await;
    let seen = of_the_account(&db).await;
    assert_eq!((seen.oldest_single_due_seconds, seen.listed_due_to), (361.0, None));
}

#[tokio::test]
async fn a_throttling_pause_is_over_when_its_time_is_and_counts_for_fifteen_minutes() {
    let db = Database::new().await;
    let now = db.now().await;
    db.stop_clock(now).await;
    let ninety = Duration::from_secs(90);
    account::pause(
        &mut *db.connection().await,
        &id(),
        &replica(),
        Pause { reason: PauseReason::Throttled, length: ninety, error: "said so" },
    )
    .await
    .unwrap();
    assert_eq!(of_the_account(&db).await.pause_reason.as_deref(), Some("throttled"));
    for (minutes, share) in [(2, 0.1), (15, 0.1), (20, 0.0)] {
        db.stop_clock(now + TimeDelta::minutes(minutes)).await;
        let seen = of_the_account(&db).await;
        assert_eq!((seen.pause_reason, seen.paused_seconds), (None, None), "after {minutes} min");
        assert!((seen.throttled_share - share).abs() < 1e-9, "after {minutes} min: {}", seen.throttled_share);
    }
    // Any other pause lasts until a probe ends it, however long nobody probes.
    account::pause(
        &mut *db.connection().await,
        &id(),
        &replica(),
        Pause { reason: PauseReason::Denied, length: ninety, error: "said so" },
    )
    .await
    .unwrap();
    db.stop_clock(now + TimeDelta::minutes(80)).await;
    let seen = of_the_account(&db).await;
    assert_eq!((seen.pause_reason.as_deref(), seen.paused_seconds), (Some("denied"), Some(3600.0)));
}

#[tokio::test]
async fn owed_calls_are_counted_by_account_and_dead_letters_by_class() {
    let db = Database::new().await;
    let now = db.now().await;
    db.stop_clock(now).await;
    db.owe(&["due", "waits"], true).await;
    db.run("update vobiz.cdr_queue set due_at = vobiz.now() + interval '1 s' where call_id = 'waits'").await;
    db.run(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, failures, error_class, last_error,
                                      first_failed_at, dead_at)
         select 'dead-' || n, 'SA_OTHER', true, true, vobiz.now(), 5, case when n < 3 then 'refused' else 'unreadable' end, 'e',
                vobiz.now(), vobiz.now() - n * interval '1 minute'
         from generate_series(1, 3) n",
    )
    .await;
    let thorough = overview::thorough(&mut *db.connection().await).await.unwrap();
    let owed: Vec<_> = thorough.owed.iter().map(|o| (o.account_id.as_str(), o.due, o.waiting)).collect();
    assert_eq!(owed, [(ACCOUNT, 1, 1)]);
    let dead: Vec<_> = thorough
        .dead
        .iter()
        .map(|d| (d.account_id.as_str(), d.class.as_str(), d.calls, d.oldest_seconds))
        .collect();
    assert_eq!(dead, [("SA_OTHER", "refused", 2, 120.0), ("SA_OTHER", "unreadable", 1, 180.0)]);
    assert_eq!((thorough.pending, thorough.changed, thorough.ahead), (0, 0, 0));
    assert!(thorough.missing_partitions.is_empty(), "{:?}", thorough.missing_partitions);
}
