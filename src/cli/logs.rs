//! The log on stderr, an event a line.

use std::borrow::Cow;
use std::io::{self, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::vobiz::{plain, plain_json};

/// What is logged unless `--log` says something else.
pub(super) const USUAL: &str = "info,sqlx=warn,sqlx_core::pool=error";
/// The same for a command whose own words fill the terminal.
pub(super) const QUIET: &str = "error";

/// Form of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Stderr, to which each event is written at once. An event may quote what others said: it begins no line of its own, and a terminal
/// obeys nothing of it.
struct Events {
    shown: fn(&str) -> Cow<'_, str>,
}

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let line = (self.shown)(event.strip_suffix('\n').unwrap_or(&event));
        io::stderr().lock().write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same, but for colours.
fn coloured(line: &str) -> Cow<'_, str> {
    let mut parts = line.split('\u{1b}');
    let mut shown = plain(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let colour = part.strip_prefix('[').and_then(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            rest[end..].starts_with('m').then_some("[m".len() + end)
        });
        let (escape, from) = colour.map_or(("\\u{1b}", 0), |end| ("\u{1b}", end));
        shown.extend([escape, &part[..from], &plain(&part[from..])]);
    }
    shown.into()
}

/// Starts it. A filter that cannot be read is said in words for a person.
pub(super) fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log: {error}; write a filter such as info or vobiz_cdr=debug"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for a terminal; a file or a collector gets plain text.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let shown: fn(&str) -> Cow<'_, str> = match format {
        LogFormat::Json => plain_json,
        LogFormat::Text if colours => coloured,
        LogFormat::Text => plain,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(move || Events { shown }).with_ansi(colours);
    match format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_all_that_a_terminal_obeys() {
        let line = "\u{1b}[2mtoday\u{1b}[0m\u{1b}[1;32m INFO\u{1b}[0m";
        assert_eq!(coloured(line), line);
        assert_eq!(
            coloured("a\u{1b}[2Jb\u{1b}]0;c\u{7}\nd\u{202e}"),
            "a\\u{1b}[2Jb\\u{1b}]0;c\\u{7} d\\u{202e}"
        );
        assert_eq!(coloured("\u{1b}"), "\\u{1b}");
    }
}
