//! What a person types: one file a subcommand, and one short arm each here. Data goes to stdout, words to stderr.
//!
//! Exit codes: 0 done, 1 failed or mismatch, 2 usage or configuration; of `reconcile` also 3, it could not be done, because 1 is its
//! answer that the two sides differ.

mod account;
mod accounts;
mod args;
mod backfill;
mod csv;
mod database;
mod dead_letters;
mod demo;
mod env_file;
mod export;
mod logs;
mod migrate;
mod output;
mod postgres;
mod range;
mod reconcile;
mod recover;
mod reparse;
mod report;
mod secrets;
mod serve;
mod signals;
mod simulate;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Mistakes, ServeArgs};
use crate::reconcile::Wrong;
use account::AccountArgs;
use args::{OpsAddress, Usage};
use backfill::BackfillArgs;
use dead_letters::DeadLettersArgs;
use demo::DemoArgs;
use export::ExportArgs;
use logs::LogFormat;
use migrate::MigrateArgs;
use postgres::PostgresArgs;
use reconcile::ReconcileArgs;
use recover::RecoverArgs;
use reparse::ReparseArgs;
use report::ReportArgs;
use signals::{OnHangup, stop_on_signal};
use simulate::SimulateArgs;
use status::StatusArgs;
use verify::VerifyArgs;

/// Every Vobiz call, exact and complete, in your own Postgres
#[derive(Debug, Parser)]
#[command(version = crate::watch::VERSION, max_term_width = 110)]
pub struct Cli {
    /// Form of the logs on stderr
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "text",
        global = true,
        value_name = "FORMAT",
        help_heading = "Logs"
    )]
    log_format: LogFormat,
    /// What to log, such as info or vobiz_cdr=debug [default: info; for demo: error]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER", help_heading = "Logs")]
    log: Option<String>,
    /// File with the settings of the service, one NAME=value a line; what the environment says wins [default:
    /// /etc/vobiz-cdr/vobiz-cdr.env where this user may read it and nothing else says a setting; not for serve]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    env_file: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive callbacks, fetch CDRs, sweep the list
    Serve(Box<ServeArgs>),
    /// Everything on this machine: own Postgres, simulated Vobiz, this service, a report at the end
    Demo(DemoArgs),
    /// A Vobiz to develop against: CDR API, list, signed callbacks, faults by flags
    Simulate(Box<SimulateArgs>),
    /// Exit 0 if a service on this machine is alive, else 1 (for images without curl)
    Healthcheck(OpsAddress),
    /// What /status of a service on this machine says; exit 1 when a person must act
    Status(StatusArgs),
    /// List days of the past: store their calls, compare, and begin the ledger earlier
    Backfill(Box<BackfillArgs>),
    /// After a restore: list every day since again
    Recover(Box<RecoverArgs>),
    /// Calls that were given up: list, show, revive or close them
    DeadLetters(Box<DeadLettersArgs>),
    /// Accounts: list them, check whether Vobiz lets them read, retire one that leaves
    Account(Box<AccountArgs>),
    /// Compare our calls with a day of Vobiz's list, its CSV export, or a table that you have; exit 1 when they differ
    Reconcile(Box<ReconcileArgs>),
    /// Rebuild the columns of the stored CDRs from the payloads that were kept, without asking Vobiz
    Reparse(Box<ReparseArgs>),
    /// A bill or another report for a range of days, as a table, CSV or JSON; --list says which there are
    Report(Box<ReportArgs>),
    /// The itemised calls of one customer in one month, as CSV files with totals and a manifest of their hashes
    Export(Box<ExportArgs>),
    /// Prove the sums that the bill is read from against the calls, and settled days against the list; exit 1 when they differ
    Verify(Box<VerifyArgs>),
    /// The schema: apply, status, check or roles
    Migrate(Box<MigrateArgs>),
    /// A Postgres of our own: psql, dump, restore, upgrade
    Postgres(PostgresArgs),
}

impl Cli {
    /// Reads the command line of this process; exits with help, version or a usage error where that is what it asks for.
    /// The settings of `--env-file` are in the environment when this returns.
    pub fn read() -> (Self, ArgMatches) {
        if let Err(mistake) = env_file::load() {
            refused(&Self::command().error(clap::error::ErrorKind::Io, mistake));
        }
        let matches = Self::command().try_get_matches().unwrap_or_else(|error| refused(&error));
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| refused(&error));
        (cli, matches)
    }

    /// Starts the log on stderr, as the flags say.
    ///
    /// # Errors
    /// A filter that cannot be read is said on stderr; the exit code is that of a usage error.
    pub fn start_logs(&self) -> Result<(), ExitCode> {
        let default = if matches!(self.command, Command::Demo(_)) { logs::QUIET } else { logs::USUAL };
        logs::start(self.log.as_deref().unwrap_or(default), self.log_format).map_err(|mistake| {
            output::stderr_line(&mistake);
            ExitCode::from(2)
        })
    }
}

/// Prints help, version or what is wrong with the command line, and ends the process.
fn refused(error: &clap::Error) -> ! {
    let printed = error.print();
    let lost = printed.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    std::process::exit(if lost { 1 } else { error.exit_code() })
}

/// Runs the command and turns what came of it into an exit code; a failure is said on stderr. Where its data could not be written it
/// has failed, whatever it has done.
pub async fn run(cli: Cli, matches: &ArgMatches) -> ExitCode {
    let failed =
        if matches!(cli.command, Command::Reconcile(_)) { ExitCode::from(3) } else { ExitCode::FAILURE };
    secrets::hide_memory();
    secrets::warn_of_arguments(&Cli::command(), matches);
    let code = done(cli, matches, failed).await;
    match output::ended() {
        Ok(()) => code,
        Err(error) => {
            output::stderr_line(&format!("vobiz-cdr: not all of the output could be written: {error}"));
            failed
        }
    }
}

async fn done(cli: Cli, matches: &ArgMatches, failed: ExitCode) -> ExitCode {
    match dispatch(cli.command, matches).await {
        Ok(code) => code,
        Err(error) => {
            output::stderr_line(&format!("vobiz-cdr: {}", output::explain(&error)));
            let theirs = error.is::<Mistakes>() || error.is::<Usage>() || error.is::<Wrong>();
            if theirs { ExitCode::from(2) } else { failed }
        }
    }
}

async fn dispatch(command: Command, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let stop = || stop_on_signal(OnHangup::Stop);
    match command {
        Command::Serve(args) => serve::run(*args, &Cli::command(), matches).await,
        Command::Demo(args) => demo::run(args, stop()?).await,
        Command::Simulate(args) => simulate::run(*args, stop()?).await.map(|()| ExitCode::SUCCESS),
        Command::Healthcheck(ops) => status::health(ops).await,
        Command::Status(args) => status::run(args).await,
        Command::Backfill(args) => backfill::run(*args, stop()?).await,
        Command::Recover(args) => recover::run(*args, stop()?).await,
        Command::DeadLetters(args) => dead_letters::run(&args).await,
        Command::Account(args) => account::run(&args).await,
        Command::Reconcile(args) => reconcile::run(&args, stop()?).await,
        Command::Reparse(args) => reparse::run(&args).await,
        Command::Report(args) => report::run(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Verify(args) => verify::run(&args).await,
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Postgres(args) => postgres::run(args).await,
    }
}
