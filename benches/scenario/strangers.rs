//! Strangers at full speed on the public port, from one address and on the same two cores, beside real signed callbacks: how long these
//! take, that none is lost, what memory `serve` takes, and what the disk grows by. A second service that nobody attacks takes as many at
//! the same time: what strangers take from the machine they take from it, too, and a busy machine is no fault of the port.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::child::Serve;
use crate::harness::load::Latencies;
use crate::harness::report::say;
use crate::harness::{Bench, database, proc, requests};

const NAME: &str = "strangers";
/// Real callbacks a second, each on a connection of its own.
const REAL: u32 = 50;

/// What strangers do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attack {
    Nothing,
    /// Connections that are kept alive by a tiny request now and then.
    KeepAlive,
    /// Most of a body of 256 KiB, and then nothing.
    MostOfABody,
    /// Requests one after the other, and no answer is read.
    ReadNothing,
    /// Bodies with forged signatures of every kind.
    Forge,
    /// Callbacks that prove nothing where signatures are optional.
    Unproven,
    /// Hang-ups of calls that are not, by one who has learnt the secret.
    Secret,
    /// One captured request, with other padding each time.
    Replay,
}

/// The secret that one has learnt.
const LEARNT: &str = "0123456789abcdef0123456789abcdef";

impl Attack {
    const ALL: [(Self, &str, usize); 8] = [
        (Self::Nothing, "nobody", 0),
        (Self::KeepAlive, "keep 2,300 connections alive", 2300),
        (Self::MostOfABody, "1,900 send most of a body", 1900),
        (Self::ReadNothing, "64 read nothing", 64),
        (Self::Forge, "64 forge signatures", 64),
        (Self::Unproven, "64 where signatures are optional", 64),
        (Self::Secret, "64 know the secret", 64),
        (Self::Replay, "64 replay one request", 64),
    ];

    /// What one of them sends; made once, since making it takes the cores from what is measured.
    fn request(self, n: usize, captured: &str) -> String {
        let (long, zeros) = ("x".repeat(8000), "0".repeat(64));
        match self {
            Self::Nothing => String::new(),
            Self::KeepAlive | Self::ReadNothing => "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            Self::MostOfABody => format!(
                "POST /callbacks/vobiz HTTP/1.1\r\nhost: x\r\ncontent-length: 262144\r\n\r\n{}",
                "x".repeat(250_000)
            ),
            Self::Forge => {
                let body = format!("Event=Hangup&CallUUID=f{n}&x={long}");
                format!(
                    "POST /callbacks/vobiz HTTP/1.1\r\nhost: x\r\nx-vobiz-signature: {zeros}\r\nx-vobiz-signature-v3: {}=\r\n\
                     x-vobiz-signature-v3-nonce: 1\r\ncontent-length: {}\r\n\r\n{body}",
                    "A".repeat(43),
                    body.len()
                )
            }
            // The twenty zeros are written anew for each.
            Self::Secret => {
                let body = format!("Event=Hangup&CallUUID={:020}{n:020}&x={long}", 0);
                format!(
                    "POST /callbacks/vobiz/{LEARNT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Self::Replay => {
                let (head, body) = captured.split_once("\r\n\r\n").unwrap_or_default();
                let head = head.rsplit_once("\r\n").map_or(head, |(others, _length)| others);
                let body = format!("{body}&y={:020}{n:020}&x={long}", 0);
                format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Self::Unproven => {
                let body = format!("Event=Hangup&CallUUID={:020}{n:020}&x={long}", 0);
                format!(
                    "POST /callbacks/vobiz?x={long} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }

    async fn play(self, address: &str, request: &mut [u8], sent: &mut u64) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        let mut answer = [0; 1024];
        loop {
            if matches!(self, Self::Unproven | Self::Secret | Self::Replay) {
                *sent += 1;
                let at = request.len() - 8000 - "&x=".len() - 40;
                request[at..at + 20].copy_from_slice(format!("{sent:020}").as_bytes());
            }
            stream.write_all(request).await?;
            if self == Self::ReadNothing {
                continue;
            }
            if stream.read(&mut answer).await? == 0 {
                return Ok(());
            }
            if self == Self::KeepAlive {
                // 2,300 of them send 300 requests a second.
                tokio::time::sleep(Duration::from_millis(7600)).await;
            }
        }
    }
}

/// Measures it.
pub(crate) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.size(Duration::from_secs(60), Duration::from_secs(10));
    for (attack, variant, strangers) in Attack::ALL {
        if !bench.wants(variant) {
            continue;
        }
        say(&format!("  {variant}"));
        let real = requests::hangups(usize::try_from(time.as_secs())? * REAL as usize, 1).await?;
        let url = bench.database("strangers").await?;
        let policy = if attack == Attack::Unproven { "optional" } else { "required" };
        let settings =
            [("CDR_FIRST_FETCH_DELAY", "1h"), ("CDR_SIGNATURES", policy), ("CDR_CALLBACK_SECRET", LEARNT)];
        let only = ["--only", "receive"];
        let serve = Serve::start(bench.folder(), &url, "http://127.0.0.1:9", &only, &settings).await?;
        let beside = bench.database("beside").await?;
        let control = Serve::start(bench.folder(), &beside, "http://127.0.0.1:9", &only, &settings).await?;
        let captured = requests::hangups(1, 2).await?;
        let captured = std::str::from_utf8(captured.first().context("a request")?)?.to_owned();
        let pool = vobiz_cdr::db::connect(&url, "bench", 1)?;
        let mut attacking = JoinSet::new();
        for n in 0..strangers {
            let address = serve.address.clone();
            let mut request = attack.request(n, &captured).into_bytes();
            attacking.spawn(async move {
                let mut sent = 0;
                loop {
                    if attack.play(&address, &mut request, &mut sent).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        // Pages are taken by the dozen: what grows is what grows after the first seconds.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let size = "select pg_database_size(current_database())::float8";
        let (began, before) = (Instant::now(), database::number(&pool, size).await?);
        // On a thread of its own: what waits here for its turn has not been waiting for the service.
        let send = |serve: &Serve| {
            let (address, real) = (serve.address.clone(), Arc::clone(&real));
            tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(callbacks(&address, &real))
            })
        };
        let (sending, sending_beside) = (send(&serve), send(&control));
        let (latencies, lost) = sending.await??;
        let (latencies_beside, _) = sending_beside.await??;
        let grown = database::number(&pool, size).await? - before;
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        attacking.shutdown().await;
        let owed =
            database::number(&pool, "select count(*)::float8 from vobiz.cdr_queue where certain").await?;
        let strange =
            database::number(&pool, "select count(*)::float8 from vobiz.callback where proof = 'none'");
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        say(&format!("    load {}", load.trim()));
        say(&format!("    {} answered, {lost} lost, {} of strangers kept", latencies.len(), strange.await?));
        pool.close().await;
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let (answered, lost) = (latencies.len() as f64, lost as f64);
        ensure!(owed >= answered, "answered {answered}, owed {owed}");
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            bench.report.add(NAME, name, variant, "ms", latencies.ms(share));
            let beside = latencies_beside.ms(share);
            bench.report.add(NAME, &format!("{name} of who is not attacked"), variant, "ms", beside);
        }
        bench.report.add(NAME, "lost", variant, "callbacks", lost);
        bench.report.add(NAME, "disk", variant, "MB an hour", grown / 1e6 / hours);
        bench.report.at_most(&format!("strangers, {variant}: lost"), lost, 0.0);
        let more = latencies.ms(0.99) - latencies_beside.ms(0.99);
        bench.report.at_most(&format!("strangers, {variant}: p99 more than beside, ms"), more, 250.0);
        if let Some(mib) = proc::peak_mib(serve.pid()) {
            bench.report.add(NAME, "memory of serve", variant, "MiB", mib);
            let bar = 128.0;
            bench.report.at_most(&format!("strangers, {variant}: memory of serve, MiB"), mib, bar);
        }
        if attack != Attack::Nothing {
            // The real ones are no growth that strangers cause.
            let beside = bench.report.median(NAME, "disk", "nobody");
            bench.report.at_most(
                &format!("strangers, {variant}: growth of the disk, MB an hour"),
                grown / 1e6 / hours - beside,
                50.0,
            );
        }
        control.stop().await?;
        serve.stop().await?;
    }
    Ok(())
}

/// Sends real callbacks at their pace; how long they took, and how many were not answered 200.
async fn callbacks(address: &str, requests: &[Bytes]) -> anyhow::Result<(Latencies, usize)> {
    let (started, mut sending) = (Instant::now(), JoinSet::new());
    for (n, request) in requests.iter().enumerate() {
        let at = started + Duration::from_secs(n as u64) / REAL;
        tokio::time::sleep_until(at.into()).await;
        let (address, request) = (address.to_owned(), request.clone());
        sending.spawn(async move { (one(&address, &request).await, at.elapsed()) });
    }
    let (mut latencies, mut lost) = (Vec::new(), 0);
    while let Some(done) = sending.join_next().await {
        match done? {
            (Ok(200), took) => latencies.push(took),
            (other, _) => {
                say(&format!("    lost: {other:?}"));
                lost += 1;
            }
        }
    }
    Ok((Latencies::new(latencies), lost))
}

/// Sends one, as Vobiz does: it gives up after three seconds.
fn one(address: &str, request: &[u8]) -> impl Future<Output = anyhow::Result<u16>> {
    let asked = async move {
        // Vobiz has another address than they.
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.2:0".parse()?)?;
        let mut stream = socket.connect(address.parse()?).await?;
        stream.write_all(request).await?;
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await?;
        let text = std::str::from_utf8(&answer[..read])?;
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("{text:?}"))
    };
    async move { tokio::time::timeout(Duration::from_secs(3), asked).await.context("no answer in time")? }
}
