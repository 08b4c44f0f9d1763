//! What a person or a program reads: data on stdout, words on stderr. A reader that went away (`| head`) is no error; data that
//! cannot be written for another reason is one of every command.

pub(super) mod completeness;
pub(super) mod progress;
pub(super) mod table;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use sqlx::error::DatabaseError;

use crate::vobiz::{plain_json, plain_lines};

/// The first failure to write data. A command prints in many places, and goes on: what it does is worth more than what it says of it.
/// But it does not end well.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Where data goes. Writing to it never fails: a reader that went away wants no more, and any other failure is kept for the end.
#[derive(Debug)]
pub(super) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = write_all(bytes);
        keep(written);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// So many of something, in the form of the word that goes with the number.
pub(super) fn counted<N: Copy + std::fmt::Display + PartialEq + From<u8>>(
    count: N,
    one: &str,
    many: &str,
) -> String {
    let word = if count == N::from(1) { one } else { many };
    format!("{count} {word}")
}

#[expect(clippy::disallowed_methods, reason = "the one place that writes data")]
fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    // Else what is not written at once fails when nobody looks any more.
    out.flush()
}

/// Whether a person looks at the data.
#[expect(clippy::disallowed_methods, reason = "it writes nothing")]
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Whether all data reached its reader, or a reader that wanted no more: asked at the end of the program.
pub(super) fn ended() -> Result<(), io::Error> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// A line of data for a person, or a table: a terminal obeys nothing that a record says.
pub(super) fn stdout_line(line: &str) {
    keep(write_all(format!("{}\n", plain_lines(line)).as_bytes()));
}

/// A line of JSON: what a terminal would obey is escaped, so it says the same.
pub(super) fn json_line(json: &str) {
    keep(write_all(format!("{}\n", plain_json(json)).as_bytes()));
}

/// A line for a person.
pub(super) fn stderr_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain_lines(text));
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
    let code = theirs.and_then(|theirs| theirs.code().map(std::borrow::Cow::into_owned));
    // Sessions of those who read are read-only: for what writes, the second is the same refusal as the first.
    if matches!(code.as_deref(), Some("42501" | "25006")) {
        words += "\nThis user may not do that. What only reads is for vobiz_finance and vobiz_masked; what writes (verify --repair, reparse, \
                  backfill, dead-letters revive and close) is for vobiz_app, or the owner of the schema vobiz. `vobiz-cdr migrate roles`, \
                  run by the owner, gives these roles their rights; it is run again after each upgrade";
    }
    words
}
