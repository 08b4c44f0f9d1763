//! The layer below all readers of JSON, with what a wallet's transactions look like. Promises: an object comes apart into the members that
//! another reader sees, a string says what it says, an amount is exact, and a text that was mended is JSON or is not taken.

use super::decimal;
use super::json;
use super::value::Notes;
use super::{Numeric, Payload};
use crate::bounds::{Bounds, bounded};
use crate::independent::{Pairs, assert_exact, elements, is_number, string};

const BOUNDS: Bounds = Bounds { bytes_per_byte: 256 };
/// Deeper than this the other reader gives up.
const DEEP: usize = 100;

pub fn run(body: &[u8]) {
    let content = bounded(BOUNDS, body, |body| {
        let (text, _) = json::text_of(body);
        let mended = json::check(&text).is_err().then(|| json::mended(&text)).flatten();
        let text = mended.as_deref().unwrap_or(&text);
        walk_anything(text);
        json::check(text).ok().map(|value| (value.to_owned(), Payload::new(value).content()))
    });
    let (text, replaced) = json::text_of(body);
    assert_eq!(replaced, std::str::from_utf8(body).is_err());
    if let Some(once) = json::mended(&text) {
        assert_eq!(json::mended(&once), None, "mended twice");
    }
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    assert!(!is_json || json::mended(&text).is_none(), "JSON was mended");
    let Some((value, content)) = content else { return };
    walk(&value, 0);
    assert_eq!(Payload::new(content.as_str()).content(), content, "content of the content");
    same(&value, &content, 0);
}

/// No text may make it panic.
fn walk_anything(text: &str) {
    json::first_value(text);
    json::first_part(text);
    json::not_json(text);
    json::string(text);
    json::canonical_string(text);
    json::members(text);
    json::elements(text);
}

fn walk(value: &str, depth: usize) {
    if depth > DEEP {
        return;
    }
    if let Some(pairs) = Pairs::of(value) {
        let members = json::members(value);
        let ours: Vec<(&str, &str)> = members.iter().map(|member| (&*member.key, member.value)).collect();
        let theirs: Vec<(&str, &str)> = pairs.0.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(ours, theirs);
        for (key, value) in theirs {
            if matches!(key, "amount" | "total_debit" | "total_credit" | "net_amount" | "balance" | "cost") {
                amount(key, value);
            }
            walk(value, depth + 1);
        }
    } else if let Some(theirs) = elements(value) {
        assert_eq!(json::elements(value), theirs);
        theirs.into_iter().for_each(|value| walk(value, depth + 1));
    } else if let Some(text) = string(value) {
        let (ours, lone) = json::string(value);
        assert_eq!((&*ours, lone), (text.as_str(), false));
        assert_eq!(string(&json::canonical_string(value)), Some(text));
    } else if is_number(value) {
        let canonical = decimal::canonical(value);
        assert_exact_number(&canonical, value);
        assert_eq!(decimal::canonical(&canonical), canonical, "canonical twice");
    }
}

fn assert_exact_number(read: &str, written: &str) {
    let (read, written) = (crate::independent::Exact::of(read), crate::independent::Exact::of(written));
    assert!(read.zip(written).is_some_and(|(read, written)| read.same_number(&written)));
}

fn amount(key: &str, value: &str) {
    let mut notes = Notes::default();
    let read: Option<Numeric> = notes.read(key, value);
    let notes = notes.into_vec();
    match read {
        Some(read) => {
            assert_exact(read.as_str(), string(value).as_deref().unwrap_or(value).trim());
            assert!(notes.is_empty());
        }
        None => {
            assert!(value == "null" || notes.len() == 1, "{key} of {value} is nothing, and no note says why")
        }
    }
}

/// Whether a text and its content say the same: the last of repeated keys, no nulls in objects, in the order of the keys.
fn same(value: &str, content: &str, depth: usize) {
    if depth > 30 {
        return;
    }
    if let (Some(pairs), Some(kept)) = (Pairs::of(value), Pairs::of(content)) {
        let mut names: Vec<&String> = pairs.0.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| pairs.last(name) != Some("null"));
        assert_eq!(kept.0.len(), names.len(), "{value} as {content}");
        for (name, kept) in &kept.0 {
            same(pairs.last(name).unwrap_or_default(), kept, depth + 1);
        }
    } else if let (Some(values), Some(kept)) = (elements(value), elements(content)) {
        assert_eq!(values.len(), kept.len());
        values.into_iter().zip(kept).for_each(|(value, kept)| same(value, kept, depth + 1));
    } else if is_number(value) {
        assert_exact_number(content, value);
    } else if value.starts_with('"') {
        assert_eq!(string(content), string(value));
    } else if !value.starts_with(['{', '[']) {
        assert_eq!(content, value);
    }
}
