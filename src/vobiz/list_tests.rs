use proptest::prelude::*;

use super::*;

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/vobiz/{name}")).unwrap()
}

fn page(body: &[u8]) -> ListPage {
    decode_list(body, HomeCountry::INDIA).unwrap()
}

#[test]
fn a_documented_page() {
    let page = page(&sample("cdr_list_page.json"));
    assert_eq!(
        (page.page, page.per_page, page.total, page.pages),
        (Some(1), Some(20), Some(4500), Some(225))
    );
    assert_eq!((page.has_next, page.success), (Some(true), Some(true)));
    assert_eq!(page.account_id.unwrap().as_str(), "MA_XXXXXXXX");
    let summary = page.summary.unwrap();
    assert_eq!(summary.calls, Some(4500));
    assert_eq!(
        (summary.duration_seconds, summary.billable_seconds),
        (Some(118_234.into()), Some(61_211.into()))
    );
    assert_eq!(summary.total_cost, "1564.51".parse().ok());
    assert!(summary.text.contains("\"avgCallDuration\": \"28s\""));
    let rows: Vec<_> = page.rows.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows[1].call_id.as_str(), "11223344-5566-7788-99aa-bbccddeeff00");
    assert_eq!(
        rows[1].payload.compare(&Payload::new(rows[0].payload.text())),
        crate::vobiz::Overlap::Different
    );
    assert!(rows.iter().all(|row| row.notes.is_empty() && row.extra.is_none()));
}

#[test]
fn every_captured_list_is_read() {
    for (name, rows) in [
        ("cdr_list_empty.json", 0),
        ("cdr_search_page.json", 1),
        ("cdr_recent.json", 2),
        ("partner_cdr_list.json", 2),
    ] {
        let page = page(&sample(name));
        assert_eq!(page.rows.len(), rows, "{name}");
        assert!(page.rows.iter().all(Result::is_ok), "{name}");
    }
    assert_eq!(page(&sample("cdr_list_empty.json")).summary.unwrap().calls, Some(0));
    let recent = page(&sample("cdr_recent.json"));
    assert_eq!((recent.page, recent.summary), (None, None));
}

#[test]
fn the_withdrawn_format_fails_row_by_row() {
    let page = page(&sample("old_cdr_list_2026_01.json"));
    assert_eq!(page.rows[0].as_ref().unwrap_err().why, Unreadable::NoUuid);
    assert_eq!((page.page, page.total, page.per_page), (None, None, Some(20)));
}

#[test]
fn a_bad_row_spoils_no_other() {
    let page = page(br#"{"data":[{"uuid":"a","cost":0.1},7,{"cost":1},{"uuid":"b/c"},null,{"uuid":"z"}],"pagination":[]}"#);
    let told: Vec<_> = page
        .rows
        .iter()
        .map(|row| row.as_ref().map(|cdr| cdr.call_id.as_str()).map_err(ToString::to_string))
        .collect();
    assert_eq!(told[0], Ok("a"));
    assert_eq!(told[1].as_ref().unwrap_err(), "row 1: the CDR is a number, not an object");
    assert_eq!(told[2].as_ref().unwrap_err(), "row 2: there is no uuid");
    assert!(told[3].as_ref().unwrap_err().starts_with("row 3: uuid is no call id: \"b/c\""));
    assert_eq!(told[4].as_ref().unwrap_err(), "row 4: the CDR is null, not an object");
    assert_eq!(told[5], Ok("z"));
    let shown =
        |body: &[u8]| decode_list(body, HomeCountry::INDIA).unwrap().rows[0].as_ref().unwrap_err().shown_id();
    assert_eq!(shown(br#"{"data":[{"uuid":"b/c"}]}"#), Some("b/c".into()));
    assert_eq!(shown(br#"{"data":[{"id":7112,"cost":1}]}"#), Some("number 7112".into()));
    assert_eq!((shown(br#"{"data":[7]}"#), shown(br#"{"data":[{"cost":1}]}"#)), (None, None));
}

fn told(page: &ListPage) -> Vec<String> {
    let told = |row: &Result<Box<Cdr>, RowError>| match row {
        Ok(cdr) => format!("{} {}", cdr.call_id, cdr.notes.join("; ")),
        Err(error) => format!("{error} {:?}", error.call_id),
    };
    page.rows.iter().map(told).collect()
}

#[test]
fn one_bad_token_costs_one_field() {
    let page = page(
        b"{\"data\":[{\"uuid\":\"a\",\"cost\":0.1},{\"uuid\":\"b\",\"packet_loss\":NaN,\"codec\":-nan},\
          {\"uuid\":\"c\",\"caller_id_name\":\"J\nX\",\"mos\":Infinity}],\"pagination\":{\"page\":1},\"summary\":{\"total_cost\":NaN}}",
    );
    assert_eq!(
        told(&page),
        [
            "a ",
            "b packet_loss: no JSON, taken as null: NaN; codec: no JSON, taken as null: -nan",
            "c caller_id_name: control characters are in it; mos: no JSON, taken as null: Infinity"
        ]
    );
    assert_eq!((page.page, page.summary.unwrap().total_cost), (Some(1), None));
    let kept = page.rows[1].as_ref().unwrap();
    let again = Cdr::read_kept(&kept.payload, HomeCountry::INDIA, false).unwrap();
    assert_eq!(again, **kept, "what was kept of it is read the same");
}

#[test]
fn a_row_that_is_no_json_is_cut_out() {
    for (broken, why) in [
        (r#"{"uuid":"b","caller_id_name":"J "X" Y","x":[{"a":1},{"a":2}]}"#, "quotes inside a text"),
        (r#"{"uuid":"b","caller_id_name":"J " Y","codec":"x"}"#, "an odd number of them"),
        (r#"{"uuid" : "b","codec"}"#, "a key without a value"),
        (r#"{"uuid":"b","codec":"x"]}"#, "another bracket"),
        (r#"{"uuid":"b","codec":"x",,"mos":1}"#, "a comma too many"),
    ] {
        let (a, c) = (r#"{"uuid":"a","x":NaN}"#, r#"{"uuid":"c","cost":1}"#);
        for (rows, expected) in [
            ([a, broken, c], ["a", "broken", "c"]),
            ([broken, a, c], ["broken", "a", "c"]),
            ([a, c, broken], ["a", "c", "broken"]),
        ] {
            let body = format!(
                "{{\"count\":3,\"data\": [ {} ],\"pagination\":{{\"total\":3,\"has_next\":false}},\"success\":true}}",
                rows.join(" ,\n")
            );
            let page = page(body.as_bytes());
            let ids = page.rows.iter().map(|row| match row {
                Ok(cdr) => cdr.call_id.as_str(),
                Err(error) => {
                    assert_eq!(error.call_id.as_ref().map(CallId::as_str), Some("b"), "{why}");
                    assert_eq!(error.payload.text(), broken);
                    "broken"
                }
            });
            assert_eq!(ids.collect::<Vec<_>>(), expected, "{why}");
            assert_eq!(
                (page.total, page.has_next, page.success),
                (Some(3), Some(false), Some(true)),
                "{why}"
            );
        }
    }
}

#[test]
fn half_a_page_is_no_page_whatever_its_tokens_are() {
    // With lists in its rows: half of it may end as a page does.
    let whole = br#"{"data":[{"uuid":"a","x":NaN,"s":[1]},{"uuid":"b","y":"z" z","s":[{"t":1}]},{"uuid":"c","s":[]}],"pagination":{"page":1}}"#;
    assert_eq!(page(whole).rows.len(), 3);
    for end in 1..whole.len() - 1 {
        assert!(decode_list(&whole[..end], HomeCountry::INDIA).is_err(), "{end}");
    }
}

#[test]
fn a_page_of_more_than_a_page_holds_is_refused_before_its_rows_are_made() {
    let of = |rows: &[&str]| {
        let body = format!(r#"{{"data":[{}],"pagination":{{"page":1}},"success":true}}"#, rows.join(","));
        decode_list(body.as_bytes(), HomeCountry::INDIA)
    };
    let list = |rows: usize, row: &str| of(&vec![row; rows]);
    let (whole, token, broken) =
        (r#"{"uuid":"a","cost":0.1}"#, r#"{"uuid":"a","x":NaN}"#, r#"{"uuid":"a","name":"J "X" Y"}"#);
    // Where the page has to be cut into its rows, too.
    let mut cut = [broken, whole].repeat(MOST_ROWS / 2);
    assert_eq!(of(&cut).unwrap().rows.len(), MOST_ROWS);
    cut.push(whole);
    assert_eq!(of(&cut), Err(TOO_MANY));
    for row in ["0", "{}", whole, token] {
        assert_eq!(list(MOST_ROWS, row).unwrap().rows.len(), MOST_ROWS, "{row}");
        assert_eq!(list(MOST_ROWS + 1, row), Err(TOO_MANY), "{row}");
    }
    for row in ["0", "[]", "NaN", r#""""#] {
        let refused = list(MOST_PARTS, row).unwrap_err();
        assert_eq!(refused.to_string(), "more than 100000 keys and values", "{row}");
    }
    // What one row holds costs as much.
    let row = |parts: &str| format!(r#"{{"uuid":"a","x":{parts}}}"#);
    for parts in [
        format!("[{}]", vec!["0"; MOST_PARTS].join(",")),
        format!("{{{}}}", vec![r#""k":0"#; MOST_PARTS / 2].join(",")),
        format!(r#""{}""#, "\n".repeat(MOST_PARTS)),
    ] {
        assert!(matches!(list(1, &row(&parts)), Err(Unreadable::TooMuch { .. })), "{}", &parts[..20]);
        let single = crate::vobiz::decode_single(row(&parts).as_bytes(), HomeCountry::INDIA);
        assert!(matches!(single, Err(Unreadable::TooMuch { .. })), "{}", &parts[..20]);
    }
}

#[test]
fn no_list_is_not_an_empty_list() {
    let list = |body: &str| decode_list(body.as_bytes(), HomeCountry::INDIA);
    assert_eq!(list("{\"success\":true}"), Err(Unreadable::NoRows { found: "missing" }));
    assert_eq!(list("{\"data\":{}}"), Err(Unreadable::NoRows { found: "an object" }));
    assert_eq!(list(""), Err(Unreadable::CutShort));
    assert_eq!(list("{\"data\":[{\"uuid\":\"a\"},"), Err(Unreadable::CutShort));
    assert!(matches!(list("<html>"), Err(Unreadable::NotJson { .. })));
    assert!(matches!(list("[]"), Err(Unreadable::NotAnObject { .. })));
    assert!(list("{\"data\":null,\"success\":true}").unwrap().rows.is_empty());
}

#[test]
fn a_replaced_byte_is_noted_where_it_stands() {
    let page = page(b"{\"data\":[{\"uuid\":\"a\"},{\"uuid\":\"b\",\"codec\":\"\xff\"}]}");
    assert!(page.rows[0].as_ref().unwrap().notes.is_empty());
    assert_eq!(page.rows[1].as_ref().unwrap().notes, ["payload: bytes that are not UTF-8 were replaced"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_decode_or_fail(body in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_list(&body, HomeCountry::INDIA));
    }

    #[test]
    fn a_damaged_page_decodes_or_fails(at in 0usize..3000, byte: u8, cut in 0usize..3400) {
        let mut body = sample("cdr_list_page.json");
        body[at] = byte;
        body.truncate(cut);
        drop(decode_list(&body, HomeCountry::INDIA));
    }

    #[test]
    fn a_bad_byte_in_a_row_costs_no_other_row(at in 0usize..1000, byte: u8) {
        let rows = ["a", "b", "c"].map(|id| {
            format!(r#"{{"uuid":"{id}","x":[{{"y":1}}],"name":"n","cost":0.45,"time":"2026-03-25T10:00:42Z"}}"#)
        });
        let mut body = format!(r#"{{"data":[{}],"pagination":{{"page":1}},"success":true}}"#, rows.join(",")).into_bytes();
        let first = 9 + rows[0].len() + 1;
        let at = first + at % rows[1].len();
        body[at] = byte;
        let page = decode_list(&body, HomeCountry::INDIA);
        let ids: Vec<_> = page.iter().flat_map(|page| &page.rows).flatten().map(|cdr| cdr.call_id.as_str()).collect();
        prop_assert!(ids.contains(&"a") && ids.contains(&"c"), "{:?} {}", ids, String::from_utf8_lossy(&body));
    }
}
