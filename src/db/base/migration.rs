//! The schema: which migrations this binary holds, which the database has, and how it gets the rest.
//!
//! Two halves. Numbered files (tables, indexes, constraints, seeds) run once each and are never edited. The text of
//! `migrations/repeatable/` (views, functions, triggers, grants) has one number and one hash: where they differ from those in
//! the database, all of it runs in one transaction. A newer text is left alone, since a release works on the schema of the next one.
//!
//! Forward only. Several replicas may start at once: one migrates, the others wait and find it done. Where nothing is pending nothing is
//! locked. The lock is one on sqlx's own table, so that only who may change that table can keep others from migrating.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection, PgConnection, PgPool};

use super::blocker;
use super::migration_lock::MigrationLock;

/// `migrations/repeatable/` as build.rs reads it through ORDER.
mod text {
    include!(concat!(env!("OUT_DIR"), "/repeatable.rs"));
}

/// The migrations of this binary. Our lock stands in for sqlx's, and a schema that is ahead is no error.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}

/// Where sqlx keeps what was applied (as in sqlx.toml).
const TABLE: &str = "vobiz._sqlx_migrations";
/// Two that make that table at once: one of them may be told that it is there already.
const TABLE_TRIES: u32 = 10;

/// A report that runs holds its views for as long. The replacement does not wait for it longer than this at a time, since a reader who
/// comes after waits behind it.
const TEXT_TRY: Duration = Duration::from_millis(500);

/// One migration as `migrate status` shows it; the last one is the text of `migrations/repeatable/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Number of the migration, or of the text.
    pub version: i64,
    /// Its file name in words.
    pub description: String,
    /// What became of it.
    pub state: MigrationState,
}

/// What became of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
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
    /// Some migrations are missing, or the text of views, functions, triggers and grants is an older one.
    #[error(
        "the schema is behind ({0} steps, see `vobiz-cdr migrate status`): run `vobiz-cdr migrate apply`, or set CDR_MIGRATE=true"
    )]
    Behind(usize),
    /// An applied migration differs from the one in this binary.
    #[error(
        "migration {0} was applied with another text: this database belongs to another build of vobiz-cdr. Run that one, or \
         give this one a database of its own"
    )]
    Changed(i64),
    /// It has migrations, and none of them is one of ours.
    #[error(
        "the database has migration {0} and none of this binary's: it belongs to another build of vobiz-cdr. Run that one, or \
         give this one a database of its own"
    )]
    Foreign(i64),
    /// A file of the text failed.
    #[error("migrations/repeatable/{file}: {source}")]
    Text {
        /// The file.
        file: &'static str,
        /// What Postgres said.
        source: sqlx::Error,
    },
    /// Another replica has been migrating for too long, or somebody keeps its lock.
    #[error("the lock under which migrations run was not free for {0:?}: it is held by {1}")]
    Locked(Duration, String),
    /// The session that kept the lock has ended.
    #[error(
        "the session that held the lock under which migrations run was ended by somebody, so another process may be migrating by now: \
         broken off before the next step. What was applied stays applied; start again"
    )]
    LockLost,
    /// A migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// The number of the text in this binary, and the SHA-256 over its files and their names.
pub fn text() -> (i32, [u8; 32]) {
    let mut hash = Sha256::new();
    for (file, sql) in text::FILES {
        for part in [file, sql] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    (text::NUMBER, hash.finalize().into())
}

/// Who may do what: the last file of the text.
pub(super) fn grants() -> &'static str {
    text::FILES.last().map_or("", |(_, sql)| sql)
}

/// Compares the database with this binary. A database without the schema has everything pending.
pub async fn status(connection: &mut PgConnection) -> Result<Vec<Step>, SchemaError> {
    let mut steps = numbered(connection).await?;
    steps.push(Step {
        version: text::NUMBER.into(),
        description: "text of views, functions, triggers and grants".into(),
        state: text_state(connection).await?,
    });
    Ok(steps)
}

async fn has_table(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select to_regclass('vobiz._sqlx_migrations') is not null as "exists!""#)
        .fetch_one(connection)
        .await
}

/// The numbered files.
async fn numbered(connection: &mut PgConnection) -> Result<Vec<Step>, SchemaError> {
    let mut applied: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    if has_table(connection).await? {
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
                None => MigrationState::Pending,
                Some(checksum) if checksum == *migration.checksum => MigrationState::Applied,
                Some(_) => MigrationState::Changed,
            },
        })
        .collect();
    steps.extend(applied.into_keys().map(|version| Step {
        version,
        description: "not known to this binary".into(),
        state: MigrationState::Ahead,
    }));
    Ok(steps)
}

/// The text of the database against ours. Two texts of one number are builds that no release separates: ours is applied.
async fn text_state(connection: &mut PgConnection) -> Result<MigrationState, sqlx::Error> {
    let exists = sqlx::query_scalar!(r#"select to_regclass('vobiz.repeatable') is not null as "exists!""#)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(MigrationState::Pending);
    }
    let there = sqlx::query!("select number, hash from vobiz.repeatable").fetch_optional(connection).await?;
    let (number, hash) = text();
    Ok(match there {
        Some(there) if there.number > number => MigrationState::Ahead,
        Some(there) if there.number == number && there.hash == hash => MigrationState::Applied,
        _ => MigrationState::Pending,
    })
}

/// Whether the text in force is a newer one than ours.
pub(super) async fn text_is_ahead(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    Ok(text_state(connection).await? == MigrationState::Ahead)
}

/// Refuses a database of which a numbered file is not the one that this binary knows under its number, or that has none of ours.
fn refuse(steps: &[Step]) -> Result<(), SchemaError> {
    if let Some(changed) = steps.iter().find(|step| step.state == MigrationState::Changed) {
        return Err(SchemaError::Changed(changed.version));
    }
    let foreign = steps.iter().find(|step| step.state == MigrationState::Ahead);
    match foreign {
        Some(foreign) if !steps.iter().any(|step| step.state == MigrationState::Applied) => {
            Err(SchemaError::Foreign(foreign.version))
        }
        _ => Ok(()),
    }
}

fn pending(steps: &[Step]) -> usize {
    steps.iter().filter(|step| step.state == MigrationState::Pending).count()
}

/// Fails unless this binary can work on the schema: nothing pending, nothing changed. Ahead is fine, since a release works
/// on the schema of the next one.
pub async fn check(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let steps = numbered(connection).await?;
    refuse(&steps)?;
    let text = text_state(connection).await? == MigrationState::Pending;
    match pending(&steps) + usize::from(text) {
        0 => Ok(()),
        behind => Err(SchemaError::Behind(behind)),
    }
}

/// Applies what is pending and makes the partitions; returns how many steps were applied.
pub async fn apply(pool: &PgPool, timeout: Duration) -> Result<usize, SchemaError> {
    let mut connection = pool.acquire().await?.detach();
    let result = apply_pending(pool, &mut connection, timeout).await;
    let closed = connection.close().await;
    let applied = result?;
    closed?;
    Ok(applied)
}

async fn apply_pending(
    pool: &PgPool,
    connection: &mut PgConnection,
    timeout: Duration,
) -> Result<usize, SchemaError> {
    let until = tokio::time::Instant::now() + timeout;
    let mut applied = 0;
    if is_behind(connection).await? {
        make_table(connection).await?;
        let lock = MigrationLock::take(pool, timeout).await?;
        let pid = blocker::process(connection).await?;
        let work = apply_locked(connection, &lock, until);
        let done = blocker::told("migrations wait", pid, pool, work).await;
        lock.give_back().await;
        applied = done?;
    }
    super::partition::ensure(connection).await?;
    Ok(applied)
}

/// Whether something is pending.
async fn is_behind(connection: &mut PgConnection) -> Result<bool, SchemaError> {
    let steps = numbered(connection).await?;
    refuse(&steps)?;
    Ok(pending(&steps) > 0 || text_state(connection).await? == MigrationState::Pending)
}

/// Makes the table of what was applied, where it is not there: it is what is locked.
async fn make_table(connection: &mut PgConnection) -> Result<(), SchemaError> {
    if has_table(connection).await? {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        let made = async {
            connection.create_schema_if_not_exists("vobiz").await?;
            connection.ensure_migrations_table(TABLE).await
        };
        match made.await {
            Err(MigrateError::Execute(error)) if is_made_twice(&error) && tries < TABLE_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            made => return Ok(made?),
        }
    }
}

fn is_made_twice(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // unique_violation of a catalog, duplicate_schema, duplicate_table, duplicate_object
    matches!(code.as_deref(), Some("23505" | "42P06" | "42P07" | "42710"))
}

async fn apply_locked(
    connection: &mut PgConnection,
    lock: &MigrationLock,
    until: tokio::time::Instant,
) -> Result<usize, SchemaError> {
    // No limit that a role has for its questions is meant for this.
    sqlx::raw_sql(
        "set statement_timeout = 0;
         select set_config(name, '0', false) from pg_catalog.pg_settings where name = 'transaction_timeout'",
    )
    .execute(&mut *connection)
    .await?;
    // Another one may have done it meanwhile.
    let steps = numbered(connection).await?;
    refuse(&steps)?;
    let mut applied = pending(&steps);
    if applied > 0 {
        lock.check(connection).await?;
        // A new table needs its grants, and what a file has dropped its text: they are due, whatever happens in between.
        if text_state(connection).await? == MigrationState::Applied {
            sqlx::query!("update vobiz.repeatable set hash = sha256('')").execute(&mut *connection).await?;
        }
        apply_numbered(connection, lock, &steps).await?;
    }
    if text_state(connection).await? == MigrationState::Pending {
        apply_text_in_time(connection, lock, until).await?;
        applied += 1;
    }
    super::partition::ensure(connection).await?;
    Ok(applied)
}

/// Applies the pending files one by one, each only while the lock is held.
async fn apply_numbered(
    connection: &mut PgConnection,
    lock: &MigrationLock,
    steps: &[Step],
) -> Result<(), SchemaError> {
    for step in steps.iter().filter(|step| step.state == MigrationState::Pending) {
        lock.check(connection).await?;
        migrator().run_to(step.version, &mut *connection).await?;
    }
    Ok(())
}

/// Applies the text, again where another session holds what it replaces.
async fn apply_text_in_time(
    connection: &mut PgConnection,
    lock: &MigrationLock,
    until: tokio::time::Instant,
) -> Result<(), SchemaError> {
    loop {
        let outcome = apply_text(connection, lock).await;
        let contended = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            // lock_not_available, deadlock_detected
            matches!(code.as_deref(), Some("55P03" | "40P01"))
        };
        match outcome {
            Err(SchemaError::Text { source: ref error, .. } | SchemaError::Sql(ref error))
                if contended(error) && tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn apply_text(connection: &mut PgConnection, lock: &MigrationLock) -> Result<(), SchemaError> {
    let mut transaction = connection.begin().await?;
    let limit = TEXT_TRY.as_millis().to_string();
    sqlx::query!("select set_config('lock_timeout', $1, true) as timeout", limit)
        .fetch_one(&mut *transaction)
        .await?;
    // What writers lock first, in their order: replacing a trigger locks its table, and would meet them in a ring.
    sqlx::query!("lock table vobiz.setting, vobiz.customer_rule, vobiz.cdr in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    // Those were waited for.
    lock.check(&mut transaction).await?;
    for (file, sql) in text::FILES {
        sqlx::raw_sql(*sql)
            .execute(&mut *transaction)
            .await
            .map_err(|source| SchemaError::Text { file, source })?;
    }
    let (number, hash) = text();
    sqlx::query!(
        "insert into vobiz.repeatable (number, hash) values ($1, $2)
         on conflict (only_row) do update set number = excluded.number, hash = excluded.hash, applied_at = vobiz.now()",
        number,
        &hash
    )
    .execute(&mut *transaction)
    .await?;
    // Its own statements may have waited for readers of what they replace.
    lock.check(&mut transaction).await?;
    Ok(transaction.commit().await?)
}
