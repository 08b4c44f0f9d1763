//! A page in the middle of a list that Vobiz refuses: what lies before and behind it is stored, and what is lost holds its day back, in words.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::cdr::Origin;
use vobiz_cdr::db::ledger::CheckCause;
use vobiz_cdr::db::ledger::Due;
use vobiz_cdr::list::ListError;
use vobiz_cdr::simulator::{Answer, CallSpec, ListFaults, RequestKind, SimulatorOptions};

use super::backfill::command;
use super::{check, checker, hurry, ledger_world, safe_to};
use crate::support::database::ACCOUNT;
use crate::support::running::Running;
use crate::support::wait::until;
use crate::support::world::{TOKEN, World, options, serve_config};
use crate::sweep::{drain_by_list, outage};

/// So many calls of one day, of which those at these places of its list (from 0) cannot be printed.
async fn day(calls: u32, unprintable: &[u32]) -> (World, DateTime<Utc>) {
    day_of(calls, unprintable, ListFaults::default()).await
}

/// The same, at a Vobiz whose lists have faults.
pub(super) async fn day_of(calls: u32, unprintable: &[u32], lists: ListFaults) -> (World, DateTime<Utc>) {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, lists, ..options() }).await;
    for place in 0..calls {
        let started = began + TimeDelta::hours(20) - TimeDelta::seconds(i64::from(place) * 30);
        world.vobiz.place_call(CallSpec {
            call_id: Some(format!("call-{place:04}")),
            started_at: Some(started),
            ended_at: Some(started + TimeDelta::seconds(20)),
            unprintable: unprintable.contains(&place),
            ..CallSpec::default()
        });
    }
    (world, began)
}

pub(super) async fn lacking(world: &World, calls: u32) -> Vec<String> {
    world
        .database
        .texts(&format!(
            "select n::text from generate_series(0, {calls} - 1) n
             where not exists (select from vobiz.cdr c where c.call_id = 'call-' || lpad(n::text, 4, '0')) order by n.n"
        ))
        .await
}

pub(super) async fn words(world: &World) -> Vec<String> {
    world.database.texts("select words from vobiz.refused_page order by list, page").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_printed_costs_itself_and_its_day_says_so() {
    for (calls, unprintable, says) in [
        (
            450_u32,
            vec![234],
            vec![
                "page 3 of 5 of the list (D) cannot be read (refused: 400): 1 of its rows could not be read by smaller pages either",
            ],
        ),
        // Two of a part, one of another page, the newest and the oldest of all.
        (
            320,
            vec![0, 120, 121, 319],
            vec![
                "page 1 of 4 of the list (D) cannot be read (refused: 400): 1 of its rows could not be read by smaller pages either",
                "page 2 of 4 of the list (D) cannot be read (refused: 400): 2 of its rows could not be read by smaller pages either",
                "page 4 of 4 of the list (D) cannot be read (refused: 400): 1 of its rows could not be read by smaller pages either",
            ],
        ),
    ] {
        let (world, began) = day(calls, &unprintable).await;
        check(&world).await;
        let lost: Vec<String> = unprintable.iter().map(ToString::to_string).collect();
        assert_eq!(lacking(&world, calls).await, lost);
        assert_eq!(world.pause_reason().await, "∅", "no row pauses an account");
        let first = (began + TimeDelta::minutes(330)).date_naive();
        let says: Vec<String> = says.iter().map(|says| says.replace('D', &format!("day {first}"))).collect();
        assert_eq!(words(&world).await, says);
        let shown =
            world.text("select state || ': ' || reason from vobiz.ledger_day order by day limit 1").await;
        assert_eq!(shown, format!("unproven: {}", says.join("; ")));
        let (safe, held_by) = safe_to(&world).await;
        assert_eq!((safe, held_by), (began, format!("day {first} is unproven: {}", says.join("; "))));
        // Once Vobiz prints them, the day settles, and nothing is said any more.
        for place in &unprintable {
            world.vobiz.revise(&format!("call-{place:04}"), |call| call.unprintable = false).unwrap();
        }
        hurry(&world).await;
        check(&world).await;
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2), "{:?}", safe_to(&world).await);
        assert!(words(&world).await.is_empty() && lacking(&world, calls).await.is_empty());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_list_with_several_broken_rows_loses_only_these() {
    // Nearly all of it is broken, and the two first parts are both refused.
    for (calls, unprintable) in [(3, vec![1]), (15, vec![2, 14]), (25, vec![1, 12, 13, 24])] {
        let (world, began) = day(calls, &unprintable).await;
        check(&world).await;
        let lost: Vec<String> = unprintable.iter().map(ToString::to_string).collect();
        assert_eq!(lacking(&world, calls).await, lost);
        assert_eq!(safe_to(&world).await.0, began);
        assert_eq!(world.pause_reason().await, "∅");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_goes_on_behind_a_refused_page_and_status_says_which() {
    let (world, _) = day(650, &[333]).await;
    let far = "update vobiz.account set sweep_from = vobiz.now() - interval '10 days', swept_wide_at = null";
    for _ in 0..2 {
        world.database.run(far).await;
        let swept = world.sweep().await;
        assert_eq!((swept.pages, swept.rows), (7, 649));
    }
    assert_eq!(lacking(&world, 650).await, ["333"]);
    assert_eq!(world.text("select (swept_at is not null)::text from vobiz.account").await, "true");
    let says = "page 4 of 7 of the list (sweep) cannot be read (refused: 400): 1 of its rows could not be read by smaller pages either";
    assert_eq!(words(&world).await, [says]);
    let config = serve_config(&world.vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0);
    let service = Running::start(config, &world.database.url).await;
    let act = format!("Vobiz refuses a part of the CDR list of account {ACCOUNT}: {says}");
    until("a person is called", async || service.acts().await.iter().any(|said| said.starts_with(&act)))
        .await;
    service.end().await;
    // The call itself can be fetched.
    world.owe("call-0333", true).await;
    world.drain().await;
    assert!(lacking(&world, 650).await.is_empty());
    world.vobiz.revise("call-0333", |call| call.unprintable = false).unwrap();
    world.database.run(far).await;
    world.sweep().await;
    assert!(words(&world).await.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_refused_by_its_number_is_read_by_smaller_ones() {
    for page in [2, 7, 12] {
        let (world, began) = day(1150, &[]).await;
        world.vobiz.refuse_page(ACCOUNT, Some(page));
        check(&world).await;
        assert!(lacking(&world, 1150).await.is_empty(), "page {page}");
        let first = world.text("select state from vobiz.ledger_day order by day limit 1").await;
        assert_eq!(first, "settled", "nothing is missing");
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
        let said = words(&world).await;
        assert!(
            said.len() == 1 && said[0].ends_with("all of its rows were read by smaller pages"),
            "{said:?}"
        );
        assert!(said[0].starts_with(&format!("page {page} of 12")), "{said:?}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_goes_on_behind_a_refused_page_and_ends_with_the_reason() {
    let (world, began) = day(250, &[150]).await;
    let first = (began + TimeDelta::minutes(330)).date_naive().to_string();
    let done = command(&world, &["backfill", "--from", &first, "--to", &first]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("days not settled: 1"), "{}", done.stderr);
    assert!(done.stdout.contains("page 2 of 3 of the list"), "{}", done.stdout);
    assert_eq!(lacking(&world, 250).await, ["150"]);
    assert_eq!(world.pause_reason().await, "∅");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_which_nothing_can_be_read_fails_as_a_whole_and_soon() {
    let (world, began) = day(150, &(0..150).collect::<Vec<_>>()).await;
    let first = (began + TimeDelta::minutes(330)).date_naive();
    let due = Due { day: first, cause: CheckCause::Manual };
    let before = world.vobiz.stats().requests_of(RequestKind::List);
    let failed =
        checker(&world).check_day(&world.accounts[0], due, Origin::Manual, &CancellationToken::new()).await;
    assert!(matches!(failed, Err(ListError::List(_) | ListError::Paused)), "{failed:?}");
    let asked = world.vobiz.stats().requests_of(RequestKind::List) - before;
    assert!(asked < 12, "{asked} requests");
    // A word that is no refusal of a page stays what it was: an outage pauses.
    world.vobiz.script_account(ACCOUNT, Some(Answer::server_error()));
    world.end_pauses().await;
    let failed =
        checker(&world).check_day(&world.accounts[0], due, Origin::Manual, &CancellationToken::new()).await;
    assert!(matches!(failed, Err(ListError::Paused)), "{failed:?}");
    assert_eq!(world.pause_reason().await, "unavailable");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beyond_a_depth_that_vobiz_does_not_answer_is_said_and_not_asked_for_ever() {
    let (world, began) = day(900, &(300..900).collect::<Vec<_>>()).await;
    let first = (began + TimeDelta::minutes(330)).date_naive();
    let due = Due { day: first, cause: CheckCause::Manual };
    let before = world.vobiz.stats().requests_of(RequestKind::List);
    let checked = checker(&world)
        .check_day(&world.accounts[0], due, Origin::Manual, &CancellationToken::new())
        .await
        .unwrap();
    let reason = checked.reason.unwrap();
    assert!(
        reason.contains("is not whole: the CDR list is refused from page 4 on: refused: 400"),
        "{reason}"
    );
    assert_eq!(world.stored().await, 300);
    let asked = world.vobiz.stats().requests_of(RequestKind::List) - before;
    // As deep as the list goes, then a cut: 200 requests, four times its nine pages, and the rest of the page that was being read.
    assert!(asked < 45 + 200 + 4 * 9 + 24, "{asked} requests");
    assert!(words(&world).await.len() >= 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_as_long_as_vobiz_makes_it_where_one_is_refused_too() {
    for (most_per_page, page, pages) in [(20, 5, 6), (7, 3, 17), (33, 4, 4)] {
        let lists = ListFaults { most_per_page: Some(most_per_page), ..ListFaults::default() };
        let (world, _) = day_of(113, &[], lists.clone()).await;
        world.vobiz.refuse_page(ACCOUNT, Some(page));
        check(&world).await;
        assert!(lacking(&world, 113).await.is_empty(), "{most_per_page} a page");
        let said = words(&world).await;
        assert!(said.len() == 1 && said[0].starts_with(&format!("page {page} of {pages} ")), "{said:?}");
        assert_eq!(world.text("select state from vobiz.ledger_day order by day limit 1").await, "settled");
        world.end().await;
        // A row that cannot be printed costs itself.
        let (world, _) = day_of(113, &[90, 91], lists).await;
        check(&world).await;
        assert_eq!(lacking(&world, 113).await, ["90", "91"], "{most_per_page} a page");
        let lost = "select sum(rows_lost) from vobiz.refused_page";
        assert_eq!(world.database.count(lost).await, 2);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drain_could_not_read_is_said_until_a_list_shows_it() {
    let world = World::new().await;
    let calls = outage(&world, 700, 60).await;
    world.vobiz.revise(&calls[550].call_id, |call| call.unprintable = true).unwrap();
    drain_by_list(&world, 200.0).await.unwrap().unwrap();
    let said = words(&world).await;
    assert!(said.len() == 1 && said[0].starts_with("page 6 of 7 of the list (drain)"), "{said:?}");
    // A sweep that does not reach so deep says nothing of it.
    let sweep = async |since: &str| {
        let from = format!(
            "update vobiz.account set sweep_from = vobiz.now() - interval '{since}', swept_at = null, swept_wide_at = vobiz.now()"
        );
        world.database.run(&from).await;
        world.sweep().await;
    };
    world.vobiz.revise(&calls[550].call_id, |call| call.unprintable = false).unwrap();
    sweep("2 hours").await;
    assert_eq!(words(&world).await, said);
    sweep("59 hours").await;
    assert!(words(&world).await.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drain_could_not_read_is_not_missing_once_its_days_are_settled() {
    let (world, _) = day(450, &[]).await;
    let note = |list: &str| {
        format!(
            "insert into vobiz.refused_page (account_id, list, page, rows_lost, words, oldest_at, at)
             select '{ACCOUNT}', '{list}', 3, 1, '{list}', to_at - interval '5 hours', to_at - interval '1 hour'
             from vobiz.provider_day order by day limit 1"
        )
    };
    check(&world).await;
    world.database.run(&note("drain")).await;
    world.database.run(&note("sweep")).await;
    // One of which the day after is not settled since.
    world.database.run("update vobiz.refused_page set at = vobiz.now() where list = 'sweep'").await;
    world.database.run("update vobiz.provider_day set check_at = vobiz.now() where day = (select min(day) from vobiz.provider_day)").await;
    check(&world).await;
    assert_eq!(words(&world).await, ["sweep"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_behind_a_refused_page() {
    let world = World::new().await;
    let calls = outage(&world, 700, 12).await;
    for place in [250, 251] {
        world.vobiz.revise(&calls[place].call_id, |call| call.unprintable = true).unwrap();
    }
    let drained = drain_by_list(&world, 200.0).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (698, 2));
    assert_eq!(world.pause_reason().await, "∅");
    let said = words(&world).await;
    assert!(said.len() == 1 && said[0].starts_with("page 3 of 7 of the list (drain)"), "{said:?}");
    // What it left is fetched singly, and the next sweep knows better.
    world.drain().await;
    assert_eq!(world.stored().await, 700);
    for place in [250, 251] {
        world.vobiz.revise(&calls[place].call_id, |call| call.unprintable = false).unwrap();
    }
    world.database.run("update vobiz.account set sweep_from = vobiz.now() - interval '13 hours'").await;
    world.sweep().await;
    assert!(words(&world).await.is_empty());
    world.end().await;
}
