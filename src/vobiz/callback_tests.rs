use proptest::prelude::*;

use super::*;

const OUTBOUND: &str = "5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10";

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/vobiz/{name}")).unwrap()
}

type EndedCase<'a> = Option<(&'a str, Leg)>;

fn ended(callback: &Callback) -> EndedCase<'_> {
    callback.ended.as_ref().map(|ended| (ended.call_id.as_str(), ended.leg))
}

#[test]
fn every_captured_callback_is_understood() {
    let trunk = "aabbccdd-1234-5678-90ab-cdef12345678";
    let inbound = "8a41d7c6-2e95-4b13-b0fd-37c9e1f25a64";
    let b_leg = "b9d0e1f2-a3b4-4c5d-8e6f-708192a3b4c5";
    let expected = |file: &str| match file {
        "hangup_outbound.form" | "hangup_docs_minimal.form" | "hangup_get.query" => {
            Some((OUTBOUND, Leg::Voice))
        }
        "callbacks_page_hangup.json" => Some((OUTBOUND, Leg::Voice)),
        "hangup_inbound.form" | "hangup_at_answer_url.form" => Some((inbound, Leg::Voice)),
        "hangup_no_answer.form" => Some(("091a2b3c-4d5e-4f60-8172-83940a5b6c7d", Leg::Voice)),
        "dial_hangup_answered.form" | "dial_hangup_timeout.form" => Some((b_leg, Leg::BLeg)),
        "trunk_hangup.json" | "trunk_hangup_older.json" => Some((trunk, Leg::Trunk)),
        "campaign_contact_answered.json" => Some((OUTBOUND, Leg::Campaign)),
        _ => None,
    };
    let index: serde_json::Value = serde_json::from_slice(&sample("index.json")).unwrap();
    let mut completions = 0;
    for entry in index.as_array().unwrap() {
        let kind = entry["kind"].as_str().unwrap();
        if !kind.starts_with("callback_") && !kind.ends_with("_webhook") {
            continue;
        }
        let file = entry["file"].as_str().unwrap();
        let body = sample(file);
        let callback = if entry["method"] == "GET" {
            parse(Some(std::str::from_utf8(&body).unwrap()), b"")
        } else {
            parse(None, &body)
        };
        assert_eq!(ended(&callback), expected(file), "{file}");
        assert_eq!(callback.note, None, "{file}");
        assert!(callback.call_id.is_some() && !callback.event.is_empty(), "{file}");
        completions += usize::from(callback.ended.is_some());
    }
    assert_eq!(completions, 12);
}

#[test]
fn hints_at_the_account_come_in_order() {
    let accounts = |callback: Callback| callback.accounts.iter().map(ToString::to_string).collect::<Vec<_>>();
    for file in [
        "hangup_inbound.form",
        "trunk_hangup.json",
        "trunk_call_initiated.json",
        "campaign_contact_answered.json",
    ] {
        assert_eq!(accounts(parse(None, &sample(file))), ["MA_TESTAB12"], "{file}");
    }
    let all = b"account_id=D&auth_id=C&AccountId=B&ParentAuthID=&ParentAuthID=A&Event=Ring&x=1";
    assert_eq!(accounts(parse(None, all)), ["A", "B", "C", "D"]);
    assert_eq!(accounts(parse(None, b"auth_id=A&account_id=A")), ["A"]);
}

#[test]
fn a_trunk_call_keeps_its_sip_call_id() {
    let callback = parse(None, &sample("trunk_hangup.json"));
    assert_eq!(callback.ended.unwrap().sip_call_id.as_deref(), Some("abc123@10.0.0.1"));
    assert_eq!(parse(None, &sample("hangup_inbound.form")).ended.unwrap().sip_call_id, None);
}

#[test]
fn a_dial_ends_the_far_leg_only() {
    let callback = parse(None, &sample("dial_hangup_answered.form"));
    assert_eq!(callback.call_id.unwrap().as_str(), OUTBOUND);
    assert!(callback.ended.unwrap().leg.is_speculative());
    for (form, note) in [
        ("Event=DialHangup&CallUUID=a&DialBLegUUID=", "there is no DialBLegUUID"),
        ("Event=DialHangup&CallUUID=a&DialBLegUUID=a", "DialBLegUUID is the A leg"),
        ("Event=DialHangup&CallUUID=x&DialALegUUID=a&DialBLegUUID=a", "DialBLegUUID is the A leg"),
    ] {
        let callback = parse(None, form.as_bytes());
        assert_eq!((callback.ended, callback.note.as_deref()), (None, Some(note)), "{form}");
    }
}

#[test]
fn the_body_decides_what_it_is() {
    let voice = Some(("a", Leg::Voice));
    let trunk = Some(("a", Leg::Trunk));
    let cases: [(Option<&str>, &str, EndedCase<'_>); 22] = [
        (None, "Event=HANGUP&CallUUID=a", voice),
        (None, "Event=&Event=Hangup&CallUUID=&CallUUID=a&CallUUID=b", voice),
        (None, " \r\n{\"Event\":\"hangup\",\"CallUUID\":\"a\"}", voice),
        (None, "\u{feff}{\"Event\":\"Hangup\",\"CallUUID\":\"a\"}", voice),
        (None, "{\"Event\":\"Hangup\",\"CallUUID\":null,\"CallUUID\":\"a\",\"x\":[{}]}", voice),
        (None, "Event=Hangup&CallUUID=a&SIPCallID=s", trunk),
        (
            None,
            "[{\"headers\":{\"a\":1},\"body\":{\"Event\":\"Hangup\",\"CallUUID\":\"a\",\"TrunkID\":\"t\"}}]",
            trunk,
        ),
        (None, "[{\"body\":\"Event=Hangup&CallUUID=a\"}]", voice),
        (None, "[{\"body\":\"{\\\"Event\\\":\\\"Hangup\\\",\\\"CallUUID\\\":\\\"a\\\"}\"}]", voice),
        (Some("Event=Hangup&CallUUID=a"), "", voice),
        (Some("Event=Hangup&CallUUID=a"), "x=1", voice),
        (Some("Event=Hangup&CallUUID=b"), "Event=Hangup&CallUUID=a", voice),
        (Some("Event=Hangup&CallUUID=b"), "Event=Ring&CallUUID=a", None),
        (None, "[{\"body\":{\"Event\":\"Hangup\",\"CallUUID\":\"a\"}},{}]", None),
        // Forms that begin like JSON.
        (None, "[x]=1&Event=Hangup&CallUUID=a", voice),
        (None, " {x}&Event=Hangup&CallUUID=a&TrunkID={t}", trunk),
        (None, "{&Event=Hangup&CallUUID=a", voice),
        (None, "[{\"body\":\"{x}=1&Event=Hangup&CallUUID=a\"}]", voice),
        (Some("Event=Hangup&CallUUID=a"), "{x}=1", voice),
        // Half a JSON is none.
        (None, "{\"Event\":\"Hangup\",\"CallUUID\":\"a\"", None),
        (None, "{\"event\":\"contact.retry_scheduled\"}", None),
        (None, "CallUUID=a", None),
    ];
    for (query, body, expected) in cases {
        assert_eq!(ended(&parse(query, body.as_bytes())), expected, "{query:?} {body}");
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let note = |body: &str| parse(None, body.as_bytes()).note.unwrap_or_default();
    let bad = "CallUUID is no call id: an id is made of letters, digits and . _ : @ + - only";
    assert_eq!(note("Event=Hangup&CallUUID=a/b"), bad);
    assert_eq!(note("Event=Ring&CallUUID=a/b"), bad);
    assert_eq!(note("Event=Hangup"), "there is no CallUUID");
    assert_eq!(note("{\"Event\":\"Hangup\""), "the body is no JSON, or only half of it");
    assert_eq!(note("[1]"), "the body is a list that is no wrapped callback");
    assert_eq!(
        note("Event=Ring&auth_id=%00"),
        "an account is no account id: an id is made of letters, digits and . _ : @ + - only"
    );
    assert_eq!(parse(None, b""), Callback::default());
}

#[test]
fn an_event_cannot_break_a_log_line() {
    let callback = parse(None, format!("Event=a%0Ab%1b\u{e9}{}", "x".repeat(500)).as_bytes());
    assert_eq!(callback.event.len(), 64);
    assert!(callback.event.starts_with("a?b??x"), "{}", callback.event);
}

#[test]
fn any_nesting_is_safe() {
    let deep = format!(
        "{{\"Event\":\"Hangup\",\"CallUUID\":\"a\",\"x\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(parse(None, deep.as_bytes()).ended.is_some());
    parse(None, "[{\"body\":".repeat(100_000).as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_parse(query in proptest::option::of(".{0,40}"), body in prop::collection::vec(any::<u8>(), 0..120)) {
        parse(query.as_deref(), &body);
    }

    #[test]
    fn damaged_callbacks_parse(trunk: bool, at in 0usize..550, byte: u8, cut in 0usize..700) {
        let mut body = sample(if trunk { "trunk_hangup.json" } else { "hangup_inbound.form" });
        body[at] = byte;
        body.truncate(cut);
        let callback = parse(None, &body);
        prop_assert!(callback.event.len() <= 64);
    }
}

#[test]
fn a_word_for_none_names_no_call() {
    for id in [
        "undefined",
        "null",
        "None",
        "0",
        "NaN",
        "%7B%7BCallUUID%7D%7D",
        "00000000-0000-0000-0000-000000000000",
    ] {
        let callback = parse(None, format!("Event=Hangup&CallUUID={id}").as_bytes());
        assert_eq!((&callback.ended, &callback.call_id), (&None, &None), "{id}");
        assert!(callback.note.unwrap().starts_with("CallUUID is no call id"), "{id}");
    }
    let upper = parse(None, b"Event=Hangup&CallUUID=5F0E9C1A-3B77-4C0D-9A52-6F1E8D2B4A10");
    assert_eq!(upper.ended.unwrap().call_id.as_str(), "5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10");
    let same = b"Event=DialHangup&CallUUID=5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10&DialBLegUUID=5F0E9C1A-3B77-4C0D-9A52-6F1E8D2B4A10";
    assert_eq!(parse(None, same).ended, None, "the A leg in another case");
}

#[test]
fn a_bad_token_does_not_cost_a_webhook() {
    let callback = parse(None, br#"{"Event":"Hangup","CallUUID":"c1","TrunkID":"t","Cost":NaN,"MOS":-nan}"#);
    assert_eq!(callback.ended.unwrap().call_id.as_str(), "c1");
}
