//! Dead letters, as an operator lists, revives or closes them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::store;
use crate::db::base::audit;
use crate::vobiz::CallId;

/// A call that was given up, and why.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// The call.
    pub call_id: String,
    /// The account that was asked.
    pub account_id: String,
    /// Why it died: never_appeared, refused, unavailable, unreadable or unstorable.
    pub class: String,
    /// The last failure in words.
    pub last_error: String,
    /// Requests answered for it.
    pub attempts: i32,
    /// When its first callback was committed.
    pub announced_at: Option<DateTime<Utc>>,
    /// When its present class of failure began.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When it died.
    pub dead_at: DateTime<Utc>,
    /// The answer that could not be read or stored, as text, where one was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_body: Option<String>,
}

/// Which dead letters; nothing set means all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    /// Only of this account.
    pub account_id: Option<&'a str>,
    /// Only of this class.
    pub class: Option<&'a str>,
}

/// Lists dead letters without their bodies, the newest first.
pub async fn list(
    connection: &mut PgConnection,
    which: Which<'_>,
    most: i64,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as!(
        DeadLetter,
        r#"select call_id, account_id, error_class as "class!", last_error as "last_error!", attempts, announced_at,
                  first_failed_at, dead_at as "dead_at!", null::text as last_body
           from vobiz.cdr_queue
           where dead_at is not null and ($1::text is null or account_id = $1) and ($2::text is null or error_class = $2)
           order by dead_at desc, call_id
           limit $3"#,
        which.account_id,
        which.class,
        most
    )
    .fetch_all(connection)
    .await
}

/// A certain call that is owed and not dead.
#[derive(Debug, Clone, Serialize)]
pub struct StillOwed {
    /// The call.
    pub call_id: String,
    /// The account that is asked.
    pub account_id: String,
    /// Class of its last failure; none where it has not failed.
    pub class: Option<String>,
    /// The last failure in words.
    pub last_error: Option<String>,
    /// Requests answered for it.
    pub attempts: i32,
    /// When it was owed first.
    pub enqueued_at: DateTime<Utc>,
    /// When its present class of failure began.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When it is asked for next.
    pub due_at: DateTime<Utc>,
}

/// Lists certain calls that are owed and not dead, those that have been for longest first.
pub async fn list_owed(
    connection: &mut PgConnection,
    which: Which<'_>,
    most: i64,
) -> Result<Vec<StillOwed>, sqlx::Error> {
    sqlx::query_as!(
        StillOwed,
        r#"select call_id, account_id, error_class as class, last_error, attempts, enqueued_at, first_failed_at, due_at
           from vobiz.cdr_queue
           where dead_at is null and certain and ($1::text is null or account_id = $1) and ($2::text is null or error_class = $2)
           order by enqueued_at, call_id
           limit $3"#,
        which.account_id,
        which.class,
        most
    )
    .fetch_all(connection)
    .await
}

/// One dead letter with its body; none if the call is no dead letter.
pub async fn get(connection: &mut PgConnection, call_id: &CallId) -> Result<Option<DeadLetter>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select call_id, account_id, error_class as "class!", last_error as "last_error!", attempts, announced_at,
                  first_failed_at, dead_at as "dead_at!", last_body
           from vobiz.cdr_queue where call_id = $1 and dead_at is not null"#,
        call_id.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| DeadLetter {
        call_id: row.call_id,
        account_id: row.account_id,
        class: row.class,
        last_error: row.last_error,
        attempts: row.attempts,
        announced_at: row.announced_at,
        first_failed_at: row.first_failed_at,
        dead_at: row.dead_at,
        last_body: row.last_body.map(|body| String::from_utf8_lossy(&body).into_owned()),
    }))
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

/// Brings back all dead letters of a kind, a thousand a transaction, so that a running service is not held up. Returns how
/// many; those that die anew meanwhile are left alone.
pub async fn revive_all(connection: &mut PgConnection, which: Which<'_>) -> Result<u64, sqlx::Error> {
    let began = sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(&mut *connection).await?;
    let mut revived = 0;
    loop {
        let call_ids = some(&mut *connection, which, began).await?;
        if call_ids.is_empty() {
            return Ok(revived);
        }
        let call_ids: Vec<&str> = call_ids.iter().map(String::as_str).collect();
        let mut transaction = connection.begin().await?;
        revived += revive(&mut transaction, &call_ids).await?;
        transaction.commit().await?;
    }
}

/// A thousand of a kind that died by an instant.
async fn some(
    connection: &mut PgConnection,
    which: Which<'_>,
    by: DateTime<Utc>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "select call_id from vobiz.cdr_queue
         where dead_at <= $3 and ($1::text is null or account_id = $1) and ($2::text is null or error_class = $2)
         order by call_id
         limit 1000",
        which.account_id,
        which.class,
        by
    )
    .fetch_all(connection)
    .await
}

/// Who closes dead letters, and why: it is written into the audit log.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// The person.
    pub by: &'a str,
    /// Why they may be given up for good.
    pub reason: &'a str,
}

/// Closes dead letters for good, in one transaction: they leave the queue for `vobiz.closed_call`, with their evidence, and
/// the audit log says who did it and why. Returns which of them were dead letters; what is owed and alive stays. A later
/// callback for a closed call owes it again.
pub async fn close(
    connection: &mut PgConnection,
    call_ids: &[&str],
    closing: Closing<'_>,
) -> Result<Vec<String>, sqlx::Error> {
    close_any(connection, call_ids, closing, false).await
}

/// The same, or whatever is owed.
async fn close_any(
    connection: &mut PgConnection,
    call_ids: &[&str],
    closing: Closing<'_>,
    owed_as_well: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    audit::sign(&mut transaction, closing.by).await?;
    // The lock order of the whole service, also where no row of `cdr` is to be changed: a writer that stores one of them now
    // pays its debt first.
    store::lock(&mut transaction, call_ids).await?;
    let closed = close_locked(&mut transaction, call_ids, closing.reason, owed_as_well).await?;
    transaction.commit().await?;
    Ok(closed)
}

/// Moves calls that are locked from the queue to `vobiz.closed_call`: dead letters, or whatever is owed.
async fn close_locked(
    connection: &mut PgConnection,
    call_ids: &[&str],
    reason: &str,
    owed_as_well: bool,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with closed as (
             delete from vobiz.cdr_queue where call_id = any($1) and (dead_at is not null or $3) returning *
           ), kept as (
             insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence, announced_at)
             select call_id, account_id, certain, 'by_operator',
                    case when error_class is null then format('owed, and given up after %s requests', attempts)
                         else format('%s: %s, after %s requests', error_class, last_error, attempts) end, announced_at
             from closed order by call_id
           ), audited as (
             insert into vobiz.audit (action, call_id, account_id, reason, detail)
             select case when dead_at is null then 'owed_call_closed' else 'dead_letter_closed' end, call_id, account_id, $2,
                    json_build_object(
                      'class', error_class, 'last_error', last_error, 'attempts', attempts, 'announced_at', announced_at,
                      'first_failed_at', first_failed_at, 'dead_at', dead_at,
                      -- Bytes that are no text are written as \ooo.
                      'last_body', encode(last_body, 'escape'))
             from closed order by call_id
           )
           select call_id as "call_id!" from closed"#,
        call_ids as &[&str],
        reason,
        owed_as_well
    )
    .fetch_all(connection)
    .await
}

/// Closes all that an account owes, dead or not, a thousand a transaction, so that callbacks are not held up. What comes meanwhile may stay.
/// Returns how many.
pub(in crate::db) async fn give_up(
    connection: &mut PgConnection,
    account: &str,
    closing: Closing<'_>,
) -> Result<u64, sqlx::Error> {
    let (mut given_up, mut after) = (0, String::new());
    loop {
        // In the order of the calls, as everybody locks them.
        let call_ids = sqlx::query_scalar!(
            "select call_id from vobiz.cdr_queue where account_id = $1 and call_id > $2 order by call_id limit 1000",
            account,
            after
        )
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = call_ids.last() else { return Ok(given_up) };
        after.clone_from(last);
        let call_ids: Vec<&str> = call_ids.iter().map(String::as_str).collect();
        given_up += close_any(&mut *connection, &call_ids, closing, true).await?.len() as u64;
    }
}

/// Closes all dead letters of a kind, a thousand a transaction. Returns how many.
pub async fn close_all(
    connection: &mut PgConnection,
    which: Which<'_>,
    closing: Closing<'_>,
) -> Result<u64, sqlx::Error> {
    let began = sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(&mut *connection).await?;
    let mut closed = 0;
    loop {
        let call_ids = some(&mut *connection, which, began).await?;
        if call_ids.is_empty() {
            return Ok(closed);
        }
        let call_ids: Vec<&str> = call_ids.iter().map(String::as_str).collect();
        closed += close(&mut *connection, &call_ids, closing).await?.len() as u64;
    }
}

/// Which of these calls are owed and alive.
pub async fn owed(connection: &mut PgConnection, call_ids: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "select call_id from vobiz.cdr_queue where call_id = any($1) and dead_at is null order by call_id",
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await
}
