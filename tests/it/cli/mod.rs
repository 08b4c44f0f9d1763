//! The built program as its user meets it: help, settings, exit codes.

mod reference;
mod reparse;
mod report;

use std::time::Duration;

use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{program, run};

#[test]
fn help_shows_every_subcommand_and_no_secret() {
    let help = run(program(&["--help"]).env("VOBIZ_AUTH_TOKEN", "hidden-token"));
    assert!(help.status.success());
    for word in [
        "serve",
        "demo",
        "simulate",
        "migrate",
        "healthcheck",
        "status",
        "dead-letters",
        "reparse",
        "verify",
        "reconcile",
        "backfill",
        "recover",
        "report",
        "export",
        "postgres",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let serve = run(program(&["serve", "--help"]).env("VOBIZ_AUTH_TOKEN", "hidden-token"));
    assert!(serve.stdout.contains("VOBIZ_AUTH_TOKEN") && !serve.stdout.contains("hidden-token"));
}

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
async fn serve_refuses_a_schema_that_is_behind_and_names_the_command() {
    let database = Database::empty().await;
    let serve = || {
        let mut command = program(&["serve"]);
        command
            .env("DATABASE_URL", &database.url)
            .env("VOBIZ_AUTH_ID", ACCOUNT)
            .env("VOBIZ_AUTH_TOKEN", "tok_x")
            .env("CDR_LISTEN", "127.0.0.1:0")
            .env("CDR_CALLBACK_URL", "https://calls.example.com/x");
        command
    };
    let finished = run(&mut serve());
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("vobiz-cdr migrate apply"), "{}", finished.stderr);

    let migrate = |verb: &str| run(program(&["migrate", verb]).env("DATABASE_URL", &database.url));
    assert_eq!(migrate("check").status.code(), Some(1));
    let pending = migrate("status");
    assert_eq!(pending.status.code(), Some(1));
    assert!(pending.stdout.lines().all(|line| line.starts_with("pending")), "{}", pending.stdout);
    assert!(migrate("apply").status.success());
    assert!(migrate("apply").status.success(), "again is nothing");
    assert!(migrate("check").status.success());
    assert!(migrate("status").stdout.lines().all(|line| line.starts_with("applied")));

    // A shared setting that differs is refused once there are calls; before, it is taken.
    let mut odd = serve();
    let finished = run(odd.env("CDR_BILLING_ZONE", "Mars/Olympus"));
    assert!(finished.stderr.contains("no time zone that Postgres knows"), "{}", finished.stderr);
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
fn the_demo_runs_with_nothing_configured_and_finds_nothing_missing() {
    let started = std::time::Instant::now();
    let mut command = program(&["demo"]);
    if let Some(programs) = std::env::var_os("PG_BIN_DIR") {
        command.env("PG_BIN_DIR", programs);
    }
    let finished = run(&mut command);
    assert!(finished.status.success(), "{}\n{}", finished.stdout, finished.stderr);
    assert!(
        finished.stdout.contains("missing                       0   of 300 calls"),
        "{}",
        finished.stdout
    );
    assert!(finished.stdout.contains("NORMAL_CLEARING"));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// Names of all settings that `serve --help` shows, each with its default where it has one.
fn settings() -> Vec<(String, Option<String>)> {
    let help = run(&mut program(&["serve", "--help"])).stdout;
    // Help breaks its lines, also between `[env:` and the name.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    flat.split("[env: ")
        .skip(1)
        .map(|rest| {
            let name = rest.split(['=', ']']).next().unwrap_or_default().to_owned();
            // The default, if any, stands right behind the name.
            let behind = rest.split_once(']').map_or("", |(_, behind)| behind.trim_start());
            let default = behind.strip_prefix("[default: ").and_then(|rest| rest.split(']').next());
            (name, default.map(str::to_owned))
        })
        .collect()
}

#[test]
fn the_reference_and_the_example_environment_show_every_setting() {
    let root = env!("CARGO_MANIFEST_DIR");
    let known = settings();
    assert!(known.len() > 20, "{known:?}");
    let reference = std::fs::read_to_string(format!("{root}/docs/reference.md")).unwrap();
    let example = std::fs::read_to_string(format!("{root}/.env.example")).unwrap();
    for (name, default) in &known {
        assert!(reference.contains(&format!("`{name}`")), "{name} is not in docs/reference.md");
        if let Some(default) = default {
            assert!(
                example.contains(&format!("{name}={default}\n")),
                "{name}={default} is not in .env.example"
            );
        }
        let shown =
            example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name}=")));
        assert!(shown, "{name} is not in .env.example");
    }
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_brought_back() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, attempts, failures, error_class,
                                          last_error, first_failed_at, dead_at, last_body)
             select 'call-' || n, 'MA_TESTAB12', true, true, now(), 5, 5, case when n <= 2 then 'refused' else 'unreadable' end,
                    'refused: 422: bad' || chr(27) || '[31m filter', now(), now(), case when n = 3 then 'not a CDR'::bytea end
             from generate_series(1, 2500) n",
        )
        .await;
    let dead_letters = |arguments: &[&str]| {
        let mut command = program(&[&["dead-letters"], arguments].concat());
        run(command.env("DATABASE_URL", &database.url))
    };
    let alive =
        "select count(*) from vobiz.cdr_queue where dead_at is null and failures = 0 and due_at <= now()";
    let list = dead_letters(&["list", "--class", "refused"]);
    assert!(list.status.success(), "{}", list.stderr);
    assert_eq!(list.stdout.matches("MA_TESTAB12").count(), 2, "{}", list.stdout);
    assert!(!list.stdout.contains('\u{1b}'), "what Vobiz says cannot move the cursor");
    let json = dead_letters(&["list", "--json", "--limit", "7"]).stdout;
    assert_eq!(json.lines().count(), 7);
    assert!(
        json.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["class"].is_string())
    );
    let show = dead_letters(&["show", "call-3"]);
    assert!(show.stdout.contains("unreadable") && show.stdout.contains("not a CDR"), "{}", show.stdout);
    assert_eq!(dead_letters(&["show", "call-x"]).status.code(), Some(1));

    // Nobody revives everything by forgetting a word.
    assert_eq!(dead_letters(&["revive"]).status.code(), Some(2));
    assert_eq!(dead_letters(&["revive", "call-1", "--all"]).status.code(), Some(2));
    assert!(dead_letters(&["revive", "call-1"]).status.success());
    assert_eq!(dead_letters(&["revive", "call-1"]).status.code(), Some(1), "it is none any more");
    assert_eq!(database.count(alive).await, 1);
    assert!(dead_letters(&["revive", "--class", "refused"]).stderr.contains("1 revived"));
    assert_eq!(database.count(alive).await, 2);
    assert!(dead_letters(&["revive", "--all"]).stderr.contains("2498 revived"));
    assert_eq!(database.count(alive).await, 2500);
    assert!(dead_letters(&["list"]).stderr.contains("no dead letters"));
}

#[tokio::test]
async fn dead_letters_are_closed_with_a_reason_and_what_lives_stays() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, attempts, failures, error_class,
                                          last_error, first_failed_at, dead_at, last_body)
             select 'call-' || n, 'MA_TESTAB12', true, true, now(), 5, 5, case when n <= 3 then 'refused' else 'unreadable' end,
                    'refused: 422: bad filter', now(), now(), case when n = 1 then '\\x4e6fff'::bytea end
             from generate_series(1, 1500) n",
        )
        .await;
    database.owe(&["alive"], true).await;
    let close = |arguments: &[&str]| {
        let mut command = program(&[&["dead-letters", "close"], arguments].concat());
        run(command.env("DATABASE_URL", &database.url).env("USER", "asha"))
    };
    for forgotten in [
        &["call-1"][..],
        &["call-1", "--reason", "  "],
        &["--reason", "why"],
        &["call-1", "--all", "--reason", "why"],
    ] {
        assert_eq!(close(forgotten).status.code(), Some(2), "{forgotten:?}");
    }
    assert!(close(&["call-1", "call-1", "--reason", " agreed with Vobiz "]).status.success());
    let closed = "select concat_ws(' ', account_id, certain, reason, evidence) from vobiz.closed_call";
    assert_eq!(
        database.texts(closed).await,
        ["MA_TESTAB12 t by_operator refused: refused: 422: bad filter, after 5 requests"]
    );
    let audit = "select concat_ws('|', call_id, account_id, reason, replace(by, session_user, 'user'), detail->>'class',
                                  detail->>'attempts', detail->>'last_body') from vobiz.audit where action = 'dead_letter_closed'";
    assert_eq!(
        database.texts(audit).await,
        [r"call-1|MA_TESTAB12|agreed with Vobiz|user (asha)|refused|5|No\377"]
    );

    // What is owed and alive is not given up, and the others that were named are closed all the same.
    let mixed = close(&["alive", "call-1", "call-2", "--reason", "why", "--by", "Ravi"]);
    assert_eq!(mixed.status.code(), Some(1));
    assert!(mixed.stderr.contains("alive is owed and not dead"), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("call-1 is no dead letter"), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("1 of 3 closed by Ravi"), "{}", mixed.stderr);
    let left = "select count(*) from vobiz.cdr_queue where dead_at is not null";
    assert_eq!(database.count(left).await, 1498);
    assert!(
        close(&["--class", "refused", "--account", ACCOUNT, "--reason", "why"]).stderr.contains("1 closed")
    );
    assert!(close(&["--all", "--reason", "why"]).stderr.contains("1497 closed"));
    assert_eq!(
        database.count("select count(*) from vobiz.closed_call where reason = 'by_operator'").await,
        1500
    );
    assert_eq!(database.texts("select call_id from vobiz.cdr_queue").await, ["alive"]);

    // A later callback owes a closed call again.
    database.owe(&["call-1"], true).await;
    assert_eq!(database.lease(10).await.len(), 2);
    database.every_certain_call_is_somewhere().await;
}
