//! The sums of the bill are said once: the texts that hand them on are as the program writes them, and a further one needs no more
//! than that.

#[path = "../../../migrations/data/sums.rs"]
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::sql::text;
use crate::db::bill::{drift, insert};
use crate::support::database::Database;

/// The program's three sources of a further sum, as a developer edits them: what a file says, and what it says then.
const FURTHER: [(&str, &[(&str, &str)]); 2] = [
    (
        "bill/sums_of.sql",
        &[
            ("unclear bigint)         -- Calls", "unclear bigint,         -- Calls"),
            (
                "\n  language sql",
                "\n    long_calls bigint)      -- Legs of a minute or longer; NULL isn't one.\n  language sql",
            ),
            (
                "of_notes) <> '{}')::integer::bigint",
                "of_notes) <> '{}')::integer::bigint,\n           coalesce(of_billsec >= 60, false)::integer::bigint",
            ),
        ],
    ),
    (
        "views/billing_day.sql",
        &[
            (
                "sum(r.unclear)::bigint as unclear",
                "sum(r.unclear)::bigint as unclear, sum(r.long_calls)::bigint as long_calls",
            ),
            (
                "-- end\n",
                "comment on column vobiz.billing_day.long_calls is 'Legs of a minute or longer.';\n-- end\n",
            ),
        ],
    ),
];

#[test]
fn each_list_of_the_sums_is_as_the_program_writes_it() {
    let files = program::files();
    for (path, text) in program::written(&files) {
        assert!(files[&path] == text, "{} lists the sums otherwise: run ./dev sums", path.display());
    }
}

/// Texts that say `pulse_minutes` by hand, and why that is no list of the sums.
const MINUTES_BY_HAND: [(&str, &str); 16] = [
    ("migrations/repeatable/bill/pulse_minutes.sql", "the function of that name"),
    ("migrations/repeatable/views/leg.sql", "the minutes of one call"),
    ("migrations/repeatable/views/cdr_masked.sql", "the minutes of one call"),
    ("migrations/repeatable/views/billing_trunk.sql", "counts the calls themselves, by trunk"),
    ("migrations/repeatable/views/billing_campaign.sql", "counts the calls themselves, by campaign"),
    ("migrations/repeatable/views/billing_number.sql", "counts the calls themselves, by number"),
    ("migrations/repeatable/views/billing_destination.sql", "counts the calls themselves, by destination"),
    ("migrations/repeatable/views/billing_region.sql", "counts the calls themselves, by region"),
    ("migrations/repeatable/views/billing_hangup.sql", "counts the calls themselves, by who hung up"),
    ("migrations/repeatable/views/billing_sub_account.sql", "counts the calls themselves, by sub-account"),
    ("migrations/repeatable/views/cost_per_minute.sql", "counts the calls themselves, by what a minute cost"),
    ("src/db/bill/billing.rs", "the columns that a report shows, which are fewer"),
    ("src/db/bill/detail.rs", "the columns of a report over calls"),
    ("src/db/bill/itemised.rs", "the minutes of one call, and of those of one customer"),
    ("src/cli/export.rs", "names the columns that are whole numbers"),
    (program::SOURCE, "says them"),
];

/// All SQL and Rust below some folders but a crate of its own, path to text.
fn below(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let (mut files, mut left) = (Vec::new(), folders.iter().map(PathBuf::from).collect::<Vec<_>>());
    while let Some(folder) = left.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                left.extend((!path.join("Cargo.toml").exists()).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "sql" || extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

/// Whether a text says this word: `with_cost` is none of `unanswered_with_cost`.
fn says(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|said| said == word)
}

/// A list that the program does not know would lack the next sum.
#[test]
fn no_text_lists_the_sums_by_itself() {
    let known = program::files();
    let mut with_minutes = BTreeSet::new();
    for (path, text) in below(&["src", "migrations/repeatable", "benches"]) {
        let (by_hand, shown) = (program::by_hand(&path, &text), path.display());
        assert!(known.contains_key(&path) || by_hand == text, "{shown}: ./dev sums does not write there");
        if says(&by_hand, "pulse_minutes") {
            with_minutes.insert(path.to_str().unwrap().to_owned());
        }
        if path == Path::new(program::SOURCE) {
            continue;
        }
        assert!(!says(&by_hand, "with_cost"), "{shown} lists the sums by hand");
        for (at, call) in by_hand.match_indices("sums_of(") {
            let handed = by_hand[at + call.len()..].trim_start();
            assert!(handed.starts_with("/* each input"), "{shown} lists by hand what the sums are made of");
        }
    }
    let excepted = MINUTES_BY_HAND.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(with_minutes, excepted, "texts that say pulse_minutes by hand, and those that may");
}

#[tokio::test]
async fn tables_and_views_of_the_sums_have_all_of_them() {
    let db = Database::new().await;
    let sums = program::names(&program::files());
    assert_eq!(sums[0], "calls");
    for table in ["rollup", "rollup_delta", "rollup_day", "rollup_part", "rollup_day_part", "rollup_base"] {
        let columns = db
            .texts(&format!(
                "select attname::text from pg_catalog.pg_attribute where attrelid = 'vobiz.{table}'::regclass and attnum > 6
                 and not attisdropped and attname <> 'noted_at' order by attnum"
            ))
            .await;
        assert_eq!(columns, sums, "vobiz.{table}");
    }
}

#[tokio::test]
async fn a_further_sum_is_a_numbered_file_the_text_of_sums_of_and_that_of_billing_day() {
    let db = Database::new().await;
    let call = |id: &str, talked: u32| {
        insert(&format!("select '{id}', 'MA_A', 't', timestamptz '2026-03-01 04:00Z', {talked}, 0.5"))
    };
    db.run(&call("before", 61)).await;
    let mut files = program::files();
    for (file, edits) in FURTHER {
        let text = files.get_mut(&Path::new("migrations/repeatable").join(file)).unwrap();
        for (was, is) in edits {
            assert!(text.contains(was), "{file} has no {was:?}");
            *text = text.replacen(was, is, 1);
        }
    }
    let files = program::written(&files);
    let names = program::names(&files);
    assert_eq!(names.last().unwrap(), "long_calls");

    for table in ["rollup", "rollup_delta", "rollup_day"] {
        db.run(&format!("alter table vobiz.{table} add column long_calls bigint not null default 0")).await;
    }
    // Another function of the name is not in the way.
    db.run("create function vobiz.sums_of(integer) returns integer language sql as 'select 1'").await;
    // As `migrate apply` runs it: all of ORDER, in one transaction.
    let all = text().into_iter().map(|(file, old)| {
        files.get(&PathBuf::from(format!("migrations/repeatable/{file}"))).cloned().unwrap_or(old) + "\n"
    });
    db.run(&format!("begin;\n{}\ncommit", all.collect::<String>())).await;

    db.run(&call("long", 60)).await;
    db.run(&call("short", 59)).await;
    db.run(&call("shortened", 90)).await;
    db.run("update vobiz.cdr set billsec = 30 where call_id = 'shortened'").await;
    db.run(&call("gone", 90)).await;
    db.run("delete from vobiz.cdr where call_id = 'gone'").await;
    db.run("insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 't', 'acme')").await;
    for view in ["billing_day", "billing_month"] {
        // The call of before is in no sum of it until `verify --repair`.
        let shown = format!(
            "select string_agg(format('%s %s %s', customer, calls, long_calls), ', ') from vobiz.{view}"
        );
        assert_eq!(db.text(&shown).await, "acme 4 2", "{view}");
        let says = format!(
            "select col_description('vobiz.{view}'::regclass, attnum) from pg_catalog.pg_attribute
                            where attrelid = 'vobiz.{view}'::regclass and attname = 'long_calls'"
        );
        assert_eq!(db.text(&says).await, "Legs of a minute or longer.");
    }
    assert_eq!(db.text("select sum(long_calls)::text from vobiz.rollup_base").await, "2");
    assert_eq!(db.count("select count(*) from pg_catalog.pg_proc where proname = 'sums_of'").await, 1);
    assert_eq!(drift(&db).await, 0);

    // What the service sends to Postgres has it as well.
    for file in ["src/db/bill/rollup.rs", "src/db/bill/rollup_day.rs"] {
        let (now, then) = (&program::files()[Path::new(file)], &files[Path::new(file)]);
        assert_eq!(then.matches("long_calls").count(), now.matches("without_cost").count(), "{file}");
    }
}
