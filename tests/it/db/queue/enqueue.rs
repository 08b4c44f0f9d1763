//! What a callback makes us owe.

use sqlx::{AssertSqlSafe, Connection};
use vobiz_cdr::db::queue::{Failed, Then, enqueue};
use vobiz_cdr::retry::ErrorClass;

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
    owed.account_id = vobiz_cdr::vobiz::AccountId::new("SA_PROVEN").unwrap();
    owed.sip_call_id = Some("sip".into());
    let connection = &mut *db.connection().await;
    enqueue::commit(connection, &[&entry], &[&owed], HOUR).await.unwrap();
    let proven = db.text("select concat_ws(' ', account_id, account_proven, certain, sip_call_id, due_at > vobiz.now()) from vobiz.cdr_queue").await;
    assert_eq!(proven, "SA_PROVEN t t sip t", "it moved, and starts anew there");
    let row = db.owed_row("a", &[]).await;
    db.owe(&["a"], true).await;
    db.owe(&["a"], false).await;
    assert_eq!(db.owed_row("a", &[]).await, row, "proof is never taken back");
    assert_eq!(db.count("select count(*) from vobiz.callback").await, 6);
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
    assert_eq!(row, "SA_PROVEN 0 t");
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
