//! What a worker slot does: one lease, one request, one outcome.
//!
//! ```text
//!   lease ──▶ request ──▶ its CDR ───────────────────────────────────────────▶ Store
//!                │
//!                └──▶ it failed ──▶ next_step ──▶ an end: wait, bury, close ──▶ Fail, or Release
//!                                    ▲      └───▶ a step: ask the list, count the streak, pause the account, look the
//!                                    │            call up by its SIP Call-ID, ask other accounts
//!                                    └── learn ◀──┘ └── it brought the CDR ───▶ Store, or OtherId
//! ```
//!
//! [`retry`] says which step is next (`Failure::next_step`), pure; [`follow_rule`] does it and takes down what it brought
//! (`Failure::learn`), until the step is an end.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::other_accounts::OtherAccounts;
use crate::account::{Account, Priority};
use crate::db::cdr::{Incoming, Origin};
use crate::db::queue::{Failed, FetchOutcome, Lease, Then};
use crate::retry::{self, ErrorClass, Failure, History, Learned, NextStep};
use crate::vobiz::{AccountId, Cdr, FetchError, ListQuery};
use crate::watch::metrics::Metrics;

/// Another call that was fetched within this time shows that single calls can be.
const LATELY: Duration = Duration::from_secs(24 * 3600);
/// A call whose answer came under a clock that is behind is asked for again after this.
const CLOCK_WAIT: Duration = Duration::from_secs(15);

/// Fetches the CDR of a leased call.
pub(super) async fn fetch(
    account: &Account,
    lease: Lease,
    other_accounts: &OtherAccounts,
    metrics: &Metrics,
) -> FetchOutcome {
    if lease.stored {
        return FetchOutcome::Paid(lease);
    }
    let requested_at = lease.now();
    let request =
        async { owned(account.client.fetch_cdr(lease.call_id()).await?, account, &other_accounts.mains) };
    let fetched = observed(request, metrics).await;
    if let Err(behind) = account.check_clock(lease.now()).await {
        debug!(call_id = %lease.call_id(), error = %behind, "given back");
        return FetchOutcome::Release(lease, CLOCK_WAIT);
    }
    match fetched {
        Ok(cdr) => {
            streak(account).succeeded();
            account.fetched().await;
            let incoming = Incoming::new(cdr, account.id(), Origin::Callback, true, requested_at)
                .fetched(lease.attempts + 1, lease.announced_at);
            FetchOutcome::Store(lease, Box::new(incoming))
        }
        Err(error) => follow_rule(account, lease, other_accounts, metrics, error).await,
    }
}

/// Measures and counts a fetch.
pub(super) async fn observed(
    request: impl Future<Output = Result<Cdr, FetchError>>,
    metrics: &Metrics,
) -> Result<Cdr, FetchError> {
    let sent = Instant::now();
    let fetched = request.await;
    metrics.fetch_seconds.observe(sent.elapsed().as_secs_f64());
    metrics.fetches.with_label_values(&[label(&fetched)]).inc();
    fetched
}

/// The label of the counter for this result.
fn label(fetched: &Result<Cdr, FetchError>) -> &'static str {
    match fetched {
        Ok(_) => "fetched",
        Err(FetchError::NotYet(_)) => "not_yet",
        Err(FetchError::Throttled { .. }) => "throttled",
        Err(FetchError::Unavailable(_)) => "unavailable",
        Err(FetchError::Denied(_)) => "denied",
        Err(FetchError::Refused(_)) => "refused",
        Err(FetchError::Unreadable { .. }) => "unreadable",
    }
}

/// Refuses a record of another account: it must not be billed under a name that nobody gave us.
pub(super) fn owned(cdr: Cdr, account: &Account, mains: &[AccountId]) -> Result<Cdr, FetchError> {
    let asked = account.id();
    if cdr.may_belong_to(asked, |owner| mains.contains(owner)) {
        return Ok(cdr);
    }
    let configured = cdr.account_id.as_ref().is_some_and(|owner| mains.contains(owner));
    let which = if configured { "another configured account" } else { "which is none below it" };
    let owner = cdr.named_owner().unwrap_or_default();
    Err(FetchError::Unreadable {
        why: format!("the CDR belongs to {owner}, {which}"),
        body: cdr.payload.text().to_owned().into(),
    })
}

fn streak(account: &Account) -> std::sync::MutexGuard<'_, retry::Streak> {
    account.streak.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the rule of [`retry`], step by step, until a step ends the failure.
async fn follow_rule(
    account: &Account,
    lease: Lease,
    other_accounts: &OtherAccounts,
    metrics: &Metrics,
    error: FetchError,
) -> FetchOutcome {
    let history = History { others_succeed: account.fetched_within(LATELY), ..lease.history };
    let mut failure = Failure::new(error, history, lease.sip_call_id.is_some(), rand::random());
    loop {
        let answer = match failure.next_step() {
            NextStep::AskList(depth, why) => Learned::Access(depth, account.verify(&why, depth).await),
            NextStep::CountInStreak(class) => Learned::InARow(streak(account).count(class, lease.call_id())),
            NextStep::PauseAccount(reason, length, why) => {
                account.pause(reason, length, &why).await;
                Learned::Paused
            }
            NextStep::LookUpBySip => match look_up_by_sip(account, &lease, &other_accounts.mains).await {
                Some(found) => return found_by_sip(lease, found),
                None => Learned::NotListed,
            },
            NextStep::AskOtherAccounts { until_all } => {
                match other_accounts.ask(account, &lease, until_all, metrics).await {
                    Ok(found) => return FetchOutcome::Store(lease, found),
                    Err(said) => Learned::Elsewhere(said),
                }
            }
            NextStep::Release(wait) => return FetchOutcome::Release(lease, wait),
            NextStep::Wait(class, wait) => return failed(lease, &failure, class, Then::Wait(wait)),
            NextStep::Bury(class) => return failed(lease, &failure, class, Then::Bury),
            NextStep::Close(class) => return failed(lease, &failure, class, Then::Close),
        };
        failure.learn(answer);
    }
}

/// A failure that the call pays for.
fn failed(lease: Lease, failure: &Failure, class: ErrorClass, then: Then) -> FetchOutcome {
    let (call_id, error) = (lease.call_id(), failure.error().brief());
    match then {
        Then::Wait(wait) => debug!(%call_id, error, seconds = wait.as_secs_f64(), "postponed"),
        Then::Bury => warn!(%call_id, class = class.as_str(), error, "dead letter"),
        Then::Close => info!(%call_id, error, "speculative call closed: it came to nothing"),
    }
    let body =
        if let FetchError::Unreadable { body, .. } = failure.error() { Some(body.to_vec()) } else { None };
    FetchOutcome::Fail(Failed { lease, class, error: failure.evidence(), body, then })
}

/// Looks a trunk call up in the list by its SIP Call-ID: the hang-up's own id may not be the CDR's (the vendor's pages and
/// real rows disagree).
async fn look_up_by_sip(account: &Account, lease: &Lease, mains: &[AccountId]) -> Option<Incoming> {
    let sip_call_id = lease.sip_call_id.as_ref()?;
    account.wait_for_slot(Priority::Fetch).await;
    let requested_at = lease.now();
    let query =
        ListQuery { page: 1, per_page: 20, sip_call_id: Some(sip_call_id.clone()), ..ListQuery::default() };
    let page = match account.client.list_cdrs(&query).await {
        Ok(page) => page,
        Err(error) => {
            account.list_failed(&error).await;
            return None;
        }
    };
    // A server that does not know the filter would show any calls.
    let mut rows =
        page.rows.into_iter().flatten().filter(|row| row.fields.sip_call_id.as_ref() == Some(sip_call_id));
    let (row, None) = (rows.next()?, rows.next()) else { return None };
    let row = owned(*row, account, mains).ok()?;
    let found = Incoming::new(row, account.id(), Origin::Callback, false, requested_at);
    Some(found.fetched(lease.attempts + 1, lease.announced_at))
}

/// The hang-up's id may have been right, and the record only late.
fn found_by_sip(lease: Lease, found: Incoming) -> FetchOutcome {
    let is_own = found.cdr.call_id == *lease.call_id();
    let found = Box::new(found);
    if is_own { FetchOutcome::Store(lease, found) } else { FetchOutcome::OtherId(lease, found) }
}
