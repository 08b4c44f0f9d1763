//! The ops port: every condition shows where it should, and only there; and it answers whatever else does not.

mod locks;
mod metrics;
mod readiness;
mod status;

use vobiz_cdr::simulator::{CallSpec, Simulator, SimulatorOptions};

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::running::{Running, page};
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, options, serve_config};

/// The loops of a whole service with one account.
const LOOPS: [&str; 8] = [
    "group_commit",
    "fetch",
    "store",
    "sweep MA_TESTAB12",
    "drain MA_TESTAB12",
    "ledger MA_TESTAB12",
    "poll",
    "count",
];

const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";

pub(crate) async fn vobiz(options: SimulatorOptions) -> Simulator {
    Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options }).await.unwrap()
}

pub(crate) async fn service(vobiz: &Simulator, url: &str) -> Running {
    let running = Running::start(serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0), url).await;
    vobiz.set_callback_sent_to(&running.callbacks());
    running
}

/// The first sweep would find calls before their callbacks do, and then nothing is fetched.
async fn swept(database: &Database) {
    until_is("the first sweep is over", 1, async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await
    })
    .await;
}

/// Sends callbacks of so many calls, each of which must be answered; how many were answered 200.
async fn call(vobiz: &Simulator, running: &Running, calls: usize) -> usize {
    let mut taken = 0;
    for _ in 0..calls {
        let call = vobiz.place_call(CallSpec::default());
        let status = Callback::of(vobiz, &call).send(running.public.unwrap()).await;
        assert!(matches!(status, 200 | 503), "{status}");
        taken += usize::from(status == 200);
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_service_says_so_everywhere() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    let progress = async |name: &str| {
        let series = format!("vobiz_cdr_worker_last_progress_timestamp_seconds{{loop=\"{name}\"}}");
        running.metric(&series).await.unwrap()
    };
    let mut before = Vec::new();
    for name in LOOPS {
        before.push(progress(name).await);
    }
    assert_eq!(call(&vobiz, &running, 3).await, 3);
    until("the calls are stored and counted", async || {
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
    // What beat only at its start, or never, stays where it was.
    for (name, before) in LOOPS.into_iter().zip(before) {
        until("the loop has moved", async || progress(name).await > before + 0.5).await;
        let moved = progress(name).await;
        assert!((now - moved).abs() < 100.0, "{name}: {moved} against {now}");
    }
    // Nothing of it is public.
    for path in ["/readyz", "/status", "/metrics"] {
        assert_eq!(page(running.public.unwrap(), path).await.0, 404, "{path}");
    }
    running.end().await;
}
