//! The ops port: every trouble shows where it should, and only there; and it answers whatever else does not.

mod act;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vobiz_cdr::simulator::{CallSpec, CallbackKind, Simulator, SimulatorOptions};

use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Knock;
use crate::support::process::{program, run};
use crate::support::running::{Running, page};
use crate::support::world::{TOKEN, eventually, options, serve_config};

const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";

async fn vobiz(options: SimulatorOptions) -> Simulator {
    Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options }).await.unwrap()
}

async fn service(vobiz: &Simulator, url: &str) -> Running {
    let running = Running::start(serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0), url).await;
    vobiz.set_callback_sent_to(&running.callbacks());
    running
}

/// The first sweep would find calls before their callbacks do, and then nothing is fetched.
async fn swept(database: &Database) {
    eventually("the first sweep is over", Duration::from_secs(10), async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await == 1
    })
    .await;
}

/// Sends callbacks of so many calls; how many were answered 200.
async fn call(vobiz: &Simulator, calls: usize) -> usize {
    let mut taken = 0;
    for _ in 0..calls {
        let call = vobiz.place_call(CallSpec::default());
        taken += usize::from(vobiz.send_callback(&call, CallbackKind::Hangup).await.unwrap() == 200);
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_service_says_so_everywhere() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    assert_eq!(call(&vobiz, 3).await, 3);
    eventually("the calls are stored and counted", Duration::from_secs(20), async || {
        running.metric("vobiz_cdr_fetch_total{outcome=\"fetched\"}").await == Some(3.0)
            && running.metric("vobiz_cdr_freshness_seconds_count").await == Some(3.0)
            && running.metric("vobiz_cdr_queue_calls{state=\"due\"}").await == Some(0.0)
    })
    .await;
    assert_eq!(running.page("/healthz").await, (200, "ok\n".into()));
    assert_eq!(running.page("/readyz").await, (200, "ready\n".into()));
    running.all_is_well().await;
    for (series, value) in [
        ("vobiz_cdr_callbacks_total{result=\"committed\"}", 3.0),
        ("vobiz_cdr_callback_duration_seconds_count", 3.0),
        ("vobiz_cdr_postgres_up", 1.0),
        ("vobiz_cdr_dead_letters{class=\"refused\"}", 0.0),
        ("vobiz_cdr_account_paused{account=\"MA_TESTAB12\",reason=\"denied\"}", 0.0),
        ("vobiz_cdr_queue_oldest_due_seconds{account=\"MA_TESTAB12\"}", 0.0),
        ("vobiz_cdr_clock_skew_seconds{against=\"vobiz\"}", 0.0),
    ] {
        assert_eq!(running.metric(series).await, Some(value), "{series}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for name in [
        "group_commit",
        "fetch",
        "store",
        "sweep MA_TESTAB12",
        "drain MA_TESTAB12",
        "ledger MA_TESTAB12",
        "poll",
        "count",
    ] {
        let series = format!("vobiz_cdr_worker_last_progress_timestamp_seconds{{loop=\"{name}\"}}");
        let moved = running.metric(&series).await.unwrap();
        assert!((now - moved).abs() < 10.0, "{name}: {moved} against {now}");
    }
    // Nothing of it is public.
    for path in ["/readyz", "/status", "/metrics"] {
        assert_eq!(page(running.public.unwrap(), path).await.0, 404, "{path}");
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_well_formed_and_name_no_call() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    let placed = vobiz.place_call(CallSpec::default());
    assert_eq!(vobiz.send_callback(&placed, CallbackKind::Hangup).await.unwrap(), 200);
    eventually("it is stored", Duration::from_secs(20), async || {
        running.metric("vobiz_cdr_freshness_seconds_count").await == Some(1.0)
    })
    .await;
    let (_, text) = running.page("/metrics").await;
    for secret in [placed.call_id.as_str(), placed.from.as_str(), "+91", TOKEN] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    let mut described = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(name.starts_with("vobiz_cdr_") && help.ends_with('.'), "{line}");
            assert!(described.insert(name.to_owned()), "{name} is described twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(name) || described.contains(base.unwrap()), "{line}");
        }
    }
    promtool_agrees(&text);
    running.end().await;
}

/// Prometheus's own check, where it is installed (Debian: prometheus).
#[expect(clippy::print_stderr, reason = "what was not checked must be said")]
fn promtool_agrees(text: &str) {
    use std::io::Write;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        eprintln!("promtool is not installed: its check of /metrics was not run");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.trim().is_empty(), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_shows_in_status_and_turns_no_callback_away() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    vobiz.set_token(ACCOUNT, "another-token");
    let running = service(&vobiz, &database.url).await;
    let knock = Knock::hangup("a-call").by_v3(TOKEN);
    assert_eq!(knock.send(running.public.unwrap()).await, 200);
    let act = running.the_only_act().await;
    assert_eq!(act, "account MA_TESTAB12 is paused: denied");
    let series = "vobiz_cdr_account_paused{account=\"MA_TESTAB12\",reason=\"denied\"}";
    assert_eq!(running.metric(series).await, Some(1.0));
    assert_eq!(running.page("/readyz").await.0, 200);
    assert_eq!(running.page("/healthz").await.0, 200);
    assert_eq!(Knock::hangup("another").by_v3(TOKEN).send(running.public.unwrap()).await, 200);

    // The command says the same, and its exit code calls somebody.
    let address = running.ops.to_string();
    let said = tokio::task::spawn_blocking(move || {
        (
            run(&mut program(&["status", "--ops-listen", &address])),
            run(&mut program(&["status", "--json", "--ops-listen", &address])),
        )
    });
    let (words, json) = said.await.unwrap();
    assert_eq!((words.status.code(), json.status.code()), (Some(1), Some(1)), "{}", words.stderr);
    assert!(words.stdout.contains("a person must act"), "{}", words.stdout);
    assert!(
        words.stdout.contains("is paused: denied") && words.stdout.contains("SIGHUP"),
        "{}",
        words.stdout
    );
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["accounts"][0]["pause_reason"], "denied");
    running.end().await;
}

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
        assert!(took < Duration::from_millis(500), "{path} took {took:?}");
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
async fn a_scrape_takes_20_ms_at_most_with_three_million_owed_calls() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
             select 'call-' || n, 'MA_TESTAB12', true, true, now() + interval '1 day' from generate_series(1, 3000000) n",
        )
        .await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    eventually("the queue is counted", Duration::from_secs(60), async || {
        running.metric("vobiz_cdr_queue_calls{state=\"waiting\"}").await == Some(3_000_000.0)
    })
    .await;
    for path in ["/metrics", "/status"] {
        let mut took = Vec::new();
        for _ in 0..50 {
            took.push(running.timed(path).await.1);
        }
        took.sort();
        // The machine may be busy with other tests: the median is the service's own time.
        assert!(took[25] < Duration::from_millis(20), "{path}: {took:?}");
    }
    let (code, took) = running.timed("/readyz").await;
    assert!(code == 200 && took < Duration::from_secs(1), "{code} after {took:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_of_a_service_give_up_on_clients_that_say_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    let given_up = async |address, first: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let began = Instant::now();
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await.unwrap();
        began.elapsed()
    };
    let (public, ops) = (running.public.unwrap(), running.ops);
    let waits = tokio::join!(
        given_up(public, b""),
        given_up(public, b"POST /callbacks/vobiz HTTP/1.1\r\nHo"),
        given_up(ops, b""),
        given_up(ops, b"GET /metrics HTTP/1.1\r\nHo"),
    );
    for waited in [waits.0, waits.1, waits.2, waits.3] {
        assert!(waited > Duration::from_secs(5) && waited < Duration::from_secs(20), "{waited:?}");
    }
    // Half-open: the client is gone without a word, and its connection is not kept.
    assert_eq!(running.page("/readyz").await.0, 200);
    running.end().await;
}
