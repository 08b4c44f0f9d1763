//! The simulated Vobiz itself: what it sends is what was captured, what it answers adds up, and what it breaks is
//! really broken.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]
#![expect(
    clippy::unnecessary_wraps,
    reason = "`time` and `text` fill fields of a CallSpec, which are options"
)]

mod clock;
mod faults;
mod lists;
mod traffic;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, Response};
use rust_decimal::Decimal;
use serde_json::Value;
use vobiz_cdr::simulator::{
    Call, CallKind, CallSpec, CallbackKind, Casing, Direction, SimulatedAccount, Simulator, SimulatorOptions,
    callback_body, sign,
};

use crate::support::wait::LIMIT;

const MAIN: &str = "MA_TESTAB12";
const MAIN_TOKEN: &str = "tok_main_7f3c1a9e5b2d4860";
const SUB: &str = "SA_TESTCD34";
const SUB_TOKEN: &str = "tok_sub_91e04c77ab35d2f8";

fn sample(name: &str) -> String {
    let path = format!("{}/tests/data/vobiz/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&sample(name)).unwrap()
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    Some(text.parse().unwrap())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn options() -> SimulatorOptions {
    SimulatorOptions {
        accounts: vec![SimulatedAccount::new(MAIN, MAIN_TOKEN)],
        ..SimulatorOptions::default()
    }
}

async fn start(options: SimulatorOptions) -> Simulator {
    Simulator::start(options).await.unwrap()
}

/// One client for all tests. It keeps no connection: each test has a runtime of its own, which its connections die
/// with.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        client.pool_max_idle_per_host(0).timeout(LIMIT).build().unwrap()
    })
}

async fn get_as(vobiz: &Simulator, id: &str, token: &str, path: &str) -> reqwest::Result<Response> {
    let url = format!("{}/api/v1/{path}", vobiz.api_url());
    client().get(url).header("X-Auth-ID", id).header("X-Auth-Token", token).send().await
}

async fn get(vobiz: &Simulator, path: &str) -> Response {
    get_as(vobiz, MAIN, MAIN_TOKEN, &format!("Account/{MAIN}/cdr{path}")).await.unwrap()
}

async fn body(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn fetch(vobiz: &Simulator, call: &Call) -> Response {
    get(vobiz, &format!("/{}", call.call_id)).await
}

fn outbound() -> CallSpec {
    CallSpec {
        account: text(MAIN),
        direction: Some(Direction::Outbound),
        call_id: text("5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10"),
        from: text("+911100000002"),
        to: text("+915000000001"),
        started_at: time("2026-07-21T08:08:36Z"),
        answered_at: time("2026-07-21T08:08:41Z"),
        ended_at: time("2026-07-21T08:08:44Z"),
        session_started_at: time("2026-07-21T08:08:38.662991Z"),
        billsec: Some(4),
        ring_time: Some(5),
        hangup_cause: text("NORMAL_CLEARING"),
        hangup_source: text("Callee"),
        ..CallSpec::default()
    }
}

#[tokio::test]
async fn a_hangup_form_is_the_captured_one_byte_for_byte() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(outbound());
    let form = callback_body(&call, CallbackKind::Hangup);
    assert_eq!(form, sample("hangup_outbound.form"));
    assert_eq!(form.len(), 674);

    let unanswered = vobiz.place_call(CallSpec {
        call_id: text("091a2b3c-4d5e-4f60-8172-83940a5b6c7d"),
        answered_at: None,
        billsec: Some(0),
        hangup_cause: text("NO_ANSWER"),
        ..outbound()
    });
    assert_eq!(callback_body(&unanswered, CallbackKind::Hangup), sample("hangup_no_answer.form"));

    let call = vobiz.place_call(CallSpec {
        account: text(MAIN),
        direction: Some(Direction::Inbound),
        call_id: text("8a41d7c6-2e95-4b13-b0fd-37c9e1f25a64"),
        from: text("+915000000001"),
        to: text("+917900000002"),
        ended_at: time("2026-06-08T06:04:43Z"),
        session_started_at: time("2026-06-08T06:04:32.870618Z"),
        billsec: Some(11),
        hangup_cause: text("NORMAL_CLEARING"),
        hangup_source: text("Answer XML"),
        ..CallSpec::default()
    });
    let form = callback_body(&call, CallbackKind::Hangup);
    assert_eq!((form.as_str(), form.len()), (sample("hangup_inbound.form").as_str(), 550));
    let form = callback_body(&call, CallbackKind::Answer);
    assert_eq!((form.as_str(), form.len()), (sample("startapp_inbound.form").as_str(), 324));
}

/// The documented lists of parameters were written down in page order; the wire sorts them.
#[tokio::test]
async fn ring_and_answer_have_the_documented_parameters() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(outbound());
    for (kind, file) in
        [(CallbackKind::Ring, "ring_outbound.form"), (CallbackKind::Answer, "startapp_outbound.form")]
    {
        let mut documented: Vec<String> = sample(file).split('&').map(str::to_owned).collect();
        documented.sort();
        let sent = callback_body(&call, kind);
        assert_eq!(sent.split('&').collect::<Vec<_>>(), documented, "{file}");
    }
}

#[tokio::test]
async fn a_trunk_webhook_has_the_documented_shape() {
    let vobiz = start(SimulatorOptions { trunk_url: text("http://127.0.0.1:9/t/secret"), ..options() }).await;
    let call = vobiz.place_call(CallSpec {
        kind: CallKind::Trunk,
        direction: Some(Direction::Outbound),
        billsec: Some(3),
        ring_time: Some(5),
        cost: Some(Decimal::new(7, 2)),
        ..CallSpec::default()
    });
    let keys = |json: &str| -> Vec<String> {
        let pairs = json.lines().filter_map(|line| line.trim().split_once(':'));
        pairs.map(|(key, _)| key.to_owned()).collect()
    };
    let spread = |json: &str| json.replace("{\"", "{\n\"").replace(",\"", ",\n\"");
    for (kind, file) in [
        (CallbackKind::TrunkHangup, "trunk_hangup.json"),
        (CallbackKind::CallInitiated, "trunk_call_initiated.json"),
    ] {
        let request = vobiz.callback_request(&call, kind).unwrap();
        let sent = String::from_utf8(request.body().to_vec()).unwrap();
        assert_eq!(keys(&spread(&sent)), keys(&sample(file)), "{file}");
        assert_eq!(request.headers()["user-agent"], "Vobiz-Vapor/1.0");
        assert!(!request.headers().contains_key("x-vobiz-signature"));
        let id = serde_json::from_str::<Value>(&sent).unwrap()["CallUUID"].clone();
        // The trap of the captures: only the hang-up carries the id of the CDR.
        assert_eq!(
            id == call.call_id.as_str(),
            kind == CallbackKind::TrunkHangup || call.call_id == call.sip_call_id
        );
    }
    let hangup = callback_body(&call, CallbackKind::TrunkHangup);
    assert!(
        hangup.contains(r#""Duration":8,"Billsec":3,"RingTime":5,"Cost":0.07,"Currency":"INR""#),
        "{hangup}"
    );
}

#[test]
fn signatures_equal_the_vectors() {
    let vectors = json("signature_vectors.json");
    let vectors = vectors["url_vectors"].as_array().unwrap();
    assert!(vectors.len() >= 6);
    for vector in vectors {
        let field = |name: &str| vector[name].as_str().unwrap_or("");
        let (url, nonce, token) = (field("callback_url"), field("nonce"), field("auth_token"));
        assert_eq!(sign::base_url(url), field("base_url"));
        assert_eq!(sign::v2(token, url, nonce), field("v2"), "{vector}");
        assert_eq!(sign::v3(token, url, nonce), field("v3"), "{vector}");
        if let Some(parent) = vector["parent_auth_token"].as_str() {
            assert_eq!(sign::v2(parent, url, nonce), field("ma_v2"));
            assert_eq!(sign::v3(parent, url, nonce), field("ma_v3"));
        }
    }
}

#[tokio::test]
async fn a_callback_carries_the_captured_headers_signed_by_account_and_parent() {
    let url = "https://calls.example.com/vobiz/{account}?tenant=42";
    let vobiz = start(SimulatorOptions {
        accounts: vec![SimulatedAccount::new(SUB, SUB_TOKEN).under(MAIN, MAIN_TOKEN)],
        callback_url: text(url),
        callback_sent_to: text("http://127.0.0.1:9/inside"),
        ..options()
    })
    .await;
    let call = vobiz.place_call(CallSpec::default());
    assert_eq!((call.account_id.as_str(), call.parent_id.as_str()), (SUB, MAIN));
    let request = vobiz.callback_request(&call, CallbackKind::Hangup).unwrap();
    assert_eq!(request.uri(), "http://127.0.0.1:9/inside");
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    let captured = json("hangup_outbound.headers.json");
    let from_the_network = ["host", "content-length", "x-forwarded-for", "x-forwarded-proto"];
    for (name, value) in captured.as_object().unwrap() {
        if !from_the_network.contains(&name.as_str()) {
            assert_eq!(header(name).len(), value.as_str().unwrap().len(), "{name}");
        }
    }
    let nonces = (header("x-vobiz-signature-v2-nonce"), header("x-vobiz-signature-v3-nonce"));
    assert_ne!(nonces.0, nonces.1);
    assert!([nonces.0, nonces.1].iter().all(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit())));
    let signed = format!("https://calls.example.com/vobiz/{SUB}");
    assert_eq!(header("x-vobiz-signature-v2"), sign::v2(SUB_TOKEN, &signed, nonces.0));
    assert_eq!(header("x-vobiz-signature-v3"), sign::v3(SUB_TOKEN, &signed, nonces.1));
    assert_eq!(header("x-vobiz-signature-ma-v2"), sign::v2(MAIN_TOKEN, &signed, nonces.0));
    assert_eq!(header("x-vobiz-signature-ma-v3"), sign::v3(MAIN_TOKEN, &signed, nonces.1));

    vobiz.set_token(SUB, "tok_rotated");
    let request = vobiz.callback_request(&call, CallbackKind::Hangup).unwrap();
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    let nonce = header("x-vobiz-signature-v3-nonce");
    assert_ne!(nonce, nonces.1, "a second delivery has a nonce of its own");
    assert_eq!(header("x-vobiz-signature-v3"), sign::v3("tok_rotated", &signed, nonce));
}

#[tokio::test]
async fn a_cdr_is_printed_key_for_key_as_documented() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec {
        cost: Some("0.450".parse().unwrap()),
        streaming_cost: Some("0.00001".parse().unwrap()),
        ..outbound()
    });
    let response = fetch(&vobiz, &call).await;
    assert!(response.headers().contains_key("date"));
    let raw = response.text().await.unwrap();
    let cdr: Value = serde_json::from_str(&raw).unwrap();
    let documented = json("cdr_answered.json");
    let names = |cdr: &Value| cdr["data"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&cdr), names(&documented));
    assert_eq!(names(&cdr).len(), 43);
    let mut at = 0;
    for name in names(&documented) {
        let key = format!("\"{name}\":");
        at = raw[at..].find(&key).map_or_else(|| panic!("{name} is out of order"), |found| at + found);
    }
    assert!(raw.contains(r#""cost":0.45,"#) && raw.contains(r#""total_cost":0.45001,"#), "{raw}");
    assert!(raw.contains(r#""end_time":"2026-07-21T08:08:44Z""#), "{raw}");
    assert_eq!(cdr["data"]["duration"], 9);

    let odd = vobiz.place_call(
        CallSpec { hangup_cause: text("SAID \"BYE\"\n"), ..CallSpec::default() }
            .with("cost", "\"0.10\"")
            .with("stream_cdrs", "[{\"billed_amount\":0.9}]")
            .with("zone", "1")
            .without("mos"),
    );
    let cdr = body(fetch(&vobiz, &odd).await).await["data"].clone();
    assert_eq!(cdr["cost"], "0.10");
    assert_eq!(cdr["hangup_cause"], "SAID \"BYE\"\n");
    assert_eq!(cdr["stream_cdrs"][0]["billed_amount"].to_string(), "0.9");
    assert_eq!((cdr.get("mos"), cdr["zone"].as_u64()), (None, Some(1)));
    let whole = vobiz.place_call(CallSpec { body: text("not json"), ..CallSpec::default() });
    assert_eq!(fetch(&vobiz, &whole).await.text().await.unwrap(), "not json");
}

#[tokio::test]
async fn credentials_paths_and_casing_are_checked() {
    let vobiz = start(SimulatorOptions {
        accounts: vec![
            SimulatedAccount::new(SUB, SUB_TOKEN).under(MAIN, MAIN_TOKEN),
            SimulatedAccount::new("MA_OTHER", "tok_other"),
            SimulatedAccount::new("PA_PARTNER", "tok_partner"),
        ],
        casing: Casing::Capital,
        ..options()
    })
    .await;
    let call = vobiz.place_call(CallSpec { account: text(SUB), ..CallSpec::default() });
    let id = &call.call_id;
    for (who, token, path, status) in [
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr/{id}"), 200),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr/{}", id.replace('-', "%2D")), 200),
        (MAIN, MAIN_TOKEN, format!("Account/{SUB}/cdr/{id}"), 200),
        (MAIN, MAIN_TOKEN, format!("Account/{MAIN}/cdr/{id}"), 404),
        (SUB, "wrong", format!("Account/{SUB}/cdr/{id}"), 401),
        ("MA_OTHER", "tok_other", format!("Account/{SUB}/cdr/{id}"), 401),
        ("MA_OTHER", "tok_other", format!("Account/MA_OTHER/cdr/{id}"), 404),
        (SUB, SUB_TOKEN, format!("account/{SUB}/cdr/{id}"), 404),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr/{}", call.vobiz_id), 404),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr/"), 404),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/CDR/{id}"), 404),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr/%ff%zz%"), 404),
        (SUB, SUB_TOKEN, format!("Account/{SUB}/cdr?start_date=25/03/2026&end_date=2026-03-25"), 422),
        (SUB, SUB_TOKEN, format!("partner/accounts/{SUB}/cdrs/{id}"), 403),
        ("PA_PARTNER", "tok_partner", format!("partner/accounts/{SUB}/cdrs/{id}"), 200),
    ] {
        let response = get_as(&vobiz, who, token, &path).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{who} {path}");
    }
    let refused = get_as(&vobiz, SUB, "wrong", &format!("Account/{SUB}/cdr")).await.unwrap();
    assert_eq!(body(refused).await, json("error_401_flat.json"));
    let unknown = get_as(&vobiz, SUB, SUB_TOKEN, &format!("Account/{SUB}/cdr/nobody")).await.unwrap();
    assert_eq!(body(unknown).await, json("error_404_flat.json"));
    vobiz.set_token(SUB, "tok_new");
    for (token, status) in [(SUB_TOKEN, 401), ("tok_new", 200)] {
        let response = get_as(&vobiz, SUB, token, &format!("Account/{SUB}/cdr/{id}")).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
    }
}

#[tokio::test]
async fn a_partner_gets_the_bare_cdr_and_every_customers_list() {
    let partner = ("PA_PARTNER", "tok_partner");
    let accounts = vec![
        SimulatedAccount::new(MAIN, MAIN_TOKEN),
        SimulatedAccount::new("MA_B", "b"),
        SimulatedAccount::new(partner.0, partner.1),
    ];
    let vobiz = start(SimulatorOptions { accounts, ..options() }).await;
    let call = vobiz.place_call(CallSpec { account: text(MAIN), ..CallSpec::default() });
    let _other =
        vobiz.place_call(CallSpec { account: text("MA_B"), answered: Some(false), ..CallSpec::default() });
    let path = format!("partner/accounts/{MAIN}/cdrs");
    let bare =
        body(get_as(&vobiz, partner.0, partner.1, &format!("{path}/{}", call.call_id)).await.unwrap()).await;
    assert_eq!(
        (bare["uuid"].as_str(), bare.get("data"), bare.get("success")),
        (Some(&*call.call_id), None, None)
    );
    let list = body(get_as(&vobiz, partner.0, partner.1, &path).await.unwrap()).await;
    assert_eq!((list["account_auth_id"].as_str(), list["count"].as_u64()), (Some(MAIN), Some(1)));
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<HashSet<_>>();
    assert_eq!(names(&list), names(&json("partner_cdr_list.json")));
    let all = body(get_as(&vobiz, partner.0, partner.1, "partner/cdrs").await.unwrap()).await;
    assert_eq!(all["pagination"]["total"], 2);
    let unanswered = "partner/accounts/MA_B/cdrs?status=answered";
    assert_eq!(body(get_as(&vobiz, partner.0, partner.1, unanswered).await.unwrap()).await["count"], 0);
}
