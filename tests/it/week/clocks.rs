//! The clocks of Postgres and Vobiz, which a test moves together.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn both_clocks_move_together_beside_running_queries() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let mut readers = Vec::new();
    for _ in 0..4 {
        let (pool, stop) = (world.database.pool.clone(), stop.clone());
        readers.push(tokio::spawn(async move {
            let (mut before, mut reads) = (DateTime::<Utc>::MIN_UTC, 0);
            while !stop.is_cancelled() {
                // A prepared statement whose plan holds the clock, as all of ours do.
                let now: DateTime<Utc> = sqlx::query_scalar(
                    "select vobiz.now() from (select count(*) from vobiz.cdr_queue where due_at <= vobiz.now()) due",
                )
                .fetch_one(&pool)
                .await
                .unwrap();
                assert!(now >= before, "{now} after {before}");
                (before, reads) = (now, reads + 1);
            }
            reads
        }));
    }
    let began = std::time::Instant::now();
    for _ in 0..200 {
        world.advance(TimeDelta::hours(1)).await;
    }
    println!("200 steps took {:?}", began.elapsed());
    stop.cancel();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    let ahead = world.database.now().await - DateTime::<Utc>::from(std::time::SystemTime::now());
    assert!((ahead - TimeDelta::hours(200)).abs() < TimeDelta::minutes(1), "{ahead}");
    let apart = world.database.now().await - world.vobiz.now();
    assert!(apart.abs() < TimeDelta::minutes(1), "{apart}");

    // A call that ended just now owes its CDR in the hour that is skipped, and it is there.
    let call = world.owed_call().await;
    world.advance(TimeDelta::hours(1)).await;
    world.drain().await;
    assert_eq!((world.stored().await, world.vobiz.stats().fetches_of(&call.call_id)), (1, 1));
    world.end().await;
}
