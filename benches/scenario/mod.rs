//! What is measured, a file each.

mod callbacks;
mod churn;
mod day;
mod drain;
mod growth;
mod lease;
mod neighbour;
mod outage;
mod refusal;
mod replicas;
mod scrape;
mod strangers;

use std::fmt;

use clap::ValueEnum;

use crate::harness::Bench;

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Callbacks a second and how long one takes, against a handler without database and one insert a callback
    Callbacks,
    /// CDRs stored a second, against a bare fetch loop, one call at a time, and peers
    Drain,
    /// What a lease costs with 3 thousand and with 3 million owed calls
    Lease,
    /// Half a million calls through the queue: dead rows, bytes, CPU, WAL
    Churn,
    /// Reports and a forgotten transaction on the same database
    Neighbour,
    /// 200,000 calls owed after a day without the API, at 20 requests a second
    Outage,
    /// Callbacks while Postgres hangs: how long until each is answered 503
    Refusal,
    /// Strangers at full speed on the public port, beside real callbacks: their p99, none lost, memory and disk
    Strangers,
    /// Scrapes of /metrics and polls of /status with an empty queue and with 100 thousand owed calls
    Scrape,
    /// One rate limit over three replicas, 429, and a denied account beside them
    Replicas,
    /// How cost grows with the rate of calls and with the CDRs that are there: up to ten million, so 25 GB of disk
    Growth,
    /// A customer's day of 300,000 calls at a rate limit that single fetches alone cannot live on
    Day,
}

impl Scenario {
    /// Those that run by default, in their order.
    pub(crate) const ORDINARY: [Self; 10] = [
        Self::Callbacks,
        Self::Drain,
        Self::Lease,
        Self::Churn,
        Self::Neighbour,
        Self::Outage,
        Self::Refusal,
        Self::Strangers,
        Self::Scrape,
        Self::Replicas,
    ];

    /// Measures it.
    pub(crate) async fn run(self, bench: &mut Bench) -> anyhow::Result<()> {
        match self {
            Self::Callbacks => callbacks::run(bench).await,
            Self::Drain => drain::run(bench).await,
            Self::Lease => lease::run(bench).await,
            Self::Churn => churn::run(bench).await,
            Self::Neighbour => neighbour::run(bench).await,
            Self::Outage => outage::run(bench).await,
            Self::Refusal => refusal::run(bench).await,
            Self::Strangers => strangers::run(bench).await,
            Self::Scrape => scrape::run(bench).await,
            Self::Replicas => replicas::run(bench).await,
            Self::Growth => growth::run(bench).await,
            Self::Day => day::run(bench).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
