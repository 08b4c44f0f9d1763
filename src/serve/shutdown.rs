//! The ending of a service after SIGTERM (heard in `cli/signals.rs`), in order: no callback is promised any more, the workers finish
//! what is in hand, the endpoint takes callbacks a little longer, the connections close, the ops port goes last. Each step has its
//! deadline; all of it fits into the 25 s that a supervisor waits.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::{OpsPort, RunningService, setup};
use crate::ops::Phase;

/// After the word to stop, callbacks are taken this long: trunk webhooks are not sent again (documented).
const ACCEPT_AFTER_STOP: Duration = Duration::from_secs(5);
/// The loops end within this.
const LOOPS_END_WITHIN: Duration = Duration::from_secs(22);
/// A client that keeps a connection of the ops port open does not hold up the end.
const OPS_PORT_ENDS_WITHIN: Duration = Duration::from_millis(500);
/// All connections close within this, those of the ops port included.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const _: () = assert!(
    ACCEPT_AFTER_STOP.as_secs() >= 5
        && ACCEPT_AFTER_STOP.as_secs() < LOOPS_END_WITHIN.as_secs()
        && OPS_PORT_ENDS_WITHIN.as_millis() < CLOSE_WITHIN.as_millis()
        && LOOPS_END_WITHIN.as_secs() + CLOSE_WITHIN.as_secs() <= 25,
    "callbacks are taken for 5 s more, and a supervisor kills after 25 s"
);

/// How a service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Takes callbacks for five more seconds: the ordinary way.
    Graceful,
    /// Ends as soon as what is in hand is finished: where nobody calls any more.
    AtOnce,
}

impl RunningService {
    pub(super) async fn end(self, ending: Ending) {
        let Self { ops, ops_port, endpoint, mut loops, pool, receive_pool, poll_pool, .. } = self;
        let OpsPort { mut server, stop: stop_ops_port, .. } = ops_port;
        info!("stopping: callbacks are taken a little longer, what is in hand is finished");
        // Unready first, so that a load balancer turns away while callbacks are still taken.
        ops.enter(Phase::Stopping);
        ops.set_probe(None);
        let receives = endpoint.is_some();
        drop(endpoint);
        self.stop_workers.cancel();
        self.stop_rest.cancel();
        let ended = timeout(LOOPS_END_WITHIN, async {
            if ending == Ending::Graceful && receives {
                tokio::time::sleep(ACCEPT_AFTER_STOP).await;
            }
            self.stop_endpoint.cancel();
            while loops.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            warn!("not everything ended in time: what is left falls due again");
        }
        drop(loops);
        setup::leave(&pool).await;
        stop_ops_port.cancel();
        let closed = async {
            let _ = timeout(OPS_PORT_ENDS_WITHIN, &mut server).await;
            receive_pool.close().await;
            poll_pool.close().await;
            pool.close().await;
        };
        if timeout(CLOSE_WITHIN, closed).await.is_err() {
            warn!("connections to Postgres were still busy at the end");
        }
        info!("stopped");
    }
}
