//! Callbacks while Postgres hangs: each must be answered 503 before Vobiz, which waits for three seconds, gives up. Here the log of
//! callbacks is locked, so that every commit takes its whole timeout.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection, PgConnection};

use crate::harness::child::Serve;
use crate::harness::load::{self, Pace};
use crate::harness::{Bench, requests};

const NAME: &str = "refusal";

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(20), Duration::from_secs(5));
    let requests = requests::hangups(1000, 1).await?;
    let url = bench.database("refusal").await?;
    let serve = Serve::start(bench.folder(), &url, "http://127.0.0.1:9", &["--only", "receive"], &[]).await?;
    let mut connection = PgConnection::connect(&url).await?;
    for connections in [1, 64, 512] {
        let mut holding = connection.begin().await?;
        sqlx::query("lock table vobiz.callback in access exclusive mode").execute(&mut *holding).await?;
        let met = load::run(&serve.address, &requests, connections, Pace::Closed, time, true).await?;
        let refused = met.statuses.get(&503).copied().unwrap_or(0);
        ensure!(
            refused > 0 && refused == met.latencies.len(),
            "not all answers were 503: {:?}",
            met.statuses
        );
        let what = format!("503 at {connections} connections");
        for (share, name) in [(0.5, "p50"), (1.0, "most")] {
            bench.report.add(NAME, &format!("{what}, {name}"), "ours", "ms", met.latencies.ms(share));
        }
        let bar = format!("refusal: most of {what}, ms");
        bench.report.at_most(&bar, met.latencies.ms(1.0), 3000.0);
        holding.rollback().await?;
    }
    connection.close().await?;
    serve.stop().await?;
    bench.drop_database("refusal").await
}
