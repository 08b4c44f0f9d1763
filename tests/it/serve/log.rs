//! What the log says, and what it does not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use vobiz_cdr::simulator::{CallSpec, Simulator, SimulatorOptions};

use super::{SIGNED_FOR, serve, settings};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::Database;
use crate::support::endpoint::{Callback, TOKEN};
use crate::support::process::free_port;
use crate::support::running::page;
use crate::support::wait::{until, until_is};
use crate::support::world::options;

/// What the loops of a service say of a Postgres that is away.
const OUTAGE: [&str; 9] = [
    "callbacks cannot be committed and are answered 503",
    "the queue cannot be read, so nothing is fetched",
    "what was fetched cannot be stored",
    "the CDR list cannot be swept",
    "the CDR list cannot be drained",
    "days cannot be compared with the CDR list",
    "the sums of the bill cannot be proved",
    "the rollup cannot be folded",
    "the queue and the schema cannot be polled",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_said_once_when_it_begins_and_once_when_it_is_over() {
    let database = Database::new().await;
    let proxy = ChaosProxy::before(&database.url).await;
    let vobiz = Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() })
        .await
        .unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    let settings = settings(&proxy.url, &api, ("LOG_FORMAT", "json"));
    let (mut serve, said) = serve(&[], port, &settings);
    let ops: SocketAddr = serve.ops.parse().unwrap();
    until("it is ready and has swept", async || {
        page(ops, "/readyz").await.0 == 200
            && database.count("select count(*) from vobiz.account where swept_at is not null").await == 1
    })
    .await;
    let count = |word: &str| said.lock().unwrap().iter().filter(|line| line.contains(word)).count();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let turned_away = async || Callback::hangup("turned-away").by_v3(TOKEN).send(address).await;
    proxy.cut();
    // Callbacks that fail, as many as there are until the fetcher has failed as well, and some more after that.
    until("the outage is said", async || {
        assert_eq!(turned_away().await, 503);
        count("the queue cannot be read") > 0
    })
    .await;
    for _ in 0..8 {
        assert_eq!(turned_away().await, 503);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    proxy.restore();
    until_is("it is ready again", 200, async || page(ops, "/readyz").await.0).await;
    until_is("the fetcher has noticed it too", 1, async || count("cleared: the queue")).await;
    // The beginning and the end, in terms of what follows from it; and what one does about it.
    assert_eq!(count("the queue cannot be read"), 2);
    assert_eq!(count("callbacks cannot be committed and are answered 503"), 2);
    assert_eq!(count("see that Postgres runs, takes writes"), 1);
    let lines = said.lock().unwrap().clone();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines:#?}");
    // Whatever else was at work when Postgres went says so as well, in its own words and no more than once.
    // (The URL of the tests has a path that the service has not, and it said so at its start.)
    let unusual = lines
        .iter()
        .filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
        .filter(|line| !line.contains("its path is none of this service's"));
    let words: Vec<String> = unusual
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].to_string())
        .collect();
    assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len(), "{lines:#?}");
    let said_by = |words: &String| OUTAGE.iter().position(|known| words.trim_matches('"').starts_with(known));
    let kinds: BTreeSet<Option<usize>> = words.iter().map(said_by).collect();
    assert!(!kinds.contains(&None), "something else was said: {lines:#?}");
    assert_eq!(kinds.len(), words.len(), "one of them was said twice: {lines:#?}");
    serve.terminate();
    assert!(serve.wait().success());
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_callback_leaves_no_line_in_the_log() {
    let database = Database::new().await;
    let vobiz = Simulator::start(SimulatorOptions { callback_url: Some(SIGNED_FOR.into()), ..options() })
        .await
        .unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    let settings = settings(&database.url, &api, ("LOG_FORMAT", "text"));
    let (mut serve, said) = serve(&[], port, &settings);
    until_is("the first sweep is over", 1, async || {
        database.count("select count(*) from vobiz.account where swept_at is not null").await
    })
    .await;
    let before = said.lock().unwrap().len();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut call_ids = Vec::new();
    for _ in 0..50 {
        let call = vobiz.place_call(CallSpec::default());
        call_ids.push(call.call_id.clone());
        assert_eq!(Callback::of(&vobiz, &call).send(address).await, 200);
    }
    until_is("all are stored", 50, async || database.count("select count(*) from vobiz.cdr").await).await;
    // Other loops may speak meanwhile; those through which a call goes have nothing to say of it.
    let rooms = ["vobiz_cdr::receive", "vobiz_cdr::fetch", "vobiz_cdr::db", "vobiz_cdr::account"];
    let speaks_of_a_call = |line: &&String| {
        rooms.iter().any(|room| line.contains(room)) || call_ids.iter().any(|id| line.contains(&**id))
    };
    let lines = said.lock().unwrap()[before..].to_vec();
    let of_calls: Vec<&String> = lines.iter().filter(speaks_of_a_call).collect();
    assert!(of_calls.is_empty(), "{of_calls:#?}");
    serve.terminate();
    assert!(serve.wait().success());
}
