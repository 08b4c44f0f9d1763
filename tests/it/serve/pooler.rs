//! The service behind a real PgBouncer: it works where sessions stay sessions, and says in words where they do not.

use sqlx::Row;
use vobiz_cdr::db;
use vobiz_cdr::serve::Service;
use vobiz_cdr::simulator::{CallSpec, Simulator, SimulatorOptions};

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::pgbouncer::PgBouncer;
use crate::support::process::{program, run};
use crate::support::running::Running;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, options, serve_config};

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_in_session_mode_it_works_and_keeps_its_promises() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::before(&database.url, "session", "") else { return };
    database
        .run(
            "do $$ begin
               execute format('alter database %I set synchronous_commit = off', current_database());
               execute format('alter database %I set lock_timeout = 0', current_database());
             end $$",
        )
        .await;
    let checked = run(program(&["migrate", "check"]).env("DATABASE_URL", &pooler.url));
    assert!(checked.status.success(), "{}", checked.stderr);
    let pool = db::connect_service(&pooler.url, "worker", 3).unwrap();
    // Also one that gets a server connection which another has left.
    for _ in 0..3 {
        let mut connection = pool.acquire().await.unwrap().detach();
        let row =
            sqlx::query("select current_setting('synchronous_commit'), current_setting('lock_timeout')")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), ("on", "30s"));
    }
    let vobiz =
        Simulator::start(SimulatorOptions { callback_url: Some(super::SIGNED_FOR.into()), ..options() })
            .await
            .unwrap();
    let service =
        Running::start(serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 500.0), &pooler.url).await;
    for _ in 0..2 {
        let call = vobiz.place_call(CallSpec::default());
        assert_eq!(Callback::of(&vobiz, &call).send(service.public.unwrap()).await, 200);
    }
    until_is("both are stored", 2, async || {
        database.count("select count(*) from vobiz.cdr where first_callback_at is not null").await
    })
    .await;
    service.all_is_well().await;
    service.end().await;
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_mixes_sessions_or_gives_but_one_is_refused_in_words() {
    let vobiz = Simulator::start(options()).await.unwrap();
    for (mode, more, says) in [
        ("transaction", "", "pool_mode = session"),
        ("statement", "", "pool_mode = session"),
        ("session", "default_pool_size = 1", "one session opens and a second one does not"),
    ] {
        let database = Database::new().await;
        let Some(pooler) = PgBouncer::before(&database.url, mode, more) else { return };
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 500.0);
        let refused = Service::prepare(config, &pooler.url, true).await.unwrap_err();
        assert!(format!("{refused:#}").contains(says), "{mode}: {refused:#}");
        for arguments in [
            &["migrate", "check"][..],
            &["report", "billing_day", "--from", "2026-03-01", "--to", "2026-03-02"],
        ] {
            let refused = run(program(arguments).env("DATABASE_URL", &pooler.url));
            assert!(!refused.status.success(), "{mode} {arguments:?}");
            assert!(refused.stderr.contains(says), "{mode} {arguments:?}: {}", refused.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_is_switched_over_under_a_running_service_is_said_and_nothing_is_done_until_it_is_back()
{
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::before(&database.url, "session", "") else { return };
    database
        .run("do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$")
        .await;
    let vobiz =
        Simulator::start(SimulatorOptions { callback_url: Some(super::SIGNED_FOR.into()), ..options() })
            .await
            .unwrap();
    let service =
        Running::start(serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 500.0), &pooler.url).await;
    let send = async || {
        let call = vobiz.place_call(CallSpec::default());
        Callback::of(&vobiz, &call).send(service.public.unwrap()).await
    };
    service.all_is_well().await;
    for mode in ["transaction", "statement"] {
        pooler.switch_to(mode);
        until("it is said", async || {
            let acts = service.acts().await;
            acts.iter()
                .any(|act| act.starts_with("a pooler mixes our sessions of Postgres: callbacks get 503"))
        })
        .await;
        assert!(service.page("/status").await.1.contains("pool_mode = session there"));
        assert_eq!(send().await, 503, "{mode}");
        pooler.switch_to("session");
        until("callbacks are taken again", async || send().await == 200).await;
        service.all_is_well().await;
    }
    service.end().await;
    database.every_certain_call_is_somewhere().await;
}
