//! A CDR's text exactly as it came, and the two questions asked of it: is this what we have already, and does one text
//! only say less than the other? What its fields mean is no question of this file.

use std::borrow::Cow;
use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::{decimal, json};

/// Deeper than this a value counts as its raw text. A CDR is two levels deep; the limit keeps hostile nesting off the
/// stack.
const DEPTH: usize = 32;

/// The JSON text of one CDR object, byte for byte as it stood in the answer (after bytes that are not UTF-8 were
/// replaced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    text: String,
}

/// How one payload's content relates to a newer one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The same content.
    Same,
    /// The newer one has more keys, and says the same under each of ours.
    Subset,
    /// The newer one has fewer keys, and says the same under each of its own (a list row of a CDR that we fetched
    /// singly, for instance).
    Superset,
    /// They disagree, or each has a key of its own.
    Different,
}

impl Payload {
    /// Takes a text as it is. It need not be JSON: then its content is the text itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as it came, handed over.
    pub fn into_text(self) -> String {
        self.text
    }

    /// What the payload says, written in one way: keys sorted, nulls in objects left out (Vobiz leaves them out at
    /// will, captured), no white space, the last of repeated keys, numbers by exact decimal value, strings by what
    /// they say. Valid JSON if the payload is.
    pub fn content(&self) -> String {
        match json::check(&self.text) {
            Ok(value) => canonical(value, DEPTH).into_owned(),
            Err(_) => self.text.clone(),
        }
    }

    /// SHA-256 over [`content`](Self::content).
    pub fn content_hash(&self) -> [u8; 32] {
        Sha256::digest(self.content().as_bytes()).into()
    }

    /// How this payload's content relates to a newer one's, by top-level keys.
    pub fn compare(&self, newer: &Self) -> Overlap {
        if self.text == newer.text {
            return Overlap::Same;
        }
        let (Some(ours), Some(theirs)) = (self.top(), newer.top()) else {
            return if self.content() == newer.content() { Overlap::Same } else { Overlap::Different };
        };
        let (mut only_ours, mut only_theirs) = (0, 0);
        let (mut i, mut j) = (0, 0);
        while i < ours.len() || j < theirs.len() {
            let order = match (ours.get(i), theirs.get(j)) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => (only_ours, i) = (only_ours + 1, i + 1),
                Ordering::Greater => (only_theirs, j) = (only_theirs + 1, j + 1),
                Ordering::Equal if ours[i].1 == theirs[j].1 => (i, j) = (i + 1, j + 1),
                Ordering::Equal => return Overlap::Different,
            }
        }
        match (only_ours, only_theirs) {
            (0, 0) => Overlap::Same,
            (0, _) => Overlap::Subset,
            (_, 0) => Overlap::Superset,
            _ => Overlap::Different,
        }
    }

    fn top(&self) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
        let object = json::check(&self.text).ok().filter(|value| value.starts_with('{'))?;
        Some(canonical_members(object, DEPTH))
    }
}

fn canonical(value: &str, depth: usize) -> Cow<'_, str> {
    match value.as_bytes().first() {
        Some(b'"') => json::canonical_string(value),
        Some(b'{' | b'[') if depth == 0 => Cow::Borrowed(value),
        Some(b'{') => {
            let mut text = String::with_capacity(value.len());
            for (key, value) in canonical_members(value, depth) {
                text.push(if text.is_empty() { '{' } else { ',' });
                text.extend([&key, ":", &value]);
            }
            text.push_str(if text.is_empty() { "{}" } else { "}" });
            Cow::Owned(text)
        }
        Some(b'[') => {
            let parts: Vec<_> =
                json::elements(value).into_iter().map(|part| canonical(part, depth - 1)).collect();
            Cow::Owned(format!("[{}]", parts.join(",")))
        }
        Some(b'-' | b'0'..=b'9') => decimal::canonical(value),
        _ => Cow::Borrowed(value),
    }
}

/// Sorted by key, one member per key, nulls left out.
fn canonical_members(object: &str, depth: usize) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut members: Vec<_> = json::members(object)
        .into_iter()
        .map(|member| (json::canonical_string(member.key_text), member.value))
        .collect();
    // Stable, then turned round: of repeated keys the last one comes first, and stays.
    members.reverse();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.dedup_by(|later, earlier| later.0 == earlier.0);
    let said = members.into_iter().filter(|(_, value)| *value != "null");
    said.map(|(key, value)| (key, canonical(value, depth - 1))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(text: &str) -> String {
        Payload::new(text).content()
    }

    #[test]
    fn one_content_has_one_text() {
        let written = r#" {"b":0.30, "a" : "x\u0041\/\ud800\u0007", "n":null, "c":{"z":null,"y":[null,1e0,{"q":null}]}, "b":3e-1} "#;
        assert_eq!(content(written), r#"{"a":"xA/\ud800\u0007","b":0.3,"c":{"y":[null,1,{}]}}"#);
        assert_eq!(content(&content(written)), content(written));
        assert_eq!(content("{}"), "{}");
        assert_eq!(content("{\"a\":null}"), "{}");
        assert_eq!(content("not json"), "not json");
        assert_eq!(content("{\"a\":1e200000}"), "{\"a\":1e200000}");
        assert_eq!(content("{\"a\":1,\"a\":null}"), "{}");
    }

    #[test]
    fn nulls_left_out_change_nothing() {
        let whole = Payload::new(include_str!("../../tests/data/vobiz/cdr_unanswered.json"));
        let omitted = Payload::new(include_str!("../../tests/data/vobiz/cdr_null_keys_omitted.json"));
        assert_eq!(whole.content_hash(), omitted.content_hash());
        assert_eq!(whole.compare(&omitted), Overlap::Same);
    }

    #[test]
    fn payloads_are_compared_by_keys() {
        let cases = [
            (r#"{"a":1,"b":2}"#, r#"{"b":2.0,"a":1,"c":null}"#, Overlap::Same),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Overlap::Subset),
            (r#"{"a":1,"b":2}"#, r#"{"b":2}"#, Overlap::Superset),
            (r#"{"a":1,"b":2}"#, r#"{"b":3}"#, Overlap::Different),
            (r#"{"a":1}"#, r#"{"b":1}"#, Overlap::Different),
            ("[1]", "[ 1.0 ]", Overlap::Same),
            ("[1]", "{}", Overlap::Different),
        ];
        for (ours, newer, expected) in cases {
            assert_eq!(Payload::new(ours).compare(&Payload::new(newer)), expected, "{ours} {newer}");
        }
    }

    #[test]
    fn any_nesting_is_safe() {
        let deep = format!("{{\"a\":{}1.0{}}}", "{\"b\":[".repeat(200_000), "]}".repeat(200_000));
        assert_eq!(content(&content(&deep)), content(&deep));
        assert_eq!(Payload::new(deep.clone()).compare(&Payload::new(format!(" {deep}"))), Overlap::Same);
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            "\"([a-zé ]|\\\\u[0-9a-fA-F]{4}|\\\\[n\"/\\\\]){0,6}\"",
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|parts| format!("[{}]", parts.join(" , "))),
                prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|parts| object(&parts)),
            ]
        })
    }

    fn object(parts: &[(String, String)]) -> String {
        let parts: Vec<_> = parts.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", parts.join(", "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn content_is_idempotent_and_json(text in value()) {
            let once = content(&text);
            prop_assert!(json::check(&once).is_ok(), "{}", once);
            prop_assert_eq!(content(&once), once);
        }

        #[test]
        fn the_order_of_keys_is_no_content(parts in prop::collection::btree_map("[a-z]{1,3}", value(), 0..6), seed: u64) {
            let mut parts: Vec<_> = parts.into_iter().collect();
            let ordered = object(&parts);
            let turn = usize::try_from(seed % 7).unwrap() % parts.len().max(1);
            parts.rotate_left(turn);
            parts.reverse();
            prop_assert_eq!(content(&object(&parts)), content(&ordered));
        }
    }
}
