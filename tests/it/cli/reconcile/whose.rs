//! `reconcile`: whose calls a list charges for, what its totals may be off by, and the file of differences.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use super::reconcile;
use crate::support::database::{ACCOUNT, Database};
use crate::support::their_list::{MAP, plain, row, rows};

const OTHER: &str = "MA_OTHERXX1";

#[tokio::test]
async fn a_list_that_charges_one_account_for_the_calls_of_another_is_not_equal() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let mut others = plain('f');
    others["account_id"] = json!(OTHER);
    db.store(others).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    let compared = |text: &str, more: &[&str]| {
        fs::write(&path, text).unwrap();
        reconcile(&db, &[&["--csv", path.to_str().unwrap()], more].concat())
    };
    let nameless = "uuid,start_time,total_cost\na,2026-03-25T10:00:00Z,0.45\nb,2026-03-25T10:10:00Z,0.45\n";
    let timeless = "uuid,total_cost\na,0.45\nb,0.45\n";
    let theirs = rows("ab").replace(ACCOUNT, OTHER);
    let day = ["--from", "2026-03-25", "--to", "2026-03-25"];
    for (text, more, there) in [
        (nameless, &["--account", OTHER][..], "nothing"),
        (nameless, &[&["--account", OTHER], &day[..]].concat(), "nothing"),
        (timeless, &[&["--account", OTHER], &day[..]].concat(), "nothing"),
        (&theirs, &[], OTHER),
        (&theirs, &["--account", OTHER], OTHER),
        // Only these are its own.
        (&(rows("f") + &row('a') + &row('b')).replace(ACCOUNT, OTHER), &["--account", OTHER], OTHER),
    ] {
        let done = compared(text, more);
        assert_eq!(done.status.code(), Some(1), "{text}{more:?}\n{}{}", done.stdout, done.stderr);
        let word =
            format!("account_id {ACCOUNT} here, {there} there; a call of {ACCOUNT}, which was not asked for");
        assert_eq!(done.stdout.matches(&word).count(), 2, "{text}{more:?}\n{}", done.stdout);
        let json: Value =
            serde_json::from_str(&compared(text, &[more, &["--json"]].concat()).stdout).unwrap();
        let own = json["counts"]["equal"].as_i64().unwrap();
        assert_eq!(json["counts"]["differing"], json!(2), "{json}");
        assert_eq!(json["differences"][0]["here"]["account_id"], json!(ACCOUNT));
        let calls = json["totals"].as_array().unwrap().iter().filter(|total| total["what"] == "calls");
        let here: Vec<_> = calls.filter_map(|total| total["here"].as_str()?.parse::<i64>().ok()).collect();
        assert!(here.iter().sum::<i64>() <= own.max(1), "the sums here are of who was asked for: {json}");
    }
    // Of two accounts that both are asked for, it is the other's.
    let swapped = rows("a") + &row('b').replace(ACCOUNT, OTHER) + &row('f').replace(ACCOUNT, OTHER);
    let done = compared(&swapped, &[]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stdout);
    assert!(done.stdout.contains(&format!("account_id {ACCOUNT} here, {OTHER} there")), "{}", done.stdout);
    assert!(!done.stdout.contains("not asked for"), "{}", done.stdout);

    for (text, more) in [
        (nameless, &["--account", ACCOUNT][..]),
        (timeless, &[&["--account", ACCOUNT], &day[..]].concat()),
        (&rows("ab"), &[]),
        (&(rows("ab") + &row('f').replace(ACCOUNT, OTHER)), &[]),
        (&(rows("ab") + &row('f').replace(ACCOUNT, OTHER)), &["--account", OTHER]),
    ] {
        let done = compared(text, more);
        assert_eq!(done.status.code(), Some(0), "{text}{more:?}\n{}{}", done.stdout, done.stderr);
    }
    // An account of which nobody has heard.
    for text in [nameless, &theirs, &rows("ab")] {
        let done = compared(text, &[&["--account", "MA_NOBODY11"], &day[..]].concat());
        assert_eq!((done.status.code(), &*done.stdout), (Some(2), ""), "{}", done.stderr);
        assert!(done.stderr.contains("MA_NOBODY11"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn a_total_is_no_further_off_than_one_amount_and_says_so() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    for (total, more, code, word) in [
        ("1.85", &["--tolerance", "0.5"][..], 0, "total_cost 1.85 INR is not the sum of the rows, 1.35"),
        ("0.86", &["--tolerance", "0.5"], 0, "total_cost 0.86 INR is not the sum of the rows, 1.35"),
        ("1.86", &["--tolerance", "0.5"], 1, "total_cost 1.86 INR, but the rows before it add up to 1.35"),
        ("3.00", &["--tolerance", "0.5"], 1, "total_cost 3.00 INR, but the rows before it add up to 1.35"),
        ("1.36", &["--decimals", "2"], 0, "total_cost 1.36 INR is not the sum of the rows, 1.35"),
        ("1.37", &["--decimals", "2"], 1, "total_cost 1.37 INR, but the rows before it add up to 1.35"),
        ("1.35", &["--decimals", "2", "--tolerance", "0.5"], 0, "its sums are those of the rows"),
    ] {
        fs::write(&path, format!("{}Total,,,,,,,{total},INR\n", rows("abc"))).unwrap();
        let done = reconcile(&db, &[&["--csv", path.to_str().unwrap()], more].concat());
        assert_eq!(done.status.code(), Some(code), "{total} {more:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        let are_equal = done.stderr.contains("its sums are those of the rows");
        assert_eq!(are_equal, total == "1.35", "{total}: {}", done.stderr);
    }
}

#[tokio::test]
async fn the_file_of_differences_is_the_whole_new_one_or_the_one_before() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (invoice, out, link, map) = (at("invoice.csv"), at("last.csv"), at("link.csv"), at("map.toml"));
    fs::write(&invoice, rows("ab")).unwrap();
    fs::write(&map, MAP).unwrap();
    fs::write(&out, "of last month").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&invoice, &link).unwrap();
    let names = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = names();
    let twisted = format!(
        "{}/../{}/invoice.csv",
        folder.path().display(),
        folder.path().file_name().unwrap().to_str().unwrap()
    );
    for (arguments, word) in [
        (["--csv", &invoice, "--out", &invoice].to_vec(), "is the file of --csv"),
        (["--csv", &invoice, "--out", &link].to_vec(), "is the file of --csv"),
        (["--csv", &link, "--out", &twisted].to_vec(), "is the file of --csv"),
        (["--table", "public.x", "--map", &map, "--out", &map].to_vec(), "is the file of --map"),
        (["--csv", &at("invoise.csv"), "--out", &out].to_vec(), "invoise.csv"),
        (["--csv", &map, "--out", &out].to_vec(), "map.toml"),
        (["--csv", &invoice, "--zone", "Mars", "--out", &out].to_vec(), "Mars"),
        (["--csv", &invoice, "--account", "MA_NOBODY11", "--out", &out].to_vec(), "MA_NOBODY11"),
        (["--csv", &invoice, "--out", folder.path().to_str().unwrap()].to_vec(), "cannot be opened"),
    ] {
        let done = reconcile(&db, &arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?} {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        assert_eq!(fs::read_to_string(&invoice).unwrap(), rows("ab"), "{arguments:?}");
        assert_eq!(fs::read_to_string(&map).unwrap(), MAP, "{arguments:?}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "of last month", "{arguments:?}");
        assert_eq!(names(), before, "{arguments:?}");
    }
    let day = ["--from", "2026-03-25", "--to", "2026-03-25"];
    let to = |out: &str| reconcile(&db, &[&["--csv", &invoice, "--out", out], &day[..]].concat());
    let last = at("latest.csv");
    symlink(&out, &last).unwrap();
    for (name, mode) in [(&last, Some(0o640)), (&out, Some(0o640)), (&at("new.csv"), None)] {
        let done = to(name);
        assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
        let written = fs::read_to_string(name).unwrap();
        assert!(
            written.starts_with("kind,line,call_id,") && written.contains("\nmissing_there,,c,"),
            "{written}"
        );
        let now = fs::metadata(name).unwrap().permissions().mode() & 0o777;
        assert_eq!(now, mode.unwrap_or(now), "{name}");
        // Whoever may read any other new file here may read this one.
        let any = fs::metadata(&invoice).unwrap().permissions().mode() & 0o777;
        assert!(mode.is_some() || now == any, "{now:o} {any:o}");
    }
    assert!(fs::symlink_metadata(&last).unwrap().is_symlink());
    assert_eq!(names().len(), before.len() + 2, "{:?}", names());
    // A pipe is no file that could be lost.
    let done = to("/dev/stdout");
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(
        done.stdout.starts_with("kind,line,call_id,") && done.stdout.contains("not equal"),
        "{}",
        done.stdout
    );
}
