//! `demo`, with nothing configured.

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
