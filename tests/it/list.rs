//! Reading pages of the list: how old a page is, and what a bad moment costs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use vobiz_cdr::simulator::{Answer, CallSpec, RequestKind};
use vobiz_cdr::sweep::Sweeper;
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::database::ACCOUNT;
use crate::support::wait::until;
use crate::support::world::World;
use crate::sweep::{NEVER, all_stored_once, outage, paced, swept_just_now};

#[tokio::test]
async fn a_list_page_is_as_old_as_its_request_however_long_it_took() {
    let world = World::new().await;
    let call = world.vobiz.place_call(CallSpec::default());
    world.owe(&call.call_id, true).await;
    // Finds out the path, so that the page below is the next list request.
    world.drain().await;
    sqlx::query("delete from vobiz.cdr").execute(&world.database.pool).await.unwrap();
    sqlx::query("delete from vobiz.cdr_revision").execute(&world.database.pool).await.unwrap();
    world.owe(&call.call_id, true).await;
    let slow = world.vobiz.clone();
    let before = slow.stats().requests_of(RequestKind::List);
    slow.script_account(ACCOUNT, Some(Answer::Slow(Duration::from_millis(700))));
    let (swept, ()) = tokio::join!(world.sweep(), async {
        let lists = || slow.stats().requests_of(RequestKind::List);
        until("the page is asked for", async || lists() > before).await;
        slow.script_account(ACCOUNT, None);
        world.drain().await;
    });
    assert_eq!(swept.rows, 1);
    assert_eq!(
        world.text("select total_cost from vobiz.cdr").await,
        call.total_cost().normalize().to_string()
    );
    // The page is as old as its request: it does not count as a confirmation later than the fetch.
    let order = "select (fetched_at = (select max(fetched_at) from vobiz.cdr_revision))::text from vobiz.cdr";
    assert_eq!(world.text(order).await, "true");
    world.end().await;
}

#[tokio::test]
async fn one_bad_page_is_asked_for_again_and_not_the_whole_list() {
    let world = World::new().await;
    outage(&world, 1200, 24).await;
    let slow = paced(&world, 8.0);
    swept_just_now(&world).await;
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![slow.clone()], NEVER, Metrics::new());
    let stop = CancellationToken::new();
    let (drained, ()) = tokio::join!(sweeper.drain_if_backlogged(&slow, &stop), async {
        until("the drain is on", async || world.stored().await > 300).await;
        // A page fails; the request that asks whether the account works finds that it does.
        world.vobiz.script_account(ACCOUNT, Some(Answer::Slow(Duration::from_secs(60))));
        let before = world.vobiz.stats().requests_of(RequestKind::List);
        let lists = || world.vobiz.stats().requests_of(RequestKind::List);
        until("a page is asked for", async || lists() > before).await;
        world.vobiz.script_account(ACCOUNT, None);
    });
    let drained = drained.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (1200, 0));
    assert_eq!(drained.pages, 12);
    all_stored_once(&world, 1200).await;
    world.end().await;
}
