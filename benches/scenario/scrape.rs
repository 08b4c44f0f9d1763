//! A scrape of `/metrics` and a poll of `/status`, one after the other, with an empty queue and with 100 thousand owed calls: what is
//! shown was counted beforehand, so the size of the queue must not show in the time.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::harness::child::Serve;
use crate::harness::load::Latencies;
use crate::harness::{Bench, queue};

const NAME: &str = "scrape";
/// Scrapes of a turn.
const SCRAPES: usize = 300;

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes = [("an empty queue", 0), ("100 thousand owed calls", bench.size(100_000, 10_000))];
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
    for _ in 0..bench.args.rounds {
        bench.report.take_noise();
        for (name, owed) in sizes {
            let url = bench.database("scrape").await?;
            let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
            // Not due for as long as this is measured.
            queue::owe(&pool, owed, "vobiz.now() + interval '1 day'").await?;
            let parts = ["--only", "receive"];
            let serve = Serve::start(bench.folder(), &url, "http://127.0.0.1:9", &parts, &[]).await?;
            let page = |path: &str| format!("http://{}{path}", serve.ops);
            counted(&http, &page("/metrics"), owed).await?;
            for path in ["/metrics", "/status"] {
                let mut each = Vec::new();
                for _ in 0..SCRAPES {
                    let sent = Instant::now();
                    http.get(page(path)).send().await?.bytes().await?;
                    each.push(sent.elapsed());
                }
                let latencies = Latencies::new(each);
                for (share, percentile) in [(0.5, "p50"), (0.99, "p99")] {
                    bench.report.add(NAME, &format!("{path}, {percentile}"), name, "ms", latencies.ms(share));
                }
            }
            serve.stop().await?;
            pool.close().await;
        }
    }
    let p99 = bench.report.median(NAME, "/metrics, p99", sizes[1].0);
    bench.report.at_most("scrape: p99 of /metrics with 100 thousand owed calls, ms", p99, 20.0);
    bench.drop_database("scrape").await
}

/// Waits until the queue is counted.
async fn counted(http: &reqwest::Client, metrics: &str, owed: i32) -> anyhow::Result<()> {
    let line = format!("vobiz_cdr_queue_calls{{state=\"waiting\"}} {owed}");
    for _ in 0..600 {
        let answer = http.get(metrics).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        if answer.text().await?.lines().any(|shown| shown == line) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{metrics} does not say {line} after a minute")
}
