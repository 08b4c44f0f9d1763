use super::*;

#[test]
fn an_object_comes_apart_as_it_was_written() {
    let text = "{ \"a\" : 1.50 ,\"b\\u0041\":{\"x\":[\"}\\\"]\"]},\"c\":[ ] , \"d\":\"q\"}";
    let parts: Vec<_> =
        members(check(text).unwrap()).into_iter().map(|m| (m.key.into_owned(), m.value)).collect();
    let expected = [("a", "1.50"), ("bA", "{\"x\":[\"}\\\"]\"]}"), ("c", "[ ]"), ("d", "\"q\"")];
    assert_eq!(parts, expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(elements("[1, \"a,b\" ,[2,3],{}]"), ["1", "\"a,b\"", "[2,3]", "{}"]);
    assert!(elements("[ ]").is_empty() && members("{ }").is_empty() && members("[1]").is_empty());
}

#[test]
fn strings_say_what_they_say() {
    let cases = [
        (r#""a\n\t\/\"\\b""#, "a\n\t/\"\\b", false),
        (r#""\u0930\uD83D\ude00x""#, "\u{930}\u{1f600}x", false),
        (r#""\ud83dx""#, "\u{fffd}x", true),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}", true),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}", true),
    ];
    for (written, said, lone) in cases {
        check(written).unwrap();
        assert_eq!(string(written), (Cow::Borrowed(said), lone), "{written}");
    }
}

#[test]
fn single_tokens_are_mended() {
    let cases = [
        (r#"{"a":NaN,"b":[1,-Infinity]}"#, r#"{"a":{"not JSON":"NaN"},"b":[1,{"not JSON":"-Infinity"}]}"#),
        (r#"{"a": -nan , "b":None}"#, r#"{"a": {"not JSON":"-nan"} , "b":{"not JSON":"None"}}"#),
        (r#"{"a":.5,"b":+1,"c":007}"#, r#"{"a":".5","b":"+1","c":"007"}"#),
        ("{\"a\":\"x\ny\u{0}\tz\",\u{b}\"b\":1}\u{0}", "{\"a\":\"x\\u000ay\\u0000\\u0009z\", \"b\":1} "),
        (r#"{"a":"\x41\'\u12\"é"}"#, r#"{"a":"\\x41\\'\\u12\"é"}"#),
        (r#"{"é":NaN é,"b":{"c":é}}"#, r#"{"é":{"not JSON":"NaN"} é,"b":{"c":{"not JSON":"é"}}}"#),
    ];
    for (text, whole) in cases {
        assert_eq!(mended(text).as_deref(), Some(whole), "{text}");
    }
    // Nothing to mend; or a whole answer that is something else.
    for text in
        [r#"{"a":[1,true,"x\n\u0041"],"b":null}"#, "<html>", "NaN", r#"{"a":1} x"#, "{NaN:1}", r#"{"a""#]
    {
        assert_eq!(mended(text), None, "{text}");
    }
    assert_eq!(not_json(r#"{"not JSON":"NaN"}"#).as_deref(), Some("NaN"));
    assert!(
        [r#"{"a":"NaN"}"#, r#"{"not JSON":"NaN","b":1}"#, "\"NaN\"", "{}"]
            .iter()
            .all(|text| not_json(text).is_none())
    );
    assert_eq!(first_value("{\"a\":1} , x"), Some("{\"a\":1}"));
    assert_eq!(first_value("{\"a\":NaN}"), None);
}

#[test]
fn parts_are_counted_whatever_they_stand_in() {
    // Keys and values; a comma in a string is none, nor is one behind an escaped quote; a raw line break in a string is one.
    for (text, parts) in [
        ("0", 0),
        ("[1,2]", 1),
        (r#"{"a":[{},{}]}"#, 2),
        (r#"{"a,:[":"b\",[","c":1}"#, 3),
        (r#"["\\","x"]"#, 1),
        ("[\"a\nb\",\n1]", 2),
        ("[x,x,NaN", 2),
    ] {
        assert!(!has_more_parts(text, parts), "{text}");
        assert!(parts == 0 || has_more_parts(text, parts - 1), "{text}");
    }
    assert_eq!((elements_up_to("[1,2]", 2), elements_up_to("[1,2]", 1)), (Some(vec!["1", "2"]), None));
}

#[test]
fn any_nesting_is_walked_without_the_stack() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(members(check(&deep).unwrap()).len(), 1);
}

proptest::proptest! {
    #[test]
    fn any_text_is_walked_without_a_panic(text in r#"[{}\[\]",:\\ud8e0-9a é]{0,60}"#) {
        members(&text);
        elements(&text);
        string(&text);
        canonical_string(&text);
        not_json(&text);
        first_value(&text);
    }

    #[test]
    fn any_text_is_mended_without_a_panic(text in r#"[{}\[\]",:\\ud8e0-9aN é\x00\n]{0,60}"#) {
        if let Some(once) = mended(&text) {
            assert_eq!(mended(&once), None, "{text:?} {once:?}");
        }
    }

    #[test]
    fn what_was_json_is_not_mended(text in r#"[a-z \\\"é]{0,20}"#, number in -1000..1000i64) {
        let whole = serde_json::json!({ "a": [text, number, null, { "b": text }] }).to_string();
        assert_eq!(mended(&whole), None);
    }
}
