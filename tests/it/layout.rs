//! The plan of the house holds: imports point one way, and a file can be read in one sitting. A rule that nobody runs is a
//! wish, so this reads our own source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// More than this is more than one sitting.
const LONGEST: usize = 450;

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text of a file without its line comments, so that a doc link is no import.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    code.collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `crate::` (also `$crate::`), braces written out: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn own_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            write_out("", &mut code[at + start.len()..].chars().peekable(), &mut paths);
        }
    }
    paths
}

fn write_out(
    prefix: &str,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    paths: &mut BTreeSet<String>,
) {
    let mut path = prefix.to_owned();
    while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || "_:*{".contains(*c)) {
        if c != '{' {
            path.push(c);
            continue;
        }
        loop {
            while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
            if rest.next_if_eq(&'}').is_some() || rest.peek().is_none() {
                return;
            }
            write_out(&path, rest, paths);
        }
    }
    // `use a::{self}` and `use a as b`.
    paths.insert(path.trim_end_matches("::self").trim_end_matches(':').to_owned());
    if rest.peek() == Some(&' ') {
        while rest.next_if(|c| !",};\n".contains(*c)).is_some() {}
    }
}

/// Asserts that everything a room imports of ours lies under one of these paths.
#[track_caller]
fn imports_only(room: &str, files: &[PathBuf], allowed: &[&str]) {
    assert!(!files.is_empty(), "{room} is gone");
    for file in files {
        for path in own_paths(&code(file)) {
            let under = |allowed: &&str| path == **allowed || path.starts_with(&format!("{allowed}::"));
            assert!(
                allowed.iter().any(under),
                "{} imports crate::{path}; {room} may import {allowed:?}",
                file.display()
            );
        }
    }
}

#[track_caller]
fn never_says(files: &[PathBuf], words: &[&str]) {
    for file in files {
        let code = code(file);
        for word in words {
            assert!(!code.contains(&format!("{word}::")), "{} uses {word}", file.display());
        }
    }
}

/// The files of a module, whether it is a file or a folder.
fn room(name: &str) -> Vec<PathBuf> {
    let folder = format!("src/{name}");
    let file = PathBuf::from(format!("{folder}.rs"));
    let mut files = if Path::new(&folder).is_dir() { sources(&folder) } else { Vec::new() };
    if file.exists() {
        files.push(file);
    }
    files
}

#[test]
fn the_reader_of_imports_reads_imports() {
    let code =
        "use crate::{a, b::{self, c as d, e::*}, f};\nlet x = crate::g::h(1); mycrate::z; $crate::i!()";
    let found: Vec<String> = own_paths(code).into_iter().collect();
    assert_eq!(found, ["a", "b", "b::c", "b::e::*", "f", "g::h", "i"]);
    assert!(own_paths(&self::code(Path::new("src/db/queue.rs"))).contains("retry::ErrorClass"));
}

#[test]
fn what_vobiz_says_knows_nothing_of_the_house() {
    imports_only("vobiz", &room("vobiz"), &["vobiz"]);
    never_says(&room("vobiz"), &["sqlx"]);
}

#[test]
fn what_we_keep_borrows_a_few_nouns_and_knows_no_http() {
    imports_only("db", &room("db"), &["db", "vobiz", "timed", "retry::ErrorClass", "retry::History"]);
    never_says(&room("db"), &["reqwest", "axum", "hyper"]);
}

#[test]
fn our_own_postgres_and_the_simulator_know_nothing_of_the_rest() {
    imports_only("postgres", &room("postgres"), &["postgres"]);
    imports_only("simulator", &room("simulator"), &["simulator"]);
    never_says(&room("simulator"), &["sqlx"]);
}

#[test]
fn the_rule_for_failures_knows_only_the_failures() {
    imports_only("retry", &room("retry"), &["retry", "vobiz"]);
    never_says(&room("retry"), &["sqlx", "tokio", "reqwest"]);
}

#[test]
fn reconciling_reads_and_asks_and_does_nothing_else() {
    imports_only("reconcile", &room("reconcile"), &["reconcile", "db::compare", "vobiz"]);
    never_says(&room("reconcile"), &["reqwest", "axum", "hyper"]);
}

#[test]
fn a_flow_never_calls_another_flow() {
    const FLOWS: [&str; 4] = ["receive", "fetch", "sweep", "reconcile"];
    for flow in FLOWS {
        for file in room(flow) {
            for path in own_paths(&code(&file)) {
                let first = path.split("::").next().unwrap();
                assert!(first == flow || !FLOWS.contains(&first), "{}: crate::{path}", file.display());
            }
        }
    }
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let long: Vec<String> = sources("src")
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:?}");
}
