//! A proxy between the service and Postgres that can swallow everything or cut every connection: the network on a bad day.

use std::path::PathBuf;

use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    BlackHole,
    Cut,
}

/// Where Postgres really is.
#[derive(Clone)]
enum Upstream {
    Socket(PathBuf),
    Tcp(String),
}

/// A proxy that runs until the end of the test.
pub(crate) struct ChaosProxy {
    /// The database, seen through the proxy.
    pub(crate) url: String,
    mode: watch::Sender<Mode>,
}

impl ChaosProxy {
    /// In front of a database; lets everything pass at first.
    pub(crate) async fn before(database: &str) -> Self {
        let mut url = Url::parse(database).unwrap();
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let socket = pairs.iter().find(|(name, value)| name == "host" && value.starts_with('/'));
        let upstream = match socket {
            Some((_, folder)) => Upstream::Socket(PathBuf::from(folder).join(".s.PGSQL.5432")),
            None => Upstream::Tcp(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        url.query_pairs_mut().clear();
        for (name, value) in pairs.iter().filter(|(name, _)| name != "host" && name != "port") {
            url.query_pairs_mut().append_pair(name, value);
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let (mode, watched) = watch::channel(Mode::Pass);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(converse(client, upstream.clone(), watched.clone()));
            }
        });
        Self { url: url.to_string(), mode }
    }

    /// From now on nothing comes through, in either direction, and nobody is told.
    pub(crate) fn black_hole(&self) {
        self.mode.send_replace(Mode::BlackHole);
    }

    /// From now on connections are closed, and new ones as well.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// All is well again; what was swallowed comes through late.
    pub(crate) fn restore(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn converse(client: TcpStream, upstream: Upstream, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let (near_read, near_write) = client.into_split();
    match upstream {
        Upstream::Socket(path) => {
            let Ok(far) = UnixStream::connect(path).await else { return };
            let (far_read, far_write) = far.into_split();
            join(near_read, near_write, far_read, far_write, mode).await;
        }
        Upstream::Tcp(address) => {
            let Ok(far) = TcpStream::connect(address).await else { return };
            let (far_read, far_write) = far.into_split();
            join(near_read, near_write, far_read, far_write, mode).await;
        }
    }
}

/// Either side's end ends both.
async fn join(
    near_read: impl AsyncRead + Unpin,
    near_write: impl AsyncWrite + Unpin,
    far_read: impl AsyncRead + Unpin,
    far_write: impl AsyncWrite + Unpin,
    mode: watch::Receiver<Mode>,
) {
    tokio::select! {
        () = pump(near_read, far_write, mode.clone()) => {}
        () = pump(far_read, near_write, mode) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => return,
        };
        let Ok(1..) = read else { return };
        let passes =
            mode.wait_for(|mode| *mode != Mode::BlackHole).await.is_ok_and(|mode| *mode == Mode::Pass);
        if !passes || to.write_all(&buffer[..read.unwrap_or(0)]).await.is_err() {
            return;
        }
    }
}
