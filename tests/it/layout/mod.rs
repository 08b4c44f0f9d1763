//! The plan of the house holds: imports point one way, a name means one thing, and a file can be read in one sitting. A rule that
//! nobody runs is a wish, so this reads our own source.
//!
//! Functions of more than a hundred lines are refused by clippy (`too_many_lines`), unless they `#[expect]` it with a reason.

mod pinned;
mod source;
mod sql;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source::Source;

/// More than this is more than one sitting.
const LONGEST: usize = 450;

/// Every room below those that import it, and what it imports of ours beside itself. A room that is not in the table fails, and so does
/// one that is gone, or an import that is not needed any more.
const ROOMS: &[(&str, &[&str])] = &[
    ("vobiz", &[]),
    ("postgres", &[]),
    ("simulator", &[]),
    ("watch", &[]),
    ("retry", &["vobiz"]),
    ("config", &["vobiz", "postgres"]),
    ("db::base", &[]),
    ("db::account", &["db::base", "vobiz", "retry::PauseReason"]),
    ("db::cdr", &["db::base", "vobiz"]),
    ("db::queue", &["db::base", "db::account", "db::cdr", "vobiz", "retry::ErrorClass", "retry::History"]),
    ("db::ledger", &["db::base", "vobiz"]),
    ("db::bill", &["db::base"]),
    ("db::reconcile", &["vobiz"]),
    ("db::retirement", &["db::base", "db::ledger", "db::queue", "vobiz"]),
    ("db::overview", &["db::base", "db::account", "db::ledger", "db::bill"]),
    ("account", &["config", "db", "vobiz", "retry", "watch"]),
    ("receive", &["db", "vobiz", "watch"]),
    ("fetch", &["account", "db", "vobiz", "retry", "watch"]),
    ("list", &["account", "db", "vobiz", "watch"]),
    ("sweep", &["list", "account", "db", "watch"]),
    ("ledger", &["list", "account", "db", "vobiz", "watch"]),
    ("reconcile", &["db::reconcile", "vobiz"]),
    ("ops", &["account", "db", "vobiz", "watch"]),
    ("serve", &["account", "config", "db", "fetch", "ledger", "ops", "receive", "sweep", "vobiz", "watch"]),
    (
        "cli",
        &[
            "account",
            "config",
            "db",
            "ledger",
            "list",
            "postgres",
            "reconcile",
            "serve",
            "simulator",
            "vobiz",
            "watch",
        ],
    ),
];

/// What `db` hands out itself: these come from `db::base`.
const ENTRY_OF_DB: &[&str] = &["db::timed", "timed", "db::acquire", "db::DbError", "db::Ended", "db::Fault"];

/// Crates that only some rooms may say, and which those are.
const CRATES: &[(&str, &[&str])] = &[
    (
        "sqlx",
        &["account", "cli", "db", "fetch", "ledger", "list", "ops", "receive", "reconcile", "serve", "sweep"],
    ),
    ("axum", &["ops", "receive", "serve"]),
    ("hyper", &["serve", "simulator"]),
    ("reqwest", &["cli", "config", "simulator", "vobiz"]),
    ("clap", &["cli", "config"]),
];

/// What several subcommands share. Beside these, no file of `cli` imports another.
const SHARED_BY_COMMANDS: &[&str] = &["accounts", "args", "csv", "database", "output", "range", "signals"];

/// What else of `cli` is no subcommand.
const NO_COMMANDS: &[&str] = &["logs", "secrets"];

/// Tests of no one room, and what they are of.
const WHOLE: [(&str, &str); 6] = [
    ("clock", "what a clock that was ahead leaves behind"),
    ("docs", "what the pages say is so"),
    ("faults", "the whole service when something of it dies"),
    ("layout", "the house itself"),
    ("support", "what the tests share"),
    ("week", "the whole service through a simulated week"),
];

fn is_under(path: &str, room: &str) -> bool {
    path == room || path.starts_with(&format!("{room}::"))
}

fn room_of(module: &str) -> Option<&'static str> {
    ROOMS.iter().map(|(room, _)| *room).filter(|room| is_under(module, room)).max_by_key(|room| room.len())
}

#[test]
fn every_room_is_in_the_table_and_imports_what_the_table_says() {
    let sources = Source::all("src");
    let (mut seen, mut used) = (BTreeSet::new(), BTreeSet::new());
    for source in sources.iter().filter(|source| !matches!(&*source.module, "" | "db" | "main")) {
        let file = source.path.display();
        let room = room_of(&source.module)
            .unwrap_or_else(|| panic!("{file}: {} is no room of the table", source.module));
        seen.insert(room);
        let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
        for path in source.own_paths() {
            let of_base = room.starts_with("db") && ENTRY_OF_DB.iter().any(|name| is_under(&path, name));
            let by = allowed.iter().find(|allowed| is_under(&path, allowed));
            assert!(
                of_base || is_under(&path, room) || by.is_some(),
                "{file} imports {path}; {room} may import {allowed:?}"
            );
            used.extend(by.copied().or(of_base.then_some("db::base")).map(|by| (room, by)));
        }
    }
    let unused: Vec<_> = ROOMS
        .iter()
        .flat_map(|(room, allowed)| allowed.iter().map(move |allowed| (*room, *allowed)))
        .filter(|pair| !used.contains(pair))
        .collect();
    assert!(unused.is_empty(), "the table lets a room import what it does not: {unused:?}");
    let gone: Vec<_> = ROOMS.iter().map(|(room, _)| *room).filter(|room| !seen.contains(room)).collect();
    assert!(gone.is_empty(), "rooms of the table that are gone: {gone:?}");
}

#[test]
fn a_room_imports_only_rooms_above_it_in_the_table_which_is_the_order_of_the_map() {
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        let meets = |rooms: &[(&str, &[&str])], path: &str| {
            rooms.iter().any(|(other, _)| is_under(path, other) || is_under(other, path))
        };
        for path in *allowed {
            assert!(meets(&ROOMS[..at], path) && !meets(&ROOMS[at..], path), "{room} imports {path}");
        }
    }
    let map = fs::read_to_string("src/lib.rs").unwrap();
    let mut rooms: Vec<&str> = ROOMS.iter().map(|(room, _)| top_of(room)).collect();
    rooms.dedup();
    let places: Vec<_> = rooms.iter().map(|room| map.find(&format!("//! - [`{room}`]: "))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "src/lib.rs: {rooms:?} at {places:?}");
}

#[test]
fn a_crate_is_said_only_where_it_belongs() {
    for source in Source::all("src").iter().filter(|source| !source.module.is_empty()) {
        let top = source.module.split("::").next().unwrap();
        for (name, rooms) in CRATES {
            let allowed = rooms.contains(&top) || top == "main" && *name == "clap";
            assert!(
                allowed || !source.says(name),
                "{} uses {name}; only {rooms:?} may",
                source.path.display()
            );
        }
    }
}

#[test]
fn a_subcommand_imports_no_other_subcommand() {
    for source in Source::all("src/cli") {
        let mut parts = source.module.split("::").skip(1);
        let Some(own) = parts.next() else { continue };
        for path in source.own_paths() {
            let mut parts = path.split("::");
            if let (Some("cli"), Some(other)) = (parts.next(), parts.next()) {
                let is_item = other.starts_with(char::is_uppercase);
                assert!(
                    is_item || other == own || SHARED_BY_COMMANDS.contains(&other),
                    "{} imports {path}",
                    source.path.display()
                );
            }
        }
    }
}

#[test]
fn the_root_of_src_is_a_map() {
    let mut files: Vec<String> = fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["lib.rs", "main.rs", "retry.rs"]);
    assert!(fs::read_to_string("src/main.rs").unwrap().lines().count() <= 34);
}

#[test]
fn a_module_is_a_file_or_a_folder_and_never_both() {
    for source in Source::all("src").into_iter().chain(Source::all("tests/it")) {
        let folder = source.path.with_extension("");
        assert!(!folder.is_dir(), "{} lies beside a folder of its name", source.path.display());
    }
}

#[test]
fn a_type_has_its_name_for_itself() {
    // The type of an error in `FromStr` and its like is no name of ours.
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in Source::all("src") {
        for name in source.types() {
            places.entry(name).or_default().push(source.path.display().to_string());
        }
    }
    let twice: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(twice.is_empty(), "names of several types: {twice:#?}");
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let long: Vec<String> = Source::all("src")
        .into_iter()
        .chain(Source::all("tests/it"))
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:?}");
}

/// Where the tests of a room or a command are: `tests/it/db/queue` or `tests/it/list.rs`.
fn tests_at(place: &str) -> bool {
    let place = Path::new("tests/it").join(place);
    place.is_dir() || place.with_extension("rs").is_file()
}

#[test]
fn every_room_has_its_tests() {
    for (room, _) in ROOMS {
        let place = room.replace("::", "/");
        let inside = || Source::all(&format!("src/{place}")).iter().any(Source::has_tests);
        assert!(
            tests_at(&place) || inside(),
            "{room} has no tests/it/{place}.rs, no folder of that name, and no tests inside"
        );
    }
}

#[test]
fn every_subcommand_has_its_tests() {
    let shared = |name: &str| SHARED_BY_COMMANDS.contains(&name) || NO_COMMANDS.contains(&name);
    for name in names_in("src/cli").into_iter().filter(|name| !shared(name)) {
        // The verbs of a room that has the command's name may be among its own.
        assert!(
            tests_at(&format!("cli/{name}")) || tests_at(&name),
            "the subcommand {name} has no tests/it/cli/{name}.rs, and there is no room of its name"
        );
    }
}

#[test]
fn tests_are_named_after_rooms_and_subcommands() {
    let commands = names_in("src/cli");
    for (folder, beside, known) in [
        (
            "tests/it",
            WHOLE.map(|(name, _)| name).to_vec(),
            ROOMS.iter().map(|(room, _)| top_of(room)).collect(),
        ),
        ("tests/it/db", vec![], ROOMS.iter().filter_map(|(room, _)| room.strip_prefix("db::")).collect()),
        ("tests/it/cli", vec!["reference"], commands.iter().map(String::as_str).collect::<Vec<_>>()),
    ] {
        for name in names_in(folder) {
            assert!(
                beside.contains(&&*name) || known.contains(&&*name),
                "{folder}/{name} has the name of no room and no subcommand"
            );
        }
    }
}

fn top_of(room: &'static str) -> &'static str {
    room.split("::").next().unwrap()
}

/// The modules of a folder by their names.
fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| !matches!(&**name, "mod" | "main")).collect()
}
