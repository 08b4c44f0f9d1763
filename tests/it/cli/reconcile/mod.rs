//! `reconcile`, as its user meets it: words, exit codes, and what it refuses.

mod whose;

use std::time::Duration;

use chrono::Days;
use serde_json::{Value, json};

use crate::db::base::role::with_roles;
use crate::ledger::backfill::{command, history};
use crate::support::database::Database;
use crate::support::process::{Finished, program, run};
use crate::support::their_list::rows;
use crate::support::their_list::{EXPORT, MAP, row};

pub(super) fn reconcile(db: &Database, arguments: &[&str]) -> Finished {
    let mut command = program(&[&["reconcile"], arguments].concat());
    run(command.env("DATABASE_URL", &db.url))
}

#[tokio::test]
async fn the_command_says_all_of_it_and_exits_by_the_result() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let equal = reconcile(&db, &["--csv", &file("equal.csv", &rows("abc"))]);
    assert_eq!(equal.status.code(), Some(0), "{}", equal.stderr);
    assert!(equal.stdout.starts_with("equal\n"), "{}", equal.stdout);

    let silent = file("silent.csv", &(rows("ab") + &row('c').replace("0.45,INR", "NULL,INR")));
    let silent = reconcile(&db, &["--csv", &silent]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(silent.stdout.contains("total_cost 0.45 here, nothing there"), "{}", silent.stdout);

    let other =
        file("other.csv", &(rows("a") + &row('b').replace("0.45", "0.50") + &row('d') + "?\u{1b}[31m\n"));
    let out = folder.path().join("differences.csv");
    let text = reconcile(&db, &["--csv", &other, "--out", out.to_str().unwrap(), "--limit", "2"]);
    assert_eq!(text.status.code(), Some(1), "{}", text.stderr);
    for word in ["not equal", "missing here", "cost 0.45 here, 0.5 there", "missing there"] {
        assert!(text.stdout.contains(word), "{word}\n{}", text.stdout);
    }
    assert!(text.stderr.contains("only the first differences are shown"), "{}", text.stderr);
    assert!(!text.stdout.contains('\u{1b}') && !text.stdout.contains("unreadable  "), "{}", text.stdout);
    let list = std::fs::read_to_string(&out).unwrap();
    assert_eq!(list.lines().count(), 5, "{list}");
    assert!(list.starts_with("kind,line,call_id,") && list.contains("\nunreadable,5,"), "{list}");

    let json = reconcile(&db, &["--csv", &other, "--json"]).stdout;
    assert_eq!(json.lines().count(), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["equal"], &json["counts"]["missing_there"]), (&json!(false), &json!(1)));
    assert_eq!(json["differences"].as_array().unwrap().len(), 4);
    assert_eq!(json["differences"][0]["differs"], json!(["cost", "total_cost"]));
    assert_eq!(json["differences"][0]["here"]["cost"], json!("0.45"));

    let empty = reconcile(&db, &["--csv", &file("empty.csv", "")]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(empty.stderr.contains("proves nothing"), "{}", empty.stderr);
}

#[tokio::test]
async fn the_command_refuses_what_cannot_be_compared_and_says_what_to_do() {
    let db = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.toml");
    std::fs::write(&map, MAP).unwrap();
    let map = map.to_str().unwrap();
    let no_id = folder.path().join("no_id.csv");
    std::fs::write(&no_id, "Id,Amount\n1,2\n").unwrap();
    let no_id = no_id.to_str().unwrap();
    for (arguments, word) in [
        (&[][..], "--csv"),
        (&["--csv", EXPORT, "--table", "public.x", "--map", map], "cannot be used with"),
        (&["--table", "public.x"], "--map"),
        (&["--csv", EXPORT, "--map", map], "cannot be used with"),
        (&["--table", "public.x", "--map", map, "--zone", "UTC"], "cannot be used with"),
        (&["--csv", EXPORT, "--from", "2026-03-01"], "--to"),
        (&["--csv", EXPORT, "--from", "2026-03-02", "--to", "2026-03-01"], "--from lies after --to"),
        (&["--csv", EXPORT, "--from", "March", "--to", "2026-03-01"], "--from"),
        (&["--csv", EXPORT, "--zone", "Mars"], "write one such as Asia/Kolkata"),
        (&["--csv", "/nowhere/x.csv"], "/nowhere/x.csv"),
        (&["--csv", EXPORT, "--out", "/nowhere/out.csv"], "/nowhere/out.csv"),
        (&["--csv", no_id], "Id, Amount"),
        (&["--csv", EXPORT, "--decimal", "x"], "--decimal"),
        (&["--csv", EXPORT, "--dates", "dd/mm"], "write dmy"),
        (&["--csv", EXPORT, "--tolerance", "-1"], "--tolerance"),
        (&["--csv", EXPORT, "--decimals", "two"], "--decimals"),
        (&["--table", "public.x", "--map", map], "there is no table \"public.x\""),
        (&["--table", "public.x", "--map", EXPORT], "the map"),
    ] {
        let finished = reconcile(&db, arguments);
        assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}{}", finished.stdout, finished.stderr);
        assert!(finished.stderr.contains(word), "{word}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    }
}

#[tokio::test]
async fn a_list_of_another_program_is_read_and_what_was_left_out_is_said() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    let compared = |bytes: &[u8], more: &[&str]| {
        let path = folder.path().join("list.csv");
        std::fs::write(&path, bytes).unwrap();
        reconcile(&db, &[&["--csv", path.to_str().unwrap()], more].concat())
    };
    for end in ["\r", "\r\r\n"] {
        let done = compared(rows("abc").replace('\n', end).as_bytes(), &[]);
        assert_eq!((done.status.code(), &*done.stderr), (Some(0), ""), "{}", done.stdout);
    }
    let list = "sep=;\nCalls of March\nCall UUID;Start Time;Amount (INR)\na;25/03/2026 15:30;0,45\n;;\nb;25/03/2026 15:40;₹ 0,45\n\
                c;25/03/2026 15:50;0,45 INR\nTotal;;TOTAL\n";
    for (total, code, word) in [
        ("1,35", 0, "line 8, the total row: its sums are those of the rows"),
        (
            "1,36",
            1,
            "line 8, the total row is wrong: total_cost 1.36 INR, but the rows before it add up to 1.35",
        ),
    ] {
        let done = compared(list.replace("TOTAL", total).as_bytes(), &["--decimal", ",", "--dates", "dmy"]);
        assert_eq!(done.status.code(), Some(code), "{}{}", done.stdout, done.stderr);
        for word in [
            word,
            "left out: 1 line before the header line",
            "left out: 1 blank row",
            "left out: 1 total row",
            "3 times without a zone were taken in Asia/Kolkata (the billing zone)",
            "\"Amount (INR)\" was read as total_cost",
        ] {
            assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        }
    }
    let ambiguous = compared(b"uuid,start_time\na,05/03/2026 15:30\n", &[]);
    assert_eq!(ambiguous.status.code(), Some(2));
    assert!(ambiguous.stderr.contains("line 2, column start_time: 05/03/2026 15:30"), "{}", ambiguous.stderr);
    assert!(ambiguous.stderr.contains("--dates dmy"), "{}", ambiguous.stderr);

    let near = row('b').replace(",0.45,INR", ",0.454,INR");
    let near = (rows("a") + &near + &row('c')).into_bytes();
    for (more, code) in
        [(&[][..], 1), (&["--tolerance", "0.005"], 0), (&["--decimals", "2"], 0), (&["--decimals", "3"], 1)]
    {
        assert_eq!(compared(&near, more).status.code(), Some(code), "{more:?}");
    }
}

#[tokio::test]
async fn what_was_not_compared_is_said_and_is_not_equal_where_we_have_it() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let folder = tempfile::tempdir().unwrap();
    let compared = |text: &str, more: &[&str]| {
        let path = folder.path().join("list.csv");
        std::fs::write(&path, text).unwrap();
        reconcile(&db, &[&["--csv", path.to_str().unwrap()], more].concat())
    };
    let list = |header: &str, a: &str, b: &str| {
        format!("uuid,start_time,{header}\na,2026-03-25T10:00:00Z,{a}\nb,2026-03-25T10:10:00Z,{b}\n")
    };
    for (text, code, word) in [
        (list("total_cost", "", ""), 1, "not compared: total_cost. Every row of theirs leaves it blank"),
        (list("billsec,total_cost", "42,", "42,NULL"), 1, "not compared: total_cost"),
        (list("billsec,total_cost", ",0.45", "-,0.45"), 1, "not compared: billsec"),
        (list("total_cost,currency", "0.45,", "0.45,"), 1, "not compared: currency"),
        // We have nothing but zero there.
        (list("total_cost,streaming_cost", "0.45,", "0.45,"), 0, "not compared: streaming_cost"),
        (list("total_cost,Net Amount", "0.45,1", "0.45,2"), 0, "\"Net Amount\" was not compared"),
        (
            list("total_cost,Amount", "0.45,0.45", "0.45,0.54"),
            0,
            "do not say the same in 1 row, first in line 3",
        ),
        (list("total_cost,Amount", "0.45,0.45", "0.45,0.450"), 0, "says the same in each row"),
        (
            list("total_cost_paise,duration_ms", "45,47000", "45,47000"),
            0,
            "\"total_cost_paise\" was read as total_cost",
        ),
        (list("total_cost_paise", "45", "46"), 1, "was read as total_cost"),
        (list("billsec_min", "0.7", "0.7"), 2, "has a unit that is not compared"),
        (list("total_cost", "\"1,234\"", "5"), 2, "say --decimal . or --decimal ,"),
        (list("total_cost", "0.45", "0.45") + "TOTAL INR 0.90,,\n", 0, "its sums are those of the rows"),
        (
            list("total_cost", "0.45", "0.45") + "TOTAL INR 109.97\n",
            1,
            "\"INR 109.97\" is no sum of the rows",
        ),
    ] {
        let done = compared(&text, &[]);
        assert_eq!(done.status.code(), Some(code), "{text}\n{}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
    }
    let near = list("total_cost", "0.454", "0.45");
    let done = compared(&near, &["--tolerance", "0.01"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(
        done.stderr.contains("the sums differ by what --decimals and --tolerance allow"),
        "{}",
        done.stderr
    );
    // However many total rows there are.
    let many = list("total_cost", "0.45", "0.45") + &"Total,,0.9\n".repeat(30_000) + "Total,,0.8\n";
    let done = compared(&many, &[]);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        done.stderr.lines().count() < 40 && done.stderr.contains("line 30004, the total row is wrong"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("more total rows; of all 30001 total rows 1 are wrong"), "{}", done.stderr);
    let other = compared(&rows("ab"), &["--account", "MA_NOBODY11"]);
    assert_eq!(other.status.code(), Some(2), "{}", other.stderr);
}

#[tokio::test]
async fn an_invoice_that_charges_too_much_is_not_equal() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    let compared = |text: &str| {
        let path = folder.path().join("invoice.csv");
        std::fs::write(&path, text).unwrap();
        reconcile(&db, &["--csv", path.to_str().unwrap()])
    };
    let row = |id: char| format!("{id},,2026-03-25T10:{}0:00Z,0.45,\n", u32::from(id) - u32::from('a'));
    let list = |ids: &str, total: &str| {
        format!(
            "uuid,plan,start_time,total_cost,currency\n{}{total}",
            ids.chars().map(row).collect::<String>()
        )
        .replace(",0.45,", ",0.45,INR")
    };
    for (ids, total, code, word) in [
        ("abc", "Total,,,1.35,\n", 0, "its sums are those of the rows"),
        ("aabc", "Total,,,1.80,\n", 1, "1 call is charged twice: a"),
        ("abcbc", "", 1, "2 calls are charged twice: b, c"),
        ("abcb", "Total,,,1.35,\n", 1, "1 call is charged twice: b"),
        ("abc", "Grand total:,999.99,,,\n", 1, "\"999.99\" is no sum of the rows before it that is known"),
        ("abc", "Total,,999.99,,\n", 1, "\"999.99\" is no sum"),
        ("abc", "Total,,,,999.99\n", 1, "\"999.99\" is no sum"),
        ("abc", "Total,7\n", 1, "\"7\" is no sum"),
        ("abc", "Total,7,,1.35,\n", 1, "\"7\" is no sum"),
        ("abc", "Total,9 minutes,,1.35,\n", 1, "\"9 minutes\" was not held against anything"),
        ("abc", "Total,3,,1.35,\n", 0, "its sums are those of the rows"),
        ("abc", "Total,3\n", 0, "its sums are those of the rows"),
        ("abc", "Grand total:,1.35,,,\n", 0, "its sums are those of the rows"),
        ("abc", "Total,,2026-03-31,1.35,\n", 0, "\"2026-03-31\" was not held against the rows"),
    ] {
        let done = compared(&list(ids, total));
        assert_eq!(done.status.code(), Some(code), "{ids} {total}\n{}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        assert!(!done.stderr.contains("look at the currencies"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn our_own_export_is_a_list_as_it_is() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    for excel in [false, true] {
        let dir = folder.path().join(format!("{excel}"));
        let mut arguments = vec![
            "export",
            "--customer",
            "unassigned",
            "--month",
            "2026-03",
            "--anyway",
            "--dir",
            dir.to_str().unwrap(),
        ];
        arguments.extend(excel.then_some("--excel"));
        let exported = run(program(&arguments).env("DATABASE_URL", &db.url));
        assert_eq!(exported.status.code(), Some(0), "{}", exported.stderr);
        let list = dir.join("unassigned-2026-03-incomplete-001.csv");
        let done = reconcile(&db, &["--csv", list.to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(0), "{}{}", done.stdout, done.stderr);
        assert!(
            done.stdout.contains("compared: duration, billsec, cost, streaming_cost, total_cost, currency"),
            "{}",
            done.stdout
        );
        let text = std::fs::read_to_string(&list).unwrap();
        std::fs::write(&list, text.replacen(",0.45", ",0.46", 1)).unwrap();
        assert_eq!(reconcile(&db, &["--csv", list.to_str().unwrap()]).status.code(), Some(1));
    }
}

#[tokio::test]
async fn data_that_cannot_be_written_is_a_failure_of_every_command() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    std::fs::write(&path, rows("ab")).unwrap();
    let list = path.to_str().unwrap();
    let days = ["--from", "2026-03-01", "--to", "2026-03-31"];
    let report = [&["report", "billing_day"][..], &days].concat();
    for (arguments, code) in [
        (vec!["reconcile", "--csv", list, "--json"], 3),
        (vec!["reconcile", "--csv", list], 3),
        (report.clone(), 1),
        ([&report[..], &["--format", "csv"]].concat(), 1),
        ([&report[..], &["--format", "json"]].concat(), 1),
        (vec!["verify", "--json"], 1),
        (vec!["migrate", "status"], 1),
        (vec!["--help"], 1),
        (vec!["--version"], 1),
    ] {
        let with = |out: std::process::Stdio| {
            let child = program(&arguments)
                .env("DATABASE_URL", &db.url)
                .stdout(out)
                .stderr(std::process::Stdio::piped())
                .spawn();
            child.unwrap().wait_with_output().unwrap()
        };
        let full = with(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
        let said = String::from_utf8_lossy(&full.stderr).into_owned();
        assert_eq!(full.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(arguments[0].starts_with('-') || said.contains("could be written"), "{arguments:?}: {said}");
        // A reader that went away wants no more.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = with(writer.into());
        let said = String::from_utf8_lossy(&closed.stderr).into_owned();
        assert_eq!(closed.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("could be written") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_list_is_named_and_never_shown() {
    let db = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    for (bytes, word) in [
        (&b"PK\x03\x04\x14\0\x06\0\x08\0\x1b[31m[Content_Types].xml"[..], ".xlsx"),
        (b"\x1f\x8b\x08\0\0\x1b[31m\0\0", "gunzip"),
        (b"\x7fELF\x02\x01\x01\0\0\x1b[31m", "no text"),
        (b"id,\x1b[31mcost\x07\n1,2\n", "no column is named"),
    ] {
        let path = folder.path().join("list.csv");
        std::fs::write(&path, bytes).unwrap();
        let done = reconcile(&db, &["--csv", path.to_str().unwrap()]);
        assert_eq!((done.status.code(), &*done.stdout), (Some(2), ""), "{}", done.stderr);
        assert!(done.stderr.contains(word) && done.stderr.contains("list.csv"), "{}", done.stderr);
        assert!(!done.stderr.trim_end().contains(|c: char| c.is_control()), "{:?}", done.stderr);
    }
}

#[tokio::test]
async fn finance_may_compare_and_what_could_not_be_done_is_no_answer() {
    let db = with_roles().await;
    db.store_plain("ab").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    let as_finance = |text: String, more: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let mut command = program(&[&["reconcile", "--csv", path.to_str().unwrap()], more].concat());
        run(command.env("DATABASE_URL", db.url_as("vobiz_finance")))
    };
    let equal = as_finance(rows("ab"), &[]);
    assert_eq!(equal.status.code(), Some(0), "{}", equal.stderr);
    let differs = as_finance(rows("a"), &["--from", "2026-03-25", "--to", "2026-03-25"]);
    assert_eq!(differs.status.code(), Some(1), "{}", differs.stderr);
    assert!(differs.stdout.contains("missing there"), "{}", differs.stdout);

    let repair = run(program(&["verify", "--repair"]).env("DATABASE_URL", db.url_as("vobiz_finance")));
    assert_eq!(repair.status.code(), Some(1), "{}", repair.stderr);
    assert!(repair.stderr.contains("what writes (verify --repair, "), "{}", repair.stderr);
    let refused =
        run(program(&["reconcile", "--csv", EXPORT]).env("DATABASE_URL", db.url_as("vobiz_masked")));
    assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("permission denied"), "{}", refused.stderr);
    let gone = "postgres://nobody@127.0.0.1:1/nothing";
    let away = run(program(&["reconcile", "--csv", EXPORT]).env("DATABASE_URL", gone));
    assert_eq!((away.status.code(), &*away.stdout), (Some(3), ""), "{}", away.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_day_is_compared_because_somebody_asks() {
    let (world, first, last) = history(3, 4, Duration::ZERO).await;
    let day = first.to_string();
    let done = command(&world, &["reconcile", "--day", &day]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("settled") && done.stdout.contains(&day), "{}", done.stdout);
    assert_eq!(world.stored().await, 4, "what was missing is stored");
    assert_eq!(world.text("select string_agg(distinct origin, ' ') from vobiz.cdr").await, "manual");
    world.database.run("update vobiz.cdr set cost = cost + 0.01").await;
    let done = command(&world, &["reconcile", "--day", &day, "--json"]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stdout.contains("4 calls differ: "), "{}", done.stdout);
    assert!(done.stderr.contains("where check_id = 2"), "{}", done.stderr);
    let kinds = "select string_agg(distinct kind || ' ' || field, ',') from vobiz.ledger_difference where check_id = 2";
    assert_eq!(world.text(kinds).await, "differs cost");
    // Today is not over: it equals the list so far, and is not settled.
    let today = (last + Days::new(1)).to_string();
    let done = command(&world, &["reconcile", "--day", &today]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("unproven") && done.stdout.contains("has not been over for an hour"),
        "{}",
        done.stdout
    );
    for arguments in [
        vec!["reconcile", "--day", "2999-01-01"],
        vec!["reconcile"],
        vec!["reconcile", "--day", &day, "--csv", "x.csv"],
    ] {
        assert_eq!(command(&world, &arguments).status.code(), Some(2), "{arguments:?}");
    }
    world.end().await;
}
