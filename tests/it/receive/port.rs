//! The public port: what is behind it and what is not, and that a slow client is alone in its slowness.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::serve::port::{Limits, PUBLIC, listen};
use vobiz_cdr::watch::heartbeat::Heartbeats;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Knock, OpenDoor, PATH, SECRET, Setup, TOKEN};

/// A door behind a real port.
struct Port {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Port {
    async fn open(endpoint: OpenDoor) -> Self {
        Self::open_with(endpoint, PUBLIC).await
    }

    async fn open_with(endpoint: OpenDoor, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ended = tokio::spawn(listen(
            listener,
            endpoint.router,
            limits,
            Heartbeats::default().start("receive", Duration::from_secs(60)),
            stop.clone(),
        ));
        Self { address, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a text and reads what comes until the connection is closed.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset after its answer has answered all the same.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer without a body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

fn hangup(call_id: &str, more: &str) -> String {
    let body = format!("Event=Hangup&CallUUID={call_id}");
    format!("POST {PATH}/{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}

#[tokio::test]
async fn nothing_but_callbacks_and_health_is_public() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let healthy = endpoint.hear(Knock::get("").at("/healthz")).await;
    assert_eq!((healthy.status, healthy.body.as_ref()), (200, &b"ok\n"[..]));
    for path in [
        "/",
        "/callbacks",
        "/callbacks/",
        "/callbacks/Vobiz",
        "/callbacks/plivo",
        "/callbacks/vobiz/a/b/c",
        "/healthz/",
        "/health",
        "/readyz",
        "/metrics",
        "/debug",
        "/.env",
        "/vobiz/hangup",
    ] {
        for knock in [Knock::get("x=1"), Knock::hangup("a").by_v3(TOKEN)] {
            let answer = endpoint.hear(knock.at(path)).await;
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
        }
    }
    for path in [PATH, "/callbacks/vobiz/", "/callbacks/vobiz/x", "/callbacks/vobiz/x/y"] {
        assert_eq!(endpoint.status(Knock::hangup("a").at(path)).await, 403, "{path}");
        assert_eq!(endpoint.status(Knock::hangup("a").by_v3(TOKEN).at(path)).await, 200, "{path}");
    }
    assert_eq!(endpoint.status(Knock::post("").at("/healthz")).await, 405);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn health_needs_no_postgres() {
    let pool = vobiz_cdr::db::connect("postgres://nobody@127.0.0.1:1/nowhere", "test", 1).unwrap();
    let endpoint = Setup::default().open(&pool);
    assert_eq!(endpoint.status(Knock::get("").at("/healthz")).await, 200);
}

#[tokio::test]
async fn a_body_has_256_kib_at_most() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let of_length = |length: usize| {
        let mut body = b"Event=Hangup&CallUUID=a&x=".to_vec();
        body.resize(length, b'x');
        Knock::post(body).by_secret()
    };
    assert_eq!(endpoint.status(of_length(256 * 1024)).await, 200);
    for length in [256 * 1024 + 1, 1024 * 1024] {
        let answer = endpoint.hear(of_length(length)).await;
        assert_eq!((answer.status, answer.body.len()), (413, 0));
    }
    // Nor does a length that is not told beforehand help.
    let port = Port::open(endpoint).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let head = format!(
        "POST {PATH}/{SECRET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let answer = port.ask(&format!("{head}{}", chunk.repeat(5))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(database.count("select count(*) from vobiz.callback").await, 1);
    assert_eq!(database.count("select length(body)::bigint from vobiz.callback").await, 256 * 1024);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_callback_over_a_socket_is_logged_with_its_peer() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let query = format!("GET {PATH}/{SECRET}?Event=Hangup&CallUUID=b HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = port.connect().await;
    // One connection, several callbacks.
    for request in
        [hangup("a", "X-Forwarded-For: 1.2.3.4\r\n"), query, hangup("c", "Expect: 100-continue\r\n")]
    {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answered = answer(&mut stream).await;
        if answered.starts_with("HTTP/1.1 100") {
            answered = answer(&mut stream).await;
        }
        assert!(answered.starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
        assert!(answered.contains("content-length: 0\r\n"), "{answered}");
    }
    let owed = ["a", "b", "c"].map(|call_id| format!("{call_id} {ACCOUNT} certain"));
    assert_eq!(database.queue().await, owed);
    assert_eq!(
        database.text("select string_agg(distinct remote_address, ' ') from vobiz.callback").await,
        "127.0.0.1"
    );
    database.every_certain_call_is_somewhere().await;
}

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
    let began = Instant::now();
    for n in 0..20 {
        let answer = port.ask(&hangup(&format!("c{n:02}"), "Connection: close\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "twenty callbacks took {took:?}");
    assert_eq!(database.queue().await.len(), 20, "half a callback owes nothing");
    // One that hurries after all is heard.
    let last = slow.last_mut().unwrap();
    last.write_all(b"w").await.unwrap();
    assert!(answer(last).await.starts_with("HTTP/1.1 200"));
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
async fn a_client_that_leaves_has_its_callback_kept() {
    let database = Database::new().await;
    let port = Port::open(Setup::default().open(&database.pool)).await;
    let lock = database.lock_log().await;
    let mut stream = port.connect().await;
    stream.write_all(hangup("a", "").as_bytes()).await.unwrap();
    database.writer_waits().await;
    drop(stream);
    lock.rollback().await.unwrap();
    database.comes_to(1, "select count(*) from vobiz.cdr_queue").await;
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
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!port.ended.is_finished(), "a callback is in hand");
    assert!(TcpStream::connect(port.address).await.is_err(), "nobody else is let in");
    lock.rollback().await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    tokio::time::timeout(Duration::from_secs(5), port.ended).await.unwrap().unwrap();
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain")]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn what_callbacks_are_answered_is_counted() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for (knock, status) in [
        (Knock::hangup("a").by_v3(TOKEN), 200),
        (Knock::post("Event=Ring").by_secret(), 200),
        (Knock::hangup("b"), 403),
        (Knock::post(vec![b'x'; 300 * 1024]).by_secret(), 413),
        (Knock::hangup("c").at("/callbacks/vobis"), 404),
        (Knock::get("").at("/wp-login.php"), 404),
    ] {
        assert_eq!(endpoint.status(knock).await, status);
    }
    let text = endpoint.metrics.text();
    for (result, count) in
        [("committed", 2), ("refused", 1), ("too_large", 1), ("no_such_path", 1), ("unavailable", 0)]
    {
        let line = format!("vobiz_cdr_callbacks_total{{result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(text.contains("vobiz_cdr_callback_duration_seconds_count 4\n"), "{text}");
    database.every_certain_call_is_somewhere().await;
}

/// Limits that a test can wait for.
const TIGHT: Limits = Limits { headers_within: Duration::from_millis(400), connections: 4 };

#[tokio::test]
async fn slow_headers_and_idle_connections_are_given_up() {
    let database = Database::new().await;
    let port = Port::open_with(Setup::default().open(&database.pool), TIGHT).await;
    // Nothing at all, half a head, and one that sends a byte now and then: a byte is no excuse.
    let mut silent = port.connect().await;
    let mut half = port.connect().await;
    half.write_all(b"POST /callbacks/vobiz HTTP/1.1\r\nHo").await.unwrap();
    let mut drop_by_drop = port.connect().await;
    let began = Instant::now();
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
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for said in [silent, half, dripped] {
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    // One that was answered is kept for as long, and then closed.
    let mut idle = port.connect().await;
    idle.write_all(hangup("a", "").as_bytes()).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    assert_eq!(rest(&mut idle).await, "");
    assert!(began.elapsed() < Duration::from_secs(3));
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_full_port_takes_the_next_one_when_another_has_ended() {
    let database = Database::new().await;
    let port = Port::open_with(Setup::default().open(&database.pool), TIGHT).await;
    // Four that hold on: half a head each.
    let mut holding = Vec::new();
    for _ in 0..4 {
        let mut stream = port.connect().await;
        stream.write_all(b"GET /").await.unwrap();
        holding.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let answered = port.ask(&hangup("waited", "Connection: close\r\n")).await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(150), "there was no room before: {waited:?}");
    assert!(waited < Duration::from_secs(2), "those that hold on lose their place in time: {waited:?}");
    drop(holding);
    database.every_certain_call_is_somewhere().await;
}
