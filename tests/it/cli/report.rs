//! `report` and `export`, as their users meet them: by figures worked out by hand (`support/bill.rs`).

use crate::support::database::Database;
use crate::support::process::{Finished, program, run};

fn ask(db: &Database, arguments: &[&str]) -> Finished {
    run(program(arguments).env("DATABASE_URL", &db.url))
}

/// A report over both days.
fn report(db: &Database, name: &str, more: &[&str]) -> Finished {
    let range = ["report", name, "--from", "2026-03-10", "--to", "2026-03-11"];
    ask(db, &[&range, more].concat())
}

#[tokio::test]
async fn a_report_as_csv_ends_with_one_total_for_each_currency() {
    let db = Database::with_a_bill().await;
    let bill = report(&db, "billing_customer", &["--format", "csv"]);
    assert!(bill.status.success(), "{}", bill.stderr);
    assert_eq!(
        bill.stdout,
        "customer,currency,call_direction,calls,answered,unanswered_with_cost,duration,billsec,pulse_minutes,cost,streaming_cost,total_cost,without_cost,credits,unclear,from,to,billing_zone,complete_to\r\n\
         Acme,INR,outbound,2,2,0,121,106,3,1.35,0,1.35,0,0,0,2026-03-10,2026-03-11,Asia/Kolkata,\r\n\
         unassigned,INR,outbound,2,0,1,27,0,0,0.02,0,0.02,1,0,0,2026-03-10,2026-03-11,Asia/Kolkata,\r\n\
         unassigned,USD,inbound,1,1,0,63,60,1,0.30,0.20,0.55,0,0,0,2026-03-10,2026-03-11,Asia/Kolkata,\r\n\
         total,INR,,4,2,1,148,106,3,1.37,0,1.37,1,0,0,2026-03-10,2026-03-11,Asia/Kolkata,\r\n\
         total,USD,,1,1,0,63,60,1,0.30,0.20,0.55,0,0,0,2026-03-10,2026-03-11,Asia/Kolkata,\r\n"
    );
    let without = report(&db, "billing_customer", &["--format", "csv", "--no-total", "--customer", "Acme"]);
    assert_eq!(without.stdout.lines().count(), 2, "{}", without.stdout);
}

#[tokio::test]
async fn a_report_says_up_to_when_it_is_complete_and_what_it_says_nothing_of() {
    let db = Database::with_a_bill().await;
    let before = report(&db, "billing_day", &[]);
    assert!(before.status.success() && before.stderr.contains("NOT COMPLETE"), "{}", before.stderr);
    assert!(
        before
            .stderr
            .contains("`vobiz-cdr backfill --account MA_TESTAB12 --from 2026-03-10 --to 2026-03-11`"),
        "{}",
        before.stderr
    );
    assert!(before.stderr.contains("1 call without an amount"), "{}", before.stderr);

    db.with_settled_days(Some("2026-03-11")).await;
    db.run("update vobiz.cdr set billsec = null where call_id = 'a1'").await;
    let held = report(&db, "billing_trunk", &["--format", "json"]);
    let said = "MA_TESTAB12 is complete up to 2026-03-1";
    assert!(
        held.stderr.contains(said) && held.stderr.contains("(Asia/Kolkata): day 2026-03-1"),
        "{}",
        held.stderr
    );
    assert!(held.stderr.contains("1 call of which a field of the bill could not be read"), "{}", held.stderr);
    let json: serde_json::Value = serde_json::from_str(&held.stdout).unwrap();
    let known = &json["completeness"];
    assert_eq!(
        (&known["complete"], &known["unclear"], &known["without_cost"]),
        (&false.into(), &1.into(), &1.into())
    );
    assert_eq!(known["owners"][0]["account_id"], "MA_TESTAB12");

    db.with_settled_days(None).await;
    let settled = report(&db, "billing_day", &["--format", "csv"]);
    assert!(
        settled.stderr.contains("complete: every day is settled with Vobiz (MA_TESTAB12)"),
        "{}",
        settled.stderr
    );
    assert!(!settled.stderr.contains("NOT COMPLETE"), "{}", settled.stderr);
    assert!(settled.stderr.contains(" days in which Vobiz listed no call"), "{}", settled.stderr);
    let line = settled.stdout.lines().nth(1).unwrap();
    assert!(line.contains(",Asia/Kolkata,2026-04-"), "{line}");
    let rows = report(&db, "unclear", &["--format", "csv"]).stdout;
    assert!(rows.contains("a1,2026-03-10,MA_TESTAB12,Acme,billsec,not stated,61,true,true,"), "{rows}");
    assert!(rows.contains("a5,2026-03-11,MA_TESTAB12,unassigned,updated_at,no time,"), "{rows}");
}

#[tokio::test]
async fn both_days_of_a_range_are_included_and_no_other() {
    let db = Database::with_a_bill().await;
    let day = |from: &str, to: &str| {
        let asked = ["report", "billing_day", "--from", from, "--to", to, "--format", "csv", "--no-total"];
        let lines = ask(&db, &asked).stdout;
        lines.lines().skip(1).map(|line| line[..10].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(day("2026-03-10", "2026-03-10"), ["2026-03-10"; 2]);
    assert_eq!(day("2026-03-10", "2026-03-11").len(), 4);
    assert!(day("2026-03-01", "2026-03-09").is_empty() && day("2026-03-12", "2026-03-31").is_empty());
}

#[tokio::test]
async fn json_has_exact_numbers_and_its_totals_apart() {
    let db = Database::with_a_bill().await;
    let bill = report(&db, "cost_per_minute", &["--format", "json", "--account", "MA_TESTAB12"]);
    assert!(
        bill.stdout.starts_with(
            r#"{"report":"cost_per_minute","from":"2026-03-10","to":"2026-03-11","billing_zone":"Asia/Kolkata","rows":["#
        ),
        "{}",
        bill.stdout
    );
    let json: serde_json::Value = serde_json::from_str(&bill.stdout).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 5);
    assert!(bill.stdout.contains(r#""per_minute":0.885246,"per_pulse_minute":0.450000"#), "{}", bill.stdout);
    // 1.35 by 106 seconds; what was not answered is not in it.
    assert_eq!(json["totals"][0]["currency"], "INR");
    assert!(bill.stdout.contains(r#""cost":1.35,"per_minute":0.764151,"per_pulse_minute":0.450000"#));
}

#[tokio::test]
async fn a_table_is_for_a_person_and_says_its_zone() {
    let db = Database::with_a_bill().await;
    let bill = report(&db, "billing_destination", &[]);
    assert!(
        bill.stderr.contains("2026-03-10 to 2026-03-11, both included (Asia/Kolkata)"),
        "{}",
        bill.stderr
    );
    let total: Vec<&str> =
        bill.stdout.lines().rfind(|line| line.contains("INR")).unwrap().split_whitespace().collect();
    assert_eq!(total, ["total", "INR", "4", "2", "1", "148", "106", "3", "1.37", "0", "1.37", "1", "0", "0"]);
}

#[tokio::test]
async fn a_spreadsheet_shows_numbers_as_text_and_runs_no_formula() {
    let db = Database::with_a_bill().await;
    db.run("update vobiz.cdr set campaign_id = '=HYPERLINK(\"http://x\")' where call_id = 'a1'").await;
    let numbers = report(&db, "billing_number", &["--format", "csv", "--excel", "--no-total"]).stdout;
    assert!(numbers.starts_with("\u{feff}our_number,"), "{numbers}");
    assert!(numbers.lines().skip(1).all(|line| line.starts_with(r#""=""+911100000001""","#)), "{numbers}");
    let campaigns = report(&db, "billing_campaign", &["--format", "csv", "--excel"]).stdout;
    assert!(campaigns.contains(r#""'=HYPERLINK(""http://x"")","#), "{campaigns}");
    let raw = report(&db, "billing_campaign", &["--format", "csv"]).stdout;
    assert!(raw.contains(r#""=HYPERLINK(""http://x"")","#), "{raw}");
}

#[tokio::test]
async fn every_report_that_is_listed_answers_and_a_wrong_one_is_told_so() {
    let db = Database::with_a_bill().await;
    let list = ask(&db, &["report", "--list"]);
    let names: Vec<&str> = list.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.len() >= 15 && names.contains(&"traffic_day"), "{names:?}");
    for name in names {
        let rows = report(&db, name, &["--format", "csv"]);
        assert!(
            rows.status.success() && rows.stdout.lines().count() > 1,
            "{name}: {}{}",
            rows.stdout,
            rows.stderr
        );
        let columns = rows.stdout.lines().next().unwrap().split(',').count();
        assert_eq!(rows.stdout.lines().nth(1).unwrap().split(',').count(), columns, "{name}");
        assert!(ask(&db, &["report", name, "--from", "2020-01-01", "--to", "2020-01-01"]).status.success());
    }
    for (arguments, words) in [
        (&["report", "bill", "--from", "2026-03-10", "--to", "2026-03-11"][..], "report --list"),
        (&["report", "billing_day", "--from", "2026-03-12", "--to", "2026-03-11"], "lies after --to"),
        (
            &["report", "traffic_day", "--from", "2026-03-10", "--to", "2026-03-11", "--customer", "x"],
            "leave out --customer",
        ),
        (&["report", "billing_day", "--from", "2026-03-10", "--to", "2026-03-11", "--excel"], "--format csv"),
        (&["report", "billing_day"], "--from 2026-03-01 --to 2026-03-31"),
        (&["report", "bill"], "report --list"),
        (&["report", "billing_day", "--from", "2026-03", "--to", "2026-03-31"], "YYYY-MM-DD"),
        // A wrong name must not look like a bill of nothing.
        (
            &["report", "billing_day", "--from", "2026-03-10", "--to", "2026-03-11", "--customer", "Acne"],
            "who has any: Acme, unassigned",
        ),
        (
            &["report", "quality_day", "--from", "2026-03-10", "--to", "2026-03-11", "--account", "MA_TEST"],
            "who has any: MA_TESTAB12",
        ),
    ] {
        let refused = ask(&db, arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}
