//! Who is let in, and what that proves.

use serde_json::Value;
use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, PATH, SECRET, Setup, TOKEN, URL, hmac, sample};

const OTHER: &str = "MA_OTHER001";

/// The headers of a signature over the body.
fn signed_body(call_id: &str, token: &str, prefix: &str) -> Callback {
    let body = format!(r#"{{"Event":"Hangup","CallUUID":"{call_id}"}}"#);
    let signature = format!("{prefix}{}", hex::encode(hmac(token, body.as_bytes())));
    Callback::post(body).header("X-Vobiz-Signature", &signature)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn vectors() -> Value {
    serde_json::from_slice(&sample("signature_vectors.json")).unwrap()
}

#[tokio::test]
async fn each_of_the_proofs_makes_a_hangup_certain() {
    let database = Database::new().await;
    let endpoint = Setup { secrets: vec![SECRET, "trunk"], ..Setup::default() }.open(&database.pool);
    let answers = [
        endpoint.status(Callback::hangup("a").signed("v3", TOKEN, URL, "1")).await,
        endpoint.status(Callback::hangup("b").signed("ma-v3", TOKEN, URL, "2")).await,
        endpoint.status(Callback::hangup("c").signed("v2", TOKEN, URL, "3")).await,
        endpoint.status(Callback::hangup("d").signed("ma-v2", TOKEN, URL, "4")).await,
        endpoint.status(signed_body("e", TOKEN, "sha256=")).await,
        endpoint.status(signed_body("f", TOKEN, "")).await,
        endpoint.status(signed_body("g", "trunk", "")).await,
        endpoint.status(Callback::hangup("h").by_secret()).await,
    ];
    assert_eq!(answers, [200; 8]);
    let logged = |(call, proof): (&str, &str)| format!("Hangup {call} {ACCOUNT} {proof} owed");
    let expected = [
        ("a", "v3"),
        ("b", "ma-v3"),
        ("c", "v2"),
        ("d", "ma-v2"),
        ("e", "campaign"),
        ("f", "trunk"),
        ("g", "trunk"),
        ("h", "secret"),
    ];
    assert_eq!(database.log().await, expected.map(logged));
    // A parent's signature does not say whose call it is, nor does a secret.
    let owed = |(call, proven)| format!("{call} {ACCOUNT} certain{proven}");
    let expected = [
        ("a", " proven"),
        ("b", ""),
        ("c", " proven"),
        ("d", ""),
        ("e", " proven"),
        ("f", " proven"),
        ("g", ""),
        ("h", ""),
    ];
    assert_eq!(database.queue().await, expected.map(owed));
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn every_url_vector_is_accepted() {
    let database = Database::new().await;
    let mut expected = Vec::new();
    for vector in vectors()["url_vectors"].as_array().unwrap() {
        let name = text(vector, "name");
        let parent = vector["parent_auth_token"].as_str();
        let endpoint = Setup {
            accounts: vec!["SA_ONE", "MA_MAIN"],
            tokens: vec![("SA_ONE", text(vector, "auth_token")), ("MA_MAIN", parent.unwrap_or("another"))],
            urls: vec!["https://elsewhere.example.com/", text(vector, "callback_url")],
            ..Setup::default()
        }
        .open(&database.pool);
        for (key, proof) in [("v3", "v3"), ("v2", "v2"), ("ma_v3", "ma-v3"), ("ma_v2", "ma-v2")] {
            let Some(signature) = vector[key].as_str() else { continue };
            let nonce = format!("X-Vobiz-Signature-{}-Nonce", &proof[proof.len() - 2..]);
            let callback = Callback::post(format!("Event=Hangup&CallUUID={name}&ParentAuthID=MA_MAIN"))
                .header(&format!("X-Vobiz-Signature-{proof}"), signature)
                .header(&nonce, text(vector, "nonce"));
            assert_eq!(endpoint.status(callback).await, 200, "{name} {proof}");
            // The vectors have few nonces among them.
            database.run("truncate vobiz.callback_nonce").await;
            let account = if key.starts_with("ma") { "MA_MAIN" } else { "SA_ONE" };
            expected.push(format!("Hangup {name} {account} {proof} owed"));
        }
    }
    assert_eq!(expected.len(), 14);
    assert_eq!(database.log().await, expected);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn every_negative_vector_is_refused() {
    let database = Database::new().await;
    let vectors = vectors();
    let mut refused = 0;
    for vector in vectors["negative"].as_array().unwrap() {
        let tokens = vec![(ACCOUNT, text(vector, "auth_token"))];
        let endpoint = Setup { tokens, urls: vec![text(vector, "callback_url")], ..Setup::default() }
            .open(&database.pool);
        let callback = Callback::hangup("forged")
            .header(text(vector, "header"), text(vector, "value"))
            .header(&format!("{}-Nonce", text(vector, "header")), text(vector, "nonce"));
        let answer = endpoint.answer(callback).await;
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{vector}");
        refused += 1;
    }
    let candidates = &vectors["v1_candidates"];
    for candidate in ["candidate_a", "candidate_b", "candidate_c"] {
        let endpoint = Setup::default().open(&database.pool);
        let callback = Callback::post(sample(text(candidates, "params_file")))
            .header("X-Vobiz-Signature", text(&candidates[candidate], "value"));
        assert_eq!(endpoint.status(callback).await, 403, "{candidate}");
        refused += 1;
    }
    database.comes_to(refused, "select count(*) from vobiz.callback where outcome = 'refused'").await;
    assert_eq!(database.queue().await, [""; 0]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn every_body_vector_proves_exactly_its_bytes() {
    let database = Database::new().await;
    for vector in vectors()["body_vectors"].as_array().unwrap() {
        let (secret, body) = (text(vector, "secret"), text(vector, "raw_body"));
        let campaign = text(vector, "value").starts_with("sha256=");
        let setup = if campaign {
            Setup { tokens: vec![(ACCOUNT, secret)], secrets: vec![], ..Setup::default() }
        } else {
            Setup { tokens: vec![], secrets: vec!["another", secret], ..Setup::default() }
        };
        let endpoint = setup.open(&database.pool);
        let callback =
            |body: String| Callback::post(body).header(text(vector, "header"), text(vector, "value"));
        assert_eq!(endpoint.status(callback(body.to_owned())).await, 200, "{vector}");
        assert_eq!(endpoint.status(callback(format!("{body}\n"))).await, 403, "{vector}");
    }
    let campaign = "5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10";
    let trunk = "aabbccdd-1234-5678-90ab-cdef12345678";
    database.comes_to(3, "select count(*) from vobiz.callback where outcome = 'refused'").await;
    database.run("delete from vobiz.callback where outcome = 'refused'").await;
    assert_eq!(
        database.log().await,
        [
            format!("contact.answered {campaign} {ACCOUNT} campaign owed"),
            format!("Hangup {trunk} {ACCOUNT} trunk owed"),
            format!("ndnc.updated - {ACCOUNT} trunk logged"),
        ]
    );
    assert_eq!(
        database.queue().await,
        [format!("{campaign} {ACCOUNT} speculative proven"), format!("{trunk} {ACCOUNT} certain")]
    );
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn the_secret_path_takes_the_current_and_the_previous_secret_only() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec![ACCOUNT, OTHER],
        tokens: vec![(ACCOUNT, TOKEN)],
        secrets: vec!["current", "previous"],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    for (call_id, path, status) in [
        ("a", "/current", 200),
        ("b", "/previous", 200),
        ("c", "/MA_OTHER001/current", 200),
        ("d", "/MA_OTHER001/previous", 200),
        ("e", "/MA_STRANGER/current", 200),
        ("f", "/%63urrent", 200),
        ("g", "", 403),
        ("h", "/", 403),
        ("i", "/wrong", 403),
        ("j", "/Current", 403),
        ("k", "/currentprevious", 403),
        ("l", "/MA_OTHER001/wrong", 403),
        ("m", "/current/MA_OTHER001", 403),
        ("n", "/current%00", 403),
        ("o", "/%ff", 403),
        ("p", "/tok_main_7f3c1a9e5b2d4860", 403),
    ] {
        let answer = endpoint.answer(Callback::hangup(call_id).at(format!("{PATH}{path}"))).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
    }
    // What the body says of the account goes before the path.
    let hinted = Callback::post(format!("Event=Hangup&CallUUID=q&ParentAuthID={ACCOUNT}"));
    assert_eq!(endpoint.status(hinted.at(format!("{PATH}/{OTHER}/current"))).await, 200);
    // A signature is worth what it is worth, whatever the path says.
    assert_eq!(endpoint.status(Callback::hangup("r").by_v3(TOKEN).at(format!("{PATH}/wrong"))).await, 200);

    database.run("delete from vobiz.callback where outcome = 'refused'").await;
    assert_eq!(
        database.log().await,
        [
            "Hangup a - secret logged",
            "Hangup b - secret logged",
            "Hangup c MA_OTHER001 secret owed",
            "Hangup d MA_OTHER001 secret owed",
            "Hangup e - secret logged",
            "Hangup f - secret logged",
            "Hangup q MA_TESTAB12 secret owed",
            "Hangup r MA_TESTAB12 v3 owed",
        ]
    );
    let leaked =
        "select count(*) from vobiz.callback b where b::text like '%current%' or b::text like '%previous%'";
    assert_eq!(database.count(leaked).await, 0);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn two_tokens_hold_while_one_is_replaced() {
    let database = Database::new().await;
    let setup = Setup { tokens: vec![(ACCOUNT, "new"), (ACCOUNT, "old")], ..Setup::default() };
    let endpoint = setup.open(&database.pool);
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3("new")).await, 200);
    assert_eq!(endpoint.status(Callback::hangup("b").by_v3("old")).await, 200);
    assert_eq!(endpoint.status(signed_body("c", "old", "sha256=")).await, 200);
    for token in ["older", "", "newold"] {
        assert_eq!(endpoint.status(Callback::hangup("d").by_v3(token)).await, 403);
    }
    let owed = ["a", "b", "c"].map(|call_id| format!("{call_id} {ACCOUNT} certain proven"));
    assert_eq!(database.queue().await, owed);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn each_configured_url_counts_without_its_query_and_as_it_is_written() {
    let database = Database::new().await;
    let second = "https://calls.example.com:8443/answer%20here/";
    let configured = format!("{second}?tenant=42#x");
    let setup = Setup { urls: vec![URL, &configured], ..Setup::default() };
    let endpoint = setup.open(&database.pool);
    for (url, status) in [
        (URL, 200),
        (second, 200),
        ("https://calls.example.com:8443/answer%20here", 403),
        ("https://calls.example.com:8443/answer here/", 403),
        ("https://calls.example.com/answer%20here/", 403),
        ("https://calls.example.com/vobiz/hangup/", 403),
        ("https://calls.example.com/vobiz/hangup?x=1", 403),
        ("http://calls.example.com/vobiz/hangup", 403),
        ("https://Calls.example.com/vobiz/hangup", 403),
        ("", 403),
    ] {
        for (version, nonce) in [("v3", "31"), ("v2", "21")] {
            let nonce = format!("{nonce}{}", url.len());
            let callback =
                Callback::hangup("a").signed(version, TOKEN, url, &nonce).query("tenant=42&x=a%20b");
            assert_eq!(endpoint.status(callback).await, status, "{version} {url}");
        }
    }
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn what_proxies_write_into_headers_proves_nothing_and_spoils_nothing() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let behind_a_cdn = |callback: Callback| {
        callback
            .header("Host", "ip-10-0-3-17.internal:8080")
            .header("X-Forwarded-Proto", "http")
            .header("X-Forwarded-Host", "internal:8080")
            .header("X-Forwarded-Port", "80")
            .header("X-Forwarded-For", "15.206.6.156, 10.0.0.1")
            .header("Forwarded", "for=1.2.3.4;host=internal;proto=http")
    };
    assert_eq!(endpoint.status(behind_a_cdn(Callback::hangup("a").by_v3(TOKEN))).await, 200);
    // A signature over the URL as the proxy tells it is no signature over ours.
    let rebuilt = "http://internal:8080/callbacks/vobiz";
    assert_eq!(
        endpoint.status(behind_a_cdn(Callback::hangup("b").signed("v3", TOKEN, rebuilt, "5"))).await,
        403
    );
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain proven")]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn the_policy_decides_what_an_unproven_callback_is_worth() {
    for (policy, unproven, signed) in [
        (SignaturePolicy::Required, None, "v3"),
        (SignaturePolicy::Optional, Some("speculative"), "v3"),
        (SignaturePolicy::Off, Some("speculative"), "v3"),
    ] {
        let database = Database::new().await;
        let endpoint = Setup { policy, ..Setup::default() }.open(&database.pool);
        let status = if unproven.is_some() { 200 } else { 403 };
        for callback in [
            Callback::hangup("a"),
            Callback::hangup("b").by_v3("forged"),
            Callback::hangup("c").at(format!("{PATH}/wrong")),
            signed_body("d", "forged", "sha256="),
        ] {
            let answer = endpoint.answer(callback).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{policy:?}");
        }
        assert_eq!(endpoint.status(Callback::hangup("e").by_v3(TOKEN)).await, 200);
        let mut owed: Vec<String> = unproven
            .map(|worth| ["a", "b", "c", "d"].map(|call_id| format!("{call_id} {ACCOUNT} {worth}")).to_vec())
            .unwrap_or_default();
        owed.push(if signed == "v3" {
            format!("e {ACCOUNT} certain proven")
        } else {
            format!("e {ACCOUNT} speculative")
        });
        assert_eq!(database.queue().await, owed, "{policy:?}");
        let log = database.log().await;
        assert_eq!(log.len(), 5, "{policy:?}");
        let outcome = if unproven.is_some() { "owed" } else { "refused" };
        for (line, call_id) in log.iter().zip(["a", "b", "c", "d"]) {
            let account = if unproven.is_some() { ACCOUNT } else { "-" };
            assert_eq!(line, &format!("Hangup {call_id} {account} none {outcome}"), "{policy:?}");
        }
        assert_eq!(log[4], format!("Hangup e {ACCOUNT} {signed} owed"));
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn a_refused_callback_says_in_the_log_why() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for callback in [
        Callback::hangup("a"),
        Callback::hangup("b").at(format!("{PATH}/wrong")),
        Callback::hangup("c").by_v3("forged"),
    ] {
        assert_eq!(endpoint.status(callback).await, 403);
    }
    // Its answer comes after the notes before it are written.
    assert_eq!(endpoint.status(Callback::post("Event=Ring").by_secret()).await, 200);
    let notes: Vec<String> =
        sqlx::query_scalar("select note from vobiz.callback where outcome = 'refused' order by call_id")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(
        notes,
        [
            "no signature and no secret path",
            "the secret in the path is not ours, or another account's than the callback is of",
            "no signature matches, or none of the account that it names: check CDR_CALLBACK_URL and VOBIZ_AUTH_TOKEN",
        ]
    );
    assert_eq!(database.queue().await, [""; 0]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn only_a_sample_of_the_refused_is_kept() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let forged = (0..300).map(|n| match n % 3 {
        0 => Callback::hangup(&format!("f{n}")),
        1 => Callback::hangup(&format!("f{n}")).by_v3("forged"),
        _ => Callback::hangup(&format!("f{n}")).at(format!("{PATH}/wrong")),
    });
    assert!(endpoint.answers(forged).await.iter().all(|answer| answer.status == 403));
    assert_eq!(endpoint.status(Callback::hangup("a").by_secret()).await, 200);
    assert_eq!(database.count("select count(*) from vobiz.callback where outcome = 'refused'").await, 20);
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain")]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_nonce_proves_one_call_only() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let captured = |call_id: &str| Callback::hangup(call_id).signed("v3", TOKEN, URL, "12345678901234567890");
    assert_eq!(endpoint.status(captured("a")).await, 200);
    assert_eq!(endpoint.status(captured("a")).await, 200, "Vobiz calls again with the same request");
    let replayed = endpoint.answer(captured("b")).await;
    assert_eq!((replayed.status, replayed.body.len()), (403, 0));
    assert_eq!(endpoint.status(captured("a")).await, 200, "the first call keeps it");
    // The nonce of V2 is another one, and counts just the same.
    let both = |call_id: &str| {
        Callback::hangup(call_id).signed("v3", TOKEN, URL, "31").signed("v2", TOKEN, URL, "21")
    };
    assert_eq!(endpoint.status(both("c")).await, 200);
    assert_eq!(endpoint.status(Callback::hangup("d").signed("v2", TOKEN, URL, "21")).await, 403);
    assert_eq!(endpoint.status(Callback::hangup("d").signed("v3", TOKEN, URL, "31")).await, 403);
    // The secret path needs no nonce.
    assert_eq!(endpoint.status(both("d").by_secret()).await, 200);
    assert_eq!(
        database.queue().await,
        [
            format!("a {ACCOUNT} certain proven"),
            format!("c {ACCOUNT} certain proven"),
            format!("d {ACCOUNT} certain"),
        ]
    );
    let notes = "select distinct note from vobiz.callback where outcome = 'refused'";
    assert_eq!(database.text(notes).await, "its nonce was used for another call");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_replayed_nonce_is_worth_nothing_where_signatures_are_optional() {
    let database = Database::new().await;
    let endpoint = Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
    for call_id in ["a", "b"] {
        assert_eq!(endpoint.status(Callback::hangup(call_id).signed("v3", TOKEN, URL, "1")).await, 200);
    }
    assert_eq!(
        database.queue().await,
        [format!("a {ACCOUNT} certain proven"), format!("b {ACCOUNT} speculative")]
    );
    database.every_certain_call_is_somewhere().await;
}
