//! Lists that are odd and yet say all there is to know, and what is said of those that do not.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection as _;
use vobiz_cdr::simulator::{Answer, CallSpec, ListFaults, RequestKind, SimulatorOptions};

use super::backfill::command;
use super::refused::day_of;
use super::{at, check, ledger_world, one_call, safe_to, states};
use crate::support::database::ACCOUNT;
use crate::support::wait::{in_the_end, until};
use crate::support::world::{World, options};

async fn first_day(world: &World) -> String {
    world.text("select concat_ws(': ', state, reason) from vobiz.ledger_day order by day limit 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_may_say_that_it_has_a_page() {
    for lists in [ListFaults { page_of_nothing: true, ..ListFaults::default() }, ListFaults::default()] {
        let (world, began) = day_of(0, &[], lists).await;
        check(&world).await;
        assert_eq!(states(&world).await[..2], ["settled 0", "settled 0"]);
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_list_shows_twice_is_stored_once_and_its_day_settles() {
    for calls in [1, 21, 100, 230] {
        let lists = ListFaults { repeats_newest: true, ..ListFaults::default() };
        let (world, _) = day_of(calls, &[], lists).await;
        check(&world).await;
        assert_eq!(first_day(&world).await, "settled", "{calls}");
        assert_eq!(world.stored().await, i64::from(calls));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_could_not_be_read_is_named_in_the_reason_and_kept() {
    for (owner, name) in [("\"MA_OTHER999\"", "MA_OTHER999"), ("7", "7"), ("0.45", "0.45")] {
        let (world, began) = ledger_world(options()).await;
        at(&world, began, 5.0);
        let started = began + TimeDelta::hours(6);
        let spec = CallSpec {
            started_at: Some(started),
            ended_at: Some(started + TimeDelta::seconds(60)),
            ..CallSpec::default()
        };
        let other = world.vobiz.place_call(spec.with("account_id", owner)).call_id;
        for _ in 0..2 {
            world.sweep().await;
        }
        check(&world).await;
        let said = first_day(&world).await;
        assert!(said.ends_with(&format!("1 row of the list could not be read: {other}")), "{said}");
        let difference = "select concat_ws(' ', call_id, there) from vobiz.ledger_difference where kind = 'unreadable' limit 1";
        assert_eq!(world.text(difference).await, format!("{other} it is of another account: {name}"));
        let kept = world
            .database
            .texts("select concat_ws(' ', call_id, why, convert_from(body, 'UTF8')::jsonb ->> 'account_id') from vobiz.unreadable_row")
            .await;
        assert_eq!(kept, [format!("{other} it is of another account: {name} {name}")]);
        assert_eq!(world.stored().await, 1);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_call_are_kept_once_and_named_by_what_they_show() {
    let (world, began) = ledger_world(options()).await;
    let spec = |hours: i64| {
        let started = began + TimeDelta::hours(hours);
        CallSpec {
            started_at: Some(started),
            ended_at: Some(started + TimeDelta::seconds(60)),
            ..CallSpec::default()
        }
    };
    world.vobiz.place_call(spec(5).with("uuid", "\"a/b\""));
    let nameless = world.vobiz.place_call(spec(6).without("uuid")).vobiz_id;
    check(&world).await;
    check(&world).await;
    let said = first_day(&world).await;
    assert!(
        said.ends_with(&format!("2 rows of the list could not be read: number {nameless}, a/b")),
        "{said}"
    );
    assert_eq!(world.database.count("select count(*) from vobiz.unreadable_row").await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_any_time_is_told_as_that() {
    let (world, began) = ledger_world(options()).await;
    let started = began + TimeDelta::hours(6);
    let spec = CallSpec {
        started_at: Some(started),
        ended_at: Some(started + TimeDelta::seconds(60)),
        ..CallSpec::default()
    };
    let timeless =
        ["start_time", "end_time", "created_at"].into_iter().fold(spec, |spec, key| spec.with(key, "null"));
    let call = world.vobiz.place_call(timeless).call_id;
    check(&world).await;
    let expected = format!(
        "differs: 1 call of the list has no time at all, so that nothing says in which day they are to be billed: {call}"
    );
    assert_eq!(first_day(&world).await, expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_a_list_that_fails_is_counted() {
    // Of the day before yesterday Vobiz keeps nothing any more.
    let options = SimulatorOptions { day_zone: 330, keeps_days: Some(1), ..options() };
    let (world, began) = ledger_world(options).await;
    let first = (began + TimeDelta::minutes(330)).date_naive().to_string();
    let done = command(&world, &["backfill", "--from", &first, "--to", &first]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    let requests = done.stderr.lines().find(|line| line.contains("listed with"));
    let requests = requests.unwrap_or_else(|| panic!("{}", done.stderr));
    assert!(!requests.contains("with 0 requests"), "{requests}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_waits_for_the_row_of_its_day_keeps_no_other_waiting() {
    let (world, _) = one_call(Duration::ZERO).await;
    let vobiz = world.vobiz.clone();
    let lists = || vobiz.stats().requests_of(RequestKind::List);
    let free = "select name from vobiz.work_lease where name = 'wrong sums' for no key update skip locked";
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    vobiz.script_account(ACCOUNT, Some(Answer::Slow(Duration::from_secs(2))));
    let before = lists();
    let checking = check(&world);
    let watching = async {
        // The check has noted its beginning on the row of its day.
        until("the list is asked for", async || lists() > before).await;
        vobiz.script_account(ACCOUNT, None);
        let mut foreign = world.database.connection().await;
        let mut holding = foreign.begin().await.unwrap();
        sqlx::query("select from vobiz.provider_day for update").execute(&mut *holding).await.unwrap();
        until("the check waits", async || world.database.count(waits).await > 0).await;
        assert_eq!(world.text(free).await, "wrong sums");
        holding.commit().await.unwrap();
    };
    let (checked, ()) = Box::pin(in_the_end("the check", async { tokio::join!(checking, watching) })).await;
    assert!(!checked.is_empty() && checked[0].reason.is_none(), "{checked:?}");
    world.end().await;
}
