//! Leasing: who may ask for which owed calls, and until when. It takes its slots of the rate limit in the same
//! statement, as `db/account/rate.rs` does for all others.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tracing::error;

use crate::db::account::{Replica, Slots};
use crate::db::base::clock::Clock;
use crate::db::base::time::{interval, seconds};
use crate::retry::{ErrorClass, History};
use crate::vobiz::{AccountId, CallId};

/// So many priorities have certain calls; speculative ones come after them.
pub const CERTAIN_PRIORITIES: usize = 3;

/// By priority, where the search for due certain calls starts; `None` is the very beginning.
pub type ScanStarts = [Option<DateTime<Utc>>; CERTAIN_PRIORITIES];

/// The right to fetch one owed call, until the lease runs out. Neither `Clone` nor `Copy`: a lease ends once, by value.
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
    /// Which of the priorities it was leased by: `vobiz.cdr_queue.priority`.
    pub priority: usize,
    /// Calls that fell due earlier are reserved for the list at this moment.
    pub beside_reservation: bool,
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

/// Leases up to `most` due calls of an account by their priority (certain ones that were never asked for, then those that were, then
/// speculative ones), the oldest due first, each with its slot in the shared rate limit:
/// no more than may be asked for within `ahead` (further at a slow rate: `vobiz.reserved_within`). None while the account is paused,
/// and none that a reservation keeps for the list ([`super::backlog`]). Certain calls that fell due before the scan start
/// of their priority are not looked for.
#[expect(clippy::too_many_lines, reason = "one statement, and its rows")]
pub async fn lease(
    connection: &mut PgConnection,
    (account, replica): (&AccountId, &Replica),
    most: u32,
    max_rps: f64,
    ahead: Duration,
    lease_for: Duration,
    scan_starts: ScanStarts,
) -> Result<(Vec<Lease>, Slots), sqlx::Error> {
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"with limiter as (
             -- The account's row is the limiter of all replicas: who holds it reserves, the others wait a moment.
             select vobiz.first_slot(a, $3 * vobiz.rate_in_force(a)) as first_slot,
                    -- Reserved calls are left to the reader of the list.
                    coalesce(vobiz.reserved_to(a), '-infinity') as above,
                    $3 * vobiz.rate_in_force(a) as rate
             from vobiz.account a
             where account_id = $1
               and not vobiz.is_paused_for(a, $7)
             for no key update
           ), free as (
             select first_slot, rate, above > '-infinity' as beside_reservation,
                    case when first_slot > vobiz.now() + within then 0
                         else least($2::bigint, 1 + floor(extract(epoch from vobiz.now() + within - first_slot) * rate)::bigint)
                    end as slots
             from limiter cross join lateral vobiz.reserved_within($4, rate) as within
           ), never_asked as (
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and q.priority = 0
               and q.due_at > (select greatest(above, $6) from limiter) and q.due_at <= vobiz.now()
             order by q.due_at
             -- No slot, no rows: a limit of null would be no limit.
             limit coalesce((select slots from free), 0)
             -- Rows that another replica is leasing or storing are not waited for.
             for update of q skip locked
           ), by_secret as (
             -- Whoever has learnt a secret can make up any number of these.
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and q.priority = 1
               and q.due_at > (select greatest(above, $8) from limiter) and q.due_at <= vobiz.now()
             order by q.due_at
             limit greatest(coalesce((select slots from free), 0) - (select count(*) from never_asked), 0)
             for update of q skip locked
           ), asked_before as (
             -- Calls that never appear come back and back: a flood of them waits, and what is new does not.
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and q.priority = 2
               and q.due_at > (select greatest(above, $9) from limiter) and q.due_at <= vobiz.now()
             order by q.due_at
             limit greatest(coalesce((select slots from free), 0) - (select count(*) from never_asked) - (select count(*) from by_secret), 0)
             for update of q skip locked
           ), speculative as (
             -- What anybody may have made up only gets the slots that certain calls leave.
             select q.call_id, q.due_at, exists (select from vobiz.cdr c where c.call_id = q.call_id) as stored
             from vobiz.cdr_queue q
             where q.account_id = $1 and q.dead_at is null and q.priority = 3
               and q.due_at > (select above from limiter) and q.due_at <= vobiz.now()
             order by q.due_at
             limit greatest(coalesce((select slots from free), 0) - (select count(*) from never_asked) - (select count(*) from by_secret) - (select count(*) from asked_before), 0)
             for update of q skip locked
           ), due as (
             select * from never_asked union all select * from by_secret
             union all select * from asked_before union all select * from speculative
           ), leased as (
             update vobiz.cdr_queue q set due_at = vobiz.now() + $5, lease_id = nextval('vobiz.lease_id')
             from due where q.call_id = due.call_id
             returning q.*, due.stored, due.due_at as was_due_at
           ), taken as (
             update vobiz.account a
             set next_slot = r.first_slot + make_interval(secs => (select count(*) from leased where not stored) / r.rate),
                 rate_share_at = least(a.rate_share_at, vobiz.now())
             from free r where a.account_id = $1 and exists (select from leased where not stored)
           )
           select call_id, lease_id as "lease_id!", attempts, certain, priority as "priority!", error_class, failures,
                  case when first_not_yet_at is not null
                       then extract(epoch from vobiz.unpaused_age(account_id, greatest(first_not_yet_at, enqueued_at)))::float8 end as not_yet_for,
                  case when error_class = 'unavailable'
                       then extract(epoch from vobiz.unpaused_age(account_id, greatest(first_failed_at, enqueued_at)))::float8 end as failing_for,
                  announced_at, sip_call_id, stored as "stored!", was_due_at as "was_due_at!", beside_reservation as "beside_reservation!", vobiz.now() as "now!",
                  extract(epoch from first_slot - vobiz.now())::float8 as "wait!", rate as "rate!"
           from leased, free
           order by was_due_at"#,
        account.as_str(),
        i64::from(most),
        max_rps,
        interval(ahead) as _,
        interval(lease_for) as _,
        scan_starts[0],
        replica.id,
        scan_starts[1],
        scan_starts[2],
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
        // The table holds no other ids, by its CHECK.
        let Ok(call_id) = CallId::new(&row.call_id) else {
            error!(
                call_id = row.call_id,
                "a row of vobiz.cdr_queue that no CallId can be: it is not fetched"
            );
            continue;
        };
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
                failing_for: row.failing_for.map(seconds),
                others_succeed: false,
            },
            announced_at: row.announced_at,
            sip_call_id: row.sip_call_id,
            stored: row.stored,
            due_at: row.was_due_at,
            priority: usize::try_from(row.priority).unwrap_or(CERTAIN_PRIORITIES),
            beside_reservation: row.beside_reservation,
        });
    }
    Ok((leases, slots))
}

/// Calls that are due further ahead than any rule puts them were written under a clock that was ahead: they are due now, at most so many at a
/// time. Returns how many. The rules: 15 minutes where the API is away, 40 where it refuses (`crate::retry`); an hour for the wait for
/// another account, and at most for `CDR_FIRST_FETCH_DELAY`.
pub async fn mend_due(
    connection: &mut PgConnection,
    account: &AccountId,
    most: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update vobiz.cdr_queue q set due_at = vobiz.now()
         from (select call_id from vobiz.cdr_queue
               where account_id = $1 and priority in (0, 1, 2, 3) and dead_at is null and due_at > vobiz.now() + interval '16 minutes'
                 and due_at > vobiz.now() + case error_class when 'unavailable' then interval '16 minutes' when 'refused' then interval '41 minutes'
                                                             when 'unreadable' then interval '41 minutes' else interval '61 minutes' end
               order by call_id limit $2 for update skip locked) far
         where q.call_id = far.call_id",
        account.as_str(),
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
