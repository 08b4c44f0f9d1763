//! A scripted attack: strangers at full speed on the port, and every real callback beside them is taken. How long it takes is a figure
//! of the bench (`./dev bench strangers`).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use vobiz_cdr::serve::port::{Limits, PUBLIC};
use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::Database;
use crate::support::endpoint::{PATH, Setup};
use crate::support::port::{Port, hangup, rest};

/// What one stranger does, over and over.
type Attack = fn(SocketAddr) -> futures_util::future::BoxFuture<'static, std::io::Result<()>>;

async fn keeps_alive(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    loop {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        if stream.read(&mut [0; 512]).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn says_nothing(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /callbacks/vobiz HTTP/1.1\r\nHo").await?;
    stream.read(&mut [0; 512]).await.map(|_| ())
}

async fn sends_most_of_a_body(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; 250_000]).await?;
    stream.read(&mut [0; 512]).await.map(|_| ())
}

async fn reads_nothing(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let requests = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    loop {
        stream.write_all(requests.as_bytes()).await?;
    }
}

async fn forges(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let zeros = "0".repeat(64);
    let body = format!("Event=Hangup&CallUUID=forged-{}&x={}", uuid::Uuid::now_v7(), "x".repeat(15_000));
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Vobiz-Signature: {zeros}\r\nX-Vobiz-Signature-V3: {}\r\n\
         X-Vobiz-Signature-V3-Nonce: 1\r\nContent-Length: {}\r\n\r\n{body}",
        "A".repeat(43) + "=",
        body.len()
    );
    loop {
        stream.write_all(request.as_bytes()).await?;
        if stream.read(&mut [0; 512]).await? == 0 {
            return Ok(());
        }
    }
}

/// A real callback, from another address than the strangers'.
async fn real(address: SocketAddr, call_id: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(hangup(call_id, "Connection: close\r\n").as_bytes()).await.unwrap();
    rest(&mut stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_real_callback_is_taken_beside_strangers_at_full_speed() {
    let attacks: [(&str, usize, Attack); 5] = [
        ("keep alive", 120, |address| Box::pin(keeps_alive(address))),
        ("say nothing", 120, |address| Box::pin(says_nothing(address))),
        ("most of a body", 40, |address| Box::pin(sends_most_of_a_body(address))),
        ("read nothing", 4, |address| Box::pin(reads_nothing(address))),
        ("forge", 8, |address| Box::pin(forges(address))),
    ];
    for policy in [SignaturePolicy::Required, SignaturePolicy::Optional] {
        for (attack, strangers, stranger) in attacks {
            let database = Database::new().await;
            let setup = Setup { policy, max_speculative_per_minute: 20, ..Setup::default() };
            let limits = Limits { connections: 64, per_address: Some(48), ..PUBLIC };
            let port = Port::open_with(setup.open(&database.pool), limits).await;
            let (address, mut attacking) = (port.address, JoinSet::new());
            for _ in 0..strangers {
                attacking.spawn(async move {
                    loop {
                        let _ = stranger(address).await;
                    }
                });
            }
            for n in 0..30 {
                let answered = real(address, &format!("real{n}")).await;
                assert!(answered.starts_with("HTTP/1.1 200"), "{policy:?}, {attack}, {n}: {answered}");
            }
            attacking.shutdown().await;
            let certain = "select count(*) from vobiz.cdr_queue where certain";
            assert_eq!(database.count(certain).await, 30, "{policy:?}, {attack}");
            let speculative = "select count(*) from vobiz.cdr_queue where not certain";
            assert!(database.count(speculative).await <= 20, "{policy:?}, {attack}");
            database.every_certain_call_is_somewhere().await;
        }
    }
}
