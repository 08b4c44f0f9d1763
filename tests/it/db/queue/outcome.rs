//! The verbs of the queue, one by one, on a real Postgres: leasing, settling, and the fence between two holders.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::account;
use vobiz_cdr::db::cdr::{self, Origin};
use vobiz_cdr::db::queue::callback;
use vobiz_cdr::db::queue::{self, Failed, FetchOutcome, QueueDepth, Then};
use vobiz_cdr::retry::{ErrorClass, PauseReason};

use crate::support::calls::{LEASE, account, announced, call_id, failed, plain, try_lease, waiting};
use crate::support::database::Database;

const HOUR: Duration = Duration::from_secs(3600);

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
async fn a_paused_account_leases_nothing_and_its_calls_stay_as_they_are() {
    for reason in
        [PauseReason::Throttled, PauseReason::Denied, PauseReason::Unavailable, PauseReason::Unreadable]
    {
        let db = Database::new().await;
        db.owe(&["a", "b"], true).await;
        let before = (db.owed_row("a", &[]).await, db.owed_row("b", &[]).await);
        account::pause(&mut *db.connection().await, &account(), reason, HOUR).await.unwrap();
        assert!(db.lease(9).await.is_empty());
        assert!(!queue::any_due(&mut *db.connection().await).await.unwrap());
        assert_eq!((db.owed_row("a", &[]).await, db.owed_row("b", &[]).await), before, "{reason:?}");
        db.shift_clock("61 minutes").await;
        // A throttling pause ends by itself, the others wait for a probe.
        let over = reason == PauseReason::Throttled;
        assert_eq!(queue::any_due(&mut *db.connection().await).await.unwrap(), over);
        assert_eq!(db.lease(9).await.len(), if over { 2 } else { 0 }, "{reason:?}");
        if !over {
            assert_eq!((db.owed_row("a", &[]).await, db.owed_row("b", &[]).await), before, "{reason:?}");
            account::resume(&mut *db.connection().await, &account(), reason.as_str()).await.unwrap();
            assert_eq!(db.lease(9).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn an_account_without_slots_leases_nothing() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let before = db.owed_row("a", &[]).await;
    db.run("update vobiz.account set next_slot = vobiz.now() + interval '1 minute'").await;
    assert!(db.lease(9).await.is_empty());
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
async fn a_late_lease_settles_nothing() {
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
async fn a_lease_from_before_a_revive_settles_nothing() {
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
async fn a_look_from_a_floor_leaves_what_fell_due_before_it() {
    let db = Database::new().await;
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
    let floor = Some(now - TimeDelta::seconds(30));
    let mut connection = db.connection().await;
    let (leases, _) = queue::lease(&mut connection, &account(), 9, 1e6, ahead, LEASE, floor).await.unwrap();
    let told: Vec<_> = leases.iter().map(|lease| lease.call_id().as_str()).collect();
    assert_eq!(told, ["guessed", "late"], "speculative calls know no floor, and the first due comes first");
    let late = (now - leases[1].due_at).num_seconds();
    assert!((9..=11).contains(&late), "it says when it had fallen due: {late} s ago");
    let (leases, _) = queue::lease(&mut connection, &account(), 9, 1e6, ahead, LEASE, None).await.unwrap();
    assert_eq!(leases.len(), 1, "a look from the beginning finds it");
}

#[tokio::test]
async fn a_stored_call_is_leased_as_stored_and_takes_no_slot() {
    let db = Database::new().await;
    db.owe(&["stored", "owed"], true).await;
    let now = db.now().await;
    db.upsert(&[&plain("stored", now)]).await;
    let ahead = Duration::from_millis(250);
    let (leases, slots) =
        queue::lease(&mut *db.connection().await, &account(), 10, 100.0, ahead, LEASE, None).await.unwrap();
    let told: BTreeSet<_> = leases.iter().map(|lease| (lease.call_id().as_str(), lease.stored)).collect();
    assert_eq!(told, BTreeSet::from([("owed", false), ("stored", true)]));
    assert_eq!(slots.count, 1);
    let stored = leases.into_iter().find(|lease| lease.stored).unwrap();
    assert_eq!(db.end(FetchOutcome::Paid(stored)).await.paid, 1);
    assert_eq!(db.texts("select call_id from vobiz.cdr_queue").await, ["owed"]);
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
    let committed = callback::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    assert_eq!(
        (committed.new.len(), committed.stored_unannounced.as_slice()),
        (0, ["other".to_owned()].as_slice())
    );
    callback::announce_stored(connection, &committed.stored_unannounced).await.unwrap();
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
    account::pause(&mut *db.connection().await, &account(), PauseReason::Throttled, 3 * HOUR).await.unwrap();
    set(4).await;
    assert_eq!(age().await, 2, "paused");
    set(6).await;
    assert_eq!(age().await, 3, "the pause ended by itself an hour ago");
    account::pause(&mut *db.connection().await, &account(), PauseReason::Denied, HOUR).await.unwrap();
    set(10).await;
    let standing = account::standing(&mut *db.connection().await, &account()).await.unwrap().unwrap();
    assert!(standing.probe);
    assert_eq!(age().await, 3, "nobody probed for hours, and it was paused all the same");
    set(12).await;
    account::resume(&mut *db.connection().await, &account(), "denied").await.unwrap();
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

#[tokio::test]
async fn a_call_that_moves_to_its_proven_account_leaves_its_holder_and_its_failures_behind() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let leased = db.lease(1).await;
    let (entry, mut owed) = announced("a", true);
    owed.account_id = vobiz_cdr::vobiz::AccountId::new("SA_PROVEN").unwrap();
    sqlx::query("update vobiz.cdr_queue set account_proven = false").execute(&db.pool).await.unwrap();
    let connection = &mut *db.connection().await;
    callback::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    let late = leased.into_iter().next().unwrap();
    let late = Failed {
        lease: late,
        class: ErrorClass::Refused,
        error: "refused".into(),
        body: None,
        then: Then::Bury,
    };
    assert_eq!(db.bury(late).await, 0, "the old holder settles nothing");
    let row =
        db.text("select concat_ws(' ', account_id, failures, dead_at is null) from vobiz.cdr_queue").await;
    assert_eq!(row, "SA_PROVEN 0 t");
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

#[tokio::test]
async fn a_repeated_callback_owes_one_cdr_and_only_adds_proof() {
    let db = Database::new().await;
    db.owe(&["a", "a"], false).await;
    let row = db.owed_row("a", &[]).await;
    db.owe(&["a"], false).await;
    assert_eq!(db.owed_row("a", &[]).await, row, "an ordinary repeat changes nothing");
    let (entry, mut owed) = announced("a", true);
    owed.account_id = vobiz_cdr::vobiz::AccountId::new("SA_PROVEN").unwrap();
    owed.sip_call_id = Some("sip".into());
    let connection = &mut *db.connection().await;
    callback::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    let proven = db.text("select concat_ws(' ', account_id, account_proven, certain, sip_call_id, due_at > vobiz.now()) from vobiz.cdr_queue").await;
    assert_eq!(proven, "SA_PROVEN t t sip t", "it moved, and starts anew there");
    let row = db.owed_row("a", &[]).await;
    db.owe(&["a"], true).await;
    db.owe(&["a"], false).await;
    assert_eq!(db.owed_row("a", &[]).await, row, "proof is never taken back");
    assert_eq!(db.count("select count(*) from vobiz.callback").await, 6);
}
