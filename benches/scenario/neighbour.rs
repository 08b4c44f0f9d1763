//! A hostile neighbour: three overlapping reports of a minute each on the same database, and a session that forgot its open
//! transaction, while 800 calls a second flow for two minutes. A session that keeps an old snapshot open keeps the dead rows of
//! every queue from being removed; a queue that reads through them to find the next call slows down and never recovers.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::harness::child::Serve;
use crate::harness::load::{self, Pace};
use crate::harness::vobiz::Vobiz;
use crate::harness::{Bench, database, proc, requests};

const NAME: &str = "neighbour";
const PER_SECOND: u32 = 800;

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(120), Duration::from_secs(15));
    let calls = PER_SECOND as usize * usize::try_from(time.as_secs())?;
    // The same seed draws the same calls: the callbacks are those of the calls that this Vobiz has.
    let requests = requests::hangups(calls, 1).await?;
    let vobiz = Vobiz::start(bench.folder(), calls, &["--latency-ms", "20"]).await?;
    for neighbour in ["nobody else", "three reports and a forgotten transaction"] {
        let url = bench.database("neighbour").await?;
        let settings = [("VOBIZ_MAX_RPS", "5000"), ("CDR_FIRST_FETCH_DELAY", "1s")];
        let parts = ["--only", "receive,fetch"];
        let serve = Serve::start(bench.folder(), &url, &vobiz.api_url, &parts, &settings).await?;
        let mut neighbours = JoinSet::new();
        if neighbour != "nobody else" {
            neighbours.spawn(forget(url.clone()));
            for n in 0..3 {
                neighbours.spawn(report(url.clone(), n * time / 6, time / 2));
            }
        }
        let watching = tokio::spawn(watch(url.clone(), time));
        let met = load::run(&serve.address, &requests, 64, Pace::PerSecond(PER_SECOND), time, false).await?;
        let (owed_half_way, owed_at_end, dead) = watching.await??;
        ensure!(met.failed == 0, "{} callbacks were not answered 200", met.failed);
        let report = &mut bench.report;
        for (share, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
            report.add(
                NAME,
                &format!("answer to a callback, {name}"),
                neighbour,
                "ms",
                met.latencies.ms(share),
            );
        }
        report.add(NAME, "due calls, half way", neighbour, "calls", owed_half_way);
        report.add(NAME, "due calls, at the end", neighbour, "calls", owed_at_end);
        report.add(NAME, "dead rows of the queue, most", neighbour, "rows", dead);
        if let Some(mib) = proc::peak_mib(serve.pid()) {
            report.add(NAME, "memory of serve", neighbour, "MiB", mib);
        }
        if neighbour != "nobody else" {
            let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
            bench.say_statements(&pool).await?;
            neighbours.shutdown().await;
            let rate = f64::from(PER_SECOND);
            let report = &mut bench.report;
            report.at_most("neighbour: p99 of the answer, ms", met.latencies.ms(0.99), 50.0);
            // A call falls due and is fetched within a second or two; more would be a backlog.
            report.at_most("neighbour: due calls at the end, in seconds of traffic", owed_at_end / rate, 1.0);
            let gone = "select (count(*) = 0)::int::float8 from vobiz.cdr_queue";
            ensure!(
                database::reaches(&pool, gone, 1.0, Duration::from_secs(30)).await?,
                "the queue does not get empty"
            );
            let vacuumed = "select (coalesce(sum(n_dead_tup), 0) < 5000)::int::float8
                            from pg_stat_user_tables where relname = 'cdr_queue'";
            let again = Instant::now();
            ensure!(
                database::reaches(&pool, vacuumed, 1.0, Duration::from_secs(150)).await?,
                "autovacuum does not clear the queue after the neighbours left"
            );
            let seconds = again.elapsed().as_secs_f64();
            bench.report.add(
                NAME,
                "dead rows are gone after the neighbours, by autovacuum",
                neighbour,
                "s",
                seconds,
            );
            pool.close().await;
        }
        serve.stop().await?;
    }
    vobiz.stop().await?;
    bench.drop_database("neighbour").await
}

/// A session that has written and forgot to commit: it holds the horizon of all vacuums.
async fn forget(url: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_current_xact_id()").execute(&mut *transaction).await?;
    std::future::pending::<()>().await;
    Ok(transaction.commit().await?)
}

/// A report that takes so long, begun again when it ends: one snapshot for all of its queries.
async fn report(url: String, after: Duration, time: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(after).await;
    let mut connection = PgConnection::connect(&url).await?;
    loop {
        let started = Instant::now();
        let mut transaction = connection.begin().await?;
        sqlx::query("set transaction isolation level repeatable read").execute(&mut *transaction).await?;
        while started.elapsed() < time {
            sqlx::query(
                "select date_trunc('hour', day_at), currency, hangup_cause, count(*), sum(billsec), sum(total_cost)
                 from vobiz.cdr group by 1, 2, 3 order by 1, 2, 3",
            )
            .execute(&mut *transaction)
            .await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        transaction.commit().await?;
    }
}

/// Due calls half way and shortly before the end, and the most dead rows that the queue had.
async fn watch(url: String, time: Duration) -> anyhow::Result<(f64, f64, f64)> {
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    let (started, mut half, mut end, mut most) = (Instant::now(), 0.0, 0.0, 0.0_f64);
    while started.elapsed() < time {
        let due = "select count(*)::float8 from vobiz.cdr_queue where due_at <= vobiz.now()";
        end = database::number(&pool, due).await?;
        if started.elapsed() < time / 2 {
            half = end;
        }
        let dead = "select coalesce(sum(n_dead_tup), 0)::float8 from pg_stat_user_tables where relname = 'cdr_queue'";
        most = most.max(database::number(&pool, dead).await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    pool.close().await;
    Ok((half, end, most))
}
