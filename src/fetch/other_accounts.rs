//! The last question before a call is given up: does another account of this service have it? A callback may have been
//! attributed to the wrong one, and the account that was asked for a day then never had the call.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::slot::{observed, owned};
use crate::account::{Account, Priority};
use crate::db::account::PauseReason;
use crate::db::cdr::{Incoming, Origin};
use crate::db::queue::Lease;
use crate::db::queue::other_accounts;
use crate::db::timed;
use crate::retry::{self, Decision, History};
use crate::vobiz::{AccountId, FetchError};
use crate::watch::metrics::Metrics;

/// The wait for a slot in another account's rate limit; a lease outlives it.
const PATIENCE: Duration = Duration::from_secs(10);
const DB_TIMEOUT: Duration = Duration::from_secs(10);
/// A call for which there is no turn just now waits this long: as it did between its last requests.
const NEXT_TURN: Duration = Duration::from_secs(15 * 60);
/// One of the others is paused or away.
const AWAY: Duration = Duration::from_secs(3600);
/// So old, a call is given up although not every account could be asked.
const GIVE_UP_AFTER: Duration = Duration::from_secs(48 * 3600);

/// All accounts of this service, as a call of one of them sees them.
#[derive(Debug)]
pub(super) struct OtherAccounts {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    /// Ids of the configured main accounts: a row that belongs to another one of them is refused.
    pub(super) mains: Vec<AccountId>,
    /// Hands that may ask around at once: most of them stay with the calls that are there.
    places: Semaphore,
    lease: Duration,
}

/// What the others said.
#[derive(Debug)]
pub(super) enum AskedAround {
    /// One of them has it.
    Found(Box<Incoming>),
    /// None of those that could be asked has it.
    Nowhere {
        /// How many were asked.
        asked: usize,
        /// How many there are.
        others: usize,
    },
    /// They cannot all be asked just now: those that are left are asked after this time.
    Later(Duration),
}

impl OtherAccounts {
    /// These accounts; up to a quarter of `hands` may ask around, and each lease is kept for `lease` from every question on.
    pub(super) fn new(pool: PgPool, accounts: Vec<Arc<Account>>, hands: u32, lease: Duration) -> Self {
        let mains = accounts.iter().map(|account| account.id().clone());
        let mains = mains.filter(|id| id.as_str().starts_with("MA_")).collect();
        let places = Semaphore::new(hands.div_ceil(4).max(1) as usize);
        Self { pool, accounts, mains, places, lease }
    }

    /// Asks all accounts but `own` for the call, one after the other and each once, however many turns it takes. One that is
    /// paused is passed over.
    pub(super) async fn ask(&self, own: &Account, lease: &Lease, metrics: &Metrics) -> AskedAround {
        let others = || self.accounts.iter().filter(|account| account.id() != own.id());
        let count = others().count();
        let Ok(_place) = self.places.try_acquire() else { return AskedAround::Later(NEXT_TURN) };
        let known = timed!(&self.pool, DB_TIMEOUT, |connection| other_accounts::answered(connection, lease));
        let Ok(mut answered) = known.await else { return AskedAround::Later(NEXT_TURN) };
        let has_answered = |answered: &[String], account: &Account| {
            answered.iter().any(|id| id.as_str() == account.id().as_str())
        };
        let mut requests = 1;
        for account in others() {
            if has_answered(&answered, account) {
                continue;
            }
            match account.is_paused().await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(_) => return AskedAround::Later(NEXT_TURN),
            }
            // Its path is being found out, or no slot is free for long.
            if account.client.style().is_none()
                || tokio::time::timeout(PATIENCE, account.wait_for_slot(Priority::Fetch)).await.is_err()
                || !self.keep(lease, &answered).await
            {
                return AskedAround::Later(NEXT_TURN);
            }
            let requested_at = lease.now();
            let fetched = account.client.fetch_cdr(lease.call_id());
            let fetched = observed(fetched, metrics).await.and_then(|cdr| owned(cdr, account, &self.mains));
            requests += 1;
            match fetched {
                Ok(cdr) => {
                    info!(call_id = %lease.call_id(), asked = %own.id(), found = %account.id(),
                          "another account has the call: its callback was attributed to the wrong one");
                    let found = Incoming::new(cdr, account.id(), Origin::Callback, true, requested_at)
                        .fetched(lease.attempts.saturating_add(requests), lease.announced_at);
                    return AskedAround::Found(Box::new(found));
                }
                Err(error) if self.answered(account, &error).await => {
                    answered.push(account.id().as_str().to_owned());
                }
                Err(_) => {}
            }
        }
        let asked = others().filter(|account| has_answered(&answered, account)).count();
        // One that is paused or away may have it: it is asked again later, but not for ever.
        if asked < count && lease.history.not_yet_for.is_none_or(|age| age < GIVE_UP_AFTER) {
            // Those that have answered are not asked again.
            let wait = if self.keep(lease, &answered).await { AWAY } else { NEXT_TURN };
            return AskedAround::Later(wait);
        }
        AskedAround::Nowhere { asked, others: count }
    }

    /// Whether this failure answers the question. A throttled account pauses for all; anything else that is wrong with it will
    /// be found out with its own calls.
    async fn answered(&self, account: &Account, error: &FetchError) -> bool {
        debug!(account = %account.id(), error = error.brief(), "another account does not have the call");
        if let Decision::PauseAccount(length) = retry::decide(error, &History::default(), 0.0) {
            account.pause(PauseReason::Throttled, length, &error.brief()).await;
        }
        match error {
            FetchError::NotYet(_) | FetchError::Refused(_) | FetchError::Unreadable { .. } => true,
            FetchError::Throttled { .. } | FetchError::Unavailable(_) | FetchError::Denied(_) => false,
        }
    }

    /// Writes down which accounts have answered, and renews the lease so that it outlives the next request and the settling. False: somebody
    /// else has the call now, or Postgres is away.
    async fn keep(&self, lease: &Lease, answered: &[String]) -> bool {
        let kept = timed!(&self.pool, DB_TIMEOUT, |connection| other_accounts::keep(
            connection, lease, answered, self.lease
        ));
        kept.await.unwrap_or(false)
    }
}
