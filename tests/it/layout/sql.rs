//! The plan of migrations/ holds: numbered files are short and stand alone, the text that can be replaced is one object a file and
//! in order, and a view can gain a column.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::database::Database;

const NUMBERED: &str = "migrations";
const TEXT: &str = "migrations/repeatable";

/// Files of `repeatable/` that make no object of their name, and why.
const NO_OBJECT: [(&str, &str); 8] = [
    ("base/triggers.sql", "triggers of a table are one page"),
    ("bill/triggers.sql", "triggers of a table are one page"),
    ("cdr/triggers.sql", "triggers of a table are one page"),
    ("cdr/revision_triggers.sql", "triggers of a table are one page"),
    ("ledger/triggers.sql", "triggers of a table are one page"),
    ("bill/renew_forms.sql", "a statement that writes rules anew"),
    ("bill/first_sums.sql", "fills the sums where calls were there first"),
    ("grants.sql", "who may do what"),
];

/// Numbered files, name to text.
fn numbered() -> BTreeMap<String, String> {
    let files = fs::read_dir(NUMBERED).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Files of `repeatable/` in ORDER's order, name and text.
pub(super) fn text() -> Vec<(String, String)> {
    let order = fs::read_to_string(format!("{TEXT}/ORDER")).unwrap();
    let files = order.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with('#'));
    files
        .map(|file| {
            (
                file.to_owned(),
                fs::read_to_string(format!("{TEXT}/{file}")).unwrap_or_else(|e| panic!("{file}: {e}")),
            )
        })
        .collect()
}

/// SQL without comments, neither `--` nor `comment on … is …`: what is left is what Postgres acts on.
fn acting(sql: &str) -> String {
    let mut kept = String::new();
    let mut in_comment_on = false;
    for line in sql.lines() {
        in_comment_on |= line.starts_with("comment on ");
        if in_comment_on {
            in_comment_on = !line.trim_end().ends_with(';');
            continue;
        }
        kept += line.split_once("--").map_or(line, |(before, _)| before);
        kept.push('\n');
    }
    kept
}

/// Every `vobiz.name` in a text.
fn names(sql: &str) -> BTreeSet<String> {
    let rest = sql.match_indices("vobiz.").map(|(at, _)| &sql[at + "vobiz.".len()..]);
    rest.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

/// The objects that a file of `repeatable/` makes, triggers aside.
fn made(sql: &str) -> Vec<String> {
    let kinds = ["create or replace function vobiz.", "create or replace view vobiz."];
    let heads = sql.lines().filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
    heads.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn every_file_of_repeatable_is_in_order_and_once() {
    let listed: Vec<String> = text().into_iter().map(|(file, _)| file).collect();
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a file is listed twice");
    let mut there = BTreeSet::new();
    let mut folders = vec![Path::new(TEXT).to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "ORDER" {
                there.insert(path.strip_prefix(TEXT).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(there, listed.into_iter().collect(), "files on the left, ORDER on the right");
    assert_eq!(text().last().unwrap().0, "grants.sql", "grants come when everything is there");
}

#[test]
fn no_file_of_repeatable_names_what_order_makes_later() {
    let text = text();
    for (place, (file, sql)) in text.iter().enumerate() {
        let known: BTreeSet<String> = text[..=place].iter().flat_map(|(_, sql)| made(sql)).collect();
        // What goes before it is made anew is no word for it.
        let acting = acting(sql);
        let kept: Vec<&str> = acting.lines().filter(|line| !line.trim().starts_with("drop ")).collect();
        let named = names(&kept.join("\n"));
        for (later, sql) in &text[place + 1..] {
            for object in made(sql) {
                assert!(
                    !named.contains(&object) || known.contains(&object),
                    "{file} names vobiz.{object}, which {later} makes after it: move it down in ORDER"
                );
            }
        }
    }
}

#[test]
fn a_file_of_repeatable_is_one_object_and_has_its_name() {
    for (file, sql) in text() {
        let acting = acting(&sql);
        for line in acting.lines().filter(|line| line.starts_with("create ")) {
            assert!(line.starts_with("create or replace "), "{file} cannot run twice: {line}");
        }
        let made = made(&sql);
        if NO_OBJECT.iter().any(|(name, _)| *name == file) {
            assert_eq!(made, Vec::<String>::new(), "{file}");
            continue;
        }
        let name = Path::new(&file).file_stem().unwrap().to_str().unwrap();
        assert!(!made.is_empty() && made.iter().all(|object| object == name), "{file} makes {made:?}");
        assert_eq!(
            file.starts_with("views/"),
            sql.contains("create or replace view"),
            "{file}: views, and only they, are in views/"
        );
        assert!(
            !acting.contains("create or replace trigger"),
            "{file}: triggers are on the page of their table"
        );
    }
}

#[test]
fn all_triggers_of_a_table_are_on_one_page() {
    let mut pages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, sql) in text() {
        for statement in acting(&sql).split("create or replace trigger").skip(1) {
            let table = statement.split_once(" on vobiz.").unwrap().1;
            let table = table.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            pages.entry(table).or_default().insert(file.clone());
        }
    }
    assert_eq!(pages["cdr"].iter().collect::<Vec<_>>(), ["cdr/triggers.sql"]);
    for (table, pages) in pages {
        assert_eq!(pages.len(), 1, "triggers of vobiz.{table} are in {pages:?}");
    }
}

/// `select c.*, x` can gain no column at the end: what is new would stand before x, and `create or replace` refuses that.
#[test]
fn views_list_their_columns() {
    for (file, sql) in text().into_iter().filter(|(file, _)| file.starts_with("views/")) {
        let sql = acting(&sql);
        for stars in [".*", "select *", "select distinct *"] {
            assert!(!sql.contains(stars), "{file} says {stars}: list the columns");
        }
    }
}

#[test]
fn a_numbered_file_is_one_short_thought_and_names_nothing_of_repeatable() {
    let repeatable: BTreeSet<String> = text().iter().flat_map(|(_, sql)| made(sql)).collect();
    for (place, (file, sql)) in numbered().iter().enumerate() {
        let number: String = file.chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(number, format!("{:04}", place + 1), "{file}: numbers are counted up, four digits each");
        let lines = sql.lines().count();
        assert!(lines <= 250 || file.contains("_seed_"), "{file} has {lines} lines: one thought a file");
        assert!(sql.starts_with("-- "), "{file} does not say what it is about");
        let acting = acting(sql);
        for what in ["view", "trigger", "or replace", "function"] {
            assert!(
                !acting.contains(&format!("create {what}")) || file == "0001_schema_and_clock.sql",
                "{file} makes what can be replaced ({what}): that belongs into {TEXT}/"
            );
        }
        for name in names(&acting) {
            assert!(
                !repeatable.contains(&name) || acting.contains(&format!("drop view if exists vobiz.{name}")),
                "{file} names vobiz.{name}, which {TEXT}/ makes: it would not apply alone"
            );
        }
    }
}

#[tokio::test]
async fn numbered_files_apply_alone_on_an_empty_database() {
    let db = Database::empty().await;
    for sql in numbered().values() {
        db.run(sql).await;
    }
    let made = "select count(*) from pg_catalog.pg_proc where pronamespace = 'vobiz'::regnamespace and proname <> 'now'";
    assert_eq!(db.count(made).await, 0);
}

#[test]
fn the_series_of_india_are_what_the_script_makes_of_its_csv() {
    let made = Command::new("bash").arg("migrations/data/india_series.sh").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = "migrations/0021_seed_prefix_india_series.sql";
    let kept = fs::read_to_string(file).unwrap();
    assert!(
        kept.contains("libphonenumber") && kept.contains("November 2024"),
        "its source and date are on top"
    );
    assert_eq!(String::from_utf8(made.stdout).unwrap(), kept, "{file} was edited by hand, or its CSV was");
}

/// Facts that are said in one place, and the only file that may say them so.
const SAID_ONCE: [(&str, &str); 5] = [
    ("0.01 *", "account/rate_in_force.sql"),
    ("paused_until > vobiz.now()", "account/is_paused.sql"),
    ("'unassigned'", "bill/first_rule.sql"),
    ("valid_to > at", "bill/rule_is_valid.sql"),
    ("of_total_cost is null", "bill/sums_of.sql"),
];

#[test]
fn what_is_a_function_is_said_once() {
    let mut places: Vec<(String, String)> =
        text().into_iter().map(|(file, sql)| (file, acting(&sql))).collect();
    let mut folders = vec![Path::new("src/db").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                places.push((path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    for (words, only) in SAID_ONCE {
        let saying: Vec<&str> =
            places.iter().filter(|(_, sql)| sql.contains(words)).map(|(file, _)| file.as_str()).collect();
        assert_eq!(saying, [only], "{words}");
    }
    // No other text cuts a day: noon and the hour of the clock are no days, and a leg has a shortcut that a test proves.
    for (file, sql) in &places {
        let cuts = sql.contains("at time zone s.billing_zone") || sql.contains("vobiz.setting s))::date");
        assert!(
            !cuts || file == "views/leg.sql",
            "{file} cuts a day by itself: see vobiz.billing_day_of and _start"
        );
    }
}

/// What a view needs to hand on a further column of vobiz.cdr: where its text is cut, and what goes in there.
const GAINS: [(&str, &[(&str, &str)]); 15] = [
    ("customer_cdr", &[("\n  from vobiz.cdr c", ", c.gained")]),
    ("leg", &[("\n  from vobiz.customer_cdr c", ", c.gained")]),
    ("billing_trunk", BY_DAY),
    ("billing_campaign", BY_DAY),
    ("billing_number", BY_DAY),
    ("billing_destination", BY_DAY),
    ("billing_region", BY_DAY),
    ("billing_hangup", BY_DAY),
    ("billing_sub_account", BY_DAY),
    ("cost_per_minute", BY_DAY),
    ("quality_day", BY_DAY),
    (
        "cost_gap",
        &[("\n  from vobiz.billing_account_day k", ", x.gained"), ("\n    from vobiz.leg l", ", l.gained")],
    ),
    (
        "stream",
        &[
            ("\n  from vobiz.billing_account_day k", ", c.gained"),
            ("\n    from vobiz.customer_cdr c", ", c.gained"),
        ],
    ),
    (
        "conversation",
        &[
            ("\n  from vobiz.billing_account_day k", ", x.gained"),
            ("\n    from (\n      select c.", ", max(l.gained) as gained"),
            (" as began\n", ", c.gained"),
            (" as number\n", ", b.gained"),
            ("\n          from (\n          -- A bridge", ", i.gained"),
            ("\n          from vobiz.leg l", ", l.gained"),
        ],
    ),
    ("cdr_masked", &[("\n  from vobiz.leg l", ", l.gained")]),
];
const BY_DAY: &[(&str, &str)] = &[
    ("\n  from vobiz.billing_account_day k", ", x.gained"),
    ("\n    from vobiz.leg l", ", max(l.gained) as gained"),
];

#[tokio::test]
async fn a_column_of_the_calls_reaches_every_view_and_none_is_dropped() {
    let db = Database::with_a_bill().await;
    // A stream, bad quality and a gap, so that all views have rows.
    db.run(
        r#"update vobiz.cdr set extra = '{"stream_cdrs": [{"stream_id": "s"}]}', mos = 4, cost = 1, total_cost = 5, billsec = 30"#,
    )
    .await;
    let oids = "select string_agg(oid::text, ' ' order by oid) from pg_catalog.pg_class
                where relnamespace = 'vobiz'::regnamespace and relkind = 'v'";
    let before = db.text(oids).await;
    db.run("alter table vobiz.cdr add column gained text; update vobiz.cdr set gained = 'new'").await;
    for (view, places) in GAINS {
        let sql = fs::read_to_string(format!("{TEXT}/views/{view}.sql")).unwrap();
        let (mut sql, _) = sql.split_once(";\n").unwrap();
        let mut grown = String::new();
        for (place, column) in places {
            let at = sql.find(place).unwrap_or_else(|| panic!("{view} has no {place:?}"));
            // A place that ends its line keeps its words before the new column.
            let at = if place.ends_with('\n') { at + place.len() - 1 } else { at };
            grown += &sql[..at];
            grown += column;
            sql = &sql[at..];
        }
        db.run(&format!("{grown}{sql}")).await;
        let shown = format!("select gained from vobiz.{view} where gained is not null limit 1");
        assert_eq!(db.text(&shown).await, "new", "{view}");
        let last = format!(
            "select attname::text from pg_catalog.pg_attribute where attrelid = 'vobiz.{view}'::regclass order by attnum desc limit 1"
        );
        assert_eq!(db.text(&last).await, "gained", "{view}");
    }
    assert_eq!(db.text(oids).await, before);
}

#[test]
fn nothing_rests_on_a_lock_that_any_login_can_take() {
    let ours = super::source::Source::all("src")
        .into_iter()
        .map(|file| (file.path.display().to_string(), file.text));
    for (name, text) in ours.chain(numbered()).chain(text()) {
        for lock in ["pg_advisory_", "pg_try_advisory_"] {
            assert!(
                !text.contains(lock),
                "{name}: {lock}: lock a row or a table of ours instead, which needs rights on it"
            );
        }
    }
}
