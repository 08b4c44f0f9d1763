//! The schema: which migrations this binary holds, which the database has, and how it gets the rest.
//!
//! Forward only. Several replicas may start at once: one migrates, the others wait and find it done.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection, PgConnection, PgPool};

/// The migrations of this binary. Our lock stands in for sqlx's, and a schema that is ahead is no error.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}

/// Where sqlx keeps what was applied (as in sqlx.toml).
const TABLE: &str = "vobiz._sqlx_migrations";
/// Key of the advisory lock under which migrations run ("vobiz" in ASCII).
const LOCK: i64 = 0x76_6f_62_69_7a;

/// One migration as `migrate status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Number of the migration: its time.
    pub version: i64,
    /// Its file name in words.
    pub description: String,
    /// What became of it.
    pub state: State,
}

/// What became of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The database has it, as this binary knows it.
    Applied,
    /// The database lacks it: the schema is behind.
    Pending,
    /// The database has another text under this number.
    Changed,
    /// The database has it, this binary does not know it: the schema is ahead.
    Ahead,
}

/// Why the schema cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Some migrations are missing.
    #[error("the schema is behind by {0} migrations: run `vobiz-cdr migrate apply`, or set CDR_MIGRATE=true")]
    Behind(usize),
    /// An applied migration differs from the one in this binary.
    #[error(
        "migration {0} was applied with another text: this database belongs to another build of vobiz-cdr. Run that one, or \
         give this one a database of its own"
    )]
    Changed(i64),
    /// Another replica has been migrating for too long.
    #[error("another process has held the migration lock for {0:?}: see pg_locks (advisory) and try again")]
    Locked(Duration),
    /// A migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Compares the database with this binary. A database without the schema has everything pending.
pub async fn status(connection: &mut PgConnection) -> Result<Vec<Step>, SchemaError> {
    let exists =
        sqlx::query_scalar!(r#"select to_regclass('vobiz._sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&mut *connection)
            .await?;
    let mut applied: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    if exists {
        for migration in connection.list_applied_migrations(TABLE).await? {
            applied.insert(migration.version, migration.checksum.to_vec());
        }
    }
    let migrator = migrator();
    let mut steps: Vec<Step> = migrator
        .iter()
        .map(|migration| Step {
            version: migration.version,
            description: migration.description.to_string(),
            state: match applied.remove(&migration.version) {
                None => State::Pending,
                Some(checksum) if checksum == *migration.checksum => State::Applied,
                Some(_) => State::Changed,
            },
        })
        .collect();
    steps.extend(applied.into_keys().map(|version| Step {
        version,
        description: "not known to this binary".into(),
        state: State::Ahead,
    }));
    Ok(steps)
}

/// Fails unless this binary can work on the schema: nothing pending, nothing changed. Ahead is fine, since a release works
/// on the schema of the next one.
pub async fn check(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let steps = status(connection).await?;
    if let Some(changed) = steps.iter().find(|step| step.state == State::Changed) {
        return Err(SchemaError::Changed(changed.version));
    }
    match steps.iter().filter(|step| step.state == State::Pending).count() {
        0 => Ok(()),
        behind => Err(SchemaError::Behind(behind)),
    }
}

/// Applies what is pending and makes the partitions; returns how many migrations were applied.
///
/// The lock is polled: a replica blocked in `pg_advisory_lock` would hold a snapshot on which `create index concurrently` of
/// the one that migrates waits for ever.
pub async fn apply(pool: &PgPool, patience: Duration) -> Result<usize, SchemaError> {
    let mut connection = pool.acquire().await?.detach();
    let result = apply_locked(&mut connection, patience).await;
    // Closing the connection also gives the lock back, whatever happened.
    let closed = connection.close().await;
    let applied = result?;
    closed?;
    Ok(applied)
}

async fn apply_locked(connection: &mut PgConnection, patience: Duration) -> Result<usize, SchemaError> {
    let started = tokio::time::Instant::now();
    while !sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, LOCK)
        .fetch_one(&mut *connection)
        .await?
    {
        if started.elapsed() > patience {
            return Err(SchemaError::Locked(patience));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let steps = status(connection).await?;
    if let Some(changed) = steps.iter().find(|step| step.state == State::Changed) {
        return Err(SchemaError::Changed(changed.version));
    }
    let pending = steps.iter().filter(|step| step.state == State::Pending).count();
    if pending > 0 {
        migrator().run(&mut *connection).await?;
    }
    super::partition::ensure(connection).await?;
    Ok(pending)
}
