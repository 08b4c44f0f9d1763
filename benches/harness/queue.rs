//! Calls put on the queue by hand, and what has become of them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::{AssertSqlSafe, PgPool};

use super::{ACCOUNT, database};

/// Owes these calls, all at once and due now; the moment of the commit, in seconds of Unix by the clock of Postgres.
pub(crate) async fn enqueue(pool: &PgPool, ids: &[String]) -> anyhow::Result<f64> {
    sqlx::query(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, announced_at, due_at)
         select call_id, $2, true, true, vobiz.now(), vobiz.now() from unnest($1::text[]) as n (call_id)",
    )
    .bind(ids)
    .bind(ACCOUNT)
    .execute(pool)
    .await?;
    database::number(pool, "select extract(epoch from clock_timestamp())::float8").await
}

/// Owes so many calls with ids of their own, the n-th due at this SQL expression of `n`, and vacuums as autovacuum would, soon after.
pub(crate) async fn owe(pool: &PgPool, calls: i32, due_at: &str) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(format!(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, announced_at, due_at)
         select gen_random_uuid()::text, $2, true, true, vobiz.now(), {due_at} from generate_series(1, $1) n"
    )))
    .bind(calls)
    .bind(ACCOUNT)
    .execute(pool)
    .await?;
    sqlx::query("vacuum (analyze) vobiz.cdr_queue").execute(pool).await?;
    Ok(())
}

/// Waits until so many CDRs are stored; the moment at which the last was, in seconds of Unix by the clock of Postgres.
pub(crate) async fn all_stored(pool: &PgPool, count: usize, limit: Duration) -> anyhow::Result<f64> {
    let deadline = Instant::now() + limit;
    loop {
        let (stored, last): (i64, Option<f64>) =
            sqlx::query_as("select count(*), extract(epoch from max(stored_at))::float8 from vobiz.cdr")
                .fetch_one(pool)
                .await?;
        if let Some(last) = last.filter(|_| usize::try_from(stored).is_ok_and(|stored| stored >= count)) {
            return Ok(last);
        }
        ensure!(Instant::now() < deadline, "after {limit:?} only {stored} of {count} are stored");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
