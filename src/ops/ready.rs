//! `/readyz`: whether the process can do its own work right now. For one that receives this is a probe that goes the way of a
//! callback, to the commit.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Ops, PORT, Phase};

/// A readiness probe waits no longer than this.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Within this, the same answer serves all who ask.
const READY_FOR: Duration = Duration::from_secs(1);

impl Ops {
    /// Whether the process can do its own work right now; else why not.
    pub async fn ready(&self) -> Result<(), String> {
        match self.phase() {
            Phase::Starting => return Err("starting".into()),
            Phase::Stopping => return Err("stopping".into()),
            Phase::Running => {}
        }
        let probe = self.probe.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(probe) = probe else { return self.can_work() };
        // One probe at a time, and its answer is everybody's for a second: asking must cost nothing.
        let mut ready = self.ready.lock().await;
        if let Some((asked, known)) = &*ready
            && asked.elapsed() < READY_FOR
        {
            return known.clone();
        }
        let probed = tokio::time::timeout(READY_WITHIN, probe()).await;
        let found = probed.unwrap_or_else(|_| Err("Postgres did not commit in time".into()));
        let found = found.map_err(|why| format!("callbacks cannot be committed: {why}"));
        let shut =
            || self.metrics.heartbeats.all().iter().any(|p| p.name() == PORT && p.is_stalled(Duration::MAX));
        let found = found
            .and_then(|()| if shut() { Err("the public port takes no connections".into()) } else { Ok(()) });
        *ready = Some((Instant::now(), found.clone()));
        found
    }

    /// The same for a process that does not receive: Postgres answers, and the loops move.
    fn can_work(&self) -> Result<(), String> {
        let snapshot = self.snapshot();
        if !snapshot.postgres.answers {
            return Err("Postgres does not answer".into());
        }
        if snapshot.postgres.read_only.is_some() {
            return Err("Postgres takes no writes".into());
        }
        match snapshot.loops.iter().find(|snapshot| snapshot.stalled) {
            Some(stalled) => Err(format!("the loop `{}` makes no progress", stalled.name)),
            None => Ok(()),
        }
    }
}
