//! The verbs that end a lease, and the fence between two holders.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::account::{self, Pause};
use vobiz_cdr::db::cdr::{self, Origin};
use vobiz_cdr::db::queue::{self, FetchOutcome, Then, enqueue};
use vobiz_cdr::retry::{ErrorClass, PauseReason};

use super::HOUR;
use crate::support::calls::{account, announced, call_id, failed, plain, replica, waiting};
use crate::support::database::Database;

#[tokio::test]
async fn a_late_lease_changes_nothing() {
    let db = Database::new().await;
    for (call, certain) in [("certain", true), ("speculative", false)] {
        db.owe(&[call], certain).await;
        let mut late = Vec::new();
        for _ in 0..4 {
            late.push(db.lease_one().await);
            db.stop_clock(db.now().await + TimeDelta::minutes(2)).await;
        }
        let holder = db.lease_one().await;
        let row = db.owed_row(call, &[]).await;
        let [to_wait, to_bury, to_close, to_release] = <[_; 4]>::try_from(late).unwrap();
        assert_eq!(db.postpone(waiting(to_wait, ErrorClass::NotYet)).await, 0);
        assert_eq!(db.bury(failed(to_bury, ErrorClass::Unstorable, Then::Bury)).await, 0);
        assert_eq!(db.close(failed(to_close, ErrorClass::NotYet, Then::Close)).await, 0);
        assert_eq!(db.end(FetchOutcome::Release(to_release, HOUR)).await.released, 0);
        assert_eq!(db.owed_row(call, &[]).await, row);
        assert_eq!(db.count("select count(*) from vobiz.closed_call").await, 0);
        assert_eq!(
            db.postpone(failed(holder, ErrorClass::NotYet, Then::Wait(HOUR))).await,
            1,
            "the holder does settle"
        );
        db.run("delete from vobiz.cdr_queue").await;
    }
}

#[tokio::test]
async fn a_lease_from_before_a_revive_changes_nothing() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let early = [db.lease_one().await, {
        db.stop_clock(db.now().await + TimeDelta::minutes(2)).await;
        db.lease_one().await
    }];
    db.stop_clock(db.now().await + TimeDelta::minutes(2)).await;
    assert_eq!(db.bury(failed(db.lease_one().await, ErrorClass::Refused, Then::Bury)).await, 1);
    assert_eq!(db.revive("a").await, 1);
    let row = db.owed_row("a", &[]).await;
    let [first, second] = early;
    assert_eq!(db.postpone(failed(first, ErrorClass::Refused, Then::Wait(HOUR))).await, 0);
    assert_eq!(db.bury(failed(second, ErrorClass::Refused, Then::Bury)).await, 0);
    assert_eq!(db.owed_row("a", &[]).await, row);
}

#[tokio::test]
async fn a_stored_cdr_pays_dead_letters_too_and_knows_its_first_callback() {
    let db = Database::new().await;
    db.owe(&["dead", "alive"], true).await;
    let (leases, now) = (db.lease(2).await, db.now().await);
    for lease in leases.into_iter().filter(|lease| lease.call_id().as_str() == "dead") {
        assert_eq!(db.bury(failed(lease, ErrorClass::NeverAppeared, Then::Bury)).await, 1);
    }
    let mut rows = [plain("alive", now), plain("dead", now), plain("other", now)];
    db.upsert(&rows.each_ref()).await;
    let announced_at = db.texts("select announced_at::text from vobiz.cdr_queue order by call_id").await;
    let listed =
        queue::store_listed(&mut *db.connection().await, &mut rows, Origin::Sweep, None).await.unwrap();
    assert_eq!((listed.paid, listed.new.len()), (2, 0));
    assert_eq!(db.count("select count(*) from vobiz.cdr_queue").await, 0);
    let told = db.texts("select first_callback_at::text from vobiz.cdr order by call_id").await;
    assert_eq!(told, [announced_at[0].as_str(), announced_at[1].as_str(), "-"]);

    // The sweep was faster; then the callback came after all.
    let (entry, owed) = announced("other", true);
    let connection = &mut *db.connection().await;
    let committed = enqueue::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    assert_eq!(
        (committed.new.len(), committed.stored_unannounced.as_slice()),
        (0, ["other".to_owned()].as_slice())
    );
    enqueue::announce_stored(connection, &committed.stored_unannounced).await.unwrap();
    assert_eq!(db.count("select count(*) from vobiz.cdr where first_callback_at is null").await, 0);
    assert_eq!(db.count("select count(*) from vobiz.cdr_queue").await, 0);
    assert!(cdr::missing(connection, &[call_id("other")]).await.unwrap().is_empty());
    assert_eq!(
        cdr::missing(connection, &[call_id("x"), call_id("dead")]).await.unwrap(),
        BTreeSet::from(["x".to_owned()])
    );
}

#[tokio::test]
async fn failures_restart_when_the_class_changes_and_the_first_404_is_remembered() {
    use ErrorClass::{NeverAppeared, NotYet, Refused, Unavailable, Unstorable};
    let db = Database::new().await;
    let begun = db.now().await;
    db.stop_clock(begun).await;
    db.owe(&["a"], true).await;
    let mut minute = 0;
    for (class, failures, first_failed) in [
        (NotYet, 1, 0),
        (NotYet, 2, 0),
        (Unavailable, 1, 2),
        (Unavailable, 2, 2),
        (Refused, 1, 4),
        (NotYet, 1, 5),
    ] {
        db.stop_clock(begun + TimeDelta::minutes(minute)).await;
        minute += 1;
        let lease = db.lease_one().await;
        assert_eq!(i64::from(lease.attempts), minute - 1);
        db.postpone(waiting(lease, class)).await;
        let row = db
            .text("select format('%s %s %s', error_class, failures, extract(epoch from first_failed_at - first_not_yet_at)::int / 60) from vobiz.cdr_queue")
            .await;
        assert_eq!(row, format!("{} {failures} {first_failed}", class.as_str()));
    }
    let lease = db.lease_one().await;
    assert_eq!(lease.history.not_yet_for, Some(Duration::from_secs(300)));
    assert_eq!((lease.history.class, lease.history.failures), (Some(NotYet), 1));
    // What dies of its 404s dies of the same class; what Postgres refuses does not.
    assert_eq!(db.bury(failed(lease, NeverAppeared, Then::Bury)).await, 1);
    assert_eq!(db.count("select failures::bigint from vobiz.cdr_queue").await, 2);
    db.revive("a").await;
    db.postpone(waiting(db.lease_one().await, NotYet)).await;
    db.stop_clock(begun + TimeDelta::hours(1)).await;
    assert_eq!(db.bury(failed(db.lease_one().await, Unstorable, Then::Bury)).await, 1);
    let row =
        db.text("select format('%s %s', failures, dead_at = first_failed_at) from vobiz.cdr_queue").await;
    assert_eq!(row, "1 t");
}

#[tokio::test]
async fn a_class_that_changes_takes_its_body_with_it() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let mut unreadable = waiting(db.lease_one().await, ErrorClass::Unreadable);
    unreadable.body = Some(b"<html>".to_vec());
    db.postpone(unreadable).await;
    db.postpone(waiting(db.lease_one().await, ErrorClass::Unreadable)).await;
    assert_eq!(db.text("select convert_from(last_body, 'UTF8') from vobiz.cdr_queue").await, "<html>");
    db.postpone(waiting(db.lease_one().await, ErrorClass::NotYet)).await;
    assert_eq!(db.text("select convert_from(last_body, 'UTF8') from vobiz.cdr_queue").await, "-");
}

#[tokio::test]
async fn age_stands_still_while_the_account_is_paused() {
    let db = Database::new().await;
    let begun = db.now().await;
    let set = async |hours: i64| db.stop_clock(begun + TimeDelta::hours(hours)).await;
    set(0).await;
    db.owe(&["a"], true).await;
    db.postpone(waiting(db.lease_one().await, ErrorClass::NotYet)).await;
    let age = async || {
        let sql = "select (extract(epoch from vobiz.unpaused_age(account_id, first_not_yet_at)) / 3600)::bigint from vobiz.cdr_queue";
        db.count(sql).await
    };
    set(2).await;
    assert_eq!(age().await, 2);
    account::pause(
        &mut *db.connection().await,
        &account(),
        &replica(),
        Pause { reason: PauseReason::Throttled, length: 3 * HOUR, error: "said so" },
    )
    .await
    .unwrap();
    set(4).await;
    assert_eq!(age().await, 2, "paused");
    set(6).await;
    assert_eq!(age().await, 3, "the pause ended by itself an hour ago");
    account::pause(
        &mut *db.connection().await,
        &account(),
        &replica(),
        Pause { reason: PauseReason::Denied, length: HOUR, error: "said so" },
    )
    .await
    .unwrap();
    set(10).await;
    let status = account::status(&mut *db.connection().await, &account(), &replica()).await.unwrap().unwrap();
    assert!(status.probe);
    assert_eq!(age().await, 3, "nobody probed for hours, and it was paused all the same");
    set(12).await;
    account::resume(&mut *db.connection().await, &account(), &replica(), "denied").await.unwrap();
    set(13).await;
    assert_eq!(age().await, 4);
    // Pauses from before the first 404 do not count, nor do those of another account.
    db.run("update vobiz.cdr_queue set first_not_yet_at = vobiz.now() - interval '30 minutes'").await;
    db.run("insert into vobiz.account (account_id) values ('SA_OTHER')").await;
    db.run("insert into vobiz.account_pause values ('SA_OTHER', vobiz.now() - interval '9 h', vobiz.now(), 'denied')").await;
    assert_eq!(db.lease_one().await.history.not_yet_for, Some(HOUR / 2));
}

#[tokio::test]
async fn a_speculative_call_is_closed_with_its_evidence_and_a_certain_one_is_not() {
    let db = Database::new().await;
    db.owe(&["a", "b"], false).await;
    let [first, second] = <[_; 2]>::try_from(db.lease(2).await).unwrap();
    let (a, b) = if first.call_id().as_str() == "a" { (first, second) } else { (second, first) };
    // A proven hang-up comes for b while it is being fetched.
    db.owe(&["b"], true).await;
    let outcomes = [a, b].map(|lease| FetchOutcome::Fail(failed(lease, ErrorClass::NotYet, Then::Close)));
    let stored = queue::store(&mut *db.connection().await, &outcomes).await.unwrap();
    assert_eq!(stored.closed, 1);
    let evidence =
        db.texts("select concat_ws(' ', call_id, certain, reason, evidence) from vobiz.closed_call").await;
    assert_eq!(evidence, ["a f not_found said not_yet, after 1 requests"]);
    db.shift_clock("2 minutes").await;
    let lease = db.lease_one().await;
    assert_eq!((lease.call_id().as_str(), lease.history.certain), ("b", true));
}

#[tokio::test]
async fn a_speculative_call_does_not_die_but_for_a_cdr_that_postgres_refuses() {
    let db = Database::new().await;
    db.owe(&["a"], false).await;
    let row = db.owed_row("a", &["lease_id", "due_at"]).await;
    for class in [ErrorClass::NeverAppeared, ErrorClass::Refused, ErrorClass::Unreadable] {
        let lease = db.lease_one().await;
        assert_eq!(db.bury(failed(lease, class, Then::Bury)).await, 0, "{class:?}");
        assert_eq!(db.owed_row("a", &["lease_id", "due_at"]).await, row);
        db.stop_clock(db.now().await + TimeDelta::minutes(2)).await;
    }
    assert_eq!(db.bury(failed(db.lease_one().await, ErrorClass::Unstorable, Then::Bury)).await, 1);
    assert_eq!(
        db.count("select count(*) from vobiz.cdr_queue where certain and dead_at is not null").await,
        1
    );
}

#[tokio::test]
async fn a_call_found_under_another_id_is_closed_with_both_ids() {
    let db = Database::new().await;
    db.owe(&["asked"], true).await;
    let first = db.lease_one().await;
    db.stop_clock(db.now().await + TimeDelta::minutes(2)).await;
    let second = db.lease_one().await;
    for (lease, closed) in [(first, 1), (second, 0)] {
        let found = Box::new(plain("found", lease.now()));
        assert_eq!(db.end(FetchOutcome::OtherId(lease, found)).await.closed, closed, "once");
    }
    let closed =
        "select concat_ws(' ', call_id, certain, reason, found_call_id, evidence) from vobiz.closed_call";
    assert_eq!(
        db.texts(closed).await,
        ["asked t other_id found 404 under its own id; the list shows it under this one by its SIP Call-ID"]
    );
    assert_eq!(db.count("select count(*) from vobiz.cdr where first_callback_at is not null").await, 1);
    db.every_certain_call_is_somewhere().await;
}
