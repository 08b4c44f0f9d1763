//! The zone of the bill may change: then the days are cut anew.

use sqlx::{AssertSqlSafe, Connection};
use vobiz_cdr::db::bill::rollup;

use super::{drift, fold, insert, refusal, set_zone, try_run};
use crate::support::database::Database;
use crate::support::wait::until_is;

#[tokio::test]
async fn a_zone_that_changes_waits_for_a_folding_and_the_next_folding_goes_by_it() {
    let db = Database::new().await;
    // 20:00 UTC is the next day in Kolkata.
    db.run(&insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01 20:00Z', 5, 1)")).await;
    let mut folder = db.connection().await;
    let mut folding = folder.begin().await.unwrap();
    assert_eq!(rollup::fold(&mut folding, 100).await.unwrap(), 1);

    let pool = db.pool.clone();
    let changing = tokio::spawn(async move { try_run(&pool, &set_zone("UTC")).await });
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let database = &db;
    until_is("the zone waits", 1, async || database.count(waiting).await).await;
    // A writer does not.
    db.run(&insert("values ('two', 'MA_A', 't', timestamptz '2026-03-02 20:00Z', 5, 1)")).await;
    let days = "select concat_ws(' ', billing_zone, day, calls) from vobiz.billing_day order by day";
    assert_eq!(db.texts(days).await, ["Asia/Kolkata 2026-03-02 1", "Asia/Kolkata 2026-03-03 1"]);
    folding.commit().await.unwrap();
    changing.await.unwrap().unwrap();
    assert_eq!(db.texts(days).await, ["UTC 2026-03-01 1", "UTC 2026-03-02 1"]);
    assert_eq!(drift(&db).await, 0);

    // The other way round: nothing is folded while the zone changes, everybody else sees the old one, and writers go on.
    let mut changing = folder.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(set_zone("Asia/Kolkata"))).execute(&mut *changing).await.unwrap();
    let limit: String = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')")
        .fetch_one(&mut *changing)
        .await
        .unwrap();
    assert_eq!(limit, "30s");
    db.run(&insert("values ('three', 'MA_A', 't', timestamptz '2026-03-03 20:00Z', 5, 1)")).await;
    assert_eq!(fold(&db, 100).await, 0);
    assert_eq!(db.texts(days).await, ["UTC 2026-03-01 1", "UTC 2026-03-02 1", "UTC 2026-03-03 1"]);
    changing.commit().await.unwrap();
    let after = ["Asia/Kolkata 2026-03-02 1", "Asia/Kolkata 2026-03-03 1", "Asia/Kolkata 2026-03-04 1"];
    assert_eq!(db.texts(days).await, after);
    assert_eq!((fold(&db, 100).await, drift(&db).await), (2, 0));
    assert_eq!(db.texts(days).await, after);
    assert_eq!(
        db.texts("select day::text from vobiz.rollup_day order by day").await,
        ["2026-03-02", "2026-03-03", "2026-03-04"]
    );
}

#[tokio::test]
async fn a_zone_that_is_none_is_refused_and_so_is_a_change_that_cannot_see_what_was_folded() {
    let db = Database::new().await;
    let said = refusal(&db, &set_zone("Asia/Nowhere")).await;
    assert!(said.contains("Asia/Nowhere"), "{said}");
    db.run(&insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01 20:00Z', 5, 1)")).await;
    let mut connection = db.connection().await;
    let mut transaction = connection.begin_with("begin isolation level repeatable read").await.unwrap();
    let refused = sqlx::raw_sql(AssertSqlSafe(set_zone("UTC"))).execute(&mut *transaction).await;
    assert!(refused.unwrap_err().to_string().contains("transaction that is repeatable read"));
    transaction.rollback().await.unwrap();
    let mut transaction = connection.begin_with("begin isolation level repeatable read").await.unwrap();
    let refused = rollup::fold(&mut transaction, 100).await;
    assert!(refused.unwrap_err().to_string().contains("transaction that is repeatable read"));
    transaction.rollback().await.unwrap();
    // What is said anew is what is changed.
    fold(&db, 100).await;
    db.run("delete from vobiz.setting; insert into vobiz.setting (billing_zone) values ('UTC')").await;
    assert_eq!(
        db.text("select concat_ws(' ', day, billing_zone) from vobiz.billing_day").await,
        "2026-03-01 UTC"
    );
    assert_eq!(drift(&db).await, 0);
}
