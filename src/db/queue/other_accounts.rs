//! Which other accounts have said that they do not have a call: none is asked twice.

use std::time::Duration;

use sqlx::PgConnection;

use super::Lease;
use crate::db::base::time::interval;

/// The accounts that have answered.
pub async fn answered(connection: &mut PgConnection, lease: &Lease) -> Result<Vec<String>, sqlx::Error> {
    let answered = sqlx::query_scalar!(
        "select asked from vobiz.cdr_queue where call_id = $1 and lease_id = $2",
        lease.call_id().as_str(),
        lease.id()
    );
    Ok(answered.fetch_optional(connection).await?.unwrap_or_default())
}

/// Writes down which accounts have answered, and renews the lease. False: another worker has the call now.
pub async fn keep(
    connection: &mut PgConnection,
    lease: &Lease,
    answered: &[String],
    length: Duration,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "update vobiz.cdr_queue set due_at = vobiz.now() + $4, asked = $3
         where call_id = $1 and lease_id = $2 and dead_at is null",
        lease.call_id().as_str(),
        lease.id(),
        answered,
        interval(length) as _
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
