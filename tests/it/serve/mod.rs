//! The whole service: split over processes, and told to read its settings anew.

mod log;
mod pooler;
mod port;
mod presence;
mod rotation;
mod start;
mod strangers;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vobiz_cdr::simulator::{CallSpec, SimulatedAccount, Simulator, SimulatorOptions};

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::process::{Serve, free_port, program, run};
use crate::support::running::page;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, options};

const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";

/// Starts `serve` with further arguments, and keeps what it says.
fn serve(arguments: &[&str], port: u16, settings: &[(&str, &str)]) -> (Serve, Arc<Mutex<Vec<String>>>) {
    let mut command = program(&[&["serve"], arguments].concat());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serve = Serve::start_by(command, port, settings);
    let said = Arc::new(Mutex::new(Vec::new()));
    let (stderr, lines) = (serve.stderr(), Arc::clone(&said));
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    (serve, said)
}

/// Settings of a quick service with the account of the tests, and one more.
fn settings<'a>(database: &'a str, api: &'a str, more: (&'a str, &'a str)) -> [(&'a str, &'a str); 8] {
    [
        ("DATABASE_URL", database),
        ("VOBIZ_API_URL", api),
        ("VOBIZ_AUTH_ID", ACCOUNT),
        ("VOBIZ_AUTH_TOKEN", TOKEN),
        ("VOBIZ_MAX_RPS", "500"),
        ("CDR_CALLBACK_URL", SIGNED_FOR),
        ("CDR_FIRST_FETCH_DELAY", "100ms"),
        more,
    ]
}

const SECOND: &str = "MA_SECOND99";

const SECOND_TOKEN: &str = "tok_second_5b0d";

fn write_accounts(path: &Path, accounts: &[(&str, &str)]) {
    let tables: Vec<String> = accounts
        .iter()
        .map(|(id, token)| {
            format!("[[account]]\nauth_id = \"{id}\"\nauth_token = \"{token}\"\nmax_rps = 500\n")
        })
        .collect();
    std::fs::write(path, tables.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_with_a_part_each_do_the_work_of_one() {
    let database = Database::new().await;
    let vobiz = Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() })
        .await
        .unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    let settings = settings(&database.url, &api, ("CDR_SWEEP_INTERVAL", "1s"));
    let (mut receive, _) = serve(&["--only", "receive"], port, &settings);
    let call = vobiz.place_call(CallSpec::default());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(Callback::of(&vobiz, &call).send(address).await, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(vobiz.stats().total_requests(), 0, "who only receives asks Vobiz nothing");

    // The others have no public port; their health is on the ops port.
    let (mut fetch, _) = serve(&["--only", "fetch"], 0, &settings);
    until_is("the call is stored", 1, async || {
        database.count("select count(*) from vobiz.cdr where origin = 'callback'").await
    })
    .await;
    let ops: SocketAddr = fetch.ops.parse().unwrap();
    until_is("it is ready", 200, async || page(ops, "/readyz").await.0).await;
    let health = run(&mut program(&["healthcheck", "--ops-listen", &fetch.ops]));
    assert!(health.status.success(), "{}", health.stderr);
    let unannounced = vobiz.place_call(CallSpec::default());
    let (mut sweep, _) = serve(&["--only", "sweep"], 0, &settings);
    until_is("the sweep finds the other", 1, async || {
        database.count("select count(*) from vobiz.cdr where origin = 'sweep'").await
    })
    .await;
    assert_eq!(vobiz.stats().fetches_of(&unannounced.call_id), 0);
    for serve in [&mut fetch, &mut sweep, &mut receive] {
        serve.terminate();
        assert!(serve.wait().success());
    }
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_brings_accounts_tokens_and_secrets_anew_and_mistakes_change_nothing() {
    let database = Database::new().await;
    let vobiz = Simulator::start(SimulatorOptions {
        accounts: vec![SimulatedAccount::new(ACCOUNT, TOKEN), SimulatedAccount::new(SECOND, SECOND_TOKEN)],
        latency: Duration::from_millis(200),
        ..options()
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (accounts, secret) = (folder.path().join("accounts.toml"), folder.path().join("secret"));
    let previous = folder.path().join("previous");
    write_accounts(&accounts, &[(ACCOUNT, "tok_that_has_expired")]);
    std::fs::write(&secret, "the-first-secret-0").unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    let (mut serve, said) = serve(
        &[],
        port,
        &[
            ("DATABASE_URL", &database.url),
            ("VOBIZ_API_URL", &api),
            ("VOBIZ_ACCOUNTS_FILE", accounts.to_str().unwrap()),
            ("CDR_CALLBACK_SECRET_FILE", secret.to_str().unwrap()),
            ("CDR_CALLBACK_SECRET_PREVIOUS_FILE", previous.to_str().unwrap()),
            ("CDR_FIRST_FETCH_DELAY", "100ms"),
        ],
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let callback = async |path: &str, call_id: &str| {
        Callback::hangup(call_id).at(format!("/callbacks/vobiz/{path}")).send(address).await
    };
    let heard = async |word: &str| {
        until(word, async || said.lock().unwrap().iter().any(|line| line.contains(word))).await;
    };
    // Of the account whose token is refused: its pause is what the reload ends.
    let of_first = || CallSpec { account: Some(ACCOUNT.into()), ..CallSpec::default() };
    let call = vobiz.place_call(of_first());
    // With the newest call of the list it is tried whether the account works, whoever fetches it.
    vobiz.place_call(of_first());
    assert_eq!(callback("the-first-secret-0", &call.call_id).await, 200);
    heard("account paused").await;

    // A mistake: the file is said to be wrong, and everything stays as it was.
    std::fs::write(&accounts, "[[account]]\nauth_id = 7\n").unwrap();
    serve.signal("HUP");
    heard("not reloaded, the old settings stay").await;
    assert_eq!(callback("the-first-secret-0", "nobody").await, 200);

    // The probe of a minute later would try the new token as well: it is put off, so that only the reload is left to do it.
    until_is("the pause is put off", 1, async || {
        let put_off =
            "with put_off as (update vobiz.account_replica set probe_at = vobiz.now() + interval '1 hour'
                                        where pause_reason = 'denied' returning account_id)
                       select count(*) from put_off";
        database.count(put_off).await
    })
    .await;
    write_accounts(&accounts, &[(ACCOUNT, TOKEN), (SECOND, SECOND_TOKEN)]);
    std::fs::write(&secret, "another-secret-0001").unwrap();
    serve.signal("HUP");
    heard("reloaded: accounts").await;
    assert_eq!(callback("the-first-secret-0", "nobody").await, 403, "the old secret is none any more");
    // A rotation: the file of the previous secret was not there before, and is emptied when it is over.
    std::fs::write(&previous, "the-first-secret-0\n").unwrap();
    serve.signal("HUP");
    until_is("both secrets count", 200, async || callback("the-first-secret-0", "nobody").await).await;
    assert_eq!(callback("another-secret-0001", "nobody").await, 200);
    std::fs::write(&previous, "").unwrap();
    serve.signal("HUP");
    until_is("the previous one is over", 403, async || callback("the-first-secret-0", "nobody").await).await;
    let second = vobiz.place_call(CallSpec { account: Some(SECOND.into()), ..CallSpec::default() });
    assert_eq!(callback(&format!("{SECOND}/another-secret-0001"), &second.call_id).await, 200);
    // The first account was paused for its token; the new one is tried at once, not at the next probe.
    until_is("both are stored", 2, async || {
        database.count("select count(*) from vobiz.cdr where first_callback_at is not null").await
    })
    .await;
    let most_open = vobiz.stats().most_open;
    assert_eq!((most_open[&call.call_id], most_open[&second.call_id]), (1, 1));
    serve.terminate();
    assert!(serve.wait().success());
    let said = said.lock().unwrap().clone();
    for token in [TOKEN, SECOND_TOKEN, "the-first-secret-0", "another-secret-0001"] {
        assert!(!said.iter().any(|line| line.contains(token)), "{token} is in the log");
    }
    database.every_certain_call_is_somewhere().await;
}
