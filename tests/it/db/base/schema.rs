//! The schema: described to its readers, and states that cannot be are refused.

use sqlx::AssertSqlSafe;
use vobiz_cdr::db::bill::rollup;
use vobiz_cdr::db::cdr;
use vobiz_cdr::vobiz::CdrFields;

use crate::support::calls::plain;
use crate::support::database::Database;

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

/// A row with another id could be owed and never fetched; one that is missing could not be owed at all.
#[tokio::test]
async fn the_queue_takes_just_the_ids_that_a_call_can_have() {
    let db = Database::new().await;
    let long = ["c".repeat(255), "c".repeat(256)];
    let given = [
        "9e107d9d-372b-4c66-8b3e-0123456789ab",
        "9E107D9D-372B-4C66-8B3E-0123456789ab",
        "9E107D9D-372B-4C66-8B3E-0123456789aG",
        "00000000-0000-0000-0000-000000000000",
        "2VnyRPRiLTvW9gQcPL6bPNrJ3mC",
        "a.b_c:d@e+f-g",
        "a b",
        "a\n",
        "é",
        "a/b",
        "a~1",
        "",
        ".",
        "..",
        "...",
        "search",
        "Search",
        "recent",
        "export",
        "undefined",
        "NULL",
        "Nil",
        "call_UUID",
        "0",
        "000",
        "01",
        "-",
        "--",
        "-1",
        "-2",
        "0.0",
        "0-0",
    ];
    for id in given.into_iter().chain(long.iter().map(String::as_str)) {
        let inserted = sqlx::query(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, due_at, certain) values ($1, 'MA_X', true, now(), true)",
        )
        .bind(id)
        .execute(&db.pool)
        .await;
        let is_one = vobiz_cdr::vobiz::CallId::new(id).is_ok_and(|call_id| call_id.as_str() == id);
        assert_eq!(inserted.is_ok(), is_one, "{id:?}: {inserted:?}");
    }
}

#[tokio::test]
async fn a_publication_of_the_schema_stops_nothing() {
    // What tools that copy a database ask for.
    for publication in ["for tables in schema vobiz", "for all tables"] {
        let db = Database::new().await;
        db.run(&format!("create publication copied {publication}")).await;
        let keyless = db
            .texts(
                "select c.oid::regclass::text from pg_class c
                 where c.relnamespace = 'vobiz'::regnamespace and c.relkind in ('r', 'p') and c.relreplident <> 'f'
                   and not exists (select from pg_index i where i.indrelid = c.oid and (i.indisprimary and c.relreplident = 'd' or i.indisreplident))",
            )
            .await;
        assert_eq!(keyless, [""; 0], "their rows could not be changed");
        let now = db.now().await;
        for call in ["a", "b"] {
            cdr::upsert(&mut *db.connection().await, &[&plain(call, now)]).await.unwrap();
            assert_eq!(rollup::fold(&mut *db.connection().await, 100).await.unwrap(), 1);
        }
        assert_eq!(db.count("select sum(calls)::bigint from vobiz.rollup").await, 2);
        db.run("update vobiz.hangup_cause set outcome = 'busy' where code = 1000; delete from vobiz.hangup_cause where code = 2000").await;
    }
}
