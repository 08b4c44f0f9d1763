//! One page of CDRs: the rows, where the page stands, and the provider's own totals. A row that cannot be read is
//! reported beside the others and never spoils them.

use rust_decimal::Decimal;

use super::cdr::{self, Cdr, Unreadable};
use super::json::{self, Member};
use super::number::HomeCountry;
use super::value::Notes;
use super::{AccountId, Payload};

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
}

/// Vobiz's totals for the filtered set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `totalCalls`.
    pub calls: Option<i64>,
    /// `total_duration_seconds`.
    pub duration_seconds: Option<i64>,
    /// `total_billable_seconds`.
    pub billable_seconds: Option<i64>,
    /// `total_cost`, with the decimals that were printed (its `scale()`).
    pub total_cost: Option<Decimal>,
    /// The summary as it came, all its keys.
    pub text: String,
}

/// Reads a page. An answer without a list in `data` is an error, so that nobody takes it for an empty list; `data: null`
/// is an empty list (inferred: Go writes an empty one like that).
pub fn decode_list(body: &[u8], home: HomeCountry) -> Result<ListPage, Unreadable> {
    let (text, replaced) = json::text_of(body);
    let answer = RawObject(cdr::object("the answer", cdr::check(&text)?)?);
    let rows = match answer.get("data") {
        Some(data) if data.starts_with('[') => json::elements(data),
        Some("null") => Vec::new(),
        other => return Err(Unreadable::NoRows { found: other.map_or("missing", cdr::kind) }),
    };
    let row = |(position, row)| {
        let unreadable = |why| RowError { position, why, payload: Payload::new(row) };
        cdr::read(row, home, replaced).map_err(unreadable)
    };
    let pagination = answer.object("pagination").map_or_else(RawObject::default, |(object, _)| object);
    let summary = answer.object("summary").map(|(summary, text)| Summary {
        calls: summary.read("totalCalls"),
        duration_seconds: summary.read("total_duration_seconds"),
        billable_seconds: summary.read("total_billable_seconds"),
        total_cost: summary.read("total_cost"),
        text: text.to_owned(),
    });
    Ok(ListPage {
        rows: rows.into_iter().enumerate().map(row).collect(),
        page: pagination.read("page"),
        per_page: pagination.read("per_page"),
        total: pagination.read("total"),
        pages: pagination.read("pages"),
        has_next: pagination.read("has_next"),
        summary,
        success: answer.read("success"),
        account_id: answer.read::<String>("account_id").and_then(|id| AccountId::new(&id).ok()),
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
        assert_eq!((summary.duration_seconds, summary.billable_seconds), (Some(118_234), Some(61_211)));
        assert_eq!(summary.total_cost, Some("1564.51".parse().unwrap()));
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
    }
}
