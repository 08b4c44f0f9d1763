//! Dead letters, as a person looks at them and brings them back.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::queue;
use crate::vobiz::CallId;

/// A call that was given up, and why.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// The call.
    pub call_id: String,
    /// The account that was asked.
    pub account_id: String,
    /// Why it died: never_appeared, refused, unreadable or unstorable.
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

/// Brings back all dead letters of a kind, a thousand a transaction, so that a running service is not held up. Returns how
/// many; those that die anew meanwhile are left alone.
pub async fn revive_all(connection: &mut PgConnection, which: Which<'_>) -> Result<u64, sqlx::Error> {
    let began = sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(&mut *connection).await?;
    let mut revived = 0;
    loop {
        let call_ids: Vec<String> = sqlx::query_scalar!(
            "select call_id from vobiz.cdr_queue
             where dead_at <= $3 and ($1::text is null or account_id = $1) and ($2::text is null or error_class = $2)
             order by call_id
             limit 1000",
            which.account_id,
            which.class,
            began
        )
        .fetch_all(&mut *connection)
        .await?;
        if call_ids.is_empty() {
            return Ok(revived);
        }
        let call_ids: Vec<&str> = call_ids.iter().map(String::as_str).collect();
        let mut transaction = connection.begin().await?;
        revived += queue::revive(&mut transaction, &call_ids).await?;
        transaction.commit().await?;
    }
}
