//! `--env-file`: the settings of the service for a person's shell. A report must not be of another database than the one that the
//! service fills, only because the shell lacks `DATABASE_URL`.
//!
//! The variables go into the environment of this program, which is started anew in its place (same process id), before anything is
//! read from it: so every setting is read in one way, whoever has said it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where docs/deploy.md puts it, and where the unit for systemd reads it.
const USUAL: &str = "/etc/vobiz-cdr/vobiz-cdr.env";
/// Says which process has read it: the program that is started anew has the same number, and its children have others.
const READ_BY: &str = "ENV_FILE_READ_BY";
/// These do not look for the usual file: a service has its own settings, and the others bring all that they need.
const WITHOUT: [&str; 4] = ["serve", "demo", "simulate", "healthcheck"];
/// Flags before the command that have a value.
const VALUED: [&str; 3] = ["--env-file", "--log", "--log-format"];
/// Flags that say which database is meant.
const OF_DATABASE: [&str; 2] = ["--database-url", "--data-dir"];

/// Reads the file that `--env-file` names; else the usual one, if this user may read it and neither the environment nor the command
/// line says anything of ours: settings of two places together may name a database that nobody meant. Goes on in a program that has
/// its variables. What is in the environment already wins, a variable and its `_FILE` as one.
///
/// # Errors
/// A file that was named and cannot be read, or a line that is none, in words.
pub(super) fn load() -> Result<(), String> {
    let ourselves = std::process::id().to_string();
    if std::env::var(READ_BY).is_ok_and(|by| by == ourselves) {
        return Ok(());
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (path, text) = if let Some(path) = named(&arguments)? {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            format!("--env-file {}: {error}; name a file that this user may read", path.display())
        })?;
        (path, text)
    } else {
        let says = std::env::vars_os().any(|(name, _)| is_ours(&name.to_string_lossy()));
        if says || !looks_for_it(&arguments) {
            return Ok(());
        }
        let Ok(text) = std::fs::read_to_string(USUAL) else { return Ok(()) };
        (PathBuf::from(USUAL), text)
    };
    let variables = parse(&path, &text)?;
    let new: Vec<_> = variables.into_iter().filter(|(name, _)| !is_said(name)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe()
        .map_err(|error| format!("--env-file: our own program is not found: {error}"))?;
    let error = Command::new(program).args(&arguments).envs(new).env(READ_BY, ourselves).exec();
    Err(format!("--env-file {}: the program could not be started anew: {error}", path.display()))
}

/// A variable that is a setting of this program.
fn is_ours(name: &str) -> bool {
    ["CDR_", "VOBIZ_", "DATABASE_URL"].iter().any(|ours| name.starts_with(ours))
}

/// Whether a command line leaves to the usual file what it reads.
fn looks_for_it(arguments: &[OsString]) -> bool {
    let words: Vec<&str> =
        arguments.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let asks =
        |flags: &[&str]| words.iter().any(|word| flags.contains(&word.split('=').next().unwrap_or(word)));
    if asks(&["--help", "-h", "--version", "-V"]) || asks(&OF_DATABASE) {
        return false;
    }
    command(&words).is_some_and(|command| !WITHOUT.contains(&command) && command != "help")
}

/// The command of a command line: the first word that is neither a flag nor the value of one.
fn command<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if VALUED.contains(word) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

/// The file that the command line names.
fn named(arguments: &[OsString]) -> Result<Option<PathBuf>, String> {
    for (at, word) in arguments.iter().enumerate() {
        if word == "--" {
            break;
        }
        if word == "--env-file" {
            let path = arguments.get(at + 1).ok_or("--env-file: name a file")?;
            return Ok(Some(PathBuf::from(path)));
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--env-file=")) {
            return Ok(Some(PathBuf::from(path)));
        }
    }
    Ok(None)
}

/// Whether the environment says a variable, or says it by a file (or the other way round).
fn is_said(name: &str) -> bool {
    let other = name.strip_suffix("_FILE").map_or_else(|| format!("{name}_FILE"), str::to_owned);
    [name, &other].into_iter().any(|name| std::env::var_os(OsStr::new(name)).is_some())
}

/// Lines `NAME=value`, as in systemd's EnvironmentFile: `#` begins a comment line, quotation marks around a value are no part of it,
/// and nothing is put in for `$`. A value is one line, and a backslash is itself.
fn parse(path: &Path, text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    // A byte order mark is what some editors begin a file with.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let pair = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        // The line may hold a secret: it is not shown.
        let (name, value) = pair.filter(|(name, _)| is_name(name.trim())).ok_or_else(|| {
            format!("{}, line {}: write NAME=value, one a line", path.display(), number + 1)
        })?;
        let value = value.trim();
        let unquoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
            .unwrap_or(value);
        variables.push((name.trim().to_owned(), unquoted.to_owned()));
    }
    Ok(variables)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        parse(Path::new("x.env"), text)
    }

    #[test]
    fn lines_are_read_as_systemd_reads_them() {
        let text = "\u{feff}# a comment\n; another\n\nA=1\n export B = two words \nC=\"a $HOME 'b'\"\r\nD='x\"'\nE=\nF=a=b\n";
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "a $HOME 'b'"), ("D", "x\""), ("E", ""), ("F", "a=b")];
        assert_eq!(parsed(text).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_shown() {
        for text in ["A=1\nhunter2", "=hunter2", "1A=hunter2", "A B=hunter2", "A-B=hunter2"] {
            let words = parsed(text).unwrap_err();
            assert!(words.starts_with("x.env, line ") && !words.contains("hunter2"), "{words}");
        }
    }

    #[test]
    fn the_usual_file_is_for_commands_that_say_no_database_themselves() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        for text in [
            "report billing_day",
            "--log debug verify",
            "--log=debug verify --account demo",
            "dead-letters close X --reason demo",
            "postgres psql -- --data-dir x",
        ] {
            assert!(looks_for_it(&words(text)), "{text}");
        }
        for text in [
            "serve",
            "--log debug serve",
            "demo",
            "simulate --calls 3",
            "verify --repair --data-dir /srv/copy",
            "verify --database-url=postgres://x",
            "report --help",
            "--version",
            "help report",
            "",
        ] {
            assert!(!looks_for_it(&words(text)), "{text}");
        }
        assert!(is_ours("CDR_DATA_DIR") && is_ours("DATABASE_URL_FILE") && is_ours("VOBIZ_AUTH_ID"));
        assert!(!is_ours("PATH") && !is_ours("RUST_LOG"));
    }

    #[test]
    fn the_flag_is_found_wherever_it_stands() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for text in
            ["report --env-file x.env bill", "--env-file=x.env report", "report bill --env-file x.env"]
        {
            assert_eq!(named(&words(text)).unwrap(), Some(PathBuf::from("x.env")), "{text}");
        }
        for text in ["report bill", "postgres psql -- --env-file x"] {
            assert_eq!(named(&words(text)).unwrap(), None, "{text}");
        }
        assert!(named(&words("report --env-file")).is_err());
    }
}
