//! Who is configured with an account, and what it does for it, is known in Postgres.

use std::net::SocketAddr;

use vobiz_cdr::simulator::{CallSpec, Simulator};

use super::{SECOND, SECOND_TOKEN, serve, settings, write_accounts};
use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{Finished, Serve, free_port, program, run};
use crate::support::running::page;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, options};

fn retire(database: &Database, more: &[&str]) -> Finished {
    run(program(&[&["account", "retire", ACCOUNT, "--reason", "left"], more].concat())
        .env("DATABASE_URL", &database.url))
}

async fn status(serve: &Serve) -> String {
    page(serve.ops.parse::<SocketAddr>().unwrap(), "/status").await.1
}

async fn there(database: &Database) -> i64 {
    database.count("select count(*) from vobiz.account_replica r where vobiz.is_there(r)").await
}

async fn keeps_its_account(part: &'static str) {
    let vobiz = Simulator::start(options()).await.unwrap();
    let database = Database::new().await;
    let api = vobiz.api_url();
    let settings = settings(&database.url, &api, ("CDR_SWEEP_INTERVAL", "1d"));
    let public = if part == "receive" { free_port() } else { 0 };
    let (mut serve, _) = serve(&["--only", part], public, &settings);
    until_is("it is there", 1, async || there(&database).await).await;
    if part == "sweep" {
        until_is("it has swept", 1, async || {
            database.count("select count(*) from vobiz.account where swept_at is not null").await
        })
        .await;
    }
    database.run("delete from vobiz.account_replica").await;
    until_is("it says so again", 1, async || there(&database).await).await;
    let retired = retire(&database, &[]);
    assert!(retired.stderr.contains("is configured in "), "{part}: {}", retired.stderr);
    // Who does not ask has no voice in a pause, and no alarm of its own.
    let voices = "select count(*) from vobiz.account_replica r where vobiz.is_live(r)";
    assert_eq!(database.count(voices).await, i64::from(part == "sweep"), "{part}");
    // Retired while it could not say so: it goes on, as after a start, and whoever did it is told.
    database.run("update vobiz.account set retired_at = vobiz.now()").await;
    until_is("it is taken up again", 0, async || {
        database.count("select count(*) from vobiz.account where retired_at is not null").await
    })
    .await;
    until("it is said", async || {
        let status = status(&serve).await;
        status.contains("the promise for it goes on") && status.contains(ACCOUNT)
    })
    .await;
    serve.terminate();
    assert!(serve.wait().success());
    assert_eq!(there(&database).await, 0, "it has said that it goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_takes_callbacks_keeps_its_account_from_being_retired() {
    keeps_its_account("receive").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_nothing_to_sweep_keeps_its_account_from_being_retired() {
    keeps_its_account("sweep").await;
}

async fn is_said(part: &'static str, other: &'static str) {
    let vobiz = Simulator::start(options()).await.unwrap();
    let database = Database::new().await;
    let api = vobiz.api_url();
    let settings = settings(&database.url, &api, ("CDR_SWEEP_INTERVAL", "1d"));
    let public = |part: &str| if part.contains("receive") { free_port() } else { 0 };
    let (mut idle, _) = serve(&["--only", part], public(part), &settings);
    let unfetched =
        "select count(*) from vobiz.account_pause where reason = 'unfetched' and until_at > vobiz.now()";
    until_is("it is known", 1, async || database.count(unfetched).await).await;
    let words = format!("no process fetches calls of account {ACCOUNT}");
    assert!(!status(&idle).await.contains(&words), "a restart is nobody's matter");
    database
        .run("update vobiz.account_pause set started_at = started_at - interval '150 seconds' where reason = 'unfetched'")
        .await;
    until("it is said", async || status(&idle).await.contains(&words)).await;
    // It is the next tick that says how it goes on.
    until("it goes on", async || {
        let ahead =
            "select count(*) from vobiz.account_pause where until_at > started_at + interval '275 seconds'";
        database.count(ahead).await == 1
    })
    .await;
    let (mut fetches, _) = serve(&["--only", other], public(other), &settings);
    until("it is over", async || !status(&idle).await.contains(&words)).await;
    assert_eq!(database.count(unfetched).await, 0);
    for serve in [&mut fetches, &mut idle] {
        serve.terminate();
        assert!(serve.wait().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_fetches_what_is_taken_it_is_said_until_somebody_does() {
    is_said("receive", "fetch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_fetches_beside_a_sweep_it_is_said_until_somebody_does() {
    is_said("sweep", "receive,fetch").await;
}

async fn is_retired(by_sighup: bool) {
    let vobiz = Simulator::start(options()).await.unwrap();
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    write_accounts(&file, &[(ACCOUNT, TOKEN), (SECOND, SECOND_TOKEN)]);
    let (api, call) = (vobiz.api_url(), vobiz.place_call(CallSpec::default()));
    let settings: Vec<(&str, &str)> =
        settings(&database.url, &api, ("VOBIZ_ACCOUNTS_FILE", file.to_str().unwrap()))
            .into_iter()
            .filter(|(name, _)| !name.starts_with("VOBIZ_AUTH"))
            .collect();
    let (mut serve, said) = serve(&[], free_port(), &settings);
    until_is("it works", 1, async || {
        database.count(&format!("select count(*) from vobiz.cdr where call_id = '{}'", call.call_id)).await
    })
    .await;
    // The call lies in the promise.
    database.run("update vobiz.account set ledger_since = ledger_since - interval '1 hour'").await;
    let refused = |words: &str, more: &[&str]| {
        let done = retire(&database, more);
        assert!(done.status.code() == Some(1) && done.stderr.contains(words), "{words}: {}", done.stderr);
        done.stderr
    };
    let configured = format!("is configured in {} pid {}", hostname(), serve.id());
    refused(&configured, &[]);
    refused(&configured, &["--give-up"]);
    assert_eq!(database.count("select count(*) from vobiz.audit").await, 0);
    if by_sighup {
        write_accounts(&file, &[(SECOND, SECOND_TOKEN)]);
        serve.signal("HUP");
        let has_reloaded =
            async || said.lock().unwrap().iter().any(|line| line.contains("reloaded: accounts"));
        until("it has reloaded", has_reloaded).await;
        let rows = format!("select count(*) from vobiz.account_replica where account_id = '{ACCOUNT}'");
        until_is("it says no more of it", 0, async || database.count(&rows).await).await;
    } else {
        serve.terminate();
        assert!(serve.wait().success());
    }
    // No settled day proves its one call: the words are what is to be typed.
    let words = refused("1 call is stored of later days", &[]);
    let (_, at) = words.split_once("--at ").unwrap();
    let done = retire(&database, &["--at", at.split_whitespace().next().unwrap()]);
    assert!(done.status.success(), "{}", done.stderr);
    let audit =
        "select concat_ws(' ', action, account_id, reason, detail ->> 'calls_after') from vobiz.audit";
    assert_eq!(database.texts(audit).await, [format!("account_retired {ACCOUNT} left 1")]);
    if by_sighup {
        // Who goes on with another account leaves this one alone.
        let later = "select count(*) from vobiz.account_replica where account_id = 'MA_SECOND99' and seen_at > vobiz.now() - interval '1 second'";
        database.run("update vobiz.account_replica set seen_at = seen_at - interval '1 minute'").await;
        until_is("it has looked again", 1, async || database.count(later).await).await;
        assert_eq!(
            database.count("select count(*) from vobiz.account where retired_at is not null").await,
            1
        );
        serve.terminate();
        assert!(serve.wait().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_retired_once_its_process_has_ended_and_the_audit_says_so() {
    is_retired(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_retired_once_sighup_has_taken_it_out_of_a_process_and_the_audit_says_so() {
    is_retired(true).await;
}

/// As the processes say it.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}
