//! Locks that are waited for no longer than a moment.

use sqlx::PgConnection;
use sqlx::error::DatabaseError;

/// So long waits whoever others wait for.
const MOMENT: &str = "1s";

/// A transaction that waits for locks no longer than a moment, until it is [ended](Brief::end).
#[derive(Debug)]
pub struct Brief {
    before: String,
}

impl Brief {
    /// From now on no wait is longer.
    pub async fn begin(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let before = sqlx::query_scalar!(r#"select current_setting('lock_timeout') as "timeout!""#)
            .fetch_one(&mut *connection)
            .await?;
        set_lock_timeout(connection, MOMENT).await?;
        Ok(Self { before })
    }

    /// What was locked, and from now on it waits as before; none if that could not be had: the transaction is good for nothing then.
    pub async fn end<T>(
        self,
        connection: &mut PgConnection,
        locked: Result<T, sqlx::Error>,
    ) -> Result<Option<T>, sqlx::Error> {
        match locked {
            Ok(locked) => {
                set_lock_timeout(connection, &self.before).await?;
                Ok(Some(locked))
            }
            // Lock not available: another session has it.
            Err(error)
                if error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("55P03") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

async fn set_lock_timeout(connection: &mut PgConnection, timeout: &str) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!("select set_config('lock_timeout', $1, true)", timeout).fetch_one(connection).await?;
    Ok(())
}
