//! A start that has to wait.

use sqlx::Connection;
use vobiz_cdr::serve::Service;
use vobiz_cdr::simulator::Simulator;

use crate::support::database::{ACCOUNT, Database};
use crate::support::world::{TOKEN, options, serve_config};

/// Somebody's open transaction keeps what each start looks at or writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_by_a_lock_names_who_holds_it() {
    let vobiz = Simulator::start(options()).await.unwrap();
    for lock in
        ["select * from vobiz.account for update", "lock table vobiz.account in access exclusive mode"]
    {
        let database = Database::new().await;
        let mut other = database.connection().await;
        let mut transaction = other.begin().await.unwrap();
        sqlx::query("set local application_name = 'dba'").execute(&mut *transaction).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *transaction).await.unwrap();
        let pid: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        let Err(error) = Service::prepare(config, &database.url, true).await else {
            panic!("{lock}: it started")
        };
        let words = format!("{error:#}");
        let names = format!("the start waited for a lock that session {pid} (role ");
        assert!(words.contains(&names) && words.contains("application dba"), "{lock}: {words}");
        assert!(words.contains(&format!("pg_terminate_backend({pid})")), "{lock}: {words}");
        transaction.rollback().await.unwrap();
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        assert!(Service::prepare(config, &database.url, true).await.is_ok(), "{lock}");
    }
}
