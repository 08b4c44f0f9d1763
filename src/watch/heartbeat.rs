//! The heartbeat of a loop: when it last moved, and whether it rightly waits. A loop that stands still where it should move is
//! stalled, and that is seen from outside, since the loop itself can no longer say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The heartbeat of one loop. The loop beats; others read it.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    stall_after: Duration,
    started: Instant,
    /// Milliseconds from `started` to the last beat.
    last: AtomicU64,
    idle: AtomicBool,
}

impl Heartbeat {
    fn new(name: &str, stall_after: Duration) -> Self {
        Self {
            name: name.to_owned(),
            stall_after,
            started: Instant::now(),
            last: AtomicU64::new(0),
            idle: AtomicBool::new(false),
        }
    }

    /// The loop moved. Until it is idle it is expected to move again before it counts as stalled.
    pub fn beat(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
        self.idle.store(false, Ordering::Relaxed);
    }

    /// The loop waits for work, or for a time it has set itself: its silence means nothing until the next beat.
    pub fn idle(&self) {
        self.beat();
        self.idle.store(true, Ordering::Relaxed);
    }

    /// Name of the loop.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it has not moved; zero while it is idle.
    pub fn silence(&self) -> Duration {
        if self.idle.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Whether it should have moved by now, seeing that all it depends on has been there for `at_least`.
    pub fn is_stalled(&self, at_least: Duration) -> bool {
        self.silence().min(at_least) > self.stall_after
    }
}

/// The heartbeats of a process.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Arc<Heartbeat>>>>);

impl Heartbeats {
    /// The heartbeat of a loop that starts. One of the same name that is still there is read no longer: what its loop finishes is
    /// bounded by its own limits, and must not hide that its successor stands still. Silence beyond `stall_after` means stalled.
    pub fn start(&self, name: &str, stall_after: Duration) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat::new(name, stall_after));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), Arc::clone(&heartbeat));
        heartbeat
    }

    /// Forgets the loops whose name does not pass: they were ended on purpose.
    pub fn keep(&self, passes: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| passes(name));
    }

    /// All heartbeats, by name.
    pub fn all(&self) -> Vec<Arc<Heartbeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_stands_still_is_stalled_unless_it_is_idle() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.start("fetch", Duration::from_millis(30));
        assert!(!heartbeat.is_stalled(Duration::MAX));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(
            !heartbeat.is_stalled(Duration::from_millis(29)),
            "it may have waited for what it depends on"
        );
        assert!(heartbeat.is_stalled(Duration::MAX) && heartbeat.silence() >= Duration::from_millis(60));
        heartbeat.idle();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!heartbeat.is_stalled(Duration::MAX) && heartbeat.silence() == Duration::ZERO);
        heartbeat.beat();
        assert!(!heartbeat.is_stalled(Duration::MAX));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(heartbeats.all()[0].is_stalled(Duration::MAX));
        let successor = heartbeats.start("fetch", Duration::from_secs(60));
        heartbeat.beat();
        assert!(Arc::ptr_eq(&successor, &heartbeats.all()[0]), "the one that started last is read");
        heartbeats.keep(|name| name != "fetch");
        assert!(heartbeats.all().is_empty());
    }
}
