//! What a callback makes us owe.

use sqlx::{AssertSqlSafe, Connection};
use vobiz_cdr::db::queue::enqueue::Owed;
use vobiz_cdr::db::queue::{Failed, Then, enqueue};
use vobiz_cdr::retry::ErrorClass;
use vobiz_cdr::vobiz::AccountId;

use super::HOUR;
use crate::support::calls::announced;
use crate::support::database::Database;

#[tokio::test]
async fn a_repeated_callback_owes_one_cdr_and_only_adds_proof() {
    let db = Database::new().await;
    db.owe(&["a", "a"], false).await;
    let row = db.owed_row("a", &[]).await;
    db.owe(&["a"], false).await;
    assert_eq!(db.owed_row("a", &[]).await, row, "an ordinary repeat changes nothing");
    let (entry, mut owed) = announced("a", true);
    owed.account_id = AccountId::new("MA_PROVEN").unwrap();
    owed.sip_call_id = Some("sip".into());
    let connection = &mut *db.connection().await;
    enqueue::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    let proven = db.text("select concat_ws(' ', account_id, account_proven, certain, sip_call_id, due_at > vobiz.now()) from vobiz.cdr_queue").await;
    assert_eq!(proven, "MA_PROVEN t t sip t", "it moved, and starts anew there");
    // Two have proved it now: the second one is noted beside the first.
    db.owe(&["a"], true).await;
    let row = db.owed_row("a", &[]).await;
    db.owe(&["a"], true).await;
    db.owe(&["a"], false).await;
    assert_eq!(db.owed_row("a", &[]).await, row, "proof is never taken back");
    assert_eq!(db.count("select count(*) from vobiz.callback").await, 7);
}

#[tokio::test]
async fn a_call_that_moves_to_its_proven_account_leaves_its_holder_and_its_failures_behind() {
    let db = Database::new().await;
    db.owe(&["a"], true).await;
    let leased = db.lease(1).await;
    let (entry, mut owed) = announced("a", true);
    owed.account_id = AccountId::new("MA_PROVEN").unwrap();
    sqlx::query("update vobiz.cdr_queue set account_proven = false").execute(&db.pool).await.unwrap();
    let connection = &mut *db.connection().await;
    enqueue::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
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
    assert_eq!(row, "MA_PROVEN 0 t");
}

/// One callback with this proof of the account, or with its name alone.
fn of(account: &str, proven: bool) -> Owed {
    let account_id = AccountId::new(account).unwrap();
    Owed { account_id, account_proven: proven, ..announced("a", true).1 }
}

/// Accounts in the order in which callbacks name or prove them; then whom the call is asked of first, and whom in turn.
#[tokio::test]
async fn a_sub_account_takes_no_call_from_a_main_account_and_two_that_are_proven_are_both_asked() {
    for (callbacks, expected) in [
        (vec![("MA_1", false), ("SA_1", true)], "MA_1 f SA_1"),
        (vec![("MA_1", true), ("SA_1", true)], "MA_1 t SA_1"),
        (vec![("SA_1", true), ("MA_1", true)], "MA_1 t SA_1"),
        (vec![("SA_1", false), ("MA_1", true)], "MA_1 t -"),
        (vec![("SA_1", false), ("SA_2", true)], "SA_2 t -"),
        (vec![("SA_1", true), ("SA_2", true)], "SA_1 t SA_2"),
        (vec![("MA_1", true), ("MA_2", true)], "MA_1 t MA_2"),
        (vec![("MA_1", false), ("MA_2", true)], "MA_2 t -"),
        (vec![("MA_1", true), ("MA_2", false), ("SA_1", false)], "MA_1 t -"),
        // A third one is left to the list and to the last question before a call is given up.
        (vec![("MA_1", true), ("SA_1", true), ("SA_2", true), ("SA_1", true)], "MA_1 t SA_1"),
        (vec![("SA_1", true), ("SA_2", true), ("MA_1", true)], "MA_1 t SA_1"),
    ] {
        for at_once in [false, true] {
            let db = Database::new().await;
            let owed: Vec<Owed> = callbacks.iter().map(|(account, proven)| of(account, *proven)).collect();
            let owed: Vec<&Owed> = owed.iter().collect();
            let connection = &mut *db.connection().await;
            for group in if at_once { vec![&owed[..]] } else { owed.chunks(1).collect() } {
                enqueue::commit(connection, &[], group, HOUR).await.unwrap();
            }
            let row = "select concat_ws(' ', account_id, account_proven, coalesce(other_account_id, '-')) from vobiz.cdr_queue";
            assert_eq!(db.text(row).await, expected, "{callbacks:?} at once: {at_once}");
            let before = db.owed_row("a", &[]).await;
            enqueue::commit(connection, &[], owed.last().map_or(&[], std::slice::from_ref), HOUR)
                .await
                .unwrap();
            assert_eq!(db.owed_row("a", &[]).await, before, "a repeat changes nothing: {callbacks:?}");
        }
    }
}

#[tokio::test]
async fn a_call_is_by_secret_until_something_better_proves_it() {
    for (proofs, expected) in [
        (vec![(true, true)], "t t"),
        (vec![(true, true), (true, false)], "t f"),
        (vec![(true, false), (true, true)], "t f"),
        (vec![(false, false), (true, true)], "t t"),
        (vec![(true, true), (false, false)], "t t"),
    ] {
        for at_once in [false, true] {
            let db = Database::new().await;
            let owed: Vec<Owed> = proofs
                .iter()
                .map(|(certain, by_secret)| Owed {
                    certain: *certain,
                    by_secret: *by_secret,
                    ..of("MA_1", false)
                })
                .collect();
            let owed: Vec<&Owed> = owed.iter().collect();
            let connection = &mut *db.connection().await;
            for group in if at_once { vec![&owed[..]] } else { owed.chunks(1).collect() } {
                enqueue::commit(connection, &[], group, HOUR).await.unwrap();
            }
            let row = "select concat_ws(' ', certain, by_secret) from vobiz.cdr_queue";
            assert_eq!(db.text(row).await, expected, "{proofs:?} at once: {at_once}");
        }
    }
}

const RULES: &str = "select current_setting('synchronous_commit')";

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_rules_in_its_session() {
    let db = Database::new().await;
    let connection = &mut *db.connection().await;
    let process: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
    // As a pooler leaves a session that it opened by itself.
    for (found, made) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let set = format!("set synchronous_commit = {found}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await.unwrap();
        for is_probe in [false, true] {
            let mut transaction = connection.begin().await.unwrap();
            if is_probe {
                enqueue::probe(&mut transaction).await.unwrap();
            } else {
                let (entry, owed) = announced(found, true);
                let committed = enqueue::commit(&mut transaction, &[&entry], &[&owed], HOUR).await.unwrap();
                assert_eq!(committed.new, [found]);
                assert_eq!(
                    (committed.session.pid, committed.session.synchronous_commit.as_str()),
                    (process, found)
                );
                assert_eq!(committed.session.is_ours(), found == made);
            }
            let rules: String = sqlx::query_scalar(RULES).fetch_one(&mut *transaction).await.unwrap();
            assert_eq!(rules, made, "of {found}, in the transaction");
            transaction.commit().await.unwrap();
            let rules: String = sqlx::query_scalar(RULES).fetch_one(&mut *connection).await.unwrap();
            assert_eq!(rules, found, "after it");
        }
    }
}
