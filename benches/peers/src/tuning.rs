//! The settings that were tried. The defaults are the fastest that were found; README.md has the figures.

use std::time::Duration;

use clap::Args;

/// What both have: how many at a time, on how many connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shared {
    /// Jobs at work at the same time
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) workers: usize,
    /// Connections for the upserts
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) pool: u32,
    /// Connections for the queue itself
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) queue_pool: u32,
    /// Do not let the planner know of the new jobs, as autovacuum would have in a deployment that runs for longer
    #[arg(long)]
    pub(crate) no_analyze: bool,
}

/// Settings of graphile_worker.
#[derive(Debug, Clone, Args)]
pub(crate) struct GraphileTuning {
    /// Jobs a local queue claims at once; 0: no local queue
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(crate) local_queue: usize,
    /// Local queues
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) local_queues: usize,
    /// Completions are collected for so long; 0s: not at all
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) complete_delay: Duration,
    /// How often it looks without being notified
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) poll: Duration,
}

/// Settings of apalis-postgres.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApalisTuning {
    /// Tasks claimed at once
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(crate) batch: usize,
    /// Workers that share the concurrency
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) instances: usize,
    /// Note the start of every task as well
    #[arg(long)]
    pub(crate) lock_tasks: bool,
    /// Listen to NOTIFY as well
    #[arg(long)]
    pub(crate) pubsub: bool,
    /// How often it looks
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) poll: Duration,
}
