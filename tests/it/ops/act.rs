//! What calls a person, and what is a matter of readiness alone.

use super::{call, service, swept, vobiz};
use crate::support::database::Database;
use crate::support::endpoint::Knock;
use crate::support::running::page;
use crate::support::world::{eventually, options};
use std::time::Duration;
use vobiz_cdr::ops::{Ops, OpsSettings, PORT, Phase, router};
use vobiz_cdr::serve::port::{Limits, listen};
use vobiz_cdr::simulator::SimulatorOptions;
use vobiz_cdr::watch::metrics::Metrics;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_group_commit_is_a_matter_of_readiness_alone() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    let lock = database.lock_log().await;
    let public = running.public.unwrap();
    let knocks: Vec<_> = (0..200)
        .map(|n| {
            let body = format!("Event=Hangup&CallUUID=c{n}&padding={}", "x".repeat(250 * 1024));
            let knock = Knock::post(body).at("/callbacks/vobiz/test-secret-path-0123");
            tokio::spawn(async move { knock.send(public).await })
        })
        .collect();
    let mut why = String::new();
    eventually("it is not ready", Duration::from_secs(5), async || {
        let (code, text) = running.page("/readyz").await;
        why = text;
        code == 503
    })
    .await;
    assert!(why.starts_with("not ready: callbacks cannot be committed: "), "{why}");
    assert_eq!(running.page("/healthz").await.0, 200);
    assert_eq!(running.acts().await, [""; 0]);
    let mut busy = 0;
    for knock in knocks {
        busy += usize::from(knock.await.unwrap() == 503);
    }
    assert_eq!(busy, 200, "nothing could be committed");
    lock.rollback().await.unwrap();
    eventually("it is ready again", Duration::from_secs(20), async || running.page("/readyz").await.0 == 200)
        .await;
    assert_eq!(running.metric("vobiz_cdr_callbacks_total{result=\"unavailable\"}").await, Some(200.0));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgres_is_not_ready() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    eventually("it is ready", Duration::from_secs(10), async || running.page("/readyz").await.0 == 200).await;
    let name = database.text("select current_database()").await;
    database.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name = 'vobiz-cdr receive'",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(running.page("/readyz").await.0, 503, "the probe goes the whole way of a callback");
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name = 'vobiz-cdr ops'",
        )
        .await;
    assert_eq!(running.the_only_act().await, "this Postgres takes no writes: callbacks get 503");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_cannot_be_committed_call_a_person_although_postgres_answers() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    // As where a partition is missing or the disk of the log is full: everything else works.
    database.run("create function refuse() returns trigger language plpgsql as $$ begin raise sqlstate '53100'; end $$").await;
    database
        .run("create trigger refuse before insert on vobiz.callback for each row execute function refuse()")
        .await;
    let act = async {
        let mut act = String::new();
        eventually("a person is called", Duration::from_secs(30), async || {
            assert_eq!(call(&vobiz, 1).await, 0);
            let acts = running.acts().await;
            act = acts.into_iter().next().unwrap_or_default();
            !act.is_empty()
        })
        .await;
        act
    };
    assert_eq!(act.await, "callbacks cannot be committed and are answered 503");
    database.run("drop trigger refuse on vobiz.callback").await;
    assert_eq!(call(&vobiz, 1).await, 1);
    running.all_is_well().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_full_is_not_ready_and_calls_a_person() {
    let database = Database::new().await;
    let metrics = Metrics::new();
    let settings = OpsSettings {
        parts: vec!["receive"],
        sweep_interval: Duration::from_secs(300),
        look_every: Duration::from_millis(50),
    };
    let ops = Ops::new(settings, metrics.clone());
    ops.set_probe(Some(Box::new(|| Box::pin(async { Ok(()) }))));
    let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (public, private) = (bind().await, bind().await);
    let (endpoint, address) = (public.local_addr().unwrap(), private.local_addr().unwrap());
    tokio::spawn(axum::serve(private, router(ops.clone())).into_future());
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(ops.clone().run(database.pool.clone(), stop.clone()));
    let limits = Limits { headers_within: Duration::from_secs(60), connections: 2 };
    let heartbeat = metrics.heartbeats.start(PORT, Duration::from_millis(300));
    tokio::spawn(listen(public, axum::Router::new(), limits, heartbeat, stop.clone()));
    ops.enter(Phase::Running);
    eventually("it is ready", Duration::from_secs(5), async || page(address, "/readyz").await.0 == 200).await;
    let mut holding = Vec::new();
    for _ in 0..3 {
        holding.push(tokio::net::TcpStream::connect(endpoint).await.unwrap());
    }
    eventually("it is not ready", Duration::from_secs(10), async || page(address, "/readyz").await.0 == 503)
        .await;
    let (code, text) = page(address, "/status").await;
    assert!(code == 503 && text.contains("the public port takes no connections"), "{text}");
    drop(holding);
    eventually("it is ready again", Duration::from_secs(10), async || {
        page(address, "/readyz").await.0 == 200
    })
    .await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_throttled_all_the_time_calls_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    // Ten minutes of the last fifteen, in pauses of a minute each, as they come when every request is refused.
    database
        .run(
            "insert into vobiz.account_pause (account_id, started_at, until_at, reason)
             select 'MA_TESTAB12', now() - make_interval(mins => n), now() - make_interval(mins => n) + interval '59 seconds', 'throttled'
             from generate_series(1, 10) n",
        )
        .await;
    let act = running.the_only_act().await;
    assert!(act.starts_with("account MA_TESTAB12 was throttled (429) for 6"), "{act}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_loop_shows_in_status_and_ends_the_readiness_of_whom_it_serves() {
    let database = Database::new().await;
    let settings = OpsSettings {
        parts: vec!["fetch"],
        sweep_interval: Duration::from_secs(300),
        look_every: Duration::from_millis(50),
    };
    for receives in [false, true] {
        let metrics = Metrics::new();
        let ops = Ops::new(settings.clone(), metrics.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router(ops.clone())).into_future());
        assert_eq!(page(address, "/readyz").await, (503, "not ready: starting\n".into()));
        let stop = tokio_util::sync::CancellationToken::new();
        tokio::spawn(ops.clone().run(database.pool.clone(), stop.clone()));
        if receives {
            // Whoever receives and can commit is ready: callbacks must not be thrown away for the sake of a fetch.
            ops.set_probe(Some(Box::new(|| Box::pin(async { Ok(()) }))));
        }
        ops.enter(Phase::Running);
        let heartbeat = metrics.heartbeats.start("fetch", Duration::from_millis(300));
        eventually("it is ready", Duration::from_secs(5), async || page(address, "/readyz").await.0 == 200)
            .await;
        assert_eq!(page(address, "/status").await.0, 200);
        eventually("the loop is seen to stand still", Duration::from_secs(5), async || {
            let (code, text) = page(address, "/status").await;
            code == 503 && text.contains("the loop `fetch` makes no progress")
        })
        .await;
        assert_eq!(page(address, "/readyz").await.0, if receives { 200 } else { 503 });
        assert_eq!(page(address, "/healthz").await.0, 200);
        heartbeat.beat();
        assert_eq!(page(address, "/status").await.0, 200);
        ops.enter(Phase::Stopping);
        assert_eq!(page(address, "/readyz").await, (503, "not ready: stopping\n".into()));
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_partitions_dead_letters_and_strangers_calls_call_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(SimulatorOptions { clock_ahead: 90, ..options() }).await;
    let running = service(&vobiz, &database.url).await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
               values ('x', 'MA_GONE', false, true, now());
             insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, failures, error_class,
                                          last_error, first_failed_at, dead_at)
               values ('d', 'MA_TESTAB12', true, true, now(), 5, 'refused', '422', now(), now());
             do $$ begin execute (select format('alter table vobiz.callback detach partition vobiz.%I',
                                    'callback_' || to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM'))); end $$;",
        )
        .await;
    let mut acts = Vec::new();
    eventually("all is said", Duration::from_secs(30), async || {
        acts = running.acts().await;
        acts.len() >= 4
    })
    .await;
    let says = |word: &str| acts.iter().filter(|act| act.contains(word)).count() == 1;
    assert!(says("the clock of the Vobiz API is 9") && says("ahead of ours"), "{acts:?}");
    assert!(says("partitions are missing: callback_"), "{acts:?}");
    assert!(says("1 dead letter of account MA_TESTAB12: refused"), "{acts:?}");
    assert!(says("1 calls are owed for account MA_GONE, which is not configured"), "{acts:?}");
    assert_eq!(acts.len(), 4, "{acts:?}");
    assert_eq!(running.metric("vobiz_cdr_dead_letters{class=\"refused\"}").await, Some(1.0));
    assert_eq!(running.metric("vobiz_cdr_queue_calls{state=\"dead\"}").await, Some(1.0));
    assert_eq!(running.page("/readyz").await.0, 200);
    running.end().await;
}
