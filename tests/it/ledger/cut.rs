//! A day whose list cannot be read as a whole is read in parts, and settles only where these prove to be all of it.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::cdr::Origin;
use vobiz_cdr::db::ledger::{CheckCause, Due};
use vobiz_cdr::simulator::{CallSpec, Direction, ListFaults, RequestKind, SimulatorOptions};

use super::refused::{day_of, lacking, words};
use super::{COPY, check, checker, hurry, ledger_world, safe_to};
use crate::support::wait::until;
use crate::support::world::{World, options};

async fn first_day(world: &World) -> String {
    world.text("select concat_ws(': ', state, reason) from vobiz.ledger_day order by day limit 1").await
}

async fn settled_whole(world: &World, began: DateTime<Utc>, calls: u32, case: &str) {
    assert_eq!(first_day(world).await, "settled", "{case}");
    assert!(lacking(world, calls).await.is_empty(), "{case}");
    assert_eq!(safe_to(world).await.0, began + TimeDelta::days(2), "{case}");
    assert_eq!(words(world).await, Vec::<String>::new(), "{case}");
    // The sums that were proved are the day's, once.
    let sides = "select concat_ws(' ', calls_here, calls_there, total_here = total_there) from vobiz.ledger_day order by day limit 1";
    assert_eq!(world.text(sides).await, format!("{calls} {calls} t"), "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_whose_list_is_not_whole_is_read_in_parts_that_are() {
    let faults = ListFaults::default;
    for (case, lists) in [
        ("the list ends early", ListFaults { ends_after: Some(420), ..faults() }),
        ("it ends within a page", ListFaults { ends_after: Some(433), ..faults() }),
        ("a page in the middle is empty", ListFaults { hole_at: Some(5), ..faults() }),
        ("pages beyond a depth are refused", ListFaults { most_pages: Some(4), ..faults() }),
        (
            "a filter is not known",
            ListFaults { ends_after: Some(420), ignores_filter: Some("call_direction".into()), ..faults() },
        ),
    ] {
        let (world, began) = day_of(600, &[], lists).await;
        check(&world).await;
        settled_whole(&world, began, 600, case).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_whole_is_cut_again() {
    for lists in [
        ListFaults { ends_after: Some(160), ..ListFaults::default() },
        ListFaults { most_pages: Some(2), ..ListFaults::default() },
    ] {
        let (world, began) = day_of(500, &[], lists.clone()).await;
        check(&world).await;
        settled_whole(&world, began, 500, &format!("{lists:?}")).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_more_pages_than_are_read_of_one_list_is_read_in_parts() {
    let (world, began) = day_of(600, &[], ListFaults::default()).await;
    let (ledger, stop) = (checker(&world).reading_at_most(5), CancellationToken::new());
    while ledger.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
    settled_whole(&world, began, 600, "six pages").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_add_up_to_the_day_settle_nothing_and_it_is_said() {
    for (lists, says) in [
        // Nothing is short enough.
        (
            ListFaults { ends_after: Some(5), ..ListFaults::default() },
            "is not whole: 200 of its 300 rows are on pages that show nothing; nor is it in parts: ",
        ),
        (ListFaults { most_pages: Some(0), ..ListFaults::default() }, ""),
    ] {
        let (world, began) = day_of(300, &[], lists).await;
        let before = world.vobiz.stats().requests_of(RequestKind::List);
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        let checked = ledger.check_if_due(&world.accounts[0], &stop).await;
        let asked = world.vobiz.stats().requests_of(RequestKind::List) - before;
        assert!(asked < 500, "{asked} requests");
        if says.is_empty() {
            assert!(checked.is_err(), "{checked:?}");
        } else {
            let reason = checked.unwrap().unwrap().reason.unwrap();
            assert!(reason.contains(says), "{reason}");
        }
        assert_eq!(safe_to(&world).await.0, began);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_printed_holds_its_day_in_a_part_too() {
    let lists = ListFaults { ends_after: Some(420), ..ListFaults::default() };
    let (world, began) = day_of(600, &[500], lists).await;
    check(&world).await;
    assert_eq!(lacking(&world, 600).await, ["500"]);
    assert!(first_day(&world).await.starts_with("unproven: page "), "{}", first_day(&world).await);
    assert_eq!(safe_to(&world).await.0, began);
    world.vobiz.revise("call-0500", |call| call.unprintable = false).unwrap();
    hurry(&world).await;
    check(&world).await;
    settled_whole(&world, began, 600, "printed").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_between_two_pages_is_found_in_parts() {
    for calls in [150, 230] {
        let lists = ListFaults { repeats_at_seams: true, ..ListFaults::default() };
        let (world, began) = day_of(calls, &[], lists).await;
        check(&world).await;
        settled_whole(&world, began, calls, &calls.to_string()).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_between_two_pages_of_equal_calls_leaves_its_day_unproven() {
    for (calls, says, lost) in [
        (
            150_u32,
            "1 call stands on more than one of its pages, so that another call may stand on none: call-0050",
            1,
        ),
        (
            201,
            "2 calls stand on more than one of its pages, so that other calls may stand on none: call-0001, call-0101",
            2,
        ),
    ] {
        let lists = ListFaults { repeats_at_seams: true, ..ListFaults::default() };
        let (world, began) = day_of(0, &[], lists).await;
        for place in 0..calls {
            world.vobiz.place_call(equal_call(place, began));
        }
        check(&world).await;
        let said = first_day(&world).await;
        assert!(said.starts_with("unproven: the list of "), "{said}");
        assert!(said.contains(&format!(" is not whole: {says}; nor is it in parts: ")), "{said}");
        assert_eq!(lacking(&world, calls).await.len(), lost, "{calls}");
        assert_eq!(safe_to(&world).await.0, began);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_part_by_number_shows_no_number() {
    let numbers = ["911140000001", "911140000017"];
    for (lists, unprintable, says) in [
        // Neither part is short enough.
        (
            ListFaults { ends_after: Some(5), ..ListFaults::default() },
            None,
            "no filter cuts the part by from_number 2 (…17) into parts",
        ),
        (
            ListFaults { ends_after: Some(20), ..ListFaults::default() },
            Some(7),
            ", from_number 2 (…17)) cannot be read (refused: 400): 1 of its rows",
        ),
    ] {
        let (world, began) = day_of(0, &[], lists).await;
        for place in 0..30 {
            world.vobiz.place_call(CallSpec {
                from: Some(numbers[place as usize % 2].into()),
                unprintable: unprintable == Some(place),
                ..equal_call(place, began)
            });
        }
        check(&world).await;
        let said = first_day(&world).await;
        assert!(said.starts_with("unproven: ") && said.contains(says), "{said}");
        let (_, held_by) = safe_to(&world).await;
        assert!(held_by.contains(says), "{held_by}");
        let kept = "select concat_ws(' ', list, words) from vobiz.refused_page
                    union all select l::text from vobiz.ledger_difference l union all select l::text from vobiz.ledger_day l";
        for text in world.database.texts(kept).await.into_iter().chain([said, held_by]) {
            assert!(!numbers.iter().any(|number| text.contains(number)), "{text}");
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_vobiz_fails_on_is_not_taken_for_one_that_it_does_not_know() {
    for (status, says) in [
        (400, None),
        (422, None),
        (
            500,
            Some("; nor is it in parts: the part by call_direction inbound cannot be read: unavailable: 500"),
        ),
        (
            503,
            Some("; nor is it in parts: the part by call_direction inbound cannot be read: unavailable: 503"),
        ),
    ] {
        let fails_filter = Some(("call_direction".into(), status));
        let lists = ListFaults { ends_after: Some(420), fails_filter, ..ListFaults::default() };
        let (world, began) = day_of(600, &[], lists).await;
        check(&world).await;
        if let Some(says) = says {
            let said = first_day(&world).await;
            assert!(said.starts_with("unproven: ") && said.ends_with(says), "{said}");
            assert_eq!(world.pause_reason().await, "∅");
            let noted = "select count(*) from vobiz.provider_day where uncut is not null";
            assert_eq!(world.database.count(noted).await, 0, "the next check tries again");
        } else {
            settled_whole(&world, began, 600, &status.to_string()).await;
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_the_days_beside_are_not_read_in_parts() {
    for beside in [-1, 1] {
        let lists = ListFaults { repeats_at_seams: true, ..ListFaults::default() };
        let (world, began) = day_of(0, &[], lists).await;
        for place in 0..20 {
            world.vobiz.place_call(equal_call(place, began));
        }
        for place in 1000..1150 {
            world.vobiz.place_call(equal_call(place, began + TimeDelta::days(beside)));
        }
        let day = (began + TimeDelta::minutes(330)).date_naive();
        let due = Due { day, cause: CheckCause::Manual };
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        let checked =
            async || ledger.check_day(&world.accounts[0], due, Origin::Manual, &stop).await.unwrap();
        assert_eq!(checked().await.reason, None);
        world.database.run(COPY).await;
        let before = world.vobiz.stats().requests_of(RequestKind::List);
        let reason = checked().await.reason.unwrap();
        let asked = world.vobiz.stats().requests_of(RequestKind::List) - before;
        assert_eq!(asked, 4, "the day, a page of the one day beside it and two of the other");
        let neighbour = day + TimeDelta::days(beside);
        assert!(
            reason.starts_with(&format!("the list of {neighbour} is not whole: 1 call stands on")),
            "{reason}"
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_many_requests_ends_at_their_limit() {
    // Twelve rows of two pages of the second part cannot be printed, and those around them are asked for one by one; the whole ends before.
    let is_lost = |place: u32| {
        let within = place % 100;
        place < 200 && (within < 90 && within % 10 == 9 || [8, 18, 28].contains(&within))
    };
    let case = async |inbound: u32| {
        let lists = ListFaults { ends_after: Some(255), ..ListFaults::default() };
        let (world, began) = day_of(0, &[], lists).await;
        for place in 0..inbound + 250 {
            let outbound = place.checked_sub(inbound);
            world.vobiz.place_call(CallSpec {
                ended_at: Some(began + TimeDelta::hours(7) - TimeDelta::seconds(place.into())),
                direction: Some(if outbound.is_none() { Direction::Inbound } else { Direction::Outbound }),
                unprintable: outbound.is_some_and(is_lost),
                ..equal_call(place, began)
            });
        }
        check(&world).await;
        let said = first_day(&world).await;
        assert!(said.ends_with("nor is it in parts: after 224 requests it still is not"), "{said}");
        let noted = "select count(*) from vobiz.provider_day where uncut like 'after %'";
        assert_eq!(world.database.count(noted).await, 1);
        world.end().await;
    };
    tokio::join!(case(255), case(252));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_short_pages_may_be_cut_with_as_many_requests_as_these_need() {
    for (rows, outbound) in [(1, 220), (2, 430)] {
        let ends_after = Some(outbound as usize + 10);
        let lists = ListFaults { most_per_page: Some(rows), ends_after, ..ListFaults::default() };
        let (world, began) = day_of(0, &[], lists).await;
        for place in 0..outbound + 20 {
            let direction = if place < outbound { Direction::Outbound } else { Direction::Inbound };
            let ended_at = Some(began + TimeDelta::hours(7) - TimeDelta::seconds(place.into()));
            world.vobiz.place_call(CallSpec {
                ended_at,
                direction: Some(direction),
                ..equal_call(place, began)
            });
        }
        check(&world).await;
        settled_whole(&world, began, outbound + 20, &format!("{rows} a page")).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_failed_is_not_done_anew_for_a_day() {
    for lists in [
        ListFaults { ends_after: Some(5), ..ListFaults::default() },
        ListFaults {
            ends_after: Some(7),
            ignores_filter: Some("call_direction".into()),
            ..ListFaults::default()
        },
    ] {
        let (world, _) = day_of(60, &[], lists).await;
        let requests = async || {
            hurry(&world).await;
            let before = world.vobiz.stats().requests_of(RequestKind::List);
            check(&world).await;
            world.vobiz.stats().requests_of(RequestKind::List) - before
        };
        let first = requests().await;
        let said = first_day(&world).await;
        assert!(said.contains("; nor is it in parts: "), "{said}");
        // The whole list alone, and those of the days beside.
        let again = requests().await;
        assert!(again <= 4 && first > again + 4, "{first} and {again}");
        assert_eq!(first_day(&world).await, said, "it goes on saying why");
        // A person who asks for the day has it cut.
        let day = world.text("select min(day)::text from vobiz.provider_day where uncut is not null").await;
        let due = Due { day: day.parse().unwrap(), cause: CheckCause::Manual };
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        let before = world.vobiz.stats().requests_of(RequestKind::List);
        ledger.check_day(&world.accounts[0], due, Origin::Manual, &stop).await.unwrap();
        assert!(world.vobiz.stats().requests_of(RequestKind::List) - before > 4, "asked by a person");
        for (hours, is_cut) in [(23, false), (1, true)] {
            let older = "update vobiz.provider_day set uncut_at = uncut_at - interval";
            world.database.run(&format!("{older} '{hours} h'")).await;
            let asked = requests().await;
            assert_eq!(asked > 4, is_cut, "{hours} h later: {asked}");
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_of_a_cut_that_failed_is_over_after_a_day_and_no_clock_that_was_ahead_keeps_it() {
    for noted in ["- interval '25 h'", "+ interval '2 h'"] {
        let (world, began) =
            day_of(600, &[], ListFaults { ends_after: Some(420), ..ListFaults::default() }).await;
        check(&world).await;
        let first = "where day = (select min(day) from vobiz.provider_day)";
        world
            .database
            .run(&format!(
                "update vobiz.provider_day set uncut = 'why', uncut_at = vobiz.now() {noted}, check_at = vobiz.now() {first}"
            ))
            .await;
        check(&world).await;
        settled_whole(&world, began, 600, noted).await;
        assert_eq!(
            world.text(&format!("select uncut from vobiz.provider_day {first}")).await,
            "∅",
            "{noted}"
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_a_list_that_changes_meanwhile_is_not_taken_for_one_that_fails() {
    for changes in [true, false] {
        let lists = ListFaults { ends_after: Some(5), ..ListFaults::default() };
        let latency = std::time::Duration::from_millis(20);
        let (world, began) =
            ledger_world(SimulatorOptions { day_zone: 330, lists, latency, ..options() }).await;
        for place in 0..60 {
            world.vobiz.place_call(equal_call(place, began));
        }
        let first = (began + TimeDelta::minutes(330)).date_naive();
        let due = Due { day: first, cause: CheckCause::Manual };
        let (ledger, stop) = (checker(&world), CancellationToken::new());
        let begins = async {
            until("the parts are being read", async || {
                world.vobiz.stats().requests_of(RequestKind::List) > 3
            })
            .await;
            if changes {
                world.vobiz.place_call(equal_call(60, began));
            }
        };
        let check = ledger.check_day(&world.accounts[0], due, Origin::Manual, &stop);
        let (checked, ()) = tokio::join!(check, begins);
        let reason = checked.unwrap().reason.unwrap();
        assert!(reason.contains("; nor is it in parts: no filter cuts "), "{reason}");
        let noted = "select count(*) from vobiz.provider_day where uncut is not null";
        assert_eq!(world.database.count(noted).await, i64::from(!changes), "{changes}");
        world.end().await;
    }
}

/// Calls that no filter tells apart and that end in the same second, listed by their number: the last one first.
fn equal_call(place: u32, began: DateTime<Utc>) -> CallSpec {
    let started = began + TimeDelta::hours(6);
    CallSpec {
        call_id: Some(format!("call-{place:04}")),
        started_at: Some(started),
        ended_at: Some(started + TimeDelta::seconds(20)),
        answered_at: Some(started),
        direction: Some(Direction::Outbound),
        from: Some("911140000001".into()),
        to: Some("919800000001".into()),
        hangup_cause: Some("NORMAL_CLEARING".into()),
        cost: Some("0.45".parse().unwrap()),
        ..CallSpec::default()
    }
}
