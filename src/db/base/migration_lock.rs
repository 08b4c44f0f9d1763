//! The lock under which migrations run, and that it is still held.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tracing::debug;

use super::blocker;
use super::connection::DbError;
use super::migration::SchemaError;
use crate::timed;

/// Who holds the lock is one short statement.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// A lock that is free is taken within this, by the least patient too.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// The lock under which migrations run: that of an open transaction of a session of its own, beside the one that migrates: a numbered file
/// commits by itself, and one that builds an index concurrently must not be in a transaction. An open one without a snapshot is nothing that
/// such a file waits for. Once it is taken, nothing more is asked in that session: a statement that fails would end the transaction.
pub(super) struct MigrationLock {
    holder: PgConnection,
    pid: i32,
}

impl MigrationLock {
    /// Takes it, waiting for whoever has it.
    pub(super) async fn take(pool: &PgPool, timeout: Duration) -> Result<Self, SchemaError> {
        // Outside of the pool, as that of the work: closing it gives the lock back, whatever happened.
        let mut holder = pool.acquire().await?.detach();
        let pid = blocker::process(&mut holder).await?;
        // The transaction stands still for as long as the other session migrates.
        let prepared = "begin; set local lock_timeout = 0; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0;
                        select set_config(name, '0', true) from pg_catalog.pg_settings where name = 'transaction_timeout'";
        sqlx::raw_sql(prepared).execute(&mut holder).await?;
        // One at a time, and in nobody's way who reads the table or writes to it; a role that may only read it cannot take it.
        let locking = sqlx::raw_sql("lock table vobiz._sqlx_migrations in share update exclusive mode");
        let waits = blocker::told("migrations wait", pid, pool, locking.execute(&mut holder));
        if let Ok(taken) = tokio::time::timeout(timeout.max(TAKEN_WITHIN), waits).await {
            taken?;
            return Ok(Self { holder, pid });
        }
        let by = timed!(pool, ASKED_WITHIN, |connection| blocker::blockers(connection, Some(&[pid])));
        let by = by.await.map_err(|error| match error {
            DbError::Sql(error) => error,
            _ => sqlx::Error::PoolTimedOut,
        })?;
        let by = if by.is_empty() { "a session that has just ended".into() } else { blocker::in_words(&by) };
        Err(SchemaError::Locked(timeout, by))
    }

    /// Fails where the lock is lost: who ends the session that keeps it, or what does, says nothing to the one that migrates.
    pub(super) async fn check(&self, migrating: &mut PgConnection) -> Result<(), SchemaError> {
        let is_held = sqlx::query_scalar!(
            r#"select exists (
                 select from pg_catalog.pg_locks l
                 where l.pid = $1 and l.granted and l.mode = 'ShareUpdateExclusiveLock'
                   and l.relation = to_regclass('vobiz._sqlx_migrations')) as "held!""#,
            self.pid
        )
        .fetch_one(migrating)
        .await?;
        if is_held { Ok(()) } else { Err(SchemaError::LockLost) }
    }

    pub(super) async fn give_back(self) {
        if let Err(error) = self.holder.close().await {
            debug!(%error, "the session that kept the lock of migrations did not end well");
        }
    }
}
