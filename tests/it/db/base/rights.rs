//! What nobody may do by the way, and what the service may do: by being each of them and trying.

use sqlx::{AssertSqlSafe, Connection};
use vobiz_cdr::db::base::partition;

use super::role::{all_texts, connect_as, is_denied, make_roles, with_roles};
use crate::ops::{service, vobiz};
use crate::support::calls::plain;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::process::{program, run};
use crate::support::wait::until_is;
use crate::support::world::options;
use vobiz_cdr::simulator::CallSpec;

#[tokio::test]
async fn no_function_is_anybodys_to_call_whoever_adds_it() {
    let db = with_roles().await;
    let open = "select p.oid::regprocedure::text from pg_catalog.pg_proc p
                where p.pronamespace = 'vobiz'::regnamespace and has_function_privilege('public', p.oid, 'execute')";
    assert_eq!(db.texts(open).await, [""; 0]);
    db.run(
        "create function vobiz.later() returns integer language sql as 'select 1';
         create procedure vobiz.later_still() language sql as 'select 1'",
    )
    .await;
    assert_eq!(db.texts(open).await.len(), 2);
    assert!(make_roles(&db).status.success());
    assert_eq!(db.texts(open).await, [""; 0]);
    // And who may read a view may call what stands in it.
    for role in ["vobiz_masked", "vobiz_finance", "vobiz_app"] {
        let mut reader = connect_as(&db, role).await;
        all_texts(&mut reader, "select vobiz.later()::text").await.unwrap();
        all_texts(&mut reader, "select vobiz.billing_day_of(now())::text").await.unwrap();
        reader.close().await.unwrap();
    }
    let stranger = format!("stranger_{}_functions", std::process::id());
    db.run(&format!("create role {stranger} login; grant usage on schema vobiz to {stranger}")).await;
    let mut nobody = connect_as(&db, &stranger).await;
    for call in ["select vobiz.later()", "select vobiz.now()", "call vobiz.later_still()"] {
        assert!(is_denied(&mut nobody, call).await, "{call}");
    }
    nobody.close().await.unwrap();
    db.run(&format!("drop owned by {stranger}; drop role {stranger}")).await;
}

#[tokio::test]
async fn no_login_fills_the_disk_with_tables_of_its_own_or_large_objects() {
    let db = with_roles().await;
    let stranger = format!("stranger_{}_disk", std::process::id());
    db.run(&format!("create role {stranger} login")).await;
    for role in ["vobiz_masked", &stranger] {
        let mut login = connect_as(&db, role).await;
        for made in [
            "create temporary table mine (a text)",
            "create table public.mine (a text)",
            "select lo_create(0)",
            "select lo_creat(-1)",
            "select lo_from_bytea(0, 'a')",
        ] {
            assert!(is_denied(&mut login, made).await, "{role}: {made}");
        }
        login.close().await.unwrap();
    }
    db.run(&format!("drop role {stranger}")).await;
    // Finance compares lists in temporary tables.
    let mut finance = connect_as(&db, "vobiz_finance").await;
    sqlx::raw_sql("create temporary table mine (a text)").execute(&mut finance).await.unwrap();
    assert!(is_denied(&mut finance, "select lo_create(0)").await);
    finance.close().await.unwrap();
}

#[tokio::test]
async fn who_may_not_take_that_away_is_told_what_to_ask_for() {
    let db = Database::empty().await;
    let clerk = format!("clerk_{}_public", std::process::id());
    vobiz_cdr::db::base::role::create(&mut *db.connection().await).await.unwrap();
    db.run(&format!(
        "create role {clerk} login;
         do $$ begin execute format('grant create on database %I to {clerk}', current_database()); end $$"
    ))
    .await;
    let roles = |url: &str| run(program(&["migrate", "roles"]).env("DATABASE_URL", url));
    let applied = run(program(&["migrate", "apply"]).env("DATABASE_URL", db.url_as(&clerk)));
    let made = roles(&db.url_as(&clerk));
    let name = db.text("select current_database()").await;
    let (owner, again) = (roles(&db.url), roles(&db.url_as(&clerk)));
    db.run(&format!("drop owned by {clerk} cascade; drop role {clerk}")).await;
    assert!(applied.status.success(), "{}", applied.stderr);
    for cure in [
        format!("revoke temporary on database {name} from public;"),
        "revoke execute on function pg_catalog.lo_create(oid) from public;".into(),
    ] {
        assert!(made.stderr.contains(&cure), "{cure}: {}", made.stderr);
    }
    for finished in [owner, again] {
        assert!(!finished.stderr.contains("from public"), "{}", finished.stderr);
    }
}

/// What happened, which no role but the owner of the tables may take back.
const HISTORY: [&str; 11] = [
    "audit",
    "callback",
    "cdr_revision",
    "closed_call",
    "ledger_check",
    "ledger_difference",
    "ledger_owner_total",
    "ledger_total",
    "listed_owner",
    "safe_to_bill_move",
    "unreadable_row",
];

#[tokio::test]
async fn history_is_append_only_for_the_service() {
    let db = with_roles().await;
    let mut app = connect_as(&db, "vobiz_app").await;
    let partition = db
        .text("select inhrelid::regclass::text from pg_catalog.pg_inherits where inhparent = 'vobiz.cdr_revision'::regclass limit 1")
        .await;
    let tables = HISTORY.map(|table| format!("vobiz.{table}"));
    for table in tables.iter().chain([&partition]) {
        let column = format!(
            "select attname::text from pg_catalog.pg_attribute where attrelid = '{table}'::regclass and attnum > 0 order by attnum limit 1"
        );
        let column = db.text(&column).await;
        for change in [
            format!("delete from {table}"),
            format!("update {table} set {column} = default"),
            format!("truncate {table}"),
        ] {
            assert!(is_denied(&mut app, &change).await, "{change}");
        }
    }
    // Calls change with what Vobiz says of them, and go by no hand of the service; nor through a view of them.
    for denied in ["delete from vobiz.cdr", "delete from vobiz.provider_day", "delete from vobiz.setting"] {
        assert!(is_denied(&mut app, denied).await, "{denied}");
    }
    let through = db
        .texts(
            "select c.relname::text from pg_catalog.pg_class c
             where c.relnamespace = 'vobiz'::regnamespace and c.relkind = 'v' and has_table_privilege('vobiz_app', c.oid, 'insert, update, delete')",
        )
        .await;
    assert_eq!(through, [""; 0]);
    app.close().await.unwrap();
}

#[tokio::test]
async fn the_service_can_work_as_its_role() {
    let db = with_roles().await;
    let now = db.now().await;
    db.shift_clock("100 days").await;
    let mut app = connect_as(&db, "vobiz_app").await;
    assert!(partition::ensure(&mut app).await.unwrap() > 0, "it makes partitions that it does not own");
    let mut transaction = app.begin().await.unwrap();
    vobiz_cdr::db::cdr::upsert(&mut transaction, &[&plain("new", now)]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        all_texts(&mut app, "select count(*)::text from vobiz.cdr").await.unwrap(),
        [Some("6".to_owned())]
    );
    assert!(vobiz_cdr::db::bill::rollup::fold(&mut app, 100).await.unwrap() > 0);
    sqlx::raw_sql("update vobiz.setting set billing_zone = 'UTC'; select vobiz.recompute_rollup_day()")
        .execute(&mut app)
        .await
        .unwrap();
    for denied in [
        "select * from vobiz.mask_key",
        "drop table vobiz.cdr",
        "select vobiz.make_partition('cdr', '2030-01-01')",
    ] {
        let outcome = sqlx::raw_sql(AssertSqlSafe(denied.to_owned())).execute(&mut app).await;
        assert!(outcome.is_err(), "{denied}");
    }
    app.close().await.unwrap();
}

/// The whole service, and the commands that write, with the rights of its role: what is missing to it would be an error here.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_service_runs_as_its_role() {
    let db = with_roles().await;
    let url = db.url_as("vobiz_app");
    db.run("delete from vobiz.cdr; delete from vobiz.rollup_delta").await;
    let vobiz = vobiz(options()).await;
    let unannounced = vobiz.place_call(CallSpec::default());
    let running = service(&vobiz, &url).await;
    until_is("the first sweep is over", 1, async || {
        db.count("select count(*) from vobiz.account where swept_at is not null").await
    })
    .await;
    for _ in 0..2 {
        let call = vobiz.place_call(CallSpec::default());
        assert_eq!(Callback::of(&vobiz, &call).send(running.public.unwrap()).await, 200);
    }
    until_is("all calls are stored", 3, async || db.count("select count(*) from vobiz.cdr").await).await;
    assert_eq!(
        db.text(&format!("select origin from vobiz.cdr where call_id = '{}'", unannounced.call_id)).await,
        "sweep"
    );
    until_is("they are in the sums", 3, async || {
        db.count("select coalesce(sum(calls), 0)::bigint from vobiz.billing_day").await
    })
    .await;
    running.all_is_well().await;
    running.end().await;
    db.run("update vobiz.rollup set cost = cost + 1").await;
    // A call that is owed and a dead letter, for those who give up.
    db.run(&format!(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
         values ('owed', '{ACCOUNT}', true, true, now()), ('dead', '{ACCOUNT}', true, true, now());
         update vobiz.cdr_queue set dead_at = now(), error_class = 'unreadable', failures = 1, first_failed_at = now(), last_error = 'a test'
         where call_id = 'dead';
         delete from vobiz.account_replica"
    ))
    .await;
    for arguments in
        [&["verify", "--repair"][..], &["reparse"], &["dead-letters", "close", "dead", "--reason", "a test"]]
    {
        let done = run(program(arguments).env("DATABASE_URL", &url));
        assert!(done.status.success(), "{arguments:?}: {}{}", done.stdout, done.stderr);
    }
    // No list will prove these any more; the promise ends where it began.
    db.run("delete from vobiz.cdr").await;
    let retired = run(program(&["account", "retire", ACCOUNT, "--give-up", "--reason", "it left"])
        .env("DATABASE_URL", &url));
    assert!(retired.status.success(), "{}", retired.stderr);
    assert_eq!(db.count("select count(*) from vobiz.closed_call").await, 2);
    vobiz.stop().await;
}
