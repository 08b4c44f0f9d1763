//! Listing the past: the ledger grows without a gap, whatever stops it on the way, and says what differs.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::base::task;
use vobiz_cdr::db::ledger::backfill::{self, DayRange};
use vobiz_cdr::ledger::{Backfilled, Ledger};
use vobiz_cdr::list::ListError;
use vobiz_cdr::simulator::{CallSpec, RequestKind, SimulatorOptions};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::calls::account as id;
use crate::support::database::ACCOUNT;
use crate::support::process::{Finished, program, run};
use crate::support::world::{TOKEN, World, eventually, noon, options};

/// A world with so many calls on each of the last days, before the service was there. The last day is yesterday.
async fn history(days: u64, calls: u32, latency: Duration) -> (World, NaiveDate, NaiveDate) {
    history_at(SimulatorOptions { latency, ..options() }, days, calls).await
}

/// The same at another Vobiz.
async fn history_at(options: SimulatorOptions, days: u64, calls: u32) -> (World, NaiveDate, NaiveDate) {
    let world = World::with(SimulatorOptions { day_zone: 330, ..options }).await;
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

fn place(world: &World, started_at: DateTime<Utc>) {
    let spec = CallSpec {
        started_at: Some(started_at),
        ended_at: Some(started_at + TimeDelta::seconds(40)),
        ..CallSpec::default()
    };
    world.vobiz.place_call(spec);
}

fn checker(world: &World) -> Ledger {
    Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new())
}

async fn start(world: &World, first: NaiveDate, last: NaiveDate) -> DayRange {
    backfill::start(&mut *world.database.connection().await, &id(), first, last).await.unwrap()
}

async fn list(world: &World, range: &DayRange) -> Backfilled {
    checker(world).backfill(&world.accounts[0], range, &CancellationToken::new()).await.unwrap()
}

async fn ledger_day(world: &World) -> String {
    world.text("select vobiz.provider_day_of(account_id, ledger_since) from vobiz.account").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_begins_the_ledger_earlier_and_lists_each_day_once() {
    let (world, first, last) = history(40, 3, Duration::ZERO).await;
    let range = start(&world, first, last).await;
    let done = list(&world, &range).await;
    assert_eq!((done.days, done.unsettled, done.calls, done.new, done.requests), (40, 0, 120, 120, 40));
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
    assert_eq!(later, 30);
    assert_eq!(backfill::unfinished(&mut *world.database.connection().await, &id()).await.unwrap(), None);
    // The first sweep of a service does not go through the history.
    let swept = world.sweep().await;
    assert!(swept.pages <= 2, "{swept:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_stopped_goes_on_where_it_was() {
    let (world, first, last) = history(8, 2, Duration::from_millis(50)).await;
    let range = start(&world, first, last).await;
    let stop = CancellationToken::new();
    let half = async {
        eventually("some days are done", Duration::from_secs(20), async || {
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
    assert_eq!(world.stored().await, 16);
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

fn command(world: &World, arguments: &[&str]) -> Finished {
    run(program(arguments)
        .env("DATABASE_URL", &world.database.url)
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", TOKEN)
        .env("VOBIZ_MAX_RPS", "1000")
        .env("VOBIZ_API_URL", world.vobiz.api_url()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_it_costs_and_ends_with_the_ledger() {
    let (world, first, last) = history(3, 120, Duration::ZERO).await;
    let (from, to) = (first.to_string(), last.to_string());
    let asked = world.vobiz.stats().requests.get(&RequestKind::List).copied().unwrap_or(0);
    let dry = command(&world, &["backfill", "--from", &from, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", dry.stderr);
    assert!(
        dry.stderr.contains(&format!("360 calls from {from} to {to}: about 5 requests")),
        "{}",
        dry.stderr
    );
    assert!(dry.stderr.contains("in Postgres (2200 bytes a call, as is usual)"), "{}", dry.stderr);
    assert_eq!(world.stored().await, 0, "a dry run stores nothing");
    assert!(world.vobiz.stats().requests[&RequestKind::List] <= asked + 3);

    let done = command(&world, &["backfill", "--from", &from, "--to", &to, "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    let lines: Vec<serde_json::Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["state"] == "settled" && line["calls_here"] == 120), "{lines:?}");
    assert!(
        done.stderr.contains(
            "360 calls of 3 days listed with 6 requests; new here: 360, changed: 0; days not settled: 0"
        ),
        "{}",
        done.stderr
    );

    // A call that only we have is a mismatch, and the exit code says so.
    world.database.run("insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, total_cost, currency)
        select 'ours-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, 1, currency from (select * from vobiz.cdr order by start_time desc limit 1) one").await;
    let again = command(&world, &["backfill", "--from", &to, "--to", &to]);
    assert_eq!(again.status.code(), Some(1), "{}", again.stderr);
    assert!(again.stdout.contains("1 call is missing at Vobiz: ours-alone"), "{}", again.stdout);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_clear_about_what_it_cannot_do() {
    let (world, first, last) = history(2, 1, Duration::ZERO).await;
    let (from, to) = (first.to_string(), last.to_string());
    start(&world, first, last).await;
    for (arguments, code, says) in [
        (vec!["backfill"], 2, "--from"),
        (vec!["backfill", "--from", "yesterday"], 2, "invalid value"),
        (
            vec!["backfill", "--from", &from, "--to", &to],
            2,
            "go on with it by --resume, or drop it by --anew",
        ),
        (vec!["backfill", "--from", &to, "--to", &from, "--anew"], 2, "lies after"),
        (vec!["backfill", "--from", &from, "--to", "2999-01-01", "--anew"], 2, "lies in the future"),
        (vec!["backfill", "--resume", "--account", "MA_OTHER"], 2, "no such account is configured"),
        (vec!["recover", "--since", "2999-01-01T00:00:00Z"], 2, "lies in the future"),
    ] {
        let finished = command(&world, &arguments);
        assert_eq!(finished.status.code(), Some(code), "{arguments:?} {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{arguments:?} {}", finished.stderr);
    }
    // A slip of the pen in the account leaves no trace.
    let mut slip = program(&["backfill", "--from", &from]);
    slip.env("DATABASE_URL", &world.database.url)
        .env("VOBIZ_AUTH_ID", "MA_SLIPPED1")
        .env("VOBIZ_AUTH_TOKEN", TOKEN);
    let slipped = run(slip.env("VOBIZ_API_URL", world.vobiz.api_url()));
    assert_eq!(slipped.status.code(), Some(1), "{}", slipped.stderr);
    assert!(slipped.stderr.contains("does not let us read the CDRs of MA_SLIPPED1"), "{}", slipped.stderr);
    assert_eq!(world.database.texts("select account_id from vobiz.safe_to_bill").await, [ACCOUNT]);
    // Two at once would list each day twice.
    let mut other = world.database.connection().await;
    assert!(task::try_lock(&mut other, &format!("backfill {ACCOUNT}")).await.unwrap());
    for arguments in [vec!["backfill", "--resume"], vec!["backfill", "--from", &from, "--anew"]] {
        let refused = command(&world, &arguments);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("is at work: wait for its end, or stop it"), "{}", refused.stderr);
    }
    other.close().await.unwrap();
    let resumed = command(&world, &["backfill", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", resumed.stderr);
    assert_eq!(world.stored().await, 2);
    let nothing = command(&world, &["backfill", "--resume"]);
    assert!(nothing.stderr.contains("no backfill is unfinished"), "{}", nothing.stderr);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_day_is_compared_because_somebody_asks() {
    let (world, first, last) = history(3, 4, Duration::ZERO).await;
    let day = first.to_string();
    let done = command(&world, &["reconcile", "--day", &day]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("settled") && done.stdout.contains(&day), "{}", done.stdout);
    assert_eq!(world.stored().await, 4, "what was missing is stored");
    assert_eq!(world.text("select string_agg(distinct origin, ' ') from vobiz.cdr").await, "manual");
    world.database.run("update vobiz.cdr set cost = cost + 0.01").await;
    let done = command(&world, &["reconcile", "--day", &day, "--json"]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stdout.contains("4 calls differ: "), "{}", done.stdout);
    assert!(done.stderr.contains("where check_id = 2"), "{}", done.stderr);
    let kinds = "select string_agg(distinct kind || ' ' || field, ',') from vobiz.ledger_difference where check_id = 2";
    assert_eq!(world.text(kinds).await, "differs cost");
    // Today is not over: it equals the list so far, and is not settled.
    let today = (last + Days::new(1)).to_string();
    let done = command(&world, &["reconcile", "--day", &today]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("unproven") && done.stdout.contains("has not been over for an hour"),
        "{}",
        done.stdout
    );
    for arguments in [
        vec!["reconcile", "--day", "2999-01-01"],
        vec!["reconcile"],
        vec!["reconcile", "--day", &day, "--csv", "x.csv"],
    ] {
        assert_eq!(command(&world, &arguments).status.code(), Some(2), "{arguments:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_goes_on_without_a_gap() {
    let (world, first, last) = history(12, 2, Duration::from_millis(100)).await;
    let (from, to) = (first.to_string(), last.to_string());
    let mut killed = program(&["backfill", "--from", &from, "--to", &to])
        .env("DATABASE_URL", &world.database.url)
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", TOKEN)
        .env("VOBIZ_MAX_RPS", "1000")
        .env("VOBIZ_API_URL", world.vobiz.api_url())
        .spawn()
        .unwrap();
    eventually("some days are done", Duration::from_secs(20), async || {
        world.database.count("select count(*) from vobiz.ledger_check").await >= 3
    })
    .await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(world.stored().await < 24);
    let resumed = command(&world, &["backfill", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", resumed.stderr);
    assert_eq!((world.stored().await, ledger_day(&world).await), (24, from));
    // The day that was cut off is listed again, the others are not.
    let checks = world.database.count("select count(*) from vobiz.ledger_check").await;
    assert!((12..=13).contains(&checks), "{checks}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_days_beyond_the_first_call_prove_nothing() {
    let (world, first, last) = history(3, 2, Duration::ZERO).await;
    let from = (first - Days::new(5)).to_string();
    let done = command(&world, &["backfill", "--from", &from, "--to", &last.to_string()]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert_eq!(ledger_day(&world).await, first.to_string());
    assert!(done.stderr.contains(&format!("the ledger begins with {first}")), "{}", done.stderr);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_backfill_answers_for_the_days_before_the_interruption_too() {
    let (world, first, last) = history(3, 2, Duration::ZERO).await;
    let range = start(&world, first, last).await;
    list(&world, &DayRange { first: last, ..range.clone() }).await;
    world.database.run("update vobiz.cdr set total_cost = total_cost + 1").await;
    let due = vobiz_cdr::db::ledger::Due { day: last, cause: vobiz_cdr::db::ledger::CheckCause::Again };
    let origin = vobiz_cdr::db::cdr::Origin::Backfill;
    checker(&world).check_day(&world.accounts[0], due, origin, &CancellationToken::new()).await.unwrap();
    let done = command(&world, &["backfill", "--resume"]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stdout.contains("differs"), "{}", done.stdout);
    world.end().await;
}
