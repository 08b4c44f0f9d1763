//! What all replicas know together about an account: one rate limit, one pause, one probe a minute.

mod unfetched;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use vobiz_cdr::db::account::{self, AccountStatus, Pause, Slots};
use vobiz_cdr::db::queue;
use vobiz_cdr::retry::PauseReason;

use crate::support::calls::{LEASE, account, replica};
use crate::support::database::Database;

const AHEAD: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_secs(60);

async fn reserve(db: &Database, max_rps: f64, most: u32) -> Slots {
    account::reserve(&mut *db.connection().await, &account(), max_rps, most, AHEAD).await.unwrap()
}

async fn pause(db: &Database, reason: PauseReason, length: Duration) {
    account::pause(
        &mut *db.connection().await,
        &account(),
        &replica(),
        Pause { reason, length, error: "said so" },
    )
    .await
    .unwrap();
}

async fn status(db: &Database) -> AccountStatus {
    account::status(&mut *db.connection().await, &account(), &replica()).await.unwrap().unwrap()
}

/// Requests a second that are in force now.
async fn rate(db: &Database) -> f64 {
    1.0 / reserve(db, 100.0, 0).await.every.as_secs_f64()
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < expected / 1000.0, "{found}, not {expected}");
}

/// The instants at which the holder of these slots sends.
fn sent(now: DateTime<Utc>, slots: Slots) -> impl Iterator<Item = f64> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this century fit")]
    let start = now.timestamp_micros() as f64 / 1e6 + slots.wait.as_secs_f64();
    (0..slots.count).map(move |n| start + f64::from(n) * slots.every.as_secs_f64())
}

#[tokio::test]
async fn fetches_and_lists_share_one_rate_limit_over_all_windows() {
    for (seed, max_rps) in [(1, 10.0), (2, 3.0), (3, 50.0)] {
        let db = Database::new().await;
        let calls: Vec<String> = (0..400).map(|n| format!("call-{n}")).collect();
        db.owe(&calls.iter().map(String::as_str).collect::<Vec<_>>(), true).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let mut now = db.now().await;
        let mut all: Vec<f64> = Vec::new();
        let mut connection = db.connection().await;
        for _ in 0..80 {
            now += TimeDelta::milliseconds(random.random_range(0..300));
            db.stop_clock(now).await;
            let most = random.random_range(0..8);
            let slots = if random.random_bool(0.5) {
                let result = queue::lease(
                    &mut connection,
                    (&account(), &replica()),
                    most,
                    max_rps,
                    AHEAD,
                    LEASE,
                    [None; 3],
                )
                .await;
                let (leases, slots) = result.unwrap();
                assert_eq!(leases.len(), slots.count as usize);
                slots
            } else {
                account::reserve(&mut connection, &account(), max_rps, most, AHEAD).await.unwrap()
            };
            assert!(slots.count <= most);
            let within = if max_rps < 6.0 { Duration::from_secs(10) } else { AHEAD };
            assert!(slots.count == 0 || slots.wait <= within, "{slots:?}");
            all.extend(sent(now, slots));
        }
        assert!(all.len() > 20, "it does move: {}", all.len());
        for (i, from) in all.iter().enumerate() {
            for (more, to) in all[i..].iter().enumerate() {
                // A millionth of a second for Postgres's rounding, per request.
                let apart = f64::from(u32::try_from(more).unwrap()) * (1.0 / max_rps - 2e-6);
                assert!(to - from >= apart, "{more} requests in {} s at {max_rps}/s", to - from);
            }
        }
    }
}

/// At a slow rate the next slot lies further ahead than a fetch reserves at a better one: a fetch may take it all the same, or the
/// reader of a list, which reserves twice as far ahead, would take every one.
#[tokio::test]
async fn at_a_slow_rate_a_fetch_may_take_the_slot_after_that_of_the_list() {
    let db = Database::new().await;
    db.stop_clock(db.now().await).await;
    for (max_rps, free) in [(10.0, 2), (4.0, 1), (3.0, 1), (1.0, 1), (0.5, 1), (0.1, 1), (0.05, 0)] {
        db.run("update vobiz.account set next_slot = '-infinity'").await;
        let reserve = async |ahead| {
            account::reserve(&mut *db.connection().await, &account(), max_rps, 1, ahead).await.unwrap()
        };
        assert_eq!(
            (reserve(AHEAD * 2).await.count, reserve(AHEAD).await.count),
            (1, free.min(1)),
            "{max_rps}"
        );
        // Two of them are no longer within its reach, but at a rate at which they were before.
        assert_eq!(reserve(AHEAD).await.count, u32::from(free > 1), "{max_rps}");
    }
}

#[tokio::test]
async fn replicas_that_reserve_at_the_same_time_get_different_slots() {
    let db = Database::new().await;
    db.stop_clock(db.now().await).await;
    let slots = futures_util::future::join_all((0..8).map(|_| reserve(&db, 1000.0, 20))).await;
    let mut starts: Vec<u128> = slots.iter().map(|slots| slots.wait.as_micros()).collect();
    starts.sort_unstable();
    let expected: Vec<u128> = (0..8).map(|n| n * 20_000).collect();
    assert_eq!(starts, expected);
    // 250 ms ahead and no more.
    assert_eq!(reserve(&db, 1000.0, 500).await.count, 91);
    assert_eq!(reserve(&db, 1000.0, 500).await.count, 0);
}

#[tokio::test]
async fn an_account_that_nobody_registered_gets_no_slot() {
    let db = Database::empty().await;
    vobiz_cdr::db::base::migration::apply(&db.pool, MINUTE).await.unwrap();
    assert_eq!(reserve(&db, 10.0, 5).await.count, 0);
    assert!(account::status(&mut *db.connection().await, &account(), &replica()).await.unwrap().is_none());
    pause(&db, PauseReason::Denied, MINUTE).await;
    assert_eq!(db.count("select count(*) from vobiz.account_pause").await, 0);
}

#[tokio::test]
async fn throttling_halves_the_rate_once_a_pause_and_it_recovers_additively() {
    let db = Database::new().await;
    let begun = db.now().await;
    db.stop_clock(begun).await;
    let at = async |seconds: i64| db.stop_clock(begun + TimeDelta::seconds(seconds)).await;
    near(rate(&db).await, 100.0);
    pause(&db, PauseReason::Throttled, Duration::from_secs(10)).await;
    near(rate(&db).await, 50.0);
    pause(&db, PauseReason::Throttled, Duration::from_secs(10)).await;
    at(5).await;
    pause(&db, PauseReason::Throttled, Duration::from_secs(5)).await;
    near(rate(&db).await, 55.0);
    // The pause is over; the next 429 begins another one.
    at(10).await;
    near(rate(&db).await, 60.0);
    pause(&db, PauseReason::Throttled, Duration::ZERO).await;
    near(rate(&db).await, 30.0);
    assert_eq!(status(&db).await.pause_reason, None, "a Retry-After of now");
    at(30).await;
    near(rate(&db).await, 50.0);
    at(200).await;
    near(rate(&db).await, 100.0);
    for _ in 0..20 {
        pause(&db, PauseReason::Throttled, Duration::ZERO).await;
    }
    near(rate(&db).await, 2.0);
    pause(&db, PauseReason::Denied, Duration::ZERO).await;
    near(rate(&db).await, 2.0);
}

#[tokio::test]
async fn a_pause_is_extended_and_never_shortened() {
    let db = Database::new().await;
    let begun = db.now().await;
    db.stop_clock(begun).await;
    let until = "select extract(epoch from paused_until - paused_since)::bigint from vobiz.account";
    let history = "select extract(epoch from until_at - started_at)::bigint from vobiz.account_pause";
    pause(&db, PauseReason::Throttled, MINUTE).await;
    pause(&db, PauseReason::Throttled, MINUTE / 2).await;
    assert_eq!((db.count(until).await, db.count(history).await), (60, 60));
    db.stop_clock(begun + TimeDelta::seconds(30)).await;
    pause(&db, PauseReason::Throttled, MINUTE).await;
    assert_eq!((db.count(until).await, db.count(history).await), (90, 90));
    // It ended; the next one is another.
    db.stop_clock(begun + TimeDelta::seconds(90)).await;
    assert_eq!(status(&db).await, AccountStatus { pause_reason: None, probe: false });
    pause(&db, PauseReason::Throttled, MINUTE / 6).await;
    assert_eq!(db.count(until).await, 10);
    assert_eq!(db.count("select count(*) from vobiz.account_pause").await, 2);
    db.stop_clock(begun + TimeDelta::seconds(95)).await;
    account::resume(&mut *db.connection().await, &account(), &replica(), "throttled").await.unwrap();
    assert_eq!(db.count(&format!("{history} order by started_at desc limit 1")).await, 5);
    assert_eq!(status(&db).await.pause_reason, None);
    account::resume(&mut *db.connection().await, &account(), &replica(), "throttled").await.unwrap();
    assert_eq!(db.count(&format!("{history} order by started_at desc limit 1")).await, 5, "it was over");
}

#[tokio::test]
async fn the_newest_reason_counts_but_throttling_hides_none() {
    use PauseReason::{Denied, Throttled, Unavailable, Unreadable};
    for (first, second, expected) in [
        (Throttled, Denied, "denied"),
        (Throttled, Unavailable, "unavailable"),
        (Throttled, Unreadable, "unreadable"),
        (Throttled, Throttled, "throttled"),
        (Denied, Throttled, "denied"),
        // What to do goes by it: an API that was away and then refuses the token needs a token.
        (Denied, Unavailable, "unavailable"),
        (Unavailable, Denied, "denied"),
        (Unavailable, Throttled, "unavailable"),
    ] {
        let db = Database::new().await;
        pause(&db, first, MINUTE).await;
        pause(&db, second, MINUTE / 2).await;
        assert_eq!(status(&db).await.pause_reason.as_deref(), Some(expected), "{first:?}, {second:?}");
        assert_eq!(db.count("select count(*) from vobiz.account_pause").await, 1);
    }
}

#[tokio::test]
async fn a_process_that_stops_takes_back_what_it_has_said() {
    let db = Database::new().await;
    pause(&db, PauseReason::Denied, MINUTE).await;
    let seen = async || account::replicas(&mut *db.connection().await).await.unwrap().len();
    assert_eq!((seen().await, status(&db).await.pause_reason.as_deref()), (1, Some("denied")));
    let other = account::Replica::new("host-b", 4711);
    account::answered(&mut *db.connection().await, &account(), &other).await.unwrap();
    assert_eq!(seen().await, 2);
    account::leave(&mut *db.connection().await, &replica()).await.unwrap();
    assert_eq!(seen().await, 1, "nobody has to mend a process that is gone");
    let of_other = account::status(&mut *db.connection().await, &account(), &other).await.unwrap().unwrap();
    assert_eq!(of_other.pause_reason, None);
}

#[tokio::test]
async fn one_of_the_replicas_probes_once_a_minute() {
    for reason in [PauseReason::Denied, PauseReason::Unavailable, PauseReason::Unreadable] {
        let db = Database::new().await;
        let begun = db.now().await;
        pause(&db, reason, MINUTE).await;
        db.stop_clock(begun).await;
        assert!(!status(&db).await.probe, "not yet");
        for minute in 1..4 {
            // A few seconds more for the clock that ran before it was stopped.
            db.stop_clock(begun + TimeDelta::seconds(minute * 60 + 30)).await;
            let replicas = futures_util::future::join_all((0..4).map(|_| status(&db))).await;
            assert_eq!(replicas.iter().filter(|status| status.probe).count(), 1);
            assert!(replicas.iter().all(|s| s.pause_reason.as_deref() == Some(reason.as_str())));
            assert!(!status(&db).await.probe);
        }
        let covered =
            "select count(*) from vobiz.account_pause h join vobiz.account a on h.until_at = a.paused_until";
        assert_eq!(db.count(covered).await, 1, "the history goes on with the pause");
    }
    let db = Database::new().await;
    pause(&db, PauseReason::Throttled, MINUTE).await;
    db.shift_clock("1 hour").await;
    assert_eq!(status(&db).await, AccountStatus { pause_reason: None, probe: false });
}

#[tokio::test]
async fn a_probe_gets_through_a_pause() {
    let db = Database::new().await;
    pause(&db, PauseReason::Denied, MINUTE).await;
    assert_eq!(reserve(&db, 10.0, 1).await.count, 1);
}

#[tokio::test]
async fn a_sweep_is_planned_when_it_is_due_and_wide_once_an_hour() {
    let db = Database::new().await;
    let begun = db.now().await;
    let every = 5 * MINUTE;
    let plan = async |minutes: i64| {
        db.stop_clock(begun + TimeDelta::minutes(minutes)).await;
        account::plan_sweep(&mut *db.connection().await, &account(), every).await.unwrap()
    };
    let swept = async |plan: &account::SweepPlan| {
        account::swept(&mut *db.connection().await, &account(), plan).await.unwrap();
    };
    let since: DateTime<Utc> =
        sqlx::query_scalar("select ledger_since from vobiz.account").fetch_one(&db.pool).await.unwrap();
    let first = plan(1).await.unwrap();
    assert_eq!((first.wide, first.down_to), (true, since - TimeDelta::hours(26)));
    swept(&first).await;
    assert!(plan(5).await.is_none());
    let second = plan(6).await.unwrap();
    assert_eq!((second.wide, second.down_to), (false, first.now - TimeDelta::hours(1)));
    // It never completed: the next one goes down as far.
    let third = plan(30).await.unwrap();
    assert_eq!(third.down_to, second.down_to);
    swept(&third).await;
    let wide = plan(61).await.unwrap();
    assert_eq!((wide.wide, wide.down_to), (true, third.now - TimeDelta::hours(26)));
}
