//! A port: connections that are bounded in number and in time. (`axum::serve` sets no timer, so a client that never
//! finishes its headers would hold a connection for ever.)

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::debug;

use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// The timeout of a port, and how full it may get.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A client has this long to send its headers, and an idle connection is kept this long.
    pub headers_within: Duration,
    /// Connections at once; further ones wait in the kernel's backlog.
    pub connections: usize,
}

/// Open files that are for other things than connections of clients: Postgres, the API, the log, the ops port.
const OTHER_FILES: u64 = 64;

/// The public port. The cap times the longest body is more memory than a container has, but a body is only read after headers
/// that we may refuse, and an honest callback has 674 bytes.
pub const PUBLIC: Limits = Limits { headers_within: Duration::from_secs(10), connections: 2048 };

impl Limits {
    /// No more connections than this process may open files for: else the files run out before the port is full, and with them
    /// what Postgres and the API need.
    #[must_use]
    pub fn within_open_files(self, open_files: Option<u64>) -> Self {
        let most = open_files.map(|files| files.saturating_sub(OTHER_FILES).max(16));
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        Self { connections: self.connections.min(most), ..self }
    }
}
/// The ops port: a few scrapers and people.
pub const OPS: Limits = Limits { headers_within: Duration::from_secs(10), connections: 64 };

/// Serves until told to stop; then lets the requests in hand end. The caller bounds the waiting.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    heartbeat: Arc<Heartbeat>,
    stop: CancellationToken,
) {
    let capacity = Arc::new(Semaphore::new(limits.connections));
    let tracker = TaskTracker::new();
    let full = metrics.condition(
        "the port is full: new connections wait until others end",
        "see who holds so many open: a proxy, or an attack",
    );
    let refused = metrics
        .condition("connections cannot be accepted", "is the limit of open files (ulimit -n) too low?");
    // A client that comes in vain is not seen from inside: a port that stands full or cannot accept is as good as stalled.
    let mut failing = false;
    loop {
        if !failing {
            heartbeat.beat();
        }
        if capacity.available_permits() == 0 {
            full.raise(&limits.connections);
        } else if capacity.available_permits() > limits.connections / 10 {
            full.clear();
        }
        // A full port leaves connections in the kernel's backlog instead of taking them in.
        let permit = tokio::select! {
            permit = Arc::clone(&capacity).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        if !failing {
            heartbeat.idle();
        }
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => {
                    failing = false;
                    refused.clear();
                    accepted
                }
                Err(error) => {
                    // Out of file descriptors, most likely: the next one may be closed soon.
                    refused.raise(&error);
                    if !failing {
                        heartbeat.beat();
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(async move {
            converse(stream, address, router, limits.headers_within, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    headers_within: Duration,
    stop: CancellationToken,
) {
    // An answer is one small segment: do not wait for more.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_within)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%address, %error, "connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, connections) in
            [(Some(1024), 960), (Some(65_536), 2048), (Some(2112), 2048), (Some(70), 16), (None, 2048)]
        {
            assert_eq!(PUBLIC.within_open_files(files).connections, connections, "{files:?}");
        }
    }
}
