//! What docs/security.md says is tried: each of its sentences names a test, and each test that it names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let text = super::below(Path::new("tests"), "rs") + &super::below(Path::new("src"), "rs");
    let (mut tests, mut is_test) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            tests.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    tests
}

/// What stands in backquotes and is made like the name of a test.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| {
        name.matches('_').count() >= 3
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

#[test]
fn what_the_page_of_security_says_is_tried_by_the_tests_that_it_names() {
    let page = fs::read_to_string("docs/security.md").unwrap();
    let tests = tests();
    assert!(tests.contains("what_the_page_of_security_says_is_tried_by_the_tests_that_it_names"));
    let mut names = 0;
    for name in named(&page) {
        assert!(tests.contains(name), "docs/security.md names {name}, which is no test");
        names += 1;
    }
    assert!(names > 50, "{names}");
    let (tried, _) = page.split_once("\n## What nothing of this helps against").unwrap();
    for section in tried.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        let sentences: Vec<&str> = section.split("\n- ").skip(1).collect();
        assert!(sentences.len() >= 2, "{title}");
        for sentence in sentences {
            // What somebody can do is no promise.
            let is_tried = named(sentence).next().is_some() || sentence.contains("**can**");
            assert!(is_tried, "{title}: no test for: {sentence}");
        }
    }
}
