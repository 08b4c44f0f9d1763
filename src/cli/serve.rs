//! `vobiz-cdr serve`: the settings, the database, and the service until it is told to stop.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::database;
use super::output;
use super::signals::{OnHangup, stop_on_signal};
use crate::config::{ServeArgs, ServeConfig, effective, unknown_variables};
use crate::db::base::credentials;
use crate::postgres::Postgres;
use crate::serve::{Ending, Reload, Service};

/// Runs the service; or with `--check` prints its settings. `command` and `matches` are the whole command line, as it may be and
/// as it is.
pub(super) async fn run(
    args: ServeArgs,
    command: &Command,
    matches: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    for name in unknown_variables(command) {
        warn!(
            name,
            "this variable is not a setting of vobiz-cdr: a slip of the pen? See `vobiz-cdr serve --help`"
        );
    }
    // From here on a SIGHUP is heard, and attended to once the service runs.
    let hangup = signal(SignalKind::hangup())?;
    let config = args.check()?;
    for warning in config.warnings() {
        warn!("{warning}");
    }
    if args.check_only {
        return Ok(show(&config, command, matches));
    }
    allow_many_connections();
    let stop = stop_on_signal(OnHangup::Ignore)?;
    let (url, mut own) = database::open(&args.database).await?;
    let migrate = config.migrate.unwrap_or(own.is_some());
    let serve = async {
        let service = tokio::select! {
            service = Service::prepare(config, &url, migrate) => service?,
            () = stop.cancelled() => return Ok(()),
        };
        service.run_with_reloads(stop, Ending::Graceful, reload_on_hangup(args, hangup)).await
    };
    let served = tokio::select! {
        served = serve => served,
        (status, why) = died(own.as_mut()) => Err(anyhow::anyhow!(
            "our own Postgres ended by itself ({status}): {why}; mend that (postgres.log in its data folder says more), then start the \
             service again"
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
fn show(config: &ServeConfig, command: &Command, matches: &ArgMatches) -> ExitCode {
    if let (Some(serve), Some(matches)) =
        (command.find_subcommand("serve"), matches.subcommand_matches("serve"))
    {
        output::stdout_line(effective(serve, matches, config).trim_end());
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

/// After a refused login the file of the URL is read no sooner than this again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The settings as they are read anew with each SIGHUP: files are, the environment of a process does not change. Settings that
/// are wrong are said and change nothing. The file of the database's URL is also read when Postgres refuses the login.
fn reload_on_hangup(args: ServeArgs, mut hangup: Signal) -> mpsc::Receiver<Reload> {
    let (newer, reloads) = mpsc::channel(1);
    let has_file = std::env::var_os("DATABASE_URL_FILE").is_some();
    tokio::spawn(async move {
        let mut read_next = Instant::now();
        loop {
            let reload = tokio::select! {
                hung_up = hangup.recv() => {
                    if hung_up.is_none() {
                        return;
                    }
                    match args.check() {
                        Ok(config) => {
                            say_if_url_stays(&config, has_file);
                            Reload::Settings(Box::new(config))
                        }
                        Err(mistakes) => {
                            Reload::Mistakes(mistakes.to_string())
                        }
                    }
                }
                () = credentials::refused(), if has_file && Instant::now() >= read_next => {
                    read_next = Instant::now() + READ_AGAIN;
                    // Nothing else is taken in unasked.
                    let Some(url) = args.database.url().ok().flatten() else { continue };
                    Reload::Database(url)
                }
                () = tokio::time::sleep_until(read_next), if Instant::now() < read_next => continue,
            };
            if newer.send(reload).await.is_err() {
                return;
            }
        }
    });
    reloads
}

fn say_if_url_stays(config: &ServeConfig, has_file: bool) {
    if !has_file && config.database_url.is_some() {
        info!(
            "DATABASE_URL stands in a variable or a flag, which stays as it was at the start: for another one restart, or use \
             DATABASE_URL_FILE"
        );
    }
}

/// Waits until our own Postgres ends by itself; for ever, where there is none.
async fn died(own: Option<&mut Postgres>) -> (String, String) {
    match own {
        Some(own) => {
            let status = own.exited().await;
            (status.map_or_else(|error| error.to_string(), |status| status.to_string()), own.last_words())
        }
        None => std::future::pending().await,
    }
}
