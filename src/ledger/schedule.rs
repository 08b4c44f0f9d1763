//! The loop that checks days as they fall due, one account by itself, and keeps the record of how far it is safe to bill.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Ledger;
use crate::account::Account;
use crate::db::ledger::{record, safe_to_bill};
use crate::db::timed;
use crate::list::{DB_TIMEOUT, LONGEST_BACKOFF, ListError};
use crate::watch::heartbeat::Heartbeat;

/// Between two polls of safe_to_bill, where no check has moved it: it counts what is owed.
const NOTE_EVERY: Duration = Duration::from_secs(30);

impl Ledger {
    /// Checks the days of an account until told to stop.
    pub(super) async fn check_on(&self, account: &Account, heartbeat: &Heartbeat, stop: &CancellationToken) {
        let tick = self.tick();
        let mut failed = 0;
        let condition = self.metrics.condition_of(
            "days cannot be compared with the CDR list, so it is not known up to when it is safe to bill",
            "it is tried again; the error says whose turn it is",
            account.id().as_str(),
        );
        let mut next_note = Instant::now();
        while !stop.is_cancelled() {
            heartbeat.beat();
            let mut wait = tick;
            match self.check_if_due(account, stop).await {
                Err(ListError::Stopped) => {}
                Ok(checked) => {
                    failed = 0;
                    if checked.is_some() {
                        (wait, next_note) = (Duration::ZERO, Instant::now());
                    }
                    if condition.is_raised() && self.all_could_be_checked(account).await {
                        condition.clear();
                    }
                }
                // The pause itself was said.
                Err(ListError::Paused) => failed += 1,
                Err(error) => {
                    condition.raise_for(&error.brief(), error.cure());
                    // Where Postgres is away, nothing of Vobiz is to be spared: it goes on as soon as Postgres answers.
                    let is_away = error.is_of_postgres() && !account.has_postgres().await;
                    failed = if is_away { 0 } else { failed + u32::from(!error.is_clock_behind()) };
                }
            }
            if Instant::now() >= next_note {
                next_note = Instant::now() + NOTE_EVERY;
                self.note_safe_to_bill(account).await;
            }
            heartbeat.idle();
            let backoff = wait.saturating_mul(1 << failed.min(10)).min(LONGEST_BACKOFF.max(tick));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Whether no day waits for another try: that some other day could be compared says nothing of one that never can.
    async fn all_could_be_checked(&self, account: &Account) -> bool {
        let put_off =
            timed!(&self.pool, DB_TIMEOUT, |connection| record::is_any_put_off(connection, account.id()));
        put_off.await.is_ok_and(|any| !any)
    }

    /// Writes down where safe_to_bill is, if it moved, so that it can be said since when, and that it moved back.
    async fn note_safe_to_bill(&self, account: &Account) {
        let moved = timed!(&self.pool, DB_TIMEOUT, |connection| safe_to_bill::note(connection, account.id()));
        match moved.await {
            Ok(moved) => {
                for moved in moved {
                    let (account, from, to) = (moved.account_id, moved.from, moved.to);
                    if moved.back {
                        warn!(account, ?from, %to, held_by = moved.held_by, "safe to bill moved back");
                    } else {
                        info!(account, %to, held_by = moved.held_by, "safe to bill");
                    }
                }
            }
            // It is tried again with the next tick, and a Postgres that is away is said elsewhere.
            Err(error) => tracing::debug!(account = %account.id(), %error, "safe to bill could not be noted"),
        }
    }
}
