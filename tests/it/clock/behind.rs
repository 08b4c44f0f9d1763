//! A clock of Postgres that is behind, by what Vobiz says or by ours: nothing is stored by it.

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::simulator::{Answer, CallSpec, RequestKind, Simulator, SimulatorOptions};

use super::faketime::SetClock;
use crate::support::database::{ACCOUNT, Database};
use crate::support::running::Running;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, World, options, serve_config};

/// Vobiz is ahead of Postgres: by what it answers, the clock of Postgres is behind. Times of calls would look like none, and the calls
/// would lie on the days of the wrong clock.
#[tokio::test]
async fn nothing_is_stored_by_a_clock_that_is_behind() {
    for (jump, seconds) in [("2 hours", 7200), ("40 days", 40 * 86_400)] {
        let db = Database::new().await;
        let vobiz = Simulator::start(SimulatorOptions { clock_ahead: seconds, ..options() }).await.unwrap();
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        let running = Running::start(config, &db.url).await;
        let announced = vobiz.place_call(CallSpec::default());
        db.owe(&[&announced.call_id], true).await;
        let silent = vobiz.place_call(CallSpec::default());
        until("it is said", async || {
            let acts = running.acts().await;
            acts.iter().any(|act| act.contains("the clock of Postgres is") && act.contains("s behind"))
        })
        .await;
        assert!(vobiz.stats().total_requests() > 0);
        let written = "select count(*) from vobiz.cdr_revision";
        assert_eq!(db.count(written).await, 0, "{jump}");
        db.shift_clock(jump).await;
        until_is("both come", 2, async || db.count("select count(*) from vobiz.cdr").await).await;
        for call in [&announced, &silent] {
            let started = db
                .text(&format!("select start_time::text from vobiz.cdr where call_id = '{}'", call.call_id))
                .await;
            assert_ne!(started, "-", "{jump}");
        }
        let failed = "select count(*) from vobiz.cdr where attempts > 1 or notes <> '{}'";
        assert_eq!(db.count(failed).await, 0, "{jump}");
        running.end().await;
    }
}

/// The clock that is wrong is that of a machine of Vobiz's: it is believed, since calls would be misplaced if it were right, but no longer
/// than it says so.
#[tokio::test]
async fn a_wrong_word_of_vobiz_about_the_time_holds_nothing_up_once_it_is_right() {
    let db = Database::new().await;
    let vobiz = Simulator::start(options()).await.unwrap();
    vobiz.set_date_off(7200);
    let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
    let running = Running::start(config, &db.url).await;
    let behind = async || running.acts().await.iter().any(|act| act.contains("the clock of Postgres is"));
    let announced = vobiz.place_call(CallSpec::default());
    db.owe(&[&announced.call_id], true).await;
    until("it is said", behind).await;
    vobiz.place_call(CallSpec::default());
    vobiz.set_date_off(0);
    // Nobody but the watch of the clock asks now.
    until_is("both come", 2, async || db.count("select count(*) from vobiz.cdr").await).await;
    until("and it is over", async || !behind().await).await;
    assert_eq!(db.count("select count(*) from vobiz.cdr where attempts > 1 or notes <> '{}'").await, 0);
    running.end().await;
}

/// A single answer with a wrong time, as that of one machine of many, holds nothing up: Vobiz is asked again before anything is refused.
#[tokio::test]
async fn one_wrong_word_about_the_time_is_no_reason_to_refuse() {
    let world = World::new().await;
    let account = &world.accounts[0];
    account.client.use_access(account.client.candidates()[0]);
    world.vobiz.set_date_off(7200);
    let query = vobiz_cdr::vobiz::ListQuery { page: 1, per_page: 1, ..Default::default() };
    account.client.list_cdrs(&query).await.unwrap();
    let ahead = account.client.now().unwrap() - world.database.now().await;
    assert!(ahead > TimeDelta::hours(1), "{ahead}");
    world.vobiz.set_date_off(0);
    account.check_clock(world.database.now().await).await.unwrap();
    assert!(account.clock_behind().is_none());
    world.end().await;
}

/// The very first answer says so: it is given back, whatever it was, and costs the call nothing.
#[tokio::test]
async fn an_answer_that_says_that_the_clock_is_behind_is_not_stored() {
    for answer in [None, Some(Answer::NotFound)] {
        let world = World::with(SimulatorOptions { clock_ahead: 7200, ..options() }).await;
        let client = &world.accounts[0].client;
        client.use_access(client.candidates()[0]);
        let call = world.owed_call().await;
        world.vobiz.script(&call.call_id, answer.clone());
        let stop = CancellationToken::new();
        let until_given_back = async {
            until("it was given back", async || {
                world.database.count("select count(*) from vobiz.cdr_queue where due_at < vobiz.now() + interval '20 seconds'").await == 1
                    && world.vobiz.stats().fetches_of(&call.call_id) > 0
            })
            .await;
            stop.cancel();
        };
        tokio::join!(world.fetcher.run(stop.clone()), until_given_back);
        assert_eq!(
            world.vobiz.stats().fetches_of(&call.call_id),
            1,
            "and it is not asked for again: {answer:?}"
        );
        assert_eq!(world.status(&call.call_id).await, "- 0 alive");
        assert_eq!(world.stored().await, 0);
        world.database.shift_clock("2 hours").await;
        world.drain().await;
        assert_eq!(world.stored().await, 1, "{answer:?}");
        world.end().await;
    }
}

/// The clock of the machine of Postgres goes back, and comes back: calls that end meanwhile are billed where they belong.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_whose_clock_goes_back_moves_no_call() {
    let calls = "select count(*) from vobiz.cdr";
    let began = "select ledger_since from vobiz.account";
    for jump in ["-2h", "-40d"] {
        let Some(world) = SetClock::start().await else { return };
        let (vobiz, running) = (&world.vobiz, &world.running);
        vobiz.place_call(CallSpec::default());
        until_is("a call is swept", 1, async || world.count(calls).await).await;
        let since = world.instant(began).await;

        world.set(jump);
        until("it is said", async || {
            let acts = running.acts().await;
            acts.iter().any(|act| act.contains("nothing is fetched, listed or proven"))
        })
        .await;
        vobiz.place_call(CallSpec::default());
        let asked = vobiz.stats().requests_of(RequestKind::Single);
        until("the sweep has looked at the clock again", async || {
            running.acts().await.iter().any(|act| act.contains("sweep"))
        })
        .await;
        // It is asked for the time again and again, and nothing of what it answers is stored.
        assert_eq!(
            (world.count(calls).await, vobiz.stats().requests_of(RequestKind::Single)),
            (1, asked),
            "{jump}"
        );

        world.set("+0");
        until_is("the other one is swept", 2, async || world.count(calls).await).await;
        let today = "select count(*) from vobiz.cdr where start_time is not null and day_at > now() - interval '1 hour'";
        assert_eq!(world.count(today).await, 2, "{jump}");
        assert_eq!(world.instant(began).await, since, "{jump}: nobody owes the days of the wrong clock");
        world.end_well().await;
    }
}
