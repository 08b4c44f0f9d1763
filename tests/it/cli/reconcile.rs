//! `reconcile`, as its user meets it: words, exit codes, and what it refuses.

use std::time::Duration;

use chrono::Days;
use serde_json::{Value, json};

use crate::ledger::backfill::{command, history};
use crate::support::database::Database;
use crate::support::process::{Finished, program, run};
use crate::support::their_list::rows;
use crate::support::their_list::{EXPORT, MAP, row};

fn reconcile(db: &Database, arguments: &[&str]) -> Finished {
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
    assert_eq!(silent.status.code(), Some(0));
    assert!(silent.stderr.contains("say nothing") && silent.stdout.contains("0.45"), "{}", silent.stderr);

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
        (&["--csv", no_id], "id, amount"),
        (&["--table", "public.x", "--map", map], "there is no table \"public.x\""),
        (&["--table", "public.x", "--map", EXPORT], "the map"),
    ] {
        let finished = reconcile(&db, arguments);
        assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}{}", finished.stdout, finished.stderr);
        assert!(finished.stderr.contains(word), "{word}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    }
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
