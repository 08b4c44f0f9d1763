//! CDRs in and debts out. What was fetched for a group of calls, and what failed, becomes true in one transaction, or nothing of it
//! does; so does a page of the list. Before that, in a transaction of their own, go the calls of a group whose CDR was stored already:
//! nothing is stored for them, they are only paid.
//!
//! The locks of the whole service are taken in here, so that no flow can forget their order: rows of `cdr` first, then rows of
//! `cdr_queue`, each sorted by `call_id`. The verbs that end a lease ([`outcome`](super::outcome)) are reached through here only.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::outcome::{self, Failed, Then};
use super::{Lease, backlog};
use crate::db::cdr::{self, Incoming, Origin, Upserted};
use crate::vobiz::{AccountId, CallId};

/// What came of a lease.
#[derive(Debug)]
pub enum FetchOutcome {
    /// The CDR: store it and pay the debt.
    Store(Lease, Box<Incoming>),
    /// The CDR is stored already: pay the debt.
    Paid(Lease),
    /// The CDR under another id, found by its SIP Call-ID: store it and close the call.
    OtherId(Lease, Box<Incoming>),
    /// A failure, and what becomes of the call.
    Fail(Failed),
    /// Nothing happened that the call should pay for: it falls due again after this long.
    Release(Lease, Duration),
}

impl FetchOutcome {
    /// The lease that it ends.
    pub fn lease(&self) -> &Lease {
        match self {
            Self::Store(lease, _) | Self::Paid(lease) | Self::OtherId(lease, _) | Self::Release(lease, _) => {
                lease
            }
            Self::Fail(failed) => &failed.lease,
        }
    }

    fn call_id(&self) -> &str {
        self.lease().call_id().as_str()
    }

    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Self::Store(_, incoming) | Self::OtherId(_, incoming) => Some(incoming),
            Self::Paid(_) | Self::Fail(_) | Self::Release(..) => None,
        }
    }
}

/// What a group of outcomes changed. Leases that did not hold any more changed nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredOutcomes {
    /// What became of the CDRs.
    pub upserted: Upserted,
    /// Debts that were paid, of calls that were dead letters too.
    pub paid: u64,
    /// Calls that fall due again after their failure.
    pub postponed: u64,
    /// Calls that became dead letters.
    pub buried: u64,
    /// Calls closed with their evidence.
    pub closed: u64,
    /// Leases given back at no cost.
    pub released: u64,
}

/// Makes a group of outcomes true. Calls that were stored already go first and by themselves: locked beside those that are stored
/// now, their rows of `cdr` would be out of order.
pub async fn store(
    connection: &mut PgConnection,
    group: &[FetchOutcome],
) -> Result<StoredOutcomes, sqlx::Error> {
    let (already, group): (Vec<&FetchOutcome>, Vec<&FetchOutcome>) =
        group.iter().partition(|outcome| matches!(outcome, FetchOutcome::Paid(_)));
    let mut stored = StoredOutcomes::default();
    if !already.is_empty() {
        let call_ids: Vec<&str> = already.iter().map(|outcome| outcome.call_id()).collect();
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, &call_ids).await?;
        stored.paid = outcome::complete(&mut transaction, &call_ids).await?;
        transaction.commit().await?;
    }
    if group.is_empty() {
        return Ok(stored);
    }
    let mut transaction = connection.begin().await?;
    let incoming: Vec<&Incoming> = group.iter().filter_map(|outcome| outcome.incoming()).collect();
    stored.upserted = cdr::upsert(&mut transaction, &incoming).await?;
    // A CDR found under another id pays the debt of that id as well, if there is one.
    let paid: Vec<&str> = incoming.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let all: Vec<&str> = group.iter().map(|outcome| outcome.call_id()).chain(paid.iter().copied()).collect();
    lock_owed(&mut transaction, &all).await?;
    end_leases(&mut transaction, &group, &mut stored).await?;
    if !paid.is_empty() {
        stored.paid += outcome::complete(&mut transaction, &paid).await?;
    }
    transaction.commit().await?;
    Ok(stored)
}

/// Ends the leases under which no CDR of their own id came. Their rows are locked by the caller.
async fn end_leases(
    connection: &mut PgConnection,
    group: &[&FetchOutcome],
    stored: &mut StoredOutcomes,
) -> Result<(), sqlx::Error> {
    let failed = |wanted: fn(Then) -> bool| -> Vec<&Failed> {
        let all = group.iter().filter_map(|outcome| match outcome {
            FetchOutcome::Fail(failed) => Some(failed),
            _ => None,
        });
        all.filter(|failed| wanted(failed.then)).collect()
    };
    let waiting = failed(|then| matches!(then, Then::Wait(_)));
    if !waiting.is_empty() {
        stored.postponed = outcome::postpone(connection, &waiting).await?;
    }
    let dead = failed(|then| then == Then::Bury);
    if !dead.is_empty() {
        stored.buried = outcome::bury(connection, &dead).await?;
    }
    let closed = failed(|then| then == Then::Close);
    if !closed.is_empty() {
        stored.closed = outcome::close(connection, &closed).await?;
    }
    for outcome in group {
        match outcome {
            FetchOutcome::OtherId(lease, incoming) => {
                let evidence = "404 under its own id; the list shows it under this one by its SIP Call-ID";
                let found = &incoming.cdr.call_id;
                stored.closed +=
                    outcome::close_as_other_id(connection, lease.call_id(), found, evidence).await?;
            }
            FetchOutcome::Release(lease, wait) => {
                stored.released += outcome::release(connection, lease, *wait).await?;
            }
            FetchOutcome::Store(..) | FetchOutcome::Paid(_) | FetchOutcome::Fail(_) => {}
        }
    }
    Ok(())
}

/// What rows of a list changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoredRows {
    /// What became of the CDRs.
    pub upserted: Upserted,
    /// Calls that were not stored before.
    pub new: BTreeSet<String>,
    /// Debts that they paid.
    pub paid: u64,
    /// Of these, calls under the reservation that are no dead letters.
    pub reserved: u64,
}

/// Stores rows of a list and pays their debts, under whichever lease. A row of a call that a callback had announced becomes the
/// callback's, however it comes: `origin` means that without the list nobody would know of the call. `reserved_to` is the
/// reservation under which the list is read.
pub async fn store_listed(
    connection: &mut PgConnection,
    rows: &mut [Incoming],
    origin: Origin,
    reserved_to: Option<DateTime<Utc>>,
) -> Result<StoredRows, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let ids: Vec<CallId> = rows.iter().map(|row| row.cdr.call_id.clone()).collect();
    let call_ids: Vec<&str> = ids.iter().map(CallId::as_str).collect();
    let owed = backlog::owed(&mut transaction, &call_ids).await?;
    for row in rows.iter_mut() {
        let announced = owed.get(row.cdr.call_id.as_str()).filter(|owed| owed.announced_at.is_some());
        row.origin = if announced.is_some() { Origin::Callback } else { origin };
        row.announced_at = announced.and_then(|owed| owed.announced_at);
        row.attempts = announced.map_or(0, |owed| owed.attempts);
    }
    let reserved =
        owed.values().filter(|owed| !owed.dead && reserved_to.is_some_and(|to| owed.due_at <= to)).count();
    let new = cdr::missing(&mut transaction, &ids).await?;
    let upserted = cdr::upsert(&mut transaction, &rows.iter().collect::<Vec<_>>()).await?;
    lock_owed(&mut transaction, &call_ids).await?;
    let paid = outcome::complete(&mut transaction, &call_ids).await?;
    transaction.commit().await?;
    Ok(StoredRows { upserted, new, paid, reserved: reserved as u64 })
}

/// Owes calls that a list shows in rows which cannot be read, unless they are stored, owed or closed already. Returns those that
/// are owed by it.
pub async fn owe_listed(
    connection: &mut PgConnection,
    account: &AccountId,
    call_ids: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
         select distinct n.call_id, $1, false, true, vobiz.now()
         from unnest($2::text[]) as n (call_id)
         where not exists (select from vobiz.cdr c where c.call_id = n.call_id)
           -- What was closed because nobody listed it is listed now.
           and not exists (select from vobiz.closed_call x
                           where x.call_id = n.call_id and x.reason not in ('not_found', 'never_appeared'))
         -- The lock order of the whole service.
         order by n.call_id
         on conflict (call_id) do nothing
         returning call_id",
        account.as_str(),
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await
}

/// Locks what there is of some calls in both tables.
pub(super) async fn lock(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    cdr::lock(connection, call_ids).await?;
    lock_owed(connection, call_ids).await
}

/// Locks what is owed of some calls; their rows of `cdr` are locked already.
async fn lock_owed(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"select call_id from vobiz.cdr_queue where call_id = any($1) order by call_id for update"#,
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}
