//! The simulated Vobiz as a process of its own: the role, and the handle by which a scenario speaks to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use vobiz_cdr::simulator::{
    Answer, CallSpec, RequestKind, RetryAfter, SimulatedAccount, Simulator, SimulatorOptions, Traffic,
    TrafficProgress,
};

use super::child::Talking;
use super::role::{RoleArgs, orders, say};
use super::{ACCOUNT, PUBLIC_URL, TOKEN};

/// What it has counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Fetches of single calls.
    pub(crate) singles: u64,
    /// Pages of lists.
    pub(crate) pages: u64,
    /// All requests.
    pub(crate) requests: u64,
    /// Answers 429.
    pub(crate) throttled: u64,
    /// Calls that were fetched more than once.
    pub(crate) fetched_again: usize,
}

/// A simulated Vobiz that runs.
pub(crate) struct Vobiz {
    talking: Talking,
    /// Base of its API.
    pub(crate) api_url: String,
    /// The file with the ids of its calls, one a line.
    pub(crate) ids: PathBuf,
}

impl Vobiz {
    /// Starts one with so many calls; `more` are further flags of the role.
    pub(crate) async fn start(folder: &Path, calls: usize, more: &[&str]) -> anyhow::Result<Self> {
        let ids = folder.join("ids");
        let (calls, file) = (calls.to_string(), ids.display().to_string());
        let mut arguments = vec!["simulator", "--calls", &calls, "--ids", &file];
        arguments.extend(more);
        let (talking, api_url) = Talking::role(&arguments).await?;
        Ok(Self { talking, api_url, ids })
    }

    /// The ids of its calls.
    pub(crate) fn ids(&self) -> anyhow::Result<Vec<String>> {
        Ok(std::fs::read_to_string(&self.ids)?.lines().map(str::to_owned).collect())
    }

    /// What it has counted so far.
    pub(crate) async fn counted(&mut self) -> anyhow::Result<Counted> {
        Ok(serde_json::from_str(&self.talking.order("stats").await?)?)
    }

    /// Answers everything 429 from now on, or no longer.
    pub(crate) async fn throttle(&mut self, on: bool) -> anyhow::Result<()> {
        self.talking.order(if on { "throttle on" } else { "throttle off" }).await.map(drop)
    }

    /// Makes calls at a pace, each with its callback to this address; returns how many were answered 200.
    pub(crate) async fn traffic(
        &mut self,
        calls: u64,
        per_second: u32,
        address: &str,
    ) -> anyhow::Result<u64> {
        let said = self.talking.order(&format!("traffic {calls} {per_second} {address}")).await?;
        Ok(said.parse()?)
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.talking.stop().await
    }
}

/// The role.
pub(super) async fn simulate(args: &RoleArgs) -> anyhow::Result<()> {
    let mut accounts = vec![SimulatedAccount::new(ACCOUNT, TOKEN)];
    accounts.extend(args.accounts.iter().map(|id| SimulatedAccount::new(id, TOKEN)));
    let simulator = Simulator::start(SimulatorOptions {
        listen: args.listen,
        accounts,
        callback_url: Some(PUBLIC_URL.to_owned()),
        latency: Duration::from_millis(args.latency_ms),
        cdr_delay: Duration::from_millis(args.cdr_delay_ms),
        rate_limit: args.rate_limit,
        ..SimulatorOptions::default()
    })
    .await?;
    #[expect(clippy::disallowed_methods, reason = "the simulated Vobiz has a clock of its own")]
    let now = chrono::Utc::now();
    let step = Duration::from_secs(args.spread) / u32::try_from(args.calls.max(1))?;
    for n in 1..=args.calls {
        let ago = step * u32::try_from(args.calls - n)?;
        simulator.place_call(CallSpec { ended_at: Some(now - ago), ..CallSpec::default() });
    }
    let ids: Vec<String> = simulator.calls().into_iter().map(|call| call.call_id).collect();
    std::fs::write(&args.ids, ids.join("\n"))?;
    say(&format!("ready {}", simulator.api_url()));
    let mut orders = orders();
    while let Some(order) = orders.next_line().await? {
        let words: Vec<&str> = order.split_whitespace().collect();
        match words.as_slice() {
            ["stats"] => say(&serde_json::to_string(&counted(&simulator))?),
            ["throttle", how] => {
                let answer = (*how == "on").then_some(Answer::Throttled(RetryAfter::Seconds(2)));
                simulator.script_account(ACCOUNT, answer);
                say("done");
            }
            ["traffic", calls, per_second, address] => {
                simulator.set_callback_sent_to(&format!("http://{address}/callbacks/vobiz"));
                let traffic = Traffic {
                    calls: calls.parse()?,
                    per_second: per_second.parse()?,
                    early_callbacks: false,
                    ..Traffic::default()
                };
                let made = simulator.run(&traffic, &Arc::new(TrafficProgress::default())).await;
                say(&made.acknowledged.to_string());
            }
            _ => bail!("the simulator does not know the order {order:?}"),
        }
    }
    simulator.stop().await;
    Ok(())
}

fn counted(simulator: &Simulator) -> Counted {
    let stats = simulator.stats();
    Counted {
        singles: stats.requests_of(RequestKind::Single),
        pages: stats.requests_of(RequestKind::List),
        requests: stats.total_requests(),
        throttled: stats.statuses.get(&429).copied().unwrap_or(0),
        fetched_again: stats.fetches.values().filter(|times| **times > 1).count(),
    }
}
