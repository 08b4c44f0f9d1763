//! `migrate`, and what `serve` says of a schema that is behind.

use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{program, run};

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
