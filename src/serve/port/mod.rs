//! A port: connections that are bounded in number and in time. (`axum::serve` sets no timer, so a client that never
//! finishes its headers would hold a connection for ever.)
//!
//! Who has a place and who gives way is in `places.rs`, what ends a client that does not read in `stream.rs`.

mod places;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::debug;

use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;
use places::{Admission, HeldPlace, PortPlaces};
use stream::{AwaitedBody, BoundedStream};

/// The timeouts of a port, and how full it may get.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A client has this long to send its headers, and an idle connection is kept this long; a fifth of it on a crowded port.
    pub headers_within: Duration,
    /// From the last header to the answer, whatever the request.
    pub request_within: Duration,
    /// A client has this long to take its answer.
    pub write_within: Duration,
    /// Connections at once. Where there are as many, one that keeps us waiting gives way to the next; where all are at work,
    /// further ones wait in the kernel's backlog.
    pub connections: usize,
    /// Of these, connections of one address.
    pub per_address: Option<usize>,
    /// Beyond these, connections of loopback.
    pub for_loopback: usize,
}

/// Open files that are for other things than connections of clients: Postgres, the API, the log, the ops port.
const OTHER_FILES: u64 = 128;

/// The longest head of a request, and what is read of a body at once. A captured callback has 1.5 KiB of them.
const HEAD: usize = 16 * 1024;

/// The public port.
pub const PUBLIC: Limits = Limits {
    headers_within: Duration::from_secs(10),
    request_within: Duration::from_secs(15),
    write_within: Duration::from_secs(10),
    connections: 2048,
    per_address: Some(256),
    for_loopback: 0,
};

/// The ops port: a few scrapers and people, and the checks of the host itself (HEALTHCHECK), which strangers must not keep out.
pub const OPS: Limits = Limits { connections: 64, per_address: None, for_loopback: 8, ..PUBLIC };

impl Limits {
    /// No more connections than this process may open files for: else the files run out before the port is full, and with them
    /// what Postgres and the API need.
    #[must_use]
    pub fn within_open_files(self, open_files: Option<u64>) -> Self {
        let most = open_files.map(|files| files.saturating_sub(OTHER_FILES).max(16));
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        Self { connections: self.connections.min(most), ..self }
    }

    /// On a crowded port a connection may keep us waiting for no longer than this.
    fn short_idle(self) -> Duration {
        self.headers_within / 5
    }
}

/// Connections that the kernel takes for us until we do: as many as strangers open at once, since one that finds no room there comes again
/// only after a second, and then after two. The kernel's own limit (`net.core.somaxconn`) is 4096 since Linux 5.4.
const BACKLOG: u32 = 4096;

/// A listener on this address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does: the connections of the process before may not have ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until told to stop; then lets the requests in hand end. The caller bounds the waiting.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    heartbeat: Arc<Heartbeat>,
    stop: CancellationToken,
) {
    let places = PortPlaces::new(limits);
    let tracker = TaskTracker::new();
    let full = metrics.condition(
        "the port is full: who keeps it waiting gives way, and new connections wait where all are at work",
        "see who holds so many open: a proxy, or an attack",
    );
    let refused = metrics
        .condition("connections cannot be accepted", "is the limit of open files (ulimit -n) too low?");
    // A client that comes in vain is not seen from inside: a port that stands full or cannot accept is as good as stalled.
    let mut failing = false;
    heartbeat.beat();
    heartbeat.idle();
    loop {
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
        heartbeat.beat();
        let place = tokio::select! {
            place = find_place(&places, address, &metrics, || full.raise(&limits.connections)) => place,
            () = stop.cancelled() => break,
        };
        heartbeat.idle();
        if places.is_roomy() {
            full.clear();
        }
        let Some(place) = place else { continue };
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(converse(stream, address, router, limits, place, stop));
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

/// A place for a connection, as soon as there is one; none where its address has its share.
async fn find_place(
    places: &Arc<PortPlaces>,
    address: SocketAddr,
    metrics: &Metrics,
    full: impl Fn(),
) -> Option<HeldPlace> {
    loop {
        match places.enter(address.ip()) {
            Admission::Admitted(place, gave_way) => {
                if gave_way > 0 {
                    metrics.connections_closed.with_label_values(&["gave_way"]).inc_by(gave_way as u64);
                }
                return Some(place);
            }
            Admission::AddressFull => {
                metrics.connections_closed.with_label_values(&["address_full"]).inc();
                debug!(%address, "connection closed: its address has as many as it may");
                return None;
            }
            Admission::Full => {
                full();
                places.freed().await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    limits: Limits,
    place: HeldPlace,
    stop: CancellationToken,
) {
    // An answer is one small segment: do not wait for more.
    let _ = stream.set_nodelay(true);
    let seat = Arc::clone(&place.seat);
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        seat.work();
        seat.set_unread(false);
        let mut request = request.map(|body| AwaitedBody::of(body, Arc::clone(&seat)));
        request.extensions_mut().insert(ConnectInfo(address));
        let router = router.clone();
        let (place, seat) = (&place, &seat);
        async move {
            // One request a turn: who sends a thousand at once has as many turns as who sends one.
            tokio::task::yield_now().await;
            let mut answer = answer(router, request, limits.request_within).await;
            if place.is_crowded() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            seat.wait(seat.now());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers_within)
        .max_buf_size(HEAD)
        // One that says all it has to say and then closes its side is answered all the same.
        .half_close(true)
        .serve_connection(
            TokioIo::new(BoundedStream::new(stream, Arc::clone(&seat), limits.write_within)),
            service,
        );
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = seat.give_way.cancelled() => {
            if seat.awaited_since().is_some() {
                return;
            }
            // A request has come just now: it is answered, and is the last.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%address, %error, "connection ended badly");
    }
}

async fn answer(router: Router, request: Request, within: Duration) -> Response {
    match tokio::time::timeout(within, router.oneshot(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, connections) in
            [(Some(1024), 896), (Some(65_536), 2048), (Some(2176), 2048), (Some(70), 16), (None, 2048)]
        {
            assert_eq!(PUBLIC.within_open_files(files).connections, connections, "{files:?}");
        }
    }
}
