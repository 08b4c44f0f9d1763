//! `vobiz-cdr postgres …`: a person's hand on the Postgres of our own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::database::DATABASE;
use super::output;
use crate::postgres::{self, OpenPostgres, PostgresOptions, Restore};

/// Tables that a first start fills: their rows are no reason to refuse a restore.
const OF_A_FIRST_START: [&str; 10] = [
    "vobiz._sqlx_migrations",
    "vobiz.repeatable",
    "vobiz.account",
    "vobiz.account_pause",
    "vobiz.account_replica",
    "vobiz.work_lease",
    "vobiz.setting",
    "vobiz.prefix",
    "vobiz.hangup_cause",
    "vobiz.mask_key",
];

/// Flags of `postgres`.
#[derive(Debug, Clone, Args)]
pub(super) struct PostgresArgs {
    /// Folder of our own Postgres [default: /var/lib/vobiz-cdr as root, else ~/.local/share/vobiz-cdr]
    #[arg(long, env = "CDR_DATA_DIR", value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Folder with the Postgres server programs [default: the newest found on this machine]
    #[arg(long, env = "PG_BIN_DIR", value_name = "DIR", global = true)]
    pg_bin_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: PostgresVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum PostgresVerb {
    /// psql on the database, beside a running service or without one
    Psql {
        /// Arguments for psql, such as -c 'select 1'
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Dump the database into a file, beside a running service or without one
    Dump {
        /// File to write; without it, or with -, standard output
        file: Option<PathBuf>,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Make a dump the database; refused where there is data, and while a service runs
    Restore {
        /// File made by `postgres dump` or `pg_dump -Fc`
        file: PathBuf,
    },
    /// Move the data to a newer version of Postgres that is installed beside the present one
    Upgrade {
        /// Folder with the newer server programs [default: the newest found on this machine]
        #[arg(long, value_name = "DIR")]
        to_bin_dir: Option<PathBuf>,
    },
}

/// Runs one of them.
pub(super) async fn run(args: PostgresArgs) -> anyhow::Result<ExitCode> {
    if args.data_dir.is_none() {
        for name in ["DATABASE_URL", "DATABASE_URL_FILE"] {
            if std::env::var_os(name).is_some() {
                output::stderr_line(&format!(
                    "vobiz-cdr: {name} is set, so the service keeps its data there, and this command is for a Postgres of \
                     our own. Use psql, pg_dump and pg_restore there; or name the folder of our own with --data-dir"
                ));
                return Ok(ExitCode::from(2));
            }
        }
    }
    let options = PostgresOptions {
        data_dir: args.data_dir.unwrap_or_else(postgres::default_data_dir),
        bin_dir: args.pg_bin_dir,
        settings: Vec::new(),
    };
    if let PostgresVerb::Psql { args } = args.verb {
        return psql(&options, &args).await;
    }
    let mut signals = Signals::new()?;
    let work = async {
        match args.verb {
            PostgresVerb::Psql { .. } => Ok(ExitCode::SUCCESS),
            PostgresVerb::Dump { file, force } => dump(&options, file.as_deref(), force).await,
            PostgresVerb::Restore { file } => restore(&options, &file).await,
            PostgresVerb::Upgrade { to_bin_dir } => upgrade(&options, to_bin_dir.as_deref()).await,
        }
    };
    tokio::select! {
        done = work => done,
        // Programs of ours end with the future, servers a moment later.
        _ = signals.any() => anyhow::bail!("stopped before it was done; nothing half done is in force"),
    }
}

/// Exits with psql's own code.
async fn psql(options: &PostgresOptions, args: &[OsString]) -> anyhow::Result<ExitCode> {
    // Ctrl-C means the query, not the session: psql hears it itself, and we must outlive it.
    let mut signals = Signals::new()?;
    let reached = OpenPostgres::open(options, DATABASE).await?;
    let status = match reached.psql().args(args).spawn() {
        Ok(mut child) => loop {
            tokio::select! {
                status = child.wait() => break status.map_err(anyhow::Error::from),
                from_keyboard = signals.any() => if !from_keyboard { end(&child) },
            }
        },
        Err(error) => Err(reached.psql_not_run(error).into()),
    };
    let released = reached.release().await;
    let status = status?;
    released?;
    let by_signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    let code = status.code().or(by_signal).and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Passes SIGTERM on.
fn end(child: &tokio::process::Child) {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // It may be gone already; then waiting says so.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

async fn dump(options: &PostgresOptions, file: Option<&Path>, force: bool) -> anyhow::Result<ExitCode> {
    let Some(file) = file.filter(|file| *file != Path::new("-")) else {
        if output::is_terminal() {
            output::stderr_line(
                "vobiz-cdr: a dump is no text for a terminal; name a FILE, or send it on with > or |",
            );
            return Ok(ExitCode::from(2));
        }
        postgres::dump_to_stdout(options, DATABASE).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let dumped = postgres::dump_to_file(options, DATABASE, file, force).await?;
    output::stderr_line(&format!(
        "dumped database {DATABASE} of Postgres {} into {} ({})",
        dumped.major,
        file.display(),
        size(dumped.bytes)
    ));
    Ok(ExitCode::SUCCESS)
}

async fn restore(options: &PostgresOptions, file: &Path) -> anyhow::Result<ExitCode> {
    let restore = Restore { database: DATABASE, must_hold: "vobiz.cdr", replaceable: &OF_A_FIRST_START };
    let restored = restore.from(options, file).await?;
    output::stderr_line(&format!("restored {} into Postgres {}:", file.display(), restored.major));
    for (table, rows) in &restored.tables {
        output::stderr_line(&format!("  {rows:>12}  {table}"));
    }
    output::stderr_line(
        "Next: start `vobiz-cdr serve`. It migrates the schema if the dump is of an older release, and its first sweep \
         reads the list of Vobiz from where the dump left off, so that calls made since come back by themselves. Then \
         `vobiz-cdr recover --since` with the time of the dump compares every day since with Vobiz again.",
    );
    Ok(ExitCode::SUCCESS)
}

async fn upgrade(options: &PostgresOptions, to_bin_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let upgraded = postgres::upgrade(options, to_bin_dir).await?;
    output::stderr_line(&format!(
        "the data is in Postgres {} now, before it was in {}; {} tables with {} rows are the same on both sides",
        upgraded.to, upgraded.from, upgraded.tables, upgraded.rows
    ));
    for note in &upgraded.notes {
        output::stderr_line(&format!("note: {note}"));
    }
    output::stderr_line(&format!(
        "The old database is kept in {} ({}); remove it once you are content: rm -r {}",
        upgraded.kept.display(),
        size(upgraded.kept_bytes),
        upgraded.kept.display()
    ));
    if upgraded.name_bin_dir {
        output::stderr_line(&format!(
            "Next: start `vobiz-cdr serve` with PG_BIN_DIR={}",
            upgraded.bin_dir.display()
        ));
    } else {
        output::stderr_line("Next: start `vobiz-cdr serve`.");
    }
    Ok(ExitCode::SUCCESS)
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// The ways in which we are told to stop.
struct Signals {
    term: Signal,
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for one of them. True for those that everybody at the terminal hears.
    async fn any(&mut self) -> bool {
        tokio::select! {
            _ = self.term.recv() => false,
            _ = self.hangup.recv() => false,
            _ = self.interrupt.recv() => true,
            _ = self.quit.recv() => true,
        }
    }
}
