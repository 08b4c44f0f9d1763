//! A simulated week: 20,000 calls of two accounts, hour by hour, with every fault that a week may bring, and at its end every
//! call is here, as Vobiz has it.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]

mod clocks;
mod ledger;
mod mutation;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use vobiz_cdr::simulator::{Direction, Truth};

use world::{LATE_BY, World};

const HOURS: i64 = 7 * 24;
/// The service is killed while it fetches.
const KILL: i64 = 30;
/// The API is away in these hours.
const OUTAGE: std::ops::Range<i64> = 60..66;
/// Postgres restarts while callbacks come in.
const POSTGRES: i64 = 100;
/// The service restarts while callbacks come in.
const RESTART: i64 = 130;

/// Hours at whose end we rest, and know what Vobiz knows.
const RESTS: [i64; 3] = [40, 90, 150];

#[tokio::test(flavor = "multi_thread")]
async fn a_week_with_every_fault_ends_with_every_call_stored_and_none_fetched_too_often() {
    let mut world = World::begin().await;
    let began = Instant::now();
    let mut rests = Vec::new();
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
        if RESTS.contains(&hour) {
            rests.push(world.rest().await);
        }
        if hour_began.elapsed() > Duration::from_millis(1500) {
            println!("hour {hour} took {:?}", hour_began.elapsed());
        }
    }
    println!("{HOURS} hours took {:?}", began.elapsed());

    // The last hour's calls, the CDRs that are late, and the last sweep; then the costs that settle late.
    world.rest().await;
    println!("the end came after {:?}", began.elapsed());
    world.let_the_days_settle().await;
    println!("the days were settled after {:?}", began.elapsed());

    everything_is_stored(&world).await;
    nothing_is_fetched_too_often(&world);
    ledger::no_day_is_listed_too_often(&world).await;
    ledger::every_day_is_settled(&world).await;
    ledger::safe_to_bill_moved_on_and_back(&world).await;
    ledger::lost_callbacks_are_counted(&world).await;
    for rest in rests {
        what_we_knew_then_was_true(&world, rest).await;
    }
    ledger::the_last_state_known_is_the_present_one(&world).await;
    ledger::every_change_is_shown(&world).await;
    println!("compared after {:?}", began.elapsed());
    mutation::every_mutation_is_caught(&world).await;
    println!("mutations were caught after {:?}", began.elapsed());
    world.end().await;
}

/// Every call is stored as Vobiz has it, and as what it is: announced or recovered.
async fn everything_is_stored(world: &World) {
    type Row = (String, String, String, DateTime<Utc>, i32, Decimal, String, String, bool);
    let calls = world.vobiz.calls();
    assert_eq!(calls.len(), 20_160);
    assert!(calls.iter().all(|call| call.appeared));
    let rows: Vec<Row> = sqlx::query_as(
        "select call_id, account_id, call_direction, start_time, billsec, total_cost, currency, hangup_cause,
                first_callback_at is not null
         from vobiz.cdr",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    let mut stored: HashMap<String, Row> = rows.into_iter().map(|row| (row.0.clone(), row)).collect();
    for call in &calls {
        let row = stored.remove(&call.call_id).unwrap_or_else(|| panic!("{call:?} is not stored"));
        let ours = Truth {
            call_id: row.0,
            account_id: row.1,
            direction: if row.2 == "inbound" { Direction::Inbound } else { Direction::Outbound },
            started_at: row.3,
            billsec: row.4.try_into().unwrap(),
            total_cost: row.5,
            currency: row.6,
            hangup_cause: row.7,
            ..call.clone()
        };
        assert_eq!(ours, *call);
        // Another one may have been committed and yet not answered in time, when Postgres or we went away.
        assert!(row.8 || !call.acknowledged, "{call:?} was announced");
    }
    assert!(stored.is_empty(), "nobody made these calls: {stored:?}");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue").await, 0, "owed or dead");
    assert_eq!(world.database.count("select count(*) from vobiz.closed_call").await, 0);

    // The faults did happen.
    let summary = world.progress.summary();
    println!("{summary:?}");
    assert!(summary.lost > 400 && summary.unacknowledged < 100, "{summary:?}");
    let changed = world.database.count("select count(*) from vobiz.cdr where revision > 1").await;
    assert!((250..500).contains(&changed), "{changed} costs changed a day later");
    let pauses = "select count(distinct account_id) from vobiz.account_pause where reason = 'unavailable'";
    assert_eq!(world.database.count(pauses).await, 2, "the API was away for both accounts");
}

/// The versions that we had asked for at an instant are those that Vobiz had then.
async fn what_we_knew_then_was_true(world: &World, instant: DateTime<Utc>) {
    let known: Vec<(String, String, DateTime<Utc>, i32, Decimal)> =
        sqlx::query_as("select call_id, account_id, day_at, billsec, total_cost from vobiz.cdr_as_of($1)")
            .bind(instant)
            .fetch_all(&world.database.pool)
            .await
            .unwrap();
    let known: BTreeSet<_> = known.into_iter().collect();
    let truth = world.vobiz.truth_at(instant).into_iter().map(|call| {
        let billsec = call.billsec.try_into().unwrap();
        (call.call_id, call.account_id, call.started_at, billsec, call.total_cost)
    });
    let truth: BTreeSet<_> = truth.collect();
    assert!(known.len() > 4000, "{} calls until {instant}", known.len());
    let differ: Vec<_> = known.symmetric_difference(&truth).take(10).collect();
    assert!(differ.is_empty(), "at {instant}: {differ:?}");
}

/// How many times a call may be asked for while its CDR is not there yet: after 4 s, doubling to 15 min, less a quarter for jitter.
fn not_yet_within(time: Duration) -> u64 {
    let (mut answers, mut at, mut wait) = (0, Duration::ZERO, Duration::from_secs(4));
    while at < time {
        answers += 1;
        at += wait * 3 / 4;
        wait = (wait * 2).min(Duration::from_secs(900));
    }
    answers
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
        // It failed before twenty failures in a row paused the account, on a slow machine twice, since a failure waits for 1.5 s at
        // least; from then on only the list is asked.
        allowed += if fetched_in == OUTAGE.start { 2 } else { 0 };
        // 404 until its CDR was there.
        allowed += if world.late.contains(call_id) { not_yet_within(LATE_BY) } else { 0 };
        assert!(*fetches <= allowed, "{call_id}: {fetches} fetches, {allowed} allowed, hour {fetched_in}");
        *counts.entry((allowed > 1, *fetches)).or_default() += 1;
    }
    println!("(explained, fetches) -> calls: {counts:?}");
    assert!(stats.max_concurrent_fetches <= 1, "never twice at once");
}
