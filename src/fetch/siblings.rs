//! The last question before a call is given up: does another account of this service have it? A callback may have been
//! attributed to the wrong one, and the account that was asked for a day then never had the call.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::hand::{observed, owned};
use crate::account::{Account, Right};
use crate::db::account::PauseReason;
use crate::db::cdr::{Incoming, Origin};
use crate::db::queue::{self, Lease};
use crate::metrics::Metrics;
use crate::retry::{self, Decision, History};
use crate::timed;
use crate::vobiz::{AccountId, FetchError};

/// The wait for a slot in another account's rate limit; a lease outlives it.
const PATIENCE: Duration = Duration::from_secs(10);
const DB_TIMEOUT: Duration = Duration::from_secs(10);
/// So old, a call is given up although not every account could be asked.
const GIVE_UP_AFTER: Duration = Duration::from_secs(48 * 3600);

/// All accounts of this service, as a call of one of them sees them.
#[derive(Debug)]
pub(super) struct Siblings {
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
pub(super) enum Answer {
    /// One of them has it.
    Found(Box<Incoming>),
    /// None of those that could be asked has it.
    Nowhere {
        /// How many were asked.
        asked: usize,
        /// How many there are.
        others: usize,
    },
    /// They cannot all be asked just now.
    Later,
}

impl Siblings {
    /// These accounts; up to a quarter of `hands` may ask around, and each lease is kept for `lease` from every question on.
    pub(super) fn new(pool: PgPool, accounts: Vec<Arc<Account>>, hands: u32, lease: Duration) -> Self {
        let mains = accounts.iter().map(|account| account.id().clone());
        let mains = mains.filter(|id| id.as_str().starts_with("MA_")).collect();
        let places = Semaphore::new(hands.div_ceil(4).max(1) as usize);
        Self { pool, accounts, mains, places, lease }
    }

    /// Asks all accounts but `own` for the call, one request each, one after the other. One that is paused is passed over.
    pub(super) async fn ask(&self, own: &Account, lease: &Lease, metrics: &Metrics) -> Answer {
        let others = || self.accounts.iter().filter(|account| account.id() != own.id());
        let (mut asked, count) = (0, others().count());
        let Ok(_place) = self.places.try_acquire() else { return Answer::Later };
        for account in others() {
            match account.is_paused().await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(_) => return Answer::Later,
            }
            // Its path is being found out, or no slot is free for long.
            if account.client.style().is_none()
                || tokio::time::timeout(PATIENCE, account.pace(Right::Fetch)).await.is_err()
                || !self.keep(lease).await
            {
                return Answer::Later;
            }
            let requested_at = lease.now();
            let fetched = account.client.fetch_cdr(lease.call_id());
            let fetched = observed(fetched, metrics).await.and_then(|cdr| owned(cdr, account, &self.mains));
            match fetched {
                Ok(cdr) => {
                    info!(call_id = %lease.call_id(), asked = %own.id(), found = %account.id(),
                          "another account has the call: its callback was attributed to the wrong one");
                    let requests = i32::try_from(asked).unwrap_or(0) + 2;
                    let found = Incoming::new(cdr, account.id(), Origin::Callback, true, requested_at)
                        .fetched(lease.attempts.saturating_add(requests), lease.announced_at);
                    return Answer::Found(Box::new(found));
                }
                Err(error) => asked += usize::from(self.answered(account, &error).await),
            }
        }
        // One that is paused or away may have it: it is asked again later, but not for ever.
        if asked < count && lease.history.not_yet_for.is_none_or(|age| age < GIVE_UP_AFTER) {
            return Answer::Later;
        }
        Answer::Nowhere { asked, others: count }
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

    /// Renews the lease, so that it outlives the next request and the settling. False: somebody else has the call now, or
    /// Postgres is away.
    async fn keep(&self, lease: &Lease) -> bool {
        let kept =
            timed!(&self.pool, DB_TIMEOUT, |connection| queue::release(connection, &[lease], self.lease));
        kept.await.is_ok_and(|kept| kept == 1)
    }
}
