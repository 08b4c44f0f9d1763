//! A start that has to wait.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::task::JoinHandle;
use vobiz_cdr::serve::Service;
use vobiz_cdr::simulator::Simulator;

use crate::support::database::{ACCOUNT, Database};
use crate::support::world::{TOKEN, options, serve_config};

/// A session with a name that keeps something locked, and its server process.
async fn holding(database: &Database, name: &str, lock: &str) -> (PgConnection, i32) {
    let options: PgConnectOptions = database.url.parse().unwrap();
    let mut holder = options.application_name(name).connect().await.unwrap();
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("begin; {lock}"))).execute(&mut holder).await.unwrap();
    (holder, pid)
}

/// Another process of the service, which waits for somebody else.
async fn another_that_waits(database: &Database) -> (PgConnection, i32, JoinHandle<()>) {
    let (holder, pid) = holding(database, "another", "lock table vobiz.callback").await;
    let options: PgConnectOptions = database.url.parse().unwrap();
    let mut worker = options.application_name("vobiz-cdr worker").connect().await.unwrap();
    let waits = tokio::spawn(async move {
        // Ends with the database.
        let _ = sqlx::raw_sql("begin; lock table vobiz.callback in share mode").execute(&mut worker).await;
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query like 'begin; lock table vobiz.callback%'";
    database.comes_to(1, waiting).await;
    (holder, pid, waits)
}

/// Somebody's open transaction keeps what each start looks at or writes; what other processes wait for is not what this one waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_by_a_lock_names_who_holds_it() {
    let vobiz = Simulator::start(options()).await.unwrap();
    for lock in
        ["select * from vobiz.account for update", "lock table vobiz.account in access exclusive mode"]
    {
        let database = Database::new().await;
        let (_another, anothers, waits) = another_that_waits(&database).await;
        let (dba, pid) = holding(&database, "dba", lock).await;
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        let Err(error) = Service::prepare(config, &database.url, true).await else {
            panic!("{lock}: it started")
        };
        let words = format!("{error:#}");
        let names = format!("the start waited for a lock that session {pid} (role ");
        assert!(words.contains(&names) && words.contains("application dba"), "{lock}: {words}");
        assert!(words.contains(&format!("pg_terminate_backend({pid})")), "{lock}: {words}");
        assert!(!words.contains(&anothers.to_string()), "{lock}: {words}");
        waits.abort();
        dba.close().await.unwrap();
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        assert!(Service::prepare(config, &database.url, true).await.is_ok(), "{lock}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_by_something_else_blames_no_lock() {
    let vobiz = Simulator::start(options()).await.unwrap();
    for (zone, lock) in [
        ("Asia/Kolkata", "lock table vobiz.setting in access exclusive mode"),
        ("Europe/Berlin", "lock table vobiz.repeatable in access exclusive mode"),
    ] {
        let database = Database::new().await;
        database.run("update vobiz.setting set billing_zone = 'UTC', billing_zone_said = true").await;
        let (dba, _) = holding(&database, "dba", lock).await;
        let mut config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        config.billing_zone = Some(zone.into());
        let starts = Service::prepare(config, &database.url, true);
        let release = async {
            // For longer than between two looks.
            let waited = "select count(*) from pg_stat_activity
                          where datname = current_database() and wait_event_type = 'Lock' and query_start < clock_timestamp() - interval '4 s'";
            database.comes_to(1, waited).await;
            dba.close().await.unwrap();
        };
        let (started, ()) = tokio::join!(starts, release);
        let Err(error) = started else { panic!("{lock}: it started") };
        let words = format!("{error:#}");
        assert!(words.contains("UTC") && !words.contains("waited for a lock"), "{lock}: {words}");
    }
}
