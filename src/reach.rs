//! The database for a command that looks or mends: the one that was named, else our own Postgres, also beside a service that has
//! it running.

use secrecy::ExposeSecret;
use sqlx::{PgConnection, PgPool};
use vobiz_cdr::config::DatabaseArgs;
use vobiz_cdr::db::{self, migration};
use vobiz_cdr::postgres::Reached;
use vobiz_cdr::serve::DATABASE;

/// Does a piece of work on one connection, on a schema that this binary understands. `name` is what Postgres shows of us.
pub(crate) async fn on_database<T>(
    args: &DatabaseArgs,
    name: &str,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (url, own) = if let Some(url) = args.url()? {
        (url.expose_secret().to_owned(), None)
    } else {
        let own = Reached::reach(&args.own(), DATABASE).await?;
        (own.url(), Some(own))
    };
    let pool = db::connect(&url, name, 1)?;
    let done = on_pool(&pool, work).await;
    pool.close().await;
    if let Some(own) = own {
        own.release().await?;
    }
    done
}

async fn on_pool<T>(
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut connection = db::reach(pool).await?;
    migration::check(&mut connection).await?;
    work(&mut connection).await
}
