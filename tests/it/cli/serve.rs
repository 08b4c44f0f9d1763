//! `serve` before it runs: settings are checked, all at once, and shown without secrets.

use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{Serve, free_port, program, run};
use crate::support::wait::until_some_blocking;
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
fn a_database_url_that_cannot_be_read_is_a_wrong_setting() {
    for (url, said) in [
        ("postgres://cdr:pass-word@db.example.com:port/cdr", "invalid port number"),
        ("postgres://cdr:pass-word@db.example.com/cdr?sslmode=verify", "verify"),
        ("postgres://cdr:pass-word@[::1/cdr", "invalid IPv6 address"),
        (
            "postgres://cdr:pass-word@db.example.com/cdr?sslmode=verify-full&sslrootcert=/nowhere.pem",
            "/nowhere.pem",
        ),
    ] {
        for arguments in [&["serve", "--check"][..], &["serve"], &["migrate", "status"]] {
            let finished = run(program(arguments)
                .env("DATABASE_URL", url)
                .env("VOBIZ_AUTH_ID", ACCOUNT)
                .env("VOBIZ_AUTH_TOKEN", TOKEN)
                .env("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz"));
            assert_eq!((finished.status.code(), &*finished.stdout), (Some(2), ""), "{}", finished.stderr);
            let words = &finished.stderr;
            assert!(words.contains("DATABASE_URL: ") && words.contains(said), "{arguments:?}: {words}");
            assert!(!words.contains("pass-word"), "{words}");
        }
    }
}

#[test]
fn a_secret_on_the_command_line_is_warned_of() {
    let with = |arguments: &[&str]| {
        let mut command = program(&[&["serve", "--check"], arguments].concat());
        command
            .env("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz")
            .env("VOBIZ_AUTH_ID", ACCOUNT);
        if !arguments.contains(&"--auth-token") {
            command.env("VOBIZ_AUTH_TOKEN", TOKEN);
        }
        let finished = run(&mut command);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stderr
    };
    for (arguments, instead) in [
        (&["--auth-token", "tok_on_the_line"][..], "VOBIZ_AUTH_TOKEN_FILE"),
        (&["--callback-secret", "secret-on-the-line"], "CDR_CALLBACK_SECRET_FILE"),
        (&["--database-url", "postgres://a:on-the-line@b/c"], "DATABASE_URL_FILE"),
    ] {
        let said = with(arguments);
        assert!(said.contains(&format!("{} stands on the command line", arguments[0])), "{said}");
        assert!(
            said.contains(instead) && !said.contains("on-the-line") && !said.contains("on_the_line"),
            "{said}"
        );
    }
    assert_eq!(with(&["--database-url", "postgres://a@b/c", "--max-rps", "7"]), "", "no secret is in it");
    // Of every command.
    let listed = run(program(&["account", "check", "--auth-token", "tok_on_the_line"])
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_API_URL", "http://127.0.0.1:9"));
    assert!(listed.stderr.contains("--auth-token stands on the command line"), "{}", listed.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_process_of_ours_is_nobody_elses() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    // As an ordinary user: what /proc shows of a process that is not dumpable is root's, and no core of it is dumped. A program that
    // cannot be read would be as closed by itself.
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("vobiz-cdr");
    std::fs::copy(env!("CARGO_BIN_EXE_vobiz-cdr"), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (port, mut command) = (free_port(), std::process::Command::new(&copy));
    command.args(["simulate", "--listen", &format!("127.0.0.1:{port}")]).stderr(std::process::Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534).current_dir("/");
    }
    let mut child = command.spawn().unwrap();
    until_some_blocking("it answers", || std::net::TcpStream::connect(("127.0.0.1", port)));
    let owner = std::fs::metadata(format!("/proc/{}/mem", child.id())).map(|memory| memory.uid());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(owner.unwrap(), 0);
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

#[test]
fn what_is_most_likely_not_meant_so_is_warned_of() {
    let with = |settings: &[(&str, &str)]| {
        let mut command = program(&["serve", "--check"]);
        command.env("VOBIZ_AUTH_ID", ACCOUNT).env("VOBIZ_AUTH_TOKEN", TOKEN);
        let finished = run(command.envs(settings.iter().copied()));
        assert!(finished.status.success(), "{settings:?}: {}", finished.stderr);
        finished.stderr
    };
    let right = ("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz");
    assert_eq!(with(&[right]), "");
    for (settings, said) in [
        (vec![("CDR_SIGNATURES", "off")], "no callback is checked"),
        (vec![("CDR_CALLBACK_URL", "https://calls.example.com/webhook")], "none of this service's"),
        (vec![right, ("VOBIZ_AUTH_ID", "nonsense")], "does not look like an account of Vobiz"),
        (vec![right, ("HTTPS_PROXY", "http://proxy:3128")], "set VOBIZ_PROXY"),
    ] {
        let stderr = with(&settings);
        assert!(stderr.contains(said), "{settings:?}: {stderr}");
    }
    assert_eq!(with(&[right, ("HTTPS_PROXY", "http://p:1"), ("VOBIZ_PROXY", "http://p:1")]), "");
    let shown = run(program(&["serve", "--check", "--listen", "localhost:8080"])
        .env("VOBIZ_AUTH_ID", ACCOUNT)
        .env("VOBIZ_AUTH_TOKEN", TOKEN)
        .env(right.0, right.1));
    assert!(shown.status.success(), "a name is an address, too: {}", shown.stderr);
    let several = run(program(&["serve", "--check"])
        .env("DATABASE_URL", "postgres://u:p@a.example,b.example:5433/cdr")
        .env("VOBIZ_PROXY", "socks9://x"));
    assert_eq!(several.status.code(), Some(2));
    assert!(several.stderr.contains("one host, not several"), "{}", several.stderr);
    assert!(several.stderr.contains("VOBIZ_PROXY: http or https"), "{}", several.stderr);
}

#[tokio::test]
async fn a_billing_zone_is_written_into_an_empty_database_that_nobody_uses_yet_and_into_no_other() {
    let database = Database::new().await;
    let zone = async || database.text("select billing_zone from vobiz.setting").await;
    let serve = |zone: &str| {
        let mut command = program(&["serve"]);
        command
            .env("DATABASE_URL", &database.url)
            .env("VOBIZ_AUTH_ID", ACCOUNT)
            .env("VOBIZ_AUTH_TOKEN", TOKEN)
            // It comes after the settings were compared.
            .env("CDR_LISTEN", "203.0.113.1:1")
            .env("CDR_BILLING_ZONE", zone)
            .env("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz");
        run(&mut command).stderr
    };
    let named = |name: &str| {
        sqlx::PgPool::connect_with(
            database.url.parse::<sqlx::postgres::PgConnectOptions>().unwrap().application_name(name),
        )
    };
    let other = named("vobiz-cdr ops").await.unwrap();
    let said = serve("Europe/Berlin");
    assert!(said.contains("another process of ours works on it"), "{said}");
    other.close().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
             values ('x', 'MA_TESTAB12', true, true, now())",
        )
        .await;
    let said = serve("Europe/Berlin");
    assert!(said.contains("a call is owed there"), "{said}");
    assert_eq!(zone().await, "Asia/Kolkata");

    database.run("delete from vobiz.cdr_queue").await;
    let said = serve("Europe/Berlin");
    assert!(said.contains("CDR_BILLING_ZONE=Europe/Berlin is written into the database"), "{said}");
    assert_eq!(zone().await, "Europe/Berlin");
    assert!(!serve("Europe/Berlin").contains("written into"), "it has it");
    let said = serve("Asia/Kolkata");
    assert!(said.contains("what another start of ours has said (Europe/Berlin)"), "{said}");
    assert_eq!(zone().await, "Europe/Berlin");
}

#[tokio::test]
async fn two_words_to_stop_at_once_are_one_and_sigusr1_is_none() {
    let database = Database::new().await;
    let port = free_port();
    let mut serve = Serve::start(
        port,
        &[
            ("DATABASE_URL", &database.url),
            ("VOBIZ_AUTH_ID", ACCOUNT),
            ("VOBIZ_AUTH_TOKEN", TOKEN),
            ("VOBIZ_API_URL", "http://127.0.0.1:9"),
            ("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz"),
        ],
    );
    serve.signals(&["USR1", "USR2", "TERM", "INT", "TERM"]);
    assert_eq!(serve.wait().code(), Some(0));
}

#[test]
fn the_password_of_a_proxy_is_a_secret() {
    let settings = |command: &mut std::process::Command| {
        run(command
            .env("VOBIZ_AUTH_ID", ACCOUNT)
            .env("VOBIZ_AUTH_TOKEN", TOKEN)
            .env("CDR_CALLBACK_URL", "https://calls.example.com/callbacks/vobiz")
            .env("VOBIZ_PROXY", "http://bob:hunter2@proxy.example:3128"))
    };
    let shown = settings(&mut program(&["serve", "--check"]));
    assert!(shown.status.success(), "{}", shown.stderr);
    assert!(shown.stdout.contains("http://bob:********@proxy.example:3128"), "{}", shown.stdout);
    for arguments in [&["serve", "--check"][..], &["serve", "--help"], &["account", "--help"]] {
        let said = settings(&mut program(arguments));
        assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{arguments:?}");
    }
}
