//! Which database a command reads, and where its settings come from: a slip must not look like a month without calls.

use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{program, run};

const BILL: [&str; 6] = ["report", "billing_day", "--from", "2026-03-01", "--to", "2026-03-31"];

#[test]
fn a_file_has_the_settings_of_the_service_and_the_environment_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vobiz-cdr.env");
    let text = format!(
        "# settings\nVOBIZ_AUTH_ID={ACCOUNT}\nVOBIZ_AUTH_TOKEN='tok_of_the_file'\nVOBIZ_MAX_RPS=7\n\
         CDR_CALLBACK_URL=\"https://calls.example.com/callbacks/vobiz\"\n\
         DATABASE_URL_FILE=/nowhere\nCDR_SWEEP_INTERVAL=9m\n"
    );
    std::fs::write(&file, text).unwrap();
    let named = file.to_str().unwrap();
    let finished = run(program(&["serve", "--check", "--env-file", named])
        .env("VOBIZ_MAX_RPS", "3")
        // It and the file's DATABASE_URL_FILE are one setting.
        .env("DATABASE_URL", "postgres://db.example.com/cdr"));
    assert!(finished.status.success(), "{}", finished.stderr);
    let flat: Vec<String> =
        finished.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "VOBIZ_AUTH_ID MA_TESTAB12 environment",
        "VOBIZ_MAX_RPS 3 environment",
        "CDR_SWEEP_INTERVAL 9m environment",
        "DATABASE_URL postgres://db.example.com/cdr environment",
    ] {
        assert!(flat.iter().any(|shown| shown == line), "{line}\n{}", finished.stdout);
    }
    assert!(!finished.stdout.contains("tok_of_the_file"));

    std::fs::write(&file, "VOBIZ_AUTH_ID=MA_1\nVOBIZ_AUTH_TOKEN tok_secret\n").unwrap();
    for arguments in [["serve", "--check", "--env-file", named], ["--env-file", named, "serve", "--check"]] {
        let finished = run(&mut program(&arguments));
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("line 2: write NAME=value"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("tok_secret"), "{}", finished.stderr);
    }
    let absent = run(&mut program(&["serve", "--check", "--env-file", "/nowhere.env"]));
    assert_eq!(absent.status.code(), Some(2));
    assert!(absent.stderr.contains("name a file that this user may read"), "{}", absent.stderr);
}

#[test]
fn without_a_database_nothing_is_made_and_the_variable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for arguments in
        [&BILL[..], &["migrate", "status"], &["migrate", "check"], &["migrate", "apply"], &["verify"]]
    {
        let finished = run(program(arguments).env("CDR_DATA_DIR", &data));
        assert_eq!(finished.status.code(), Some(1), "{arguments:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains("DATABASE_URL and DATABASE_URL_FILE are not set here"),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(!data.exists(), "{arguments:?} made a folder");
    }
}

#[tokio::test]
async fn a_report_says_of_which_database_it_is_and_flags_stand_before_or_after_the_verb() {
    let database = Database::new().await;
    let finished = run(program(&BILL).env("DATABASE_URL", &database.url));
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stderr.contains("read from postgres://"), "{}", finished.stderr);
    for arguments in [
        ["migrate", "--database-url", &database.url, "status"],
        ["migrate", "status", "--database-url", &database.url],
    ] {
        let finished = run(&mut program(&arguments));
        assert!(finished.status.success(), "{}", finished.stderr);
        assert!(finished.stdout.starts_with("applied"), "{}", finished.stdout);
    }
}

#[tokio::test]
async fn which_accounts_are_configured_is_known_without_their_tokens() {
    let database = Database::new().await;
    let listed = run(program(&["account", "list"])
        .env("DATABASE_URL", &database.url)
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN_FILE", "/nowhere"));
    assert!(listed.status.success(), "{}", listed.stderr);
    assert!(listed.stdout.contains(ACCOUNT) && listed.stdout.contains("yes"), "{}", listed.stdout);
    let refused = run(program(&["account", "retire", ACCOUNT, "--reason", "it leaves"])
        .env("DATABASE_URL", &database.url)
        .env("VOBIZ_AUTH_ID", ACCOUNT));
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("is configured here"), "{}", refused.stderr);
}
