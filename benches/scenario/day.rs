//! The customer's day: 300,000 calls in nine hours at `VOBIZ_MAX_RPS=10`, which is 9.3 calls a second; with the sweeps beside
//! them, single fetches alone cannot keep up. Pressed into fewer minutes at rates that are higher by as much; the sweep's
//! interval shrinks as well, its overlaps (1 h and 26 h) do not, so there is more to list than on a real day. The checks of the
//! two days before fall due at the start: they are listed and compared meanwhile, with what the rate limit leaves them.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::child::Serve;
use crate::harness::vobiz::Vobiz;
use crate::harness::{Bench, database, proc};

const NAME: &str = "day";
const MINUTES: u32 = 9 * 60;
const CALLS: u32 = 300_000;
/// Calls of the two days before, for each ten of the day.
const BEFORE: usize = 1;

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let minutes = bench.args.day_minutes.clamp(1, MINUTES);
    let faster = f64::from(MINUTES) / f64::from(minutes);
    let calls = bench.size(CALLS, CALLS / minutes);
    let per_second = (f64::from(CALLS) / (f64::from(minutes) * 60.0)).ceil();
    let before = calls as usize / 10 * BEFORE;
    let flags = ["--cdr-delay-ms", "1000", "--latency-ms", "20", "--spread", "172800"];
    let mut vobiz = Vobiz::start(bench.folder(), before, &flags).await?;
    let url = bench.database("day").await?;
    let (rate, sweep) = ((10.0 * faster).to_string(), format!("{}ms", (300_000.0 / faster).round()));
    let settings = [("VOBIZ_MAX_RPS", rate.as_str()), ("CDR_SWEEP_INTERVAL", sweep.as_str())];
    let api = vobiz.api_url.clone();
    let serve = Serve::start(bench.folder(), &url, &api, &[], &settings).await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    sqlx::query("update vobiz.account set ledger_since = ledger_since - interval '2 days'")
        .execute(&pool)
        .await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "calls a second")]
    let acknowledged = vobiz.traffic(calls.into(), per_second as u32, &serve.address).await?;
    // What fell due in the last moments is no backlog.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let owed = database::number(&pool, "select count(*)::float8 from vobiz.cdr_queue").await?;
    let counted = vobiz.counted().await?;
    ensure!(acknowledged == u64::from(calls), "{acknowledged} of {calls} callbacks were answered 200");
    let stored = "select count(*)::float8 from vobiz.cdr where first_callback_at is not null";
    let all = database::reaches(&pool, stored, f64::from(calls), Duration::from_secs(120)).await?;
    ensure!(all, "not all CDRs are stored two minutes after the last call");
    for (share, name, sql) in [
        (
            0.5,
            "p50",
            "select percentile_disc(0.5) within group (order by extract(epoch from stored_at - end_time))::float8 from vobiz.cdr where first_callback_at is not null",
        ),
        (
            0.99,
            "p99",
            "select percentile_disc(0.99) within group (order by extract(epoch from stored_at - end_time))::float8 from vobiz.cdr where first_callback_at is not null",
        ),
        (
            1.0,
            "most",
            "select max(extract(epoch from stored_at - end_time))::float8 from vobiz.cdr where first_callback_at is not null",
        ),
    ] {
        let seconds = database::number(&pool, sql).await?;
        bench.report.add(NAME, &format!("end of a call to its CDR, {name}"), "ours", "s", seconds);
        if share < 1.0 {
            let bar = if share < 0.9 { 10.0 } else { 60.0 };
            bench.report.at_most(&format!("day: {name} of freshness, s"), seconds, bar);
        }
    }
    let settled = "select count(*)::float8 from vobiz.provider_day where state = 'settled' and to_at < now() - interval '1 hour'";
    let closed = "select count(*)::float8 from vobiz.provider_day where to_at < now() - interval '1 hour'";
    let (settled, closed) = (database::number(&pool, settled).await?, database::number(&pool, closed).await?);
    let listed = "select coalesce(sum(requests), 0)::float8 from vobiz.ledger_check";
    let listed = database::number(&pool, listed).await?;
    let report = &mut bench.report;
    report.add(NAME, "days before that were settled meanwhile", "ours", "days", settled);
    report.add(NAME, "pages for their checks", "ours", "pages", listed);
    report.at_most("day: days before that were not settled meanwhile", closed - settled, 0.0);
    report.add(NAME, "owed 10 s after the last call", "ours", "calls", owed);
    report.at_most("day: owed 10 s after the last call, in seconds of traffic", owed / per_second, 1.0);
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    let (singles, pages) = (counted.singles as f64, counted.pages as f64);
    report.add(NAME, "single fetches per call", "ours", "", singles / f64::from(calls));
    report.add(NAME, "list pages per call", "ours", "", pages / f64::from(calls));
    report.add(NAME, "requests a second", "ours", "per s", (singles + pages) / (f64::from(minutes) * 60.0));
    if let Some(mib) = proc::peak_mib(serve.pid()) {
        report.add(NAME, "memory of serve", "ours", "MiB", mib);
        report.at_most("day: memory of serve, MiB", mib, 80.0);
    }
    pool.close().await;
    serve.stop().await?;
    vobiz.stop().await
}
