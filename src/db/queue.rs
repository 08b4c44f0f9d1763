//! The queue: one row per call we owe. Enqueueing is in [`super::callback`], since a callback is logged and owed in one
//! statement; the other verbs are here.
//!
//! ```text
//!                 lease (due_at moves on)             stored: the row is gone
//!   owed, due  ───────────────────────────▶  leased ───────────────────────────▶  (vobiz.cdr)
//!      ▲  ▲                                   │  │ │
//!      │  └───────── postpone, release ───────┘  │ └── close (speculative) ────▶  (vobiz.closed_call)
//!      └──────────── revive ──────  dead  ◀──────┘ bury
//! ```
//!
//! A lease that is cut off needs no care: its row just falls due again. Postponing, burying and closing are fenced by
//! `lease_id`: a late holder changes nothing. Storing is not: a stored CDR pays the debt, whoever held the lease.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::account::{Slots, interval, seconds};
use super::clock::Clock;
use crate::retry::{ErrorClass, History};
use crate::vobiz::{AccountId, CallId};

/// The right to settle one owed call, until the lease runs out. Neither `Clone` nor `Copy`: it is settled once, by value.
#[derive(Debug)]
pub struct Lease {
    call_id: CallId,
    account_id: AccountId,
    id: i64,
    clock: Clock,
    /// Requests answered for the call before this one.
    pub attempts: i32,
    /// The failures so far.
    pub history: History,
    /// When its first callback was committed.
    pub announced_at: Option<DateTime<Utc>>,
    /// SIP Call-ID of a trunk call.
    pub sip_call_id: Option<String>,
    /// The CDR is stored already: nothing is to be fetched, the row only has to go.
    pub stored: bool,
    /// When it had fallen due.
    pub due_at: DateTime<Utc>,
    /// Calls that fell due earlier are held for the list at this moment.
    pub beside_hold: bool,
}

impl Lease {
    /// The call.
    pub fn call_id(&self) -> &CallId {
        &self.call_id
    }

    /// The account to ask.
    pub fn account_id(&self) -> &AccountId {
        &self.account_id
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Now, by the clock of Postgres.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// Leases up to `most` due calls of an account, certain ones first, then oldest due first, each with its slot in the shared rate limit: no more than
/// may be asked for within `ahead`. None while the account is paused, and none that a hold keeps for the list
/// ([`super::backlog`]). With a `floor`, certain calls that fell due before it are not looked for.
pub async fn lease(
    connection: &mut PgConnection,
    account: &AccountId,
    most: u32,
    max_rps: f64,
    ahead: Duration,
    lease_for: Duration,
    floor: Option<DateTime<Utc>>,
) -> Result<(Vec<Lease>, Slots), sqlx::Error> {
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"with pace as (
             -- The account's row is the limiter of all replicas: who holds it reserves, the others wait a moment.
             select greatest(next_slot, vobiz.now()) as first_slot,
                    -- Calls under a hold are left to whoever reads the list.
                    case when listing_until > vobiz.now() then listed_due_to else '-infinity' end as above,
                    $3 * least(1, rate_share + 0.01 * extract(epoch from vobiz.now() - rate_share_at)::float8) as rate
             from vobiz.account
             where account_id = $1
               and (pause_reason is null or (pause_reason = 'throttled' and paused_until <= vobiz.now()))
             for no key update
           ), room as (
             select first_slot, rate, above > '-infinity' as beside_hold,
                    case when first_slot > vobiz.now() + $4 then 0
                         else least($2::bigint, 1 + floor(extract(epoch from vobiz.now() + $4 - first_slot) * rate)::bigint)
                    end as slots
             from pace
           ), certain as (
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and q.certain
               and q.due_at > (select greatest(above, $6) from pace) and q.due_at <= vobiz.now()
             order by q.due_at
             -- No room, no rows: a limit of null would be no limit.
             limit coalesce((select slots from room), 0)
             -- Rows that another replica is leasing or settling are not waited for.
             for update of q skip locked
           ), speculative as (
             -- What anybody may have made up only gets the slots that certain calls leave.
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and not q.certain
               and q.due_at > (select above from pace) and q.due_at <= vobiz.now()
             order by q.due_at
             limit greatest(coalesce((select slots from room), 0) - (select count(*) from certain), 0)
             for update of q skip locked
           ), due as (
             select * from certain union all select * from speculative
           ), leased as (
             update vobiz.cdr_queue q set due_at = vobiz.now() + $5, lease_id = nextval('vobiz.lease_id')
             from due where q.call_id = due.call_id
             returning q.*, due.stored, due.due_at as was_due_at
           ), taken as (
             update vobiz.account a
             set next_slot = r.first_slot + make_interval(secs => (select count(*) from leased where not stored) / r.rate)
             from room r where a.account_id = $1 and exists (select from leased where not stored)
           )
           select call_id, lease_id as "lease_id!", attempts, certain, error_class, failures,
                  case when first_not_yet_at is not null
                       then extract(epoch from vobiz.unpaused_age(account_id, first_not_yet_at))::float8 end as not_yet_for,
                  announced_at, sip_call_id, stored as "stored!", was_due_at as "was_due_at!", beside_hold as "beside_hold!", vobiz.now() as "now!",
                  extract(epoch from first_slot - vobiz.now())::float8 as "wait!", rate as "rate!"
           from leased, room
           order by was_due_at"#,
        account.as_str(),
        i64::from(most),
        max_rps,
        interval(ahead) as _,
        interval(lease_for) as _,
        floor,
    )
    .fetch_all(connection)
    .await?;
    let mut slots = Slots { count: 0, wait: Duration::ZERO, every: Duration::ZERO };
    let mut leases = Vec::with_capacity(rows.len());
    for row in rows {
        slots = Slots {
            count: slots.count + u32::from(!row.stored),
            wait: seconds(row.wait),
            every: seconds(1.0 / row.rate),
        };
        // The table holds no other ids: every way in goes through CallId.
        let Ok(call_id) = CallId::new(&row.call_id) else { continue };
        leases.push(Lease {
            call_id,
            account_id: account.clone(),
            id: row.lease_id,
            clock: Clock::new(row.now, sent),
            attempts: row.attempts,
            history: History {
                certain: row.certain,
                class: row.error_class.as_deref().and_then(ErrorClass::parse),
                failures: u32::try_from(row.failures).unwrap_or(0),
                not_yet_for: row.not_yet_for.map(seconds),
            },
            announced_at: row.announced_at,
            sip_call_id: row.sip_call_id,
            stored: row.stored,
            due_at: row.was_due_at,
            beside_hold: row.beside_hold,
        });
    }
    Ok((leases, slots))
}

/// Locks the rows of a group that is about to be settled, sorted by `call_id`; call it after the rows of `cdr` are locked.
pub async fn lock(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"select call_id from vobiz.cdr_queue where call_id = any($1) order by call_id for update"#,
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Pays the debt of stored calls: deletes their rows, whoever leased them, dead or not, and notes their first callback on the
/// CDR. Returns how many were owed.
pub async fn complete(connection: &mut PgConnection, call_ids: &[&str]) -> Result<u64, sqlx::Error> {
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
pub async fn postpone(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
    let waits: Vec<_> = failed
        .iter()
        .map(|f| if let Then::Wait(wait) = f.then { interval(wait) } else { interval(Duration::ZERO) })
        .collect();
    let bodies = bodies(failed);
    let (call_ids, lease_ids, classes, errors) = columns(failed);
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set
           due_at = vobiz.now() + f.wait,
           attempts = q.attempts + 1,
           failures = case when q.error_class = f.class then q.failures + 1 else 1 end,
           first_failed_at = case when q.error_class = f.class then q.first_failed_at else vobiz.now() end,
           first_not_yet_at = case when f.class = 'not_yet' then coalesce(q.first_not_yet_at, vobiz.now())
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
pub async fn bury(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
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
pub async fn close(connection: &mut PgConnection, failed: &[&Failed]) -> Result<u64, sqlx::Error> {
    let (call_ids, lease_ids, _, errors) = columns(failed);
    let reasons: Vec<&str> = failed
        .iter()
        .map(|f| match f.class {
            ErrorClass::Refused => "refused",
            ErrorClass::Unreadable => "unreadable",
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
pub async fn close_as_other_id(
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

/// Gives leases back after `wait` at no cost: the account is paused, or we are about to stop.
pub async fn release(
    connection: &mut PgConnection,
    leases: &[&Lease],
    wait: Duration,
) -> Result<u64, sqlx::Error> {
    let call_ids: Vec<&str> = leases.iter().map(|lease| lease.call_id.as_str()).collect();
    let lease_ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set due_at = vobiz.now() + $3
         from unnest($1::text[], $2::bigint[]) as l (call_id, lease_id)
         where q.call_id = l.call_id and q.lease_id = l.lease_id and q.dead_at is null",
        &call_ids as &[&str],
        &lease_ids,
        interval(wait) as _
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Brings dead letters back: due now, with a clean record. A lease that is still about is cut off by the fence. Returns how
/// many were dead.
pub async fn revive(connection: &mut PgConnection, call_ids: &[&str]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set
           dead_at = null, due_at = vobiz.now(), lease_id = nextval('vobiz.lease_id'), failures = 0, error_class = null,
           last_error = null, first_failed_at = null, first_not_yet_at = null, last_body = null, asked = '{}'
         from (select call_id from vobiz.cdr_queue
               where call_id = any($1) and dead_at is not null order by call_id for update) dead
         where q.call_id = dead.call_id",
        call_ids as &[&str]
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
        failed.iter().map(|f| f.lease.call_id.as_str()).collect(),
        failed.iter().map(|f| f.lease.id).collect(),
        failed.iter().map(|f| f.class.as_str()).collect(),
        failed.iter().map(|f| f.error.as_str()).collect(),
    )
}

/// Whether any call is due whose account is not paused and which no hold keeps for the list.
pub async fn any_due(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
             select from vobiz.cdr_queue q join vobiz.account a using (account_id)
             where q.dead_at is null and q.due_at <= vobiz.now()
               and q.due_at > case when a.listing_until > vobiz.now() then a.listed_due_to else '-infinity' end
               and (a.pause_reason is null or (a.pause_reason = 'throttled' and a.paused_until <= vobiz.now()))
           ) as "due!""#
    )
    .fetch_one(connection)
    .await
}

/// How many calls are owed, as one glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Owed and alive.
    pub owed: i64,
    /// Of these, due by now.
    pub due: i64,
    /// Dead letters.
    pub dead: i64,
}

/// Counts the queue.
pub async fn depth(connection: &mut PgConnection) -> Result<Depth, sqlx::Error> {
    sqlx::query_as!(
        Depth,
        r#"select count(*) filter (where dead_at is null) as "owed!",
                  count(*) filter (where dead_at is null and due_at <= vobiz.now()) as "due!",
                  count(*) filter (where dead_at is not null) as "dead!"
           from vobiz.cdr_queue"#
    )
    .fetch_one(connection)
    .await
}
