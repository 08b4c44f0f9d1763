//! The command line: one short arm per subcommand. Data goes to stdout, words to stderr.
//!
//! Exit codes: 0 done, 1 failed or mismatch, 2 usage or configuration.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use sqlx::error::DatabaseError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use backfill::{BackfillArgs, RecoverArgs};
use dead_letters::DeadLettersArgs;
use export::ExportArgs;
use reconciliation::ReconcileArgs;
use reparse::ReparseArgs;
use report::ReportArgs;
use verify::VerifyArgs;
use vobiz_cdr::config::{DatabaseArgs, Mistakes, ServeArgs, ServeConfig, effective, unknown_variables};
use vobiz_cdr::db::migration::{self, State};
use vobiz_cdr::demo::{self, DemoArgs};
use vobiz_cdr::own_postgres::{self, PostgresArgs};
use vobiz_cdr::postgres::Postgres;
use vobiz_cdr::reconcile::Wrong;
use vobiz_cdr::serve::{Ending, Service};
use vobiz_cdr::simulate::{self, SimulateArgs};
use vobiz_cdr::{db, serve};

mod ask;
mod backfill;
mod date;
mod dead_letters;
mod export;
mod person;
mod reach;
mod reconciliation;
mod reparse;
mod report;
mod roles;
mod sheet;
mod verify;

/// Every Vobiz call, exact and complete, in your own Postgres
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
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
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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
    Status {
        #[command(flatten)]
        ops: OpsAddress,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List days of the past: store their calls, compare, and begin the ledger earlier
    Backfill(Box<BackfillArgs>),
    /// After a restore: list every day since again
    Recover(Box<RecoverArgs>),
    /// Calls that were given up: list, show, revive or close them
    DeadLetters(Box<DeadLettersArgs>),
    /// Compare our calls with a day of Vobiz's list, its CSV export, or a table that you have; exit 1 when they differ
    Reconcile(Box<ReconcileArgs>),
    /// Rebuild the columns of the stored CDRs from the payloads that were kept, without asking Vobiz
    Reparse(Box<ReparseArgs>),
    /// A bill or another report for a range of days, as a table, CSV or JSON; --list says which there are
    Report(Box<ReportArgs>),
    /// The itemised calls of one customer in one month, as CSV files with totals and a manifest of their hashes
    Export(Box<ExportArgs>),
    /// Prove the sums that the bill is read from against the calls; exit 1 when they differ
    Verify(Box<VerifyArgs>),
    /// The schema: apply, status, check or roles
    Migrate {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        verb: MigrateVerb,
    },
    /// A Postgres of our own: psql, dump, restore, upgrade
    Postgres(PostgresArgs),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct OpsAddress {
    /// Address of the service's ops port
    #[arg(long, env = "CDR_OPS_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    ops_listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum MigrateVerb {
    /// Apply what is pending, and make the partitions
    Apply,
    /// List all migrations and what became of them
    Status,
    /// Exit 0 if this binary can work on the schema, else 1
    Check,
    /// Make the roles vobiz_masked, vobiz_finance and vobiz_app, and give them what they need; again after each upgrade
    Roles,
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Err(error) = start_logging(&cli) {
        say(&format!("--log: {error}; write a filter such as info or vobiz_cdr=debug"));
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command, &matches)) {
        Ok(code) => code,
        Err(error) if error.is::<Mistakes>() || error.is::<Usage>() || error.is::<Wrong>() => {
            say(&format!("vobiz-cdr: {}", explain(&error)));
            ExitCode::from(2)
        }
        Err(error) => {
            say(&format!("vobiz-cdr: {}", explain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// What was asked for cannot be meant so; the words say what to write instead. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// An error and its causes, each once, in the words of Postgres where it is the one that complains.
fn explain(error: &anyhow::Error) -> String {
    let mut words = String::new();
    let theirs = error.chain().find_map(|cause| cause.downcast_ref::<Box<dyn DatabaseError>>());
    for cause in error.chain() {
        let mut said = cause.to_string();
        if let Some(theirs) = theirs {
            // It adds a line of the source of Postgres.
            said = said.replace(&theirs.to_string(), theirs.message());
        }
        if !words.contains(&said) {
            words = if words.is_empty() { said } else { format!("{words}: {said}") };
        }
    }
    if theirs.is_some_and(|theirs| theirs.code().as_deref() == Some("42501")) {
        words += "\nThis user may not do that. `vobiz-cdr migrate roles`, run by the owner of the schema vobiz, lets vobiz_finance and \
                  vobiz_masked read and vobiz_app work; it is run again after each upgrade";
    }
    words
}

/// A word to a person. A closed stderr is no reason to panic.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn start_logging(cli: &Cli) -> Result<(), tracing_subscriber::filter::ParseError> {
    let default = if matches!(cli.command, Command::Demo(_)) {
        "error"
    } else {
        "info,sqlx=warn,sqlx_core::pool=error"
    };
    let filter = EnvFilter::try_new(cli.log.as_deref().unwrap_or(default))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for a terminal; a file or a collector gets plain text.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match cli.log_format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    Ok(())
}

async fn run(command: Command, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => run_service(*args, matches).await,
        Command::Demo(args) => demo::run(args, told_to_stop(Hangup::Stops)?).await,
        Command::Simulate(args) => {
            simulate::run(*args, told_to_stop(Hangup::Stops)?).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Healthcheck(OpsAddress { ops_listen }) => ask::health(ops_listen).await,
        Command::Status { ops: OpsAddress { ops_listen }, json } => ask::status(ops_listen, json).await,
        Command::Backfill(args) => backfill::run(*args, told_to_stop(Hangup::Stops)?).await,
        Command::Recover(args) => backfill::recover(*args, told_to_stop(Hangup::Stops)?).await,
        Command::DeadLetters(args) => dead_letters::run(&args).await,
        Command::Reconcile(args) => reconciliation::run(&args, told_to_stop(Hangup::Stops)?).await,
        Command::Reparse(args) => reparse::run(&args).await,
        Command::Report(args) => report::run(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Verify(args) => verify::run(&args).await,
        Command::Migrate { database, verb } => migrate(&database, verb).await,
        Command::Postgres(args) => own_postgres::run(args).await,
    }
}

async fn run_service(args: ServeArgs, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    for name in unknown_variables(&Cli::command()) {
        warn!(
            name,
            "this variable is not a setting of vobiz-cdr: a slip of the pen? See `vobiz-cdr serve --help`"
        );
    }
    // From here on a SIGHUP is heard, and attended to once the service runs.
    let hangup = signal(SignalKind::hangup())?;
    let config = args.check()?;
    if args.check_only {
        return Ok(show(&config, matches));
    }
    allow_many_connections();
    let stop = told_to_stop(Hangup::IsAnothers)?;
    let (url, mut own) = database(&args.database).await?;
    let migrate = config.migrate.unwrap_or(own.is_some());
    let serve = async {
        let service = tokio::select! {
            service = Service::prepare(config, &url, migrate) => service?,
            () = stop.cancelled() => return Ok(()),
        };
        service.run_with_reloads(stop, Ending::Patient, told_to_reload(args, hangup)).await
    };
    let served = tokio::select! {
        served = serve => served,
        status = died(own.as_mut()) => Err(anyhow::anyhow!(
            "our own Postgres ended by itself ({status}): see postgres.log in its data folder, then start the service again"
        )),
    };
    if let Some(own) = own {
        let stopped = own.stop().await;
        served?;
        stopped?;
        return Ok(ExitCode::SUCCESS);
    }
    served.map(|()| ExitCode::SUCCESS)
}

/// Prints the effective settings.
fn show(config: &ServeConfig, matches: &ArgMatches) -> ExitCode {
    let command = Cli::command();
    if let (Some(serve), Some(matches)) =
        (command.find_subcommand("serve"), matches.subcommand_matches("serve"))
    {
        print_line(effective(serve, matches, config).trim_end());
    }
    ExitCode::SUCCESS
}

/// The usual limit of 1024 open files is less than the connections we are willing to hold.
fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files could not be raised");
    }
}

/// The settings as they are read anew with each SIGHUP: files are, the environment of a process does not change. Settings that
/// are wrong are said and change nothing.
fn told_to_reload(args: ServeArgs, mut hangup: Signal) -> mpsc::Receiver<ServeConfig> {
    let (newer, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match args.check() {
                Ok(config) => {
                    if newer.send(config).await.is_err() {
                        return;
                    }
                }
                Err(mistakes) => error!(%mistakes, "SIGHUP: not reloaded, the old settings stay"),
            }
        }
    });
    reloads
}

/// Waits until our own Postgres ends by itself; for ever, where there is none.
async fn died(own: Option<&mut Postgres>) -> String {
    match own {
        Some(own) => own.exited().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => std::future::pending().await,
    }
}

async fn migrate(database_args: &DatabaseArgs, verb: MigrateVerb) -> anyhow::Result<ExitCode> {
    let (url, own) = database(database_args).await?;
    let pool = db::connect(&url, "migrate", 1)?;
    drop(db::reach(&pool).await?);
    let done = match verb {
        MigrateVerb::Apply => {
            let applied = migration::apply(&pool, std::time::Duration::from_secs(300)).await?;
            info!(applied, "the schema is up to date");
            true
        }
        MigrateVerb::Status => {
            let mut connection = pool.acquire().await?;
            let steps = migration::status(&mut connection).await?;
            for step in &steps {
                let state = format!("{:?}", step.state).to_lowercase();
                print_line(&format!("{state:8} {} {}", step.version, step.description));
            }
            steps.iter().all(|step| matches!(step.state, State::Applied | State::Ahead))
        }
        MigrateVerb::Check => {
            let mut connection = pool.acquire().await?;
            migration::check(&mut connection).await.inspect_err(|error| error!(%error, "check")).is_ok()
        }
        MigrateVerb::Roles => roles::make(&pool).await?,
    };
    pool.close().await;
    if let Some(own) = own {
        own.stop().await?;
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line of data. A reader that went away (`| head`) is no error.
fn print_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The database to work on: the one that was named, else a Postgres of our own.
async fn database(args: &DatabaseArgs) -> anyhow::Result<(String, Option<Postgres>)> {
    if let Some(url) = args.url()? {
        return Ok((url.expose_secret().to_owned(), None));
    }
    let own = Postgres::start(args.own()).await?;
    let url = own.url(serve::DATABASE);
    db::create_database(&url, serve::DATABASE).await?;
    info!(psql = own.psql(serve::DATABASE), "no DATABASE_URL: working on a Postgres of our own");
    Ok((url, Some(own)))
}

/// What SIGHUP means to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hangup {
    /// The terminal was closed: stop.
    Stops,
    /// Somebody else listens for it.
    IsAnothers,
}

/// Fires on SIGTERM and SIGINT; a second one ends the process at once.
fn told_to_stop(hangup_is: Hangup) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let token = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv(), if hangup_is == Hangup::Stops => {}
            }
            if again {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
