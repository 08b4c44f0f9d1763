//! Half a million calls through the queue: what is left of them in tables and dead rows, and what one CDR costs in CPU, WAL,
//! commits and bytes.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::child::Serve;
use crate::harness::vobiz::Vobiz;
use crate::harness::{Bench, database, proc, queue};

const NAME: &str = "churn";

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let calls = bench.size(500_000, 20_000);
    let mut vobiz = Vobiz::start(bench.folder(), calls, &[]).await?;
    let url = bench.database("churn").await?;
    let settings = [("VOBIZ_MAX_RPS", "100000"), ("CDR_CONCURRENCY", "64")];
    let api = vobiz.api_url.clone();
    let serve = Serve::start(bench.folder(), &url, &api, &["--only", "fetch"], &settings).await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    let cpu = (proc::cpu_seconds(serve.pid()), proc::cpu_seconds_of_tree(bench.postgres_pid()));
    let (before, began) = (database::work(&pool).await?, Instant::now());
    let ids = vobiz.ids()?;
    let mut deepest: f64 = 0.0;
    for some in ids.chunks(10_000) {
        // About a second's worth is owed at any time, as at a busy customer's.
        while database::number(&pool, "select count(*)::float8 from vobiz.cdr_queue").await? > 10_000.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        queue::enqueue(&pool, some).await?;
        let dead = "select coalesce(sum(n_dead_tup), 0)::float8 from pg_stat_user_tables where relname = 'cdr_queue'";
        deepest = deepest.max(database::number(&pool, dead).await?);
    }
    queue::all_stored(&pool, calls, Duration::from_secs(300)).await?;
    let elapsed = began.elapsed().as_secs_f64();
    let after = database::work(&pool).await?;
    let counted = vobiz.counted().await?;
    ensure!(counted.fetched_again == 0, "{} calls were fetched twice", counted.fetched_again);
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    let n = calls as f64;
    let report = &mut bench.report;
    report.add(NAME, "CDRs stored", "ours", "per s", n / elapsed);
    report.add(NAME, "WAL per CDR", "ours", "bytes", (after.wal_bytes - before.wal_bytes) / n);
    report.add(NAME, "commits per CDR", "ours", "", (after.commits - before.commits) / n);
    report.add(NAME, "dead rows of the queue, most", "ours", "rows", deepest);
    let end = (proc::cpu_seconds(serve.pid()), proc::cpu_seconds_of_tree(bench.postgres_pid()));
    let report = &mut bench.report;
    if let ((Some(a), Some(b)), (Some(c), Some(d))) = (cpu, end) {
        report.add(NAME, "CPU of serve per CDR", "ours", "µs", (c - a) / n * 1e6);
        report.add(NAME, "CPU of Postgres per CDR", "ours", "µs", (d - b) / n * 1e6);
    }
    if let Some(mib) = proc::peak_mib(serve.pid()) {
        report.add(NAME, "memory of serve", "ours", "MiB", mib);
        report.at_most("churn: memory of serve, MiB", mib, 80.0);
    }
    for (what, sql) in [
        ("queue, table and indexes at the end", "select pg_total_relation_size('vobiz.cdr_queue')::float8"),
        (
            "cdr, bytes per CDR",
            "select pg_table_size('vobiz.cdr')::float8 / (select count(*) from vobiz.cdr)",
        ),
        (
            "cdr, index bytes per CDR",
            "select pg_indexes_size('vobiz.cdr')::float8 / (select count(*) from vobiz.cdr)",
        ),
        (
            "cdr_revision, bytes per CDR",
            "select sum(pg_table_size(relid))::float8 / (select count(*) from vobiz.cdr)
             from pg_partition_tree('vobiz.cdr_revision') where isleaf",
        ),
        (
            "cdr_revision, index bytes per CDR",
            "select sum(pg_indexes_size(relid))::float8 / (select count(*) from vobiz.cdr)
             from pg_partition_tree('vobiz.cdr_revision') where isleaf",
        ),
    ] {
        let value = database::number(&pool, sql).await?;
        bench.report.add(NAME, what, "ours", "bytes", value);
    }
    bench.say_statements(&pool).await?;
    pool.close().await;
    serve.stop().await?;
    vobiz.stop().await?;
    bench.drop_database("churn").await
}
