//! How fast, against what, on this machine: `./dev bench`, or `cargo bench --bench throughput -- [SCENARIO]…`.
//!
//! A real Postgres with fsync on, a simulated Vobiz, the built service and every baseline run as processes of their own;
//! this one makes the load and reads the clock. Variants take turns (A B C, A B C), so that a machine that gets slower does
//! so for all of them. Printed are medians, their spread and ratios; `--json FILE` keeps every single value.

mod baseline;
mod harness;
mod scenario;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harness::report::say;
use harness::{Bench, role};
use scenario::Scenario;
use tokio::signal::unix::{SignalKind, signal};

/// What the command line asks for.
#[derive(Debug, Clone, Parser)]
#[command(name = "throughput", about = "Measures the service against baselines, in one run")]
struct Args {
    /// What to measure; without a name, all but `day`, which takes an hour
    scenarios: Vec<Scenario>,
    /// Turns of each variant
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Only variants whose name holds this word, such as `ours`: for tuning
    #[arg(long, value_name = "WORD")]
    variant: Option<String>,
    /// Connections in `callbacks`
    #[arg(long, value_delimiter = ',', default_value = "16,64,256,512", value_name = "N,…")]
    connections: Vec<usize>,
    /// Milliseconds until the API answers, in `drain`
    #[arg(long, value_delimiter = ',', default_value = "0,20,100", value_name = "MS,…")]
    latencies: Vec<u64>,
    /// Write every value here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A part of everything, in a few minutes: to see that it runs, not to quote
    #[arg(long)]
    quick: bool,
    /// Minutes into which the customer's day of nine hours is pressed, at a load that is higher by as much
    #[arg(long, default_value_t = 54, value_name = "MINUTES")]
    day_minutes: u32,
    /// The built `benches/peers`; without it, peers are left out and the report says so
    #[arg(long, env = "BENCH_PEERS", value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Also print where Postgres spends its time, by statement (pg_stat_statements, which costs a little itself)
    #[arg(long)]
    statements: bool,
    /// Cargo says so; it means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "role").is_some() {
        return runtime.block_on(role::run(arguments.collect())).map(|()| ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let scenarios =
        if args.scenarios.is_empty() { Scenario::ORDINARY.to_vec() } else { args.scenarios.clone() };
    let measured = async {
        let mut bench = Bench::start(&args).await?;
        let mut failed = None;
        for scenario in scenarios {
            say(&format!("— {scenario} —"));
            if let Err(error) = scenario.run(&mut bench).await {
                failed = Some(error.context(scenario.to_string()));
                break;
            }
        }
        let bars_hold = bench.report.finish(args.json.as_deref())?;
        bench.stop().await?;
        match failed {
            Some(error) => Err(error),
            None if bars_hold => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::FAILURE),
        }
    };
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = measured => ended,
            // Whatever runs for us is ended on the way out.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped"),
            _ = terminate.recv() => anyhow::bail!("stopped"),
        }
    });
    // One line: where in this program it came up helps nobody.
    ended.or_else(|error: anyhow::Error| {
        let _ = writeln!(std::io::stderr(), "throughput: {error:#}");
        Ok(ExitCode::FAILURE)
    })
}
