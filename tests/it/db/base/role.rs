//! The roles, by being each of them and trying.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::sync::RwLock;

use crate::support::calls::single;
use crate::support::database::Database;
use crate::support::process::{Finished, program, run};

/// Roles are the whole cluster's: while a test has readers of its own, which `migrate roles` would limit or name, no other test
/// makes roles.
static READERS: RwLock<()> = RwLock::const_new(());

pub(super) fn make_roles(db: &Database) -> Finished {
    run(program(&["migrate", "roles"]).env("DATABASE_URL", &db.url))
}

pub(crate) async fn with_roles() -> Database {
    let db = Database::with_a_bill().await;
    let _no_readers = READERS.read().await;
    let made = make_roles(&db);
    assert!(made.status.success(), "{}", made.stderr);
    db
}

/// A connection that is this role and cannot become another.
pub(super) async fn connect_as(db: &Database, role: &str) -> PgConnection {
    let options: PgConnectOptions = db.url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let sql = format!("set session authorization {role}");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection
}

pub(super) async fn all_texts(
    connection: &mut PgConnection,
    sql: &str,
) -> Result<Vec<Option<String>>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await
}

pub(super) async fn is_denied(connection: &mut PgConnection, sql: &str) -> bool {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await {
        Ok(_) => false,
        Err(error) => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
            true
        }
    }
}

const READABLE: &str = "select c.relname::text from pg_catalog.pg_class c
     where c.relnamespace = 'vobiz'::regnamespace and c.relkind in ('r', 'v', 'p') and has_table_privilege(c.oid, 'select')
     order by 1";

#[tokio::test]
async fn the_masked_role_reads_views_and_never_a_number_a_name_or_an_address() {
    let db = with_roles().await;
    // A number that two countries have is quoted in its note.
    let now = db.now().await;
    let uncertain = r#"{"uuid":"uncertain","billsec":1,"total_cost":1,"currency":"INR","caller_id_number":"9606887299",
                        "destination_number":"9607771234","call_direction":"outbound"}"#;
    db.upsert(&[&single(uncertain, now)]).await;
    let noted = db
        .count(
            "select count(*) from vobiz.unclear where call_id = 'uncertain' and why = 'not certain' and lost",
        )
        .await;
    assert_eq!(noted, 2);
    let mut masked = connect_as(&db, "vobiz_masked").await;
    let readable = all_texts(&mut masked, READABLE).await.unwrap();
    for view in [
        "billing_day",
        "billing_month",
        "traffic_day",
        "cdr_masked",
        "conversation",
        "safe_to_bill",
        "cdr_change",
    ] {
        assert!(readable.contains(&Some(view.to_owned())), "{view}");
    }
    for relation in readable.iter().flatten() {
        let sql = format!("select x::text from vobiz.{relation} x");
        let rows = all_texts(&mut masked, &sql).await.unwrap_or_else(|error| panic!("{relation}: {error}"));
        for row in rows.iter().flatten() {
            for secret in [
                "1100000001",
                "9800000001",
                "9800000002",
                "2212345678",
                "7700900123",
                "9811111111",
                "9606887299",
                "9607771234",
                "Secret Name",
                "sip-secret",
                "203.0.113.7",
                "desk@",
                "Connection error",
            ] {
                assert!(!row.contains(secret), "{relation} shows {secret}: {row}");
            }
        }
    }
    for hidden in [
        "cdr",
        "leg",
        "stream",
        "billing_number",
        "customer_cdr",
        "customer_rule",
        "cdr_revision",
        "callback",
        "mask_key",
        "audit",
        "cdr_queue",
        "closed_call",
    ] {
        assert!(is_denied(&mut masked, &format!("select * from vobiz.{hidden}")).await, "{hidden}");
    }
    for write in [
        "delete from vobiz.rollup",
        "select vobiz.recompute_rollup_day()",
        "update vobiz.setting set home_country = '1'",
        "insert into vobiz.prefix values ('+1', 'x', 'x')",
        "create table vobiz.x ()",
        "select vobiz.make_partition('callback', '2030-01-01')",
        "select vobiz.cdr_as_of('infinity')",
        "select vobiz.reopen('MA_TESTAB12', 'MA_TESTAB12', now(), now(), true)",
    ] {
        assert!(is_denied(&mut masked, write).await, "{write}");
    }
    masked.close().await.unwrap();
}

/// Views that no reader is given, and why.
const PRIVATE: [(&str, &str); 2] = [
    ("call_owner", "the accounts of vobiz.cdr: views and functions of ours read it for others"),
    (
        "number_rule",
        "the rules of own numbers by what calls show: views and functions of ours read it for others",
    ),
];

#[tokio::test]
async fn every_view_is_granted_to_a_reader_or_private_for_a_reason() {
    let db = with_roles().await;
    let hidden = db
        .texts(
            "select relname::text from pg_catalog.pg_class c where relnamespace = 'vobiz'::regnamespace and relkind = 'v'
             and not has_table_privilege('vobiz_masked', c.oid, 'select') and not has_table_privilege('vobiz_finance', c.oid, 'select')
             order by relname",
        )
        .await;
    assert_eq!(
        hidden,
        PRIVATE.map(|(view, _)| view),
        "grant it in migrations/repeatable/grants.sql, or list it above"
    );
}

#[tokio::test]
async fn repeat_callers_can_be_counted_without_their_numbers() {
    let db = with_roles().await;
    let mut masked = connect_as(&db, "vobiz_masked").await;
    let ours = "select concat_ws(' ', our_number_end, count(*)) from vobiz.cdr_masked group by our_number_hash, our_number_end";
    assert_eq!(all_texts(&mut masked, ours).await.unwrap(), [Some("0001 5".to_owned())]);
    let theirs = "select concat_ws(' ', call_id, coalesce(other_number_end, '-'), length(other_number_hash)) from vobiz.cdr_masked order by call_id";
    let theirs: Vec<String> = all_texts(&mut masked, theirs).await.unwrap().into_iter().flatten().collect();
    assert_eq!(theirs, ["a1 0001 32", "a2 5678 32", "a3 0123 32", "a4 0002 32", "a5 - 32"]);
    // A hash without the key could be found by trying all numbers.
    let plain = "select count(*)::text from vobiz.cdr_masked
                 where our_number_hash in (left(encode(sha256('+911100000001'), 'hex'), 32), left(md5('+911100000001'), 32))";
    assert_eq!(all_texts(&mut masked, plain).await.unwrap(), [Some("0".to_owned())]);
    // Another database hashes otherwise.
    let hash = "select our_number_hash from vobiz.cdr_masked limit 1";
    let other = Database::with_a_bill().await;
    assert_eq!(db.text("select count(*)::text from vobiz.mask_key").await, "1");
    other.run("update vobiz.mask_key set key = sha256('other')").await;
    assert_ne!(db.text(hash).await, other.text(hash).await);
    masked.close().await.unwrap();
}

#[tokio::test]
async fn a_prefix_of_a_few_numbers_is_not_shown_beside_the_last_digits() {
    let db = with_roles().await;
    db.run("insert into vobiz.prefix values ('+919800000', 'Our own block', 'India'), ('+9122123', 'A street', 'India')").await;
    // Seven digits in all after the code of a small country.
    db.run("update vobiz.cdr set destination_e164 = '+6793123456' where call_id = 'a4'").await;
    let mut masked = connect_as(&db, "vobiz_masked").await;
    let shown =
        "select concat_ws(' ', call_id, coalesce(prefix, '-')) from vobiz.cdr_masked order by call_id";
    let shown: Vec<String> = all_texts(&mut masked, shown).await.unwrap().into_iter().flatten().collect();
    assert_eq!(shown, ["a1 +919", "a2 +9122", "a3 +447", "a4 -", "a5 -"]);
    masked.close().await.unwrap();
    assert_eq!(db.text("select prefix from vobiz.leg where call_id = 'a1'").await, "+919800000");
    db.run("delete from vobiz.prefix where prefix = '+919'").await;
    let wider = "select prefix from vobiz.cdr_masked where call_id = 'a1'";
    assert_eq!(db.text(wider).await, "+91");
}

#[tokio::test]
async fn what_acts_with_the_rights_of_its_owner_is_nobodys_to_call() {
    let db = with_roles().await;
    let callable = async |role: &str| {
        db.texts(&format!(
            "select p.oid::regprocedure::text from pg_catalog.pg_proc p
             where p.pronamespace = 'vobiz'::regnamespace and p.prosecdef and has_function_privilege('{role}', p.oid, 'execute')"
        ))
        .await
    };
    for role in ["public", "vobiz_masked", "vobiz_finance"] {
        assert_eq!(callable(role).await, [""; 0], "{role}");
    }
    assert_eq!(callable("vobiz_app").await, ["vobiz.make_partition(text,date)"]);
    let definers =
        "select count(*) from pg_catalog.pg_proc where pronamespace = 'vobiz'::regnamespace and prosecdef";
    assert!(db.count(definers).await >= 10);
    // Whose names another schema could not answer.
    let astray =
        format!("{definers} and not 'search_path=pg_catalog, pg_temp' = any (coalesce(proconfig, '{{}}'))");
    assert_eq!(db.count(&astray).await, 0);
}

#[tokio::test]
async fn the_service_fires_all_triggers_as_its_role() {
    let db = with_roles().await;
    db.run(
        "insert into vobiz.provider_day (account_id, day, from_at, to_at, state, began_at, checked_at, check_id)
         select 'MA_TESTAB12', d, d::timestamp at time zone 'Asia/Kolkata', (d + 1)::timestamp at time zone 'Asia/Kolkata', 'settled',
                now() - interval '1 min', now(), 1
         from unnest('{2026-03-10,2026-03-11,2026-03-12}'::date[]) d",
    )
    .await;
    let mut app = connect_as(&db, "vobiz_app").await;
    for sql in [
        "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, total_cost,
                                currency, campaign_id)
         values ('new', 'MA_TESTAB12', 'MA_TESTAB12', 'manual', 0, now(), 1, sha256(''), '2026-03-12 04:00Z', 1, 'INR', 'C9')",
        "update vobiz.cdr set total_cost = total_cost + 1 where call_id = 'a1'",
        "insert into vobiz.customer_rule (field, value, customer) values ('campaign_id', 'C9', 'Ravi')",
        "update vobiz.customer_rule set customer = 'Meera' where value = 'C9'",
        "delete from vobiz.customer_rule where value = 'T1'",
    ] {
        sqlx::raw_sql(sql).execute(&mut app).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    app.close().await.unwrap();
    // It may take no call away: its owner may.
    db.run("delete from vobiz.cdr where call_id = 'a5'").await;
    assert_eq!(db.count("select count(*) from vobiz.provider_day where reopened_at is not null").await, 3);
    let noted = "select string_agg(action, ' ' order by id) from vobiz.audit where by = 'vobiz_app'";
    assert_eq!(
        db.text(noted).await,
        "cdr_changed_by_hand customer_rule_changed customer_rule_changed customer_rule_changed"
    );
    let bill = "select string_agg(concat_ws(' ', day, customer, currency, calls, total_cost), ', ' order by day, currency) from vobiz.billing_day
                where currency = 'INR'";
    assert_eq!(db.text(bill).await, "2026-03-10 unassigned INR 3 2.37, 2026-03-12 Meera INR 1 1");
}

#[tokio::test]
async fn finance_reads_calls_and_changes_nothing() {
    let db = with_roles().await;
    let mut finance = connect_as(&db, "vobiz_finance").await;
    for relation in all_texts(&mut finance, READABLE).await.unwrap().iter().flatten() {
        let sql = format!("select x::text from vobiz.{relation} x");
        all_texts(&mut finance, &sql).await.unwrap_or_else(|error| panic!("{relation}: {error}"));
    }
    assert_eq!(
        all_texts(&mut finance, "select total_cost::text from vobiz.cdr where call_id = 'a4'")
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        all_texts(&mut finance, "select call_id from vobiz.cdr_as_of('infinity')").await.unwrap().len(),
        5
    );
    for write in [
        "update vobiz.cdr set cost = 0",
        "delete from vobiz.cdr",
        "select * from vobiz.mask_key",
        "select * from vobiz.callback",
    ] {
        assert!(is_denied(&mut finance, write).await, "{write}");
    }
    finance.close().await.unwrap();
}

#[tokio::test]
async fn readers_are_limited_in_this_database_and_so_are_members() {
    let _alone = READERS.write().await;
    let db = Database::with_a_bill().await;
    let analyst = format!("analyst_{}", std::process::id());
    assert!(make_roles(&db).status.success());
    db.run(&format!("create role {analyst} login in role vobiz_masked")).await;
    assert!(make_roles(&db).status.success(), "again");
    let settings = format!(
        "select array_to_string(s.setconfig, ' ') from pg_catalog.pg_db_role_setting s join pg_catalog.pg_roles r on r.oid = s.setrole
         join pg_catalog.pg_database d on d.oid = s.setdatabase
         where d.datname = current_database() and r.rolname in ('vobiz_masked', 'vobiz_finance', 'vobiz_app', '{analyst}')"
    );
    let limited = db.texts(&settings).await;
    assert_eq!(limited.len(), 3, "not the service: {limited:?}");
    for one in limited {
        assert_eq!(
            one,
            "statement_timeout=120s idle_in_transaction_session_timeout=60s idle_session_timeout=30min default_transaction_read_only=on"
        );
    }
    db.run(&format!("drop role {analyst}")).await;
}

#[tokio::test]
async fn a_reader_whom_this_user_may_not_limit_is_named_with_the_cure() {
    let _alone = READERS.write().await;
    let db = Database::empty().await;
    let clerk = format!("clerk_owner_{}", std::process::id());
    let (bare, half, whole) = (format!("{clerk}_bare"), format!("{clerk}_half"), format!("{clerk}_whole"));
    vobiz_cdr::db::base::role::create(&mut *db.connection().await).await.unwrap();
    // One has nothing; one lacks all but the first limit; one has some here and the rest everywhere.
    db.run(&format!(
        "create role {clerk} login; create role {bare} login in role vobiz_masked; create role {half} login in role vobiz_masked;
         create role {whole} login in role vobiz_masked;
         alter role {whole} set idle_in_transaction_session_timeout = '9s'; alter role {whole} set idle_session_timeout = 0;
         alter role {whole} set default_transaction_read_only = off;
         do $$ begin
           execute format('grant create on database %I to {clerk}', current_database());
           execute format('alter role {half} in database %I set statement_timeout = ''9s''', current_database());
           execute format('alter role {whole} in database %I set statement_timeout = ''9s''', current_database());
         end $$"
    ))
    .await;
    let join = if db.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{join}options=-c%20role%3D{clerk}", db.url);
    let applied = run(program(&["migrate", "apply"]).env("DATABASE_URL", &url));
    let made = run(program(&["migrate", "roles"]).env("DATABASE_URL", &url));
    // Who may, does; and what an operator has chosen stays.
    let mended = make_roles(&db);
    let chosen = db
        .text(&format!(
            "select string_agg(array_to_string(s.setconfig, ' '), ' ') from pg_catalog.pg_db_role_setting s
             where s.setrole = '{whole}'::regrole
               and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))"
        ))
        .await;
    let name = db.text("select current_database()").await;
    db.run(&format!("drop owned by {clerk} cascade; drop role {clerk}, {bare}, {half}, {whole}")).await;
    assert!(applied.status.success(), "{}", applied.stderr);
    assert_eq!(made.status.code(), Some(1), "{}", made.stderr);
    for (reader, first) in
        [(&bare, "statement_timeout = '120s'"), (&half, "idle_in_transaction_session_timeout = '60s'")]
    {
        // What it has is not named.
        let cure = format!("Let one who may say: alter role {reader} in database {name} set {first};");
        assert!(made.stderr.contains(&cure), "{}", made.stderr);
    }
    assert!(!made.stderr.contains(&whole), "{}", made.stderr);
    assert!(mended.status.success() && !mended.stderr.contains("without limits"), "{}", mended.stderr);
    assert!(chosen.contains("statement_timeout=9s") && !chosen.contains("120s"), "{chosen}");
    assert!(chosen.contains("idle_session_timeout=0") && !chosen.contains("30min"), "{chosen}");
}

#[tokio::test]
async fn who_may_not_create_roles_is_told_what_to_ask_for() {
    let db = Database::with_a_bill().await;
    let clerk = format!("clerk_roles_{}", std::process::id());
    db.run(&format!(
        "create role {clerk} login; grant usage on schema vobiz to {clerk}; grant select on vobiz._sqlx_migrations, vobiz.repeatable to {clerk}"
    ))
    .await;
    let join = if db.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{join}options=-c%20role%3D{clerk}", db.url);
    let refused = run(program(&["migrate", "roles"]).env("DATABASE_URL", &url));
    db.run(&format!("drop owned by {clerk}; drop role {clerk}")).await;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("this user may not"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("panicked"));
}

#[tokio::test]
async fn finance_runs_reports_and_who_may_not_is_told_which_role_may() {
    let db = with_roles().await;
    let join = if db.url.contains('?') { '&' } else { '?' };
    let as_role = |role: &str| format!("{}{join}options=-c%20role%3D{role}", db.url);
    let stranger = format!("stranger_{}", std::process::id());
    db.run(&format!("create role {stranger} login")).await;
    let range = ["report", "billing_day", "--from", "2026-03-10", "--to", "2026-03-11"];
    let asked = |role: &str, more: &[&str]| run(program(more).env("DATABASE_URL", as_role(role)));
    let (masked, finance) = (asked("vobiz_masked", &range), asked("vobiz_finance", &range));
    let verified = asked("vobiz_finance", &["verify"]);
    let wrong = asked("vobiz_finance", &["verify", "--account", "MA_TEST"]);
    let numbers =
        asked("vobiz_masked", &["report", "billing_number", "--from", "2026-03-10", "--to", "2026-03-11"]);
    let nobody = asked(&stranger, &range);
    let made = asked("vobiz_app", &["migrate", "roles"]);
    db.run(&format!("drop role {stranger}")).await;
    assert!(
        finance.status.success() && finance.stdout == masked.stdout,
        "{}{}",
        finance.stderr,
        masked.stderr
    );
    assert!(verified.status.success(), "{}", verified.stderr);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("who has any: MA_TESTAB12"), "{}", wrong.stderr);
    for refused in [numbers, nobody] {
        assert_eq!(refused.status.code(), Some(1));
        let said = refused.stderr;
        assert!(said.contains("What only reads is for vobiz_finance and vobiz_masked"), "{said}");
        assert_eq!(
            (said.matches("permission denied").count(), said.contains("at line")),
            (1, false),
            "{said}"
        );
    }
    assert_eq!(made.status.code(), Some(2), "{}", made.stderr);
    assert!(
        made.stderr.contains("as the owner of the schema") && made.stderr.lines().count() <= 3,
        "{}",
        made.stderr
    );
}
