//! Databases: a template with the schema, and clones of it. SQL is composed here because names cannot be parameters.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use vobiz_cdr::db;
use vobiz_cdr::db::base::migration;
use vobiz_cdr::postgres::Postgres;
use vobiz_cdr::vobiz::AccountId;

const TEMPLATE: &str = "bench_template";

pub(super) async fn make_template(postgres: &Postgres, statements: bool) -> anyhow::Result<()> {
    execute(postgres, format!("create database {TEMPLATE} encoding 'UTF8' template template0")).await?;
    let pool = db::connect(&postgres.url(TEMPLATE), "bench", 1)?;
    migration::apply(&pool, Duration::from_secs(30)).await?;
    let mut connection = pool.acquire().await?;
    db::account::register(&mut connection, &[AccountId::new(super::ACCOUNT)?]).await?;
    if statements {
        sqlx::query("create extension pg_stat_statements").execute(&mut *connection).await?;
    }
    connection.close().await?;
    pool.close().await;
    Ok(())
}

pub(super) async fn make(postgres: &Postgres, name: &str) -> anyhow::Result<String> {
    drop(postgres, name).await?;
    execute(postgres, format!("create database {name} template {TEMPLATE}")).await?;
    // What one measurement left for the checkpointer must not slow down the next.
    execute(postgres, "checkpoint".to_owned()).await?;
    Ok(postgres.url(name))
}

pub(super) async fn drop(postgres: &Postgres, name: &str) -> anyhow::Result<()> {
    execute(postgres, format!("drop database if exists {name} with (force)")).await
}

async fn execute(postgres: &Postgres, sql: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// What the server has done in a database so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Bytes of WAL, of the whole server.
    pub(crate) wal_bytes: f64,
    /// Transactions committed in this database.
    pub(crate) commits: f64,
}

/// Reads the counters.
pub(crate) async fn work(pool: &PgPool) -> anyhow::Result<Work> {
    let (wal_bytes, commits) = sqlx::query_as(
        "select (pg_current_wal_lsn() - '0/0')::float8, xact_commit::float8
         from pg_stat_database where datname = current_database()",
    )
    .fetch_one(pool)
    .await?;
    Ok(Work { wal_bytes, commits })
}

/// The statements that took most of the time in this database.
pub(super) async fn statements(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let rows: Vec<(i64, f64, f64, String)> = sqlx::query_as(
        "select calls, total_exec_time, mean_exec_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 90)
         from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())
         order by total_exec_time desc limit 10",
    )
    .fetch_all(pool)
    .await?;
    let line = |(calls, total, mean, query)| format!("{total:>9.0} ms, {calls:>7} x {mean:>8.3} ms  {query}");
    Ok(rows.into_iter().map(line).collect())
}

/// One number.
pub(crate) async fn number(pool: &PgPool, sql: &'static str) -> anyhow::Result<f64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

/// Waits until a query gives at least so much; false if it takes longer than `limit`.
pub(crate) async fn reaches(
    pool: &PgPool,
    sql: &'static str,
    wanted: f64,
    limit: Duration,
) -> anyhow::Result<bool> {
    let deadline = std::time::Instant::now() + limit;
    while number(pool, sql).await? < wanted {
        if std::time::Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(true)
}
