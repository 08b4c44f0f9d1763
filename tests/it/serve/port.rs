//! The public port: a slow client is alone in its slowness.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use vobiz_cdr::serve::port::{Limits, PUBLIC};

use crate::ops::{service, vobiz};
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{OpenEndpoint, PATH, SECRET, Setup};
use crate::support::port::{Busy, Port, answer, hangup, rest};
use crate::support::wait::{LIMIT, in_the_end, until, until_is};
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
const TIGHT: Limits = Limits { headers_within: Duration::from_secs(1), connections: 4, ..PUBLIC };

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
async fn a_full_port_takes_the_next_one_in_the_place_of_who_keeps_it_waiting_for_longest() {
    let database = Database::new().await;
    let limits = Limits { headers_within: LIMIT, ..TIGHT };
    let port = Port::open_with(Setup::default().open(&database.pool), limits).await;
    // Half a head; a body that does not come; and nothing at all.
    let mut holding = Vec::new();
    for said in [&b"GET /"[..], &hangup("half", "").as_bytes()[..100], b"GET /", b""] {
        let mut stream = port.connect().await;
        stream.write_all(said).await.unwrap();
        holding.push(stream);
    }
    for n in 0..3 {
        let answered = port.ask(&hangup(&format!("c{n}"), "")).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
        assert!(answered.contains("connection: close\r\n"), "a crowded port keeps nobody: {answered}");
    }
    assert_eq!(rest(&mut holding[0]).await, "", "the first gave way");
    drop(holding);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_full_port_where_all_are_at_work_lets_the_next_one_wait() {
    let database = Database::new().await;
    let limits = Limits { headers_within: LIMIT, ..TIGHT };
    let port = Port::open_with(Setup::default().open(&database.pool), limits).await;
    let lock = database.lock_log().await;
    let mut working = Vec::new();
    for n in 0..4 {
        let mut stream = port.connect().await;
        stream.write_all(hangup(&format!("w{n}"), "").as_bytes()).await.unwrap();
        working.push(stream);
    }
    database.writer_waits().await;
    let mut next = port.connect().await;
    next.write_all(hangup("next", "").as_bytes()).await.unwrap();
    lock.rollback().await.unwrap();
    for stream in working.iter_mut().chain([&mut next]) {
        let answered = answer(stream).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
    assert_eq!(database.queue().await.len(), 5);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn an_address_has_no_more_than_its_share_at_work() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for (per_address, turned_away) in [(Some(2), true), (None, false)] {
        let busy = Busy::default();
        let endpoint = OpenEndpoint { router: busy.router(), ..endpoint.clone() };
        let port = Port::open_with(endpoint, Limits { per_address, request_within: LIMIT, ..PUBLIC }).await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let (mut open, mut began) = (Vec::new(), 0);
        let mut at_work = async |mut stream: TcpStream| {
            stream.write_all(request).await.unwrap();
            began += 1;
            until_is("it is at work", began, async || busy.began.load(Ordering::Relaxed)).await;
            open.push(stream);
        };
        at_work(port.connect().await).await;
        at_work(port.connect().await).await;
        if turned_away {
            assert_eq!(rest(&mut port.connect().await).await, "", "its address has its share");
        } else {
            at_work(port.connect().await).await;
        }
        let elsewhere = TcpSocket::new_v4().unwrap();
        elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        at_work(elsewhere.connect(port.address).await.unwrap()).await;
        busy.end.cancel();
        for stream in &mut open {
            assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_given_up() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    // Answers that fit in no buffer of the kernel, and requests one after the other whose small answers fill them.
    let long = axum::Router::new().route("/long", axum::routing::get(|| async { vec![b'x'; 16 << 20] }));
    for (router, request) in [
        (long, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"),
        (endpoint.router.clone(), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let endpoint = OpenEndpoint { router, ..endpoint.clone() };
        let limits = Limits { write_within: Duration::from_millis(200), headers_within: LIMIT, ..PUBLIC };
        let port = Port::open_with(endpoint, limits).await;
        let mut stream = port.connect().await;
        let requests = request.repeat(1000);
        in_the_end("the connection ends", async {
            while stream.write_all(requests.as_bytes()).await.is_ok() {}
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_answered() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let lock = database.lock_log().await;
    let mut half_closed = Vec::new();
    for request in
        [hangup("a", ""), format!("GET {PATH}/{SECRET}?Event=Hangup&CallUUID=b HTTP/1.1\r\nHost: x\r\n\r\n")]
    {
        let mut stream = port.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        half_closed.push(stream);
    }
    database.writer_waits().await;
    lock.rollback().await.unwrap();
    for stream in &mut half_closed {
        let answered = rest(stream).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
    assert_eq!(database.queue().await.len(), 2);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn what_is_refused_is_answered_before_it_is_read() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let head = |path: &str, more: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\n\r\n")
    };
    let by_secret = format!("{PATH}/{SECRET}");
    // The sample of refused callbacks has its fill first: what is kept of them is read.
    for _ in 0..20 {
        assert!(port.ask(&(head(PATH, "Connection: close\r\n", 1) + "x")).await.starts_with("HTTP/1.1 403"));
    }
    let signed = format!("X-Vobiz-Signature: {}\r\n", "0".repeat(64));
    let voice = format!("X-Vobiz-Signature: {}\r\n", "AAAA");
    for (request, status) in [
        (head(&by_secret, "", 256 * 1024 + 1), 413),
        (head(PATH, "Expect: 100-continue\r\n", 1 << 30), 413),
        (head(PATH, "", 256 * 1024), 403),
        (head(PATH, "Expect: 100-continue\r\n", 700), 403),
        (head(&format!("{PATH}/wrong"), "", 700), 403),
        (head(PATH, &voice, 700), 403),
        (head(PATH, &signed, 16 * 1024 + 1), 403),
        (head(PATH, &signed.repeat(2), 700), 403),
        (format!("GET {PATH}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(17_000)), 431),
    ] {
        let mut stream = port.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answered = answer(&mut stream).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answered}");
    }
    // One that is still sending hears it as well, instead of a connection that breaks off.
    for (path, length, status) in [(by_secret.as_str(), 512 * 1024, 413), (PATH, 200 * 1024, 403)] {
        let answered = port.ask(&(head(path, "", length) + &"x".repeat(length))).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {status} ")), "{answered}");
    }
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_hold_the_ops_port_keep_nobody_out() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    let mut strangers = Vec::new();
    for n in 0..160 {
        let mut stream = TcpStream::connect(running.ops).await.unwrap();
        stream.write_all([&b""[..], b"GET /metrics HTTP/1.1\r\nHo"][n % 2]).await.unwrap();
        strangers.push(stream);
    }
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(running.page(page).await.0, 200, "{page}");
    }
    running.end().await;
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
