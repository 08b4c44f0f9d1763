//! One rate limit for all replicas: three of them work on one queue, and the simulated Vobiz counts. Then it answers 429 for a
//! moment, and beside the account there is one whose token is wrong.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::child::Serve;
use crate::harness::vobiz::Vobiz;
use crate::harness::{ACCOUNT, Bench, TOKEN, queue};

const NAME: &str = "replicas";
const LIMIT: f64 = 50.0;
const DENIED: &str = "MA_DENIED";

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(60), Duration::from_secs(10));
    let mut vobiz =
        Vobiz::start(bench.folder(), 20_000, &["--latency-ms", "20", "--accounts", DENIED]).await?;
    let url = bench.database("replicas").await?;
    let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
    let ids = vobiz.ids()?;
    let accounts = bench.folder().join("accounts.toml");
    let entry = |id: &str, token: &str| {
        format!("[[account]]\nauth_id = \"{id}\"\nauth_token = \"{token}\"\nmax_rps = {LIMIT}\n")
    };
    std::fs::write(&accounts, entry(ACCOUNT, TOKEN) + &entry(DENIED, "not_the_token"))?;
    let accounts = accounts.display().to_string();
    let settings = [("VOBIZ_ACCOUNTS_FILE", accounts.as_str())];
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas
            .push(Serve::start(bench.folder(), &url, &vobiz.api_url, &["--only", "fetch"], &settings).await?);
    }
    queue::enqueue(&pool, &ids).await?;
    sqlx::query(
        "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
         select 'denied-' || n, $1, true, true, vobiz.now() from generate_series(1, 100) n",
    )
    .bind(DENIED)
    .execute(&pool)
    .await?;
    // The first second finds out about the denied account.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rate = rate(&mut vobiz, time).await?;
    bench.report.add(NAME, "requests with three replicas at 50 a second", "ours", "per s", rate);
    bench.report.at_most("replicas: off the limit", (rate / LIMIT - 1.0).abs(), 0.05);

    // Shorter than the pause that the first 429 makes: it is run into once.
    vobiz.throttle(true).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let throttled = vobiz.counted().await?.throttled;
    vobiz.throttle(false).await?;
    bench.report.add(
        NAME,
        "answers 429 that three replicas ran into",
        "ours",
        "",
        f64::from(u32::try_from(throttled)?),
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut after = Vec::new();
    for seconds in [10, 30, 60] {
        let rate = self::rate(&mut vobiz, Duration::from_secs(5)).await?;
        bench.report.add(NAME, &format!("about {seconds} s after 429"), "ours", "per s", rate);
        after.push(rate);
        tokio::time::sleep(Duration::from_secs(if seconds == 10 { 15 } else { 25 })).await;
    }
    bench.report.at_most("replicas: rate soon after 429, share of the limit", after[0] / LIMIT, 0.75);
    bench.report.at_least("replicas: rate a minute after 429, share of the limit", after[2] / LIMIT, 0.9);
    let (reason,): (Option<String>,) =
        sqlx::query_as("select pause_reason from vobiz.account where account_id = $1")
            .bind(DENIED)
            .fetch_one(&pool)
            .await?;
    ensure!(reason.as_deref() == Some("denied"), "the account with the wrong token is {reason:?}");
    for replica in replicas {
        replica.stop().await?;
    }
    pool.close().await;
    vobiz.stop().await?;
    bench.drop_database("replicas").await
}

/// Single fetches a second over this time, counted at the simulated Vobiz.
async fn rate(vobiz: &mut Vobiz, time: Duration) -> anyhow::Result<f64> {
    let (before, began) = (vobiz.counted().await?.singles, std::time::Instant::now());
    tokio::time::sleep(time).await;
    let asked = vobiz.counted().await?.singles - before;
    Ok(f64::from(u32::try_from(asked)?) / began.elapsed().as_secs_f64())
}
