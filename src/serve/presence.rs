//! That this process is configured with its accounts, and what it does for them, said in Postgres again and again: who retires an account must
//! know of a process that only takes callbacks, or whose sweep has nothing to do for hours; and where nobody fetches, it must be known.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::setup;
use crate::config::{Part, ServeConfig};
use crate::db::account::{Duty, Replica, leave_others, present};
use crate::db::{DbError, timed};
use crate::vobiz::AccountId;
use crate::watch::metrics::Metrics;

/// Between two sayings; whoever has said nothing for two and a half minutes is gone.
const SAID_EVERY: Duration = Duration::from_secs(15);
/// A few short statements.
const SAID_WITHIN: Duration = Duration::from_secs(10);
const STALL_AFTER: Duration = Duration::from_secs(180);
/// Who retired an account that goes on all the same is told so for this long.
const TAKEN_UP_FOR: Duration = Duration::from_secs(3600);

/// What is said of this process.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    ids: Vec<AccountId>,
    duty: Duty,
}

impl Presence {
    pub(super) fn of(config: &ServeConfig) -> Self {
        let has = |part| config.parts.contains(&part);
        let duty = match (has(Part::Fetch), has(Part::Sweep)) {
            (true, _) => Duty::Fetch,
            (false, true) => Duty::List,
            (false, false) => Duty::Receive,
        };
        Self { ids: setup::ids(config), duty }
    }

    /// Says it once.
    pub(super) async fn say(&self, pool: &PgPool) -> Result<(), DbError> {
        let replica = Replica::this();
        for id in &self.ids {
            timed!(pool, SAID_WITHIN, |connection| present(connection, id, &replica, self.duty)).await?;
        }
        Ok(())
    }

    /// Says it until told to stop, and takes back what it has said of accounts that are no longer configured. An account that was retired
    /// all the same (Postgres was away from here for long, or this process stood still) is taken up again, as it would be at a start.
    pub(super) fn say_on(
        self,
        pool: PgPool,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let heartbeat = metrics.heartbeats.start("presence", STALL_AFTER);
        let condition = metrics.condition(
            "it cannot be said in Postgres which accounts this process works for, so one of them may be retired under it",
            "it is tried again; the error says whose turn it is",
        );
        let taken_up = metrics.condition(
            "an account was retired while this process, which is configured with it, could not say so: the promise for it goes on",
            "if it is to end, take it out of the settings of every process (this one among them), SIGHUP, and retire it again; else there is \
             nothing to do. This is said for an hour",
        );
        async move {
            let replica = Replica::this();
            let mut last_taken_up: Option<(Instant, String)> = None;
            while !stop.is_cancelled() {
                heartbeat.beat();
                let said = async {
                    self.say(&pool).await?;
                    if !stop.is_cancelled() {
                        timed!(&pool, SAID_WITHIN, |connection| leave_others(
                            connection, &replica, &self.ids
                        ))
                        .await?;
                    }
                    timed!(&pool, SAID_WITHIN, |connection| setup::take_up(connection, &self.ids)).await
                };
                match said.await {
                    Ok(again) => {
                        condition.clear();
                        if !again.is_empty() {
                            last_taken_up = Some((Instant::now(), again.join(", ")));
                        }
                    }
                    // That Postgres is away is said by those who suffer from it.
                    Err(error) if error.refuses_rows() || matches!(error, DbError::TimedOut(_)) => {
                        condition.raise_for(&error.cause(), error.cure());
                    }
                    Err(_) => {}
                }
                match &last_taken_up {
                    Some((at, accounts)) if at.elapsed() < TAKEN_UP_FOR => taken_up.raise(accounts),
                    _ => taken_up.clear(),
                }
                heartbeat.idle();
                tokio::select! {
                    () = tokio::time::sleep(SAID_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}
