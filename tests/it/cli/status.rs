//! `status` and `healthcheck`: what a running service says, as an exit code.

use crate::ops::{service, vobiz};
use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{Finished, free_port, program, run};
use crate::support::running::Running;
use crate::support::world::options;

async fn command(running: &Running, arguments: &'static [&'static str]) -> Finished {
    let address = running.ops.to_string();
    let finished = tokio::task::spawn_blocking(move || {
        run(&mut program(&[arguments, &["--ops-listen", &address]].concat()))
    });
    finished.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_which_a_person_must_act_is_an_exit_code_and_alive_all_the_same() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    let words = command(&running, &["status"]).await;
    assert_eq!(words.status.code(), Some(0), "{}{}", words.stdout, words.stderr);
    assert!(words.stdout.contains("all is well"), "{}", words.stdout);

    vobiz.set_token(ACCOUNT, "another-token");
    database.run("update vobiz.account set pause_reason = 'denied', paused_since = now(), paused_until = now() + interval '1 hour'").await;
    running.the_only_act().await;
    let (words, json) =
        (command(&running, &["status"]).await, command(&running, &["status", "--json"]).await);
    assert_eq!((words.status.code(), json.status.code()), (Some(1), Some(1)), "{}", words.stderr);
    assert!(words.stdout.contains("a person must act"), "{}", words.stdout);
    assert!(
        words.stdout.contains("is paused: denied") && words.stdout.contains("SIGHUP"),
        "{}",
        words.stdout
    );
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["accounts"][0]["pause_reason"], "denied");
    assert_eq!(command(&running, &["healthcheck"]).await.status.code(), Some(0));
    running.end().await;
}

#[test]
fn where_nobody_answers_both_fail_and_say_so() {
    let address = format!("127.0.0.1:{}", free_port());
    for command in ["status", "healthcheck"] {
        let failed = run(&mut program(&[command, "--ops-listen", &address]));
        assert_eq!(failed.status.code(), Some(1), "{}", failed.stdout);
        assert!(failed.stderr.contains(&address), "{}", failed.stderr);
    }
}
