//! That this process is configured with its accounts, said in Postgres again and again, whatever it does: who retires an account must know
//! of a process that only takes callbacks, or whose sweep has nothing to do for hours.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::setup;
use crate::config::{Part, ServeConfig};
use crate::db::account::{Replica, present};
use crate::db::{DbError, timed};
use crate::watch::metrics::Metrics;

/// Between two sayings; whoever has said nothing for two and a half minutes is gone.
const SAID_EVERY: Duration = Duration::from_secs(30);
/// A few short statements.
const SAID_WITHIN: Duration = Duration::from_secs(10);
const STALL_AFTER: Duration = Duration::from_secs(180);

/// Says it until told to stop. An account that was retired all the same (Postgres was away from here for long, or this process stood still) is
/// taken up again, as it would be at a start.
pub(super) fn say(
    pool: PgPool,
    config: &ServeConfig,
    metrics: &Metrics,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let ids = setup::ids(config);
    let asks = config.parts.iter().any(|part| matches!(part, Part::Fetch | Part::Sweep));
    let heartbeat = metrics.heartbeats.start("presence", STALL_AFTER);
    let condition = metrics.condition(
        "it cannot be said in Postgres which accounts this process works for, so one of them may be retired under it",
        "it is tried again; the error says whose turn it is",
    );
    async move {
        let replica = Replica::this();
        while !stop.is_cancelled() {
            let said = async {
                for id in &ids {
                    heartbeat.beat();
                    timed!(&pool, SAID_WITHIN, |connection| present(connection, id, &replica, asks)).await?;
                }
                timed!(&pool, SAID_WITHIN, |connection| setup::take_up(connection, &ids)).await
            };
            match said.await {
                Ok(()) => condition.clear(),
                // That Postgres is away is said by those who suffer from it.
                Err(error) if error.refuses_rows() || matches!(error, DbError::TimedOut(_)) => {
                    condition.raise_for(&error.cause(), error.cure());
                }
                Err(_) => {}
            }
            heartbeat.idle();
            tokio::select! {
                () = tokio::time::sleep(SAID_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
