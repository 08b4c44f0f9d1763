//! Everything on this machine: a Postgres of our own, a simulated Vobiz on a bad day, this service between them, and a report
//! at the end. Nothing has to be configured, and nothing outside its own folder is touched.

mod proof;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Url;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::cli::database::DATABASE;
use crate::cli::output::{self, table};
use crate::config::{AccountConfig, Part, ServeConfig};
use crate::db::bill::report::{self, Story};
use crate::db::queue::{self, QueueDepth};
use crate::db::{self, timed};
use crate::postgres::{self, Postgres};
use crate::serve::{Ending, Service};
use crate::simulator::{
    Faults, SimulatedAccount, Simulator, SimulatorOptions, Traffic, TrafficProgress, Truth,
};
use crate::vobiz::SignaturePolicy;
use crate::vobiz::{AccountId, Credentials, PathStyle};

const ACCOUNT: &str = "MA_DEMO";
const TOKEN: &str = "tok_demo_4f1c9a7e";
const SECRET: &str = "demo-secret-path-7d1f0a52";
/// The URL that Vobiz knows and signs for; the callbacks really go to a port of this machine, as behind a proxy.
const PUBLIC_URL: &str = "https://calls.example.com/callbacks/vobiz";
/// After this long, what is missing is missing.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Costs that change do so this long after their CDR appears.
const REVISED_AFTER: Duration = Duration::from_secs(3);

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
pub(super) struct DemoArgs {
    /// Calls to make
    #[arg(long, default_value_t = 300, value_name = "N")]
    calls: u64,
    /// Calls a second
    #[arg(long, default_value_t = 60, value_name = "RATE")]
    per_second: u32,
    /// Everything drawn follows from this number
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Folder with the Postgres server programs [default: the newest found on this machine]
    #[arg(long, env = "PG_BIN_DIR", value_name = "DIR")]
    pg_bin_dir: Option<PathBuf>,
}

/// Runs the demo. Exit code 1 if any call is missing or differs at the end.
pub(super) async fn run(args: DemoArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("vobiz-cdr-demo-{}", std::process::id()));
    output::stderr_line("starting Postgres (fsync on), a simulated Vobiz and the service");
    let own = Postgres::start(postgres::PostgresOptions {
        data_dir: folder.clone(),
        bin_dir: args.pg_bin_dir.clone(),
        settings: Vec::new(),
    })
    .await
    .inspect_err(|_| {
        // What a failed start left behind, if anything.
        let _ = std::fs::remove_dir_all(&folder);
    })?;
    let result = on_postgres(&args, &own, stop).await;
    own.stop().await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    result
}

async fn on_postgres(args: &DemoArgs, own: &Postgres, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let url = own.url(DATABASE);
    db::create_database(&url, DATABASE).await?;
    let simulator = Simulator::start(simulator_options(args.seed)).await?;
    let config = service_config(&simulator.api_url())?;
    let service = Service::prepare(config.clone(), &url, true).await?;
    let (address, ops) = (service.address()?, service.ops_address());
    simulator.set_callback_sent_to(&format!("http://{address}/callbacks/vobiz"));
    simulator.set_trunk_url(&format!("http://{address}/callbacks/vobiz/{SECRET}"));

    let stop_service = CancellationToken::new();
    let mut serving = tokio::spawn(service.run(stop_service.clone(), Ending::AtOnce));
    let pool = db::connect(&url, "demo", 4)?;
    let ended = tokio::select! {
        ended = watch(args, &simulator, &pool) => ended?,
        () = stop.cancelled() => { output::stderr_line("stopped"); None }
        served = &mut serving => {
            served??;
            anyhow::bail!("the service ended by itself");
        }
    };
    let code = match ended {
        Some(outcome) => {
            print_report(&pool, &simulator, &outcome).await?;
            let proved = Box::pin(proof::prove(&pool, &simulator, &config.vobiz())).await?;
            if args.keep && !stop.is_cancelled() {
                output::stdout_line(&format!(
                    "\nStill running (Ctrl-C ends it). Look for yourself:\n  {}\nCallbacks: http://{address}/callbacks/vobiz\nCDR API: {}",
                    own.psql(DATABASE),
                    simulator.api_url()
                ));
                output::stdout_line(&beside(&own.url(DATABASE), &simulator.api_url(), ops));
                stop.cancelled().await;
            } else {
                output::stdout_line("\nTo look for yourself with psql, run it with --keep.");
            }
            if outcome.missing.is_empty() && outcome.different.is_empty() && proved {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        None => ExitCode::FAILURE,
    };
    stop_service.cancel();
    pool.close().await;
    serving.await??;
    simulator.stop().await;
    Ok(code)
}

/// What to paste into another shell, so that the commands of the documentation work on what runs here.
fn beside(database: &str, api: &str, ops: SocketAddr) -> String {
    let settings = [
        ("DATABASE_URL", database),
        ("VOBIZ_API_URL", api),
        ("VOBIZ_AUTH_ID", ACCOUNT),
        ("VOBIZ_AUTH_TOKEN", TOKEN),
        ("CDR_OPS_LISTEN", &ops.to_string()),
    ];
    let words = settings.map(|(name, value)| format!("{name}={}", postgres::shell_word(value)));
    format!(
        "In another shell, for `vobiz-cdr status`, `vobiz-cdr reconcile --day` (docs/completeness.md, section 3) and all other commands:\n  \
         export {}",
        words.join(" ")
    )
}

fn simulator_options(seed: u64) -> SimulatorOptions {
    SimulatorOptions {
        accounts: vec![SimulatedAccount::new(ACCOUNT, TOKEN)],
        callback_url: Some(PUBLIC_URL.into()),
        seed,
        faults: Faults {
            late_by: Duration::from_secs(5),
            revised_after: REVISED_AFTER,
            throttled: 0.005,
            ..Faults::some()
        },
        cdr_delay: Duration::from_millis(800),
        day_zone: proof::DAY_ZONE,
        ..SimulatorOptions::default()
    }
}

fn service_config(api_url: &str) -> anyhow::Result<ServeConfig> {
    let account_id = AccountId::new(ACCOUNT)?;
    Ok(ServeConfig {
        database_url: None,
        migrate: Some(true),
        listen: ([127, 0, 0, 1], 0).into(),
        ops_listen: ([127, 0, 0, 1], 0).into(),
        parts: Part::ALL.to_vec(),
        accounts: vec![AccountConfig {
            credentials: Credentials {
                auth_id: account_id.clone(),
                account_id,
                tokens: vec![TOKEN.into()],
                styles: vec![PathStyle::Capital, PathStyle::Lower],
            },
            max_rps: 300.0,
            callback_secrets: vec![],
        }],
        api_url: Url::parse(api_url)?,
        proxy: None,
        callback_urls: vec![PUBLIC_URL.into()],
        callback_secrets: vec![SECRET.into()],
        policy: SignaturePolicy::Required,
        first_fetch_delay: Duration::from_secs(1),
        // Long enough that calls come by their callbacks, short enough that the lost ones are healed while one watches.
        sweep_interval: Duration::from_secs(6),
        concurrency: 32,
        max_speculative_per_minute: 600,
        max_by_secret_per_minute: 600,
        connections_per_address: None,
        request_timeout: Duration::from_secs(5),
        billing_zone: None,
        home_country: None,
    })
}

/// How the copy compares with what really happened.
struct DemoOutcome {
    calls: usize,
    missing: Vec<String>,
    different: Vec<String>,
    took: Duration,
    most_owed: i64,
}

/// Makes the calls and watches until everything is stored as it really was, or it has waited for long enough.
async fn watch(args: &DemoArgs, simulator: &Simulator, pool: &PgPool) -> anyhow::Result<Option<DemoOutcome>> {
    let started = Instant::now();
    let progress = Arc::new(TrafficProgress::default());
    let traffic = Traffic {
        calls: args.calls,
        per_second: args.per_second,
        trunk_share: 0.2,
        // Inside the hour that every sweep looks back.
        spread: Duration::from_secs(40 * 60),
        ..Traffic::default()
    };
    let mut calling = {
        let (simulator, progress) = (simulator.clone(), Arc::clone(&progress));
        tokio::spawn(async move { simulator.run(&traffic, &progress).await })
    };
    let line = ProgressLine::new();
    let mut all_called = false;
    let mut most_owed = 0;
    loop {
        let (story, depth) = counts(pool).await?;
        most_owed = most_owed.max(depth.owed);
        let made = progress.summary();
        line.show(&format!(
            "calls {:>4}  callbacks {:>4}  owed {:>3}  stored {:>4}  retried {:>3}  healed {:>2}  revised {:>2}",
            made.placed, story.callbacks, depth.owed, story.stored, story.retried, story.healed, story.revised
        ));
        if all_called {
            let outcome = compare(&simulator.calls(), pool, started.elapsed(), most_owed).await?;
            let complete = outcome.missing.is_empty() && outcome.different.is_empty() && depth.owed == 0;
            if complete
                || started.elapsed()
                    > GIVE_UP_AFTER + Duration::from_secs(args.calls / u64::from(args.per_second.max(1)))
            {
                line.end();
                return Ok(Some(outcome));
            }
        }
        tokio::select! {
            called = &mut calling, if !all_called => { called?; all_called = true; }
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

async fn counts(pool: &PgPool) -> anyhow::Result<(Story, QueueDepth)> {
    let limit = Duration::from_secs(10);
    let story = timed!(pool, limit, |connection| report::story(connection)).await?;
    let depth = timed!(pool, limit, |connection| queue::depth(connection)).await?;
    Ok((story, depth))
}

/// Holds every call that happened against the table: there, with its seconds and its cost to the last digit?
async fn compare(
    truth: &[Truth],
    pool: &PgPool,
    took: Duration,
    most_owed: i64,
) -> anyhow::Result<DemoOutcome> {
    let stored = timed!(pool, Duration::from_secs(10), |connection| report::stored_calls(connection)).await?;
    let stored: HashMap<&str, &report::StoredCall> =
        stored.iter().map(|call| (call.call_id.as_str(), call)).collect();
    let (mut missing, mut different) = (vec![], vec![]);
    for call in truth {
        match stored.get(call.call_id.as_str()) {
            None => missing.push(call.call_id.clone()),
            Some(row) => {
                let same_seconds =
                    row.billsec.and_then(|seconds| u32::try_from(seconds).ok()) == Some(call.billsec);
                if !same_seconds || row.total_cost != Some(call.total_cost) {
                    different.push(call.call_id.clone());
                }
            }
        }
    }
    Ok(DemoOutcome { calls: truth.len(), missing, different, took, most_owed })
}

async fn print_report(pool: &PgPool, simulator: &Simulator, outcome: &DemoOutcome) -> anyhow::Result<()> {
    let limit = Duration::from_secs(10);
    let (story, depth) = counts(pool).await?;
    let rows = timed!(pool, limit, |connection| report::by_day(connection)).await?;
    let mut table = table::framed(
        [
            "day (Asia/Kolkata)",
            "direction",
            "hangup cause",
            "calls",
            "answered",
            "minutes",
            "cost",
            "currency",
        ],
        3..7,
    );
    for row in rows {
        table.add_row([
            row.day,
            row.direction,
            row.hangup_cause,
            row.calls.to_string(),
            row.answered.to_string(),
            row.minutes.to_string(),
            row.cost.normalize().to_string(),
            row.currency,
        ]);
    }
    let requests = simulator.stats().total_requests();
    output::stdout_line(&format!("\n{table}\n"));
    output::stdout_line(&format!(
        "callbacks received       {:>6}   of which announced the end of a call: {}",
        story.callbacks, story.announcements
    ));
    output::stdout_line(&format!(
        "owed at most             {:>6}   at one moment; owed now: {}, dead letters: {}",
        outcome.most_owed, depth.owed, depth.dead
    ));
    output::stdout_line(&format!(
        "retried                  {:>6}   calls whose CDR came late or whose fetch failed at first",
        story.retried
    ));
    output::stdout_line(&format!(
        "healed                   {:>6}   calls that no callback announced, found by the sweep",
        story.healed
    ));
    output::stdout_line(&format!(
        "revised                  {:>6}   calls whose cost changed after the first fetch; every version is kept",
        story.revised
    ));
    output::stdout_line(&format!("API requests             {requests:>6}   for {} calls", outcome.calls));
    output::stdout_line(&format!(
        "missing                  {:>6}   of {} calls, compared one by one with what really happened",
        outcome.missing.len(),
        outcome.calls
    ));
    output::stdout_line(&format!(
        "different                {:>6}   in seconds or cost",
        outcome.different.len()
    ));
    output::stdout_line(&format!("took                     {:>5.1}s", outcome.took.as_secs_f64()));
    for (what, calls) in [("missing", &outcome.missing), ("different", &outcome.different)] {
        for call_id in calls.iter().take(10) {
            output::stdout_line(&format!("{what}: {call_id}"));
        }
    }
    Ok(())
}

/// The live line: on a terminal it moves, elsewhere it is said every few seconds.
struct ProgressLine {
    bar: Option<ProgressBar>,
    said: std::cell::Cell<Option<Instant>>,
}

impl ProgressLine {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4}  {msg}");
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Self { bar, said: std::cell::Cell::new(None) }
    }

    fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.to_owned());
                bar.tick();
            }
            None if self.said.get().is_none_or(|said| said.elapsed() >= Duration::from_secs(3)) => {
                self.said.set(Some(Instant::now()));
                output::stderr_line(text);
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
