//! What a login takes that may only read, or may not even that, holds nothing up: no call, no day, no migration.

use chrono::TimeDelta;
use sqlx::{AssertSqlSafe, PgConnection};
use vobiz_cdr::db::base::migration;
use vobiz_cdr::simulator::SimulatorOptions;

use super::role::{all_texts, connect_as, is_denied};
use crate::ledger::{at, check, ledger_world};
use crate::support::database::Database;
use crate::support::endpoint::{Callback, Setup, TOKEN};
use crate::support::wait::{LIMIT, in_the_end};
use crate::support::world::options;

/// All tables that it may lock so, on which each other lock is refused.
const TABLES: &str = "select c.oid::regclass::text from pg_catalog.pg_class c
     where c.relkind in ('r', 'p') and has_table_privilege(c.oid, 'select') and c.relnamespace = any ($1::text[]::regnamespace[])
     order by 1";

async fn run(login: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(login).await.unwrap();
}

/// The key under which sqlx locks a database while it migrates, which it is told not to do.
fn key_of_sqlx(database: &str) -> i64 {
    let crc = database.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    0x3d32_ad9e * i64::from(!crc)
}

/// Locks all that a login can lock and keeps it, idle in its transaction.
async fn hold_all(db: &Database, login: &mut PgConnection) -> usize {
    let database = db.text("select current_database()::text").await;
    run(
        login,
        &format!(
            "begin isolation level repeatable read;
             select pg_advisory_lock({}), pg_advisory_lock(hashtext(current_database()));
             select pg_advisory_lock(key), pg_advisory_lock(key, 0) from generate_series(-20, 20) key;
             -- Of a table, a role, a database: keys that one would make out of what there is.
             select pg_advisory_lock(oid::bigint) from (select oid from pg_catalog.pg_class where oid >= 16384 limit 500) c;
             select pg_advisory_xact_lock(hashtext(name)), pg_advisory_xact_lock(hashtextextended(name, 0))
             from unnest(array['vobiz', 'vobiz-cdr', 'rollup', 'partitions', 'wrong sums', 'migrate', 'sweep', 'ledger']) name",
            key_of_sqlx(&database)
        ),
    )
    .await;
    let tables: Vec<String> =
        sqlx::query_scalar(TABLES).bind(vec!["vobiz"]).fetch_all(&mut *login).await.unwrap_or_default();
    for table in &tables {
        run(login, &format!("lock table only {table} in access share mode")).await;
    }
    run(
        login,
        "lock table pg_catalog.pg_class, pg_catalog.pg_attribute, pg_catalog.pg_proc in access share mode",
    )
    .await;
    tables.len()
}

/// What would hold others up is refused.
async fn is_refused_the_rest(login: &mut PgConnection, tables: &[String]) {
    for table in tables {
        for lock in ["row share", "row exclusive", "share update exclusive", "share", "access exclusive"] {
            // On its own the command wants a transaction, which a refusal would leave broken.
            let locking = format!("do $$ begin lock table only {table} in {lock} mode; end $$");
            assert!(is_denied(login, &locking).await, "{table} {lock}");
        }
        for lock in ["update", "no key update", "share", "key share"] {
            assert!(is_denied(login, &format!("select from {table} for {lock}")).await, "{table} for {lock}");
        }
    }
}

#[tokio::test]
async fn no_lock_of_a_login_that_writes_nothing_holds_up_a_call_a_day_or_a_migration() {
    for may_read in [false, true] {
        let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
        let db = &world.database;
        let login = format!("login_{}_{may_read}", std::process::id());
        db.run(&format!("create role {login} login")).await;
        if may_read {
            db.run(&format!(
                "grant usage on schema vobiz to {login}; grant select on all tables in schema vobiz to {login}"
            ))
            .await;
        }
        let mut refused = connect_as(db, &login).await;
        let tables = db
            .texts(
                "select oid::regclass::text from pg_catalog.pg_class
                 where relnamespace = 'vobiz'::regnamespace and relkind in ('r', 'p') order by 1",
            )
            .await;
        is_refused_the_rest(&mut refused, &tables).await;
        let mut holder = connect_as(db, &login).await;
        let held = hold_all(db, &mut holder).await;
        assert_eq!(held, if may_read { tables.len() } else { 0 });

        // A call comes in and is stored.
        let endpoint = Setup::default().open(&db.pool);
        let stored = at(&world, began, 3.0);
        assert_eq!(endpoint.status(Callback::hangup(&stored).by_v3(TOKEN)).await, 200);
        world.advance(TimeDelta::seconds(10)).await;
        world.drain().await;
        assert_eq!(world.stored().await, 1);
        // One that no callback announced is found.
        at(&world, began, 4.0);
        world.sweep().await;
        assert_eq!(world.stored().await, 2);
        // The days are proven, and the sums are folded.
        let checked = in_the_end("the days are proven", check(&world)).await;
        assert_eq!(checked.len(), 2, "{checked:?}");
        let settled = "select count(*) from vobiz.provider_day where state = 'settled'";
        assert_eq!(db.count(settled).await, 2);
        let mut folding = db.connection().await;
        let folded = vobiz_cdr::db::bill::rollup::fold(&mut folding, 1000).await;
        assert!(folded.is_ok(), "{folded:?}");
        // Migrations run: the text is put in place anew, and with it all grants, triggers and functions.
        db.run("update vobiz.repeatable set hash = sha256('another')").await;
        assert_eq!(migration::apply(&db.pool, LIMIT).await.unwrap(), 1);

        let still = all_texts(
            &mut holder,
            "select count(*)::text from pg_catalog.pg_locks where pid = pg_backend_pid()",
        )
        .await;
        assert!(still.unwrap()[0].as_ref().is_some_and(|locks| locks.parse::<usize>().unwrap() > 80 + held));
        drop((holder, refused));
        db.run(&format!("drop owned by {login}; drop role {login}")).await;
        world.end().await;
    }
}
