//! What comes from elsewhere is named by what it is, not by a name that others can give to something else tomorrow.

use std::fs;

/// The lines of a file that name something from elsewhere, and what they name.
fn named(path: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|why| panic!("{path}: {why}"));
    let named = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix(key)?.split_whitespace().next().map(str::to_owned)
    });
    named.collect()
}

fn ends_in(name: &str, mark: &str, digits: usize) -> bool {
    name.rsplit_once(mark).is_some_and(|(_, hash)| {
        hash.len() == digits && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[test]
fn actions_are_named_by_commit() {
    for entry in fs::read_dir(".github/workflows").unwrap() {
        let path = entry.unwrap().path().display().to_string();
        let actions = named(&path, "uses: ");
        assert!(!actions.is_empty(), "{path} uses no action");
        for action in actions {
            assert!(ends_in(&action, "@", 40), "{path}: {action} has no commit behind its @");
        }
    }
}

#[test]
fn images_are_named_by_digest() {
    let mut images = named("Dockerfile", "FROM ");
    assert!(images.len() > 1, "{images:?}");
    for file in ["compose.yaml", "compose.split.yaml"] {
        images.extend(named(file, "image: "));
    }
    // The one that is built here.
    images.retain(|image| image != "vobiz-cdr");
    assert!(images.iter().any(|image| image.starts_with("postgres:")), "{images:?}");
    for image in images {
        assert!(ends_in(&image, "@sha256:", 64), "{image} has no digest");
    }
}
