//! The parts this program plays in processes of its own. Not for people: scenarios start them.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use crate::baseline;

/// What a role is told.
#[derive(Debug, Clone, Parser)]
pub(crate) struct RoleArgs {
    /// simulator, handler, insert, insert-our-pool, bare or single
    pub(crate) name: String,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Its database.
    #[arg(long, default_value = "")]
    pub(crate) database_url: String,
    /// The API that it asks.
    #[arg(long, default_value = "")]
    pub(crate) api_url: String,
    /// The ids of all calls, one a line.
    #[arg(long, default_value = "ids")]
    pub(crate) ids: PathBuf,
    /// Calls that are there from the start.
    #[arg(long, default_value_t = 0)]
    pub(crate) calls: usize,
    /// Every answer waits so many milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) latency_ms: u64,
    /// Milliseconds from the end of a call until its CDR is there.
    #[arg(long, default_value_t = 0)]
    pub(crate) cdr_delay_ms: u64,
    /// Requests a second before 429.
    #[arg(long)]
    pub(crate) rate_limit: Option<u32>,
    /// Calls ended at drawn moments within so many seconds before now.
    #[arg(long, default_value_t = 0)]
    pub(crate) spread: u64,
    /// Further accounts of the simulated Vobiz; each has the token of the first.
    #[arg(long, value_delimiter = ',')]
    pub(crate) accounts: Vec<String>,
    /// Requests, or calls, under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) workers: usize,
}

/// Plays a role until its standard input ends.
pub(crate) async fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let args = RoleArgs::parse_from(std::iter::once("role".to_owned()).chain(arguments));
    match args.name.as_str() {
        "simulator" => super::vobiz::simulate(&args).await,
        "handler" | "insert" | "insert-our-pool" => baseline::receive::run(&args).await,
        "bare" => baseline::bare::run(&args).await,
        "single" => baseline::single::run(&args).await,
        other => anyhow::bail!("there is no role {other:?}"),
    }
}

/// Says that the role is ready, and with what.
#[expect(clippy::print_stdout, reason = "roles talk to their scenario by lines")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The orders that come in.
pub(crate) fn orders() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

/// Reads the ids `FROM TO` (half open) of an order `go FROM TO`.
pub(crate) fn ids_of(order: &str, all: &[String]) -> anyhow::Result<Vec<String>> {
    let mut words = order.split_whitespace().skip(1).map(str::parse::<usize>);
    let (from, to) = words.next().zip(words.next()).context("an order is `go FROM TO`")?;
    Ok(all.get(from?..to?).context("there are not so many ids")?.to_vec())
}

/// All ids of a file.
pub(crate) fn read_ids(args: &RoleArgs) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(&args.ids).with_context(|| args.ids.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}
