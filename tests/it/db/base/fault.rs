//! What went wrong, told apart by what Postgres says.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;
use vobiz_cdr::db::{Fault, cdr, fault};

use crate::support::calls::plain;
use crate::support::database::Database;

#[tokio::test]
async fn faults_are_told_apart_by_what_postgres_says() {
    let db = Database::new().await;
    let old = db.now().await - TimeDelta::days(400);
    let error = cdr::upsert(&mut *db.connection().await, &[&plain("a", old)]).await.unwrap_err();
    assert_eq!(fault(&error), Fault::Ours, "a missing partition is no fault of the CDR: {error}");
    for (sql, expected) in [
        ("insert into vobiz.cdr_queue (call_id) values (null)", Fault::Data),
        ("update vobiz.setting set home_country = 'IN'", Fault::Data),
        ("select 1/0", Fault::Data),
        ("select 'x'::int", Fault::Data),
        ("do $$ begin raise sqlstate '40P01'; end $$", Fault::Retry),
        ("do $$ begin raise sqlstate '40001'; end $$", Fault::Retry),
        ("do $$ begin raise sqlstate '53100'; end $$", Fault::Ours),
        ("do $$ begin raise sqlstate '57P01'; end $$", Fault::Ours),
        ("select * from nowhere", Fault::Ours),
        ("set statement_timeout = 1; select pg_sleep(1)", Fault::Ours),
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&db.pool).await.unwrap_err();
        assert_eq!(fault(&error), expected, "{sql}: {error}");
    }
    let nowhere = vobiz_cdr::db::connect("postgres://nobody@127.0.0.1:1/x", "test", 1).unwrap();
    let held = vobiz_cdr::db::acquire(&nowhere, Duration::from_millis(200)).await;
    assert_eq!(held.unwrap_err().fault(), Fault::Ours);
}
