//! After a long outage: 200,000 calls of a day are owed when the API is back, and it may be asked 20 times a second. One request
//! a call would take three hours.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::PgPool;

use crate::harness::child::Serve;
use crate::harness::vobiz::Vobiz;
use crate::harness::{ACCOUNT, Bench, database, proc};

const NAME: &str = "outage";

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let calls = bench.size(200_000, 5_000);
    let mut vobiz = Vobiz::start(bench.folder(), calls, &["--spread", "86400"]).await?;
    let url = bench.database("outage").await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    owe(&pool, &vobiz.ids()?).await?;
    let api = vobiz.api_url.clone();
    let began = Instant::now();
    let serve = Serve::start(bench.folder(), &url, &api, &[], &[("VOBIZ_MAX_RPS", "20")]).await?;
    let paid = "select (count(*) = 0)::int::float8 from vobiz.cdr_queue";
    let limit = Duration::from_secs(900);
    ensure!(database::reaches(&pool, paid, 1.0, limit).await?, "calls are still owed after {limit:?}");
    let elapsed = began.elapsed().as_secs_f64();
    let counted = vobiz.counted().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of calls and requests")]
    let (n, requests, singles) = (calls as f64, counted.requests as f64, counted.singles as f64);
    let stored = database::number(&pool, "select count(*)::float8 from vobiz.cdr").await?;
    let versions = database::number(&pool, "select count(*)::float8 from vobiz.cdr_revision").await?;
    ensure!(stored >= n && versions <= n, "{stored} CDRs in {versions} versions of {n} calls");
    let report = &mut bench.report;
    report.add(NAME, "caught up after", "ours", "s", elapsed);
    report.add(NAME, "requests", "ours", "", requests);
    report.add(NAME, "single fetches among them", "ours", "", singles);
    report.add(NAME, "requests per CDR", "ours", "", requests / n);
    report.add(NAME, "requests a second", "ours", "per s", requests / elapsed);
    report.at_most("outage: requests per CDR", requests / n, 0.02);
    if let Some(mib) = proc::peak_mib(serve.pid()) {
        report.add(NAME, "memory of serve", "ours", "MiB", mib);
    }
    pool.close().await;
    serve.stop().await?;
    vobiz.stop().await?;
    bench.drop_database("outage").await
}

/// What a day without the API leaves behind: each call was announced when it ended, and the last sweep was before all of them.
async fn owe(pool: &PgPool, ids: &[String]) -> anyhow::Result<()> {
    sqlx::query(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, enqueued_at, announced_at, due_at)
         select call_id, $2, true, true, at, at, at + interval '4 seconds'
         from (select call_id, vobiz.now() - interval '1 day' * (1 - n::float8 / $3) as at
               from unnest($1::text[]) with ordinality as u (call_id, n)) c",
    )
    .bind(ids)
    .bind(ACCOUNT)
    .bind(i32::try_from(ids.len())?)
    .execute(pool)
    .await?;
    sqlx::query(
        "update vobiz.account set ledger_since = vobiz.now() - interval '30 days', sweep_from = vobiz.now() - interval '1 day',
                swept_at = vobiz.now() - interval '1 day', swept_wide_at = vobiz.now() - interval '1 day'
         where account_id = $1",
    )
    .bind(ACCOUNT)
    .execute(pool)
    .await?;
    Ok(())
}
