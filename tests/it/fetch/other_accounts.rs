//! A call that never appears at its account is asked of the other ones, before it is given up.

use std::sync::Arc;
use std::time::Duration;

use vobiz_cdr::account::Account;
use vobiz_cdr::fetch::{FetchSettings, Fetcher};
use vobiz_cdr::simulator::{self, Answer, CallSpec, RetryAfter};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::database::ACCOUNT;
use crate::support::world::{TOKEN, World, account, credentials, fetch_settings, fetcher, options};

const SECOND: &str = "MA_SECOND01";
const THIRD: &str = "SA_THIRD001";

/// A world with three accounts, whose paths are found out.
async fn three_accounts() -> (World, Vec<Arc<Account>>) {
    let mut options = options();
    options.accounts.push(simulator::SimulatedAccount::new(SECOND, "tok_second"));
    options.accounts.push(simulator::SimulatedAccount::new(THIRD, "tok_third"));
    let mut world = World::with(options).await;
    world
        .database
        .run(&format!("insert into vobiz.account (account_id) values ('{SECOND}'), ('{THIRD}')"))
        .await;
    let api = world.vobiz.api_url();
    let accounts: Vec<_> = [(ACCOUNT, TOKEN), (SECOND, "tok_second"), (THIRD, "tok_third")]
        .into_iter()
        .map(|(id, token)| account(&world.database.pool, &api, credentials(id, &[token]), 1000.0))
        .collect();
    for account in &accounts {
        assert!(account.ensure_access().await);
    }
    world.fetcher = fetcher(&world.database.pool, accounts.clone());
    (world, accounts)
}

/// Owes the call at [`ACCOUNT`], lets a day of 404 go by, and asks once more.
async fn a_day_of_404(world: &World, call_id: &str) {
    world.owe(call_id, true).await;
    world.drain().await;
    world.database.shift_clock("25 hours").await;
    world.drain().await;
}

fn of(account: &str) -> CallSpec {
    CallSpec { account: Some(account.into()), ..CallSpec::default() }
}

#[tokio::test]
async fn a_call_that_was_attributed_to_the_wrong_account_is_found_at_the_right_one() {
    for owner in [SECOND, THIRD] {
        let (world, _) = three_accounts().await;
        let call = world.vobiz.place_call(of(owner));
        a_day_of_404(&world, &call.call_id).await;
        let row = world.text(
            "select concat_ws(' ', account_id, listed_by, origin, attempts, first_callback_at is not null) from vobiz.cdr",
        );
        // Two requests of its own account, and one of each other one until it was found.
        let attempts = if owner == SECOND { 3 } else { 4 };
        assert_eq!(row.await, format!("{owner} {owner} callback {attempts} t"));
        assert_eq!(world.status(&call.call_id).await, "∅", "the debt is paid");
        assert_eq!(world.vobiz.stats().fetches_of(&call.call_id), attempts);
        assert_eq!(
            world.text("select total_cost from vobiz.cdr").await,
            call.total_cost().normalize().to_string()
        );
        world.end().await;
    }
}

#[tokio::test]
async fn a_call_that_nobody_has_is_buried_after_each_account_was_asked_once() {
    let (world, _) = three_accounts().await;
    a_day_of_404(&world, "nobodys").await;
    assert_eq!(world.status("nobodys").await, "never_appeared 2 dead");
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 4);
    let said = world.text("select last_error from vobiz.cdr_queue").await;
    assert!(said.ends_with("; 2 of 2 other accounts asked, none has it"), "{said}");
    assert_eq!(world.pause_reason().await, "∅");
    world.end().await;
}

#[tokio::test]
async fn a_speculative_call_is_closed_without_asking_other_accounts() {
    let (world, _) = three_accounts().await;
    let call = world.vobiz.place_call(of(SECOND));
    world.owe(&call.call_id, false).await;
    world.drain().await;
    world.database.shift_clock("2 hours").await;
    world.drain().await;
    assert_eq!(world.text("select reason from vobiz.closed_call").await, "not_found");
    assert_eq!(world.vobiz.stats().fetches_of(&call.call_id), 2);
    world.end().await;
}

#[tokio::test]
async fn an_account_that_cannot_be_asked_is_asked_later_but_not_for_ever() {
    let (world, _) = three_accounts().await;
    world.vobiz.set_token(THIRD, "rotated away");
    world
        .database
        .run(&format!(
            "update vobiz.account set pause_reason = 'denied', paused_since = now(), paused_until = now()
             where account_id = '{THIRD}'"
        ))
        .await;
    world.vobiz.script_fetches(SECOND, Some(Answer::Throttled(RetryAfter::Seconds(120))));
    a_day_of_404(&world, "nobodys").await;
    assert_eq!(world.status("nobodys").await, "not_yet 1 alive");
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 3);
    let second = format!("select pause_reason from vobiz.account where account_id = '{SECOND}'");
    assert_eq!(world.text(&second).await, "throttled");
    world.database.shift_clock("49 hours").await;
    world.drain().await;
    assert_eq!(world.status("nobodys").await, "never_appeared 2 dead");
    let said = world.text("select last_error from vobiz.cdr_queue").await;
    assert!(said.ends_with("; 0 of 2 other accounts asked, none has it"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn who_has_answered_is_not_asked_again_while_another_one_is_away() {
    let (world, _) = three_accounts().await;
    world.vobiz.set_token(THIRD, "rotated away");
    world
        .database
        .run(&format!(
            "update vobiz.account set pause_reason = 'denied', paused_since = now(), paused_until = now()
             where account_id = '{THIRD}'"
        ))
        .await;
    a_day_of_404(&world, "nobodys").await;
    assert_eq!(world.status("nobodys").await, "not_yet 1 alive");
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 3);
    for hours in 1..5 {
        world.database.shift_clock(&format!("{} hours", 25 + hours)).await;
        world.drain().await;
    }
    // Each time its own account, and the second one no more.
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 7);
    world.vobiz.set_token(THIRD, "tok_third");
    world.end_pauses().await;
    world.database.shift_clock("31 hours").await;
    world.drain().await;
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 9);
    let said = world.text("select last_error from vobiz.cdr_queue").await;
    assert!(said.ends_with("; 2 of 2 other accounts asked, none has it"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_row_of_one_main_account_is_not_taken_from_another() {
    let (world, _) = three_accounts().await;
    let call = world.vobiz.place_call(of(SECOND).with("account_id", &format!("\"{ACCOUNT}\"")));
    a_day_of_404(&world, &call.call_id).await;
    assert_eq!(world.stored().await, 0);
    assert_eq!(world.status(&call.call_id).await, "never_appeared 2 dead");
    world.end().await;
}

#[tokio::test]
async fn only_some_worker_slots_ask_other_accounts_and_the_other_calls_come_back_later() {
    let (world, _) = three_accounts().await;
    let calls: Vec<String> = (0..40).map(|n| format!("nobodys-{n}")).collect();
    for call in &calls {
        world.owe(call, true).await;
    }
    world.drain().await;
    // Slow enough that all worker slots are there at once.
    world.vobiz.script_fetches(SECOND, Some(Answer::Slow(Duration::from_millis(600))));
    world.database.shift_clock("25 hours").await;
    world.drain().await;
    let dead = "select count(*) from vobiz.cdr_queue where dead_at is not null";
    let first = world.database.count(dead).await;
    assert!((1..40).contains(&first), "{first} were asked for at once");
    let untouched = "select count(*) from vobiz.cdr_queue where dead_at is null and failures = 1 and due_at > vobiz.now()";
    assert_eq!(world.database.count(untouched).await, 40 - first, "waiting costs them nothing");
    world.vobiz.script_fetches(SECOND, None);
    for minutes in (16..300).step_by(16) {
        world.database.shift_clock(&format!("25 hours {minutes} minutes")).await;
        world.drain().await;
    }
    assert_eq!(world.database.count(dead).await, 40);
    world.end().await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_others_are_asked() {
    let (mut world, accounts) = three_accounts().await;
    // Longer than each request, shorter than both together.
    let settings = FetchSettings { lease: Duration::from_millis(2100), ..fetch_settings() };
    world.fetcher = Fetcher::new(world.database.pool.clone(), accounts, settings, Metrics::new());
    for account in [SECOND, THIRD] {
        world.vobiz.script_fetches(account, Some(Answer::Slow(Duration::from_millis(1200))));
    }
    a_day_of_404(&world, "nobodys").await;
    assert_eq!(world.status("nobodys").await, "never_appeared 2 dead");
    assert_eq!(world.vobiz.stats().fetches_of("nobodys"), 4, "nobody leased it meanwhile");
    world.end().await;
}

/// Callbacks that two accounts have proved: each is asked in turn, at once and not after a day.
#[tokio::test]
async fn a_call_that_two_accounts_have_proved_is_asked_of_both() {
    for (first, second, owner) in [
        (ACCOUNT, SECOND, SECOND),
        (SECOND, ACCOUNT, SECOND),
        (THIRD, ACCOUNT, THIRD),
        (ACCOUNT, THIRD, ACCOUNT),
    ] {
        let (world, _) = three_accounts().await;
        let call = world.vobiz.place_call(of(owner));
        for account in [first, second] {
            world.owe_with(&call.call_id, account, true, None).await;
        }
        world.drain().await;
        world.database.shift_clock("10 seconds").await;
        world.drain().await;
        assert_eq!(world.text("select account_id from vobiz.cdr").await, owner, "{first}, {second}");
        assert_eq!(world.status(&call.call_id).await, "∅", "the debt is paid");
        world.end().await;
    }
}
