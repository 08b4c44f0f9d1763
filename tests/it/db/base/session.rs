//! What our sessions promise, whatever a role, a database or the server says otherwise.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Row};
use vobiz_cdr::db;

use crate::support::database::Database;
use crate::support::process::{program, run};

/// What stands against us: for the database, so that it rules in each new session.
const AGAINST: [&str; 7] = [
    "synchronous_commit = off",
    "lock_timeout = 0",
    "row_security = on",
    "standard_conforming_strings = off",
    "default_transaction_isolation = 'serializable'",
    "idle_in_transaction_session_timeout = 0",
    "client_connection_check_interval = 0",
];

async fn set(database: &Database, setting: &str) {
    database
        .run(&format!(
            "do $$ begin execute format('alter database %I set %s', current_database(), $s${setting}$s$); end $$"
        ))
        .await;
}

#[tokio::test]
async fn what_was_asked_for_is_in_force_whatever_the_database_says() {
    let database = Database::new().await;
    for setting in AGAINST {
        set(&database, setting).await;
    }
    let service = db::connect_service(&database.url, "worker", 1).unwrap();
    let command = db::connect(&database.url, "report", 1).unwrap();
    for (pool, idle) in [(service, "1min"), (command, "1h")] {
        let row = sqlx::query(
            "select current_setting('synchronous_commit'), current_setting('lock_timeout'), current_setting('row_security'),
                    current_setting('standard_conforming_strings'), current_setting('transaction_isolation'),
                    current_setting('idle_in_transaction_session_timeout'), current_setting('client_connection_check_interval'),
                    current_setting('jit'), current_setting('timezone')",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        let found: Vec<String> = (0..9).map(|n| row.get(n)).collect();
        assert_eq!(found, ["on", "30s", "off", "on", "read committed", idle, "10s", "off", "UTC"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_which_we_cannot_keep_what_we_promise_is_refused_in_words() {
    for (setting, says) in [
        (
            "session_replication_role = replica",
            "no trigger of vobiz.cdr fires and the bill does not follow the calls",
        ),
        ("search_path = public, pg_catalog", "search_path puts the schema public before pg_catalog"),
    ] {
        let database = Database::new().await;
        set(&database, setting).await;
        for arguments in [
            &["migrate", "check"][..],
            &["report", "billing_day", "--from", "2026-03-01", "--to", "2026-03-02"],
        ] {
            let refused = run(program(arguments).env("DATABASE_URL", &database.url));
            assert!(!refused.status.success(), "{arguments:?}");
            assert!(refused.stderr.contains(says), "{arguments:?}: {}", refused.stderr);
        }
    }
}

#[tokio::test]
async fn connections_that_are_used_up_are_told_by_their_limit() {
    let database = Database::new().await;
    let role = format!("limited_{}", std::process::id());
    database.run(&format!("create role {role} login connection limit 0")).await;
    let options: PgConnectOptions = database.url.parse().unwrap();
    let refused = async || options.clone().username(&role).connect().await.unwrap_err();
    let cause = db::cause(&refused().await);
    assert_eq!(cause.sqlstate.as_deref(), Some("53300"));
    assert!(
        cause.cure.is_some_and(|cure| cure.contains("`alter role NAME connection limit N`")),
        "{cause:?}"
    );
    database.run(&format!("alter role {role} connection limit -1")).await;
    database
        .run("do $$ begin execute format('alter database %I connection limit 0', current_database()); end $$")
        .await;
    let cause = db::cause(&refused().await);
    assert_eq!(cause.sqlstate.as_deref(), Some("53300"));
    assert!(
        cause.cure.is_some_and(|cure| cure.contains("`alter database NAME connection limit N`")),
        "{cause:?}"
    );
    database.run(&format!("drop role {role}")).await;
}
