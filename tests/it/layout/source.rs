//! Reads Rust source far enough to see what it imports and which types it defines.

use std::collections::BTreeSet;
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

/// A file of ours.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Its module, `db::queue::lease`; empty for the root of the crate.
    pub(super) module: String,
    pub(super) text: String,
}

impl Source {
    /// Every Rust file in a folder or at `folder.rs`, in the order of their paths.
    pub(super) fn all(folder: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::from(folder)];
        let file = PathBuf::from(format!("{folder}.rs"));
        if file.is_file() {
            found.push(Self::read(file));
        }
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(Self::read(path));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let module = module_of(&path);
        Self { path, module, text }
    }

    /// The text without its line comments, so that a doc link is no import.
    fn code(&self) -> String {
        let code = self.text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
        code.collect::<Vec<_>>().join("\n")
    }

    /// Every path of ours that it names, from the root: what begins with `crate::` or `super::`, braces written out.
    pub(super) fn own_paths(&self) -> BTreeSet<String> {
        own_paths(&self.code(), &self.module)
    }

    /// Whether it names something of a crate.
    pub(super) fn says(&self, name: &str) -> bool {
        let code = self.code();
        let path = format!("{name}::");
        code.match_indices(&path).any(|(at, _)| starts_a_word(&code, at) && !code[..at].ends_with("::"))
    }

    /// Whether it holds tests.
    pub(super) fn has_tests(&self) -> bool {
        self.text.contains("#[test]") || self.text.contains("#[tokio::test")
    }

    /// Names of the types that it defines outside of functions and impls.
    pub(super) fn types(&self) -> Vec<String> {
        let code = self.code();
        let names = code.lines().filter_map(|line| {
            let mut line = line;
            if let Some(rest) = line.strip_prefix("pub") {
                line = rest
                    .strip_prefix('(')
                    .map_or(rest, |rest| rest.split_once(')').map_or(rest, |(_, rest)| rest));
                line = line.trim_start();
            }
            let rest = ["struct ", "enum ", "trait ", "type ", "union "]
                .iter()
                .find_map(|word| line.strip_prefix(word))?;
            Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        });
        names.collect()
    }
}

/// `src/db/queue/lease.rs` is `db::queue::lease`.
fn module_of(path: &Path) -> String {
    let parts = path.with_extension("");
    let mut parts: Vec<&str> = parts.iter().filter_map(|part| part.to_str()).skip(1).collect();
    if matches!(parts.last(), Some(&("mod" | "lib"))) {
        parts.pop();
    }
    parts.join("::")
}

fn starts_a_word(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn own_paths(code: &str, module: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        // `pub(in crate::db)` says who may see, not what is imported.
        if starts_a_word(code, at) && !code[..at].ends_with("(in ") {
            write_out("", &mut code[at + start.len()..].chars().peekable(), &mut paths);
        }
    }
    // In the tests at the end of a file, `super` is the file itself.
    let outside_tests = code.find("\nmod tests {").map_or(code, |at| &code[..at]);
    for (at, start) in outside_tests.match_indices("super::") {
        // Further ones of a chain are followed from the first.
        if !starts_a_word(code, at) || code[..at].ends_with("super::") {
            continue;
        }
        let (mut rest, mut base) = (&code[at..], module);
        while let Some(further) = rest.strip_prefix(start) {
            base = base.rsplit_once("::").map_or("", |(above, _)| above);
            rest = further;
        }
        let prefix = if base.is_empty() { String::new() } else { format!("{base}::") };
        write_out(&prefix, &mut rest.chars().peekable(), &mut paths);
    }
    paths
}

/// `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn write_out(prefix: &str, rest: &mut Peekable<Chars<'_>>, paths: &mut BTreeSet<String>) {
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

#[test]
fn the_reader_of_imports_reads_imports() {
    let code = "use crate::{a, b::{self, c as d, e::*}, f};\nlet x = crate::g::h(1); mycrate::z; $crate::i!(); super::super::k::l(); use super::{m, n::O};";
    let found: Vec<String> = own_paths(code, "p::q::r").into_iter().collect();
    assert_eq!(found, ["a", "b", "b::c", "b::e::*", "f", "g::h", "i", "p::k::l", "p::q::m", "p::q::n::O"]);
    let lease = Source::all("src/db/queue/lease");
    assert_eq!(lease[0].module, "db::queue::lease");
    assert!(lease[0].own_paths().contains("retry::History"));
    assert!(
        lease[0].types().contains(&"Lease".to_owned()) && lease[0].says("sqlx") && !lease[0].says("axum")
    );
}
