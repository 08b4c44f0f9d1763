//! What a person or a program reads: data on stdout, words on stderr. A reader that went away (`| head`) is no error.

pub(super) mod completeness;
pub(super) mod progress;
pub(super) mod table;

use std::io::Write;

use sqlx::error::DatabaseError;

/// A line of data.
pub(super) fn stdout_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for a person.
pub(super) fn stderr_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error and its causes, each once, in the words of Postgres where it is the one that complains.
pub(super) fn explain(error: &anyhow::Error) -> String {
    let mut words = String::new();
    let theirs = error.chain().find_map(|cause| cause.downcast_ref::<Box<dyn DatabaseError>>());
    for cause in error.chain() {
        let mut said = cause.to_string();
        if let Some(theirs) = theirs {
            // It adds a line of the source of Postgres.
            said = said.replace(&theirs.to_string(), theirs.message());
        }
        if !words.contains(&said) {
            words = if words.is_empty() { said } else { format!("{words}: {said}") };
        }
    }
    if theirs.is_some_and(|theirs| theirs.code().as_deref() == Some("42501")) {
        words += "\nThis user may not do that. `vobiz-cdr migrate roles`, run by the owner of the schema vobiz, lets vobiz_finance and \
                  vobiz_masked read and vobiz_app work; it is run again after each upgrade";
    }
    words
}
