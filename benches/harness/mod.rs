//! What every scenario stands on: one Postgres for the run, a fresh database for each measurement, processes, load, a report.

pub mod child;
pub mod database;
pub mod disk;
pub mod load;
pub mod proc;
pub mod queue;
pub mod report;
pub mod requests;
pub mod role;
pub mod vobiz;

use std::path::Path;

use anyhow::Context;
use vobiz_cdr::postgres::{Options, Postgres};

use report::Report;

use crate::Args;

/// The account of all simulated calls, and its token.
pub const ACCOUNT: &str = "MA_SIMULATE";
pub const TOKEN: &str = "tok_simulated_main";
/// The URL that callbacks are signed for; they really go to a port of this machine, as behind a proxy.
pub const PUBLIC_URL: &str = "https://calls.example.com/callbacks/vobiz";

/// Server settings that differ from those of a fresh cluster. They are the same for every variant; the report prints them.
const SETTINGS: [(&str, &str); 3] =
    [("max_connections", "200"), ("shared_buffers", "512MB"), ("max_wal_size", "4GB")];

/// One run of the benchmark.
pub struct Bench {
    /// What the command line asks for.
    pub args: Args,
    /// What was found.
    pub report: Report,
    postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Starts Postgres and migrates the template of all databases.
    pub async fn start(args: &Args) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vobiz-cdr-bench.").tempdir()?;
        // The server's account must get through to its data.
        #[cfg(unix)]
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut settings = SETTINGS.to_vec();
        if args.statements {
            settings.push(("shared_preload_libraries", "pg_stat_statements"));
        }
        let postgres = Postgres::start(Options {
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
    pub async fn database(&self, name: &str) -> anyhow::Result<String> {
        database::make(&self.postgres, name).await
    }

    /// Throws a database away.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        database::drop(&self.postgres, name).await
    }

    /// Says where Postgres has spent its time in this database, if it was asked for.
    pub async fn say_statements(&self, pool: &sqlx::PgPool) -> anyhow::Result<()> {
        if self.args.statements {
            for line in database::statements(pool).await? {
                self.report.say(&format!("    {line}"));
            }
        }
        Ok(())
    }

    /// The server's process, the parent of all its others.
    pub fn postgres_pid(&self) -> u32 {
        self.postgres.pid()
    }

    /// A folder for ids, logs and the probe of the disk, on the same disk as Postgres.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `full`, or in a quick run `quick`.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.args.quick { quick } else { full }
    }

    /// Whether the command line asks for this variant.
    pub fn wants(&self, variant: &str) -> bool {
        self.args.variant.as_ref().is_none_or(|word| variant.contains(word))
    }

    /// Stops Postgres and removes everything.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.postgres.stop().await?;
        Ok(self.folder.close()?)
    }
}
