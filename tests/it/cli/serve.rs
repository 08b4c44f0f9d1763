//! `serve` before it runs: settings are checked, all at once, and shown without secrets.

use crate::support::database::ACCOUNT;
use crate::support::process::{program, run};
use crate::support::world::TOKEN;

#[test]
fn wrong_settings_are_said_all_at_once_with_what_to_do() {
    let finished = run(program(&["serve"])
        .env("DATABASE_URL", "mysql://nope")
        .env("VOBIZ_AUTH_ID", "MA/../x")
        .env("VOBIZ_API_URL", "ftp://x")
        .env("VOBIZ_ACCOUNT_PATH", "ACCOUNT")
        .env("VOBIZ_MAX_RPS", "fast")
        .env("CDR_LISTEN", "8080")
        .env("CDR_SIGNATURES", "maybe")
        .env("CDR_FIRST_FETCH_DELAY", "4")
        .env("CDR_CALLBACK_SECRET", "short"));
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    for word in [
        "DATABASE_URL: write postgres://",
        "VOBIZ_AUTH_TOKEN is missing",
        "write an id such as MA_XXXXXXXX",
        "VOBIZ_API_URL: http or https",
        "VOBIZ_ACCOUNT_PATH: \"ACCOUNT\" is no casing",
        "VOBIZ_MAX_RPS",
        "CDR_LISTEN",
        "CDR_SIGNATURES: \"maybe\" is no policy",
        "CDR_FIRST_FETCH_DELAY",
        "CDR_CALLBACK_SECRET: at least 16 characters",
    ] {
        assert!(finished.stderr.contains(word), "{word}\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("panicked"));
}

#[test]
fn an_empty_database_url_does_not_quietly_start_another_database() {
    let finished = run(program(&["serve"])
        .env("DATABASE_URL", "")
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", "tok_x y")
        .env("VOBIZ_API_URL", "https://api.vobiz.ai/api/v1")
        .env("CDR_FIRST_FETCH_DELAY", "1000000y")
        .env("CDR_CALLBACK_URL", "https://calls.example.com/x"));
    assert_eq!(finished.status.code(), Some(2));
    for word in [
        "DATABASE_URL is set and empty",
        "odd character",
        "without /api/v1",
        "CDR_FIRST_FETCH_DELAY: at most",
    ] {
        assert!(finished.stderr.contains(word), "{word}\n{}", finished.stderr);
    }
}

#[test]
fn required_without_anything_to_check_by_refuses_to_start() {
    let finished = run(program(&["serve"]).env("VOBIZ_AUTH_ID", ACCOUNT).env("VOBIZ_AUTH_TOKEN", "tok"));
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("set CDR_CALLBACK_URL"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("tok\n"), "no secret in a message");
}

#[test]
fn a_secret_may_lie_in_a_file_and_a_slip_of_the_pen_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "  \n").unwrap();
    let finished = run(program(&["serve"])
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN_FILE", &file)
        .env("CDR_CALLBACK_SECRETS", "typo")
        .env("CDR_CALLBACK_URL", "https://calls.example.com/x"));
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("VOBIZ_AUTH_TOKEN_FILE") && finished.stderr.contains("is empty"));
    assert!(finished.stderr.contains("CDR_CALLBACK_SECRETS"), "{}", finished.stderr);
}

#[tokio::test]
async fn an_unreachable_database_is_a_clear_error() {
    let finished = run(program(&["serve"])
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none")
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", "tok_x")
        .env("CDR_CALLBACK_URL", "https://calls.example.com/x"));
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("is DATABASE_URL right, and does it run?"), "{}", finished.stderr);
}

#[test]
fn check_shows_what_is_in_force_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "tok_from_a_file\n").unwrap();
    let finished = run(program(&["serve", "--check", "--max-rps", "7"])
        .env("DATABASE_URL", "postgres://cdr:pass-word@db.example.com/cdr")
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN_FILE", &token)
        .env("CDR_CALLBACK_SECRET", "secret-secret-0123")
        .env("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz/secret-secret-0123"));
    assert!(finished.status.success(), "{}", finished.stderr);
    for secret in ["pass-word", "tok_from_a_file", "secret-secret-0123"] {
        assert!(!finished.stdout.contains(secret) && !finished.stderr.contains(secret), "{secret}");
    }
    let flat: Vec<String> =
        finished.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "DATABASE_URL postgres://cdr:********@db.example.com/cdr environment",
        "VOBIZ_MAX_RPS 7 flag",
        "CDR_SWEEP_INTERVAL 5m default",
        "CDR_BILLING_ZONE not set",
        "CDR_CALLBACK_URL https://calls.example.com/callbacks/vobiz/******** environment",
        "CDR_CALLBACK_SECRET ******** environment",
        &format!("VOBIZ_AUTH_TOKEN ******** file {}", token.display()),
        "runs: receive, fetch, sweep",
        "account MA_TESTAB12: 1 token, 7 requests a second",
        "callbacks: checked against 1 URL and 1 secret",
    ] {
        assert!(flat.iter().any(|shown| shown == line), "{line}\n{}", finished.stdout);
    }
    let wrong = run(program(&["serve", "--check"]).env("CDR_SWEEP_INTERVAL", "soon"));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stderr.contains("CDR_SWEEP_INTERVAL") && wrong.stdout.is_empty());
}

#[test]
fn parts_need_a_database_that_the_others_can_reach() {
    let with = |arguments: &[&str]| {
        let mut command = program(arguments);
        command.env("VOBIZ_AUTH_ID", ACCOUNT).env("VOBIZ_AUTH_TOKEN", TOKEN);
        run(&mut command)
    };
    let finished = with(&["serve", "--check", "--only", "fetch"]);
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("--only needs DATABASE_URL"), "{}", finished.stderr);
    // Who does not receive needs nothing to check callbacks by.
    assert!(!finished.stderr.contains("CDR_CALLBACK_URL"), "{}", finished.stderr);
    let same = with(&["serve", "--check", "--listen", "127.0.0.1:8080", "--ops-listen", "127.0.0.1:8080"]);
    assert!(same.stderr.contains("the ops port must not be the public one"), "{}", same.stderr);
    assert_eq!(with(&["serve", "--only", "everything"]).status.code(), Some(2));
    let thrice = with(&["serve", "--check", "--only", "fetch,fetch,fetch"]);
    assert!(thrice.stderr.contains("--only needs DATABASE_URL"), "{}", thrice.stderr);
}
