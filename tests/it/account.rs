//! One account: its path and tokens, its pauses, and the probe that ends them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use vobiz_cdr::account::Account;
use vobiz_cdr::db::account::Replica;
use vobiz_cdr::simulator::{
    Answer, CallSpec, Casing, RetryAfter, SimulatedAccount, Simulator, SimulatorOptions,
};

use crate::support::database::ACCOUNT;
use crate::support::wait::until_is;
use vobiz_cdr::retry::{ListAnswer, PauseReason, ProbeDepth};
use vobiz_cdr::vobiz::{Client, HomeCountry, Http};

use crate::support::world::{TOKEN, World, account, credentials, fetcher, options};

#[tokio::test]
async fn the_path_casing_is_found_out_kept_and_found_again() {
    for (casing, wrong, kept) in
        [(Casing::Capital, 404, "Account"), (Casing::Lower, 404, "account"), (Casing::Lower, 401, "account")]
    {
        let world = World::with(SimulatorOptions { casing, wrong_casing: wrong, ..options() }).await;
        world.owed_call().await;
        world.drain().await;
        assert_eq!(world.stored().await, 1, "{casing:?} {wrong}");
        assert_eq!(world.text("select api_path from vobiz.account").await, kept);
        world.end().await;
    }
}

#[tokio::test]
async fn the_previous_token_works_during_a_rotation() {
    let world = World::new().await;
    let both = credentials(ACCOUNT, &["tok_new_not_active_yet", TOKEN]);
    let account = account(&world.database.pool, &world.vobiz.api_url(), both, 1000.0);
    let fetcher = fetcher(&world.database.pool, vec![account]);
    world.owed_call().await;
    fetcher.run_until_idle().await;
    assert_eq!(world.stored().await, 1);
    world.vobiz.set_token(ACCOUNT, "tok_new_not_active_yet");
    world.owed_call().await;
    fetcher.run_until_idle().await;
    assert_eq!(world.stored().await, 2);
    world.end().await;
}

#[tokio::test]
async fn what_an_old_token_still_has_in_hand_pauses_nothing_once_there_is_a_newer_one() {
    let world = World::new().await;
    let (pool, api) = (&world.database.pool, world.vobiz.api_url());
    let (old, newer) =
        (&world.accounts[0], account(pool, &api, credentials(ACCOUNT, &["tok_newer"]), 1000.0));
    assert!(old.ensure_access().await);
    world.vobiz.set_token(ACCOUNT, "tok_newer");
    // Both are of this process, which goes over from one to the other.
    for (superseded, reason) in [(true, "∅"), (false, "denied")] {
        old.set_superseded(superseded).await;
        assert_eq!(old.verify("a 401", ProbeDepth::List).await, ListAnswer::Paused);
        assert_eq!(world.pause_reason().await, reason);
        old.probe("denied").await;
        old.pause(PauseReason::Denied, Duration::from_secs(60), "a 401").await;
        assert_eq!(world.pause_reason().await, reason);
    }
    // Nor does an old token that still works end a pause of the newer one.
    world.vobiz.set_token(ACCOUNT, TOKEN);
    newer.verify("a 401", ProbeDepth::List).await;
    old.set_superseded(true).await;
    old.probe("denied").await;
    assert_eq!(world.pause_reason().await, "denied");
    newer.probe("denied").await;
    assert_eq!(world.pause_reason().await, "denied");
    world.vobiz.set_token(ACCOUNT, "tok_newer");
    newer.probe("denied").await;
    assert_eq!(world.pause_reason().await, "∅");
    // That there were too many requests holds whatever the token.
    old.pause(PauseReason::Throttled, Duration::from_secs(60), "a 429").await;
    assert_eq!(world.pause_reason().await, "throttled");
    world.end().await;
}

#[tokio::test]
async fn each_retry_after_pauses_the_account_and_halves_its_rate_once() {
    for (form, least, most) in [
        (RetryAfter::Seconds(30), 30, 30),
        // A date has no fractions of a second, and is read later, on a busy machine much later.
        (RetryAfter::HttpDate(30), 5, 30),
        (RetryAfter::PastDate, 1, 1),
        (RetryAfter::BodyOnly(30), 30, 30),
        (RetryAfter::Silent, 60, 60),
    ] {
        let world = World::new().await;
        world.database.stop_clock(world.database.now().await).await;
        let call = world.owed_call().await;
        world.vobiz.script(&call.call_id, [Answer::Throttled(form)]);
        world.drain().await;
        let seconds = world
            .text("select extract(epoch from paused_until - vobiz.now())::int from vobiz.account")
            .await
            .parse::<i32>()
            .unwrap();
        assert!((least..=most).contains(&seconds), "{form:?}: {seconds}");
        assert_eq!(world.text("select rate_share from vobiz.account").await, "0.5", "{form:?}");
        assert_eq!(world.status(&call.call_id).await, "- 0 alive", "it cost the call nothing: {form:?}");
        assert_eq!(world.stored().await, 0);
        world.database.shift_clock("2 minutes").await;
        world.drain().await;
        assert_eq!(world.stored().await, 1, "{form:?}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_denied_account_pauses_loses_nothing_and_recovers_by_its_probe() {
    let world = World::new().await;
    world.vobiz.set_token(ACCOUNT, "rotated away");
    let mut calls = Vec::new();
    for _ in 0..30 {
        calls.push(world.owed_call().await);
    }
    world.drain().await;
    assert_eq!(world.pause_reason().await, "denied");
    for call in &calls {
        assert_eq!(world.status(&call.call_id).await, "- 0 alive");
    }
    // A minute later the probe fails again, and costs one request a candidate.
    let before = world.vobiz.stats().total_requests();
    world.database.shift_clock("61 seconds").await;
    world.drain().await;
    let probes = world.vobiz.stats().total_requests() - before;
    assert!((1..=2).contains(&probes), "{probes}");
    // Now the API is away: it needs no token.
    world.vobiz.script_account(ACCOUNT, Some(Answer::Reset));
    world.database.shift_clock("3 minutes").await;
    world.drain().await;
    assert_eq!(world.pause_reason().await, "unavailable");
    world.vobiz.script_account(ACCOUNT, None);
    world.database.shift_clock("5 minutes").await;
    world.drain().await;
    world.drain().await;
    assert_eq!(world.pause_reason().await, "denied", "and now it does");
    world.vobiz.set_token(ACCOUNT, TOKEN);
    world.database.shift_clock("8 minutes").await;
    world.drain().await;
    world.drain().await;
    assert_eq!(world.pause_reason().await, "∅");
    assert_eq!(world.stored().await, 30);
    world.end().await;
}

#[tokio::test]
async fn a_denied_account_does_not_stop_the_others_and_one_sees_no_calls_of_another() {
    let second = "MA_SECOND01";
    let mut options = options();
    options.accounts.push(SimulatedAccount::new(second, "tok_second"));
    let world = World::with(options).await;
    sqlx::query("insert into vobiz.account (account_id) values ($1)")
        .bind(second)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let api = world.vobiz.api_url();
    let denied = account(&world.database.pool, &api, credentials(ACCOUNT, &["wrong"]), 1000.0);
    let fine = account(&world.database.pool, &api, credentials(second, &["tok_second"]), 1000.0);
    let fetcher = fetcher(&world.database.pool, vec![denied, fine]);
    for _ in 0..10 {
        world.owed_call().await;
        let call = world.vobiz.place_call(CallSpec { account: Some(second.into()), ..CallSpec::default() });
        world.owe_with(&call.call_id, second, true, None).await;
    }
    // A row that says it belongs to another configured main account is refused.
    let foreign = world.vobiz.place_call(CallSpec {
        account: Some(second.into()),
        ..CallSpec::default().with("account_id", &format!("\"{ACCOUNT}\""))
    });
    world.owe_with(&foreign.call_id, second, true, None).await;
    fetcher.run_until_idle().await;
    assert_eq!(world.pause_reason().await, "denied");
    assert_eq!(
        world.database.count("select count(*) from vobiz.cdr where account_id = 'MA_SECOND01'").await,
        10
    );
    assert_eq!(world.status(&foreign.call_id).await, "unreadable 1 alive");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue where failures = 0").await, 10);
    world.end().await;
}

#[tokio::test]
async fn an_outage_pauses_the_account_after_twenty_failures_and_ages_stand_still() {
    let world = World::new().await;
    // One call has been missing for 23 hours when the outage begins.
    world.owe("missing-1", true).await;
    world.drain().await;
    world.database.shift_clock("23 hours").await;
    world.drain().await;
    assert_eq!(world.status("missing-1").await, "not_yet 2 alive");
    world.vobiz.script_account(ACCOUNT, Some(Answer::Html));
    for _ in 0..60 {
        world.owed_call().await;
    }
    world.drain().await;
    assert_eq!(world.pause_reason().await, "unavailable");
    let requests = world.vobiz.stats().total_requests();
    assert!(requests < 60, "the pause spares the rest: {requests}");
    // Ten hours of outage, a probe now and then.
    for hours in [24, 28, 33] {
        world.database.shift_clock(&format!("{hours} hours")).await;
        world.drain().await;
        assert_eq!(world.pause_reason().await, "unavailable");
    }
    world.vobiz.script_account(ACCOUNT, None);
    for clock in ["33 hours 2 minutes", "33 hours 20 minutes", "33 hours 40 minutes"] {
        world.database.shift_clock(clock).await;
        world.drain().await;
    }
    assert_eq!(world.pause_reason().await, "∅");
    assert_eq!(world.stored().await, 60);
    let status = world.status("missing-1").await;
    assert!(status.ends_with("alive"), "ten hours of pause do not count for its 24: {status}");
    world.database.shift_clock("35 hours 30 minutes").await;
    world.drain().await;
    assert!(world.status("missing-1").await.ends_with("dead"));
    world.end().await;
}

#[tokio::test]
async fn a_changed_format_pauses_the_account_and_keeps_bodies() {
    let world = World::new().await;
    world.vobiz.script_fetches(ACCOUNT, Some(Answer::Body("{\"version\":2,\"calls\":[]}".into())));
    for _ in 0..60 {
        world.owed_call().await;
    }
    world.drain().await;
    assert_eq!(world.pause_reason().await, "unreadable");
    let kept = world.database.count("select count(*) from vobiz.cdr_queue where last_body is not null").await;
    assert!((10..60).contains(&kept), "{kept}");
    // The list works all the while; only a readable CDR ends the pause.
    world.database.shift_clock("2 minutes").await;
    world.drain().await;
    assert_eq!(world.pause_reason().await, "unreadable");
    world.vobiz.script_fetches(ACCOUNT, None);
    for minutes in [4, 8, 30] {
        world.database.shift_clock(&format!("{minutes} minutes")).await;
        world.drain().await;
    }
    until_is("the account works and all are stored", ("∅".to_owned(), 60), async || {
        world.drain().await;
        (world.pause_reason().await, world.stored().await)
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_single_path_that_is_closed_while_the_list_works_pauses_the_account() {
    for answer in [Answer::NotFound, Answer::Status(403, "{}".into()), Answer::Status(410, "{}".into())] {
        let mut world = World::new().await;
        // At a pace at which the decision is made before all calls were tried.
        let api = world.vobiz.api_url();
        let paced = account(&world.database.pool, &api, credentials(ACCOUNT, &[TOKEN]), 100.0);
        world.fetcher = fetcher(&world.database.pool, vec![paced]);
        for _ in 0..60 {
            world.owed_call().await;
        }
        world.vobiz.script_fetches(ACCOUNT, Some(answer.clone()));
        world.drain().await;
        assert_eq!(world.pause_reason().await, "denied", "{answer:?}");
        let spared = world.database.count("select count(*) from vobiz.cdr_queue where failures = 0").await;
        assert!(spared > 0, "{answer:?}: all calls were tried");
        world.vobiz.script_fetches(ACCOUNT, None);
        for minutes in [3, 20] {
            world.database.shift_clock(&format!("{minutes} minutes")).await;
            world.drain().await;
        }
        until_is("all are stored", 60, async || {
            world.drain().await;
            world.stored().await
        })
        .await;
        world.end().await;
    }
}

#[tokio::test]
async fn unknown_ids_and_one_bad_moment_of_the_api_pause_nobody() {
    let world = World::new().await;
    world.owed_call().await;
    world.drain().await;
    let newest = world.vobiz.place_call(CallSpec::default());
    // What asks whether the account works meets a 502, twice at most: no reason to stop fetching for everybody.
    world.vobiz.script(&newest.call_id, [Answer::Html, Answer::Html]);
    for n in 0..40 {
        world.owe(&format!("unknown-{n}"), true).await;
    }
    world.drain().await;
    assert_eq!(world.pause_reason().await, "∅");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_queue where failures = 1").await, 40);
    assert!(world.vobiz.stats().fetches_of(&newest.call_id) >= 1, "it was asked");
    world.end().await;
}

/// The account of the world as another process asks for it.
fn replica_of(world: &World, pid: u32, api: &str, token: &str) -> Arc<Account> {
    let http = Http::new(Duration::from_secs(60), None).unwrap();
    let client =
        Client::new(http, Url::parse(api).unwrap(), credentials(ACCOUNT, &[token]), HomeCountry::INDIA);
    let replica = Arc::new(Replica::new("another-host", pid));
    Arc::new(Account::asked_by(replica, client, 1000.0, world.database.pool.clone()))
}

async fn is_paused(account: &Account) -> bool {
    account.is_paused().await.unwrap()
}

/// A wrong URL where nothing listens, one where something else answers, and a token of yesterday.
#[tokio::test]
async fn a_replica_that_alone_fails_pauses_itself_and_nobody_else() {
    let refuses = || format!("http://127.0.0.1:{}", crate::support::process::free_port());
    let stranger = Simulator::start(SimulatorOptions {
        accounts: vec![SimulatedAccount::new("MA_STRANGER", "tok_stranger")],
        ..SimulatorOptions::default()
    })
    .await
    .unwrap();
    for (api, token, reason) in [
        (Some(refuses()), TOKEN, "unavailable"),
        (Some(stranger.api_url()), TOKEN, "denied"),
        (None, "tok_of_yesterday", "denied"),
    ] {
        let world = World::new().await;
        let api = api.unwrap_or_else(|| world.vobiz.api_url());
        let broken = replica_of(&world, 4711, &api, token);
        let its_fetcher = fetcher(&world.database.pool, vec![broken.clone()]);
        assert!(!is_paused(&world.accounts[0]).await, "which says that it is there");
        for minutes in 0..4 {
            world.database.shift_clock(&format!("{} seconds", minutes * 61)).await;
            assert!(!is_paused(&world.accounts[0]).await);
            for _ in 0..10 {
                world.owed_call().await;
            }
            // The broken one always comes first, and its probes fail.
            its_fetcher.run_until_idle().await;
            until_is("it is paused", true, async || is_paused(&broken).await).await;
            assert_eq!(world.pause_reason().await, "∅", "{reason}");
            world.drain().await;
            assert_eq!(world.stored().await, 10 * (minutes + 1), "{reason}");
        }
        assert_eq!(world.database.count("select count(*) from vobiz.account_pause").await, 0, "{reason}");
        let said = world
            .text("select concat_ws(' ', host, pid, pause_reason, last_answer_at, error) from vobiz.account_replica where pid = 4711")
            .await;
        assert!(said.starts_with(&format!("another-host 4711 {reason} {reason}: ")), "{said}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_replica_that_was_alone_in_failing_goes_on_when_its_token_is_right_again() {
    let world = World::new().await;
    world.vobiz.set_token(ACCOUNT, "tok_of_tomorrow");
    let broken = replica_of(&world, 4711, &world.vobiz.api_url(), TOKEN);
    let fine = replica_of(&world, 4712, &world.vobiz.api_url(), "tok_of_tomorrow");
    assert!(!is_paused(&fine).await);
    let its_fetcher = fetcher(&world.database.pool, vec![broken.clone()]);
    world.owed_call().await;
    its_fetcher.run_until_idle().await;
    until_is("it is paused", true, async || is_paused(&broken).await).await;
    assert!(!is_paused(&fine).await);
    world.vobiz.set_token(ACCOUNT, TOKEN);
    world.database.shift_clock("2 minutes").await;
    until_is("its probe succeeds", false, async || {
        its_fetcher.run_until_idle().await;
        is_paused(&broken).await
    })
    .await;
    its_fetcher.run_until_idle().await;
    assert_eq!(world.stored().await, 1);
    world.end().await;
}

/// What a replica wrote under a clock that was ahead a little says that it is there, as much as before.
#[tokio::test]
async fn a_clock_that_is_set_back_a_little_makes_nobody_the_only_one() {
    for ahead in ["10 seconds", "140 seconds"] {
        let world = World::new().await;
        world.database.shift_clock(ahead).await;
        assert!(!is_paused(&world.accounts[0]).await, "which says that it is there");
        world.database.shift_clock("0").await;
        let broken = replica_of(&world, 4711, &world.vobiz.api_url(), "tok_of_yesterday");
        world.owed_call().await;
        fetcher(&world.database.pool, vec![broken.clone()]).run_until_idle().await;
        until_is("it is paused", true, async || is_paused(&broken).await).await;
        assert_eq!(world.pause_reason().await, "∅", "{ahead}");
        world.drain().await;
        assert_eq!(world.stored().await, 1, "{ahead}");
        world.end().await;
    }
}

/// Where nobody is left who might work, and where two that knew it agree, a third one need not fail twenty times.
#[tokio::test]
async fn two_replicas_that_agree_pause_a_third_and_its_success_outvotes_them() {
    let world = World::new().await;
    let [one, two, three] = [1, 2, 3].map(|pid| replica_of(&world, pid, &world.vobiz.api_url(), TOKEN));
    let their = |account: &Arc<Account>| fetcher(&world.database.pool, vec![account.clone()]);
    for account in [&one, &two] {
        world.owed_call().await;
        their(account).run_until_idle().await;
    }
    assert_eq!(world.stored().await, 2, "both had good answers");
    assert!(!is_paused(&three).await);
    // A quiet hour; then the API goes away.
    world.database.shift_clock("1 hour").await;
    world.vobiz.script_account(ACCOUNT, Some(Answer::Html));
    assert!(!is_paused(&three).await);
    for _ in 0..60 {
        world.owed_call().await;
    }
    their(&one).run_until_idle().await;
    assert!(is_paused(&one).await && !is_paused(&two).await && !is_paused(&three).await);
    assert_eq!(world.pause_reason().await, "∅");
    world.database.shift_clock("1 hour 10 seconds").await;
    their(&two).run_until_idle().await;
    assert!(is_paused(&two).await && is_paused(&three).await, "{}", world.pause_reason().await);
    assert_eq!(world.pause_reason().await, "unavailable");
    // The two are wrong: it is they who cannot reach it.
    world.vobiz.script_account(ACCOUNT, None);
    let fetcher = their(&three);
    until_is("the third one finds out by itself", 62, async || {
        world.database.advance_clock(chrono::TimeDelta::seconds(20)).await;
        fetcher.run_until_idle().await;
        world.stored().await
    })
    .await;
    assert_eq!(world.pause_reason().await, "∅");
    assert!(is_paused(&one).await && is_paused(&two).await, "until their own probes succeed");
    world.end().await;
}
