//! The schema: applied once by the first that comes, checked by all, described to its readers, and never rewritten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use vobiz_cdr::db;
use vobiz_cdr::db::base::migration::{self, MigrationState, SchemaError};

use crate::support::database::Database;
use crate::support::wait::{LIMIT, until};

/// The numbered files, name to text.
fn files() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir("migrations").unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.map(|file| (file.to_str().unwrap().to_owned(), std::fs::read(&file).unwrap())).collect()
}

async fn states(db: &Database) -> Vec<MigrationState> {
    let steps = migration::status(&mut *db.connection().await).await.unwrap();
    assert!(steps.iter().all(|step| step.version > 0 && !step.description.is_empty()));
    steps.iter().map(|step| step.state).collect()
}

async fn check(db: &Database) -> Result<(), SchemaError> {
    migration::check(&mut *db.connection().await).await
}

#[test]
fn an_applied_migration_is_never_edited() {
    const LIST: &str = "tests/data/migrations.sha256";
    let listed = std::fs::read_to_string(LIST).unwrap();
    let listed: BTreeMap<&str, &str> =
        listed.lines().map(|line| line.split_once("  ").unwrap()).map(|(hash, file)| (file, hash)).collect();
    let files = files();
    for (file, hash) in &listed {
        let text =
            files.get(*file).unwrap_or_else(|| panic!("{file} is gone, but databases have applied it"));
        assert_eq!(
            hex::encode(Sha256::digest(text)),
            *hash,
            "{file} was edited after it had been listed in {LIST}. A database that has applied it would refuse this \
             build: write a new migration instead. (Only while no release holds the file: renew the list.)"
        );
    }
    for file in files.keys() {
        assert!(
            listed.contains_key(file.as_str()),
            "{file} is new: list it with `sha256sum {file} >> {LIST}`; from then on it is never edited"
        );
    }
}

#[test]
fn a_changed_text_has_a_new_number() {
    const LIST: &str = "tests/data/repeatable.sha256";
    let (number, hash) = migration::text();
    let listed = std::fs::read_to_string(LIST).unwrap();
    let listed: Vec<(&str, i32)> = listed
        .lines()
        .map(|line| line.split_once("  text ").unwrap())
        .map(|(hash, number)| (hash, number.parse().unwrap()))
        .collect();
    assert!(listed.is_sorted_by(|a, b| a.1 < b.1), "{LIST}: each number once, and upwards");
    let (newest, of) = *listed.last().unwrap();
    assert!(
        newest == hex::encode(hash) && of == number,
        "migrations/repeatable/ was changed. Databases know the text by its number: raise `text {of}` on the first line of ORDER by \
         one, and add the line `{}  text {number}` to {LIST}. (Only while no release holds the last number: change its line.)",
        hex::encode(hash)
    );
}

#[tokio::test]
async fn an_empty_database_is_migrated_once() {
    let db = Database::empty().await;
    // The numbered files, and the text of what can be replaced. (Nothing in the folders below is taken for a migration.)
    let all = files().len() + 1;
    assert_eq!(states(&db).await, vec![MigrationState::Pending; all]);
    let behind = check(&db).await.unwrap_err();
    assert!(matches!(behind, SchemaError::Behind(n) if n == all), "{behind}");
    let message = behind.to_string();
    assert!(
        message.contains("`vobiz-cdr migrate apply`") && message.contains("CDR_MIGRATE=true"),
        "{message}"
    );

    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), all);
    assert_eq!(states(&db).await, vec![MigrationState::Applied; all]);
    check(&db).await.unwrap();
    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 0);
    assert_eq!(states(&db).await.len(), all);
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let db = Database::empty().await;
    let replicas = (0..8).map(async |_| {
        let pool = db::connect(&db.url, "replica", 2).unwrap();
        let applied = migration::apply(&pool, LIMIT).await.unwrap();
        migration::check(&mut pool.acquire().await.unwrap()).await.unwrap();
        pool.close().await;
        applied
    });
    let mut applied = futures_util::future::join_all(replicas).await;
    applied.sort_unstable();
    assert_eq!(applied, [vec![0; 7], vec![files().len() + 1]].concat());
    db.comes_to(0, HOLDERS).await;
}

#[tokio::test]
async fn where_nothing_is_pending_nobody_is_waited_for() {
    let db = Database::new().await;
    let mut holder = somebody(&db).await;
    // Whatever may be locked while others work, and what any login may lock.
    for held in [
        "lock table vobiz._sqlx_migrations in share row exclusive mode",
        "select from vobiz.work_lease for update",
        "select from vobiz.repeatable for update",
        "select pg_advisory_xact_lock(x'766f62697a'::bigint)",
    ] {
        let mut holding = holder.begin().await.unwrap();
        sqlx::raw_sql(held).execute(&mut *holding).await.unwrap();
        assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 0, "{held}");
        holding.rollback().await.unwrap();
    }
    // Of the latter nothing matters where something is pending either.
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    let mut holding = holder.begin().await.unwrap();
    sqlx::raw_sql("select pg_advisory_xact_lock(x'766f62697a'::bigint)")
        .execute(&mut *holding)
        .await
        .unwrap();
    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 1);
}

/// A session of somebody who is none of ours.
async fn somebody(db: &Database) -> PgConnection {
    let options: PgConnectOptions = db.url.parse().unwrap();
    options.application_name("somebody").connect().await.unwrap()
}

const LOCKED: &str = "lock table vobiz._sqlx_migrations in share update exclusive mode";

#[tokio::test]
async fn who_keeps_migrations_waiting_is_named() {
    let db = Database::new().await;
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    let mut holder = somebody(&db).await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
    let named = format!("session {pid} (role ");
    for wait in [250, 1000] {
        let mut holding = holder.begin().await.unwrap();
        sqlx::raw_sql(LOCKED).execute(&mut *holding).await.unwrap();
        let error = migration::apply(&db.pool, Duration::from_millis(wait)).await.unwrap_err();
        assert!(matches!(error, SchemaError::Locked(..)), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(&named) && said.contains("application somebody, in its transaction since 2"),
            "{said}"
        );
        holding.rollback().await.unwrap();
    }
    // Of one who waits for longer the log says it, also behind a report whose view is to be replaced.
    for held in [LOCKED, "select from vobiz.billing_day"] {
        db.run("update vobiz.repeatable set hash = sha256('another')").await;
        let mut holding = holder.begin().await.unwrap();
        sqlx::raw_sql(held).execute(&mut *holding).await.unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || Log(written.clone()))
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let said = until("the log names who is waited for", async || {
            let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
            text.contains("migrations wait for a lock that") && text.contains(&named)
        });
        let release = async {
            said.await;
            holding.rollback().await.unwrap();
        };
        let (applied, ()) = tokio::join!(migration::apply(&db.pool, LIMIT), release);
        drop(guard);
        assert_eq!(applied.unwrap(), 1, "{held}");
    }
}

/// The session that has the lock of migrations. (Databases beside this one have tables of the same numbers.)
const HOLDER: &str = "select pid from pg_catalog.pg_locks
                      where mode = 'ShareUpdateExclusiveLock' and granted and relation = 'vobiz._sqlx_migrations'::regclass
                        and database = (select oid from pg_catalog.pg_database where datname = current_database())";

/// How many they are.
const HOLDERS: &str = "select count(*) from pg_catalog.pg_locks
                       where mode = 'ShareUpdateExclusiveLock' and granted and relation = 'vobiz._sqlx_migrations'::regclass
                        and database = (select oid from pg_catalog.pg_database where datname = current_database())";

/// The same once it is there, and done with taking it: what it is taken for waits for somebody.
async fn holder_of_the_lock(db: &Database) -> i32 {
    db.comes_to(1, HOLDERS).await;
    let waiting =
        "select count(*) from pg_catalog.pg_locks l join pg_catalog.pg_database d on d.oid = l.database
                   where not l.granted and d.datname = current_database()";
    db.comes_to(1, waiting).await;
    sqlx::query_scalar(HOLDER).fetch_one(&db.pool).await.unwrap()
}

#[tokio::test]
async fn a_look_that_fails_costs_the_lock_of_migrations_nothing() {
    let db = Database::new().await;
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    let mut reader = somebody(&db).await;
    sqlx::raw_sql("begin; select from vobiz.billing_day").execute(&mut reader).await.unwrap();
    let disturbed = async {
        let pid = holder_of_the_lock(&db).await;
        // For longer than until the first look who is waited for.
        let cancel = "do $$ begin
                        for i in 1..7000 loop perform pg_cancel_backend(PID), pg_sleep(0.001); end loop;
                      end $$";
        db.run(&cancel.replace("PID", &pid.to_string())).await;
        let still: Option<i32> = sqlx::query_scalar(HOLDER).fetch_optional(&db.pool).await.unwrap();
        reader.close().await.unwrap();
        assert_eq!(still, Some(pid));
    };
    let (applied, ()) = tokio::join!(migration::apply(&db.pool, LIMIT), disturbed);
    assert_eq!(applied.unwrap(), 1);
}

#[tokio::test]
async fn migrations_whose_lock_is_lost_are_broken_off() {
    // On a text that waits for a report, and on a numbered file that waits for who has its table.
    for (due, held) in [
        ("update vobiz.repeatable set hash = sha256('another')", "select from vobiz.billing_day"),
        (
            "delete from vobiz._sqlx_migrations where version = (select max(version) from vobiz._sqlx_migrations)",
            "lock table vobiz.repeatable in access exclusive mode",
        ),
    ] {
        let db = Database::new().await;
        db.run(due).await;
        let mut somebody = somebody(&db).await;
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {held}"))).execute(&mut somebody).await.unwrap();
        let lost = async {
            let pid = holder_of_the_lock(&db).await;
            sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&db.pool).await.unwrap();
            db.comes_to(0, HOLDERS).await;
            somebody.close().await.unwrap();
        };
        let (applied, ()) = tokio::join!(migration::apply(&db.pool, LIMIT), lost);
        let error = applied.expect_err(held);
        assert!(matches!(error, SchemaError::LockLost), "{held}: {error}");
        assert!(error.to_string().contains("start again"), "{error}");
    }
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_reader_can_take_a_lock_that_a_promise_rests_on() {
    let db = super::role::with_roles().await;
    for role in ["vobiz_masked", "vobiz_finance"] {
        for lock in [
            LOCKED,
            "lock table vobiz.rollup_delta in row exclusive mode",
            "select from vobiz.work_lease for update",
        ] {
            let mut connection = somebody(&db).await;
            let mut transaction = connection.begin().await.unwrap();
            let set = format!("set local role {role}");
            sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *transaction).await.unwrap();
            let denied = sqlx::raw_sql(lock).execute(&mut *transaction).await.unwrap_err();
            let code = denied.as_database_error().and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {lock}: {denied}");
        }
    }
}

#[tokio::test]
async fn another_text_under_a_known_number_is_refused_and_a_later_number_is_not() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz._sqlx_migrations (version, description, success, checksum, execution_time)
         values (99991231235959, 'of the next release', true, '\\x00', 0)",
    )
    .await;
    check(&db).await.unwrap();
    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 0);
    assert_eq!(states(&db).await[files().len()], MigrationState::Ahead);

    db.run("update vobiz._sqlx_migrations set checksum = '\\xdead' where version = 3").await;
    assert_eq!(states(&db).await[2], MigrationState::Changed);
    let refused = check(&db).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Changed(3)), "{refused}");
    assert!(matches!(migration::apply(&db.pool, LIMIT).await, Err(SchemaError::Changed(_))));

    db.run("delete from vobiz._sqlx_migrations where version = 3").await;
    let behind = check(&db).await.unwrap_err();
    assert!(matches!(behind, SchemaError::Behind(1)), "{behind}");
}

#[tokio::test]
async fn a_database_of_another_build_is_left_alone() {
    let db = Database::new().await;
    db.run("update vobiz._sqlx_migrations set version = 20261123000000 + version").await;
    let refused = check(&db).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Foreign(20_261_123_000_001)), "{refused}");
    assert!(matches!(migration::apply(&db.pool, LIMIT).await, Err(SchemaError::Foreign(_))));
}

/// A view as an older or newer binary left it: it shows nothing.
async fn with_another_view(db: &Database, number: i32) {
    db.run(&format!(
        "create or replace view vobiz.rollup_part as
           select account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
                  streaming_cost, total_cost, with_cost, without_cost, credits, unclear from vobiz.rollup where false;
         update vobiz.repeatable set number = {number}, hash = sha256('another')"
    ))
    .await;
}

const OTHER_VIEW: &str = "select count(*) from pg_catalog.pg_class
    where oid = 'vobiz.rollup_part'::regclass and pg_get_viewdef(oid) ilike '%false%'";

#[tokio::test]
async fn an_older_text_is_replaced_and_a_newer_one_is_not() {
    let db = Database::new().await;
    let (number, hash) = migration::text();
    with_another_view(&db, number + 1).await;
    assert_eq!(states(&db).await.last(), Some(&MigrationState::Ahead));
    check(&db).await.unwrap();
    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 0);
    assert_eq!(db.count(OTHER_VIEW).await, 1, "the newer one stays");
    let granted = vobiz_cdr::db::base::role::grant(&mut *db.connection().await).await.unwrap_err();
    assert!(granted.to_string().contains("newer vobiz-cdr"), "{granted}");

    // An older one (where there is one), and one of the same number that no release separates from ours.
    for behind in [number - 1, number].into_iter().filter(|number| *number > 0) {
        with_another_view(&db, behind).await;
        let refused = check(&db).await.unwrap_err();
        assert!(matches!(refused, SchemaError::Behind(1)), "{refused}");
        assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 1);
        assert_eq!(db.count(OTHER_VIEW).await, 0);
        check(&db).await.unwrap();
    }
    assert_eq!(db.text("select encode(hash, 'hex') from vobiz.repeatable").await, hex::encode(hash));
}

#[tokio::test]
async fn a_numbered_file_makes_the_text_due_again() {
    let db = Database::new().await;
    // As if a file had not been applied that makes a table, and that wants its grants.
    db.run(
        "drop view vobiz.cdr_masked; drop table vobiz.mask_key;
         delete from vobiz._sqlx_migrations where version = 24",
    )
    .await;
    assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 2);
    assert_eq!(db.count("select count(*) from vobiz.cdr_masked").await, 0);
    check(&db).await.unwrap();
}

#[tokio::test]
async fn the_text_waits_for_a_report_that_runs_and_gives_up_in_the_end() {
    let db = Database::new().await;
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    let mut reading = db.pool.begin().await.unwrap();
    sqlx::query("select from vobiz.billing_day").execute(&mut *reading).await.unwrap();
    let gave_up = migration::apply(&db.pool, Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(gave_up, SchemaError::Text { file: "views/billing_day.sql", .. })
            || gave_up.to_string().contains("lock timeout"),
        "{gave_up}"
    );
    let others = async {
        // It lets others read in between.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(db.count("select count(*) from vobiz.billing_day").await, 0);
        }
        reading.rollback().await.unwrap();
    };
    let (applied, ()) = tokio::join!(migration::apply(&db.pool, LIMIT), others);
    assert_eq!(applied.unwrap(), 1);
}
