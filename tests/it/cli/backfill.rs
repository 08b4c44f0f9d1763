//! `backfill`, as its user meets it.

use std::time::Duration;

use chrono::Days;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::base::work_lease::WorkLease;
use vobiz_cdr::db::ledger::backfill::DayRange;
use vobiz_cdr::simulator::RequestKind;

use crate::ledger::backfill::{checker, command, history, ledger_day, list, over_midnight, start};
use crate::support::database::ACCOUNT;
use crate::support::process::{program, run};
use crate::support::wait::until;
use crate::support::world::TOKEN;

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
async fn words_exit_code_and_ledger_agree_on_what_is_settled() {
    let (world, first, last) = history(3, 4, Duration::ZERO).await;
    over_midnight(&world, first, 3, 3);
    over_midnight(&world, first + Days::new(1), 3, 3);
    let (from, to, today) = (first.to_string(), last.to_string(), (last + Days::new(1)).to_string());
    let done = command(&world, &["backfill", "--from", &from, "--to", &to]);
    assert_eq!(done.status.code(), Some(0), "{} {}", done.stdout, done.stderr);
    assert!(done.stderr.contains("days not settled: 0"), "{}", done.stderr);
    assert!(!done.stdout.contains("reopened"), "{}", done.stdout);
    // A day that is not over is not settled, and no failure of the other days.
    let young = command(&world, &["backfill", "--from", &from, "--to", &today]);
    assert_eq!(young.status.code(), Some(1), "{}", young.stderr);
    assert!(young.stderr.contains("days not settled: 0"), "{}", young.stderr);
    assert!(
        young.stderr.contains("1 day has not been over for an hour and cannot be settled yet"),
        "{}",
        young.stderr
    );
    // What nobody can settle is counted in the words, too.
    world.database.run("update vobiz.cdr set total_cost = total_cost + 1 where day_at = (select min(day_at) from vobiz.cdr)").await;
    let differs = command(&world, &["backfill", "--from", &from, "--to", &to]);
    assert_eq!(differs.status.code(), Some(1), "{}", differs.stderr);
    assert!(differs.stderr.contains("days not settled: 1"), "{}", differs.stderr);
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
    assert!(WorkLease::take(&mut other, &format!("backfill {ACCOUNT}")).await.unwrap().is_some());
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
    until("some days are done", async || {
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
async fn a_backfill_that_does_not_join_the_ledger_says_which_days_are_between() {
    for (last_back, between) in [(4, 3), (2, 1)] {
        let (world, first, last) = history(6, 2, Duration::ZERO).await;
        let listed = last + Days::new(1) - Days::new(last_back);
        let done = command(&world, &["backfill", "--from", &first.to_string(), "--to", &listed.to_string()]);
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        let (from, days) = (listed + Days::new(1), (last - listed).num_days());
        assert_eq!(days, between);
        let says =
            format!("does not join it: `vobiz-cdr backfill --account {ACCOUNT} --from {from} --to {last}`");
        assert!(done.stderr.contains(&says), "{}", done.stderr);
        assert!(!done.stderr.contains("Vobiz lists no call"), "{}", done.stderr);
        world.end().await;
    }
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
