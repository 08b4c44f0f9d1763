//! Where a person works on the database by a command: a connection, also beside a service that has our own Postgres running,
//! and the name under which the audit log writes down what they do.

use clap::Args;
use secrecy::ExposeSecret;
use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use sqlx::postgres::Postgres;
use vobiz_cdr::config::DatabaseArgs;
use vobiz_cdr::db::{self, migration};
use vobiz_cdr::postgres::Reached;
use vobiz_cdr::serve::DATABASE;

/// A database with the schema of this binary.
pub(crate) struct Desk {
    pool: PgPool,
    own: Option<Reached>,
}

impl Desk {
    /// Reaches the database that was named, else our own; `name` is how Postgres shows us.
    pub(crate) async fn open(args: &DatabaseArgs, name: &str) -> anyhow::Result<Self> {
        let (url, own) = if let Some(url) = args.url()? {
            (url.expose_secret().to_owned(), None)
        } else {
            let own = Reached::reach(&args.own(), DATABASE).await?;
            (own.url(), Some(own))
        };
        Ok(Self { pool: db::connect(&url, name, 1)?, own })
    }

    /// Its one connection.
    pub(crate) async fn connection(&self) -> anyhow::Result<PoolConnection<Postgres>> {
        let mut connection = db::reach(&self.pool).await?;
        migration::check(&mut connection).await?;
        Ok(connection)
    }

    /// Leaves it as it was found.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        if let Some(own) = self.own {
            own.release().await?;
        }
        Ok(())
    }
}

/// Who works here.
#[derive(Debug, Clone, Args)]
pub(crate) struct PersonArgs {
    /// Who does it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl PersonArgs {
    /// The name for the audit log; never empty.
    pub(crate) fn name(&self) -> String {
        let named =
            self.by.clone().or_else(|| std::env::var("USER").ok()).or_else(|| std::env::var("LOGNAME").ok());
        let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
    }
}
