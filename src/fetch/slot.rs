//! One hand: one lease, one request, one outcome.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::other_accounts::{AskedAround, OtherAccounts};
use crate::account::{AccessVerdict, Account, Priority, ProbeDepth};
use crate::db::account::PauseReason;
use crate::db::cdr::{Incoming, Origin};
use crate::db::queue::{Failed, FetchOutcome, Lease, Then};
use crate::retry::{self, Decision, ErrorClass};
use crate::vobiz::{AccountId, Cdr, FetchError, ListQuery};
use crate::watch::metrics::Metrics;

/// Attends to one lease.
pub(super) async fn attend(
    account: &Account,
    lease: Lease,
    other_accounts: &OtherAccounts,
    metrics: &Metrics,
) -> FetchOutcome {
    if lease.stored {
        return FetchOutcome::Paid(lease);
    }
    let requested_at = lease.now();
    let fetch =
        async { owned(account.client.fetch_cdr(lease.call_id()).await?, account, &other_accounts.mains) };
    match observed(fetch, metrics).await {
        Ok(cdr) => {
            streak(account).succeeded();
            let incoming = Incoming::new(cdr, account.id(), Origin::Callback, true, requested_at)
                .fetched(lease.attempts + 1, lease.announced_at);
            FetchOutcome::Store(lease, Box::new(incoming))
        }
        Err(error) => failed(account, lease, other_accounts, metrics, error).await,
    }
}

/// Measures and counts a fetch.
pub(super) async fn observed(
    fetch: impl Future<Output = Result<Cdr, FetchError>>,
    metrics: &Metrics,
) -> Result<Cdr, FetchError> {
    let sent = Instant::now();
    let fetched = fetch.await;
    metrics.fetch_seconds.observe(sent.elapsed().as_secs_f64());
    metrics.fetches.with_label_values(&[outcome(&fetched)]).inc();
    fetched
}

/// The word for the counters.
fn outcome(fetched: &Result<Cdr, FetchError>) -> &'static str {
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

/// Refuses a row of another configured main account: its token must not bring it in.
pub(super) fn owned(cdr: Cdr, account: &Account, mains: &[AccountId]) -> Result<Cdr, FetchError> {
    match &cdr.account_id {
        Some(owner)
            if owner != account.id() && account.id().as_str().starts_with("MA_") && mains.contains(owner) =>
        {
            Err(FetchError::Unreadable {
                why: format!("the CDR belongs to {owner}, another configured account"),
                body: cdr.payload.text().to_owned().into(),
            })
        }
        _ => Ok(cdr),
    }
}

fn streak(account: &Account) -> std::sync::MutexGuard<'_, retry::Streak> {
    account.streak.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn failed(
    account: &Account,
    lease: Lease,
    other_accounts: &OtherAccounts,
    metrics: &Metrics,
    error: FetchError,
) -> FetchOutcome {
    let jitter = rand::random::<f64>();
    let (error, decision) = match retry::decide(&error, &lease.history, jitter) {
        Decision::AskList => match account.verify(&error.brief(), ProbeDepth::List).await {
            AccessVerdict::Paused | AccessVerdict::AccessChanged => {
                return FetchOutcome::Release(lease, Duration::ZERO);
            }
            AccessVerdict::CallAlone => {
                let refused = FetchError::Refused(format!("{error}; the account's list works"));
                let decision = retry::decide(&refused, &lease.history, jitter);
                (refused, decision)
            }
        },
        decision => (error, decision),
    };
    let (class, then) = match decision {
        Decision::Wait(class, delay) => (class, Then::Wait(delay)),
        Decision::Bury(class) => (class, Then::Bury),
        Decision::Close(class) => (class, Then::Close),
        Decision::PauseAccount(length) => {
            account.pause(PauseReason::Throttled, length, &error.brief()).await;
            return FetchOutcome::Release(lease, Duration::ZERO);
        }
        // A refused call is never asked about twice.
        Decision::AskList => return FetchOutcome::Release(lease, Duration::ZERO),
    };
    let call_id = lease.call_id().clone();
    let suspicion = streak(account).failed(class, &call_id);
    match suspicion {
        Some(ErrorClass::Unreadable) => {
            let why = "many answers in a row cannot be read: the format may have changed (see last_body)";
            account.pause(PauseReason::Unreadable, Duration::from_secs(60), why).await;
        }
        Some(class @ (ErrorClass::Unavailable | ErrorClass::NotYet | ErrorClass::Refused)) => {
            let why = format!("many {} answers in a row", class.as_str());
            let depth = if class == ErrorClass::Unavailable { ProbeDepth::List } else { ProbeDepth::Single };
            match account.verify(&why, depth).await {
                // The list fails too: the answers were the account's trouble and cost the calls nothing.
                AccessVerdict::Paused | AccessVerdict::AccessChanged => {
                    return FetchOutcome::Release(lease, Duration::ZERO);
                }
                AccessVerdict::CallAlone => {}
            }
        }
        _ => {}
    }
    if class == ErrorClass::NotYet
        && lease.history.not_yet_for.is_some_and(|age| age >= retry::LOOK_UP_BY_SIP_AFTER)
        && let Some(found) = look_up_by_sip(account, &lease, &other_accounts.mains).await
    {
        let own = found.cdr.call_id == *lease.call_id();
        let found = Box::new(found);
        return if own { FetchOutcome::Store(lease, found) } else { FetchOutcome::OtherId(lease, found) };
    }
    let mut said = error.to_string();
    if class == ErrorClass::NeverAppeared {
        match other_accounts.ask(account, &lease, metrics).await {
            AskedAround::Found(found) => return FetchOutcome::Store(lease, found),
            // A call that has waited for a day can wait for its turn; until then it costs what it has cost before.
            AskedAround::Later(wait) => {
                return FetchOutcome::Release(lease, wait.mul_f64(1.0 - 0.25 * jitter));
            }
            AskedAround::Nowhere { others: 0, .. } => {}
            AskedAround::Nowhere { asked, others } => {
                said = format!("{said}; {asked} of {others} other accounts asked, none has it");
            }
        }
    }
    match then {
        Then::Bury => {
            warn!(call_id = %call_id, class = class.as_str(), error = error.brief(), "dead letter");
        }
        Then::Close => {
            info!(call_id = %call_id, error = error.brief(), "speculative call closed: it came to nothing");
        }
        Then::Wait(wait) => {
            debug!(call_id = %call_id, error = error.brief(), seconds = wait.as_secs_f64(), "postponed");
        }
    }
    let body = if let FetchError::Unreadable { body, .. } = &error { Some(body.to_vec()) } else { None };
    FetchOutcome::Fail(Failed { lease, class, error: said, body, then })
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
    let row = owned(row, account, mains).ok()?;
    let found = Incoming::new(row, account.id(), Origin::Callback, false, requested_at);
    Some(found.fetched(lease.attempts + 1, lease.announced_at))
}
