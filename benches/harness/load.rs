//! The load: ready-made requests over kept-alive connections. The client is a few lines on a socket, because what it costs is
//! taken from the two cores that it shares with what it measures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long single answers took, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Of these.
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// Milliseconds that this share of all stayed within: 0.99 for p99.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in a list"
        )]
        let place = (self.0.len() as f64 * share) as usize;
        self.0.get(place.min(self.0.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    }

    /// How many there were.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a load met.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers a second, over the whole time.
    pub(crate) per_second: f64,
    /// How long they took.
    pub(crate) latencies: Latencies,
    /// Answers other than 200.
    pub(crate) failed: usize,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, usize>,
}

/// When a request goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the connection's last one is answered.
    Closed,
    /// At fixed times, so many a second over all connections; latency counts from that time, also when the connection was
    /// still busy then.
    PerSecond(u32),
}

/// Sends requests until they are used up or `time` is over. With `again` they are sent over and over.
pub(crate) async fn run(
    address: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
    pace: Pace,
    time: Duration,
    again: bool,
) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let socket = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for socket in sockets {
        let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
        clients.spawn(async move { client(socket, &requests, &next, pace, started, time, again).await });
    }
    let (mut latencies, mut statuses) = (Vec::new(), BTreeMap::new());
    while let Some(done) = clients.join_next().await {
        for (latency, status) in done?? {
            latencies.push(latency);
            *statuses.entry(status).or_default() += 1;
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let latencies = Latencies::new(latencies);
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let per_second = latencies.len() as f64 / elapsed;
    let failed = latencies.len() - statuses.get(&200).copied().unwrap_or(0);
    Ok(Outcome { per_second, latencies, failed, statuses })
}

async fn client(
    mut socket: TcpStream,
    requests: &[Bytes],
    next: &AtomicUsize,
    pace: Pace,
    started: Instant,
    time: Duration,
    again: bool,
) -> anyhow::Result<Vec<(Duration, u16)>> {
    let (mut answers, mut answer) = (Vec::new(), Vec::with_capacity(1024));
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= requests.len() && !again {
            break;
        }
        let sent = match pace {
            Pace::Closed => Instant::now(),
            Pace::PerSecond(rate) => {
                let at = started + Duration::from_secs(n as u64) / rate;
                tokio::time::sleep_until(at.into()).await;
                at
            }
        };
        if started.elapsed() >= time {
            break;
        }
        socket.write_all(&requests[n % requests.len()]).await?;
        let status = read_answer(&mut socket, &mut answer).await?;
        answers.push((sent.elapsed(), status));
    }
    Ok(answers)
}

/// Reads one answer; its status.
async fn read_answer(socket: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<u16> {
    answer.clear();
    let head = loop {
        ensure!(socket.read_buf(answer).await? > 0, "the connection was closed");
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
    while answer.len() < head + length {
        ensure!(socket.read_buf(answer).await? > 0, "the connection was closed");
    }
    Ok(status)
}
