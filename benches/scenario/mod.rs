//! What is measured, a file each.

mod callbacks;
mod drain;

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
}

impl Scenario {
    /// Those that run by default, in their order.
    pub const ORDINARY: [Self; 2] = [Self::Callbacks, Self::Drain];

    /// Measures it.
    pub async fn run(self, bench: &mut Bench) -> anyhow::Result<()> {
        match self {
            Self::Callbacks => callbacks::run(bench).await,
            Self::Drain => drain::run(bench).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
