//! A Postgres for all tests of a run, and a database for each: the server is ours (or the one in `TEST_DATABASE_URL`, or one
//! in a container with `TEST_POSTGRES=docker`), the schema is migrated once into a template, and every test gets a clone of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use vobiz_cdr::db;
use vobiz_cdr::db::base::migration;
use vobiz_cdr::postgres::{Postgres as Server, PostgresOptions};
use vobiz_cdr::vobiz::AccountId;

use super::container;
use super::wait::{LIMIT, until_some};

/// The account of most tests.
pub(crate) const ACCOUNT: &str = "MA_TESTAB12";

/// A database of its own for one test.
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    pub(crate) url: String,
}

/// Server and template, made once per run. The server ends with the process: its watcher, or the container's helper, sees to
/// that.
fn server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| {
        let (url, ready) = mpsc::channel();
        // A thread and a runtime of its own: the server must outlive the runtime of whichever test came first.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut own = None;
                let base = if let Ok(base) = std::env::var("TEST_DATABASE_URL") {
                    base
                } else if let Some(base) = container::postgres() {
                    base
                } else {
                    let folder = tempfile::Builder::new().prefix("vobiz-cdr-test.").tempdir().unwrap();
                    let started = Server::start(PostgresOptions {
                        data_dir: folder.path().join("data"),
                        bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
                        settings: vec![("max_connections".into(), "300".into())],
                    })
                    .await
                    .unwrap_or_else(|error| panic!("{error}"));
                    clean_up_after_us(folder.path());
                    let base = started.url("postgres");
                    own = Some((started, folder));
                    base
                };
                make_template(&base).await;
                url.send(base).unwrap();
                std::future::pending::<()>().await;
                drop(own);
            });
        });
        ready.recv().expect("Postgres for the tests starts")
    })
}

/// Removes the folder once this process is gone and the server in it has stopped: a static is never dropped, and a shell that
/// waits for the end of a pipe outlives us by just so much.
fn clean_up_after_us(folder: &std::path::Path) {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    let script = r#"cat >/dev/null
        for _ in $(seq 200); do ls "$1"/data/pgdata-*/postmaster.pid >/dev/null 2>&1 || break; sleep 0.1; done
        rm -rf "$1""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(folder).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its standard input stays open for as long as we live.
    std::mem::forget(shell.spawn().unwrap());
}

fn at(base: &str, database: &str) -> String {
    let (front, query) = base.split_once('?').map_or((base, ""), |(front, query)| (front, query));
    let front = &front[..=front.rfind('/').unwrap()];
    if query.is_empty() { format!("{front}{database}") } else { format!("{front}{database}?{query}") }
}

fn template() -> String {
    format!("vobiz_template_{}", std::process::id())
}

async fn admin(base: &str) -> PgConnection {
    base.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

async fn make_template(base: &str) {
    let mut connection = admin(base).await;
    for ddl in [format!("drop database if exists {}", template()), format!("create database {}", template())]
    {
        sqlx::query(AssertSqlSafe(ddl)).execute(&mut connection).await.unwrap();
    }
    let pool = db::connect(&at(base, &template()), "template", 1).unwrap();
    migration::apply(&pool, LIMIT).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    db::account::register(&mut connection, &[AccountId::new(ACCOUNT).unwrap()]).await.unwrap();
    drop(connection);
    pool.close().await;
}

impl Database {
    /// A fresh database with the schema and the account [`ACCOUNT`].
    pub(crate) async fn new() -> Self {
        Self::clone_of(&template()).await
    }

    /// A fresh database with nothing in it.
    pub(crate) async fn empty() -> Self {
        Self::clone_of("template1").await
    }

    async fn clone_of(source: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = tokio::task::spawn_blocking(server).await.unwrap();
        let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = admin(base).await;
        let ddl = format!("create database {name} template {source}");
        // Two clones of one template at the same time wait for each other, or fail because it is in use.
        until_some("the template is free", async || {
            sqlx::query(AssertSqlSafe(ddl.clone())).execute(&mut connection).await
        })
        .await;
        connection.close().await.unwrap();
        let url = at(base, &name);
        Self { pool: db::connect(&url, "test", 20).unwrap(), url }
    }

    /// Moves the clock of this database: `vobiz.now()` runs `offset` ahead from now on (Postgres interval text).
    pub(crate) async fn shift_clock(&self, offset: &str) {
        let ddl = format!(
            "create or replace function vobiz.now() returns timestamptz language sql stable parallel safe
             as $$ select pg_catalog.now() + interval '{offset}' $$"
        );
        sqlx::query(AssertSqlSafe(ddl)).execute(&self.pool).await.unwrap();
    }

    /// Moves the clock of this database on from where it is. Safe beside running queries, a few milliseconds each: the next
    /// statement of every connection sees the new clock, and `vobiz.now()` stays a function that is inlined, which one that
    /// reads a table would not be. (Not for a clock that was stopped.)
    pub(crate) async fn advance_clock(&self, by: TimeDelta) {
        // In seconds: an interval of days would follow the time zone of the session that reads the clock.
        self.run(&format!(
            "do $do$ begin
               execute format(
                 'create or replace function vobiz.now() returns timestamptz language sql stable parallel safe
                  as $$ select pg_catalog.now() + interval %L $$',
                 extract(epoch from vobiz.now() - pg_catalog.now()) + {}::numeric / 1000000 || ' seconds');
             end $do$",
            by.num_microseconds().unwrap()
        ))
        .await;
    }

    /// Stops the clock of this database: `vobiz.now()` is this instant until told otherwise.
    pub(crate) async fn stop_clock(&self, instant: DateTime<Utc>) {
        let ddl = format!(
            "create or replace function vobiz.now() returns timestamptz language sql stable parallel safe
             as $$ select timestamptz '{}' $$",
            instant.to_rfc3339()
        );
        sqlx::query(AssertSqlSafe(ddl)).execute(&self.pool).await.unwrap();
    }

    /// `vobiz.now()`.
    pub(crate) async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select vobiz.now()").fetch_one(&self.pool).await.unwrap()
    }

    /// The URL of a role that logs in, with the settings that its sessions begin with.
    pub(crate) fn url_as(&self, role: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (who, place) = rest.split_once('@').unwrap_or(("", rest));
        let join = if place.contains('?') { '&' } else { '?' };
        if who.is_empty() {
            format!("{scheme}://{place}{join}user={role}")
        } else {
            format!("{scheme}://{role}@{place}")
        }
    }

    /// A connection for one piece of work.
    pub(crate) async fn connection(&self) -> PoolConnection<Postgres> {
        self.pool.acquire().await.unwrap()
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// One column of type text; null is `-`.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows: Vec<Option<String>> =
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await.unwrap();
        rows.into_iter().map(|row| row.unwrap_or_else(|| "-".into())).collect()
    }

    /// One value of type text; null is `-`.
    pub(crate) async fn text(&self, sql: &str) -> String {
        self.texts(sql).await.pop().unwrap_or_default()
    }

    /// One value of type bigint.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    /// Guarantee G2: every call that a proven hang-up announced is stored, owed, dead or closed with its evidence.
    pub(crate) async fn every_certain_call_is_somewhere(&self) {
        let nowhere: Vec<String> = sqlx::query_scalar(
            "select distinct call_id from vobiz.callback b
             where outcome = 'owed' and proof <> 'none'
               and not exists (select from vobiz.cdr c where c.call_id = b.call_id)
               and not exists (select from vobiz.cdr_queue q where q.call_id = b.call_id)
               and not exists (select from vobiz.closed_call x where x.call_id = b.call_id)",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert!(nowhere.is_empty(), "these calls are nowhere: {nowhere:?}");
    }
}
