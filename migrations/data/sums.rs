//! Writes the lists of the sums of the bill: `./dev sums`, and `./dev prepare` before it looks at the queries.
//!
//! What the sums are is said once, in `migrations/repeatable/bill/sums_of.sql`. The texts that only hand them on list them between
//! two comments, and this program writes what lies there:
//!
//! ```text
//! /* each sum: sum(s.{}) */ … /* end */         every sum, in their order, by commas; {type} is its type
//! /* each sum: {} | trim_scale({}) */ … /* end */   the same, with a template for whole numbers and one for amounts
//! /* each input: c.{} */ … /* end */            every column of a call that they are made of
//! -- each sum: comment on … is '{says}'; … -- end   a line for each
//! /* shown */ … /* end */                       is copied …
//! /* shown as in FILE */ … /* end */            … to here, with FILE's name changed to this file's
//! ```
//!
//! The standard library alone, so that it runs before anything is compiled. `tests/it/layout/sums.rs` holds all files to it.

#![allow(
    dead_code,
    reason = "a program here, a module of the test that holds the files to it: each uses a part"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the sums are said.
pub(crate) const SOURCE: &str = "migrations/repeatable/bill/sums_of.sql";
/// Where they may be listed.
const FOLDERS: [&str; 4] =
    ["migrations/repeatable/bill", "migrations/repeatable/views", "src/db/bill", "benches"];
/// Longest line of a list.
const WIDTH: usize = 130;

/// One sum of the bill.
struct Sum<'a> {
    name: &'a str,
    /// `bigint` or `numeric`.
    kind: &'a str,
    /// Its comment.
    says: &'a str,
}

fn main() {
    let files = files();
    for (path, text) in written(&files) {
        if files[&path] != text {
            fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("sums: wrote {}", path.display());
        }
    }
}

/// All files that may list the sums, path to text. The current folder is that of the project.
pub(crate) fn files() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
            let path = entry.expect("a folder can be read").path();
            if path.extension().is_some_and(|extension| extension == "sql" || extension == "rs") {
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                files.insert(path, text);
            }
        }
    }
    files
}

/// The same files with their lists as they must be.
pub(crate) fn written(files: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let source = &files[Path::new(SOURCE)];
    let (sums, inputs) = (sums(source), inputs(source));
    let each = |path: &Path, text: &str| {
        rewritten(path, text, &mut |marker, old| {
            if let Some(template) = marker.strip_prefix("each sum: ") {
                let (whole, amount) = template.split_once(" | ").unwrap_or((template, template));
                let sum = |sum: &Sum<'_>| {
                    let template = if sum.kind == "numeric" { amount } else { whole };
                    let says = sum.says.replace('\'', "''");
                    template.replace("{}", sum.name).replace("{type}", sum.kind).replace("{says}", &says)
                };
                List::Items(sums.iter().map(sum).collect())
            } else if let Some(template) = marker.strip_prefix("each input: ") {
                List::Items(inputs.iter().map(|input| template.replace("{}", input)).collect())
            } else {
                List::Text(old.to_owned())
            }
        })
    };
    let listed: BTreeMap<PathBuf, String> =
        files.iter().map(|(path, text)| (path.clone(), each(path, text))).collect();
    let copied = |path: &Path, text: &str| {
        rewritten(path, text, &mut |marker, old| {
            let Some((name, from)) = marker.split_once(" as in ") else {
                return List::Text(old.to_owned());
            };
            let from = Path::new("migrations/repeatable").join(from);
            let mut found = None;
            rewritten(&from, &listed[&from], &mut |marker, old| {
                if marker == name {
                    let view = |path: &Path| format!("vobiz.{}.", stem(path));
                    found = Some(old.replace(&view(&from), &view(path)));
                }
                List::Text(old.to_owned())
            });
            List::Text(found.unwrap_or_else(|| panic!("{} has no {name}", from.display())))
        })
    };
    listed.iter().map(|(path, text)| (path.clone(), copied(path, text))).collect()
}

/// Names of the sums, in their order.
pub(crate) fn names(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    sums(&files[Path::new(SOURCE)]).iter().map(|sum| sum.name.to_owned()).collect()
}

/// A text without what the program writes.
pub(crate) fn by_hand(path: &Path, text: &str) -> String {
    rewritten(path, text, &mut |_, _| List::Text(String::new()))
}

enum List {
    Items(Vec<String>),
    Text(String),
}

/// A text with what lies between each marker and its end as `list` has it, which is given the marker's words and what lies there.
fn rewritten(path: &Path, text: &str, list: &mut dyn FnMut(&str, &str) -> List) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((at, marker)) = next_marker(rest) {
        let (words, open, end) = marker;
        let body_at = at + open.len();
        let length =
            rest[body_at..].find(end).unwrap_or_else(|| panic!("{}: no {end} after {words}", path.display()));
        let old = &rest[body_at..body_at + length];
        kept += &rest[..body_at];
        let indent: String =
            kept.lines().last().unwrap_or_default().chars().take_while(|c| *c == ' ').collect();
        match list(words, old) {
            List::Text(text) => kept += &text,
            List::Items(items) if end.starts_with("--") => {
                for item in &items {
                    kept += &["\n", &indent, item].concat();
                }
                kept += &["\n", &indent].concat();
            }
            // In the line of the marker, or in lines of their own.
            List::Items(items) if !old.starts_with('\n') => kept += &[" ", &items.join(", "), " "].concat(),
            List::Items(items) => kept += &["\n", &wrapped(&items, &indent), "\n", &indent].concat(),
        }
        kept += end;
        rest = &rest[body_at + length + end.len()..];
    }
    kept + rest
}

/// The next marker: where it begins, its words, all of it, and what ends its list.
fn next_marker(text: &str) -> Option<(usize, (&str, &str, &'static str))> {
    const WORDS: [&str; 3] = ["each sum: ", "each input: ", "shown"];
    let mut from = 0;
    loop {
        let at = from + text[from..].find(['/', '-'])?;
        let rest = &text[at..];
        let found = if let Some(inner) = rest.strip_prefix("/* ") {
            inner.find(" */").map(|length| (&inner[..length], &rest[..length + 6], "/* end */"))
        } else if let Some(inner) = rest.strip_prefix("-- ") {
            inner.find('\n').map(|length| (&inner[..length], &rest[..length + 3], "-- end"))
        } else {
            None
        };
        match found {
            Some((words, open, end)) if WORDS.iter().any(|known| words.starts_with(known)) => {
                return Some((at, (words, open, end)));
            }
            _ => from = at + 1,
        }
    }
}

fn wrapped(items: &[String], indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for (place, item) in items.iter().enumerate() {
        let item = if place + 1 < items.len() { format!("{item},") } else { item.clone() };
        let line = lines.last_mut().expect("there is one");
        if line.trim().is_empty() {
            *line += &item;
        } else if line.len() + 1 + item.len() > WIDTH {
            lines.push(format!("{indent}{item}"));
        } else {
            *line += &[" ", &item].concat();
        }
    }
    lines.join("\n")
}

/// The sums, from lines `name type, -- what it says` of what the function returns.
fn sums(source: &str) -> Vec<Sum<'_>> {
    let lines = source.lines().skip_while(|line| line.trim() != "returns table (").skip(1);
    let lines = lines.take_while(|line| !line.contains("language sql"));
    let sums = lines.map(|line| {
        let (what, says) = line.split_once("--").unwrap_or_else(|| panic!("{SOURCE}: {line}: says nothing"));
        let (name, kind) = what.trim().split_once(' ').unwrap_or_else(|| panic!("{SOURCE}: {line}: no type"));
        Sum { name, kind: kind.trim_end_matches([',', ')', ' ']), says: says.trim() }
    });
    sums.collect()
}

/// The columns of a call that the sums are made of: the function's parameters, each `of_` and the column.
fn inputs(source: &str) -> Vec<&str> {
    let head = source.split("create or replace function vobiz.sums_of(").nth(1).unwrap_or_default();
    let (parameters, _) = head.split_once(')').unwrap_or_default();
    parameters.split_whitespace().filter_map(|word| word.strip_prefix("of_")).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
}
