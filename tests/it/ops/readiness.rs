//! Whether callbacks can be taken: what ends readiness, and what does not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tower::ServiceExt as _;
use vobiz_cdr::ops::{Ops, OpsSettings, PORT, Phase, router};
use vobiz_cdr::serve::port::{Limits, PUBLIC, listen};
use vobiz_cdr::watch::metrics::Metrics;

use super::{call, service, vobiz};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::port::Busy;
use crate::support::running::page;
use crate::support::wait::{LIMIT, until, until_is, until_some};
use crate::support::world::{TOKEN, account, credentials, options, pool};

/// Both ways in which a Postgres can be gone.
async fn a_postgres_that_is_gone(gone: impl Fn(&ChaosProxy)) {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let proxy = ChaosProxy::before(&database.url).await;
    let running = service(&vobiz, &proxy.url).await;
    assert_eq!(call(&vobiz, &running, 2).await, 2);
    running.all_is_well().await;

    gone(&proxy);
    let turned_away = Callback::hangup("turned-away").at("/callbacks/vobiz/test-secret-path-0123");
    assert_eq!(turned_away.send(running.public.unwrap()).await, 503);
    assert_eq!(running.page("/readyz").await.0, 503);
    let act = running.the_only_act().await;
    let reason = act
        .strip_prefix("Postgres does not answer: callbacks get 503, nothing is fetched, nothing is lost (");
    assert!(reason.is_some_and(|reason| reason.len() > 5), "with its reason: {act}");
    for (path, code) in [("/healthz", 200), ("/metrics", 200), ("/status", 503)] {
        assert_eq!(running.page(path).await.0, code, "{path}");
    }
    assert_eq!(running.metric("vobiz_cdr_postgres_up").await, Some(0.0));

    proxy.restore();
    until_is("it is ready again", 200, async || running.page("/readyz").await.0).await;
    running.all_is_well().await;
    assert_eq!(call(&vobiz, &running, 2).await, 2);
    until("all are stored", async || database.count("select count(*) from vobiz.cdr").await >= 4).await;
    database.every_certain_call_is_somewhere().await;
    running.end().await;
}

/// All pages but `/readyz` come from memory: nothing of them waits, for Postgres least of all, so each is there when it is first looked
/// at.
#[test]
fn no_page_but_readyz_waits_for_anything() {
    let settings = OpsSettings {
        parts: vec!["receive", "fetch"],
        warnings: vec![],
        sweep_interval: Duration::from_secs(300),
        poll_every: Duration::from_secs(2),
    };
    let ops = Ops::new(settings, Metrics::new());
    ops.enter(Phase::Running);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nowhere = runtime.block_on(async {
        let pool = pool("postgres://vobiz@127.0.0.1:9/vobiz");
        account(&pool, "http://127.0.0.1:9", credentials(ACCOUNT, &[TOKEN]), 1.0)
    });
    ops.set_accounts(vec![nowhere]);
    // No runtime drives anything from here on.
    for path in ["/healthz", "/metrics", "/status"] {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = router(ops.clone()).oneshot(request).now_or_never();
        let answer = answer.unwrap_or_else(|| panic!("{path} waits for something")).unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
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
    let callbacks: Vec<_> = (0..200)
        .map(|n| {
            let body = format!("Event=Hangup&CallUUID=c{n}&padding={}", "x".repeat(250 * 1024));
            let callback = Callback::post(body).at("/callbacks/vobiz/test-secret-path-0123");
            tokio::spawn(async move { callback.send(public).await })
        })
        .collect();
    let why = until_some("it is not ready", async || {
        let (code, text) = running.page("/readyz").await;
        if code == 503 { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(why.starts_with("not ready: callbacks cannot be committed: "), "{why}");
    assert_eq!(running.page("/healthz").await.0, 200);
    assert_eq!(running.acts().await, [""; 0]);
    for callback in callbacks {
        assert_eq!(callback.await.unwrap(), 503, "nothing could be committed");
    }
    lock.rollback().await.unwrap();
    until_is("it is ready again", 200, async || running.page("/readyz").await.0).await;
    assert_eq!(running.metric("vobiz_cdr_callbacks_total{result=\"unavailable\"}").await, Some(200.0));
    running.end().await;
}

/// A probe that writes no row needs no room in a data file and no partition: it would be green while each callback is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_refuses_callbacks_alone_is_not_ready_until_it_would_take_them() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    until_is("it is ready", 200, async || running.page("/readyz").await.0).await;
    // No room in a data file of the log; none in that of the queue, which a lack of permission stands for.
    for (table, code) in [("callback", "53100"), ("cdr_queue", "42501")] {
        database
            .run(&format!(
                "create function refuse() returns trigger language plpgsql as $$ begin raise sqlstate '{code}'; end $$;
                 create trigger refuse before insert on vobiz.{table} for each row execute function refuse()"
            ))
            .await;
        assert_eq!(call(&vobiz, &running, 1).await, 0);
        until_is("it is not ready", 503, async || running.page("/readyz").await.0).await;
        database.run(&format!("drop trigger refuse on vobiz.{table}; drop function refuse")).await;
        // No callback comes meanwhile: who balances the load sends none.
        until_is("it is ready again", 200, async || running.page("/readyz").await.0).await;
    }
    assert_eq!(call(&vobiz, &running, 1).await, 1);
    assert_eq!(
        database.count("select count(*) from vobiz.callback").await,
        1,
        "what was tried was taken back"
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgres_is_not_ready() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    until_is("it is ready", 200, async || running.page("/readyz").await.0).await;
    let name = database.text("select current_database()").await;
    database.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name = 'vobiz-cdr receive'",
        )
        .await;
    // The probe goes the whole way of a callback.
    until_is("it is not ready", 503, async || running.page("/readyz").await.0).await;
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name = 'vobiz-cdr ops'",
        )
        .await;
    assert_eq!(running.the_only_act().await, "this Postgres takes no writes: callbacks get 503");
    let (_, status) = running.page("/status").await;
    assert!(status.contains("it was set for this database"), "{status}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_full_is_not_ready_and_calls_a_person() {
    let database = Database::new().await;
    let metrics = Metrics::new();
    let settings = OpsSettings {
        parts: vec!["receive"],
        warnings: vec![],
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
    // Requests that are at work for ever: what keeps a port waiting gives way.
    let limits = Limits { request_within: LIMIT, connections: 2, ..PUBLIC };
    let busy = Busy::default();
    let heartbeat = metrics.heartbeats.start(PORT, Duration::from_millis(300));
    tokio::spawn(listen(public, busy.router(), limits, metrics.clone(), heartbeat, stop.clone()));
    ops.enter(Phase::Running);
    until_is("it is ready", 200, async || page(address, "/readyz").await.0).await;
    let mut holding = Vec::new();
    for n in 1..=3 {
        let mut stream = tokio::net::TcpStream::connect(endpoint).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        holding.push(stream);
        // Else the next one takes its place.
        until_is("it is at work", n.min(2), async || busy.began.load(Ordering::Relaxed)).await;
    }
    until_is("it is not ready", 503, async || page(address, "/readyz").await.0).await;
    let (code, text) = page(address, "/status").await;
    assert!(code == 503 && text.contains("the public port takes no connections"), "{text}");
    busy.end.cancel();
    until_is("it is ready again", 200, async || page(address, "/readyz").await.0).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_loop_shows_in_status_and_ends_the_readiness_of_whom_it_serves() {
    let database = Database::new().await;
    let settings = OpsSettings {
        parts: vec!["fetch"],
        warnings: vec![],
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
            // A service that receives and can commit is ready: callbacks must not be thrown away for the sake of a fetch.
            ops.set_probe(Some(Box::new(|| Box::pin(async { Ok(()) }))));
        }
        let heartbeat = metrics.heartbeats.start("fetch", Duration::from_millis(300));
        // It may stall between any two polls, and then beats again.
        until("it is ready and well", async || {
            heartbeat.beat();
            ops.enter(Phase::Running);
            page(address, "/readyz").await.0 == 200 && page(address, "/status").await.0 == 200
        })
        .await;
        until("the loop is seen to have stalled", async || {
            let (code, text) = page(address, "/status").await;
            code == 503 && text.contains("the loop `fetch` makes no progress")
        })
        .await;
        assert_eq!(page(address, "/readyz").await.0, if receives { 200 } else { 503 });
        assert_eq!(page(address, "/healthz").await.0, 200);
        until_is("it is well again", 200, async || {
            heartbeat.beat();
            page(address, "/status").await.0
        })
        .await;
        ops.enter(Phase::Stopping);
        assert_eq!(page(address, "/readyz").await, (503, "not ready: stopping\n".into()));
        stop.cancel();
    }
}
