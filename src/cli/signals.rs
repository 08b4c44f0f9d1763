//! What stops a command: a signal fires a token, and the command ends by itself. `serve` goes on in `serve/mod.rs`
//! (`RunningService::until`), and ends in `serve/shutdown.rs`; SIGHUP is heard in `cli/serve.rs` and done in `RunningService::reload`.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A supervisor and a terminal may both send a signal for one and the same word to stop: within this they are one.
const ONE_WORD: Duration = Duration::from_secs(2);

/// What SIGHUP means to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// The terminal was closed: stop.
    Stop,
    /// Another part of the process listens for it.
    Ignore,
}

/// A word to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopWord {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM, or SIGHUP where it means so.
    Terminate,
}

/// What follows from a word to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// Begin to stop.
    Stop,
    /// It is under way.
    GoOn,
    /// End at once: somebody does not want to wait.
    EndNow,
}

/// The words so far.
#[derive(Debug, Default)]
struct Words {
    first: Option<Instant>,
    interrupts: u32,
}

impl Words {
    fn hear(&mut self, word: StopWord, now: Instant) -> Reaction {
        self.interrupts += u32::from(word == StopWord::Interrupt);
        let Some(first) = self.first else {
            self.first = Some(now);
            return Reaction::Stop;
        };
        if self.interrupts > 1 || now.duration_since(first) >= ONE_WORD {
            Reaction::EndNow
        } else {
            Reaction::GoOn
        }
    }
}

/// Fires on SIGTERM and SIGINT. A second Ctrl-C ends the process at once, and so does any further word two seconds after the first.
/// SIGUSR1 and SIGUSR2, which end a process that has not heard of them, mean nothing.
pub(super) fn stop_on_signal(on_hangup: OnHangup) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut first, mut second) =
        (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let token = stop.clone();
    tokio::spawn(async move {
        let mut words = Words::default();
        loop {
            let word = tokio::select! {
                _ = term.recv() => StopWord::Terminate,
                _ = interrupt.recv() => StopWord::Interrupt,
                _ = hangup.recv(), if on_hangup == OnHangup::Stop => StopWord::Terminate,
                _ = first.recv() => { info!("SIGUSR1 means nothing here"); continue }
                _ = second.recv() => { info!("SIGUSR2 means nothing here"); continue }
            };
            match words.hear(word, Instant::now()) {
                Reaction::Stop => token.cancel(),
                Reaction::GoOn => {}
                Reaction::EndNow => std::process::exit(130),
            }
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_at_once_are_one_and_a_second_ctrl_c_is_not() {
        use Reaction::{EndNow, GoOn, Stop};
        use StopWord::{Interrupt, Terminate};
        let start = Instant::now();
        for (heard, steps) in [
            (vec![(Terminate, 0), (Terminate, 1)], vec![Stop, GoOn]),
            (vec![(Terminate, 0), (Interrupt, 1), (Terminate, 1999)], vec![Stop, GoOn, GoOn]),
            (vec![(Interrupt, 0), (Terminate, 1), (Interrupt, 2)], vec![Stop, GoOn, EndNow]),
            (vec![(Terminate, 0), (Terminate, 2000)], vec![Stop, EndNow]),
            (vec![(Terminate, 0), (Interrupt, 5000)], vec![Stop, EndNow]),
        ] {
            let mut words = Words::default();
            let followed: Vec<Reaction> = heard
                .iter()
                .map(|(word, after)| words.hear(*word, start + Duration::from_millis(*after)))
                .collect();
            assert_eq!(followed, steps, "{heard:?}");
        }
    }
}
