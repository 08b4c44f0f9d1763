//! Listing the past: the ledger grows without a gap, whatever stops it on the way, and says what differs.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::ledger::backfill::{self, DayRange};
use vobiz_cdr::db::ledger::summary;
use vobiz_cdr::ledger::{Backfilled, Ledger};
use vobiz_cdr::list::ListError;
use vobiz_cdr::simulator::{CallSpec, DayOf, SimulatorOptions};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::calls::account as id;
use crate::support::database::ACCOUNT;
use crate::support::process::{Finished, program, run};
use crate::support::wait::until;
use crate::support::world::{TOKEN, World, noon, options};

/// A world with so many calls on each of the last days, before the service was there. The last day is yesterday.
pub(crate) async fn history(days: u64, calls: u32, latency: Duration) -> (World, NaiveDate, NaiveDate) {
    history_at(SimulatorOptions { latency, ..options() }, days, calls).await
}

/// The same at another Vobiz.
pub(crate) async fn history_at(
    options: SimulatorOptions,
    days: u64,
    calls: u32,
) -> (World, NaiveDate, NaiveDate) {
    history_cut(options, 330, days, calls).await
}

/// The same where Vobiz cuts its days in another zone.
pub(crate) async fn history_cut(
    options: SimulatorOptions,
    day_zone: i32,
    days: u64,
    calls: u32,
) -> (World, NaiveDate, NaiveDate) {
    let world = World::with(SimulatorOptions { day_zone, ..options }).await;
    let today = (noon(&world.database, &world.vobiz, 330).await + TimeDelta::minutes(330)).date_naive();
    // As if the service had been started just now.
    world
        .database
        .run("update vobiz.account set ledger_since = vobiz.now(), registered_at = vobiz.now()")
        .await;
    for back in 1..=days {
        let midnight =
            (today - Days::new(back)).and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
        for n in 0..calls {
            place(&world, midnight + TimeDelta::minutes(10 + i64::from(n)));
        }
    }
    (world, today - Days::new(days), today - Days::new(1))
}

pub(crate) fn place(world: &World, started_at: DateTime<Utc>) {
    let spec = CallSpec {
        started_at: Some(started_at),
        ended_at: Some(started_at + TimeDelta::seconds(40)),
        ..CallSpec::default()
    };
    world.vobiz.place_call(spec);
}

pub(crate) fn checker(world: &World) -> Ledger {
    Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new())
}

pub(crate) async fn start(world: &World, first: NaiveDate, last: NaiveDate) -> DayRange {
    backfill::start(&mut *world.database.connection().await, &id(), first, last).await.unwrap()
}

pub(crate) async fn list(world: &World, range: &DayRange) -> Backfilled {
    checker(world).backfill(&world.accounts[0], range, &CancellationToken::new()).await.unwrap()
}

pub(crate) async fn ledger_day(world: &World) -> String {
    world.text("select vobiz.provider_day_of(account_id, ledger_since) from vobiz.account").await
}

pub(crate) fn command(world: &World, arguments: &[&str]) -> Finished {
    run(program(arguments)
        .env("DATABASE_URL", &world.database.url)
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", TOKEN)
        .env("VOBIZ_MAX_RPS", "1000")
        .env("VOBIZ_API_URL", world.vobiz.api_url()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_begins_the_ledger_earlier_and_lists_each_day_once() {
    let (world, first, last) = history(100, 3, Duration::ZERO).await;
    let range = start(&world, first, last).await;
    let done = list(&world, &range).await;
    assert_eq!((done.days, done.unsettled, done.calls, done.new, done.requests), (100, 0, 300, 300, 100));
    assert_eq!(ledger_day(&world).await, first.to_string());
    let origins = world.database.texts("select distinct origin from vobiz.cdr").await;
    assert_eq!(origins, ["backfill"]);
    // Safe to bill is where it was: at the beginning of today.
    let safe = world.text("select vobiz.provider_day_of(account_id, safe_to) from vobiz.safe_to_bill").await;
    assert_eq!(safe, (last + Days::new(1)).to_string());
    assert_eq!(
        world.text("select sum(calls) from vobiz.callback_loss").await,
        "0",
        "nobody had to announce them"
    );
    // What is older than the schedule is not listed again; the rest follows the schedule.
    let later = world
        .database
        .count("select count(*) from vobiz.provider_day where check_at is not null and to_at < vobiz.now()")
        .await;
    assert_eq!(later, 90);
    assert_eq!(backfill::unfinished(&mut *world.database.connection().await, &id()).await.unwrap(), None);
    // The first sweep of a service does not go through the history.
    let swept = world.sweep().await;
    assert!(swept.pages <= 2, "{swept:?}");
    world.end().await;
}

/// A call that begins so many minutes before the midnight (in India) at the end of a day, and ends so many after it.
pub(crate) fn over_midnight(world: &World, day: NaiveDate, before: i64, after: i64) {
    let midnight = (day + Days::new(1)).and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
    let spec = CallSpec {
        started_at: Some(midnight - TimeDelta::minutes(before)),
        ended_at: Some(midnight + TimeDelta::minutes(after)),
        // A row whose times contradict its duration would tell nothing of the days.
        ring_time: Some(10),
        billsec: Some(u32::try_from((before + after) * 60 - 10).unwrap()),
        ..CallSpec::default()
    };
    world.vobiz.place_call(spec);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_a_day_listed_later_changes_are_compared_once_more() {
    // By the start, by the end (so that the zone is learnt on the way), and days cut in UTC.
    for (day_of, day_zone) in [(DayOf::Start, 330), (DayOf::End, 330), (DayOf::Start, 0)] {
        let options = SimulatorOptions { day_of, ..options() };
        let (world, first, last) = history_cut(options, day_zone, 4, 3).await;
        over_midnight(&world, first, 5, 5);
        over_midnight(&world, first + Days::new(1), 20, 1);
        let done = list(&world, &start(&world, first, last).await).await;
        let case = format!("{day_of:?} {day_zone} {done:?}");
        assert_eq!((done.days, done.unsettled, done.not_over, done.unread), (4, 0, 0, 0), "{case}");
        // By the end, such a call is in the day that was listed before; but what does not lie in its day has the days beside it read.
        let requests = if day_of == DayOf::Start { 5..=14 } else { 4..=6 };
        assert!(requests.contains(&done.requests), "{case}");
        let open = world
            .database
            .texts("select concat_ws(' ', day, state) from vobiz.ledger_day where checked_at is not null and state <> 'settled'")
            .await;
        assert!(open.is_empty(), "{case} {open:?}");
        // What was found stays found, although some days were compared again after it.
        let since = Some(DateTime::UNIX_EPOCH);
        let mut connection = world.database.connection().await;
        let lines = summary::lines(&mut connection, &id(), first, last, since).await.unwrap();
        let found: i32 = lines.iter().map(|line| line.recovered).sum();
        assert_eq!(usize::try_from(found).unwrap(), done.new, "{case}");
        assert_eq!(backfill::gap(&mut connection, &id(), first).await.unwrap(), None, "{case}");
        world.end().await;
    }
}

#[tokio::test]
async fn what_a_backfill_filled_is_analyzed_by_its_owner_alone() {
    let database = crate::support::database::Database::new().await;
    let unknown = "select count(*) from pg_class where oid in ('vobiz.provider_day'::regclass, 'vobiz.cdr'::regclass) and reltuples < 0";
    let mut connection = database.connection().await;
    sqlx::query("set role pg_monitor").execute(&mut *connection).await.unwrap();
    assert!(!backfill::analyze(&mut connection).await.unwrap());
    sqlx::query("reset role").execute(&mut *connection).await.unwrap();
    assert_eq!(database.count(unknown).await, 2);
    assert!(backfill::analyze(&mut connection).await.unwrap());
    assert_eq!(database.count(unknown).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_stopped_goes_on_where_it_was() {
    let (world, first, last) = history(12, 2, Duration::from_millis(50)).await;
    let range = start(&world, first, last).await;
    let stop = CancellationToken::new();
    let half = async {
        until("some days are done", async || {
            world.database.count("select count(*) from vobiz.ledger_check").await >= 3
        })
        .await;
        stop.cancel();
    };
    let ledger = checker(&world);
    let (stopped, ()) = tokio::join!(ledger.backfill(&world.accounts[0], &range, &stop), half);
    assert!(matches!(stopped, Err(ListError::Stopped)), "{stopped:?}");
    let rest = backfill::unfinished(&mut *world.database.connection().await, &id()).await.unwrap().unwrap();
    assert!(rest.next < last && rest.next >= first, "{rest:?}");
    let done = list(&world, &rest).await;
    assert_eq!(i64::from(done.days), (rest.next - first).num_days() + 1);
    assert_eq!(world.stored().await, 24);
    assert_eq!(ledger_day(&world).await, first.to_string());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_with_a_gap_to_the_ledger_does_not_move_it_until_the_gap_is_closed() {
    let (world, first, last) = history(6, 1, Duration::ZERO).await;
    let before = ledger_day(&world).await;
    list(&world, &start(&world, first, first + Days::new(2)).await).await;
    assert_eq!(ledger_day(&world).await, before);
    // The days between are nobody's.
    checker(&world).check_if_due(&world.accounts[0], &CancellationToken::new()).await.unwrap();
    assert_eq!(world.database.count("select count(*) from vobiz.ledger_check").await, 3);
    list(&world, &start(&world, first + Days::new(3), last).await).await;
    assert_eq!(ledger_day(&world).await, first.to_string());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_beside_a_running_service_waits_its_turn() {
    let (world, first, last) = history(5, 4, Duration::from_millis(20)).await;
    let began = first.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
    sqlx::query("update vobiz.account set ledger_since = $1")
        .bind(began)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let (stop, service) = (CancellationToken::new(), checker(&world));
    let told = stop.clone();
    let running = tokio::spawn(async move { service.run(told).await });
    let done = list(&world, &start(&world, first, last).await).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!((done.days, done.unsettled), (5, 0));
    assert_eq!(world.stored().await, 20);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_lost_is_listed_again() {
    let (world, first, last) = history(4, 5, Duration::ZERO).await;
    list(&world, &start(&world, first, last).await).await;
    let now = world.database.now().await;
    place(&world, now - TimeDelta::minutes(5));
    let since = last.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
    sqlx::query("delete from vobiz.cdr where day_at >= $1")
        .bind(since)
        .execute(&world.database.pool)
        .await
        .unwrap();
    assert!(world.stored().await < 20);
    let done = checker(&world).recover(&world.accounts[0], since, &CancellationToken::new()).await.unwrap();
    assert_eq!((world.stored().await, done.unsettled), (21, 0), "{done:?}");
    let open = "select count(*) from vobiz.ledger_day where to_at < vobiz.now() and state <> 'settled'";
    assert_eq!(world.database.count(open).await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_beside_a_running_service_lists_each_day_once() {
    let (world, first, last) = history(6, 3, Duration::from_millis(100)).await;
    list(&world, &start(&world, first, last).await).await;
    let since = first.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
    sqlx::query("delete from vobiz.cdr").execute(&world.database.pool).await.unwrap();
    let checks = "select count(*) from vobiz.ledger_check";
    let before = world.database.count(checks).await;
    let (stop, service) = (CancellationToken::new(), checker(&world));
    let told = stop.clone();
    let running = tokio::spawn(async move { service.run(told).await });
    let done = checker(&world).recover(&world.accounts[0], since, &CancellationToken::new()).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    assert_eq!((done.unsettled, world.stored().await), (0, 18), "{done:?}");
    let listed = world.database.count(checks).await - before;
    // One that both want at the same moment may be listed twice.
    assert!((6..=8).contains(&listed), "{listed} checks of 7 days");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_vobiz_refuses_are_left_out_and_said() {
    let (world, first, last) = history_at(SimulatorOptions { keeps_days: Some(3), ..options() }, 3, 2).await;
    let range = start(&world, first - Days::new(2), last).await;
    let done = list(&world, &range).await;
    assert_eq!((done.days, done.unread, done.new), (3, 2, 6));
    let rest = backfill::unfinished(&mut *world.database.connection().await, &id()).await.unwrap().unwrap();
    assert_eq!(rest.next, first - Days::new(1));
    world.end().await;
}
