//! The schema: applied once by whoever comes first, checked by everybody, described to its readers, and never rewritten.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Datelike, Months, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use vobiz_cdr::db;
use vobiz_cdr::db::base::migration::{self, MigrationState, SchemaError};
use vobiz_cdr::db::base::partition;
use vobiz_cdr::vobiz::CdrFields;

use crate::support::calls::plain;
use crate::support::database::Database;

const TIMEOUT: Duration = Duration::from_secs(30);

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

    assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), all);
    assert_eq!(states(&db).await, vec![MigrationState::Applied; all]);
    check(&db).await.unwrap();
    assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), 0);
    assert_eq!(states(&db).await.len(), all);
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let db = Database::empty().await;
    let replicas = (0..8).map(async |_| {
        let pool = db::connect(&db.url, "replica", 2).unwrap();
        let applied = migration::apply(&pool, TIMEOUT).await.unwrap();
        migration::check(&mut pool.acquire().await.unwrap()).await.unwrap();
        pool.close().await;
        applied
    });
    let mut applied = futures_util::future::join_all(replicas).await;
    applied.sort_unstable();
    assert_eq!(applied, [vec![0; 7], vec![files().len() + 1]].concat());
    let locks = "select count(*) from pg_catalog.pg_locks where locktype = 'advisory'
                   and database = (select oid from pg_catalog.pg_database where datname = current_database())";
    db.comes_to(0, locks).await;
}

#[tokio::test]
async fn a_migration_lock_that_stays_held_is_reported() {
    let db = Database::empty().await;
    let mut holder = db.connection().await;
    sqlx::query("select pg_advisory_lock(x'766f62697a'::bigint)").execute(&mut *holder).await.unwrap();
    let error = migration::apply(&db.pool, Duration::from_millis(250)).await.unwrap_err();
    assert!(matches!(error, SchemaError::Locked(_)), "{error}");
    drop(holder);
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
    assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), 0);
    assert_eq!(states(&db).await[files().len()], MigrationState::Ahead);

    db.run("update vobiz._sqlx_migrations set checksum = '\\xdead' where version = 3").await;
    assert_eq!(states(&db).await[2], MigrationState::Changed);
    let refused = check(&db).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Changed(3)), "{refused}");
    assert!(matches!(migration::apply(&db.pool, TIMEOUT).await, Err(SchemaError::Changed(_))));

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
    assert!(matches!(migration::apply(&db.pool, TIMEOUT).await, Err(SchemaError::Foreign(_))));
}

/// A view as an older or newer binary left it: it shows nothing.
async fn with_another_view(db: &Database, number: i32) {
    db.run(&format!(
        "create or replace view vobiz.rollup_part as
           select account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
                  streaming_cost, total_cost, with_cost, without_cost from vobiz.rollup where false;
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
    assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), 0);
    assert_eq!(db.count(OTHER_VIEW).await, 1, "the newer one stays");
    let granted = vobiz_cdr::db::base::role::grant(&mut *db.connection().await).await.unwrap_err();
    assert!(granted.to_string().contains("newer vobiz-cdr"), "{granted}");

    // An older one (where there is one), and one of the same number that no release separates from ours.
    for behind in [number - 1, number].into_iter().filter(|number| *number > 0) {
        with_another_view(&db, behind).await;
        let refused = check(&db).await.unwrap_err();
        assert!(matches!(refused, SchemaError::Behind(1)), "{refused}");
        assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), 1);
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
    assert_eq!(migration::apply(&db.pool, TIMEOUT).await.unwrap(), 2);
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
    let (applied, ()) = tokio::join!(migration::apply(&db.pool, TIMEOUT), others);
    assert_eq!(applied.unwrap(), 1);
}

#[tokio::test]
async fn everything_in_the_schema_is_described_and_nothing_lies_in_public() {
    let db = Database::new().await;
    // sqlx's own table and the sequence inside an identity column are no concern of a reader.
    let mute = db
        .texts(
            "with ours as (
               select c.* from pg_catalog.pg_class c
               where c.relnamespace = 'vobiz'::regnamespace and c.relname not like '%sqlx_migrations%'
                 and c.relkind in ('r', 'p', 'v', 'm', 'S')
                 and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'i' and d.refobjsubid > 0)
             )
             select relname from ours where obj_description(oid, 'pg_class') is null
             union all
             select relname || '.' || attname from ours join pg_catalog.pg_attribute a on a.attrelid = ours.oid
             where relkind <> 'S' and not relispartition and attnum > 0 and not attisdropped and col_description(a.attrelid, attnum) is null
             union all
             select proname from pg_catalog.pg_proc where pronamespace = 'vobiz'::regnamespace and obj_description(oid, 'pg_proc') is null
             union all
             select nspname from pg_catalog.pg_namespace where nspname = 'vobiz' and obj_description(oid, 'pg_namespace') is null",
        )
        .await;
    assert!(mute.is_empty(), "without a comment: {mute:?}");
    let public = db
        .texts(
            "select relname::text from pg_catalog.pg_class where relnamespace = 'public'::regnamespace
             union all select proname from pg_catalog.pg_proc where pronamespace = 'public'::regnamespace
             union all select typname from pg_catalog.pg_type where typnamespace = 'public'::regnamespace
             union all select extname from pg_catalog.pg_extension where extname <> 'plpgsql'",
        )
        .await;
    assert!(public.is_empty(), "{public:?}");
}

#[tokio::test]
async fn every_documented_field_is_a_column() {
    let db = Database::new().await;
    let columns = db
        .texts("select column_name::text from information_schema.columns where table_schema = 'vobiz' and table_name = 'cdr'")
        .await;
    let keys = CdrFields::KEYS.into_iter().map(|key| if key == "id" { "vobiz_id" } else { key });
    let fields: Vec<&str> = keys.chain(["call_id", "account_id"]).collect();
    for field in fields {
        assert!(columns.iter().any(|column| column == field), "{field}");
    }
    let floats = "select count(*) from information_schema.columns where table_schema = 'vobiz'
                  and table_name like 'cdr%' and data_type in ('real', 'double precision', 'money')";
    assert_eq!(db.count(floats).await, 0, "no amount goes through a float");
}

/// The partitions of both tables that there should be at an instant.
fn expected_partitions(now: DateTime<Utc>) -> Vec<String> {
    let first = now.date_naive().with_day(1).unwrap() - Months::new(1);
    let months = |table: &'static str| {
        (0..5).map(move |n| format!("{table}_{}", (first + Months::new(n)).format("%Y_%m")))
    };
    months("callback").chain(months("cdr_revision")).collect()
}

async fn partitions(db: &Database) -> Vec<String> {
    let sql = "select relname::text from pg_catalog.pg_inherits join pg_catalog.pg_class on oid = inhrelid
               where relkind = 'r' and relnamespace = 'vobiz'::regnamespace order by 1";
    db.texts(sql).await
}

#[tokio::test]
async fn partitions_are_made_ahead_of_the_clock() {
    let db = Database::new().await;
    let now = db.now().await;
    let made = expected_partitions(now);
    assert_eq!(partitions(&db).await, made);
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 0, "again is nothing");

    // The last second of a year, more than a year from now: ten new ones, two of them in the next year.
    let last = format!("{}-12-31T23:59:59Z", now.year() + 2).parse().unwrap();
    db.stop_clock(last).await;
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 10);
    let mut all = [made, expected_partitions(last)].concat();
    all.sort();
    assert_eq!(partitions(&db).await, all);

    // What is written then lands there, on both sides of the year's end.
    for (n, instant) in [last, last + TimeDelta::seconds(1)].into_iter().enumerate() {
        db.stop_clock(instant).await;
        let call = format!("call-{n}");
        db.owe(&[&call], true).await;
        db.upsert(&[&plain(&call, instant)]).await;
        for table in ["callback", "cdr_revision"] {
            let sql = format!(
                "select count(*) from vobiz.{table}_{} where call_id = '{call}'",
                instant.format("%Y_%m")
            );
            assert_eq!(db.count(&sql).await, 1);
        }
    }
    let key = "select count(*) from pg_catalog.pg_constraint where contype = 'p' and conrelid = any (
                 select inhrelid from pg_catalog.pg_inherits where inhparent = 'vobiz.cdr_revision'::regclass)";
    assert_eq!(db.count(key).await, 10, "each partition has the key of its table");
}

#[tokio::test]
async fn a_partition_that_was_left_half_made_is_finished() {
    let db = Database::new().await;
    let name = partitions(&db).await.pop().unwrap();
    db.run(&format!("alter table vobiz.cdr_revision detach partition vobiz.{name}")).await;
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 1);
    assert_eq!(partitions(&db).await.last(), Some(&name));
}

#[tokio::test]
async fn forbidden_states_cannot_be_written() {
    let db = Database::new().await;
    let queue = |columns: &str, values: &str| {
        format!(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, due_at, certain{columns})
             values ('c', 'MA_X', true, now(), {values})"
        )
    };
    let failed = ", failures, error_class, last_error, first_failed_at";
    let dead = format!("{failed}, dead_at");
    let set = |what: &str| format!("update vobiz.account set {what}");
    let forbidden = [
        (queue(", dead_at", "true, now()"), "dead_letter_has_its_class"),
        (queue(&dead, "true, 1, 'not_yet', 'e', now(), now()"), "dead_letter_has_its_class"),
        (queue(&dead, "true, 1, 'unavailable', 'e', now(), now()"), "dead_letter_has_its_class"),
        (queue(&dead, "false, 1, 'refused', 'e', now(), now()"), "speculative_never_dies"),
        (queue(failed, "true, 1, 'never_appeared', 'e', now()"), "final_class_is_dead"),
        (queue(failed, "true, 1, 'unstorable', 'e', now()"), "final_class_is_dead"),
        (queue(failed, "true, 1, null, 'e', now()"), "failure_is_whole"),
        (queue(failed, "true, 1, 'not_yet', null, now()"), "failure_is_whole"),
        (queue(failed, "true, 1, 'not_yet', 'e', null"), "failure_is_whole"),
        (queue(failed, "true, 0, 'not_yet', 'e', now()"), "failure_is_whole"),
        (queue(failed, "true, 1, 'tired', 'e', now()"), "cdr_queue_error_class_check"),
        (queue(failed, "true, -1, 'not_yet', 'e', now()"), "cdr_queue_failures_check"),
        (queue(", attempts", "true, -1"), "cdr_queue_attempts_check"),
        (queue(", last_body", "true, convert_to(repeat('x', 65537), 'UTF8')"), "cdr_queue_last_body_check"),
        (queue("", "true").replace("'c'", "''"), "cdr_queue_call_id_check"),
        (queue("", "true").replace("'c'", "repeat('c', 256)"), "cdr_queue_call_id_check"),
        (set("paused_until = now()"), "pause_is_whole"),
        (set("pause_reason = 'denied', paused_until = now()"), "pause_is_whole"),
        (set("pause_reason = 'bored', paused_until = now(), paused_since = now()"), "account_pause_reason_check"),
        (set("rate_share = 0"), "account_rate_share_check"),
        (set("listed_due_to = now()"), "reservation_is_whole"),
        (set("listing_until = now()"), "reservation_is_whole"),
        (set("rate_share = 1.01"), "account_rate_share_check"),
        (set("api_path = 'ACCOUNT'"), "account_api_path_check"),
        ("insert into vobiz.setting default values".into(), "setting_pkey"),
        ("insert into vobiz.setting (only_row) values (false)".into(), "setting_only_row_check"),
        ("update vobiz.setting set home_country = '091'".into(), "setting_home_country_check"),
        (
            "insert into vobiz.account_pause select account_id, now(), now() - interval '1 s', 'denied' from vobiz.account".into(),
            "account_pause_check",
        ),
        (
            "insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence) values ('c', 'a', true, 'other_id', 'e')".into(),
            "closed_call_check",
        ),
        (
            "insert into vobiz.closed_call (call_id, account_id, certain, reason, evidence, found_call_id) values ('c', 'a', true, 'not_found', 'e', 'x')".into(),
            "closed_call_check",
        ),
        (
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash) values ('c', 'a', 'a', 'guess', 0, now(), 1, sha256(''))".into(),
            "cdr_origin_check",
        ),
        (
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash) values ('c', 'a', 'a', 'manual', 0, now(), 1, '')".into(),
            "cdr_content_hash_check",
        ),
    ];
    for (sql, constraint) in forbidden {
        let result = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&db.pool).await;
        let error = result.err().unwrap_or_else(|| panic!("{sql}: it was taken"));
        let found = error.as_database_error().and_then(|error| error.constraint());
        assert_eq!(found, Some(constraint), "{sql}: {error}");
    }
    assert_eq!(db.count("select count(*) from vobiz.cdr_queue").await, 0);
    db.run(&queue(&dead, "true, 5, 'refused', 'e', now(), now()")).await;
}
