//! The endpoint: what is behind it and what is not.

use tokio::io::AsyncWriteExt;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, PATH, SECRET, Setup, TOKEN};
use crate::support::port::{Port, answer, hangup};

#[tokio::test]
async fn nothing_but_callbacks_and_health_is_public() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let healthy = endpoint.answer(Callback::get("").at("/healthz")).await;
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
        for callback in [Callback::get("x=1"), Callback::hangup("a").by_v3(TOKEN)] {
            let answer = endpoint.answer(callback.at(path)).await;
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
        }
    }
    for path in [PATH, "/callbacks/vobiz/", "/callbacks/vobiz/x", "/callbacks/vobiz/x/y"] {
        assert_eq!(endpoint.status(Callback::hangup("a").at(path)).await, 403, "{path}");
        assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN).at(path)).await, 200, "{path}");
    }
    assert_eq!(endpoint.status(Callback::post("").at("/healthz")).await, 405);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn health_needs_no_postgres() {
    let pool = vobiz_cdr::db::connect("postgres://nobody@127.0.0.1:1/nowhere", "test", 1).unwrap();
    let endpoint = Setup::default().open(&pool);
    assert_eq!(endpoint.status(Callback::get("").at("/healthz")).await, 200);
}

#[tokio::test]
async fn a_body_has_256_kib_at_most() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let of_length = |length: usize| {
        let mut body = b"Event=Hangup&CallUUID=a&x=".to_vec();
        body.resize(length, b'x');
        Callback::post(body).by_secret()
    };
    assert_eq!(endpoint.status(of_length(256 * 1024)).await, 200);
    for length in [256 * 1024 + 1, 1024 * 1024] {
        let answer = endpoint.answer(of_length(length)).await;
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
    assert_eq!(database.count("select length(body)::bigint from vobiz.callback").await, 16 * 1024);
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
async fn what_callbacks_are_answered_is_counted() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for (callback, status) in [
        (Callback::hangup("a").by_v3(TOKEN), 200),
        (Callback::post("Event=Ring").by_secret(), 200),
        (Callback::hangup("b"), 403),
        (Callback::post(vec![b'x'; 300 * 1024]).by_secret(), 413),
        (Callback::hangup("c").at("/callbacks/vobis"), 404),
        (Callback::get("").at("/wp-login.php"), 404),
    ] {
        assert_eq!(endpoint.status(callback).await, status);
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
