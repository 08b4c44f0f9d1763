//! The public port: a slow client is alone in its slowness.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vobiz_cdr::serve::port::Limits;

use crate::ops::{service, vobiz};
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{PATH, SECRET, Setup};
use crate::support::port::{Port, answer, hangup, rest};
use crate::support::wait::{in_the_end, until};
use crate::support::world::options;

#[tokio::test]
async fn slow_clients_block_nobody() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut stream = port.connect().await;
        let whole = hangup("slow", "");
        let cut = [0, 1, 20, whole.len() - 10, whole.len() - 1][n % 5];
        stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
        slow.push(stream);
    }
    for n in 0..20 {
        let answer = port.ask(&hangup(&format!("c{n:02}"), "Connection: close\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(database.queue().await.len(), 20, "half a callback owes nothing");
    // One that hurries after all is heard; the others may have been given up by now.
    let (mut last, whole) = (port.connect().await, hangup("slow", ""));
    let (most, rest) = whole.as_bytes().split_at(whole.len() - 1);
    last.write_all(most).await.unwrap();
    let other = port.ask(&hangup("meanwhile", "Connection: close\r\n")).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    last.write_all(rest).await.unwrap();
    assert!(answer(&mut last).await.starts_with("HTTP/1.1 200"));
    drop(slow);
    assert_eq!(database.count("select count(*) from vobiz.cdr_queue where call_id = 'slow'").await, 1);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let began = Instant::now();
    let head = format!("POST {PATH}/{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\nEvent=Hangup&");
    let mut stream = port.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let answered = answer(&mut stream).await;
    assert!(answered.starts_with("HTTP/1.1 408"), "{answered}");
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(database.log().await, [""; 0]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_stop_lets_the_callbacks_in_hand_end() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let lock = database.lock_log().await;
    let mut idle = port.connect().await;
    let mut stream = port.connect().await;
    stream.write_all(hangup("a", "").as_bytes()).await.unwrap();
    database.writer_waits().await;
    port.stop.cancel();
    until("nothing else is let in", async || TcpStream::connect(port.address).await.is_err()).await;
    assert!(!port.ended.is_finished(), "a callback is in hand");
    lock.rollback().await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    in_the_end("the port ends", port.ended).await.unwrap();
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain")]);
    database.every_certain_call_is_somewhere().await;
}

/// Limits that a test can wait for.
const TIGHT: Limits = Limits { headers_within: Duration::from_secs(1), connections: 4 };

#[tokio::test]
async fn slow_headers_and_idle_connections_are_given_up() {
    let database = Database::new().await;
    let port = Port::open_with(Setup::default().open(&database.pool), TIGHT).await;
    // Nothing at all, half a head, and one that sends a byte now and then: a byte is no excuse.
    let mut silent = port.connect().await;
    let mut half = port.connect().await;
    half.write_all(b"POST /callbacks/vobiz HTTP/1.1\r\nHo").await.unwrap();
    let mut drop_by_drop = port.connect().await;
    let dripping = async {
        for byte in b"POST /callbacks/vobiz HTTP/1.1\r\nHost: x\r\n\r\n" {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if drop_by_drop.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        rest(&mut drop_by_drop).await
    };
    let (silent, half, dripped) = tokio::join!(rest(&mut silent), rest(&mut half), dripping);
    for said in [silent, half, dripped] {
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    // One that was answered is kept for as long, and then closed.
    let mut idle = port.connect().await;
    idle.write_all(hangup("a", "").as_bytes()).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle).await, "");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_full_port_takes_the_next_one_when_another_has_ended() {
    let database = Database::new().await;
    let port = Port::open_with(Setup::default().open(&database.pool), TIGHT).await;
    // Four that stay: half a head each.
    let began = Instant::now();
    let mut holding = Vec::new();
    for _ in 0..4 {
        let mut stream = port.connect().await;
        stream.write_all(b"GET /").await.unwrap();
        holding.push(stream);
    }
    let answered = port.ask(&hangup("waited", "Connection: close\r\n")).await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let waited = began.elapsed();
    assert!(waited >= TIGHT.headers_within, "none of the four had lost its place: {waited:?}");
    drop(holding);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_of_a_service_give_up_on_clients_that_say_nothing() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    let given_up = async |address, first: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let (began, mut said) = (Instant::now(), Vec::new());
        let _ = in_the_end("the port gives up", stream.read_to_end(&mut said)).await;
        began.elapsed()
    };
    let (public, ops) = (running.public.unwrap(), running.ops);
    let waits = tokio::join!(
        given_up(public, b""),
        given_up(public, b"POST /callbacks/vobiz HTTP/1.1\r\nHo"),
        given_up(ops, b""),
        given_up(ops, b"GET /metrics HTTP/1.1\r\nHo"),
    );
    for waited in [waits.0, waits.1, waits.2, waits.3] {
        assert!(waited > Duration::from_secs(5), "{waited:?}");
    }
    // Half-open: the client is gone without a word, and its connection is not kept.
    assert_eq!(running.page("/readyz").await.0, 200);
    running.end().await;
}
