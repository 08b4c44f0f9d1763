//! The database of a command: the one that was named, else a Postgres of our own; chosen here and nowhere else.

use super::args::Usage;
use super::output;
use crate::config::DatabaseArgs;
use crate::db;
use crate::db::base::migration;
use crate::postgres::{OpenPostgres, Postgres};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, PgPool};
use tracing::info;

/// Name of the database in a Postgres of our own.
pub(super) const DATABASE: &str = "vobiz";

/// The URL that was named, if one was.
fn named(args: &DatabaseArgs) -> anyhow::Result<Option<SecretString>> {
    let url = args.url()?;
    url.as_ref().map_or(Ok(()), check)?;
    Ok(url)
}

/// Refuses a URL that cannot be read, as the wrong setting that it is.
pub(super) fn check(url: &SecretString) -> anyhow::Result<()> {
    db::check_url(url.expose_secret()).map_err(|error| {
        let why = match error {
            sqlx::Error::Configuration(why) => why.to_string(),
            other => other.to_string(),
        };
        Usage(format!(
            "DATABASE_URL: {why}; write postgres://user:password@host:port/database?sslmode=verify-full"
        ))
        .into()
    })
}

/// The URL of the database for a command that runs by itself: where none was named, a Postgres of our own is started, and is the
/// caller's to stop.
pub(super) async fn open(args: &DatabaseArgs) -> anyhow::Result<(String, Option<Postgres>)> {
    if let Some(url) = named(args)? {
        return Ok((url.expose_secret().to_owned(), None));
    }
    let own = Postgres::start(args.own()).await?;
    let url = own.url(DATABASE);
    db::create_database(&url, DATABASE).await?;
    info!(psql = own.psql(DATABASE), "no DATABASE_URL: working on a Postgres of our own");
    Ok((url, Some(own)))
}

/// For a command that reads or mends, also beside a service that has our own Postgres running. Does a piece of work on a pool of so
/// many connections, on a schema that this binary understands. `name` is what Postgres shows of us.
///
/// # Errors
/// Where neither a database is named nor a Postgres of our own is there: none is made.
pub(crate) async fn on_pool<T>(
    args: &DatabaseArgs,
    name: &str,
    size: u32,
    work: impl AsyncFnOnce(&PgPool) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    on_any_schema(args, name, size, async |pool| {
        checked(pool).await?;
        work(pool).await
    })
    .await
}

/// The same, whatever the schema is.
pub(super) async fn on_any_schema<T>(
    args: &DatabaseArgs,
    name: &str,
    size: u32,
    work: impl AsyncFnOnce(&PgPool) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (url, own) = if let Some(url) = named(args)? {
        (url.expose_secret().to_owned(), None)
    } else {
        let own = OpenPostgres::open(&args.own(), DATABASE).await?;
        (own.url(), Some(own))
    };
    let pool = db::connect(&url, name, size)?;
    let done = work(&pool).await;
    pool.close().await;
    if let Some(own) = own {
        own.release().await?;
    }
    done
}

/// Says which database is read: a report of another one looks as good as that of the right one.
pub(super) fn say_place(args: &DatabaseArgs) -> anyhow::Result<()> {
    output::stderr_line(&format!("read from {}", args.place()?));
    Ok(())
}

/// A schema that this binary understands.
async fn checked(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = db::open(pool).await?;
    Ok(migration::check(&mut connection).await?)
}

/// The same on one connection.
pub(crate) async fn on_database<T>(
    args: &DatabaseArgs,
    name: &str,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    on_pool(args, name, 1, async |pool| work(&mut *pool.acquire().await?).await).await
}
