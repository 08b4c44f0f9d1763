//! The backlog of an account, and the reservation under which list pages resolve it.
//!
//! A reservation says: calls that fell due at or before an instant are being looked for in the list, and nobody leases them
//! meanwhile. It is two columns of the account's row, which leasing reads anyway, and one bound of its index range. It lasts a
//! minute and is renewed with every page: if the replica that made it dies, it runs out, and the calls are leased as ever.
//!
//! Only the replica that holds the lease of the drain ([`lease_name`]) makes a reservation, in a transaction that asks for the lease
//! ([`WorkLease::fence`]). So one whose holder is gone is nobody's, and who takes the lease voids it at once; a holder that was only slow cannot
//! make it anew. What it still stores of the page in its hand is stored once all the same: at most a call is asked for twice.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::db::base::time::interval;
use crate::db::base::work_lease::{self, WorkLease, fenced};
use crate::vobiz::AccountId;

/// How much is due above the reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogSnapshot {
    /// Calls due; counted no further than just beyond the threshold.
    pub calls: i64,
    /// More than so many are a backlog: what single fetches do not get through in three seconds.
    pub threshold: i64,
    /// A replica has reserved calls just now.
    pub reserved: bool,
    /// Nobody drains any more for whom they were reserved.
    pub abandoned: bool,
}

impl BacklogSnapshot {
    /// Whether single fetches cannot keep up.
    pub fn is_backlog(&self) -> bool {
        self.calls > self.threshold
    }
}

/// A backlog, counted to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Calls that are due at this instant or before it belong to it.
    pub due_to: DateTime<Utc>,
    /// How many they are.
    pub calls: i64,
    /// When the first of them was owed.
    pub oldest: DateTime<Utc>,
    /// When the last of them was owed.
    pub newest: DateTime<Utc>,
}

/// Counts what is due for an account, up to the threshold. Two short index ranges, however much is due.
pub async fn snapshot(
    connection: &mut PgConnection,
    account: &AccountId,
    max_rps: f64,
) -> Result<Option<BacklogSnapshot>, sqlx::Error> {
    sqlx::query_as!(
        BacklogSnapshot,
        r#"with bound as (
             select greatest(25, ceil(3 * $2::float8 * vobiz.rate_in_force(a)))::bigint as threshold,
                    vobiz.reserved_to(a) is not null as reserved,
                    -- Sessions are looked at only where there is a reservation.
                    case when vobiz.reserved_to(a) is not null then coalesce(
                      (select vobiz.is_free(w, $3) from vobiz.work_lease w where w.name = $4), true) else false end as abandoned,
                    coalesce(vobiz.reserved_to(a), '-infinity') as above
             from vobiz.account a where account_id = $1
           )
           select threshold as "threshold!", reserved as "reserved!", abandoned as "abandoned!",
                  (select count(*) from (
                     select from vobiz.cdr_queue q
                     where q.account_id = $1 and q.dead_at is null and q.priority in (0, 1, 2)
                       and q.due_at > (select above from bound) and q.due_at <= vobiz.now()
                     limit (select threshold + 1 from bound)) as certain)
                + (select count(*) from (
                     select from vobiz.cdr_queue q
                     where q.account_id = $1 and q.dead_at is null and q.priority = 3
                       and q.due_at > (select above from bound) and q.due_at <= vobiz.now()
                     limit (select threshold + 1 from bound)) as speculative) as "calls!"
           from bound"#,
        account.as_str(),
        max_rps,
        interval(work_lease::LENGTH) as _,
        lease_name(account)
    )
    .fetch_optional(connection)
    .await
}

/// Counts all that is due for an account; `None` if nothing is. Reads every row of it: only where there is a backlog.
pub async fn measure(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Option<Backlog>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.now() as "now!", count(*) as "calls!", min(enqueued_at) as oldest, max(enqueued_at) as newest
           from vobiz.cdr_queue
           where account_id = $1 and dead_at is null and priority in (0, 1, 2, 3) and due_at <= vobiz.now()"#,
        account.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(row.oldest.zip(row.newest).map(|(oldest, newest)| Backlog {
        due_to: row.now,
        calls: row.calls,
        oldest,
        newest,
    }))
}

/// Name of the lease of the one that drains an account.
pub fn lease_name(account: &AccountId) -> String {
    format!("drain {account}")
}

/// Reserves the calls that fell due at or before an instant, from now on for `length`; also renews a reservation. Fails where the lease of
/// the drain is lost.
pub async fn reserve(
    connection: &mut PgConnection,
    lease: &WorkLease,
    account: &AccountId,
    due_to: DateTime<Utc>,
    length: Duration,
) -> Result<(), sqlx::Error> {
    fenced!(lease, connection, |transaction| async {
        sqlx::query!(
            "update vobiz.account set listed_due_to = $2, listing_until = vobiz.now() + $3 where account_id = $1",
            account.as_str(),
            due_to,
            interval(length) as _
        )
        .execute(transaction)
        .await
    })
    .await?;
    Ok(())
}

/// Ends whatever reservation is there: that of a holder of the drain's lease that is gone.
pub async fn void(
    connection: &mut PgConnection,
    lease: &WorkLease,
    account: &AccountId,
) -> Result<bool, sqlx::Error> {
    let voided = fenced!(lease, connection, |transaction| async {
        sqlx::query!(
            "update vobiz.account set listed_due_to = null, listing_until = null
             where account_id = $1 and listing_until is not null",
            account.as_str()
        )
        .execute(transaction)
        .await
    })
    .await?;
    Ok(voided.rows_affected() > 0)
}

/// Ends a reservation. Another one that came since stays.
pub async fn release(
    connection: &mut PgConnection,
    account: &AccountId,
    due_to: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.account set listed_due_to = null, listing_until = null
         where account_id = $1 and listed_due_to = $2",
        account.as_str(),
        due_to
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What the queue knows of a call that a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwedCall {
    /// Single fetches answered for it so far.
    pub(super) attempts: i32,
    /// When its first callback was committed; `None` if no callback owes it.
    pub(super) announced_at: Option<DateTime<Utc>>,
    /// When it falls due, or fell.
    pub(super) due_at: DateTime<Utc>,
    /// It is a dead letter.
    pub(super) dead: bool,
}

/// Which of these calls are owed. Locks nothing, since rows of `cdr` are locked first: a callback that comes in between is
/// noted when the debt is paid.
pub(super) async fn owed(
    connection: &mut PgConnection,
    call_ids: &[&str],
) -> Result<HashMap<String, OwedCall>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select call_id, attempts, announced_at, due_at, dead_at is not null as "dead!"
           from vobiz.cdr_queue where call_id = any($1)"#,
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (attempts, announced_at) = (row.attempts, row.announced_at);
            (row.call_id, OwedCall { attempts, announced_at, due_at: row.due_at, dead: row.dead })
        })
        .collect())
}
