//! Who is configured with an account is known in Postgres, whatever it does.

use vobiz_cdr::simulator::Simulator;

use super::{serve, settings};
use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{free_port, program, run};
use crate::support::wait::until_is;
use crate::support::world::options;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_takes_callbacks_or_has_nothing_to_sweep_keeps_its_account_from_being_retired() {
    let vobiz = Simulator::start(options()).await.unwrap();
    for part in ["receive", "sweep"] {
        let database = Database::new().await;
        let api = vobiz.api_url();
        let settings = settings(&database.url, &api, ("CDR_SWEEP_INTERVAL", "1d"));
        let port = if part == "receive" { free_port() } else { 0 };
        let (mut serve, _) = serve(&["--only", part], port, &settings);
        let there = async || {
            database.count("select count(*) from vobiz.account_replica r where vobiz.is_there(r)").await
        };
        until_is("it is there", 1, there).await;
        if part == "sweep" {
            until_is("it has swept", 1, async || {
                database.count("select count(*) from vobiz.account where swept_at is not null").await
            })
            .await;
        }
        database.run("delete from vobiz.account_replica").await;
        until_is("it says so again", 1, there).await;
        let retired =
            run(program(&["account", "retire", ACCOUNT, "--reason", "left"])
                .env("DATABASE_URL", &database.url));
        assert!(retired.stderr.contains("is configured in "), "{part}: {}", retired.stderr);
        // Who does not ask has no voice in a pause, and no alarm of its own.
        let voices = "select count(*) from vobiz.account_replica r where vobiz.is_live(r)";
        assert_eq!(database.count(voices).await, i64::from(part == "sweep"), "{part}");
        // Retired while it could not say so: it goes on, as after a start.
        database.run("update vobiz.account set retired_at = vobiz.now()").await;
        until_is("it is taken up again", 0, async || {
            database.count("select count(*) from vobiz.account where retired_at is not null").await
        })
        .await;
        serve.terminate();
        assert!(serve.wait().success());
        assert_eq!(there().await, 0, "it has said that it goes");
    }
}
