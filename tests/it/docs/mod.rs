//! What the pages point at is there: links and anchors, SQL names, files, functions, metrics, and the words that a person looks up.

mod security;
mod sql;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All pages, path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let files = [".", "docs", "benches/peers"].iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// Lines outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        in_code ^= line.starts_with("```");
        !in_code
    })
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        prose(page).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// What follows each `marker` in a text, as far as `part_of` goes, where the marker begins a word.
fn names<'a>(text: &'a str, marker: &'a str, part_of: fn(char) -> bool) -> impl Iterator<Item = &'a str> {
    let begins = move |at: usize| {
        !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '-'))
    };
    text.match_indices(marker).map(|(at, _)| at).filter(move |at| begins(*at)).map(move |at| {
        let rest = &text[at + marker.len()..];
        &rest[..rest.find(|c| !part_of(c)).unwrap_or(rest.len())]
    })
}

fn in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// All text below a folder.
fn below(folder: &Path, extension: &str) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &below(&path, extension);
        } else if path.extension().is_some_and(|its| its == extension) {
            all += &fs::read_to_string(&path).unwrap();
        }
    }
    all
}

#[test]
fn links_and_their_anchors_exist() {
    for (path, page) in pages() {
        for line in prose(&page) {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|target| !target.starts_with("http")) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let there = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
                assert!(there.exists(), "{}: {target} leads nowhere", path.display());
                let known =
                    anchor.is_empty() || anchors(&fs::read_to_string(&there).unwrap()).contains(anchor);
                assert!(known, "{}: {target} leads to no heading", path.display());
            }
        }
    }
}

#[test]
fn every_table_view_and_function_that_a_page_names_exists() {
    let sql = below(Path::new("migrations"), "sql");
    let known: BTreeSet<&str> = names(&sql, "vobiz.", in_a_name).collect();
    for (path, page) in pages() {
        for name in names(&page, "vobiz.", in_a_name).filter(|name| !name.is_empty() && *name != "ai") {
            assert!(
                known.contains(name),
                "{} names vobiz.{name}, which migrations/ does not",
                path.display()
            );
        }
    }
}

/// Views that are what others are made of, and have no row on the page of the views.
const NOT_ON_THE_PAGE: [&str; 7] = [
    "call_owner",
    "compared_owner",
    "customer_cdr",
    "number_rule",
    "rollup_base",
    "rollup_day_part",
    "rollup_part",
];

#[test]
fn every_view_has_its_row_on_the_page_of_the_views() {
    let page = fs::read_to_string("docs/billing.md").unwrap();
    let (_, below) = page.split_once("\n## The views\n").unwrap();
    let section = below.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let shown: String = rows.map(|row| row.split(" | ").next().unwrap().to_owned() + "\n").collect();
    for entry in fs::read_dir("migrations/repeatable/views").unwrap() {
        let file = entry.unwrap().path();
        let view = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(
            shown.contains(&format!("`{view}`")),
            !NOT_ON_THE_PAGE.contains(&view),
            "vobiz.{view}: a row under \"The views\" in docs/billing.md, or a place in the list above, and not both"
        );
    }
}

#[test]
fn every_file_that_a_page_names_exists() {
    for (path, page) in pages() {
        for folder in ["src/", "tests/", "migrations/", "benches/", "deploy/"] {
            let in_a_path = |c: char| in_a_name(c) || matches!(c, '/' | '.' | '-');
            for rest in names(&page, folder, in_a_path).filter(|rest| !rest.contains("NNNN")) {
                let file = format!("{folder}{}", rest.trim_end_matches(['.', '-']));
                // The page of a crate of its own speaks of its own files.
                let there =
                    [Path::new("."), path.parent().unwrap()].iter().any(|from| from.join(&file).exists());
                assert!(there, "{} names {file}, which is not there", path.display());
            }
        }
    }
}

/// Rows such as ``| 2 | `src/a.rs` | `does` | what it does |``.
#[test]
fn the_journeys_go_through_functions_that_exist() {
    let page = fs::read_to_string("docs/architecture.md").unwrap();
    let numbered = |line: &&str| {
        line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()))
    };
    let rows = page.lines().filter(numbered).filter(|line| line.contains(" | `src/"));
    let mut stops = 0;
    for cells in rows.map(|row| row.split('`').collect::<Vec<_>>()) {
        let (file, function) = (cells[1], cells[3]);
        let source = fs::read_to_string(file).unwrap();
        let there =
            [format!("fn {function}("), format!("fn {function}<")].iter().any(|head| source.contains(head));
        assert!(there, "docs/architecture.md: {file} has no function {function}");
        stops += 1;
    }
    assert!(stops >= 15, "three journeys, and only {stops} stops were recognised");
}

#[test]
fn every_metric_that_a_page_names_is_in_the_reference() {
    let reference = fs::read_to_string("docs/reference.md").unwrap();
    for (path, page) in pages() {
        for name in names(&page, "vobiz_cdr_", in_a_name) {
            assert!(reference.contains(&format!("| `vobiz_cdr_{name}` |")), "{}: {name}", path.display());
        }
    }
}

/// The runbook is searched for what `/status` says, so it has to say the same.
#[test]
fn the_runbook_quotes_what_the_program_says() {
    let source = below(Path::new("src"), "rs");
    let page = fs::read_to_string("docs/runbook.md").unwrap();
    let (_, table) = page.split_once("| it says |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
    let quotes = rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    // `…` stands for what differs each time.
    for part in quotes.flat_map(|quote| quote.split(['…', ':'])).map(str::trim).filter(|part| part.len() > 8)
    {
        assert!(source.contains(part), "docs/runbook.md quotes {part:?}, which nothing in src/ says");
    }
}
