//! How far a long piece of work is: a bar on a terminal, elsewhere a log line every ten seconds.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::info;

/// Between two log lines.
const EVERY: Duration = Duration::from_secs(10);

/// The progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
    said: Mutex<Instant>,
}

impl Progress {
    /// Work on so many things, if it is known how many; `what` names them: calls, pages.
    pub fn new(total: Option<u64>, what: &str) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        // It draws on stderr, and only if that is a terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let template = if total.is_some() {
            "{bar:30} {human_pos} of {human_len} {msg}, {per_sec}, {elapsed} so far, {eta} to go"
        } else {
            "{spinner} {human_pos} {msg}, {per_sec}, {elapsed} so far"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self { bar, what: what.to_owned(), said: Mutex::new(Instant::now()) }
    }

    /// So many more are done.
    pub fn advance(&self, n: u64) {
        // More than was estimated is no reason to stand at the end.
        if let Some(length) = self.bar.length()
            && self.bar.position() + n > length
        {
            self.bar.set_length(self.bar.position() + n);
        }
        self.bar.inc(n);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && said.elapsed() >= EVERY {
            *said = Instant::now();
            info!(
                done = self.bar.position(),
                of = self.bar.length(),
                what = self.what,
                per_second = format!("{:.1}", self.bar.per_sec()),
                seconds_to_go = self.bar.length().map(|_| self.bar.eta().as_secs()),
                "progress"
            );
        }
    }

    /// The work is over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
