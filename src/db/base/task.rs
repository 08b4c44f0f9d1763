//! Checkpoints of long tasks: killed, a task goes on where it stopped. That one process does it is [`work_lease`](super::work_lease).

use sqlx::PgConnection;

/// A task and how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: i64,
    /// What was done last; `None` before the first step.
    pub position: Option<String>,
    /// Further counts as JSON, as the last step left them.
    pub detail: Option<String>,
}

/// The task of this kind that was begun and not finished, for one account or for all.
pub async fn unfinished(
    connection: &mut PgConnection,
    name: &str,
    account_id: Option<&str>,
) -> Result<Option<Task>, sqlx::Error> {
    sqlx::query_as!(
        Task,
        "select id, position, detail::text as detail from vobiz.task
         where name = $1 and coalesce(account_id, '') = coalesce($2, '') and finished_at is null",
        name,
        account_id
    )
    .fetch_optional(connection)
    .await
}

/// Begins a task.
pub async fn begin(
    connection: &mut PgConnection,
    name: &str,
    account_id: Option<&str>,
) -> Result<Task, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "insert into vobiz.task (name, account_id) values ($1, $2) returning id",
        name,
        account_id
    )
    .fetch_one(connection)
    .await?;
    Ok(Task { id, position: None, detail: None })
}

/// Writes down a step, in the transaction that makes it true.
pub async fn step(
    connection: &mut PgConnection,
    task: &Task,
    done: u64,
    changed: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.task set position = $2, detail = $3::text::json, done = $4, changed = $5 where id = $1",
        task.id,
        task.position,
        task.detail,
        i64::try_from(done).unwrap_or(i64::MAX),
        i64::try_from(changed).unwrap_or(i64::MAX)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a task.
pub async fn finish(connection: &mut PgConnection, task: &Task) -> Result<(), sqlx::Error> {
    sqlx::query!("update vobiz.task set finished_at = vobiz.now() where id = $1", task.id)
        .execute(connection)
        .await?;
    Ok(())
}
