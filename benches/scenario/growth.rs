//! How cost grows: with the rate of calls (1, 10, 100 a second, each for a minute), and with the CDRs that are there already
//! (none, one million, ten million): what storing the next ones costs, how fast they drain, and how many bytes each takes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::PgPool;

use crate::harness::child::Serve;
use crate::harness::report::say;
use crate::harness::vobiz::Vobiz;
use crate::harness::{Bench, database, proc, queue};

const NAME: &str = "growth";
const SECONDS: u32 = 60;
const DRAINED: usize = 20_000;
/// Rows that are made in one statement.
const CHUNK: i64 = 500_000;

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for rate in [1, 10, 100] {
        if bench.wants(&format!("{rate} calls/s")) {
            by_rate(bench, rate).await?;
        }
    }
    if bench.wants("CDRs") {
        by_rows(bench).await?;
    }
    Ok(())
}

/// A minute of calls at a rate: callbacks, fetches, sweeps, all of it.
async fn by_rate(bench: &mut Bench, rate: u32) -> anyhow::Result<()> {
    let seconds = bench.size(SECONDS, 5);
    let variant = format!("{rate} calls/s");
    let mut vobiz =
        Vobiz::start(bench.folder(), 0, &["--cdr-delay-ms", "1000", "--latency-ms", "20"]).await?;
    let url = bench.database("growth").await?;
    let api = vobiz.api_url.clone();
    let settings = [("VOBIZ_MAX_RPS", "200"), ("CDR_SWEEP_INTERVAL", "30s")];
    let serve = Serve::start(bench.folder(), &url, &api, &[], &settings).await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    // What a start costs is not what running costs.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = || (proc::cpu_seconds(serve.pid()), proc::cpu_seconds_of_tree(bench.postgres_pid()));
    let (before, worked, began) = (cpu(), database::work(&pool).await?, Instant::now());
    let calls = u64::from(rate * seconds);
    let acknowledged = vobiz.traffic(calls, rate, &serve.address).await?;
    ensure!(acknowledged == calls, "{acknowledged} of {calls} callbacks were answered 200");
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    let wanted = calls as f64;
    let stored = "select count(*)::float8 from vobiz.cdr";
    ensure!(database::reaches(&pool, stored, wanted, Duration::from_secs(60)).await?, "not all are stored");
    let (after, done, elapsed) = (cpu(), database::work(&pool).await?, began.elapsed().as_secs_f64());
    let report = &mut bench.report;
    if let ((Some(a), Some(b)), (Some(c), Some(d))) = (before, after) {
        report.add(NAME, "CPU of serve", &variant, "% of a core", (c - a) / elapsed * 100.0);
        report.add(NAME, "CPU of Postgres", &variant, "% of a core", (d - b) / elapsed * 100.0);
    }
    report.add(NAME, "WAL", &variant, "bytes per s", (done.wal_bytes - worked.wal_bytes) / elapsed);
    report.add(NAME, "commits", &variant, "per s", (done.commits - worked.commits) / elapsed);
    let fresh = "select percentile_disc(0.99) within group (order by extract(epoch from stored_at - end_time))::float8 from vobiz.cdr";
    report.add(NAME, "end of a call to its CDR, p99", &variant, "s", database::number(&pool, fresh).await?);
    if let Some(mib) = proc::peak_mib(serve.pid()) {
        report.add(NAME, "memory of serve", &variant, "MiB", mib);
    }
    pool.close().await;
    serve.stop().await?;
    vobiz.stop().await
}

/// The same drain on ever more rows.
async fn by_rows(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes = bench.size([0, 1_000_000, 10_000_000], [0, 20_000, 100_000]);
    let drained = bench.size(DRAINED, 1_000);
    // One call more each time: its row is the pattern for those that are made.
    let vobiz = Vobiz::start(bench.folder(), (drained + 1) * sizes.len(), &[]).await?;
    let ids = vobiz.ids()?;
    let url = bench.database("growth").await?;
    let api = vobiz.api_url.clone();
    let settings = [("VOBIZ_MAX_RPS", "100000"), ("CDR_CONCURRENCY", "128")];
    let serve = Serve::start(bench.folder(), &url, &api, &["--only", "fetch"], &settings).await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    let mut made = 0;
    for (n, size) in sizes.into_iter().enumerate() {
        let (pattern, rest) =
            ids[n * (drained + 1)..(n + 1) * (drained + 1)].split_first().context("no call")?;
        through(&pool, std::slice::from_ref(pattern)).await?;
        while made < size {
            let some = CHUNK.min(size - made);
            make(&pool, pattern, some).await?;
            made += some;
            say(&format!("  {made} of {size} CDRs are made"));
        }
        sqlx::query("vacuum (analyze) vobiz.cdr").execute(&pool).await?;
        sqlx::query("checkpoint").execute(&pool).await?;
        let variant = format!("{size} CDRs");
        for sql in
            ["drop table if exists began", "create temporary table began as select vobiz.now() as began_at"]
        {
            sqlx::query(sql).execute(&pool).await?;
        }
        let worked = database::work(&pool).await?;
        through(&pool, rest).await?;
        let done = database::work(&pool).await?;
        #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
        let calls = drained as f64;
        let report = &mut bench.report;
        report.add(NAME, "CDRs stored", &variant, "per s", database::number(&pool, RATE).await?);
        report.add(NAME, "WAL per CDR", &variant, "bytes", (done.wal_bytes - worked.wal_bytes) / calls);
        for (what, sql) in [(
            "bytes per CDR, all of it",
            "select (pg_total_relation_size('vobiz.cdr') + (select sum(pg_total_relation_size(relid)) from pg_partition_tree('vobiz.cdr_revision') where isleaf))::float8 / (select greatest(1, reltuples) from pg_class where oid = 'vobiz.cdr'::regclass)",
        )] {
            if size > 0 {
                report.add(NAME, what, &variant, "bytes", database::number(&pool, sql).await?);
            }
        }
    }
    bench.say_statements(&pool).await?;
    pool.close().await;
    serve.stop().await?;
    vobiz.stop().await?;
    bench.drop_database("growth").await
}

/// CDRs stored a second since the drain began, from the first group on: a queue that was empty for long is polled every few
/// seconds, and that is no cost.
const RATE: &str = "select (count(*) filter (where stored_at > first) / extract(epoch from max(stored_at) - min(first)))::float8
     from (select stored_at, min(stored_at) over () as first from vobiz.cdr where stored_at >= (select began_at from began)) s";

/// Owes calls and waits until nothing is owed.
async fn through(pool: &PgPool, ids: &[String]) -> anyhow::Result<()> {
    queue::enqueue(pool, ids).await?;
    let deadline = Instant::now() + Duration::from_secs(300);
    while database::number(pool, "select count(*)::float8 from vobiz.cdr_queue").await? > 0.0 {
        ensure!(Instant::now() < deadline, "the queue does not drain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Makes CDRs like one that is there, over the last 90 days, with keys of their own. Without triggers: what they do for rows of
/// the past is not what is measured here.
async fn make(pool: &PgPool, pattern: &str, rows: i64) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("set local session_replication_role = replica").execute(&mut *transaction).await?;
    sqlx::query("create temporary table made (call_id text) on commit drop")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("insert into made select gen_random_uuid()::text from generate_series(1, $1)")
        .bind(rows)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into vobiz.cdr (call_id, vobiz_id, account_id, call_direction, caller_id_name, caller_id_number, destination_number,
                                start_time, progress_time, answer_time, end_time, duration, billsec, ring_time, cost,
                                streaming_cost, total_cost, currency, hangup_cause, hangup_cause_code, hangup_cause_name,
                                hangup_disposition, hangup_source, bridge_uuid, sip_call_id, sip_user_agent, codec, mos, jitter,
                                packet_loss, network_addr, carrier_ip, context, region, origination_region, created_at,
                                updated_at, caller_e164, destination_e164, listed_by, origin, first_callback_at, attempts,
                                stored_at, fetched_at, revision, content_hash)
         select m.call_id, vobiz_id, account_id, call_direction, caller_id_name, caller_id_number, destination_number,
                start_time - a.ago, progress_time - a.ago, answer_time - a.ago, end_time - a.ago, duration, billsec, ring_time, cost,
                streaming_cost, total_cost, currency, hangup_cause, hangup_cause_code, hangup_cause_name, hangup_disposition,
                hangup_source, bridge_uuid, sip_call_id, sip_user_agent, codec, mos, jitter, packet_loss, network_addr, carrier_ip,
                context, region, origination_region, created_at - a.ago, updated_at - a.ago, caller_e164, destination_e164,
                listed_by, origin, first_callback_at, attempts, stored_at, fetched_at, 1, content_hash
         from made m cross join lateral (select random() * interval '90 days' as ago where m.call_id <> '') a
         cross join (select * from vobiz.cdr where call_id = $1) c",
    )
    .bind(pattern)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into vobiz.cdr_revision (call_id, revision, fetched_at, account_id, source, updated_at, day_at, call_direction,
                                         duration, billsec, cost, streaming_cost, total_cost, currency, content_hash, payload)
         select m.call_id, 1, fetched_at, account_id, source, updated_at, day_at, call_direction, duration, billsec, cost,
                streaming_cost, total_cost, currency, content_hash, payload
         from made m cross join (select * from vobiz.cdr_revision where call_id = $1 limit 1) r",
    )
    .bind(pattern)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
