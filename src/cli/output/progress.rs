//! How far a long command has come: a bar on a terminal, elsewhere a line of the log now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use tracing::info;

/// Between two lines of the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Work that goes on, counted in pieces.
#[derive(Debug)]
pub(in crate::cli) struct Progress {
    what: String,
    total: Option<u64>,
    done: u64,
    began: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins; `total` is how many pieces there will be, where that is known, and `what` names them ("calls rebuilt").
    pub(in crate::cli) fn new(total: Option<u64>, what: &str) -> Self {
        let template = if total.is_some() {
            "{bar:40} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left"
        } else {
            "{spinner} {human_pos} {msg}, {per_sec}, for {elapsed}"
        };
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let style = ProgressStyle::with_template(template);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_message(what.to_owned())
        });
        let now = Instant::now();
        Self { what: what.to_owned(), total, done: 0, began: now, said: now, bar }
    }

    /// So many more are done.
    pub(in crate::cli) fn advance(&mut self, pieces: u64) {
        self.done += pieces;
        if let Some(bar) = &self.bar {
            bar.inc(pieces);
            bar.tick();
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            info!("{}", sentence(&self.what, self.done, self.total, self.began.elapsed()));
        }
    }

    /// The end: the bar is gone, and nothing more is said.
    pub(in crate::cli) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far it is, how fast, and how long it will take at that pace.
fn sentence(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let Some(total) = total else { return format!("{done} {what}, {rate:.0} a second") };
    #[expect(clippy::cast_precision_loss, reason = "a time for a person")]
    let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate.max(0.001));
    let left =
        left.map_or_else(|_| "no end in sight".to_owned(), |left| format!("{} left", HumanDuration(left)));
    format!("{done} of {total} {what}, {rate:.0} a second, {left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            sentence("calls", 6000, Some(18_000), minute),
            "6000 of 18000 calls, 100 a second, 2 minutes left"
        );
        assert_eq!(sentence("calls", 6000, None, minute), "6000 calls, 100 a second");
        assert!(sentence("calls", 0, Some(u64::MAX), minute).ends_with("no end in sight"));
        assert!(sentence("calls", 7, Some(5), Duration::ZERO).contains("7 of 5"));
    }
}
