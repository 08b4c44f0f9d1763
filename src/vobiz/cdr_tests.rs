use proptest::prelude::*;

use super::*;

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/vobiz/{name}")).unwrap()
}

fn number(text: &str) -> Option<Numeric> {
    text.parse().ok()
}

#[track_caller]
fn cdr(body: &[u8]) -> Cdr {
    match decode_single(body, HomeCountry::INDIA).unwrap() {
        Single::Cdr(cdr) => *cdr,
        Single::NotYet(why) => panic!("not yet: {why}"),
    }
}

#[test]
fn a_documented_cdr_is_read_whole() {
    let cdr = cdr(&sample("cdr_answered.json"));
    assert_eq!(cdr.call_id.as_str(), "aabbccdd-1234-5678-90ab-cdef12345678");
    assert_eq!(cdr.account_id.unwrap().as_str(), "MA_XXXXXXXX");
    assert_eq!((cdr.extra, cdr.notes), (None, vec![]));
    let fields = cdr.fields;
    assert_eq!(fields.vobiz_id, Some(18_000_004));
    assert_eq!((fields.duration, fields.billsec, fields.ring_time), (Some(47), Some(42), Some(5)));
    assert_eq!(fields.cost, number("0.45"));
    assert_eq!(fields.answer_time.unwrap().to_rfc3339(), "2026-03-25T10:00:01+00:00");
    assert_eq!(fields.hangup_cause_code, Some(4000));
    assert_eq!(fields.mos, number("4.5"));
    assert_eq!((fields.campaign_id, fields.trunk_id), (None, None));
    assert_eq!(fields.destination_e164.as_deref(), Some("+918012345678"));
    assert!(cdr.payload.text().starts_with("{\n    \"account_id\"") && cdr.payload.text().ends_with('}'));
}

#[test]
fn every_captured_cdr_is_read_without_a_note() {
    let index: serde_json::Value = serde_json::from_slice(&sample("index.json")).unwrap();
    let mut seen = 0;
    for entry in index.as_array().unwrap() {
        if entry["kind"].as_str().unwrap().ends_with("cdr_single") {
            let cdr = cdr(&sample(entry["file"].as_str().unwrap()));
            assert!(cdr.notes.is_empty(), "{entry} {:?}", cdr.notes);
            assert!(cdr.fields.start_time.is_some() && cdr.fields.total_cost.is_some());
            assert!(cdr.account_id.is_some());
            seen += 1;
        }
    }
    assert!(seen >= 9);
}

#[test]
fn unusual_cdrs_keep_what_is_unusual() {
    let streaming = cdr(&sample("cdr_streaming.json"));
    let extra: serde_json::Value = serde_json::from_str(&streaming.extra.unwrap()).unwrap();
    assert_eq!(extra["stream_cdrs"][0]["rounded_bill_duration"], 60);
    assert_eq!(streaming.fields.packet_loss, number("0.27"));

    let omitted = cdr(&sample("cdr_null_keys_omitted.json"));
    let unanswered = cdr(&sample("cdr_unanswered.json"));
    assert_eq!(omitted.fields, unanswered.fields);
    assert_eq!(unanswered.fields.failure_code.as_deref(), Some("16"));

    let big = cdr(&sample("cdr_big_id_small_money.json"));
    assert!(big.fields.vobiz_id.unwrap() > i64::from(u32::MAX));
    assert!(big.payload.text().contains(&big.fields.cost.unwrap().to_string()));

    let trunk = cdr(&sample("cdr_trunk_outbound.json"));
    assert!((27..=28).contains(&trunk.call_id.as_str().len()));

    let bare = cdr(&sample("partner_cdr_single_bare.json"));
    assert_eq!((bare.fields.billsec, bare.extra), (Some(177), None));
}

#[test]
fn an_answer_without_a_cdr_says_which_kind_it_is() {
    let single = |body: &str| decode_single(body.as_bytes(), HomeCountry::INDIA);
    for body in [
        "",
        " \n",
        "\u{feff}",
        "null",
        "{\"success\":false}",
        "{\"data\":null}",
        "{\"data\":null,\"success\":true}",
        "{\"success\":true}",
    ] {
        assert!(matches!(single(body), Ok(Single::NotYet(_))), "{body:?}");
    }
    assert!(matches!(single("{\"success\":false,\"data\":{\"uuid\":\"a\"}}"), Ok(Single::NotYet(_))));
    assert!(matches!(single("<html>"), Err(Unreadable::NotJson { .. })));
    assert!(matches!(single("{\"data\":{}} x"), Err(Unreadable::NotJson { .. })));
    for body in ["{", "{\"data\":{\"uuid\":\"a", "{\"data\":{\"uuid\":\"a\"}", "tru"] {
        assert_eq!(single(body), Err(Unreadable::CutShort), "{body:?}");
    }
    assert_eq!(single("[1]").unwrap_err().to_string(), "the answer is a list, not an object");
    assert_eq!(single("{\"data\":[]}").unwrap_err().to_string(), "data is a list, not an object");
    for body in ["{}", "{\"data\":{}}", "{\"data\":{\"uuid\":null}}", "{\"error\":\"CDR not found\"}"] {
        assert_eq!(single(body), Err(Unreadable::NoUuid), "{body:?}");
    }
    for uuid in [
        "\"undefined\"",
        "\"None\"",
        "0",
        "NaN",
        "\"\"",
        "\"a/b\"",
        "\"search\"",
        "true",
        "{}",
        "[]",
        "\"a\\u0000\"",
        "\"\\ud800\"",
    ] {
        let body = format!("{{\"data\":{{\"uuid\":{uuid}}}}}");
        assert!(matches!(single(&body), Err(Unreadable::BadUuid { .. })), "{body}");
    }
    assert_eq!(cdr(b"{\"uuid\":18623590}").call_id.as_str(), "18623590");
}

#[test]
fn a_field_that_cannot_be_read_costs_only_itself() {
    let cdr = cdr("\u{feff}{\"data\":{\"uuid\":\"a\",\"cost\":\"abc\",\"total_cost\":\"0.10\",\"billsec\":\" 42 \",\"duration\":4.5,\
        \"id\":true,\"start_time\":\"2026-09-29 10:00:00\",\"codec\":16,\"region\":{},\"account_id\":\"x y\",\"mos\":null,\
        \"caller_id_number\":\"sip:me@example.com\",\"destination_number\":\"07900000002\"}}".as_bytes());
    assert_eq!(cdr.fields.total_cost, number("0.10"));
    assert_eq!((cdr.fields.cost, cdr.fields.billsec, cdr.fields.duration), (None, Some(42), Some(5)));
    assert_eq!(cdr.fields.codec.as_deref(), Some("16"));
    assert_eq!((cdr.fields.caller_e164, cdr.fields.destination_e164), (None, Some("+917900000002".into())));
    assert_eq!(cdr.account_id, None);
    let expected = [
        "cost: not a number: \"abc\"",
        "duration: read as 5 seconds: 4.5",
        "id: not a number: true",
        "start_time: no zone, taken as UTC: \"2026-09-29 10:00:00\"",
        "region: not a text: {}",
        "account_id: no account id: \"x y\": an id is made of letters, digits and . _ : @ + - only",
    ];
    assert_eq!(cdr.notes, expected);
}

#[test]
fn one_bad_token_costs_one_field_of_a_record() {
    let body = b"{\"data\":{\"uuid\":\"a\",\"cost\":0.45,\"billsec\":-nan,\"currency\":NaN,\"start_time\":undefined,\"jitter\":.5,\
                 \"caller_id_name\":\"Asha\nRao\",\"x\":{\"y\":Infinity}},\"success\":true}";
    let cdr = cdr(body);
    let fields = &cdr.fields;
    assert_eq!(
        (&fields.cost, fields.billsec, &fields.currency, fields.start_time),
        (&number("0.45"), None, &None, None)
    );
    assert_eq!((&fields.jitter, fields.caller_id_name.as_deref()), (&number("0.5"), Some("Asha\nRao")));
    let expected = [
        "billsec: no JSON, taken as null: -nan",
        "currency: no JSON, taken as null: NaN",
        "start_time: no JSON, taken as null: undefined",
        "caller_id_name: control characters are in it",
    ];
    assert_eq!(cdr.notes, expected);
    assert_eq!(cdr.extra.as_deref(), Some(r#"{"x":{"y":{"not JSON":"Infinity"}}}"#));
    let again = Cdr::read_kept(&cdr.payload, HomeCountry::INDIA, false).unwrap();
    assert_eq!(again, cdr, "what is kept says the same once more");
    assert_eq!(Payload::new(cdr.payload.content()).content_hash(), cdr.payload.content_hash());
    // Half a body is half a body, whatever its tokens are.
    for end in 1..body.len() {
        let half = decode_single(&body[..end], HomeCountry::INDIA);
        assert!(half.is_err(), "{end} {half:?}");
    }
    // A quote too many is no half body: asking again brings the same.
    let quote = decode_single(br#"{"data":{"uuid":"a","codec":"x"y"}}"#, HomeCountry::INDIA);
    assert!(matches!(quote, Err(Unreadable::NotJson { .. })), "{quote:?}");
}

#[test]
fn what_cannot_be_is_none() {
    let cdr = cdr(br#"{"uuid":"0D0D0018-0000-4000-8000-00000000000A","billsec":-1589286045,"duration":"00:01:12","ring_time":2592001,
        "mos":45,"jitter":-0.1,"packet_loss":100.1,"currency":" inr ","call_direction":"Outgoing","cost":-0.45,
        "start_time":"1970-01-01T00:00:00Z","end_time":1774432842,"updated_at":"2036-11-20T05:00:47Z",
        "answer_time":"2026-03-26T10:00:00Z"}"#);
    let asked = "2026-03-25T10:00:00Z".parse().unwrap();
    let cdr = cdr.without_future(asked);
    assert_eq!(cdr.call_id.as_str(), "0d0d0018-0000-4000-8000-00000000000a");
    let fields = &cdr.fields;
    assert_eq!((fields.billsec, fields.duration, fields.ring_time), (None, Some(72), None));
    assert_eq!(
        (&fields.mos, &fields.jitter, &fields.packet_loss, &fields.cost),
        (&None, &None, &None, &number("-0.45"))
    );
    assert_eq!(
        (fields.currency.as_deref(), fields.call_direction.as_deref()),
        (Some("INR"), Some("outbound"))
    );
    assert_eq!((fields.start_time, fields.updated_at), (None, None));
    assert!(fields.end_time.is_some() && fields.answer_time.is_some());
    assert_eq!(
        cdr.notes,
        [
            "duration: read as 72 seconds: \"00:01:12\"",
            "start_time: no time: \"1970-01-01T00:00:00Z\"",
            "end_time: read as 2026-03-25T10:00:42Z: 1774432842",
            "billsec: below zero: -1589286045",
            "ring_time: more than 30 days: 2592001",
            "mos: more than 5: 45",
            "jitter: below zero: -0.1",
            "packet_loss: more than 100: 100.1",
            "updated_at: in the future: 2036-11-20T05:00:47Z",
        ]
    );
    assert_eq!(cdr.clone().without_future(asked), cdr, "once is enough");
}

#[test]
fn a_record_is_of_the_account_that_was_asked_or_of_one_below_it() {
    let cdr = |owner: &str| cdr(format!("{{\"uuid\":\"a\",\"account_id\":{owner}}}").as_bytes());
    let id = |id: &str| AccountId::new(id).unwrap();
    let (main, partner, other) = (id("MA_A"), id("PA_A"), id("OTHER1"));
    for (owner, of_main, of_partner) in [
        ("\"MA_A\"", true, true),
        ("\"SA_B\"", true, true),
        ("null", true, true),
        ("\"MA_OTHER999\"", false, true),
        ("7", false, false),
        ("0.45", false, false),
        ("\"PA_B\"", false, false),
        ("{\"id\":\"MA_OTHER999\"}", false, false),
        ("[\"MA_A\"]", false, false),
        ("true", false, false),
        ("\"MA_A~\"", false, false),
        ("\"\"", true, true),
        ("\" MA_A \"", true, true),
        ("NaN", true, true),
    ] {
        let cdr = cdr(owner);
        assert_eq!(cdr.may_belong_to(&main, |_| true), of_main, "{owner}");
        assert_eq!(cdr.may_belong_to(&partner, |_| false), of_partner, "{owner}");
        // What begins like none of them shows nobody above itself.
        assert_eq!(cdr.may_belong_to(&other, |_| true), of_main && !owner.contains("MA_A"), "{owner}");
    }
}

#[test]
fn a_record_of_a_sub_account_is_its_own_or_of_a_configured_account_above_it() {
    let cdr = |owner: &str| cdr(format!("{{\"uuid\":\"a\",\"account_id\":{owner}}}").as_bytes());
    let (sub, above) = (AccountId::new("SA_A").unwrap(), AccountId::new("MA_A").unwrap());
    for (owner, alone, with_main) in [
        ("\"SA_A\"", true, true),
        ("\" SA_A \"", true, true),
        ("null", true, true),
        ("\"\"", true, true),
        ("\"MA_A\"", false, true),
        ("\"MA_OTHER999\"", false, false),
        ("\"SA_B\"", false, false),
        ("\"PA_B\"", false, false),
        ("7", false, false),
        ("0.45", false, false),
        ("{\"id\":\"SA_A\"}", false, false),
        ("\"SA_A~\"", false, false),
    ] {
        let cdr = cdr(owner);
        let believed = (cdr.may_belong_to(&sub, |_| false), cdr.may_belong_to(&sub, |owner| *owner == above));
        assert_eq!(believed, (alone, with_main), "{owner}");
    }
}

#[test]
fn of_repeated_keys_the_last_counts() {
    let cdr = cdr(br#"{"uuid":"a","cost":"x","new\u0021":1,"cost":0.2,"new!":2,"uuid":"b"}"#);
    assert_eq!((cdr.call_id.as_str(), cdr.fields.cost), ("b", number("0.2")));
    assert_eq!(cdr.extra.as_deref(), Some(r#"{"new!":2}"#));
    let repeated = |key: &str| format!("{key}: given more than once, the last one counts");
    assert_eq!(cdr.notes, ["cost", "new!", "uuid"].map(repeated));
}

#[test]
fn no_note_of_a_field_is_left_out_for_those_of_keys_that_nobody_knows() {
    let junk: String = (0..200).map(|at| format!(r#""x{at}":1,"x{at}":2,"x{at}":3,"#)).collect();
    let cdr = cdr(format!(r#"{{"uuid":"a",{junk}"cost":1,"cost":"abc","end_time":"soon"}}"#).as_bytes());
    assert_eq!((cdr.fields.cost, cdr.fields.end_time), (None, None));
    assert_eq!(cdr.notes.len(), MOST_REPEATED + 3, "{:?}", cdr.notes);
    for note in [
        "cost: given more than once, the last one counts",
        "cost: not a number: \"abc\"",
        "end_time: not a time: \"soon\"",
    ] {
        assert!(cdr.notes.iter().any(|known| known == note), "{note}");
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_noted() {
    let cdr = cdr(b"{\"uuid\":\"a\",\"caller_id_name\":\"J\xf6rg\",\"codec\":\"x\\u0000\"}");
    assert_eq!(cdr.fields.caller_id_name.as_deref(), Some("J\u{fffd}rg"));
    assert_eq!(cdr.notes, ["payload: bytes that are not UTF-8 were replaced", "codec: U+0000 was removed"]);
    assert_eq!(
        cdr.payload.text(),
        "{\"uuid\":\"a\",\"caller_id_name\":\"J\u{fffd}rg\",\"codec\":\"x\\u0000\"}"
    );
}

#[test]
fn deep_nesting_is_kept_as_it_is() {
    let deep = format!("{{\"uuid\":\"a\",\"x\":{}{}}}", "[".repeat(300_000), "]".repeat(300_000));
    assert_eq!(cdr(deep.as_bytes()).extra.unwrap().len(), 600_006);
}

#[test]
fn notes_stay_bounded() {
    let many = format!("{{\"uuid\":\"a\"{}}}", ",\"cost\":1".repeat(1000));
    assert!(cdr(many.as_bytes()).notes.len() <= 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_decode_or_fail(body in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_single(&body, HomeCountry::INDIA));
    }

    #[test]
    fn a_damaged_cdr_decodes_or_fails(at in 0usize..1400, byte: u8, cut in 0usize..1600) {
        let mut body = sample("cdr_answered.json");
        body[at] = byte;
        body.truncate(cut);
        drop(decode_single(&body, HomeCountry::INDIA));
    }

    #[test]
    fn money_survives_exactly(text in "-?[1-9][0-9]{0,40}(\\.[0-9]{1,60})?|0(\\.[0-9]{0,60}[1-9])?", quoted: bool) {
        let written = if quoted { format!("\"{text}\"") } else { text.clone() };
        let cdr = cdr(format!("{{\"uuid\":\"a\",\"cost\":{written}}}").as_bytes());
        prop_assert_eq!(&cdr.fields.cost, &number(&text));
        prop_assert_eq!(cdr.fields.cost.unwrap().to_string(), text);
        prop_assert!(cdr.notes.is_empty());
    }
}

#[test]
fn a_list_row_laid_over_a_record_leaves_what_it_does_not_say() {
    let read = |text: &str| Cdr::read_kept(&Payload::new(text), HomeCountry::INDIA, false).unwrap();
    let older = read(
        r#"{"uuid":"c","account_id":"MA_A","cost":1,"billsec":7,"caller_id_number":"09876543210",
            "destination_number":"09876543211","odd":{"a":1},"both":1,"mos":"?"}"#,
    );
    // A number that is no phone number replaces the one in E.164 too. Lone surrogates do no harm here.
    let newer = r#"{"uuid":"c","cost":2,"caller_id_number":"sip:x","both":"\ud83d","jitter":"?","mos":"?"}"#;
    let row = read(newer).laid_over(older);
    assert_eq!((row.fields.cost, row.fields.billsec), (number("2"), Some(7)));
    assert_eq!(row.account_id.unwrap().as_str(), "MA_A");
    assert_eq!(row.fields.caller_e164, None);
    assert_eq!(row.fields.destination_e164.as_deref(), Some("+919876543211"));
    assert_eq!(row.extra.as_deref(), Some(r#"{"both":"\ud83d","odd":{"a":1}}"#));
    assert_eq!(row.notes.len(), 2, "each once: {:?}", row.notes);
    assert_eq!(row.payload.text(), newer, "and it is still this row of the list");
}

#[test]
fn ten_digits_that_may_be_two_numbers_are_none_and_noted() {
    let record = r#"{"uuid":"a","caller_id_number":"919000000001","destination_number":"6591234567"}"#;
    let cdr = Cdr::read_kept(&Payload::new(record), HomeCountry::INDIA, false).unwrap();
    assert_eq!(
        (cdr.fields.caller_e164.as_deref(), cdr.fields.destination_e164),
        (Some("+919000000001"), None)
    );
    assert_eq!(cdr.notes, ["destination_e164: not certain: may be +916591234567 or +6591234567"]);
    // What the other number shows counts from either side.
    let record = r#"{"uuid":"a","caller_id_number":"4791234567","destination_number":"919000000001"}"#;
    let cdr = Cdr::read_kept(&Payload::new(record), HomeCountry::INDIA, false).unwrap();
    assert_eq!((cdr.fields.caller_e164.as_deref(), cdr.notes.len()), (Some("+4791234567"), 0));
}
