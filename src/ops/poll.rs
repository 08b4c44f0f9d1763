//! Polling Postgres, every few seconds, and remembering what was seen.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Ops;
use super::conditions::IN_VAIN;
use super::evaluate::AWAY;
use crate::db::base::blocker::{self, Blocker};
use crate::db::base::pooling;
use crate::db::overview::{self, Quick, Thorough};
use crate::db::timed;
use crate::db::{self, Cause, DbError};

/// A Postgres that takes longer does not answer.
const QUICK_WITHIN: Duration = Duration::from_secs(3);
/// The whole index of a large queue takes its time.
const THOROUGH_WITHIN: Duration = Duration::from_secs(60);
/// Between two thorough polls, at least.
const THOROUGH_EVERY: Duration = Duration::from_secs(15);
/// They may take this part of one connection's time, however large the queue is: a twentieth.
const THOROUGH_SHARE: u32 = 20;
/// However long a count takes, the next one is no further away.
const THOROUGH_AT_LEAST: Duration = Duration::from_secs(300);
/// Between two looks whether a pooler mixes our sessions, where nothing gives a suspicion.
const POOLING_EVERY: Duration = Duration::from_secs(15);
/// A suspicion is looked into no more often than this.
const SUSPICION_EVERY: Duration = Duration::from_millis(500);
/// A statement that waited for a lock is over by its own limits; who held it is remembered for so long.
const BLOCKER_REMEMBERED: Duration = Duration::from_secs(60);
const STALL_AFTER: Duration = Duration::from_secs(90);

/// What was seen, and when.
#[derive(Debug)]
pub(super) struct Polls {
    pub(super) answers: bool,
    /// Since when it has been so.
    pub(super) since: Instant,
    /// Why the last poll failed; none after one that succeeded.
    pub(super) failure: Option<Cause>,
    /// Why no further connection opens, where a pool waits for one in vain.
    pub(super) no_connection: Option<Cause>,
    pub(super) quick: Option<(Instant, Quick)>,
    pub(super) thorough: Option<(Instant, Thorough)>,
    /// Who held what ours waited for, and when that was seen last.
    blockers: Vec<(Instant, Blocker)>,
    /// Who has rows of leases locked: in the last poll, and in the one before it, too.
    lease_holders: Vec<Blocker>,
    lease_holders_before: Vec<i32>,
    /// Seconds by which Postgres's wall clock is ahead of ours.
    pub(super) clock_skew: Option<f64>,
}

impl Polls {
    pub(super) fn new() -> Self {
        Self {
            answers: false,
            since: Instant::now(),
            failure: None,
            no_connection: None,
            quick: None,
            thorough: None,
            blockers: Vec::new(),
            lease_holders: Vec::new(),
            lease_holders_before: Vec::new(),
            clock_skew: None,
        }
    }

    /// Notes who holds locks; of those who held some before, only who is still in its transaction.
    fn note_locks(
        &mut self,
        now: Instant,
        blockers: Vec<Blocker>,
        lease_holders: Vec<Blocker>,
        still_there: &[i32],
    ) {
        self.blockers.retain(|(seen, known)| {
            now.duration_since(*seen) < BLOCKER_REMEMBERED
                && still_there.contains(&known.pid)
                && blockers.iter().all(|blocker| blocker.pid != known.pid)
        });
        for (_, past) in &mut self.blockers {
            // Waits end by their limits, and begin anew a moment later: where they are long, they are not over.
            if past.waited_seconds < AWAY.as_secs_f64() {
                past.waiting = 0;
            }
        }
        let now = blockers.into_iter().map(|blocker| (now, blocker));
        self.blockers.splice(0..0, now);
        // A statement of a moment harms nobody.
        let pids = lease_holders.iter().map(|holder| holder.pid).collect();
        let before = std::mem::replace(&mut self.lease_holders_before, pids);
        self.lease_holders = lease_holders;
        self.lease_holders.retain(|holder| before.contains(&holder.pid));
    }

    /// Who holds what ours wait for, or waited for a moment ago; the latter with nobody waiting.
    pub(super) fn blockers(&self) -> Vec<Blocker> {
        self.blockers.iter().map(|(_, blocker)| blocker.clone()).collect()
    }

    /// Who keeps rows of leases locked.
    pub(super) fn lease_holders(&self) -> Vec<Blocker> {
        self.lease_holders.clone()
    }

    fn turn(&mut self, answers: bool) {
        if self.answers != answers {
            (self.answers, self.since) = (answers, Instant::now());
        }
    }
}

impl Ops {
    /// Polls until told to stop. `pool` serves nothing else, so that a poll never waits behind the work it reports; it has two
    /// connections, so that a quick poll never waits behind a thorough one.
    pub async fn run(self: Arc<Self>, pool: PgPool, stop: CancellationToken) {
        tokio::join!(self.poll_quick_on(&pool, &stop), self.poll_thorough_on(&pool, &stop));
    }

    async fn poll_quick_on(&self, pool: &PgPool, stop: &CancellationToken) {
        let heartbeat = self.metrics.heartbeats.start("poll", STALL_AFTER);
        // It was looked at when the process started.
        let mut looked = Instant::now();
        let mut suspected = false;
        while !stop.is_cancelled() {
            heartbeat.beat();
            if suspected || looked.elapsed() >= POOLING_EVERY {
                pooling::look(pool).await;
                looked = Instant::now();
            }
            let answered = self.poll(pool).await;
            self.poll_locks(pool).await;
            self.poll_connections(pool).await;
            // Nobody may ask for a while, and what has ended should not be shown on.
            if answered && !self.metrics.lasting_conditions().is_empty() {
                let _ = self.ready().await;
            }
            heartbeat.idle();
            let suspicion = async {
                tokio::time::sleep(SUSPICION_EVERY).await;
                pooling::suspected().await;
            };
            suspected = tokio::select! {
                () = tokio::time::sleep(self.settings.poll_every) => false,
                () = suspicion => true,
                () = stop.cancelled() => false,
            };
        }
    }

    async fn poll_thorough_on(&self, pool: &PgPool, stop: &CancellationToken) {
        let heartbeat = self.metrics.heartbeats.start("count", STALL_AFTER);
        while !stop.is_cancelled() {
            heartbeat.beat();
            let mut wait = self.settings.poll_every;
            let answers = self.polls.lock().unwrap_or_else(PoisonError::into_inner).answers;
            if answers {
                let took = self.poll_thorough(pool).await;
                wait = THOROUGH_EVERY.max((took * THOROUGH_SHARE).min(THOROUGH_AT_LEAST));
            }
            heartbeat.idle();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn poll(&self, pool: &PgPool) -> bool {
        let sent = std::time::SystemTime::now();
        let snapshot = timed!(pool, QUICK_WITHIN, |connection| overview::quick(connection)).await;
        let failure = match &snapshot {
            Ok(_) => None,
            // Waiting for a connection, or for an answer: another one may say why.
            Err(DbError::TimedOut(_) | DbError::Sql(sqlx::Error::PoolTimedOut)) => {
                Some(db::why_not(pool).await.unwrap_or_else(Cause::timed_out))
            }
            Err(error) => Some(error.cause()),
        };
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.turn(snapshot.is_ok());
        polls.failure = failure;
        match snapshot {
            Ok(quick) => {
                polls.clock_skew = Some(skew(quick.clock, sent, std::time::SystemTime::now()));
                polls.quick = Some((Instant::now(), quick));
                true
            }
            Err(error) => {
                // Those who wait for Postgres say so in the log; here it is shown.
                debug!(%error, "Postgres was polled in vain");
                false
            }
        }
    }

    /// Who holds locks that ours wait for: on another connection than the poll, which may be one of those that wait.
    async fn poll_locks(&self, pool: &PgPool) {
        let lock = || self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().failure.as_ref().is_some_and(|failure| *failure != Cause::timed_out()) {
            return;
        }
        let known: Vec<i32> = lock().blockers.iter().map(|(_, blocker)| blocker.pid).collect();
        let found = timed!(pool, QUICK_WITHIN, |connection| async {
            let blockers = blocker::blockers(connection, None).await?;
            let lease_holders = blocker::lease_holders(connection).await?;
            Ok((blockers, lease_holders, blocker::still_there(connection, &known).await?))
        });
        match found.await {
            Ok((blockers, lease_holders, still_there)) => {
                lock().note_locks(Instant::now(), blockers, lease_holders, &still_there);
            }
            Err(error) => debug!(%error, "who holds locks could not be seen"),
        }
    }

    /// A pool that waits for a connection in vain does not say why; the one that polls may have its own long since.
    async fn poll_connections(&self, pool: &PgPool) {
        let waits =
            self.metrics.lasting_conditions().iter().any(|condition| condition.error.contains(IN_VAIN));
        let why = if waits { db::why_not(pool).await } else { None };
        self.polls.lock().unwrap_or_else(PoisonError::into_inner).no_connection = why;
    }

    async fn poll_thorough(&self, pool: &PgPool) -> Duration {
        let mut began = Instant::now();
        match timed!(pool, THOROUGH_WITHIN, |connection| overview::thorough(connection)).await {
            Ok(thorough) => {
                let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
                polls.thorough = Some((Instant::now(), thorough));
                self.uncounted.clear();
            }
            // A connection that broke says that Postgres went away, which the next quick poll shows.
            Err(DbError::Sql(error)) if error.as_database_error().is_none() => {
                debug!(%error, "the queue could not be counted");
            }
            Err(error) => {
                self.uncounted.raise_for(&error.cause(), error.cure());
                if matches!(error.cause().sqlstate.as_deref(), Some("55P03")) {
                    // It has waited for a lock, not worked: it is tried again soon.
                    began = Instant::now();
                }
            }
        }
        began.elapsed()
    }
}

/// How many seconds a clock that was read between two readings of ours is ahead; zero where it lies between them.
fn skew(theirs: DateTime<Utc>, before: std::time::SystemTime, after: std::time::SystemTime) -> f64 {
    let (before, after) = (DateTime::<Utc>::from(before), DateTime::<Utc>::from(after));
    if theirs > after {
        (theirs - after).as_seconds_f64()
    } else if theirs < before {
        (theirs - before).as_seconds_f64()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_held_a_lock_is_remembered_for_a_minute_and_a_lease_must_be_held_twice() {
        let holder = |pid: i32| Blocker {
            pid,
            role: "ops".into(),
            application: "psql".into(),
            since: None,
            waiting: 1,
            waited_seconds: 2.0,
        };
        let shown = |polls: &Polls| -> Vec<(i32, i64)> {
            polls.blockers().iter().map(|b| (b.pid, b.waiting)).collect()
        };
        let (mut polls, start) = (Polls::new(), Instant::now());
        polls.note_locks(start, vec![holder(1), holder(2)], vec![holder(7), holder(8)], &[]);
        assert_eq!(shown(&polls), [(1, 1), (2, 1)]);
        assert_eq!(polls.lease_holders(), []);
        polls.note_locks(start + Duration::from_secs(5), vec![holder(2)], vec![holder(8)], &[1, 2]);
        assert_eq!(shown(&polls), [(2, 1), (1, 0)]);
        assert_eq!(polls.lease_holders(), [holder(8)]);
        polls.note_locks(start + Duration::from_secs(60), vec![], vec![], &[1, 2]);
        assert_eq!(shown(&polls), [(2, 0)]);
        assert_eq!(polls.lease_holders(), []);
        polls.note_locks(start + Duration::from_secs(65), vec![], vec![holder(8)], &[1, 2]);
        assert_eq!((shown(&polls), polls.lease_holders()), (vec![], vec![]));
        // Who has ended its transaction is to blame for nothing any more; where ours waited long, they do so again.
        let long = Blocker { waited_seconds: 20.0, ..holder(3) };
        polls.note_locks(start + Duration::from_secs(70), vec![holder(1), long], vec![], &[]);
        polls.note_locks(start + Duration::from_secs(75), vec![], vec![], &[3]);
        assert_eq!(shown(&polls), [(3, 1)]);
    }

    #[test]
    fn a_clock_between_two_readings_is_right() {
        let before = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let after = before + Duration::from_secs(2);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let skews: Vec<f64> = [95, 100, 101, 102, 110].map(|seconds| skew(at(seconds), before, after)).into();
        assert_eq!(skews, [-5.0, 0.0, 0.0, 0.0, 8.0]);
    }
}
