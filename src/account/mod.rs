//! One configured account as the flows see it: its client, its slots in the shared rate limit, its pause, and the question
//! whether it works, which tells a failure of the account from one of a single call.
//!
//! All flows ask Vobiz through this, so that every request counts against the one limit, and a pause that one of them sets
//! holds for all of them; for all replicas where they agree (`vobiz.count_votes`). What a failure leads to is decided in [`retry`] alone.

mod clock;
mod open;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{RwLock, RwLockReadGuard};
use tracing::{debug, info, warn};

use crate::db::DbError;
use crate::db::account::{self, AccountStatus, Pause, Replica, Slots};
use crate::db::timed;
use crate::retry::{self, ListAnswer, PauseReason, ProbeDepth, Streak};
use crate::vobiz::{Access, AccountId, Client, FetchError, ListQuery};
use crate::watch::condition::Condition;

pub use open::open;

/// Requests are reserved no further ahead than this, so that a pause takes hold at once.
pub const AHEAD: Duration = Duration::from_millis(250);

/// The priority of a request for a slot in the rate limit. The one that may reserve further ahead gets the next slot; the lower
/// ones, which take what is left, still get one slot every so often, or they would never come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// One request for a call that is owed.
    Fetch,
    /// A sweep, the drain of a backlog by list, and the question whether an account works: one request at a time, so they always get their turn.
    Sweep,
    /// The check of a day.
    Ledger,
    /// The backfill of past days.
    Backfill,
}

impl Priority {
    /// How far ahead a request may be reserved, after so long a wait.
    fn ahead(self, waited: Duration) -> Duration {
        let after = |seconds: u64| {
            if waited < Duration::from_secs(seconds) { LEFT_OVER } else { Self::Sweep.ahead(waited) }
        };
        match self {
            Self::Fetch => AHEAD,
            Self::Sweep => AHEAD * 2,
            Self::Ledger => after(2),
            Self::Backfill => after(5),
        }
    }
}

/// How near a slot must be that no other flow wants: fetching at its limit leaves none so near.
const LEFT_OVER: Duration = Duration::from_millis(50);
/// A good answer is written down no more often.
const NOTE_ANSWER_EVERY: Duration = Duration::from_secs(10);
/// Every short piece of work on Postgres.
const DB_TIMEOUT: Duration = Duration::from_secs(10);

/// An account and all that is known of it in this process.
#[derive(Debug)]
pub struct Account {
    /// The client that asks for it.
    pub client: Client,
    /// Requests a second, over all replicas.
    pub max_rps: f64,
    /// Its equal failures in a row.
    pub streak: Mutex<Streak>,
    /// The process that asks: its pauses are its own until another agrees.
    pub replica: Arc<Replica>,
    pool: PgPool,
    /// When a good answer was written down last.
    noted_answer: Mutex<Option<Instant>>,
    /// When the last CDR was fetched by itself.
    last_fetched: Mutex<Option<Instant>>,
    list_answer: tokio::sync::Mutex<Option<(Instant, ListAnswer)>>,
    finding: tokio::sync::Mutex<()>,
    /// The last pause that was logged, and until when it was to last.
    logged_pause: Mutex<Option<(PauseReason, Instant)>>,
    probing: Condition,
    clock: clock::ClockWatch,
    /// Newer settings are in force: what the requests of this one still find says nothing of the newer token.
    superseded: RwLock<bool>,
}

impl Account {
    /// An account on this database, asked for by this process.
    pub fn new(client: Client, max_rps: f64, pool: PgPool) -> Self {
        Self::asked_by(Replica::this(), client, max_rps, pool)
    }

    /// The same, asked for by some process.
    pub fn asked_by(replica: Arc<Replica>, client: Client, max_rps: f64, pool: PgPool) -> Self {
        let probing = Condition::logged_only(
            "probe failed, the account stays paused",
            "it is tried again every minute; `vobiz-cdr status` says what to do",
            client.account_id().as_str(),
        );
        Self {
            client,
            max_rps,
            streak: Mutex::default(),
            replica,
            pool,
            noted_answer: Mutex::default(),
            last_fetched: Mutex::default(),
            list_answer: tokio::sync::Mutex::default(),
            finding: tokio::sync::Mutex::default(),
            logged_pause: Mutex::default(),
            probing,
            clock: clock::ClockWatch::default(),
            superseded: RwLock::new(false),
        }
    }

    /// Id of the account.
    pub fn id(&self) -> &AccountId {
        self.client.account_id()
    }

    /// Whether newer settings are in force instead of this one. From when this returns it writes nothing down of what its requests
    /// find, so that no 401 of an old token pauses the new one.
    pub async fn set_superseded(&self, superseded: bool) {
        *self.superseded.write().await = superseded;
    }

    /// The right to write down what a request found, for as long as it is kept; none for an account that is superseded.
    async fn may_note(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let superseded = self.superseded.read().await;
        (!*superseded).then_some(superseded)
    }

    /// Waits for a slot in the rate limit: the right to send one request.
    pub async fn wait_for_slot(&self, priority: Priority) {
        let began = Instant::now();
        loop {
            let ahead = priority.ahead(began.elapsed());
            let reserved = timed!(&self.pool, DB_TIMEOUT, |connection| account::reserve(
                connection,
                self.id(),
                self.max_rps,
                1,
                ahead
            ))
            .await;
            match reserved {
                Ok(Slots { count: 1.., wait, .. }) => {
                    tokio::time::sleep(wait).await;
                    return;
                }
                Ok(Slots { wait, .. }) => {
                    tokio::time::sleep(wait.max(Duration::from_millis(5))).await;
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Its status; claims the probe if one is due.
    pub async fn status(&self) -> Result<Option<AccountStatus>, DbError> {
        timed!(&self.pool, DB_TIMEOUT, |connection| account::status(connection, self.id(), &self.replica))
            .await
    }

    /// Pauses the account for this replica, and for all where another agrees or nobody else is there.
    pub async fn pause(&self, reason: PauseReason, length: Duration, why: &str) {
        let held = self.may_note().await;
        // That there were too many requests holds whatever the token.
        if held.is_none() && reason != PauseReason::Throttled {
            debug!(account = %self.id(), reason = reason.as_str(), why, "an access that is no longer in force is not paused");
            return;
        }
        // All that was in flight may find the same; it is logged once a pause.
        let is_new = {
            let mut logged = self.logged_pause.lock().unwrap_or_else(PoisonError::into_inner);
            let known = logged.is_some_and(|(before, until)| before == reason && Instant::now() < until);
            *logged = Some((reason, Instant::now() + length));
            !known
        };
        if is_new {
            let seconds = length.as_secs_f64();
            warn!(account = %self.id(), reason = reason.as_str(), seconds, why, "account paused");
        }
        self.write_down_pause(Pause { reason, length, error: why }).await;
    }

    /// Whether Vobiz has said that there are too many requests, and its time is not over.
    fn is_known_throttled(&self) -> bool {
        let logged = self.logged_pause.lock().unwrap_or_else(PoisonError::into_inner);
        logged.is_some_and(|(reason, until)| reason == PauseReason::Throttled && Instant::now() < until)
    }

    async fn write_down_pause(&self, pause: Pause<'_>) {
        let paused = timed!(&self.pool, DB_TIMEOUT, |connection| account::pause(
            connection,
            self.id(),
            &self.replica,
            pause
        ));
        if let Err(error) = paused.await {
            warn!(account = %self.id(), %error, "the pause could not be written down");
        }
    }

    /// Notes a good answer of the API, every few seconds at most: it outvotes replicas that have none.
    pub async fn answered(&self) {
        let is_due = {
            let mut noted = self.noted_answer.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = noted.is_none_or(|noted| noted.elapsed() > NOTE_ANSWER_EVERY);
            if is_due {
                *noted = Some(Instant::now());
            }
            is_due
        };
        if is_due && let Some(_held) = self.may_note().await {
            let noted = timed!(&self.pool, DB_TIMEOUT, |connection| account::answered(
                connection,
                self.id(),
                &self.replica
            ));
            if let Err(error) = noted.await {
                // The next one is noted at once.
                *self.noted_answer.lock().unwrap_or_else(PoisonError::into_inner) = None;
                debug!(account = %self.id(), %error, "a good answer could not be written down");
            }
        }
    }

    /// Notes that a CDR was fetched by itself.
    pub async fn fetched(&self) {
        *self.last_fetched.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.answered().await;
    }

    /// Whether a CDR was fetched by itself within this time.
    pub fn fetched_within(&self, length: Duration) -> bool {
        let last = *self.last_fetched.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < length)
    }

    /// Makes sure that a path and a token are known, before the first request for a call. False: the account is paused now.
    pub async fn ensure_access(&self) -> bool {
        self.client.style().is_some()
            || self.verify("finding out the API path", ProbeDepth::List).await != ListAnswer::Paused
    }

    /// Whether the list is being asked just now if the account works: until the answer is there, no more calls should be leased.
    pub fn is_in_question(&self) -> bool {
        self.list_answer.try_lock().is_err()
    }

    /// Finds out the path and the token, unless that is under way already.
    pub async fn find_access_once(&self) {
        if let Ok(_alone) = self.finding.try_lock() {
            self.ensure_access().await;
        }
    }

    /// Asks the list whether the account works. A worker that asks meanwhile gets the same answer.
    pub async fn verify(&self, why: &str, depth: ProbeDepth) -> ListAnswer {
        let asked = Instant::now();
        let mut list_answer = self.list_answer.lock().await;
        if let Some((found_at, known)) = *list_answer
            && found_at >= asked
        {
            return known;
        }
        let before = self.client.access();
        let found = match self.find_access(depth).await {
            Ok(()) if self.client.access() == before => ListAnswer::CallAlone,
            Ok(()) => ListAnswer::AccessChanged,
            Err(error) => match retry::pause_after_question(&error, depth) {
                Some((reason, length)) => {
                    self.pause(reason, length, &format!("{why}: {}", error.brief())).await;
                    ListAnswer::Paused
                }
                None => ListAnswer::CallAlone,
            },
        };
        *list_answer = Some((Instant::now(), found));
        found
    }

    /// Does what follows from a page of the list that failed.
    pub async fn list_failed(&self, error: &FetchError) {
        match retry::pause_after_page(error) {
            Some(length) => self.pause(PauseReason::Throttled, length, "the CDR list").await,
            None if retry::is_of_the_page(error) => {}
            None => {
                self.verify("a page of the CDR list failed", ProbeDepth::List).await;
            }
        }
    }

    /// Does what follows from a list of which nothing can be read.
    pub async fn list_refused(&self) {
        self.verify("the CDR list is refused", ProbeDepth::List).await;
    }

    /// Whether the account is paused for this replica. Claims no probe.
    pub async fn is_paused(&self) -> Result<bool, DbError> {
        timed!(&self.pool, DB_TIMEOUT, |connection| account::is_paused(connection, self.id(), &self.replica))
            .await
    }

    /// Probes a paused account: if it works, its calls flow again. The probe was claimed by [`Account::status`].
    pub async fn probe(&self, reason: &str) {
        // An outage shows in the list; the other two may concern single records alone.
        let depth =
            if reason == PauseReason::Unavailable.as_str() { ProbeDepth::List } else { ProbeDepth::Single };
        let found = self.find_access(depth).await;
        let Some(_held) = self.may_note().await else { return };
        match found {
            Ok(()) => {
                self.probing.clear();
                info!(account = %self.id(), reason, "probe succeeded: the account is no longer paused");
                let resumed = timed!(&self.pool, DB_TIMEOUT, |connection| account::resume(
                    connection,
                    self.id(),
                    &self.replica,
                    reason
                ));
                if let Err(error) = resumed.await {
                    warn!(account = %self.id(), %error, "the end of the pause could not be written down");
                }
            }
            Err(error) => {
                let error_in_short = error.brief();
                self.probing.raise(&error_in_short);
                // Where others had paused it, this replica has now seen for itself. It is paused already: what is wrong by now is to be said,
                // and an API that is away needs no token.
                if let Some((reason, length)) = retry::pause_after_question(&error, ProbeDepth::List)
                    && reason != PauseReason::Throttled
                {
                    self.write_down_pause(Pause { reason, length, error: &error_in_short }).await;
                }
            }
        }
    }

    /// Finds a path and a token that work, one list request a candidate. Fails as the present access does, or the first one;
    /// an API that is away says nothing about credentials and ends the search.
    async fn find_access(&self, depth: ProbeDepth) -> Result<(), FetchError> {
        let before = self.client.access();
        let mut failure = None;
        for candidate in self.client.candidates() {
            match self.try_access(candidate, depth).await {
                Ok(()) => {
                    self.client.use_access(candidate);
                    if before != Some(candidate) {
                        self.write_down_access().await;
                    }
                    self.answered().await;
                    return Ok(());
                }
                Err(denied @ FetchError::Denied(_)) => failure = failure.or(Some(denied)),
                Err(other) => return Err(other),
            }
        }
        Err(failure.unwrap_or_else(|| FetchError::Denied("no token configured".into())))
    }

    async fn write_down_access(&self) {
        let Some((style, _held)) = self.client.style().zip(self.may_note().await) else { return };
        let written = timed!(&self.pool, DB_TIMEOUT, |connection| account::set_api_path(
            connection,
            self.id(),
            style.as_casing()
        ));
        if let Err(error) = written.await {
            warn!(account = %self.id(), %error, "the API path could not be written down");
        }
    }

    /// Tries one path and token: a list request, and with [`ProbeDepth::Single`] the newest listed call by itself. A call that is
    /// listed exists, so a 404 or a refusal of it is the access's fault.
    async fn try_access(&self, access: Access, depth: ProbeDepth) -> Result<(), FetchError> {
        self.wait_for_slot(Priority::Sweep).await;
        let row = async |page| {
            self.client.list_with(access, &ListQuery { page, per_page: 1, ..ListQuery::default() }).await
        };
        let newest = match row(1).await {
            // One row that Vobiz cannot print is no fault of the account.
            Err(FetchError::Refused(_)) => {
                self.wait_for_slot(Priority::Sweep).await;
                row(2).await
            }
            page => page,
        };
        let newest = match newest {
            Ok(page) => page.rows.into_iter().next(),
            // An empty list is a 200 (documented): a 404 means a wrong path.
            Err(FetchError::NotYet(said)) => return Err(FetchError::Denied(said)),
            Err(error) => return Err(error),
        };
        match newest {
            Some(Ok(row)) if depth == ProbeDepth::Single => {
                self.wait_for_slot(Priority::Sweep).await;
                match self.client.fetch_with(access, &row.call_id).await {
                    Ok(_) => Ok(()),
                    Err(FetchError::NotYet(said) | FetchError::Refused(said)) => {
                        Err(FetchError::Denied(said))
                    }
                    Err(error) => Err(error),
                }
            }
            Some(Err(error)) if depth == ProbeDepth::Single => {
                Err(FetchError::Unreadable { why: error.to_string(), body: bytes::Bytes::new() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_gets_its_turn_in_the_end() {
        let all = [Priority::Sweep, Priority::Fetch, Priority::Ledger, Priority::Backfill];
        let ahead = |seconds| all.map(|priority| priority.ahead(Duration::from_secs(seconds)).as_millis());
        assert_eq!(ahead(0), [500, 250, 50, 50]);
        assert_eq!(ahead(2), [500, 250, 500, 50]);
        assert_eq!(ahead(5), [500, 250, 500, 500]);
    }
}
