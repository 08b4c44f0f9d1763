//! The heartbeat of a loop: when it last moved, and whether it rightly waits. A loop that stands still where it should move is
//! stalled, and that is seen from outside, since the loop itself can no longer say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The heartbeat of one loop: the loop beats, others watch.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    stall_after: Duration,
    born: Instant,
    /// Milliseconds from `born` to the last beat.
    last: AtomicU64,
    resting: AtomicBool,
}

impl Heartbeat {
    fn new(name: &str, stall_after: Duration) -> Self {
        Self {
            name: name.to_owned(),
            stall_after,
            born: Instant::now(),
            last: AtomicU64::new(0),
            resting: AtomicBool::new(false),
        }
    }

    /// The loop moved. Until it rests it is expected to move again within this time.
    pub fn beat(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
        self.resting.store(false, Ordering::Relaxed);
    }

    /// The loop waits for work, or for a time it has set itself: its silence means nothing until the next beat.
    pub fn rest(&self) {
        self.beat();
        self.resting.store(true, Ordering::Relaxed);
    }

    /// Name of the loop.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it has not moved; zero while it rests.
    pub fn silence(&self) -> Duration {
        if self.resting.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// It should have moved by now, seeing that all it depends on has been there for `at_least`.
    pub fn is_stalled(&self, at_least: Duration) -> bool {
        self.silence().min(at_least) > self.stall_after
    }
}

/// The heartbeats of a process.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Arc<Heartbeat>>>>);

impl Heartbeats {
    /// The heartbeat of a loop that starts. One of the same name that is still about is watched no longer: what it finishes is
    /// bounded by its own limits, and it must not hide that its successor stands still. Silence beyond `stall_after` means stalled.
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

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Heartbeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_stands_still_is_wedged_unless_it_rests() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.start("fetch", Duration::from_millis(30));
        assert!(!heartbeat.is_stalled(Duration::MAX));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!heartbeat.is_stalled(Duration::from_millis(29)), "it may have waited for something else");
        assert!(heartbeat.is_stalled(Duration::MAX) && heartbeat.silence() >= Duration::from_millis(60));
        heartbeat.rest();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!heartbeat.is_stalled(Duration::MAX) && heartbeat.silence() == Duration::ZERO);
        heartbeat.beat();
        assert!(!heartbeat.is_stalled(Duration::MAX));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(heartbeats.all()[0].is_stalled(Duration::MAX));
        let successor = heartbeats.start("fetch", Duration::from_secs(60));
        heartbeat.beat();
        assert!(Arc::ptr_eq(&successor, &heartbeats.all()[0]), "the one that started last is watched");
        heartbeats.keep(|name| name != "fetch");
        assert!(heartbeats.all().is_empty());
    }
}
