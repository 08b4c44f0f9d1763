//! Connections, and how long they may take.

use std::str::FromStr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tracing::{debug, info, warn};

use super::cause::{Cause, cause};
use super::clock::ClockBehind;
use super::distrust::{distrust_open_connections, doubt, is_distrusted, is_doubted, is_futile, note_futile};
use super::fault::{Remedy, is_foreign_answer, remedy};
use super::session::{self, SessionUser};
use super::{credentials, partition, pooling, tls_files};

/// A person waits no longer than this for what a pooler does.
const OPENED_WITHIN: Duration = Duration::from_secs(10);

/// Why a piece of work on the database did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres (or the way to it) said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// No answer in time. The connection was closed, so whether the work was committed is not known.
    #[error("no answer from Postgres within {0:?}")]
    TimedOut(Duration),
    /// Its clock is behind: what was stored by it would lie on other days for good.
    #[error(transparent)]
    ClockBehind(#[from] ClockBehind),
}

impl DbError {
    /// Postgres answered, and did not want what it was given: no partition, no room on the disk. Else it is away, goes down,
    /// or takes no writes at all (SQLSTATE classes 08, 57 and 25).
    pub fn refuses_rows(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| !matches!(code.get(..2), Some("08" | "57" | "25")))
    }

    /// Why Postgres did not do it.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Sql(error) => cause(error),
            Self::TimedOut(_) => Cause::timed_out(),
            Self::ClockBehind(behind) => {
                Cause { sqlstate: None, said: behind.to_string(), cure: Some(ClockBehind::CURE) }
            }
        }
    }

    /// What to do about just this, where that is known.
    pub fn cure(&self) -> Option<&'static str> {
        self.cause().cure
    }

    /// What the failure means for the work at hand.
    pub fn fault(&self) -> super::fault::Fault {
        match self {
            Self::Sql(error) => super::fault::fault(error),
            Self::TimedOut(_) | Self::ClockBehind(_) => super::fault::Fault::Ours,
        }
    }
}

/// Reads a `DATABASE_URL` into options. What a session must have in force is asked for once it is open ([`session`]).
fn options(url: &str, name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    tls_files::check(url).map_err(|missing| sqlx::Error::Configuration(Box::new(missing)))?;
    Ok(PgConnectOptions::from_str(url)?
        .application_name(&format!("{APPLICATION} {name}"))
        // No float is ours, and a pooler refuses startup options that it does not know.
        .extra_float_digits(None)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::from_secs(60))
        .log_statements(tracing::log::LevelFilter::Off))
}

/// What Postgres shows of our sessions begins so.
const APPLICATION: &str = "vobiz-cdr";
/// A connection that has been idle for so long is asked whether it lives before it is used.
const SURELY_ALIVE: Duration = Duration::from_secs(1);

/// The pool of a command, of at most `size` connections. Connects lazily: a Postgres that is away now may come back.
pub fn connect(url: &str, name: &str, size: u32) -> Result<PgPool, sqlx::Error> {
    connect_as(SessionUser::Command, url, name, size)
}

/// The same for the service.
pub fn connect_service(url: &str, name: &str, size: u32) -> Result<PgPool, sqlx::Error> {
    connect_as(SessionUser::Service, url, name, size)
}

fn connect_as(user: SessionUser, url: &str, name: &str, size: u32) -> Result<PgPool, sqlx::Error> {
    Ok(PgPoolOptions::new()
        .max_connections(size)
        // Asking each time would cost a round trip for each of the short statements.
        .test_before_acquire(false)
        .after_connect(move |connection, _| Box::pin(session::prepare(connection, user)))
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if is_distrusted(about.age) {
                    return Ok(false);
                }
                if about.idle_for > SURELY_ALIVE || is_doubted(about.idle_for) {
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

/// Goes over to another URL: what is open is closed when it comes back, or is taken out of the pool next.
pub fn move_to(pool: &PgPool, url: &str) -> Result<(), sqlx::Error> {
    let name = pool.connect_options().get_application_name().unwrap_or_default().to_owned();
    pool.set_connect_options(options(url, name.trim_start_matches(APPLICATION).trim_start())?);
    Ok(())
}

/// A connection for a person who waits for it: a failure says why, which the pool alone does not. A pooler that mixes sessions is refused.
pub async fn open(pool: &PgPool) -> anyhow::Result<PoolConnection<Postgres>> {
    // For a Postgres that starts, or is away, the pool waits for a while.
    let checked =
        tokio::time::timeout(OPENED_WITHIN, session::check_pooling(pool, SessionUser::Command)).await;
    if let Ok(Err(sqlx::Error::Configuration(refused))) = checked {
        anyhow::bail!("{refused}");
    }
    let error = match pool.acquire().await {
        Ok(connection) => return Ok(connection),
        Err(sqlx::Error::PoolTimedOut) => {
            // A pooler takes a client in without a server connection for it, and says at its first statement why it has none.
            let opens = async {
                session::prepare(&mut pool.connect_options().connect().await?, SessionUser::Command).await
            };
            match tokio::time::timeout(Duration::from_secs(3), opens).await {
                Ok(Ok(_too_late)) => sqlx::Error::PoolTimedOut,
                Ok(Err(error)) => error,
                Err(_) => anyhow::bail!("Postgres does not answer: is DATABASE_URL right, and does it run?"),
            }
        }
        Err(error) => error,
    };
    let cure = cause(&error).cure.map_or_else(String::new, |cure| format!(": {cure}"));
    anyhow::bail!("Postgres cannot be reached: is DATABASE_URL right, and does it run? ({error}){cure}")
}

/// Why a pool gives no connection: itself it says only that it waited. The reason of one that opens beside it, if it does not.
pub async fn why_not(pool: &PgPool) -> Option<Cause> {
    let opens = async {
        let mut beside = pool.connect_options().connect().await?;
        session::prepare(&mut beside, SessionUser::Service).await?;
        beside.close().await
    };
    match tokio::time::timeout(Duration::from_secs(3), opens).await {
        Ok(opened) => opened.err().map(|error| cause(&error)),
        Err(_) => None,
    }
}

/// A connection of the pool for one piece of work, all of which must be done by a deadline; see [`timed!`](crate::db::timed).
#[derive(Debug)]
pub struct Acquired {
    connection: PoolConnection<Postgres>,
    deadline: Instant,
    limit: Duration,
    /// When it was taken out of the pool.
    taken: Instant,
    /// What stood in the way of the work was mended, and it is done for the second time.
    mended: bool,
}

/// Takes a connection of the pool; waiting for it counts.
pub async fn acquire(pool: &PgPool, limit: Duration) -> Result<Acquired, DbError> {
    acquire_by(pool, Instant::now() + limit, limit).await
}

async fn acquire_by(pool: &PgPool, deadline: Instant, limit: Duration) -> Result<Acquired, DbError> {
    pooling::check(pool)?;
    match tokio::time::timeout_at(deadline, pool.acquire()).await {
        Ok(Ok(connection)) => {
            Ok(Acquired { connection, deadline, limit, taken: Instant::now(), mended: false })
        }
        Ok(Err(error)) => {
            credentials::note(&error);
            Err(error.into())
        }
        Err(_) => Err(DbError::TimedOut(limit)),
    }
}

/// A connection that is left from one piece of work for the next, and when it was taken out of the pool.
pub type KeptConnection = Option<(PoolConnection<Postgres>, Instant)>;

/// The same with the connection that is left from the last piece of work, if one is.
pub async fn acquire_again(
    pool: &PgPool,
    kept: &mut KeptConnection,
    limit: Duration,
) -> Result<Acquired, DbError> {
    match kept.take() {
        Some((connection, taken)) if !is_distrusted(taken.elapsed()) => {
            Ok(Acquired { connection, deadline: Instant::now() + limit, limit, taken, mended: false })
        }
        _ => acquire(pool, limit).await,
    }
}

/// How a piece of work ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It is done.
    Done(T),
    /// It failed by what has been mended since: the same again, on this connection.
    Again(Acquired),
}

impl Acquired {
    /// The connection to work on, and the instant by which the work must be done.
    pub fn parts(&mut self) -> (&mut PgConnection, Instant) {
        (&mut self.connection, self.deadline)
    }

    /// Ends the work. A connection that did not answer in time, or broke, is closed instead of going back to the pool: nobody
    /// knows what it still does. Where the connection was to blame, or a partition was missing, there is one more try.
    pub async fn end<T>(
        self,
        pool: &PgPool,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<Ended<T>, DbError> {
        self.end_and_keep(pool, &mut None, result).await
    }

    /// The same; after work that succeeded the connection is kept for the next one.
    pub async fn end_and_keep<T>(
        mut self,
        pool: &PgPool,
        kept: &mut KeptConnection,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<Ended<T>, DbError> {
        match result {
            Ok(Ok(done)) => {
                *kept = Some((self.connection, self.taken));
                Ok(Ended::Done(done))
            }
            Ok(Err(error)) => {
                if let Some(remedy) = remedy(&error) {
                    // Boxed: each piece of work would be as large as what is hardly ever needed.
                    return Box::pin(self.mend(pool, remedy, error)).await;
                }
                if error.as_database_error().is_none() {
                    self.connection.close_on_drop();
                }
                if is_foreign_answer(&error) {
                    pooling::suspect();
                }
                Err(error.into())
            }
            Err(_) => {
                self.connection.close_on_drop();
                Err(DbError::TimedOut(self.limit))
            }
        }
    }

    /// Mends what stood in the way, unless that was tried before.
    async fn mend<T>(
        mut self,
        pool: &PgPool,
        remedy: Remedy,
        error: sqlx::Error,
    ) -> Result<Ended<T>, DbError> {
        if is_foreign_answer(&error) {
            pooling::suspect();
        }
        match remedy {
            // Not the sessions are to blame: to open one after the other would be a load, and help nobody. (One that is dead is found
            // out by the pool when it comes back.)
            Remedy::NewConnections if self.mended || is_futile(pool) => {
                if self.mended {
                    note_futile(pool);
                }
                Err(error.into())
            }
            Remedy::NewConnections | Remedy::NewConnection => {
                self.connection.close_on_drop();
                let (mended, deadline, limit) = (self.mended, self.deadline, self.limit);
                drop(self);
                if mended {
                    return Err(error.into());
                }
                if remedy == Remedy::NewConnections {
                    distrust_open_connections();
                } else {
                    doubt();
                }
                debug!(%error, "a connection only errs: once more on a new one");
                let anew = acquire_by(pool, deadline, limit).await?;
                Ok(Ended::Again(Acquired { mended: true, ..anew }))
            }
            Remedy::Partition if self.mended => Err(error.into()),
            Remedy::Partition => {
                let made = partition::ensure(&mut self.connection);
                match tokio::time::timeout_at(self.deadline, made).await {
                    Ok(Ok(made)) => {
                        info!(made, "a partition was missing, and was made");
                        Ok(Ended::Again(Self { mended: true, ..self }))
                    }
                    Ok(Err(why)) => {
                        warn!(error = %why, "a partition is missing and could not be made");
                        Err(error.into())
                    }
                    Err(_) => {
                        self.connection.close_on_drop();
                        Err(error.into())
                    }
                }
            }
        }
    }
}

/// Does a piece of work on a connection of a pool, within a limit for all of it: `timed!(pool, limit, |connection| future)`
/// is a future of `Result<T, DbError>`, where the inner future is one of `Result<T, sqlx::Error>`. The work is done a second time where
/// its connection was to blame, or a partition that has been made since.
///
/// A macro, because an async closure over a borrowed connection is not `Send` enough to be spawned.
#[macro_export]
macro_rules! timed {
    ($pool:expr, $limit:expr, |$connection:ident| $work:expr) => {
        async {
            let mut acquired = $crate::db::acquire($pool, $limit).await?;
            loop {
                let result = {
                    let ($connection, deadline) = acquired.parts();
                    tokio::time::timeout_at(deadline, $work).await
                };
                match acquired.end($pool, result).await? {
                    $crate::db::Ended::Done(done) => break Ok::<_, $crate::db::DbError>(done),
                    $crate::db::Ended::Again(anew) => acquired = anew,
                }
            }
        }
    };
}

/// Checks what a server must be for our promises to acquire: UTF-8, version 15, and a disk that is waited for.
pub async fn check_server(connection: &mut PgConnection) -> anyhow::Result<()> {
    let row = sqlx::query!(
        r#"select current_setting('server_encoding') as "encoding!", current_setting('fsync') as "fsync!",
                  current_setting('server_version_num')::int as "version!""#
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
