//! Callbacks: as many as each variant takes at 16 to 512 connections, and the time to the answer at a fixed 2,000 a second.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::child::{Serve, Talking};
use crate::harness::load::{self, Pace};
use crate::harness::report::say;
use crate::harness::{Bench, database, disk, proc, requests};

const NAME: &str = "callbacks";
const VARIANTS: [&str; 4] = ["no database", "one insert each", "one insert each, our pool", "ours"];

/// Something that takes callbacks.
enum Endpoint {
    Role(Talking, String),
    Ours(Serve),
}

impl Endpoint {
    async fn open(bench: &Bench, variant: &str) -> anyhow::Result<(Self, String)> {
        let url = bench.database("callbacks").await?;
        let role = match variant {
            "ours" => {
                // No callback falls due while we measure, so that fetching them costs nothing here.
                let settings = [("CDR_FIRST_FETCH_DELAY", "1h")];
                let nowhere = "http://127.0.0.1:9";
                let parts = ["--only", "receive"];
                let serve = Serve::start(bench.folder(), &url, nowhere, &parts, &settings).await?;
                return Ok((Self::Ours(serve), url));
            }
            "one insert each" => "insert",
            "one insert each, our pool" => "insert-our-pool",
            _ => "handler",
        };
        let (talking, address) = Talking::role(&[role, "--database-url", &url]).await?;
        Ok((Self::Role(talking, address), url))
    }

    fn address(&self) -> &str {
        match self {
            Self::Role(_, address) => address,
            Self::Ours(serve) => &serve.address,
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Role(talking, _) => talking.stop().await,
            Self::Ours(serve) => serve.stop().await,
        }
    }
}

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(4), Duration::from_secs(1));
    let enough = bench.size(130_000, 20_000);
    say("  making signed callbacks");
    let requests = requests::hangups(enough, 1).await?;
    for _ in 0..bench.args.rounds {
        for connections in bench.args.connections.clone() {
            bench.report.take_noise();
            for variant in VARIANTS.into_iter().filter(|variant| bench.wants(variant)).collect::<Vec<_>>() {
                let (endpoint, url) = Endpoint::open(bench, variant).await?;
                let again = variant == "no database";
                let met =
                    load::run(endpoint.address(), &requests, connections, Pace::Closed, time, again).await?;
                ensure!(met.failed == 0, "{variant}: {} answers were not 200", met.failed);
                if !again {
                    all_kept(&url, met.latencies.len()).await?;
                }
                let what = format!("{connections} connections");
                bench.report.add(NAME, &what, variant, "per s", met.per_second);
                for (share, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
                    bench.report.add(
                        NAME,
                        &format!("{what}, {name}"),
                        variant,
                        "ms",
                        met.latencies.ms(share),
                    );
                }
                if let Endpoint::Ours(serve) = &endpoint
                    && let Some(mib) = proc::peak_mib(serve.pid())
                {
                    bench.report.add(NAME, &format!("{what}, memory"), variant, "MiB", mib);
                }
                if variant == "ours" {
                    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
                    bench.say_statements(&pool).await?;
                    pool.close().await;
                }
                endpoint.close().await?;
            }
        }
        steady(bench, &requests).await?;
    }
    let report = &mut bench.report;
    let over_single = report.ratio(NAME, "64 connections", "ours", "one insert each");
    report.at_least("callbacks: ours / one insert each, 64 connections", over_single, 4.0);
    let of_nothing = report.ratio(NAME, "64 connections", "ours", "no database");
    report.at_least("callbacks: ours / no database, 64 connections", of_nothing, 0.3);
    let p99 = report.median(NAME, "2000 a second, p99", "ours");
    let bar = 25.0 + report.median(NAME, "fsync beside 2000 a second, p99", "the disk");
    report.at_most("callbacks: p99 at 2000 a second, ms", p99, bar);
    report.at_most(
        "callbacks: memory of serve at 512 connections, MiB",
        report.median(NAME, "512 connections, memory", "ours"),
        80.0,
    );
    Ok(())
}

/// Every answer 200 must be in the log and on the queue: a fast answer that keeps nothing is no figure.
async fn all_kept(url: &str, answered: usize) -> anyhow::Result<()> {
    let pool = vobiz_cdr::db::connect(url, "bench", 1)?;
    let kept = database::number(&pool, "select count(*)::float8 from vobiz.callback").await?;
    let owed = database::number(&pool, "select count(*)::float8 from vobiz.cdr_queue").await?;
    pool.close().await;
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let answered = answered as f64;
    ensure!(kept >= answered && owed >= answered, "answered {answered}, kept {kept}, owed {owed}");
    Ok(())
}

/// 2,000 a second, as a large call centre's peak, and the disk's own pace beside it.
async fn steady(bench: &mut Bench, requests: &std::sync::Arc<Vec<bytes::Bytes>>) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(15), Duration::from_secs(3));
    for variant in VARIANTS.into_iter().filter(|variant| bench.wants(variant)).collect::<Vec<_>>() {
        let (endpoint, _) = Endpoint::open(bench, variant).await?;
        let (met, disk) = tokio::join!(
            load::run(endpoint.address(), requests, 64, Pace::PerSecond(2000), time, true),
            disk::fsyncs(bench.folder(), time)
        );
        let (met, disk) = (met?, disk?);
        ensure!(met.failed == 0, "{variant}: {} answers were not 200", met.failed);
        bench.report.add(NAME, "2000 a second, got", variant, "per s", met.per_second);
        for (share, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
            bench.report.add(NAME, &format!("2000 a second, {name}"), variant, "ms", met.latencies.ms(share));
        }
        if variant == "ours" {
            let what = "fsync beside 2000 a second, p99";
            bench.report.add(NAME, what, "the disk", "ms", disk.ms(0.99));
        }
        endpoint.close().await?;
    }
    Ok(())
}
