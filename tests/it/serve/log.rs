//! What the log says, and what it does not.

use std::net::SocketAddr;
use std::time::Duration;

use vobiz_cdr::simulator::{CallSpec, CallbackKind, Simulator, SimulatorOptions};

use super::{SIGNED_FOR, serve, settings};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::Database;
use crate::support::process::free_port;
use crate::support::running::page;
use crate::support::world::{eventually, options};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_said_once_when_it_begins_and_once_when_it_is_over() {
    let database = Database::new().await;
    let proxy = ChaosProxy::before(&database.url).await;
    let vobiz = Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() })
        .await
        .unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    vobiz.set_callback_sent_to(&format!("http://127.0.0.1:{port}/callbacks/vobiz"));
    let settings = settings(&proxy.url, &api, ("LOG_FORMAT", "json"));
    let (mut serve, said) = serve(&[], port, &settings);
    let ops: SocketAddr = serve.ops.parse().unwrap();
    eventually("it is ready and has swept", Duration::from_secs(10), async || {
        page(ops, "/readyz").await.0 == 200
            && database.count("select count(*) from vobiz.account where swept_at is not null").await == 1
    })
    .await;
    // It has said so in its last words: a sweep that is cut off in the midst of them is a trouble more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.cut();
    for _ in 0..8 {
        let call = vobiz.place_call(CallSpec::default());
        assert_eq!(vobiz.send_callback(&call, CallbackKind::Hangup).await.unwrap(), 503);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    proxy.restore();
    eventually("it is ready again", Duration::from_secs(20), async || page(ops, "/readyz").await.0 == 200)
        .await;
    let count = |word: &str| said.lock().unwrap().iter().filter(|line| line.contains(word)).count();
    eventually("the fetcher has seen it too", Duration::from_secs(20), async || {
        count("cleared: the queue") == 1
    })
    .await;
    // The beginning and the end, in terms of what follows from it; and what one does about it.
    assert_eq!(count("the queue cannot be read"), 2);
    assert_eq!(count("callbacks cannot be committed and are answered 503"), 2);
    assert_eq!(count("see that Postgres runs, takes writes"), 1);
    let lines = said.lock().unwrap().clone();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines:#?}");
    let unusual = lines.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
    assert!(unusual.count() <= 3, "{lines:#?}");
    serve.terminate();
    assert!(serve.wait(Duration::from_secs(25)).success());
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_callback_leaves_no_line_in_the_log() {
    let database = Database::new().await;
    let vobiz = Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() })
        .await
        .unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    vobiz.set_callback_sent_to(&format!("http://127.0.0.1:{port}/callbacks/vobiz"));
    let settings = settings(&database.url, &api, ("LOG_FORMAT", "text"));
    let (mut serve, said) = serve(&[], port, &settings);
    eventually("the first sweep is over", Duration::from_secs(10), async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await == 1
    })
    .await;
    let before = said.lock().unwrap().len();
    let mut call_ids = Vec::new();
    for _ in 0..50 {
        let call = vobiz.place_call(CallSpec::default());
        call_ids.push(call.call_id.clone());
        assert_eq!(vobiz.send_callback(&call, CallbackKind::Hangup).await.unwrap(), 200);
    }
    eventually("all are stored", Duration::from_secs(20), async || {
        database.count("select count(*) from vobiz.cdr").await == 50
    })
    .await;
    // Other loops may speak meanwhile; those through which a call goes have nothing to say of it.
    let rooms = ["vobiz_cdr::receive", "vobiz_cdr::fetch", "vobiz_cdr::db", "vobiz_cdr::account"];
    let speaks_of_a_call = |line: &&String| {
        rooms.iter().any(|room| line.contains(room)) || call_ids.iter().any(|id| line.contains(&**id))
    };
    let lines = said.lock().unwrap()[before..].to_vec();
    let of_calls: Vec<&String> = lines.iter().filter(speaks_of_a_call).collect();
    assert!(of_calls.is_empty(), "{of_calls:#?}");
    serve.terminate();
    assert!(serve.wait(Duration::from_secs(25)).success());
}
