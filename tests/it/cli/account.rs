//! `account`, as its user meets it: an account that leaves, and one that comes back.

use std::time::Duration;

use chrono::Days;
use vobiz_cdr::db::ledger::status;
use vobiz_cdr::db::retirement;
use vobiz_cdr::simulator::Answer;
use vobiz_cdr::vobiz::AccountId;

use crate::ledger::backfill::{command, history, list, place, start};
use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{Finished, author, free_port, program, run};
use crate::support::world::World;

/// The command in a shell without settings of an account.
fn account(database: &Database, arguments: &[&str]) -> Finished {
    run(program(&[&["account"], arguments].concat())
        .env("DATABASE_URL", &database.url)
        .env("SUDO_USER", "asha"))
}

async fn alarms(world: &World) -> (i64, usize) {
    let status = status::read(&mut *world.database.connection().await).await.unwrap();
    (status.unsettled_days, status.safe_to_bill.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_leaves_is_retired_and_alarms_nobody_until_it_comes_back() {
    let (world, first, last) = history(3, 5, Duration::ZERO).await;
    list(&world, &start(&world, first, last).await).await;
    let database = &world.database;
    database.owe(&["call-owed", "call-dead"], true).await;
    database
        .run(
            "update vobiz.cdr_queue set attempts = 5, failures = 5, error_class = 'refused', last_error = 'refused: 422', first_failed_at = now(),
                    dead_at = now() where call_id = 'call-dead'",
        )
        .await;
    let retire = |more: &[&str]| {
        account(database, &[&["retire", ACCOUNT, "--reason", "contract ended"], more].concat())
    };
    let refused = |done: &Finished, words: &str| {
        assert!(done.status.code() == Some(1) && done.stderr.contains(words), "{words}: {}", done.stderr);
    };
    // Who is still configured, here or in a running process, would only come back.
    refused(&command(&world, &["account", "retire", ACCOUNT, "--reason", "x"]), "is configured here");
    refused(&retire(&["--give-up"]), "is configured in ");
    database.run("delete from vobiz.account_replica").await;
    refused(&account(database, &["retire", "MA_NOBODY", "--reason", "x"]), "has never been configured");
    refused(&retire(&[]), "1 call owed and 1 dead letter");
    let now = database.now().await.to_rfc3339();
    refused(&retire(&["--give-up", "--at", &now]), &format!("not settled: {}", last + Days::new(1)));
    refused(&retire(&["--give-up", "--at", "2001-01-01T00:00:00Z"]), "lies before that");
    assert_eq!(retire(&["--at", "2999-01-01T00:00:00Z"]).status.code(), Some(2));
    assert_eq!(
        account(database, &["retire", ACCOUNT]).status.code(),
        Some(2),
        "nobody retires without a reason"
    );
    // What was refused has changed nothing.
    assert_eq!(database.count("select count(*) from vobiz.cdr_queue").await, 2);
    assert_eq!(database.count("select count(*) from vobiz.audit").await, 0);
    assert_eq!(alarms(&world).await.1, 1);

    let done = retire(&["--give-up"]);
    assert!(done.status.success(), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("retired by {}", author())), "{}", done.stderr);
    assert!(done.stderr.contains("2 owed calls given up"), "{}", done.stderr);
    let closed = "select concat_ws(' ', call_id, reason, evidence) from vobiz.closed_call order by call_id";
    assert_eq!(
        database.texts(closed).await,
        [
            "call-dead by_operator refused: refused: 422, after 5 requests",
            "call-owed by_operator owed, and given up after 0 requests"
        ]
    );
    let audit = "select concat_ws(' ', action, reason) from vobiz.audit order by id";
    assert_eq!(
        database.texts(audit).await,
        [
            "dead_letter_closed contract ended",
            "owed_call_closed contract ended",
            "account_retired contract ended"
        ]
    );
    assert_eq!(world.stored().await, 15, "its calls stay");

    // Weeks later: nothing of it alarms, and the bill of its days is whole.
    database.advance_clock(chrono::TimeDelta::days(20)).await;
    assert_eq!(alarms(&world).await, (0, 0));
    let listed = account(database, &["list"]);
    assert!(
        listed.stdout.contains("retired at ") && listed.stderr.contains("no settings"),
        "{}",
        listed.stdout
    );
    let (from, to) = (first.to_string(), (last + Days::new(5)).to_string());
    let report = |from: &str| {
        run(program(&["report", "billing_day", "--from", from, "--to", &to])
            .env("DATABASE_URL", &database.url))
    };
    let bill = report(&from);
    assert!(bill.stderr.contains("complete: every day is settled"), "{}", bill.stderr);
    let days = "select count(*) from vobiz.billable_day";
    assert_eq!(database.count(days).await, 3);
    assert!(world.text("select held_by from vobiz.safe_to_bill").await.starts_with("it is retired"));

    // Configured again: no day is left out.
    let again = [AccountId::new(ACCOUNT).unwrap()];
    let taken = retirement::take_up(&mut *database.connection().await, &again).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(retirement::take_up(&mut *database.connection().await, &again).await.unwrap(), []);
    assert_eq!(alarms(&world).await.1, 1);
    let held = world.text("select held_by from vobiz.safe_to_bill").await;
    assert!(held.contains(&(last + Days::new(1)).to_string()), "{held}");
    assert!(report(&from).stderr.contains("NOT COMPLETE"));
    assert_eq!(
        database.text("select action from vobiz.audit order by id desc limit 1").await,
        "account_taken_up_again"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_no_settled_day_proves_are_named_and_stay_unproven() {
    let (world, first, last) = history(3, 5, Duration::ZERO).await;
    list(&world, &start(&world, first, last).await).await;
    let database = &world.database;
    // One more call, of today, which nothing compares any more.
    place(&world, database.now().await - chrono::TimeDelta::minutes(30));
    world.sweep().await;
    assert_eq!(world.stored().await, 16);
    database.run("delete from vobiz.account_replica").await;
    let retire =
        |more: &[&str]| account(database, &[&["retire", ACCOUNT, "--reason", "left"], more].concat());
    let refused = retire(&[]);
    let today = (last + Days::new(1)).to_string();
    assert!(
        refused.status.code() == Some(1) && refused.stderr.contains("1 call is stored of later days"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains(&today), "{}", refused.stderr);
    // The words are what is to be typed.
    let (_, at) = refused.stderr.split_once("--at ").unwrap();
    let done = retire(&["--at", at.split_whitespace().next().unwrap()]);
    assert!(
        done.status.success() && done.stderr.contains("1 stored call lies after that"),
        "{}",
        done.stderr
    );
    database.advance_clock(chrono::TimeDelta::days(9)).await;
    assert_eq!(alarms(&world).await, (0, 0));
    let report = |from: &str, to: &str| {
        run(program(&["report", "billing_day", "--from", from, "--to", to])
            .env("DATABASE_URL", &database.url))
        .stderr
    };
    let (first, last) = (first.to_string(), last.to_string());
    assert!(report(&first, &last).contains("complete: every day"));
    let unproven = report(&today, &today);
    assert!(unproven.contains("NOT COMPLETE") && unproven.contains("it is retired"), "{unproven}");
    assert_eq!(
        database.count(&format!("select count(*) from vobiz.billable_day where day >= '{today}'")).await,
        0
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_quotes_vobiz_moves_no_cursor_and_turns_no_line_round() {
    let world = World::new().await;
    let hidden = "\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\n2026 INFO forged";
    for answer in [Answer::Status(422, format!("no {hidden}")), Answer::Status(401, hidden.into())] {
        world.vobiz.script_account(ACCOUNT, Some(answer));
        for arguments in [
            &["account", "check"][..],
            &["account", "check", "--json"],
            &["reconcile", "--day", "2026-03-01"],
        ] {
            let said = command(&world, arguments);
            let said = said.stdout + &said.stderr;
            assert!(said.chars().all(|c| c == '\n' || !vobiz_cdr::vobiz::is_hidden(c)), "{said:?}");
            assert!(!said.lines().any(|line| line.starts_with("2026 INFO forged")), "{said}");
        }
    }
    world.vobiz.script_account(ACCOUNT, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_which_account_works_and_why_not() {
    let world = World::new().await;
    world.owed_call().await;
    let works = command(&world, &["account", "check"]);
    assert!(works.status.success(), "{}{}", works.stdout, works.stderr);
    assert!(works.stdout.starts_with(&format!("{ACCOUNT} works: /api/v1/")), "{}", works.stdout);
    let ask = |token: &str, url: &str, arguments: &[&str]| {
        run(program(&[&["account", "check"], arguments].concat())
            .env("VOBIZ_AUTH_ID", ACCOUNT)
            .env("VOBIZ_AUTH_TOKEN", token)
            .env("VOBIZ_API_URL", url))
    };
    let api = world.vobiz.api_url();
    let denied = ask("wrong", &api, &[]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        denied.stdout.contains("does not work") && denied.stdout.contains("denied: 401"),
        "{}",
        denied.stdout
    );
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let away = ask("any", &nobody, &["--json"]);
    assert_eq!(away.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_str(&away.stdout).unwrap();
    assert_eq!(line["works"], false);
    assert!(line["says"].as_str().unwrap().starts_with("unavailable"), "{line}");
    assert_eq!(ask("any", &api, &["MA_OTHER"]).status.code(), Some(2), "no such account");
    world.end().await;
}
