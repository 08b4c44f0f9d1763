//! Faults as ordinary tests: kill -9, several replicas, a Postgres that goes away, the word to stop.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use vobiz_cdr::config::ServeConfig;
use vobiz_cdr::db;
use vobiz_cdr::postgres::{Postgres, PostgresOptions};
use vobiz_cdr::serve::{Ending, Service};
use vobiz_cdr::simulator::{Call, CallSpec, Simulator, SimulatorOptions, Traffic, TrafficProgress};

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::process::{Serve, free_port, program, run};
use crate::support::running::page;
use crate::support::wait::{until, until_is, until_some};
use crate::support::world::{TOKEN, options, pool, rate_was_held, serve_config};

/// The URL that Vobiz signs for; the callbacks go to a port of this machine, as behind a proxy.
const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";

fn settings<'a>(database: &'a str, api: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("DATABASE_URL", database),
        ("VOBIZ_API_URL", api),
        ("VOBIZ_AUTH_ID", ACCOUNT),
        ("VOBIZ_AUTH_TOKEN", TOKEN),
        ("VOBIZ_MAX_RPS", "2000"),
        ("CDR_CALLBACK_URL", SIGNED_FOR),
        ("CDR_FIRST_FETCH_DELAY", "100ms"),
        ("CDR_REQUEST_TIMEOUT", "1s"),
        // The queue alone has to do it: no sweep after the first one, which finds nothing.
        ("CDR_SWEEP_INTERVAL", "24h"),
    ]
}

async fn vobiz(options: SimulatorOptions) -> Simulator {
    Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_callback_answered_200_has_its_cdr_after_ten_kills() {
    let database = Database::new().await;
    let latency = Duration::from_millis(20);
    let vobiz =
        vobiz(SimulatorOptions { latency, callback_backoff: Duration::from_millis(200), ..options() }).await;
    let port = free_port();
    vobiz.set_callback_sent_to(&format!("http://127.0.0.1:{port}/callbacks/vobiz"));
    let api = vobiz.api_url();
    let settings = settings(&database.url, &api);
    let mut serve = Serve::start(port, &settings);

    // Calls come until the last kill, from two lines: one may have to wait for callbacks that are sent again.
    let over = CancellationToken::new();
    let progress: [Arc<TrafficProgress>; 2] = Default::default();
    let lines: Vec<_> = progress
        .iter()
        .map(|progress| {
            let (vobiz, progress, over) = (vobiz.clone(), Arc::clone(progress), over.clone());
            let traffic =
                Traffic { calls: 60, per_second: 125, early_callbacks: false, ..Traffic::default() };
            tokio::spawn(async move {
                while !over.is_cancelled() {
                    vobiz.run(&traffic, &progress).await;
                }
            })
        })
        .collect();
    let answered = || progress.iter().map(|progress| progress.summary().acknowledged).sum::<u64>();
    for n in 0..10 {
        // A moment of its own each time, which a busy machine reaches later; every third one right after the start.
        let more = if n % 3 == 2 { 0 } else { rand::random_range(20..150) };
        let enough = answered() + more;
        until("callbacks are answered", async || answered() >= enough).await;
        println!("killed after {more} answers");
        serve.kill();
        serve = Serve::start(port, &settings);
    }
    over.cancel();
    for line in lines {
        line.await.unwrap();
    }
    let summaries = progress.map(|progress| progress.summary());
    assert!(summaries.iter().all(|line| line.placed > 0 && line.acknowledged > 0), "{summaries:?}");

    // What was in hand at a kill falls due when its lease ends: 16 s here.
    until_is("the queue is empty", 0, async || database.count("select count(*) from vobiz.cdr_queue").await)
        .await;
    let stored: Vec<String> =
        sqlx::query_scalar("select call_id from vobiz.cdr where first_callback_at is not null")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    let stored: BTreeSet<String> = stored.into_iter().collect();
    let acknowledged: Vec<String> =
        vobiz.calls().into_iter().filter(|call| call.acknowledged).map(|call| call.call_id).collect();
    assert_eq!(acknowledged.len() as u64, summaries.iter().map(|line| line.acknowledged).sum::<u64>());
    let lost: Vec<&String> = acknowledged.iter().filter(|call| !stored.contains(*call)).collect();
    assert!(lost.is_empty(), "answered 200 and not stored: {lost:?}");
    let rows = database.count("select count(*) from vobiz.cdr").await;
    assert_eq!(rows, database.count("select count(distinct call_id) from vobiz.cdr").await);
    assert_eq!(rows, database.count("select count(*) from vobiz.cdr_revision").await, "one version each");
    database.every_certain_call_is_somewhere().await;
}

/// Fetches that the two replicas may have under way at once.
const UNDER_WAY: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_fetch_no_call_at_the_same_time_and_hold_the_limit_together() {
    let database = Database::new().await;
    let vobiz = vobiz(SimulatorOptions { latency: Duration::from_millis(50), ..options() }).await;
    let stop = CancellationToken::new();
    let mut replicas = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let config = ServeConfig {
            concurrency: UNDER_WAY / 2,
            ..serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 60.0)
        };
        let service = Service::prepare(config, &database.url, true).await.unwrap();
        addresses.push(service.address().unwrap());
        replicas.push(tokio::spawn(service.run(stop.clone(), Ending::AtOnce)));
    }
    // The first sweep would find the calls before their callbacks do.
    until_is("the first sweep is over", 1, async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await
    })
    .await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        // Never so many that pages of the list are cheaper, and all at once, so that the limit is what they wait for.
        let wave: Vec<Call> = (0..75).map(|_| vobiz.place_call(CallSpec::default())).collect();
        // Every callback comes twice, once to each replica, as retries do.
        let sent =
            wave.iter().flat_map(|call| addresses.iter().map(|to| Callback::of(&vobiz, call).send(*to)));
        assert_eq!(futures_util::future::join_all(sent).await, [200; 150]);
        calls.extend(wave);
        until_is("none is owed", 0, async || database.count("select count(*) from vobiz.cdr_queue").await)
            .await;
    }
    until("all are stored", async || {
        database.count("select count(*) from vobiz.cdr").await == 300
            && database.count("select count(*) from vobiz.cdr_queue").await == 0
    })
    .await;
    let stats = vobiz.stats();
    assert_eq!(stats.max_concurrent_fetches, 1);
    for call in &calls {
        assert_eq!(stats.fetches_of(&call.call_id), 1, "{}", call.call_id);
    }
    // How near they come to it is a matter of the benchmark `replicas`.
    // Beside the fetches a sweep, a drain and a check may be under way in each.
    rate_was_held(&stats.asked_at, 60.0, UNDER_WAY + 6);
    stop.cancel();
    for replica in replicas {
        replica.await.unwrap().unwrap();
    }
    database.every_certain_call_is_somewhere().await;
}

/// Two ways in which one process may be wrong: its URL, and its token.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_a_wrong_url_or_token_does_not_stop_the_other_and_status_names_it() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for (wrong, error) in [
        (("VOBIZ_API_URL", nowhere.as_str()), "unavailable: no connection"),
        (("VOBIZ_AUTH_TOKEN", "tok_old"), "denied: 401"),
    ] {
        let database = Database::new().await;
        let vobiz = vobiz(options()).await;
        let api = vobiz.api_url();
        let settings = settings(&database.url, &api);
        let fetching = |settings: &[(&str, &str)]| {
            let mut command = program(&["serve", "--only", "fetch"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            Serve::start_by(command, 0, settings)
        };
        let healthy = fetching(&settings);
        let broken = fetching(&[settings.clone(), vec![wrong]].concat());
        let broken_pid = format!("pid {}", broken.id());
        let ops: SocketAddr = healthy.ops.parse().unwrap();
        let acts = async || page(ops, "/status").await.1;
        // Until it is said at the other process who is wrong, and why.
        until("the other one says who cannot work", async || {
            let said = acts().await;
            said.contains("one replica asks for no calls")
                && said.contains(&broken_pid)
                && said.contains(error)
        })
        .await;
        // Until both had said that they are there, either may have been the only one.
        let pauses = "select count(*) from vobiz.account_pause";
        let before = database.count(pauses).await;
        for stored in 1..=40 {
            let call = vobiz.place_call(CallSpec::default());
            database.owe(&[&call.call_id], true).await;
            until_is("it is fetched", stored, async || {
                database.count("select count(*) from vobiz.cdr").await
            })
            .await;
        }
        assert_eq!(database.count(pauses).await, before, "nobody was paused for all");
        drop(broken);
        database.run("update vobiz.account_replica set seen_at = now() - interval '1 hour' where pause_reason is not null").await;
        until("and all is well without it", async || page(ops, "/status").await.0 == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_goes_away_means_503_and_costs_no_call_anything() {
    let folder = tempfile::Builder::new().prefix("vobiz-cdr-away.").tempdir().unwrap();
    let start = || {
        Postgres::start(PostgresOptions {
            data_dir: folder.path().join("data"),
            bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
            settings: Vec::new(),
        })
    };
    let postgres = start().await.unwrap();
    let url = postgres.url("vobiz");
    db::create_database(&url, "vobiz").await.unwrap();
    let vobiz = vobiz(SimulatorOptions { latency: Duration::from_millis(300), ..options() }).await;
    let stop = CancellationToken::new();
    let config = ServeConfig {
        request_timeout: Duration::from_secs(10),
        ..serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0)
    };
    let service = Service::prepare(config, &url, true).await.unwrap();
    let address = service.address().unwrap();
    let serving = tokio::spawn(service.run(stop.clone(), Ending::AtOnce));
    // Vobiz would wait for three seconds, and is answered before: src/receive/endpoint.rs holds its limits to it, and the benchmark
    // `refusal` what they lead to.
    let send = async |call: &Call| Callback::hangup(&call.call_id).by_v3(TOKEN).send(address).await;

    let before: Vec<Call> = (0..20).map(|_| vobiz.place_call(CallSpec::default())).collect();
    for call in &before {
        assert_eq!(send(call).await, 200);
    }
    // Their first fetches are under way when Postgres goes.
    tokio::time::sleep(Duration::from_millis(250)).await;
    postgres.stop().await.unwrap();
    let during: Vec<Call> = (0..5).map(|_| vobiz.place_call(CallSpec::default())).collect();
    for call in &during {
        assert_eq!(send(call).await, 503);
    }
    let postgres = start().await.unwrap();
    for call in &during {
        until_is("callbacks are taken again", 200, async || send(call).await).await;
    }
    let reading = pool(&url);
    let count =
        async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&reading).await.unwrap();
    // What was in hand falls due when its lease ends: 25 s here.
    until("all are stored", async || {
        assert_eq!(count("select count(*) from vobiz.cdr_queue where failures > 0").await, 0);
        count("select count(*) from vobiz.cdr").await == 25
    })
    .await;
    assert_eq!(count("select count(*) from vobiz.cdr where first_callback_at is null").await, 0);
    stop.cancel();
    serving.await.unwrap().unwrap();
    reading.close().await;
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_fetches_ends_well_and_loses_nothing() {
    let database = Database::new().await;
    let vobiz = vobiz(SimulatorOptions { latency: Duration::from_millis(700), ..options() }).await;
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let api = vobiz.api_url();
    // No answer that is in hand is to be given up, however late it is.
    let settings = [settings(&database.url, &api), vec![("CDR_REQUEST_TIMEOUT", "10s")]].concat();
    let mut serve = Serve::start(port, &settings);
    let calls: Vec<Call> = (0..60).map(|_| vobiz.place_call(CallSpec::default())).collect();
    for call in &calls {
        assert_eq!(Callback::of(&vobiz, call).send(address).await, 200);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ops = serve.ops.clone();
    let healthy = || {
        let address = ops.clone();
        tokio::task::spawn_blocking(move || {
            run(&mut program(&["healthcheck", "--ops-listen", &address])).status.code()
        })
    };
    assert_eq!(healthy().await.unwrap(), Some(0));
    let told = std::time::Instant::now();
    serve.terminate();
    let ops: SocketAddr = ops.parse().unwrap();
    until_is("it is about to stop", 503, async || page(ops, "/readyz").await.0).await;
    // The endpoint stays open for five seconds: trunk webhooks are not sent again. A busy machine notices its end later, never sooner.
    let (mut late, mut unanswered) = (0, Vec::new());
    until_some("the port is closed", async || {
        let call = vobiz.place_call(CallSpec::default());
        let answer = Callback::of(&vobiz, &call).try_send(address).await;
        match answer {
            Ok(200) => late += 1,
            // What a busy machine does not commit in time may be committed all the same.
            _ => unanswered.push(call.call_id),
        }
        answer.err().ok_or(late)
    })
    .await;
    assert!(told.elapsed() >= Duration::from_secs(4), "callbacks were taken for {:?} only", told.elapsed());
    assert!(late > 0, "none was taken after the word to stop");
    let status = tokio::task::spawn_blocking(move || serve.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(healthy().await.unwrap(), Some(1));
    // The answer to the last one may have been cut off.
    let answered = format!("call_id <> all ('{{{}}}')", unanswered.join(","));
    let stored = database.count(&format!("select count(*) from vobiz.cdr where {answered}")).await;
    let owed = database
        .count(&format!(
            "select count(*) from vobiz.cdr_queue where failures = 0 and dead_at is null and {answered}"
        ))
        .await;
    assert_eq!(stored + owed, 60 + late);
    let in_hand = database.count("select count(*) from vobiz.cdr_queue where lease_id is not null").await;
    assert_eq!(in_hand, 0, "what was in hand was finished");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_while_calls_are_in_flight_costs_them_nothing() {
    let database = Database::new().await;
    let vobiz =
        vobiz(SimulatorOptions { latency: Duration::from_millis(100), rate_limit: Some(8), ..options() })
            .await;
    let stop = CancellationToken::new();
    // We are set to 200 a second, Vobiz to 8: it throttles while many calls are in flight.
    let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 200.0);
    let service = Service::prepare(config, &database.url, true).await.unwrap();
    let address = service.address().unwrap();
    let serving = tokio::spawn(service.run(stop.clone(), Ending::AtOnce));
    // The first sweep would bring them all with one page.
    until("the first sweep is over", async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await == 1
    })
    .await;
    // All at once, so that they are owed faster than Vobiz lets them be fetched.
    let calls: Vec<Call> = (0..80).map(|_| vobiz.place_call(CallSpec::default())).collect();
    let sent = calls.iter().map(|call| Callback::of(&vobiz, call).send(address));
    assert_eq!(futures_util::future::join_all(sent).await, [200; 80]);
    until("all are stored", async || {
        assert_eq!(database.count("select count(*) from vobiz.cdr_queue where failures > 0").await, 0);
        database.count("select count(*) from vobiz.cdr").await == 80
    })
    .await;
    let statuses = vobiz.stats().statuses;
    let throttled = statuses.get(&429).copied().unwrap_or(0);
    assert!(throttled > 0, "it was throttled at all");
    // Each pause halves the rate, so the limit is found in a few steps instead of being run into again and again.
    assert!(throttled < 80, "{throttled} refusals");
    stop.cancel();
    serving.await.unwrap().unwrap();
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_of_our_own_that_dies_ends_the_service_and_the_next_start_goes_on() {
    let folder = tempfile::Builder::new().prefix("vobiz-cdr-own.").tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let vobiz = vobiz(options()).await;
    let (port, api) = (free_port(), vobiz.api_url());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut settings: Vec<_> =
        settings("", &api).into_iter().filter(|(name, _)| *name != "DATABASE_URL").collect();
    settings.push(("CDR_DATA_DIR", &data));
    let mut serve = Serve::start(port, &settings);
    let call = vobiz.place_call(CallSpec::default());
    assert_eq!(Callback::of(&vobiz, &call).send(address).await, 200);

    // The first line of postmaster.pid is the server's process.
    let cluster = std::fs::read_dir(&data)
        .unwrap()
        .flatten()
        .find(|e| e.file_name().to_string_lossy().starts_with("pgdata-"));
    let pid_file = std::fs::read_to_string(cluster.unwrap().path().join("postmaster.pid")).unwrap();
    let pid = pid_file.lines().next().unwrap().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let mut serve = tokio::task::spawn_blocking(move || {
        assert_eq!(serve.wait().code(), Some(1));
        serve
    })
    .await
    .unwrap();
    serve = {
        drop(serve);
        Serve::start(port, &settings)
    };
    let url = vobiz_cdr::postgres::url_of_running(std::path::Path::new(&data), "vobiz").unwrap();
    let reading = pool(&url);
    until("the call is stored", async || {
        let stored = sqlx::query_scalar::<_, i64>(
            "select count(*) from vobiz.cdr where first_callback_at is not null",
        );
        stored.fetch_one(&reading).await.unwrap() == 1
    })
    .await;
    reading.close().await;
    serve.terminate();
    let status = tokio::task::spawn_blocking(move || serve.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}
