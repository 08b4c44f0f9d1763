//! The group commit: callbacks gather here while the last group commits, then commit as one group themselves.
//!
//! There is no timer. A group is whatever came in during the last commit, so a quiet service answers after one commit and a
//! busy one commits hundreds at once. Bounded by bytes: when it is full, the answer is 503 at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use super::caps::{Caps, WithinCaps};
use super::unproven::Unproven;
use crate::db::base::pooling;
use crate::db::base::retry::{OneByOne, on_conflict};
use crate::db::queue::enqueue::{self, CallbackEntry, CallbackOutcome, CommitSession, Committed, Owed};
use crate::db::queue::nonce;
use crate::db::timed;
use crate::db::{self, DbError, Ended, Fault, KeptConnection};
use crate::vobiz::Proof;
use crate::watch::arrivals::Arrival;
use crate::watch::condition::Condition;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// Bytes that may wait, in units of 1 KiB.
const CAPACITY_KIB: usize = 32 * 1024;
/// Callbacks in one statement.
const GROUP: usize = 1000;
/// Bytes in one statement, about, in units of 1 KiB: a group must commit well within its timeout. All that may wait, of
/// the longest bodies, would not in one statement on a slow disk, and neither would the next one.
const GROUP_KIB: usize = 4 * 1024;
/// A commit that takes longer has failed: a little less than a callback waits for its answer (`ANSWER_WITHIN` of the endpoint).
pub const COMMIT_WITHIN: Duration = Duration::from_millis(2300);
/// A group moves on within this, also one that goes one by one: every step of it has the commit's timeout.
const STALL_AFTER: Duration = Duration::from_secs(30);

/// How callbacks are committed.
#[derive(Debug, Clone)]
pub struct GroupCommitSettings {
    /// A new call is due this long after its callback.
    pub first_fetch_delay: Duration,
    /// New speculative calls an account may owe in a minute.
    pub max_speculative_per_minute: u32,
    /// New calls that an account may owe as certain in a minute although only a secret proves them: what is beyond it is speculative.
    pub max_by_secret_per_minute: u32,
    /// A commit that takes longer has failed: [`COMMIT_WITHIN`].
    pub commit_timeout: Duration,
}

/// The reason why a callback was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCommitted {
    /// Too much is waiting already.
    #[error("too many callbacks wait for their commit")]
    Full,
    /// Its nonce had come with another call before: its signature proves nothing.
    #[error("its nonce was used for another call")]
    Replayed,
    /// Postgres did not take it, or not in time.
    #[error("Postgres did not commit it")]
    Failed,
}

/// A callback on its way to the writer.
struct Submission {
    /// The callback, if the log keeps it: all that proves something is kept.
    entry: Option<CallbackEntry>,
    /// The call it announces. A probe has neither: it goes the whole way and writes nothing.
    owed: Option<Owed>,
    /// What proves it: nothing, where the log did not keep it.
    proof: Proof,
    answer: Option<oneshot::Sender<Result<(), NotCommitted>>>,
    capacity: OwnedSemaphorePermit,
}

/// The calls that a group announces, each with what proves it.
fn announced(group: &[Submission]) -> impl Iterator<Item = (&Owed, Proof)> {
    group.iter().filter_map(|submission| Some((submission.owed.as_ref()?, submission.proof)))
}

/// The near side of the group commit: handlers submit here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    queue: mpsc::UnboundedSender<Submission>,
    capacity: Arc<Semaphore>,
}

impl GroupCommit {
    /// The near side, and the writer behind it; the writer ends when all clones of the near side are gone and nothing waits.
    pub fn new(
        pool: PgPool,
        settings: GroupCommitSettings,
        metrics: &Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        // The semaphore bounds the queue: by bytes, which is what matters.
        let (queue, waiting) = mpsc::unbounded_channel();
        let capacity = Arc::new(Semaphore::new(CAPACITY_KIB));
        let writer = Writer {
            pool,
            caps: Caps::new(settings.max_speculative_per_minute, settings.max_by_secret_per_minute),
            by_secret: Unproven::default(),
            metrics: metrics.clone(),
            settings,
            heartbeat: metrics.heartbeats.start("group_commit", STALL_AFTER),
            condition: metrics.condition(
                "callbacks cannot be committed and are answered 503",
                "see that Postgres runs, takes writes and has disk space",
            ),
            mixed: metrics.condition(
                "sessions of Postgres change under us; callbacks are committed safely all the same",
                db::MIXED_SESSIONS,
            ),
            refused: None,
            kept: None,
            process: None,
        };
        (Self { queue, capacity }, writer.run(waiting))
    }

    /// Submits a callback and waits until it is committed.
    pub(super) async fn submit(
        &self,
        entry: Option<CallbackEntry>,
        owed: Option<Owed>,
    ) -> Result<(), NotCommitted> {
        let (answer, committed) = oneshot::channel();
        self.send(entry, owed, Some(answer))?;
        committed.await.unwrap_or(Err(NotCommitted::Failed))
    }

    /// Whether a callback could be committed right now: the same way through, with a statement that writes no row. After callbacks that
    /// were not committed it is they who are tried, and taken back, until some are.
    pub async fn probe(&self) -> Result<(), NotCommitted> {
        let (answer, committed) = oneshot::channel();
        self.send(None, None, Some(answer))?;
        committed.await.unwrap_or(Err(NotCommitted::Failed))
    }

    /// KiB that wait, and how many may.
    pub fn fill(&self) -> (usize, usize) {
        (CAPACITY_KIB - self.capacity.available_permits(), CAPACITY_KIB)
    }

    /// Submits an entry for the log of callbacks without waiting for its commit; it is dropped when the capacity is used up.
    pub(super) fn log(&self, entry: CallbackEntry) {
        // Losing a sample of what was refused anyway is no loss.
        let _ = self.send(Some(entry), None, None);
    }

    fn send(
        &self,
        entry: Option<CallbackEntry>,
        owed: Option<Owed>,
        answer: Option<oneshot::Sender<Result<(), NotCommitted>>>,
    ) -> Result<(), NotCommitted> {
        let bytes =
            entry.as_ref().map_or(0, |entry| entry.body.len() + entry.query.as_ref().map_or(0, String::len));
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let capacity =
            Arc::clone(&self.capacity).try_acquire_many_owned(kib).map_err(|_| NotCommitted::Full)?;
        let proof = entry.as_ref().map_or(Proof::None, |entry| entry.proof);
        self.queue.send(Submission { entry, owed, proof, answer, capacity }).map_err(|_| NotCommitted::Failed)
    }
}

/// The far side of the group commit: it writes one group after the other.
struct Writer {
    pool: PgPool,
    settings: GroupCommitSettings,
    caps: Caps,
    /// What the log takes of callbacks that a secret alone proves.
    by_secret: Unproven,
    metrics: Metrics,
    heartbeat: Arc<Heartbeat>,
    condition: Arc<Condition>,
    /// The callbacks that were not committed last, until others are, or these would be.
    refused: Option<RefusedCallbacks>,
    /// The connection, for as long as callbacks keep coming: to give it back and take it again costs two round trips.
    kept: KeptConnection,
    /// The server process of that connection, which cannot change.
    process: Option<i32>,
    mixed: Arc<Condition>,
}

/// Callbacks that Postgres did not commit. They were answered 503, and what they need (room in a data file, a partition, a lock) is not
/// what a probe needs that writes no row.
struct RefusedCallbacks(Vec<(Option<CallbackEntry>, Option<Owed>)>);

impl RefusedCallbacks {
    /// What a part held; nothing of one of probes alone.
    fn of(part: &mut [Submission]) -> Option<Self> {
        let held = part.iter_mut().map(|submission| (submission.entry.take(), submission.owed.take()));
        let held: Vec<_> = held.filter(|(entry, owed)| entry.is_some() || owed.is_some()).collect();
        (!held.is_empty()).then_some(Self(held))
    }
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Submission>) {
        self.heartbeat.idle();
        while let Some(first) = self.next(&mut waiting).await {
            self.heartbeat.beat();
            let mut kib = first.capacity.num_permits();
            let mut group = vec![first];
            while group.len() < GROUP && kib < GROUP_KIB {
                let Ok(next) = waiting.try_recv() else { break };
                kib += next.capacity.num_permits();
                group.push(next);
            }
            self.commit_group(group).await;
            self.heartbeat.idle();
        }
    }

    async fn next(&mut self, waiting: &mut mpsc::UnboundedReceiver<Submission>) -> Option<Submission> {
        if let Ok(next) = waiting.try_recv() {
            return Some(next);
        }
        self.kept = None;
        waiting.recv().await
    }

    /// Commits a group and answers its members. One that fails on data commits one by one.
    async fn commit_group(&mut self, mut group: Vec<Submission>) {
        let now = Instant::now();
        for submission in &mut group {
            self.keep_within_caps(submission, now);
        }
        group.retain(|submission| submission.answer.is_some() || submission.entry.is_some());
        if group.is_empty() {
            return;
        }
        let unannounced = self.commit_and_answer(group, now).await;
        if !unannounced.is_empty() {
            let announced =
                timed!(&self.pool, self.settings.commit_timeout, |connection| enqueue::announce_stored(
                    connection,
                    &unannounced
                ));
            if let Err(error) = announced.await {
                debug!(error = %error, "the first callback of stored CDRs could not be noted on them; the log of callbacks has it");
            }
        }
    }

    /// Makes speculative what is over the cap of certain calls by a secret, and leaves to the sweep what is over that of speculative ones.
    fn keep_within_caps(&mut self, submission: &mut Submission, now: Instant) {
        let Some(owed) = &mut submission.owed else { return };
        let certain = owed.certain;
        let within = self.caps.take(owed, submission.proof, now);
        if within == WithinCaps::All {
            if owed.certain && owed.by_secret {
                submission.entry =
                    submission.entry.take().map(|entry| self.by_secret.keep_its_row(entry, now));
            }
            return;
        }
        if certain {
            self.metrics.arrivals.count(Arrival::OverCap);
            self.metrics.over_cap.inc();
        }
        let mut over = "over the cap on certain calls by a secret: speculative";
        if within == WithinCaps::LeftToSweep {
            submission.owed = None;
            over = "over the cap on speculative calls: left to the sweep";
        }
        if let Some(mut entry) = submission.entry.take() {
            if submission.owed.is_none() {
                entry.outcome = CallbackOutcome::Logged;
            }
            let said = entry.note.take();
            entry.note = Some(said.into_iter().chain([over.to_owned()]).collect::<Vec<_>>().join("; "));
            submission.entry = match submission.proof {
                Proof::Secret | Proof::Trunk => self.by_secret.keep(entry, &self.metrics, now),
                _ => Some(entry),
            };
        }
        if submission.entry.is_none() && submission.owed.is_none() {
            // Nothing of it is left to commit; it must not go on as a probe.
            answer(submission.answer.take(), Ok(()));
        }
    }

    /// Returns the stored calls that had no callback yet. A group that fails on data goes one by one: the callback that Postgres
    /// refuses must not cost the others their 200.
    async fn commit_and_answer(&mut self, group: Vec<Submission>, now: Instant) -> Vec<String> {
        let (whole, mut unannounced) = (group.len(), Vec::new());
        let mut parts = OneByOne::of(group);
        while let Some(part) = parts.next() {
            self.heartbeat.beat();
            let result = self.commit_part(&part).await;
            let Some((mut part, result)) = parts.unless_split(part, result) else { continue };
            let is_whole = part.len() == whole;
            match result {
                Ok(committed) => {
                    if is_whole {
                        self.refused = None;
                        self.condition.clear();
                    }
                    self.caps.refund(announced(&part), &committed.new, now);
                    unannounced.extend(committed.stored_unannounced);
                    let (replayed, committed): (Vec<_>, Vec<_>) = part.into_iter().partition(|submission| {
                        submission.entry.as_ref().is_some_and(|entry| committed.replayed.contains(&entry.id))
                    });
                    answer_all(replayed, Err(NotCommitted::Replayed));
                    answer_all(committed, Ok(()));
                }
                Err(error) => {
                    self.caps.give_back(announced(&part), now);
                    let is_away = is_whole || error.fault() == Fault::Ours;
                    if is_away {
                        self.condition.raise_for(&error.cause(), error.cure());
                        self.refused = RefusedCallbacks::of(&mut part).or(self.refused.take());
                    } else {
                        let id = part[0].entry.as_ref().map(|entry| entry.id.to_string());
                        warn!(id, %error, "Postgres refuses this callback: answered 503");
                    }
                    answer_all(part, Err(NotCommitted::Failed));
                    // Not a timeout more for each of the rest.
                    if is_away {
                        break;
                    }
                }
            }
        }
        let rest = parts.rest();
        self.caps.give_back(announced(&rest), now);
        answer_all(rest, Err(NotCommitted::Failed));
        unannounced
    }

    /// Commits these in one transaction; a conflict is tried again.
    async fn commit_part(&mut self, group: &[Submission]) -> Result<Committed, DbError> {
        let callbacks = group.iter().map(|submission| (submission.entry.as_ref(), submission.owed.as_ref()));
        let callbacks: Vec<_> = callbacks.filter(|(entry, owed)| entry.is_some() || owed.is_some()).collect();
        on_conflict!(self.commit_once(&callbacks)).await
    }

    async fn commit_once(
        &mut self,
        callbacks: &[(Option<&CallbackEntry>, Option<&Owed>)],
    ) -> Result<Committed, DbError> {
        let limit = self.settings.commit_timeout;
        let mut acquired = db::acquire_again(&self.pool, &mut self.kept, limit).await?;
        // Another connection, as after one that is no longer trusted, has another process.
        if !acquired.is_kept() {
            self.process = None;
        }
        let refused = self.refused.as_ref();
        loop {
            let (connection, deadline) = acquired.parts();
            let work = async {
                let delay = self.settings.first_fetch_delay;
                // Also for a probe: without rows it still says that Postgres takes no writes.
                let committed = nonce::commit(&mut *connection, callbacks, delay).await?;
                if !callbacks.is_empty() {
                    return Ok(committed);
                }
                if let Some(RefusedCallbacks(held)) = refused {
                    let held: Vec<_> =
                        held.iter().map(|(entry, owed)| (entry.as_ref(), owed.as_ref())).collect();
                    match nonce::rehearse(&mut *connection, &held, delay).await {
                        // Postgres would take what it can take.
                        Err(error) if db::fault(&error) == Fault::Data => {}
                        rehearsed => rehearsed?,
                    }
                }
                enqueue::probe(connection).await?;
                Ok(committed)
            };
            let result = tokio::time::timeout_at(deadline, work).await;
            match acquired.end_and_keep(&self.pool, &mut self.kept, result).await? {
                Ended::Done(committed) => {
                    self.look_at(&committed.session);
                    return Ok(committed);
                }
                Ended::Again(anew) => (acquired, self.process) = (anew, None),
            }
        }
    }

    /// Whether the session is still the one that was prepared for us: a pooler may have been switched over since.
    fn look_at(&mut self, session: &CommitSession) {
        let before = self.process.replace(session.pid);
        let why = if !session.is_ours() {
            format!(
                "synchronous_commit = {} ruled in one, although another was asked for",
                session.synchronous_commit
            )
        } else if let Some(before) = before.filter(|before| *before != session.pid) {
            format!(
                "two statements of one connection came to the server processes {before} and {}",
                session.pid
            )
        } else {
            return self.mixed.clear();
        };
        self.mixed.raise(&why);
        (self.kept, self.process) = (None, None);
        db::distrust_open_connections();
        pooling::suspect();
    }
}

fn answer_all(group: impl IntoIterator<Item = Submission>, result: Result<(), NotCommitted>) {
    for submission in group {
        answer(submission.answer, result);
    }
}

fn answer(to: Option<oneshot::Sender<Result<(), NotCommitted>>>, result: Result<(), NotCommitted>) {
    if let Some(to) = to {
        // The handler that waited may have given up; what is committed stays committed.
        let _ = to.send(result);
    }
}
