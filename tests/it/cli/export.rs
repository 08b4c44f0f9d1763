//! `export`: the itemised calls of a customer, added up and proven.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::support::database::Database;
use crate::support::process::{program, run};

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[tokio::test]
async fn an_export_is_split_added_up_and_proves_itself() {
    let db = Database::with_a_bill().await;
    db.with_settled_days(None).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let export = |customer: &str, month: &str| {
        let mut command: Command =
            program(&["export", "--customer", customer, "--month", month, "--rows-per-file", "2"]);
        run(command.arg("--dir").arg(&dir).env("DATABASE_URL", &db.url))
    };
    let done = export("unassigned", "2026-03");
    assert!(done.status.success(), "{}", done.stderr);

    let first = read(&dir, "unassigned-2026-03-001.csv");
    let lines: Vec<&str> = first.split("\r\n").collect();
    assert!(lines[0].starts_with("call_id,account_id,day,local_start,start_utc,"));
    assert_eq!(
        lines[1],
        "a3,MA_TESTAB12,2026-03-10,2026-03-10 23:59:59,2026-03-10T18:29:59Z,outbound,+911100000001,+447700900123,+447,\
         United Kingdom mobile,,,no_answer,NO_ANSWER,20,0,0,INR,0.02,0,0.02,"
    );
    assert!(lines[2].starts_with("a4,MA_TESTAB12,2026-03-11,2026-03-11 00:00:00,"));
    let second = read(&dir, "unassigned-2026-03-002.csv");
    assert!(second.contains("a5,") && second.lines().count() == 2, "{second}");
    let totals = read(&dir, "unassigned-2026-03-totals.csv");
    let (complete_to, _) =
        totals.lines().nth(1).unwrap().rsplit_once(',').map(|(_, to)| to.split_at(10)).unwrap();
    assert!(complete_to >= "2026-04-01", "{totals}");
    let lines: Vec<&str> = totals.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
    assert_eq!(
        lines,
        [
            "customer,month,billing_zone,currency,calls,answered,billsec,pulse_minutes,cost,streaming_cost,total_cost,without_cost,credits,unclear",
            "unassigned,2026-03,Asia/Kolkata,INR,2,0,0,0,0.02,0,0.02,1,0,0",
            "unassigned,2026-03,Asia/Kolkata,USD,1,1,60,1,0.30,0.20,0.55,0,0,0",
        ]
    );
    assert!(
        done.stderr.contains("complete: every day is settled")
            && done.stderr.contains("1 call without an amount")
            && done.stderr.contains("MA_TESTAB12: 31 days in which Vobiz listed no call"),
        "{}",
        done.stderr
    );
    let manifest = read(&dir, "unassigned-2026-03.sha256");
    for file in fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}: phone numbers are for their owner", file.path().display());
    }
    assert_eq!(manifest.lines().count(), 3);
    for line in manifest.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        assert_eq!(hash, hex::encode(Sha256::digest(std::fs::read(dir.join(name)).unwrap())), "{name}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4, "nothing half done is left");

    let again = export("unassigned", "2026-03");
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stderr.contains("not overwritten"), "{}", again.stderr);
    let nobody = export("Nobody", "2026-03");
    assert_eq!(nobody.status.code(), Some(2));
    assert!(nobody.stderr.contains("who has any: Acme, unassigned"), "{}", nobody.stderr);
    let month_without = export("Acme", "2026-01");
    assert_eq!(month_without.status.code(), Some(1), "{}", month_without.stderr);
    assert_eq!(export("Acme", "2026-3").status.code(), Some(2));
    assert!(export("Acme", "2026-03").status.success());
    assert!(
        read(&dir, "Acme-2026-03-totals.csv").contains("Acme,2026-03,Asia/Kolkata,INR,2,2,106,3,1.35,0,1.35")
    );
}

#[tokio::test]
async fn a_month_that_is_not_complete_is_refused_unless_it_is_asked_for_anyway() {
    let db = Database::with_a_bill().await;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let export = |month: &str, more: &[&str]| {
        let mut command: Command = program(&["export", "--customer", "Acme", "--month", month]);
        run(command.args(more).arg("--dir").arg(&dir).env("DATABASE_URL", &db.url))
    };
    // Before the ledger; not settled to its end; not over.
    let before = export("2026-03", &[]);
    assert_eq!(before.status.code(), Some(1));
    assert!(before.stderr.contains("lies before the ledger begins"), "{}", before.stderr);
    db.with_settled_days(Some("2026-03-30")).await;
    let held = export("2026-03", &["--json"]);
    assert_eq!(held.status.code(), Some(1), "{}", held.stderr);
    for words in [
        "2026-03 is not settled with Vobiz, so nothing was written",
        "MA_TESTAB12 is complete up to 2026-03-30 00:00 (Asia/Kolkata): day 2026-03-30 is compared with Vobiz",
        "up to 2026-04-01 00:00 (Asia/Kolkata)",
        "--anyway",
    ] {
        assert!(held.stderr.contains(words), "{words}: {}", held.stderr);
    }
    let json: serde_json::Value = serde_json::from_str(&held.stdout).unwrap();
    assert_eq!((&json["calls"], &json["completeness"]["complete"]), (&0.into(), &false.into()));
    assert!(!dir.exists(), "nothing was written");
    db.with_settled_days(None).await;
    db.run("insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, trunk_id,
                                   duration)
            select 'today', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, '2026-04-09 18:40Z', trunk_id, 60
            from vobiz.cdr where call_id = 'a1'")
        .await;
    let running = export("2026-04", &[]);
    assert_eq!(running.status.code(), Some(1));
    assert!(
        running.stderr.contains("2026-04 is not over") && running.stderr.contains("is not over"),
        "{}",
        running.stderr
    );

    // Asked for, it is written, and says what it is; it is not in the way of the bill.
    let anyway = export("2026-04", &["--anyway", "--json"]);
    assert!(anyway.status.success() && anyway.stderr.contains("NOT COMPLETE"), "{}", anyway.stderr);
    let json: serde_json::Value = serde_json::from_str(&anyway.stdout).unwrap();
    assert_eq!(json["files"][1], "Acme-2026-04-incomplete-totals.csv");
    let calls = read(&dir, "Acme-2026-04-incomplete-001.csv");
    assert!(
        calls.lines().nth(1).unwrap().ends_with(",billsec"),
        "the fields that could not be read: {calls}"
    );
    assert_eq!(
        export("2026-04", &["--anyway"]).status.code(),
        Some(2),
        "what was handed out is not overwritten"
    );
    db.stop_clock("2026-05-10T06:30:00Z".parse().unwrap()).await;
    assert!(export("2026-03", &["--account", "MA_TESTAB12"]).status.success());
    assert!(
        read(&dir, "Acme-MA_TESTAB12-2026-03-totals.csv")
            .contains("Acme,2026-03,Asia/Kolkata,INR,2,2,106,3,1.35,0,1.35,0,0,0,")
    );
}
