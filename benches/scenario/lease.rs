//! What a lease of 32 calls costs with 3 thousand and with 3 million owed calls behind it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::PgPool;
use vobiz_cdr::db;
use vobiz_cdr::db::account::Replica;
use vobiz_cdr::db::queue::lease;
use vobiz_cdr::vobiz::AccountId;

use crate::harness::report::median;
use crate::harness::{ACCOUNT, Bench, database, queue};

const NAME: &str = "lease";
const LEASED: u32 = 32;

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes = [("3 thousand", 3_000), ("3 million", bench.size(3_000_000, 100_000))];
    let mut pools = Vec::new();
    for (name, owed) in sizes {
        let url = bench.database(&name.replace(' ', "_").replace('3', "lease")).await?;
        let pool = db::connect(&url, "bench", 1)?;
        queue::owe(&pool, owed, "vobiz.now() - n * interval '10 milliseconds'").await?;
        let bytes = database::number(&pool, "select pg_table_size('vobiz.cdr_queue')::float8").await?;
        let keys = database::number(&pool, "select pg_indexes_size('vobiz.cdr_queue')::float8").await?;
        bench.report.add(NAME, "bytes per owed call, table", name, "bytes", bytes / f64::from(owed));
        bench.report.add(NAME, "bytes per owed call, indexes", name, "bytes", keys / f64::from(owed));
        pools.push((name, pool));
    }
    // The first leases of a connection are planned anew each time.
    for _ in 0..=bench.args.rounds {
        bench.report.take_noise();
        for (name, pool) in &pools {
            let cost = lease_often(pool).await?;
            bench.report.add(NAME, "a lease of 32 calls", name, "ms", cost);
        }
    }
    for (_, pool) in pools {
        pool.close().await;
    }
    let ratio = bench.report.ratio(NAME, "a lease of 32 calls", "3 million", "3 thousand");
    bench.report.at_most("lease: 3 million owed calls / 3 thousand", ratio, 1.3);
    for (name, _) in sizes {
        bench.drop_database(&name.replace(' ', "_").replace('3', "lease")).await?;
    }
    Ok(())
}

/// The median of 50 leases, in milliseconds; afterwards all is due again.
async fn lease_often(pool: &PgPool) -> anyhow::Result<f64> {
    let (account, mut each) = (AccountId::new(ACCOUNT)?, Vec::new());
    let mut connection = pool.acquire().await?;
    for _ in 0..50 {
        let started = Instant::now();
        let (ahead, lease_for) = (Duration::from_secs(1), Duration::from_secs(3600));
        let (leases, _) = lease(
            &mut connection,
            (&account, &Replica::this()),
            LEASED,
            100_000.0,
            ahead,
            lease_for,
            [None; 3],
        )
        .await?;
        each.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(leases.len() == LEASED as usize, "only {} calls were leased", leases.len());
    }
    sqlx::query("update vobiz.cdr_queue set due_at = vobiz.now() where due_at > vobiz.now()")
        .execute(&mut *connection)
        .await?;
    Ok(median(&each))
}
