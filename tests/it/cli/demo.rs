//! `demo`, with nothing configured.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::process::{program, run};

#[test]
fn the_demo_runs_with_nothing_configured_and_finds_nothing_missing() {
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
    // Between midnight and four calls of the last day may be running still.
    let (_, bill) = finished.stdout.split_once("\nthe bill of ").unwrap();
    let said = ["complete: every day is settled with Vobiz (MA_DEMO)", "MA_DEMO is complete up to "];
    assert!(said.iter().any(|words| bill.contains(words)), "{bill}");
    assert!(!bill.contains("unclear") && !bill.contains("without an amount"), "{bill}");
}

#[test]
fn beside_a_demo_that_is_kept_every_command_works_by_the_line_that_it_prints() {
    let mut command = program(&["demo", "--keep", "--calls", "20"]);
    if let Some(programs) = std::env::var_os("PG_BIN_DIR") {
        command.env("PG_BIN_DIR", programs);
    }
    let mut demo = command.stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.by_ref().find(|line| line.trim_start().starts_with("export ")).expect("a line to paste");
    let beside = |words: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line} && {} {words}", env!("CARGO_BIN_EXE_vobiz-cdr"))]);
        // With none of the settings of the person who runs the tests.
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run(shell.stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let (status, check, list) = (beside("status"), beside("account check"), beside("account list"));
    let ended = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(ended.success() && demo.wait().unwrap().success());
    assert!(status.stdout.contains("vobiz-cdr") && status.stdout.contains("MA_DEMO"), "{}", status.stderr);
    assert!(
        check.status.success() && check.stdout.starts_with("MA_DEMO works"),
        "{}{}",
        check.stdout,
        check.stderr
    );
    assert!(
        list.stdout.contains("MA_DEMO") && list.stdout.contains("at work"),
        "{}{}",
        list.stdout,
        list.stderr
    );
}
