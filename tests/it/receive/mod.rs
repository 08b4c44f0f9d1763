//! Callback in, a call committed in a group, 200 out: through the real router, into a real Postgres.

mod account;
mod endpoint;
mod group_commit;
mod outage;
mod owed;
mod proof;
mod replay;
mod strangers;

use serde_json::Value;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, Setup, sample};

const OUTBOUND: &str = "5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10";
const INBOUND: &str = "8a41d7c6-2e95-4b13-b0fd-37c9e1f25a64";
const B_LEG: &str = "b9d0e1f2-a3b4-4c5d-8e6f-708192a3b4c5";
const TRUNK: &str = "aabbccdd-1234-5678-90ab-cdef12345678";

/// What a sample is: its event, its call, whether that is owed and certain, its SIP Call-ID.
fn meaning(file: &str) -> (&'static str, &'static str, Option<bool>, &'static str) {
    match file {
        "hangup_outbound.form"
        | "hangup_docs_minimal.form"
        | "hangup_get.query"
        | "callbacks_page_hangup.json" => ("Hangup", OUTBOUND, Some(true), "-"),
        "hangup_inbound.form" | "hangup_at_answer_url.form" => ("Hangup", INBOUND, Some(true), "-"),
        "hangup_no_answer.form" => ("Hangup", "091a2b3c-4d5e-4f60-8172-83940a5b6c7d", Some(true), "-"),
        "startapp_inbound.form" => ("StartApp", INBOUND, None, "-"),
        "startapp_outbound.form" => ("StartApp", OUTBOUND, None, "-"),
        "ring_outbound.form" => ("Ring", OUTBOUND, None, "-"),
        "dial_hangup_answered.form" | "dial_hangup_timeout.form" => ("DialHangup", B_LEG, Some(false), "-"),
        "dial_action.form" => ("DialAction", OUTBOUND, None, "-"),
        "trunk_call_initiated.json" => ("CallInitiated", TRUNK, None, "-"),
        "trunk_call_rejected.json" => ("CallInitiated", "22334455-6677-4889-9aab-bccddeeff001", None, "-"),
        "trunk_hangup.json" | "trunk_hangup_older.json" => ("Hangup", TRUNK, Some(true), "abc123@10.0.0.1"),
        "campaign_contact_answered.json" => ("contact.answered", OUTBOUND, Some(false), "-"),
        "old_call_completed.json" => ("call.completed", OUTBOUND, None, "-"),
        other => panic!("{other} is a new sample: say here what it means"),
    }
}

#[tokio::test]
async fn every_captured_callback_comes_in_as_it_is() {
    let database = Database::new().await;
    let index: Vec<Value> = serde_json::from_slice(&sample("index.json")).unwrap();
    let is_callback = |entry: &&Value| {
        let kind = entry["kind"].as_str().unwrap();
        kind.starts_with("callback_") || kind.ends_with("_webhook")
    };
    let callbacks: Vec<&Value> = index.iter().filter(is_callback).collect();
    let urls: Vec<&str> = callbacks.iter().map(|entry| entry["url"].as_str().unwrap()).collect();
    let endpoint = Setup { urls, ..Setup::default() }.open(&database.pool);
    assert_eq!(callbacks.len(), 19);
    for entry in callbacks {
        let file = entry["file"].as_str().unwrap();
        let sent = sample(file);
        let by_get = entry["method"] == "GET";
        let mut callback = if by_get {
            Callback::get(std::str::from_utf8(&sent).unwrap())
        } else {
            Callback::post(sent.clone())
        };
        if let Some(content_type) = entry["content_type"].as_str() {
            callback = callback.header("Content-Type", content_type);
        }
        let mut proof = "secret";
        if let Some(headers) = entry["headers_file"].as_str() {
            let headers: Value = serde_json::from_slice(&sample(headers)).unwrap();
            for (name, value) in headers.as_object().unwrap() {
                match name.to_ascii_lowercase().as_str() {
                    "x-vobiz-signature-v3" => proof = "v3",
                    "x-vobiz-signature" if value.as_str().unwrap().starts_with("sha256=") => {
                        proof = "campaign";
                    }
                    _ => {}
                }
                callback = callback.header(name, value.as_str().unwrap());
            }
        }
        if proof == "secret" {
            assert_eq!(endpoint.status(callback.clone()).await, 403, "{file} proves nothing by itself");
            database.comes_to(1, "select count(*) from vobiz.callback where outcome = 'refused'").await;
            database.run("truncate vobiz.callback").await;
            callback = callback.by_secret();
        }
        let answer = endpoint.answer(callback).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{file}");

        let (event, call_id, owed, sip_call_id) = meaning(file);
        let outcome = if owed.is_some() { "owed" } else { "logged" };
        assert_eq!(
            database.log().await,
            [format!("{event} {call_id} {ACCOUNT} {proof} {outcome}")],
            "{file}"
        );
        let (query, body): (Option<String>, Vec<u8>) =
            sqlx::query_as("select query, body from vobiz.callback where note is null")
                .fetch_one(&database.pool)
                .await
                .unwrap();
        let (kept, empty) = if by_get { (query.unwrap().into_bytes(), body) } else { (body, Vec::new()) };
        assert_eq!((kept, empty), (sent, Vec::new()), "{file}: byte for byte");

        let expected: Vec<String> = owed
            .map(|certain| {
                let certain = if certain { "certain" } else { "speculative" };
                let proven = if proof == "secret" { "" } else { " proven" };
                format!("{call_id} {ACCOUNT} {certain}{proven}")
            })
            .into_iter()
            .collect();
        assert_eq!(database.queue().await, expected, "{file}");
        if owed.is_some() {
            assert_eq!(database.text("select sip_call_id from vobiz.cdr_queue").await, sip_call_id, "{file}");
            let due = "select count(*) from vobiz.cdr_queue q join vobiz.callback b using (call_id)
                       where q.enqueued_at = b.received_at and q.announced_at = b.received_at
                         and q.due_at = b.received_at + interval '4 seconds'
                         and q.failures = 0 and q.lease_id is null and q.dead_at is null";
            assert_eq!(database.count(due).await, 1, "{file}");
        }
        database.every_certain_call_is_somewhere().await;
        database.run("truncate vobiz.callback, vobiz.cdr_queue").await;
    }
}
