//! An endpoint behind a real port, and bytes to send it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::serve::port::{Limits, PUBLIC, listen};
use vobiz_cdr::watch::heartbeat::Heartbeats;

use super::endpoint::{OpenEndpoint, PATH, SECRET};

/// An endpoint behind a real port.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<()>,
}

impl Port {
    pub(crate) async fn open(endpoint: OpenEndpoint) -> Self {
        Self::open_with(endpoint, PUBLIC).await
    }

    pub(crate) async fn open_with(endpoint: OpenEndpoint, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ended = tokio::spawn(listen(
            listener,
            endpoint.router,
            limits,
            vobiz_cdr::watch::metrics::Metrics::new(),
            Heartbeats::default().start("receive", Duration::from_secs(60)),
            stop.clone(),
        ));
        Self { address, stop, ended }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a text and reads what comes until the connection is closed.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }
}

/// Handlers that are at work until they are told to end.
#[derive(Default, Clone)]
pub(crate) struct Busy {
    pub(crate) began: Arc<AtomicUsize>,
    pub(crate) end: CancellationToken,
}

impl Busy {
    pub(crate) fn router(&self) -> axum::Router {
        let busy = self.clone();
        axum::Router::new().fallback(move || {
            busy.began.fetch_add(1, Ordering::Relaxed);
            busy.end.clone().cancelled_owned()
        })
    }
}

pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset after its answer has answered all the same.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer without a body.
pub(crate) async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

pub(crate) fn hangup(call_id: &str, more: &str) -> String {
    let body = format!("Event=Hangup&CallUUID={call_id}");
    format!("POST {PATH}/{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}
