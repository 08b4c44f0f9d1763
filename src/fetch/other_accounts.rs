//! The last question before a call is given up: does another account of this service have it? A callback may have been
//! attributed to the wrong one, and the account that was asked for a day then never had the call. When that is asked, and what
//! follows from it, is decided in [`crate::retry`].

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::slot::{observed, owned};
use crate::account::{Account, Priority};
use crate::db::cdr::{Incoming, Origin};
use crate::db::queue::Lease;
use crate::db::queue::other_accounts;
use crate::db::timed;
use crate::retry::{self, Elsewhere, PauseReason};
use crate::vobiz::{AccountId, FetchError};
use crate::watch::metrics::Metrics;

/// The wait for a slot in another account's rate limit; a lease outlives it.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
const DB_TIMEOUT: Duration = Duration::from_secs(10);
/// All accounts of this service, as a call of one of them sees them.
#[derive(Debug)]
pub(super) struct OtherAccounts {
    pool: PgPool,
    accounts: Vec<Arc<Account>>,
    /// Ids of the configured main accounts: a row that belongs to another one of them is refused.
    pub(super) mains: Vec<AccountId>,
    /// Worker slots that may do this at once: most of them stay with the calls that are there.
    turns: Semaphore,
    lease: Duration,
}

impl OtherAccounts {
    /// These accounts; up to a quarter of the worker `slots` may ask them at once, and each lease is renewed for `lease` with every
    /// question.
    pub(super) fn new(pool: PgPool, accounts: Vec<Arc<Account>>, slots: u32, lease: Duration) -> Self {
        let mains = accounts.iter().map(|account| account.id().clone());
        let mains = mains.filter(|id| id.as_str().starts_with("MA_")).collect();
        let turns = Semaphore::new(slots.div_ceil(4).max(1) as usize);
        Self { pool, accounts, mains, turns, lease }
    }

    /// Asks all accounts but `own` for the call, one after the other and each once, however many turns it takes. One that is
    /// paused is passed over; `until_all` says that the call waits for it. Brings the CDR, or what they said instead.
    pub(super) async fn ask(
        &self,
        own: &Account,
        lease: &Lease,
        until_all: bool,
        metrics: &Metrics,
    ) -> Result<Box<Incoming>, Elsewhere> {
        let others = || self.accounts.iter().filter(|account| account.id() != own.id());
        let count = others().count();
        let Ok(_turn) = self.turns.try_acquire() else { return Err(Elsewhere::NoTurn) };
        let known = timed!(&self.pool, DB_TIMEOUT, |connection| other_accounts::answered(connection, lease));
        let Ok(mut answered) = known.await else { return Err(Elsewhere::NoTurn) };
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
                Err(_) => return Err(Elsewhere::NoTurn),
            }
            // Its path is being found out, or no slot is free for long.
            if account.client.style().is_none()
                || tokio::time::timeout(SLOT_TIMEOUT, account.wait_for_slot(Priority::Fetch)).await.is_err()
                || !self.keep(lease, &answered).await
            {
                return Err(Elsewhere::NoTurn);
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
                    return Ok(Box::new(found));
                }
                Err(error) => {
                    if self.is_answer(account, &error).await {
                        answered.push(account.id().as_str().to_owned());
                    }
                }
            }
        }
        let asked = others().filter(|account| has_answered(&answered, account)).count();
        if asked < count && until_all {
            // Those that have answered are not asked again.
            return Err(if self.keep(lease, &answered).await {
                Elsewhere::SomeAway
            } else {
                Elsewhere::NoTurn
            });
        }
        Err(Elsewhere::Nowhere { asked, others: count })
    }

    /// Whether this failure answers the question. An account that is throttled is paused.
    async fn is_answer(&self, account: &Account, error: &FetchError) -> bool {
        debug!(account = %account.id(), error = error.brief(), "another account does not have the call");
        let (is_answer, pause) = retry::answer_of_other_account(error);
        if let Some(length) = pause {
            account.pause(PauseReason::Throttled, length, &error.brief()).await;
        }
        is_answer
    }

    /// Writes down which accounts have answered, and renews the lease so that it outlives the next request and the storing. False:
    /// another replica has the call now, or Postgres is away.
    async fn keep(&self, lease: &Lease, answered: &[String]) -> bool {
        let kept = timed!(&self.pool, DB_TIMEOUT, |connection| other_accounts::keep(
            connection, lease, answered, self.lease
        ));
        kept.await.unwrap_or(false)
    }
}
