//! `export`: the itemised calls of a customer, added up and proven.

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
         United Kingdom mobile,,,no_answer,NO_ANSWER,20,0,0,INR,0.02,0,0.02"
    );
    assert!(lines[2].starts_with("a4,MA_TESTAB12,2026-03-11,2026-03-11 00:00:00,"));
    let second = read(&dir, "unassigned-2026-03-002.csv");
    assert!(second.contains("a5,") && second.lines().count() == 2, "{second}");
    assert_eq!(
        read(&dir, "unassigned-2026-03-totals.csv"),
        "customer,month,billing_zone,currency,calls,answered,billsec,pulse_minutes,cost,streaming_cost,total_cost\r\n\
         unassigned,2026-03,Asia/Kolkata,INR,2,0,0,0,0.02,0,0.02\r\n\
         unassigned,2026-03,Asia/Kolkata,USD,1,1,60,1,0.30,0.20,0.55\r\n"
    );
    let manifest = read(&dir, "unassigned-2026-03.sha256");
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
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.stderr.contains("who has: Acme, unassigned"), "{}", nobody.stderr);
    assert_eq!(export("Acme", "2026-3").status.code(), Some(2));
    assert!(export("Acme", "2026-03").status.success());
    assert!(
        read(&dir, "Acme-2026-03-totals.csv").contains("Acme,2026-03,Asia/Kolkata,INR,2,2,106,3,1.35,0,1.35")
    );
}
