//! A clock of Postgres that was ahead for a while: what was written then is not believed, and holds nothing up.

mod behind;
mod faketime;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::account::{self, Pause};
use vobiz_cdr::db::queue::{self, backlog};
use vobiz_cdr::db::{ledger, overview};
use vobiz_cdr::retry::PauseReason;
use vobiz_cdr::simulator::{Answer, CallSpec};

use self::faketime::SetClock;
use crate::ledger::{checker, ledger_world};
use crate::support::calls::{account as id, replica};
use crate::support::database::Database;
use crate::support::wait::{until, until_is};
use crate::support::world::{World, options};

const AHEAD: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_secs(60);
/// How far the clock is ahead.
const JUMPS: [&str; 2] = ["2 hours", "40 days"];

/// Columns of whose instants one lies in the future.
async fn ahead(db: &Database) -> String {
    let thorough = overview::thorough(&mut *db.connection().await).await.unwrap();
    thorough.instants_ahead.into_iter().map(|ahead| ahead.columns).collect()
}

#[tokio::test]
async fn each_instant_of_an_account_is_believed_no_further_than_its_rule_writes_it() {
    for jump in JUMPS {
        let db = Database::new().await;
        let set =
            async |sql: &str| db.run(&sql.replace("FAR", &format!("vobiz.now() + interval '{jump}'"))).await;
        let mut connection = db.connection().await;
        assert_eq!(ahead(&db).await, "");

        set("update vobiz.account set next_slot = FAR").await;
        assert_eq!(ahead(&db).await, "next_slot");
        let slots = account::reserve(&mut connection, &id(), 10.0, 1, AHEAD).await.unwrap();
        assert_eq!((slots.count, slots.wait < Duration::from_secs(1)), (1, true), "{slots:?}");
        assert_eq!(ahead(&db).await, "", "and it is written anew");

        set("update vobiz.account set rate_share = 0.5, rate_share_at = FAR").await;
        let rate =
            async || db.text("select (100 * vobiz.rate_in_force(a))::int::text from vobiz.account a").await;
        assert_eq!(rate().await, "50");
        account::reserve(&mut connection, &id(), 10.0, 1, Duration::from_secs(10)).await.unwrap();
        db.shift_clock("60 seconds").await;
        assert_eq!(rate().await, "100", "it recovers");

        set("update vobiz.account set swept_at = FAR, swept_wide_at = FAR, sweep_from = FAR").await;
        assert_eq!(ahead(&db).await, "sweep_from, swept_at, swept_wide_at");
        let plan =
            account::plan_sweep(&mut connection, &id(), 5 * MINUTE).await.unwrap().expect("a sweep is due");
        assert!(plan.wide && plan.now - plan.down_to > TimeDelta::hours(26), "{plan:?}");
        account::swept(&mut connection, &id(), &plan).await.unwrap();
        assert_eq!(ahead(&db).await, "");

        db.owe(&["a"], true).await;
        set("update vobiz.account set listed_due_to = FAR, listing_until = FAR").await;
        assert!(queue::any_due(&mut connection, &replica()).await.unwrap(), "nobody reads it by the list");
        assert!(!backlog::snapshot(&mut connection, &id(), 10.0).await.unwrap().unwrap().reserved);
        set(
            "update vobiz.account set listed_due_to = null, listing_until = null, pause_reason = 'throttled',
                    paused_since = FAR - interval '1 minute', paused_until = FAR",
        )
        .await;
        assert!(!account::is_paused(&mut connection, &id(), &replica()).await.unwrap());
        assert_eq!(db.lease(5).await.len(), 1, "{jump}");

        // Of this replica alone, too; and its probe is due.
        let pause = Pause { reason: PauseReason::Denied, length: MINUTE, error: "denied: 401" };
        account::pause(&mut connection, &id(), &replica(), pause).await.unwrap();
        set("update vobiz.account_replica set seen_at = FAR, probe_at = FAR, paused_since = FAR;
             update vobiz.account set paused_until = FAR; update vobiz.account_pause set until_at = FAR")
        .await;
        assert!(account::status(&mut connection, &id(), &replica()).await.unwrap().unwrap().probe);
        account::resume(&mut connection, &id(), &replica(), "denied").await.unwrap();
        assert!(!account::is_paused(&mut connection, &id(), &replica()).await.unwrap());
        assert_eq!(
            db.count(
                "select count(*) from vobiz.account_pause where until_at > vobiz.now() + interval '2 minutes'"
            )
            .await,
            0
        );

        set("update vobiz.account set ledger_since = FAR, registered_at = FAR, last_answer_at = FAR;
             update vobiz.account_replica set seen_at = FAR")
        .await;
        assert!(ahead(&db).await.contains("ledger_since"));
        account::is_paused(&mut connection, &id(), &replica()).await.unwrap();
        account::answered(&mut connection, &id(), &replica()).await.unwrap();
        assert_eq!(ahead(&db).await, "", "{jump}");
        ledger::due(&mut connection, &id(), Duration::ZERO).await.unwrap();
        assert!(db.count("select count(*) from vobiz.provider_day").await > 0, "days begin now");
    }
}

#[tokio::test]
async fn calls_that_were_put_off_further_than_their_rule_are_due_now() {
    for (class, most) in [("not_yet", "60 minutes"), ("unavailable", "15 minutes"), ("refused", "40 minutes")]
    {
        let db = Database::new().await;
        db.owe(&["far", "near"], true).await;
        db.run(&format!(
            "update vobiz.cdr_queue set failures = 1, error_class = '{class}', last_error = 'x', first_failed_at = vobiz.now(),
                    due_at = vobiz.now() + interval '{most}' + case call_id when 'far' then interval '2 hours' else interval '0' end"
        ))
        .await;
        assert_eq!(queue::mend_due(&mut *db.connection().await, &id(), 10).await.unwrap(), 1, "{class}");
        let leased: Vec<String> = db.lease(9).await.iter().map(|lease| lease.call_id().to_string()).collect();
        assert_eq!(leased, ["far"], "{class}");
    }
}

/// All at once, by the flows themselves: they work under the clock that is ahead, and go on when it is right again.
#[tokio::test]
async fn what_is_done_under_a_clock_that_is_ahead_holds_nothing_up_afterwards() {
    for jump in JUMPS {
        let world = World::new().await;
        let missing = world.vobiz.place_call(CallSpec::default());
        world.owe(&missing.call_id, true).await;
        world.vobiz.script(&missing.call_id, [Answer::NotFound]);
        world.database.shift_clock(jump).await;
        world.sweep().await;
        let late = world.owed_call().await;
        world.vobiz.script(&late.call_id, [Answer::NotFound]);
        world.drain().await;
        backlog::reserve(&mut *world.database.connection().await, &id(), world.database.now().await, MINUTE)
            .await
            .unwrap();
        let pause = Pause { reason: PauseReason::Throttled, length: MINUTE, error: "throttled: 429" };
        account::pause(&mut *world.database.connection().await, &id(), &replica(), pause).await.unwrap();

        world.database.shift_clock("10 seconds").await;
        assert!(ahead(&world.database).await.contains("swept_at"), "{jump}");
        let (one, two) = (world.owed_call().await, world.vobiz.place_call(CallSpec::default()));
        world.drain().await;
        assert_eq!(
            world
                .database
                .count(&format!(
                    "select count(*) from vobiz.cdr where call_id in ('{}', '{}')",
                    one.call_id, late.call_id
                ))
                .await,
            2
        );
        let sweeper = vobiz_cdr::sweep::Sweeper::new(
            world.database.pool.clone(),
            world.accounts.clone(),
            5 * MINUTE,
            vobiz_cdr::watch::metrics::Metrics::new(),
        );
        let swept = sweeper
            .sweep_if_due(&world.accounts[0], &CancellationToken::new())
            .await
            .unwrap()
            .expect("it is due");
        assert_eq!(swept.recovered, 1, "{} in {jump}: {swept:?}", two.call_id);
        assert_eq!(ahead(&world.database).await, "", "{jump}");
        world.end().await;
    }
}

#[tokio::test]
async fn days_that_were_settled_under_a_clock_that_is_ahead_are_open_again() {
    for days in [1, 40] {
        let (world, began) = ledger_world(options()).await;
        crate::ledger::at(&world, began, 3.0);
        let now = world.database.now().await;
        let far = now + TimeDelta::days(days);
        world.database.stop_clock(far).await;
        let checker = checker(&world);
        let stop = CancellationToken::new();
        while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
        let settled = "select count(*) from vobiz.provider_day where state = 'settled'";
        assert!(world.database.count(settled).await >= days, "as if they were over");
        world.database.stop_clock(now).await;
        let safe: DateTime<Utc> = sqlx::query_scalar("select safe_to from vobiz.safe_to_bill")
            .fetch_one(&world.database.pool)
            .await
            .unwrap();
        assert!(safe <= now, "before anybody looks at the days: {safe}");
        let held = world.text("select held_by from vobiz.safe_to_bill").await;
        assert!(held.contains("under a clock that was ahead"), "{held}");
        assert!(ahead(&world.database).await.contains("checked_at"));
        while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
        assert_eq!(ahead(&world.database).await, "");
        let not_over = "select count(*) from vobiz.provider_day where state <> 'open' and to_at > vobiz.now() - interval '1 hour'";
        assert_eq!(world.database.count(not_over).await, 0);
        assert!(world.database.count(settled).await >= 1, "those that are over are settled anew");
        world.end().await;
    }
}

#[tokio::test]
async fn a_day_whose_check_began_before_its_end_is_not_settled() {
    let (world, began) = ledger_world(options()).await;
    crate::ledger::at(&world, began, 3.0);
    let checker = checker(&world);
    let stop = CancellationToken::new();
    while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
    let day = "(select min(day) from vobiz.provider_day)";
    assert_eq!(
        world.text(&format!("select state from vobiz.provider_day where day = {day}")).await,
        "settled"
    );
    // What a clock forty days ahead left behind, forty days later.
    world
        .database
        .run(&format!("update vobiz.provider_day set began_at = to_at - interval '1 hour' where day = {day}"))
        .await;
    let safe: DateTime<Utc> = sqlx::query_scalar("select safe_to from vobiz.safe_to_bill")
        .fetch_one(&world.database.pool)
        .await
        .unwrap();
    assert!(safe <= began, "{safe}");
    let again = checker.check_if_due(&world.accounts[0], &stop).await.unwrap().expect("it is due");
    assert_eq!(again.state.as_str(), "settled");
    world.end().await;
}

/// The clock of the machine of Postgres is two hours ahead, or forty days, for as long as a sweep takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_whose_clock_jumps_and_comes_back_stops_nothing() {
    let swept = "select count(*) from vobiz.account where swept_at > now() - interval '1 minute' and swept_at <= now()";
    for jump in ["+2h", "+40d"] {
        let Some(world) = SetClock::start().await else { return };
        until("it has swept", async || world.count(swept).await == 1).await;

        world.set(jump);
        until("Postgres lives in the future", async || {
            let ours = DateTime::<Utc>::from(std::time::SystemTime::now());
            world.instant("select clock_timestamp()").await > ours + TimeDelta::hours(1)
        })
        .await;
        until("and a sweep was there", async || world.count(swept).await == 1).await;
        world.set("+0");

        world.vobiz.place_call(CallSpec::default());
        until_is("a call that nobody announced is swept", 1, async || {
            world.count("select count(*) from vobiz.cdr").await
        })
        .await;
        until_is("and no day of the future is settled", 0, async || {
            world
                .count("select count(*) from vobiz.provider_day where state = 'settled' and to_at > now()")
                .await
        })
        .await;
        until("and the clock is right for all", async || world.count(swept).await == 1).await;
        world.end_well().await;
    }
}
