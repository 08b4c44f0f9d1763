//! How many sessions of leases a process may have, and whose turn it is.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Who has not asked again for so long wants no place any more. Every loop asks more often.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Sessions of leases that a process has at most of one database, however many accounts it works for: whoever sizes `max_connections` or a
/// pooler must be able to count on it, and callbacks must not wait for a connection that a sweep has.
pub const MOST_SESSIONS: usize = 4;
/// Those of long work; the rest is for sweeps, so that a night of proofs puts no lost callback off.
const MOST_LONG: usize = MOST_SESSIONS - 1;

/// What a session of a lease is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeasedWork {
    /// A sweep.
    Sweep,
    /// What may take long, and can wait: a drain, the check of a day, the proof of the sums.
    Long,
}

impl LeasedWork {
    /// Both, as metrics name them.
    pub const ALL: [(Self, &str); 2] = [(Self::Sweep, "sweep"), (Self::Long, "long")];
}

/// Work that found no place.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Instant,
    asked_at: Instant,
}

/// Who found no place, by work and name.
#[derive(Debug, Default)]
struct Waits {
    of: HashMap<(LeasedWork, String), Wait>,
    refused: HashMap<LeasedWork, u64>,
}

/// The places of one database.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    long: Arc<Semaphore>,
    waits: Mutex<Waits>,
}

impl Places {
    /// Those of the database that a pool leads to.
    pub fn of(pool: &PgPool) -> Arc<Self> {
        static OF: LazyLock<Mutex<HashMap<String, Arc<Places>>>> = LazyLock::new(Mutex::default);
        let options = pool.connect_options();
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let name =
            format!("{} {:?} {} {database}", options.get_host(), options.get_socket(), options.get_port());
        let mut of = OF.lock().unwrap_or_else(PoisonError::into_inner);
        let places = of.entry(name).or_insert_with(|| {
            Arc::new(Self {
                all: Arc::new(Semaphore::new(MOST_SESSIONS)),
                long: Arc::new(Semaphore::new(MOST_LONG)),
                waits: Mutex::default(),
            })
        });
        Arc::clone(places)
    }

    /// A place, if one is free for which nobody has waited longer: who has just had one would else be back before the others. Nobody waits in
    /// here: a piece of work that holds a lease may need another.
    pub(super) fn take(&self, work: LeasedWork, of: &str) -> Option<Vec<OwnedSemaphorePermit>> {
        self.take_at(Instant::now(), work, of)
    }

    fn take_at(&self, now: Instant, work: LeasedWork, of: &str) -> Option<Vec<OwnedSemaphorePermit>> {
        let (mut waits, key) = (self.waits(), (work, of.to_owned()));
        // An account that has nothing to do any more is not waited for.
        waits.of.retain(|_, wait| now - wait.asked_at < FORGOTTEN_AFTER);
        let since = waits.of.get(&key).map_or(now, |wait| wait.since);
        let before =
            waits.of.iter().filter(|(other, wait)| other.0 == work && **other != key && wait.since < since);
        let free = match work {
            LeasedWork::Sweep => self.all.available_permits(),
            LeasedWork::Long => self.all.available_permits().min(self.long.available_permits()),
        };
        let taken = if free > before.count() { self.try_take(work) } else { None };
        if taken.is_some() {
            waits.of.remove(&key);
        } else {
            waits.of.insert(key, Wait { since, asked_at: now });
            *waits.refused.entry(work).or_default() += 1;
        }
        taken
    }

    fn try_take(&self, work: LeasedWork) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut taken = Vec::new();
        if work == LeasedWork::Long {
            taken.push(Arc::clone(&self.long).try_acquire_owned().ok()?);
        }
        taken.push(Arc::clone(&self.all).try_acquire_owned().ok()?);
        Some(taken)
    }

    /// How often work of a kind found no place.
    pub fn refused(&self, work: LeasedWork) -> u64 {
        self.waits().refused.get(&work).copied().unwrap_or(0)
    }

    /// Who has waited for a place for longer than this, and for how long; the longest first.
    pub fn waiting(&self, longer_than: Duration) -> Vec<(String, Duration)> {
        self.waiting_at(Instant::now(), longer_than)
    }

    fn waiting_at(&self, now: Instant, longer_than: Duration) -> Vec<(String, Duration)> {
        let waits = self.waits();
        let lasting = waits.of.iter().filter(|(_, wait)| now - wait.asked_at < FORGOTTEN_AFTER);
        let mut lasting: Vec<(String, Duration)> = lasting
            .map(|((_, of), wait)| (of.clone(), now - wait.since))
            .filter(|(_, waited)| *waited > longer_than)
            .collect();
        lasting.sort_unstable_by_key(|(_, waited)| Reverse(*waited));
        lasting
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            all: Arc::new(Semaphore::new(MOST_SESSIONS)),
            long: Arc::new(Semaphore::new(MOST_LONG)),
            waits: Mutex::default(),
        }
    }

    #[test]
    fn who_has_just_had_a_place_comes_after_who_has_waited() {
        for (work, most) in [(LeasedWork::Long, MOST_LONG), (LeasedWork::Sweep, MOST_SESSIONS)] {
            let (places, mut now) = (places(), Instant::now());
            let mut busy: Vec<_> =
                (0..most).map(|n| (n, places.take_at(now, work, &format!("busy {n}")).unwrap())).collect();
            // As many days as there are: each of the busy ones is back at once.
            let mut served = Vec::new();
            for round in 0..2 {
                for quiet in ["one", "two"] {
                    assert!(places.take_at(now, work, quiet).is_none());
                    now += Duration::from_secs(1);
                }
                for _ in 0..most {
                    let (n, place) = busy.remove(0);
                    drop(place);
                    let again = places.take_at(now, work, &format!("busy {n}"));
                    for quiet in ["one", "two"] {
                        if let Some(place) = places.take_at(now, work, quiet) {
                            served.push(quiet);
                            drop(place);
                        }
                    }
                    let again = again.or_else(|| places.take_at(now, work, &format!("busy {n}")));
                    busy.push((n, again.unwrap()));
                }
                assert_eq!(served.len(), 2 * (round + 1), "{work:?} {served:?}");
            }
        }
    }

    #[test]
    fn who_waits_long_is_named_and_who_asks_no_more_keeps_nobody_out() {
        let (places, mut now) = (places(), Instant::now());
        let mut held: Vec<_> = (0..MOST_LONG)
            .map(|n| places.take_at(now, LeasedWork::Long, &format!("busy {n}")).unwrap())
            .collect();
        for minute in 0..11 {
            assert_eq!(places.waiting_at(now, TEN_MINUTES), []);
            assert!(places.take_at(now, LeasedWork::Long, "MA_1").is_none());
            if minute == 5 {
                assert!(places.take_at(now, LeasedWork::Long, "MA_2").is_none());
            }
            now += Duration::from_secs(60);
        }
        assert!(places.take_at(now, LeasedWork::Long, "MA_1").is_none());
        assert_eq!(places.waiting_at(now, TEN_MINUTES), [("MA_1".to_owned(), Duration::from_secs(660))]);
        assert_eq!((places.refused(LeasedWork::Long), places.refused(LeasedWork::Sweep)), (13, 0));
        // MA_1 does not come back: after a while its place is anybody's.
        held.pop();
        assert!(places.take_at(now, LeasedWork::Long, "MA_3").is_none());
        now += FORGOTTEN_AFTER;
        assert!(places.take_at(now, LeasedWork::Long, "MA_3").is_some());
        assert_eq!(places.waiting_at(now, Duration::ZERO), []);
    }

    const TEN_MINUTES: Duration = Duration::from_secs(600);
}
