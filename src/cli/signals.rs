//! What stops a command: a signal fires a token, and the command ends by itself. `serve` goes on in `serve/mod.rs`
//! (`RunningService::until`), and ends in `serve/shutdown.rs`; SIGHUP is heard in `cli/serve.rs` and done in `RunningService::reload`.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What SIGHUP means to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// The terminal was closed: stop.
    Stop,
    /// Another part of the process listens for it.
    Ignore,
}

/// Fires on SIGTERM and SIGINT; a second one ends the process at once.
pub(super) fn stop_on_signal(on_hangup: OnHangup) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let token = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv(), if on_hangup == OnHangup::Stop => {}
            }
            if again {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
