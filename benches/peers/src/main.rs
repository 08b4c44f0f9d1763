//! The drain of vobiz-cdr through two other job queues on Postgres, driven over stdin by the harness that measures.
//!
//! - [`drain`]: what every job does; the same for both.
//! - [`graphile`], [`apalis`]: the queues.
//! - [`tuning`]: their settings.
//!
//! stdout is the protocol (`ready`, `enqueued <unix seconds>`), stderr is for logs.

mod apalis;
mod drain;
mod graphile;
mod tuning;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::apalis::Apalis;
use crate::drain::{Drain, GREETING};
use crate::graphile::Graphile;
use crate::tuning::{ApalisTuning, GraphileTuning, Shared};

/// The drain of vobiz-cdr through other job queues, to compare with
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    peer: Peer,
}

#[derive(Debug, Subcommand)]
enum Peer {
    /// Through graphile_worker
    Graphile {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        tuning: GraphileTuning,
    },
    /// Through apalis-postgres
    Apalis {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        tuning: ApalisTuning,
    },
}

#[derive(Debug, Clone, Args)]
struct Common {
    /// Database in which `vobiz-cdr migrate apply` was run
    #[arg(long, value_name = "URL")]
    database_url: String,
    /// Where the CDRs come from
    #[arg(long, value_name = "URL")]
    api_url: String,
    /// The account
    #[arg(long, value_name = "ID")]
    auth_id: String,
    /// Its token
    #[arg(long, value_name = "TOKEN")]
    auth_token: String,
    /// File with one call_id a line
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    #[command(flatten)]
    shared: Shared,
}

enum Queue {
    Graphile(Graphile),
    Apalis(Apalis),
}

impl Queue {
    async fn enqueue(&self, call_ids: &[String]) -> anyhow::Result<()> {
        match self {
            Self::Graphile(queue) => queue.enqueue(call_ids).await,
            Self::Apalis(queue) => queue.enqueue(call_ids).await,
        }
    }

    async fn stop(self) {
        match self {
            Self::Graphile(queue) => queue.stop().await,
            Self::Apalis(queue) => queue.stop().await,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let peer = Cli::parse().peer;
    let (Peer::Graphile { common, .. } | Peer::Apalis { common, .. }) = &peer;

    let text = std::fs::read_to_string(&common.ids).context("--ids")?;
    let call_ids: Vec<String> = text.lines().map(str::to_owned).collect();
    let shared = &common.shared;
    let store = vobiz_cdr::db::connect(&common.database_url, "peer store", shared.pool)?;
    let pool = vobiz_cdr::db::connect(&common.database_url, "peer queue", shared.queue_pool)?;
    let clock = vobiz_cdr::db::connect(&common.database_url, "peer clock", 1)?;
    let drain = Arc::new(Drain::new(&common.api_url, &common.auth_id, &common.auth_token, store)?);
    let queue = match &peer {
        Peer::Graphile { tuning, .. } => {
            Queue::Graphile(Graphile::start(pool, Arc::clone(&drain), shared, tuning).await?)
        }
        Peer::Apalis { tuning, .. } => Queue::Apalis(Apalis::start(pool, &drain, shared, tuning).await?),
    };

    greet(&queue, &drain).await?;
    say("ready").await?;
    obey(&queue, &call_ids, &clock).await?;
    queue.stop().await;
    Ok(())
}

/// Sends jobs that store nothing through the queue until one arrives at once: now the worker is up and listens.
async fn greet(queue: &Queue, drain: &Drain) -> anyhow::Result<()> {
    for _ in 0..50 {
        queue.enqueue(&[GREETING.to_owned()]).await?;
        if drain.greeted(Duration::from_millis(200)).await {
            return Ok(());
        }
    }
    bail!("the worker takes no jobs")
}

/// Does what stdin says, until it ends.
async fn obey(queue: &Queue, call_ids: &[String], clock: &PgPool) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &["go", from, to] = words.as_slice() else { bail!("{line:?} is not: go FROM TO") };
        let range = from.parse()?..to.parse()?;
        let group = call_ids.get(range).with_context(|| format!("{line:?}: there are {}", call_ids.len()))?;
        queue.enqueue(group).await?;
        let now: f64 = sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8")
            .fetch_one(clock)
            .await?;
        say(&format!("enqueued {now:.6}")).await?;
    }
    Ok(())
}

async fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = tokio::io::stdout();
    stdout.write_all(format!("{line}\n").as_bytes()).await?;
    stdout.flush().await?;
    Ok(())
}
