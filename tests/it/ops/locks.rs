//! Who keeps what ours wait for is named, in `/status`, by process, role and application.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use vobiz_cdr::simulator::Simulator;

use super::{call, service, swept, vobiz};
use crate::support::database::Database;
use crate::support::running::Running;
use crate::support::wait::until;
use crate::support::world::options;

/// A service, and a session of somebody else with the words for it.
async fn beside_somebody() -> (Database, Simulator, Running, PgConnection, String) {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    running.all_is_well().await;
    let options: PgConnectOptions = database.url.parse().unwrap();
    let mut somebody = options.application_name("somebody").connect().await.unwrap();
    let named = sqlx::query_scalar(
        "select format('session %s (role %s, application somebody, in its transaction since ', pg_backend_pid(), current_user)",
    );
    let named = named.fetch_one(&mut somebody).await.unwrap();
    (database, vobiz, running, somebody, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_leases_locked_is_named_although_nobody_waits() {
    let (_database, _vobiz, running, mut somebody, named) = beside_somebody().await;
    for held in [
        "select from vobiz.work_lease for update",
        "select from vobiz.work_lease where name = 'rollup' for no key update",
    ] {
        let mut holding = somebody.begin().await.unwrap();
        sqlx::raw_sql(held).execute(&mut *holding).await.unwrap();
        until("it is said", async || {
            let acts = running.acts().await;
            acts.iter()
                .any(|act| act.starts_with(&named) && act.contains("keeps rows of vobiz.work_lease locked"))
        })
        .await;
        assert!(running.page("/status").await.1.contains("select pg_terminate_backend("), "{held}");
        holding.rollback().await.unwrap();
        running.all_is_well().await;
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lock_stops_names_who_holds_it() {
    let (_database, vobiz, running, mut somebody, named) = beside_somebody().await;
    for (held, stopped) in [
        ("lock table vobiz.cdr_queue in share mode", "callbacks cannot be committed and are answered 503: "),
        (
            "lock table vobiz.account_pause in access exclusive mode",
            "a lock keeps our look at Postgres waiting: ",
        ),
    ] {
        let mut holding = somebody.begin().await.unwrap();
        sqlx::raw_sql(held).execute(&mut *holding).await.unwrap();
        until("it is said", async || {
            call(&vobiz, &running, 1).await;
            let acts = running.acts().await;
            acts.iter().any(|act| act.starts_with(stopped) && act.contains(&named))
        })
        .await;
        holding.rollback().await.unwrap();
        running.all_is_well().await;
    }
    running.end().await;
}
