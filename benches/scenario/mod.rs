//! What is measured, a file each.

mod callbacks;
mod churn;
mod drain;
mod lease;
mod neighbour;

use std::fmt;

use clap::ValueEnum;

use crate::harness::Bench;

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
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
}

impl Scenario {
    /// Those that run by default, in their order.
    pub const ORDINARY: [Self; 5] = [Self::Callbacks, Self::Drain, Self::Lease, Self::Churn, Self::Neighbour];

    /// Measures it.
    pub async fn run(self, bench: &mut Bench) -> anyhow::Result<()> {
        match self {
            Self::Callbacks => callbacks::run(bench).await,
            Self::Drain => drain::run(bench).await,
            Self::Lease => lease::run(bench).await,
            Self::Churn => churn::run(bench).await,
            Self::Neighbour => neighbour::run(bench).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
