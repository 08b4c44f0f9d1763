//! The drain: 30,000 owed calls, and how fast their CDRs are stored. Before the clock starts, a few hundred calls have gone
//! through each variant, so that nothing is cold.

use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use crate::harness::child::{Serve, Talking};
use crate::harness::report::say;
use crate::harness::vobiz::Vobiz;
use crate::harness::{ACCOUNT, Bench, TOKEN, database, proc, queue};

const NAME: &str = "drain";
const WARM: usize = 500;

/// Who drains.
#[derive(Debug, Clone, Copy)]
enum Variant {
    Bare(&'static str),
    Single(&'static str),
    Peer(&'static str),
    Ours,
}

impl Variant {
    fn name(self) -> String {
        match self {
            Self::Bare(_) => "bare fetch loop".into(),
            Self::Single(workers) => format!("one at a time, {workers} workers"),
            Self::Peer(name) => name.into(),
            Self::Ours => "ours".into(),
        }
    }
}

/// Requests under way at once: what a latency needs to be hidden, the same for all who take a number.
fn concurrency(latency: u64) -> &'static str {
    match latency {
        0 => "128",
        _ => "256",
    }
}

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let calls = bench.size(30_000, 3_000);
    let graphile = "graphile_worker";
    for latency in bench.args.latencies.clone() {
        let latency_text = latency.to_string();
        let mut variants = vec![
            Variant::Bare(concurrency(latency)),
            Variant::Single("20"),
            Variant::Single("64"),
            Variant::Ours,
        ];
        if bench.args.peers.is_some() {
            variants.extend([Variant::Peer(graphile), Variant::Peer("apalis-postgres")]);
        } else {
            say("  peers are not built: left out (./dev bench builds them)");
        }
        variants.retain(|variant| bench.wants(&variant.name()));
        let flags = ["--latency-ms", &latency_text];
        let mut vobiz = Vobiz::start(bench.folder(), WARM + calls, &flags).await?;
        for _ in 0..bench.args.rounds {
            bench.report.take_noise();
            for &variant in &variants {
                // Some take minutes where each request takes long; a tenth of the calls gives the same rate.
                let calls = match variant {
                    Variant::Single(_) if latency >= 100 => calls / 10,
                    _ => calls,
                };
                let before = vobiz.counted().await?.singles;
                let (seconds, url) = drain(bench, variant, &vobiz, calls, latency).await?;
                #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
                let rate = calls as f64 / seconds;
                bench.report.add(NAME, &format!("latency {latency} ms"), &variant.name(), "per s", rate);
                let asked = vobiz.counted().await?.singles - before;
                anyhow::ensure!(asked == (WARM + calls) as u64, "{variant:?} asked {asked} times");
                drop(url);
            }
        }
        vobiz.stop().await?;
        let what = format!("latency {latency} ms");
        let report = &mut bench.report;
        for (base, bar) in [("one at a time, 20 workers", 6.0), (graphile, 3.5), ("bare fetch loop", 0.3)] {
            let ratio = report.ratio(NAME, &what, "ours", base);
            let name = format!("drain: ours / {base}, latency {latency} ms");
            if latency == 0 && ratio.is_finite() {
                report.at_least(&name, ratio, bar);
            } else {
                say(&format!("  {name}: {ratio:.2}"));
            }
        }
    }
    Ok(())
}

/// One turn of one variant: seconds for `calls` calls, and the database in which they lie.
async fn drain(
    bench: &mut Bench,
    variant: Variant,
    vobiz: &Vobiz,
    calls: usize,
    latency: u64,
) -> anyhow::Result<(f64, String)> {
    let url = bench.database("drain").await?;
    let ids_file = vobiz.ids.display().to_string();
    let (workers, role) = match variant {
        Variant::Bare(workers) => (workers, "bare"),
        Variant::Single(workers) => (workers, "single"),
        Variant::Peer(_) | Variant::Ours => (concurrency(latency), ""),
    };
    let api = &vobiz.api_url;
    let shared = ["--workers", workers, "--api-url", api, "--database-url", &url, "--ids", &ids_file];
    let limit = Duration::from_secs(300);
    let all = format!("go {WARM} {}", WARM + calls);
    let warm = format!("go 0 {WARM}");
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    let seconds = match variant {
        Variant::Bare(_) => {
            let (mut role, _) = Talking::role(&[&[role][..], &shared].concat()).await?;
            role.order(&warm).await?;
            let seconds = role.order(&all).await?.parse()?;
            role.stop().await?;
            seconds
        }
        Variant::Single(_) | Variant::Peer(_) => {
            let (mut worker, _) = if let Variant::Peer(name) = variant {
                let mut command = Command::new(bench.args.peers.as_ref().context("no peers")?);
                command.arg(if name == "graphile_worker" { "graphile" } else { "apalis" });
                command.args(shared).args(["--auth-id", ACCOUNT, "--auth-token", TOKEN]);
                Talking::start(command).await?
            } else {
                Talking::role(&[&[role][..], &shared].concat()).await?
            };
            worker.order(&warm).await?;
            queue::all_stored(&pool, WARM, limit).await?;
            let said = worker.order(&all).await?;
            let began: f64 = said.trim_start_matches("enqueued").trim().parse()?;
            let ended = queue::all_stored(&pool, WARM + calls, limit).await?;
            worker.stop().await?;
            ended - began
        }
        Variant::Ours => {
            let settings = [("CDR_CONCURRENCY", workers), ("VOBIZ_MAX_RPS", "100000")];
            let serve = Serve::start(bench.folder(), &url, api, &["--only", "fetch"], &settings).await?;
            let ids = vobiz.ids()?;
            queue::enqueue(&pool, &ids[..WARM]).await?;
            queue::all_stored(&pool, WARM, limit).await?;
            let cpu = (proc::cpu_seconds(serve.pid()), proc::cpu_seconds_of_tree(bench.postgres_pid()));
            let before = database::work(&pool).await?;
            let began = queue::enqueue(&pool, &ids[WARM..]).await?;
            let ended = queue::all_stored(&pool, WARM + calls, limit).await?;
            let after = database::work(&pool).await?;
            let cost = (proc::cpu_seconds(serve.pid()), proc::cpu_seconds_of_tree(bench.postgres_pid()));
            #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
            let n = calls as f64;
            let what = |name: &str| format!("{name}, latency {latency} ms");
            let report = &mut bench.report;
            report.add(NAME, &what("WAL per CDR"), "ours", "bytes", (after.wal_bytes - before.wal_bytes) / n);
            report.add(NAME, &what("commits per CDR"), "ours", "", (after.commits - before.commits) / n);
            if let ((Some(a), Some(b)), (Some(c), Some(d))) = (cpu, cost) {
                report.add(NAME, &what("CPU of serve per CDR"), "ours", "µs", (c - a) / n * 1e6);
                report.add(NAME, &what("CPU of Postgres per CDR"), "ours", "µs", (d - b) / n * 1e6);
            }
            if let Some(mib) = proc::peak_mib(serve.pid()) {
                report.add(NAME, &what("memory of serve"), "ours", "MiB", mib);
            }
            bench.say_statements(&pool).await?;
            serve.stop().await?;
            ended - began
        }
    };
    pool.close().await;
    Ok((seconds, url))
}
