//! A simulated week: 20,000 calls of two accounts, hour by hour, with every trouble that a week may bring, and at its end every
//! call is here, as Vobiz has it.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]

mod clocks;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use rust_decimal::Decimal;
use vobiz_cdr::simulator::{Direction, Truth};

use world::World;

const HOURS: i64 = 7 * 24;
/// The service is killed while it fetches.
const KILL: i64 = 30;
/// The API is away in these hours.
const OUTAGE: std::ops::Range<i64> = 60..66;
/// Postgres restarts while callbacks come in.
const POSTGRES: i64 = 100;
/// The service restarts while callbacks come in.
const RESTART: i64 = 130;

#[tokio::test(flavor = "multi_thread")]
async fn a_week_with_every_trouble_ends_with_every_call_stored_and_none_fetched_too_often() {
    let mut world = World::begin().await;
    let began = Instant::now();
    while world.hour < HOURS {
        let hour = world.hour + 1;
        let out = OUTAGE.contains(&hour);
        world.set_outage(out);
        let hour_began = Instant::now();
        let announcing = world.live_an_hour().await;
        match hour {
            KILL => {
                tokio::time::sleep(Duration::from_millis(40)).await;
                world.kill_serve().await;
            }
            POSTGRES => {
                tokio::time::sleep(Duration::from_millis(40)).await;
                world.restart_postgres().await;
            }
            RESTART => world.restart_serve().await,
            _ => {}
        }
        announcing.await.unwrap();
        // What was in hand when something went away falls due when its lease ends; that is not waited for.
        let in_hand = ![KILL, POSTGRES].contains(&hour);
        world.settle(in_hand, out).await;
        if hour_began.elapsed() > Duration::from_millis(1500) {
            println!("hour {hour} took {:?}", hour_began.elapsed());
        }
    }
    println!("{HOURS} hours took {:?}", began.elapsed());

    // The last hour's calls, and the last sweep. At the half hour no cost settles.
    let end = world.mark() + TimeDelta::minutes(90);
    world.move_to(end).await;
    world.swept_since(end).await;
    world.settle(true, false).await;
    println!("the end came after {:?}", began.elapsed());

    everything_is_stored(&world).await;
    nothing_is_fetched_too_often(&world);
    world.end().await;
}

/// Every call is stored as Vobiz has it, and as what it is: announced or recovered.
async fn everything_is_stored(world: &World) {
    let calls = world.vobiz.calls();
    assert_eq!(calls.len(), 20_160);
    assert!(calls.iter().all(|call| call.appeared));
    type Row = (String, String, String, i32, Decimal, String, String, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "select call_id, account_id, call_direction, billsec, total_cost, currency, hangup_cause, first_callback_at is not null
         from vobiz.cdr",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    let mut stored: HashMap<String, Row> = rows.into_iter().map(|row| (row.0.clone(), row)).collect();
    for call in &calls {
        let row = stored.remove(&call.call_id).unwrap_or_else(|| panic!("{call:?} is not stored"));
        let direction = if row.2 == "inbound" { Direction::Inbound } else { Direction::Outbound };
        let ours = Truth {
            call_id: row.0,
            account_id: row.1,
            direction,
            billsec: row.3.try_into().unwrap(),
            total_cost: row.4,
            currency: row.5,
            hangup_cause: row.6,
            acknowledged: call.acknowledged,
            appeared: true,
        };
        assert_eq!(ours, *call);
        // One may have been committed and yet not answered in time, when Postgres or we went away.
        assert!(row.7 || !call.acknowledged, "{call:?} was announced");
    }
    assert!(stored.is_empty(), "nobody made these calls: {stored:?}");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue").await, 0, "owed or dead");
    assert_eq!(world.database.count("select count(*) from vobiz.closed_call").await, 0);

    let summary = world.progress.summary();
    println!("{summary:?}");
    assert!(summary.lost > 400 && summary.unacknowledged < 100, "{summary:?}");
    let changed = world.database.count("select count(*) from vobiz.cdr where revision > 1").await;
    assert!((250..500).contains(&changed), "{changed} costs changed a day later");
}

/// One request a call, and more only where something explains it.
fn nothing_is_fetched_too_often(world: &World) {
    let stats = world.vobiz.stats();
    let mut counts: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    for (call_id, fetches) in &stats.fetches {
        // Calls of an hour are fetched in the next one.
        let fetched_in = world.announced_in[call_id] + 1;
        let mut allowed = 1;
        // Its answer was in hand when we were killed, or when Postgres went: the lease runs out, and it is asked for again.
        allowed += u64::from(fetched_in == KILL || fetched_in == POSTGRES);
        // It failed once before twenty failures in a row paused the account; from then on only the list is asked.
        allowed += u64::from(fetched_in == OUTAGE.start);
        // 404 an hour later and two hours later, and again 4 s after each where an hour took so long.
        allowed += if world.late.contains(call_id) { 4 } else { 0 };
        assert!(*fetches <= allowed, "{call_id}: {fetches} fetches, {allowed} allowed, hour {fetched_in}");
        *counts.entry((allowed > 1, *fetches)).or_default() += 1;
    }
    println!("(explained, fetches) -> calls: {counts:?}");
    assert!(stats.max_concurrent_fetches <= 1, "never twice at once");
}
