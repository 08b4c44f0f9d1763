//! Each day compared with the list of Vobiz: worlds in which a day is about to be checked.

pub(crate) mod backfill;
mod bill;
mod check;
mod contradiction;
mod cut;
mod fence;
mod further_record;
mod money;
mod odd_list;
mod refused;
mod safe_to_bill;
pub(crate) mod settled;
mod sub_accounts;
mod summary;
mod two_lists;
mod zone;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::ledger::{Checked, Ledger};
use vobiz_cdr::simulator::{CallSpec, SimulatorOptions};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::world::{World, noon, options};

/// A world at noon, whose ledger began with the day before yesterday, and that instant: all checks of that day up to the one a day
/// later are due, and the first of yesterday's.
pub(crate) async fn ledger_world(options: SimulatorOptions) -> (World, DateTime<Utc>) {
    let zone = options.day_zone;
    let world = World::with(options).await;
    let began = noon(&world.database, &world.vobiz, zone).await - TimeDelta::days(2);
    since(&world, began).await;
    (world, began)
}

pub(crate) async fn since(world: &World, began: DateTime<Utc>) {
    sqlx::query("update vobiz.account set ledger_since = $1, registered_at = $1")
        .bind(began)
        .execute(&world.database.pool)
        .await
        .unwrap();
}

/// A call that begins at `hours` after an instant and lasts a minute.
pub(crate) fn at(world: &World, began: DateTime<Utc>, hours: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a few days")]
    let started = began + TimeDelta::seconds((hours * 3600.0) as i64);
    world.vobiz.place_call(of_a_minute(started)).call_id
}

/// A call of a minute and 0.45.
pub(crate) fn of_a_minute(started: DateTime<Utc>) -> CallSpec {
    CallSpec {
        started_at: Some(started),
        ended_at: Some(started + TimeDelta::seconds(60)),
        ring_time: Some(10),
        billsec: Some(50),
        cost: Some("0.45".parse().unwrap()),
        streaming_cost: Some("0".parse().unwrap()),
        ..CallSpec::default()
    }
}

pub(crate) fn checker(world: &World) -> Ledger {
    Ledger::new(world.database.pool.clone(), world.accounts.clone(), Duration::ZERO, Metrics::new())
}

/// Checks all days that are due.
pub(crate) async fn check(world: &World) -> Vec<Checked> {
    let (ledger, stop) = (checker(world), CancellationToken::new());
    let mut checked = Vec::new();
    while let Some(one) = ledger.check_if_due(&world.accounts[0], &stop).await.unwrap() {
        checked.push(one);
        assert!(checked.len() < 20, "the days do not come to an end: {checked:?}");
    }
    checked
}

/// Makes what is to be checked again due now.
pub(crate) async fn hurry(world: &World) {
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where check_at is not null and to_at < vobiz.now() and (state <> 'settled' or reopened_at is not null)").await;
}

/// Checks the settled days once more, and then what that reopened.
pub(crate) async fn check_again(world: &World) {
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where state = 'settled'").await;
    check(world).await;
    hurry(world).await;
    check(world).await;
}

pub(crate) async fn states(world: &World) -> Vec<String> {
    world
        .database
        .texts(
            "select concat_ws(' ', state, calls_here, calls_there, total_here, total_there, recovered, reason)
             from vobiz.ledger_day order by day, currency",
        )
        .await
}

pub(crate) async fn safe_to(world: &World) -> (DateTime<Utc>, String) {
    sqlx::query_as("select safe_to, held_by from vobiz.safe_to_bill")
        .fetch_one(&world.database.pool)
        .await
        .unwrap()
}

/// A call that only we have.
pub(crate) const COPY: &str = "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                                           start_time, total_cost, cost, currency, duration, billsec)
    select 'ours-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, total_cost,
           cost, currency, duration, billsec
    from (select * from vobiz.cdr order by call_id limit 1) one";

/// A settled day of twenty calls and the ids of them.
pub(crate) async fn settled_day() -> (World, DateTime<Utc>, Vec<String>) {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    let calls: Vec<String> = (0..20).map(|n| at(&world, began, f64::from(n) + 0.5)).collect();
    let checked = check(&world).await;
    assert_eq!(checked.len(), 2, "{checked:?}");
    (world, began, calls)
}

pub(crate) const INSERT: &str =
    "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
     select $1, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time from vobiz.cdr limit 1";

/// A world at noon in India with one stored call of the day before yesterday, whose beginning is returned; its check is due.
pub(crate) async fn one_call(latency: Duration) -> (World, DateTime<Utc>) {
    let world = World::with(SimulatorOptions { day_zone: 330, latency, ..options() }).await;
    let began = noon(&world.database, &world.vobiz, 330).await - TimeDelta::days(2);
    sqlx::query("update vobiz.account set ledger_since = $1, registered_at = $1")
        .bind(began)
        .execute(&world.database.pool)
        .await
        .unwrap();
    world.vobiz.place_call(CallSpec {
        started_at: Some(began + TimeDelta::hours(3)),
        ended_at: Some(began + TimeDelta::hours(3) + TimeDelta::seconds(60)),
        ..CallSpec::default()
    });
    world.sweep().await;
    (world, began)
}
