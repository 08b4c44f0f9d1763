//! Whether callbacks can be taken: what ends readiness, and what does not.

use std::time::{Duration, Instant};

use vobiz_cdr::ops::{Ops, OpsSettings, PORT, Phase, router};
use vobiz_cdr::serve::port::{Limits, listen};
use vobiz_cdr::watch::metrics::Metrics;

use super::{call, service, vobiz};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::Database;
use crate::support::endpoint::Knock;
use crate::support::running::page;
use crate::support::world::{eventually, options};

/// Both ways in which a Postgres can be gone.
async fn a_postgres_that_is_gone(gone: impl Fn(&ChaosProxy)) {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let proxy = ChaosProxy::before(&database.url).await;
    let running = service(&vobiz, &proxy.url).await;
    assert_eq!(call(&vobiz, 2).await, 2);
    running.all_is_well().await;

    gone(&proxy);
    let began = Instant::now();
    assert_eq!(call(&vobiz, 1).await, 0, "503, in Vobiz's time");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let (code, took) = running.timed("/readyz").await;
    assert!(code == 503 && took < Duration::from_secs(3), "{code} after {took:?}");
    assert_eq!(
        running.the_only_act().await,
        "Postgres does not answer: callbacks get 503, nothing is fetched, nothing is lost"
    );
    for path in ["/healthz", "/metrics", "/status"] {
        let (code, took) = running.timed(path).await;
        assert_eq!(code, if path == "/status" { 503 } else { 200 }, "{path}");
        assert!(took < Duration::from_millis(1500), "{path} took {took:?}: it waited for Postgres");
    }
    assert_eq!(running.metric("vobiz_cdr_postgres_up").await, Some(0.0));

    proxy.restore();
    eventually("it is ready again", Duration::from_secs(20), async || running.page("/readyz").await.0 == 200)
        .await;
    running.all_is_well().await;
    assert_eq!(call(&vobiz, 2).await, 2);
    eventually("all are stored", Duration::from_secs(40), async || {
        database.count("select count(*) from vobiz.cdr").await >= 4
    })
    .await;
    database.every_certain_call_is_somewhere().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_swallows_everything_is_seen_by_all_and_holds_up_nobody() {
    a_postgres_that_is_gone(ChaosProxy::black_hole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_cuts_every_connection_is_seen_by_all() {
    a_postgres_that_is_gone(ChaosProxy::cut).await;
}

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
async fn a_port_that_is_full_is_not_ready_and_calls_a_person() {
    let database = Database::new().await;
    let metrics = Metrics::new();
    let settings = OpsSettings {
        parts: vec!["receive"],
        sweep_interval: Duration::from_secs(300),
        poll_every: Duration::from_millis(50),
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
async fn a_stalled_loop_shows_in_status_and_ends_the_readiness_of_whom_it_serves() {
    let database = Database::new().await;
    let settings = OpsSettings {
        parts: vec!["fetch"],
        sweep_interval: Duration::from_secs(300),
        poll_every: Duration::from_millis(50),
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
