//! Many calls in a row: each is placed, rings, is answered and hangs up, with the faults it has drawn. A call's own
//! length passes in no time; only the pace of calls is real.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::call::{Call, CallKind, CallSpec, Direction};
use super::callback::CallbackKind;
use super::deliver;
use super::draw::{self, Purpose};
use super::world::World;

/// How many calls, and how fast.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// How many.
    pub calls: u64,
    /// How many a second; 0 is as fast as `concurrency` lets them.
    pub per_second: u32,
    /// Calls in slot at once.
    pub concurrency: usize,
    /// The share of trunk calls, 0 to 1; needs a trunk URL.
    pub trunk_share: f64,
    /// Also sends what comes before the hang-up: ring and answer, or the trunk's attempt.
    pub early_callbacks: bool,
    /// Calls ended at drawn moments of this time before now.
    pub spread: Duration,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            calls: 100,
            per_second: 0,
            concurrency: 64,
            trunk_share: 0.0,
            early_callbacks: true,
            spread: Duration::ZERO,
        }
    }
}

/// Counters that move while traffic runs.
#[derive(Debug, Default)]
pub struct TrafficProgress {
    placed: AtomicU64,
    acknowledged: AtomicU64,
    unacknowledged: AtomicU64,
    lost: AtomicU64,
}

/// What became of the hang-up callbacks; the last three add up to `placed` at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSummary {
    /// Calls made.
    pub placed: u64,
    /// Answered 200.
    pub acknowledged: u64,
    /// Not answered 200 within Vobiz's timeout.
    pub unacknowledged: u64,
    /// Never sent: a drawn fault.
    pub lost: u64,
}

impl TrafficProgress {
    /// All counters as they are now.
    pub fn summary(&self) -> TrafficSummary {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TrafficSummary {
            placed: read(&self.placed),
            acknowledged: read(&self.acknowledged),
            unacknowledged: read(&self.unacknowledged),
            lost: read(&self.lost),
        }
    }
}

/// Runs it all, and returns when the last callback is answered or given up.
pub(super) async fn run(
    world: &Arc<World>,
    traffic: &Traffic,
    progress: &Arc<TrafficProgress>,
) -> TrafficSummary {
    let slots = Arc::new(Semaphore::new(traffic.concurrency.max(1)));
    let mut calls = JoinSet::new();
    let start = Instant::now();
    for n in 0..traffic.calls {
        if traffic.per_second > 0 {
            let due = Duration::from_secs(n) / traffic.per_second;
            tokio::time::sleep_until(start + due).await;
        }
        // The semaphore is never closed; if it were, the traffic would be over.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        // Placed here, not in the task: the order of calls is what the seed's promise hangs on.
        let call = world.place(spec(world, traffic, n));
        progress.placed.fetch_add(1, Ordering::Relaxed);
        let (world, progress, early) = (Arc::clone(world), Arc::clone(progress), traffic.early_callbacks);
        calls.spawn(async move {
            announce(&world, &call, early, &progress).await;
            drop(slot);
        });
        // Finished calls are let go on the way, so that a long run does not gather them.
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    progress.summary()
}

fn spec(world: &World, traffic: &Traffic, n: u64) -> CallSpec {
    let mut numbers = draw::numbers(world.options.seed, n, Purpose::Traffic);
    let trunk = numbers.random::<f64>() < traffic.trunk_share;
    let spread = u64::try_from(traffic.spread.as_millis()).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
    let ago = i64::try_from(numbers.random_range(0..=spread)).unwrap_or(0);
    CallSpec {
        kind: if trunk { CallKind::Trunk } else { CallKind::Voice },
        ended_at: TimeDelta::try_milliseconds(ago).and_then(|ago| world.now().checked_sub_signed(ago)),
        ..CallSpec::default()
    }
}

/// Sends what a call sends: the hang-up, and with `early` what comes before it.
pub(super) async fn announce(world: &Arc<World>, call: &Call, early: bool, progress: &TrafficProgress) {
    let (before, hangup): (&[CallbackKind], _) = match (call.kind, call.direction) {
        (CallKind::Voice, Direction::Outbound) if call.answered_at.is_none() => {
            (&[CallbackKind::Ring], CallbackKind::Hangup)
        }
        (CallKind::Voice, Direction::Outbound) => {
            (&[CallbackKind::Ring, CallbackKind::Answer], CallbackKind::Hangup)
        }
        // An inbound call asks the answer URL what to do before anybody can answer it; it never rings there.
        (CallKind::Voice, Direction::Inbound) => (&[CallbackKind::Answer], CallbackKind::Hangup),
        (CallKind::Trunk, Direction::Outbound) => (&[CallbackKind::CallInitiated], CallbackKind::TrunkHangup),
        (CallKind::Trunk, Direction::Inbound) => (&[], CallbackKind::TrunkHangup),
    };
    if early {
        for kind in before {
            // Nobody owes an answer to these; the hang-up counts.
            let _unneeded = deliver::deliver(world, call, *kind).await;
        }
    }
    let (lost, twice) = {
        let state = world.lock();
        let entry = state.entries.get(&call.call_id);
        entry.map_or((false, false), |entry| (entry.lost_callback, entry.duplicated_callback))
    };
    if lost {
        progress.lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut acknowledged = false;
    for _ in 0..=u8::from(twice) {
        let delivery = deliver::deliver(world, call, hangup).await;
        acknowledged |= delivery.is_ok_and(|delivery| delivery.acknowledged());
    }
    let counter = if acknowledged { &progress.acknowledged } else { &progress.unacknowledged };
    counter.fetch_add(1, Ordering::Relaxed);
}
