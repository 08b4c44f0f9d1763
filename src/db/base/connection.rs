//! Connections, and how long they may take.

use std::str::FromStr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

/// Why a piece of work on the database did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres (or the way to it) said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// No answer in time. The connection was closed, so whether the work was committed is not known.
    #[error("no answer from Postgres within {0:?}")]
    TimedOut(Duration),
}

impl DbError {
    /// Postgres answered, and did not want what it was given: no partition, no room on the disk. Else it is away, goes down,
    /// or takes no writes at all (SQLSTATE classes 08, 57 and 25).
    pub fn refuses_rows(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| !matches!(code.get(..2), Some("08" | "57" | "25")))
    }

    /// What the failure means for the work at hand.
    pub fn fault(&self) -> super::fault::Fault {
        match self {
            Self::Sql(error) => super::fault::fault(error),
            Self::TimedOut(_) => super::fault::Fault::Ours,
        }
    }
}

/// Reads a `DATABASE_URL` into options that acquire for every connection of ours: commits wait for the disk, and nobody else's
/// default (a database's, a role's or a pooler's) turns that off.
fn options(url: &str, name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name(&format!("vobiz-cdr {name}"))
        .options([
            ("synchronous_commit", "on"),
            // Each statement sees what was committed before it: the sums of the bill and the fences of the ledger need that.
            ("default_transaction_isolation", "read committed"),
            ("timezone", "UTC"),
            ("lock_timeout", "30s"),
            // A connection that waits in the pool, or holds a lock of ours, is not idle for nothing.
            ("idle_session_timeout", "0"),
            // Our statements go by key. A plan that was made and kept while the queue was empty would read all of a backlog
            // for each group: 1.6k instead of 11k CDRs a second were measured until autovacuum looked in.
            ("enable_seqscan", "off"),
            // Short statements all: compiling one costs more than running it.
            ("jit", "off"),
        ])
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::from_secs(60))
        .log_statements(tracing::log::LevelFilter::Off))
}

/// A connection that has been idle for so long is asked whether it lives before it is used.
const SURELY_ALIVE: Duration = Duration::from_secs(1);

/// A pool of at most `size` connections. Connects lazily: a Postgres that is away now may come back.
pub fn connect(url: &str, name: &str, size: u32) -> Result<PgPool, sqlx::Error> {
    Ok(PgPoolOptions::new()
        .max_connections(size)
        // Asking each time would cost a round trip for each of the short statements.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > SURELY_ALIVE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_secs(600))
        .max_lifetime(Duration::from_secs(3600))
        .connect_lazy_with(options(url, name)?))
}

/// A connection for a person who waits for it: a failure says why, which the pool alone does not.
pub async fn open(pool: &PgPool) -> anyhow::Result<PoolConnection<Postgres>> {
    let error = match pool.acquire().await {
        Ok(connection) => return Ok(connection),
        Err(sqlx::Error::PoolTimedOut) => {
            match tokio::time::timeout(Duration::from_secs(3), pool.connect_options().connect()).await {
                Ok(Ok(_too_late)) => sqlx::Error::PoolTimedOut,
                Ok(Err(error)) => error,
                Err(_) => anyhow::bail!("Postgres does not answer: is DATABASE_URL right, and does it run?"),
            }
        }
        Err(error) => error,
    };
    anyhow::bail!("Postgres cannot be reached: is DATABASE_URL right, and does it run? ({error})")
}

/// A connection of the pool for one piece of work, all of which must be done by a deadline; see [`timed!`](crate::db::timed).
#[derive(Debug)]
pub struct Acquired {
    connection: PoolConnection<Postgres>,
    deadline: Instant,
    limit: Duration,
}

/// Takes a connection of the pool; waiting for it counts.
pub async fn acquire(pool: &PgPool, limit: Duration) -> Result<Acquired, DbError> {
    let deadline = Instant::now() + limit;
    match tokio::time::timeout_at(deadline, pool.acquire()).await {
        Ok(connection) => Ok(Acquired { connection: connection?, deadline, limit }),
        Err(_) => Err(DbError::TimedOut(limit)),
    }
}

/// A connection that is left from one piece of work for the next.
pub type KeptConnection = Option<PoolConnection<Postgres>>;

/// The same with the connection that is left from the last piece of work, if one is.
pub async fn acquire_again(
    pool: &PgPool,
    kept: &mut KeptConnection,
    limit: Duration,
) -> Result<Acquired, DbError> {
    match kept.take() {
        Some(connection) => Ok(Acquired { connection, deadline: Instant::now() + limit, limit }),
        None => acquire(pool, limit).await,
    }
}

impl Acquired {
    /// The connection to work on, and the instant by which the work must be done.
    pub fn parts(&mut self) -> (&mut PgConnection, Instant) {
        (&mut self.connection, self.deadline)
    }

    /// Ends the work. A connection that did not answer in time, or broke, is closed instead of going back to the pool: nobody
    /// knows what it still does.
    pub fn end<T>(self, result: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, DbError> {
        self.end_and_keep(&mut None, result)
    }

    /// The same; after work that succeeded the connection is kept for the next one.
    pub fn end_and_keep<T>(
        mut self,
        kept: &mut KeptConnection,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, DbError> {
        match result {
            Ok(Ok(done)) => {
                *kept = Some(self.connection);
                Ok(done)
            }
            Ok(Err(error)) => {
                if error.as_database_error().is_none() {
                    self.connection.close_on_drop();
                }
                Err(error.into())
            }
            Err(_) => {
                self.connection.close_on_drop();
                Err(DbError::TimedOut(self.limit))
            }
        }
    }
}

/// Does a piece of work on a connection of a pool, within a limit for all of it: `timed!(pool, limit, |connection| future)`
/// is a future of `Result<T, DbError>`, where the inner future is one of `Result<T, sqlx::Error>`.
///
/// A macro, because an async closure over a borrowed connection is not `Send` enough to be spawned.
#[macro_export]
macro_rules! timed {
    ($pool:expr, $limit:expr, |$connection:ident| $work:expr) => {
        async {
            let mut acquired = $crate::db::acquire($pool, $limit).await?;
            let result = {
                let ($connection, deadline) = acquired.parts();
                tokio::time::timeout_at(deadline, $work).await
            };
            acquired.end(result)
        }
    };
}

/// Gives back all advisory locks that a connection holds.
pub async fn unlock_all(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select from pg_advisory_unlock_all()").execute(connection).await?;
    Ok(())
}

/// Checks what a server must be for our promises to acquire: UTF-8, version 15, and a disk that is waited for.
pub async fn check_server(connection: &mut PgConnection) -> anyhow::Result<()> {
    let row = sqlx::query!(
        r#"select current_setting('server_encoding') as "encoding!", current_setting('fsync') as "fsync!",
                  current_setting('session_replication_role') as "role!", current_setting('server_version_num')::int as "version!""#
    )
    .fetch_one(connection)
    .await?;
    anyhow::ensure!(
        row.encoding == "UTF8",
        "the database is encoded in {}: create one with encoding 'UTF8', or names will not fit",
        row.encoding
    );
    anyhow::ensure!(
        row.version >= 150_000,
        "Postgres 15 or newer is needed, this is {}",
        row.version / 10_000
    );
    anyhow::ensure!(
        row.role != "replica",
        "session_replication_role is replica in our sessions, so no trigger of vobiz.cdr fires and the bill does not follow the calls: \
         take it out of the role, the database or postgresql.conf (`alter role … reset session_replication_role`)"
    );
    if row.fsync != "on" {
        tracing::warn!(
            "this Postgres runs with fsync = {}: a power cut can lose callbacks that were answered 200",
            row.fsync
        );
    }
    Ok(())
}

/// Creates the database of `url` if the server does not have it; used for a Postgres of our own only.
pub async fn create_database(url: &str, database: &str) -> Result<(), sqlx::Error> {
    let options = options(url, "setup")?.database("postgres");
    // The server may still be ending its recovery.
    let mut connection = (|| options.connect())
        .retry(ExponentialBuilder::default().with_min_delay(Duration::from_millis(20)).with_max_times(8))
        .when(|error| !matches!(error, sqlx::Error::Configuration(_)))
        .await?;
    let exists = sqlx::query_scalar!(
        r#"select exists (select from pg_catalog.pg_database where datname = $1) as "exists!""#,
        database
    )
    .fetch_one(&mut connection)
    .await?;
    if !exists {
        // Names cannot be parameters of DDL; this one is a constant of ours, and quoted.
        let ddl = format!(
            "create database \"{}\" encoding 'UTF8' template template0",
            database.replace('"', "\"\"")
        );
        sqlx::query(sqlx::AssertSqlSafe(ddl)).execute(&mut connection).await?;
    }
    connection.close().await
}
