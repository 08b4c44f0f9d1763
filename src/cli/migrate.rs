//! `vobiz-cdr migrate`: the schema and the roles that read it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use sqlx::PgPool;
use tracing::{error, info, warn};

use super::args::Usage;
use super::{database, output};
use crate::config::DatabaseArgs;
use crate::db;
use crate::db::base::migration::{self, MigrationState};
use crate::db::base::role::{self, ROLES};

/// Flags of `migrate`.
#[derive(Debug, Clone, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(subcommand)]
    verb: MigrateVerb,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum MigrateVerb {
    /// Apply what is pending, and make the partitions
    Apply {
        /// Make a Postgres of our own where there is none yet and no DATABASE_URL says another
        #[arg(long)]
        own: bool,
    },
    /// List all migrations and what became of them
    Status,
    /// Exit 0 if this binary can work on the schema, else 1
    Check,
    /// Make the roles vobiz_masked, vobiz_finance and vobiz_app, and give them what they need; again after each upgrade
    Roles,
}

/// Runs one of them. Exit code 1 where something is left to do.
pub(super) async fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    if matches!(args.verb, MigrateVerb::Apply { own: true }) {
        let (url, own) = database::open(&args.database).await?;
        let pool = db::connect(&url, "migrate", 1)?;
        let done = on_pool(&pool, args.verb).await;
        pool.close().await;
        if let Some(own) = own {
            own.stop().await?;
        }
        return done;
    }
    // A slip in the settings must not make an empty database and call it the schema.
    database::on_any_schema(&args.database, "migrate", 1, async |pool| on_pool(pool, args.verb).await).await
}

async fn on_pool(pool: &PgPool, verb: MigrateVerb) -> anyhow::Result<ExitCode> {
    drop(db::open(pool).await?);
    let done = match verb {
        MigrateVerb::Apply { .. } => {
            let applied = migration::apply(pool, Duration::from_secs(300)).await?;
            info!(applied, "the schema is up to date");
            true
        }
        MigrateVerb::Status => {
            let mut connection = pool.acquire().await?;
            let steps = migration::status(&mut connection).await?;
            for step in &steps {
                let state = format!("{:?}", step.state).to_lowercase();
                output::stdout_line(&format!("{state:8} {} {}", step.version, step.description));
            }
            steps.iter().all(|step| matches!(step.state, MigrationState::Applied | MigrationState::Ahead))
        }
        MigrateVerb::Check => {
            let mut connection = pool.acquire().await?;
            migration::check(&mut connection).await.inspect_err(|error| error!(%error, "check")).is_ok()
        }
        MigrateVerb::Roles => make_roles(pool).await?,
    };
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes them and gives them their rights; the same again changes nothing. False where something is left for a user with more
/// rights.
async fn make_roles(pool: &PgPool) -> anyhow::Result<bool> {
    let mut connection = pool.acquire().await?;
    migration::check(&mut connection).await?;
    let missing = role::missing(&mut connection).await?;
    if !missing.is_empty() {
        if !role::may_create(&mut connection).await? {
            let words: Vec<String> =
                missing.iter().map(|name| format!("create role {name} login;")).collect();
            bail!(Usage(format!(
                "this user may not create roles. Let one who may (a superuser, or one with createrole) say\n    {}\nand then run \
                 `vobiz-cdr migrate roles` again",
                words.join(" ")
            )));
        }
        role::create(&mut connection).await?;
    }
    role::grant(&mut connection).await.map_err(|error| {
        let denied = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if denied.as_deref() == Some("42501") {
            anyhow::Error::new(Usage(format!(
                "this user may not give away what it does not own ({error}): run it as the owner of the schema vobiz, who ran \
                 `vobiz-cdr migrate apply`"
            )))
        } else {
            error.into()
        }
    })?;
    let unlimited = role::limit_readers(&mut connection).await?;
    info!(
        roles = ROLES.join(", "),
        "the roles have what they need; set a password: \\password vobiz_finance"
    );
    for reader in &unlimited {
        warn!("{} reads without limits. Let one who may say: {}", reader.name, reader.cure);
    }
    // A provider may give such rights to nobody: then it is said, and nothing is left to do.
    if let Some(cure) = role::left_to_public(&mut connection).await? {
        warn!(
            "every login may make temporary tables or large objects here, and so fill the disk. Let the owner of the database, or a superuser, \
             say: {cure}"
        );
    }
    Ok(unlimited.is_empty())
}
