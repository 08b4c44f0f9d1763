//! One page of CDRs: the rows, where the page stands, and the provider's own totals. A row that cannot be read is
//! reported beside the others and never spoils them, not even where it is no JSON: then the page is cut into its rows first.

use std::borrow::Cow;

use super::cdr::{self, Cdr, Unreadable};
use super::json::{self, Member};
use super::number::HomeCountry;
use super::value::Notes;
use super::{AccountId, CallId, Numeric, Payload, stated};

/// Bytes that are read while the next row of a broken page is looked for: each try may read to the end of the page.
const MOST_READ: usize = 64 << 20;

/// A page of `…/cdr`, `…/cdr/search`, `…/cdr/recent` or a partner list. What the answer does not say is None (`recent`
/// has neither pagination nor summary, documented).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The rows in Vobiz's order, newest first (documented; by which column is unknown).
    pub rows: Vec<Result<Cdr, RowError>>,
    /// This page's number, from 1.
    pub page: Option<i64>,
    /// Rows per page, at most 100 (documented).
    pub per_page: Option<i64>,
    /// Rows on all pages.
    pub total: Option<i64>,
    /// Number of pages.
    pub pages: Option<i64>,
    /// Whether a page follows.
    pub has_next: Option<bool>,
    /// Totals over the filtered set, all pages.
    pub summary: Option<Summary>,
    /// The envelope's own word. With `false` an empty list says nothing.
    pub success: Option<bool>,
    /// The account whose list this is.
    pub account_id: Option<AccountId>,
}

/// A row that is no CDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {position}: {why}")]
pub struct RowError {
    /// Its place on the page, from 0.
    pub position: usize,
    /// What is wrong with it.
    pub why: Unreadable,
    /// The row as it came.
    pub payload: Payload,
    /// The call it is about, where a row that is no JSON shows that nonetheless: its single record may be whole.
    pub call_id: Option<CallId>,
}

/// Vobiz's totals for the filtered set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `totalCalls`.
    pub calls: Option<i64>,
    /// `total_duration_seconds`. Where rows state seconds that are no whole number, so may their sum be.
    pub duration_seconds: Option<Numeric>,
    /// `total_billable_seconds`.
    pub billable_seconds: Option<Numeric>,
    /// `total_cost`, with the decimals that were printed (its `scale()`).
    pub total_cost: Option<Numeric>,
    /// The summary as it came, all its keys.
    pub text: String,
}

/// Reads a page. An answer without a list in `data` is an error, so that nobody takes it for an empty list; `data: null`
/// is an empty list (inferred: Go writes an empty one like that).
pub fn decode_list(body: &[u8], home: HomeCountry) -> Result<ListPage, Unreadable> {
    let (text, replaced) = json::text_of(body);
    let error = match whole(&text, home, replaced) {
        Err(error @ (Unreadable::NotJson { .. } | Unreadable::CutShort)) => error,
        page => return page,
    };
    if let Some(text) = json::mended(&text)
        && let Ok(page) = whole(&text, home, replaced)
    {
        return Ok(page);
    }
    let Some((envelope, rows)) = cut(&text) else { return Err(error) };
    let read = |(position, row): (usize, Cow<'_, str>)| {
        let (why, call_id) = match cdr::check(&row).map(|row| cdr::read(row, home, replaced)) {
            Ok(Ok(cdr)) => return Ok(cdr),
            Ok(Err(why)) => (why, None),
            Err(why) => (why, shown_id(&row)),
        };
        Err(RowError { position, why, payload: Payload::new(row), call_id })
    };
    Ok(page(&RawObject(json::members(&envelope)), rows.into_iter().enumerate().map(read).collect()))
}

/// Reads a page that is JSON.
fn whole(text: &str, home: HomeCountry, replaced: bool) -> Result<ListPage, Unreadable> {
    let answer = RawObject(cdr::object("the answer", cdr::check(text)?)?);
    let rows = match answer.get("data") {
        Some(data) if data.starts_with('[') => json::elements(data),
        Some("null") => Vec::new(),
        other => return Err(Unreadable::NoRows { found: other.map_or("missing", cdr::kind) }),
    };
    let read = |(position, row)| {
        let error = |why| RowError { position, why, payload: Payload::new(row), call_id: None };
        cdr::read(row, home, replaced).map_err(error)
    };
    Ok(page(&answer, rows.into_iter().enumerate().map(read).collect()))
}

fn page(answer: &RawObject<'_>, rows: Vec<Result<Cdr, RowError>>) -> ListPage {
    let pagination = answer.object("pagination").map_or_else(RawObject::default, |(object, _)| object);
    let summary = answer.object("summary").map(|(summary, text)| Summary {
        calls: summary.read("totalCalls"),
        duration_seconds: summary.get("total_duration_seconds").and_then(stated::seconds),
        billable_seconds: summary.get("total_billable_seconds").and_then(stated::seconds),
        total_cost: summary.read("total_cost"),
        text: text.to_owned(),
    });
    ListPage {
        rows,
        page: pagination.read("page"),
        per_page: pagination.read("per_page"),
        total: pagination.read("total"),
        pages: pagination.read("pages"),
        has_next: pagination.read("has_next"),
        summary,
        success: answer.read("success"),
        account_id: answer.read::<String>("account_id").and_then(|id| AccountId::new(&id).ok()),
    }
}

/// Cuts a page that is no JSON into its envelope, without rows, and its rows: each as it stands there, mended where that makes it
/// JSON, or broken. None if its end is not there (half a body) or cannot be found.
fn cut(text: &str) -> Option<(String, Vec<Cow<'_, str>>)> {
    let list = text.match_indices("\"data\"").find_map(|(at, key)| {
        let rest = text[at + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')?;
        Some(text.len() - rest.len())
    })?;
    let envelope = |tail: &str| {
        let whole = [&text[..list], tail].concat();
        if cdr::check(&whole).is_ok() {
            Some(whole)
        } else {
            json::mended(&whole).filter(|whole| cdr::check(whole).is_ok())
        }
    };
    let (mut at, mut rows, mut read) = (list, Vec::new(), 0);
    loop {
        let rest = text[at..].trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        at = text.len() - rest.len();
        if let Some(envelope) = end_of_list(rest).and_then(&envelope) {
            return Some((envelope, rows));
        }
        let (row, end) = row(rest).or_else(|| broken_row(rest, &envelope, &mut read))?;
        rows.push(row);
        at += end;
    }
}

/// The row at the beginning of a text, and where it ends, if it is JSON or can be mended.
fn row(rest: &str) -> Option<(Cow<'_, str>, usize)> {
    let ends = |end: usize| rest[end..].trim_ascii_start().starts_with([',', ']']);
    let whole = json::first_value(rest).filter(|row| ends(row.len()));
    whole.map(|row| (Cow::Borrowed(row), row.len())).or_else(|| {
        let row = json::first_part(rest)?;
        let mended = json::mended(row).filter(|row| cdr::check(row).is_ok() && row.starts_with('{'))?;
        ends(row.len()).then_some((Cow::Owned(mended), row.len()))
    })
}

/// A row that cannot be mended: up to the place where a row or the end of the page begins.
fn broken_row<'a>(
    rest: &'a str,
    envelope: &impl Fn(&str) -> Option<String>,
    read: &mut usize,
) -> Option<(Cow<'a, str>, usize)> {
    let (end, _) = rest.match_indices(['{', ']']).skip_while(|(at, _)| *at == 0).find(|(at, found)| {
        let from = &rest[*at..];
        if *found == "]" && end_of_list(from).is_none() {
            return false;
        }
        *read += from.len();
        if *read > MOST_READ {
            return false;
        }
        match *found {
            "]" => envelope(from).is_some(),
            // An object inside a row has no such key.
            _ => row(from)
                .is_some_and(|(row, _)| json::members(&row).iter().any(|member| member.key == "uuid")),
        }
    })?;
    let broken = rest[..end].trim_end_matches(|c: char| c.is_ascii_whitespace() || c == ',');
    Some((Cow::Borrowed(broken), end))
}

/// The text, if it begins with what may be the end of the list: a further member follows it in every answer of Vobiz's. Without one it
/// might be the end of a list in a row that half a body ends with.
fn end_of_list(text: &str) -> Option<&str> {
    let after = text.strip_prefix(']')?.trim_ascii_start().strip_prefix(',')?;
    after.trim_ascii_start().starts_with('"').then_some(text)
}

/// The id that a text shows under `uuid`, JSON or not.
fn shown_id(row: &str) -> Option<CallId> {
    row.match_indices("\"uuid\"").find_map(|(at, key)| {
        let rest = row[at + key.len()..]
            .trim_ascii_start()
            .strip_prefix(':')?
            .trim_ascii_start()
            .strip_prefix('"')?;
        CallId::new(&rest[..rest.find('"')?]).ok()
    })
}

#[derive(Default)]
struct RawObject<'a>(Vec<Member<'a>>);

impl<'a> RawObject<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|member| member.key == key).map(|member| member.value)
    }

    fn object(&self, key: &str) -> Option<(RawObject<'a>, &'a str)> {
        let text = self.get(key).filter(|value| value.starts_with('{'))?;
        Some((RawObject(json::members(text)), text))
    }

    /// What cannot be read is None: the envelope is a help, the rows are the matter.
    fn read<T: super::value::Read>(&self, key: &str) -> Option<T> {
        Notes::default().read(key, self.get(key)?)
    }
}

#[cfg(test)]
mod tests {
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
            super::super::Overlap::Different
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
    }

    fn told(page: &ListPage) -> Vec<String> {
        let told = |row: &Result<Cdr, RowError>| match row {
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
        assert_eq!(&again, kept, "what was kept of it is read the same");
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
}
