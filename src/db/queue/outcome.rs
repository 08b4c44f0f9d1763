//! The verbs that end a lease: a call is paid for, postponed, buried, closed or released. A dead letter that comes back is in
//! [`dead_letter`](super::dead_letter).
//!
//! They want their rows locked, which [`store`](super::store) does: nothing outside reaches them but through it.

use std::time::Duration;

use sqlx::PgConnection;

use super::Lease;
use crate::db::base::time::interval;
use crate::retry::ErrorClass;
use crate::vobiz::CallId;

/// Pays the debt of stored calls: deletes their rows, under whichever lease, dead or not, and notes their first callback on the
/// CDR. Returns how many were owed.
pub(super) async fn complete(connection: &mut PgConnection, call_ids: &[&str]) -> Result<u64, sqlx::Error> {
    let paid = sqlx::query!(
        r#"with paid as (
             delete from vobiz.cdr_queue where call_id = any($1) returning call_id, announced_at
           ), told as (
             -- The rows of cdr are locked by this transaction already.
             update vobiz.cdr c set first_callback_at = p.announced_at
             from paid p
             where c.call_id = p.call_id and p.announced_at is not null
               and (c.first_callback_at is null or c.first_callback_at > p.announced_at)
           )
           select count(*) as "paid!" from paid"#,
        call_ids as &[&str]
    )
    .fetch_one(connection)
    .await?
    .paid;
    Ok(u64::try_from(paid).unwrap_or(0))
}

/// A failure that is written down, and what becomes of the call.
#[derive(Debug)]
pub struct Failed {
    /// The lease under which it happened.
    pub lease: Lease,
    /// Class of the failure.
    pub class: ErrorClass,
    /// The failure in words.
    pub error: String,
    /// Up to 64 KiB of an answer that could not be read.
    pub body: Option<Vec<u8>>,
    /// What becomes of the call.
    pub then: Then,
}

/// What becomes of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It falls due again after this long.
    Wait(Duration),
    /// It becomes a dead letter.
    Bury,
    /// It leaves the queue with its evidence (speculative calls only).
    Close,
}

/// Postpones failed calls, each by its own wait. Returns how many leases still held.
pub(super) async fn postpone(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
    let waits: Vec<_> = failed
        .iter()
        .map(|f| if let Then::Wait(wait) = f.then { interval(wait) } else { interval(Duration::ZERO) })
        .collect();
    let bodies = bodies(failed);
    let (call_ids, lease_ids, classes, errors) = columns(failed);
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set
           due_at = vobiz.now() + f.wait,
           -- Two accounts say that it is theirs: one does not have it, so the other is asked next.
           account_id = case when f.class in ('not_yet', 'refused') then coalesce(q.other_account_id, q.account_id) else q.account_id end,
           other_account_id = case when f.class in ('not_yet', 'refused') and q.other_account_id is not null then q.account_id
                                   else q.other_account_id end,
           attempts = q.attempts + 1,
           failures = case when q.error_class = f.class then q.failures + 1 else 1 end,
           -- One that lies ahead was written under a clock that was.
           first_failed_at = case when q.error_class = f.class then least(q.first_failed_at, vobiz.now()) else vobiz.now() end,
           first_not_yet_at = case when f.class = 'not_yet' then least(q.first_not_yet_at, vobiz.now())
                                   else q.first_not_yet_at end,
           error_class = f.class,
           last_error = f.error,
           last_body = case when f.body is not null then f.body when q.error_class = f.class then q.last_body end
         from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::interval[], $6::bytea[])
           as f (call_id, lease_id, class, error, wait, body)
         where q.call_id = f.call_id and q.lease_id = f.lease_id and q.dead_at is null",
        &call_ids as &[&str],
        &lease_ids,
        &classes as &[&str],
        &errors as &[&str],
        &waits,
        &bodies as &[Option<&[u8]>],
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Makes dead letters of failed calls. A call with an answer that Postgres refuses exists, so it is certain from then on.
/// Returns how many leases still held.
pub(super) async fn bury(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
    let bodies = bodies(failed);
    let (call_ids, lease_ids, classes, errors) = columns(failed);
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set
           dead_at = vobiz.now(),
           certain = q.certain or f.class = 'unstorable',
           attempts = q.attempts + 1,
           failures = case when q.error_class = f.same then q.failures + 1 else 1 end,
           first_failed_at = case when q.error_class = f.same then q.first_failed_at else vobiz.now() end,
           error_class = f.class,
           last_error = f.error,
           last_body = f.body
         from (select n.*, case n.class when 'never_appeared' then 'not_yet' else n.class end as same
               from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[])
                 as n (call_id, lease_id, class, error, body)) f
         where q.call_id = f.call_id and q.lease_id = f.lease_id and q.dead_at is null
           and (q.certain or f.class = 'unstorable')",
        &call_ids as &[&str],
        &lease_ids,
        &classes as &[&str],
        &errors as &[&str],
        &bodies as &[Option<&[u8]>],
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Closes speculative calls that came to nothing, with their evidence. A call that became certain in the meantime stays owed:
/// its lease runs out and it is asked for again. Returns how many were closed.
pub(super) async fn close(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
    let (call_ids, lease_ids, _, errors) = columns(failed);
    let reasons: Vec<&str> = failed
        .iter()
        .map(|f| match f.class {
            ErrorClass::Refused => "refused",
            ErrorClass::Unreadable => "unreadable",
            ErrorClass::Unavailable => "unavailable",
            _ => "not_found",
        })
        .collect();
    let done = sqlx::query!(
        "with closed as (
           delete from vobiz.cdr_queue q
           using unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) as f (call_id, lease_id, reason, error)
           where q.call_id = f.call_id and q.lease_id = f.lease_id and not q.certain and q.dead_at is null
           returning q.call_id, q.account_id, q.certain, q.announced_at, q.attempts, f.reason, f.error
         )
         insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence, announced_at)
         select call_id, account_id, certain, reason, format('%s, after %s requests', error, attempts + 1), announced_at
         from closed",
        &call_ids as &[&str],
        &lease_ids,
        &reasons as &[&str],
        &errors as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Closes a call whose CDR is stored under another id, found by its SIP Call-ID. Not fenced, as storing is not.
pub(super) async fn close_as_other_id(
    connection: &mut PgConnection,
    call_id: &CallId,
    found: &CallId,
    evidence: &str,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "with closed as (
           delete from vobiz.cdr_queue where call_id = $1 returning call_id, account_id, certain, announced_at
         ), told as (
           update vobiz.cdr c set first_callback_at = p.announced_at
           from closed p where c.call_id = $2 and c.first_callback_at is null
         )
         insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence, found_call_id, announced_at)
         select call_id, account_id, certain, 'other_id', $3, $2, announced_at from closed",
        call_id.as_str(),
        found.as_str(),
        evidence
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Gives a lease back after `wait` at no cost: the account is paused, or we are about to stop.
pub(super) async fn release(
    connection: &mut PgConnection,
    lease: &Lease,
    wait: Duration,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update vobiz.cdr_queue set due_at = vobiz.now() + $3
         where call_id = $1 and lease_id = $2 and dead_at is null",
        lease.call_id().as_str(),
        lease.id(),
        interval(wait) as _
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

fn bodies<'a>(failed: &'a [&Failed]) -> Vec<Option<&'a [u8]>> {
    failed.iter().map(|f| f.body.as_deref().map(|body| &body[..body.len().min(65_536)])).collect()
}

fn columns<'a>(failed: &'a [&Failed]) -> (Vec<&'a str>, Vec<i64>, Vec<&'a str>, Vec<&'a str>) {
    (
        failed.iter().map(|f| f.lease.call_id().as_str()).collect(),
        failed.iter().map(|f| f.lease.id()).collect(),
        failed.iter().map(|f| f.class.as_str()).collect(),
        failed.iter().map(|f| f.error.as_str()).collect(),
    )
}
