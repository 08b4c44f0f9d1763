//! A page of the list. Promises: as many rows as another reader counts, in their order, each with the text that stands there; a row that is
//! none spoils no other; totals are exact.

use super::record;
use crate::bounds::{Bounds, bounded};
use crate::independent::{Pairs, assert_exact, elements, is_id, text_of};
use crate::vobiz::{HomeCountry, decode_list};

/// A row of one character is a row.
const BOUNDS: Bounds = Bounds { bytes_per_byte: 2048 };

pub fn run(body: &[u8]) {
    let page = bounded(BOUNDS, body, |body| decode_list(body, HomeCountry::INDIA));
    let text = text_of(body);
    if let Ok(page) = &page {
        for (position, row) in page.rows.iter().enumerate() {
            match row {
                Ok(cdr) => record::check(cdr),
                Err(error) => {
                    assert_eq!(error.position, position);
                    if let Some(call_id) = &error.call_id {
                        assert!(is_id(call_id.as_str()));
                        assert!(text.to_ascii_lowercase().contains(&call_id.as_str().to_ascii_lowercase()));
                    }
                    let _ = error.shown_id();
                }
            }
        }
    }
    let Some(answer) = Pairs::of(&text) else { return };
    let Some(rows) = answer.last("data").and_then(elements) else {
        let is_empty = answer.last("data") == Some("null");
        return assert_eq!(
            page.is_ok_and(|page| page.rows.is_empty()),
            is_empty,
            "a list where nobody else sees one"
        );
    };
    let page = page.expect("a list that another reader sees");
    assert_eq!(page.rows.len(), rows.len());
    for (read, written) in page.rows.iter().zip(rows) {
        let text = read.as_ref().map_or_else(|error| error.payload.text(), |cdr| cdr.payload.text());
        assert_eq!(text, written);
    }
    let Some(summary) = page.summary else { return };
    let Some(said) = Pairs::of(&summary.text) else { return };
    for (read, key) in [
        (summary.total_cost, "total_cost"),
        (summary.duration_seconds, "total_duration_seconds"),
        (summary.billable_seconds, "total_billable_seconds"),
    ] {
        let written = said.last(key).unwrap_or("null");
        if let Some(read) = read.filter(|_| !written.contains([':', '\\'])) {
            assert_exact(read.as_str(), written.trim_matches('"').trim());
        }
    }
}
