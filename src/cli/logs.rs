//! The log on stderr.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Starts it. A filter that cannot be read is said in words for a person.
pub(super) fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log: {error}; write a filter such as info or vobiz_cdr=debug"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for a terminal; a file or a collector gets plain text.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    Ok(())
}
