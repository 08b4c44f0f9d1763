//! How much is owed.

use sqlx::PgConnection;

use crate::db::account::Replica;
use crate::vobiz::AccountId;

/// Whether any call is due whose account is not paused for a replica and which no reservation keeps for the list.
pub async fn any_due(connection: &mut PgConnection, replica: &Replica) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
             select from vobiz.cdr_queue q join vobiz.account a using (account_id)
             where q.dead_at is null and q.due_at <= vobiz.now()
               and q.due_at > coalesce(vobiz.reserved_to(a), '-infinity')
               and not vobiz.is_paused_for(a, $1)
           ) as "due!""#,
        replica.id
    )
    .fetch_one(connection)
    .await
}

/// How many calls are owed, in one query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Owed and alive.
    pub owed: i64,
    /// Of these, due by now.
    pub due: i64,
    /// Dead letters.
    pub dead: i64,
}

/// Counts the queue.
pub async fn depth(connection: &mut PgConnection) -> Result<QueueDepth, sqlx::Error> {
    sqlx::query_as!(
        QueueDepth,
        r#"select count(*) filter (where dead_at is null) as "owed!",
                  count(*) filter (where dead_at is null and due_at <= vobiz.now()) as "due!",
                  count(*) filter (where dead_at is not null) as "dead!"
           from vobiz.cdr_queue"#
    )
    .fetch_one(connection)
    .await
}

/// Calls that are owed for accounts other than these, by account.
pub async fn owed_elsewhere(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    let rows = sqlx::query!(
        r#"select account_id, count(*) as "calls!" from vobiz.cdr_queue
           where account_id <> all($1) group by account_id order by account_id"#,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.calls)).collect())
}
