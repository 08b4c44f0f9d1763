//! What went wrong, told apart by what Postgres says.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;
use vobiz_cdr::db::{self, DbError, Fault, cdr, fault, timed};

use crate::support::calls::plain;
use crate::support::database::Database;
use crate::support::wait::{LIMIT, until};

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

/// Does a piece of work of a pool that ends with an error; returns the sessions that tried.
async fn tried_by(pool: &sqlx::PgPool, sql: &'static str) -> Result<Vec<i32>, (Vec<i32>, DbError)> {
    let mut sessions = Vec::new();
    let done = timed!(pool, LIMIT, |connection| async {
        let session = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await?;
        sessions.push(session);
        sqlx::raw_sql(sql).execute(connection).await
    });
    let done = done.await;
    done.map(|_| sessions.clone()).map_err(|error| (sessions, error))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_new_sessions_have_as_well_opens_no_more_of_them() {
    let database = Database::new().await;
    let pool = db::connect_service(&database.url, "receive", 2).unwrap();
    let name = database.text("select current_database()").await;
    database.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    for (sql, sqlstate) in
        [("create table refused (x int)", "25006"), ("do $$ begin raise sqlstate '26000'; end $$", "26000")]
    {
        let (began, mut sessions) = (Instant::now(), BTreeSet::new());
        for _ in 0..30 {
            let (tried, error) = tried_by(&pool, sql).await.unwrap_err();
            assert_eq!(error.cause().sqlstate.as_deref(), Some(sqlstate), "{error}");
            sessions.extend(tried);
        }
        // The first and the one that replaced it, and again after a while. (Another test of this process may say meanwhile that all
        // sessions are to be replaced.)
        let most = 10 * (1 + began.elapsed().as_secs() / 5);
        assert!(sessions.len() as u64 <= most, "{} sessions, not {most}", sessions.len());
    }
    // Who takes it up again is not told: a new session is tried every few seconds.
    database
        .run(&format!("begin read write; alter database {name} reset default_transaction_read_only; commit"))
        .await;
    until("it is writable", async || tried_by(&pool, "create table taken (x int)").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_alone_leaves_the_others_alone() {
    let database = Database::new().await;
    let pool = db::connect_service(&database.url, "receive", 2).unwrap();
    for ended in [
        "do $$ begin if pg_backend_pid() = (select min(pid) from spoilt) then raise sqlstate '57P01'; end if; end $$",
        "do $$ begin if pg_backend_pid() = (select min(pid) from spoilt) then raise sqlstate '25P03'; end if; end $$",
    ] {
        // Another test of this process may say meanwhile that all sessions are to be replaced.
        until("the other one is used", async || {
            let (mut one, mut two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
            let pid = "select pg_backend_pid()";
            let spoilt: i32 = sqlx::query_scalar(pid).fetch_one(&mut *one).await.unwrap();
            let well: i32 = sqlx::query_scalar(pid).fetch_one(&mut *two).await.unwrap();
            database
                .run(&format!("drop table if exists spoilt; create table spoilt as select {spoilt} as pid"))
                .await;
            drop((one, two));
            let mut tries = tried_by(&pool, ended).await.unwrap();
            tries.extend(tried_by(&pool, ended).await.unwrap());
            tries.contains(&spoilt) && tries.iter().all(|session| [spoilt, well].contains(session))
        })
        .await;
    }
}
