//! What every scenario stands on: one Postgres for the run, a fresh database for each measurement, processes, load, a report.

pub(crate) mod child;
pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod load;
pub(crate) mod proc;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod requests;
pub(crate) mod role;
pub(crate) mod vobiz;

use std::path::Path;

use anyhow::Context;
use vobiz_cdr::postgres::{Postgres, PostgresOptions};

use report::{Report, say};

use crate::Args;

/// The account of all simulated calls, and its token.
pub(crate) const ACCOUNT: &str = "MA_SIMULATE";
pub(crate) const TOKEN: &str = "tok_simulated_main";
/// The URL that callbacks are signed for; they really go to a port of this machine, as behind a proxy.
pub(crate) const PUBLIC_URL: &str = "https://calls.example.com/callbacks/vobiz";

/// Server settings that differ from those of a fresh cluster. They are the same for every variant; the report prints them.
const SETTINGS: [(&str, &str); 3] =
    [("max_connections", "200"), ("shared_buffers", "512MB"), ("max_wal_size", "4GB")];

/// One run of the benchmark.
pub(crate) struct Bench {
    /// What the command line asks for.
    pub(crate) args: Args,
    /// What was found.
    pub(crate) report: Report,
    postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Starts Postgres and migrates the template of all databases.
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vobiz-cdr-bench.").tempdir()?;
        // The server's account must get through to its data.
        #[cfg(unix)]
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut settings = SETTINGS.to_vec();
        if args.statements {
            settings.push(("shared_preload_libraries", "pg_stat_statements"));
        }
        let postgres = Postgres::start(PostgresOptions {
            data_dir: folder.path().join("postgres"),
            bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
            settings: settings
                .iter()
                .map(|(name, value)| (String::from(*name), String::from(*value)))
                .collect(),
        })
        .await
        .context("Postgres")?;
        database::make_template(&postgres, args.statements).await?;
        let mut report = Report::new(args.quick);
        report.machine(postgres.major(), &settings);
        Ok(Self { args: args.clone(), report, postgres, folder })
    }

    /// A fresh database with the schema and the account, in place of one of this name; its URL.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<String> {
        database::make(&self.postgres, name).await
    }

    /// Throws a database away.
    pub(crate) async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        database::drop(&self.postgres, name).await
    }

    /// Says where Postgres has spent its time in this database, if it was asked for.
    pub(crate) async fn say_statements(&self, pool: &sqlx::PgPool) -> anyhow::Result<()> {
        if self.args.statements {
            for line in database::statements(pool).await? {
                say(&format!("    {line}"));
            }
        }
        Ok(())
    }

    /// The server's process, the parent of all its others.
    pub(crate) fn postgres_pid(&self) -> u32 {
        self.postgres.pid()
    }

    /// A folder for ids, logs and the probe of the disk, on the same disk as Postgres.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `full`, or in a quick run `quick`.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.args.quick { quick } else { full }
    }

    /// Whether the command line asks for this variant.
    pub(crate) fn wants(&self, variant: &str) -> bool {
        self.args.variant.as_ref().is_none_or(|word| variant.contains(word))
    }

    /// Stops Postgres and removes everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.postgres.stop().await?;
        Ok(self.folder.close()?)
    }
}
