//! Callbacks. Promises: nobody is told of the end of a call that the sender did not name where the end of a call is named, and a form, a
//! query and an object that another reader reads as well name the same one.

use crate::bounds::{Bounds, bounded};
use crate::independent::{Pairs, elements, is_id, is_number, same_id, string};
use crate::vobiz::Callback;
use crate::vobiz::callback::parse;

const BOUNDS: Bounds = Bounds { bytes_per_byte: 64 };

pub fn form(body: &[u8]) {
    check(None, body);
}

pub fn json(body: &[u8]) {
    check(None, body);
}

/// The first line is the query, the rest is the body.
pub fn query(input: &[u8]) {
    let (query, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &[][..]),
    };
    // Hyper lets no other query through.
    if let Ok(query) = std::str::from_utf8(query) {
        check(Some(query), body);
    }
}

fn check(query: Option<&str>, body: &[u8]) {
    let callback = bounded(BOUNDS, body, |body| parse(query, body));
    bounds_of(&callback);
    // A null byte after all: what is known of any callback, whoever can read it.
    let everything = [query.unwrap_or_default().as_bytes(), b"\0", body].concat();
    for id in callback.ended.iter().map(|end| &end.call_id).chain(&callback.call_id) {
        assert!(is_id(id.as_str()));
        assert!(is_said(id.as_str(), &everything), "{id} was never said");
    }
    let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let said = match start.first() {
        Some(b'{' | b'[') => of_json(&String::from_utf8_lossy(start), true),
        _ => Some(of_form(start)),
    };
    let Some(mut said) = said else { return };
    if event(&said).is_empty()
        && let Some(query) = query
    {
        let in_query = of_form(query.trim_start_matches('?').as_bytes());
        if !event(&in_query).is_empty() {
            said = in_query;
        } else if !LISTENED.iter().any(|key| !first(&said, key).is_empty()) {
            return;
        }
    }
    let expected = ended(&said);
    let found = callback.ended.as_ref().map(|end| end.call_id.as_str());
    match (found, &expected) {
        (Some(found), Some(expected)) if same_id(found, expected) => {}
        // An A leg goes on, and words for no id or of the path are short.
        (None, Some(expected)) => {
            let goes_on = ["CallUUID", "DialALegUUID"]
                .iter()
                .any(|key| first(&said, key).eq_ignore_ascii_case(expected));
            let is_a_leg = event(&said).eq_ignore_ascii_case("DialHangup") && goes_on;
            let is_word = expected.len() <= 10 || expected.bytes().all(|b| matches!(b, b'0' | b'-'));
            assert!(callback.note.is_some(), "{expected} ended, and nothing was said of it");
            assert!(!is_id(expected) || is_a_leg || is_word, "{expected} ended, and was not seen");
        }
        (None, None) => {}
        _ => panic!("{found:?} ended, another reader says {expected:?}"),
    }
}

fn bounds_of(callback: &Callback) {
    assert!(callback.event.len() <= 64 && callback.event.bytes().all(|b| (b' '..=b'~').contains(&b)));
    assert!(callback.accounts.len() <= 4 && callback.accounts.iter().all(|account| is_id(account.as_str())));
    assert!(callback.note.as_ref().is_none_or(|note| note.len() <= 2048), "{:?}", callback.note);
    let sip = callback.ended.iter().filter_map(|end| end.sip_call_id.as_ref());
    assert!(sip.into_iter().all(|id| (1..=255).contains(&id.len()) && !id.contains(char::is_control)));
}

/// The keys that a callback is read by.
const LISTENED: [&str; 13] = [
    "Event",
    "event",
    "CallUUID",
    "call_uuid",
    "call_id",
    "DialALegUUID",
    "DialBLegUUID",
    "TrunkID",
    "SIPCallID",
    "ParentAuthID",
    "AccountId",
    "auth_id",
    "account_id",
];

type Said = Vec<(String, String)>;

fn first<'a>(said: &'a Said, key: &str) -> &'a str {
    said.iter().find(|(name, value)| name == key && !value.is_empty()).map_or("", |(_, value)| value)
}

fn event(said: &Said) -> &str {
    let event = first(said, "Event");
    if event.is_empty() { first(said, "event") } else { event }.trim()
}

/// What stands where a callback names the call that is over.
fn ended(said: &Said) -> Option<String> {
    let event = event(said).to_ascii_lowercase();
    let key = match event.as_str() {
        "hangup" => "CallUUID",
        "dialhangup" => "DialBLegUUID",
        _ if event.starts_with("contact.") => "call_uuid",
        _ => return None,
    };
    let id = first(said, key);
    (!id.is_empty()).then(|| id.to_owned())
}

fn of_form(form: &[u8]) -> Said {
    let pairs = form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decoded(&pair[..at]), decoded(pair.get(at + 1..).unwrap_or_default()))
    });
    pairs.collect()
}

fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(hex, 16).ok())?
        });
        match (text[at], hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 2;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What an object says, if another reader can read it.
fn of_json(text: &str, may_be_wrapped: bool) -> Option<Said> {
    let Some(pairs) = Pairs::of(text) else {
        let elements = elements(text).filter(|elements| may_be_wrapped && elements.len() == 1)?;
        let wrapped = Pairs::of(elements[0])?;
        let body = wrapped.0.iter().find(|(key, _)| key == "body")?.1;
        if body.starts_with('{') {
            return of_json(body, false);
        }
        let inner = string(body)?;
        let is_json = inner.trim_ascii_start().starts_with(['{', '[']);
        return if is_json { of_json(&inner, false) } else { Some(of_form(inner.as_bytes())) };
    };
    let mut said = Vec::new();
    for (key, value) in pairs.0 {
        if value.starts_with('"') {
            said.push((key, string(value)?));
        } else if is_number(value) {
            said.push((key, value.to_owned()));
        }
    }
    Some(said)
}

/// Whether the characters of an id are in a text in their order with nothing between them but what escapes them.
fn is_said(id: &str, text: &[u8]) -> bool {
    let id = &id.to_ascii_lowercase();
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    if text.contains(id) {
        return true;
    }
    // Decoded as often as it can have been: a form in a string in an object.
    let json = unescaped(&text);
    [decoded(text.as_bytes()), decoded(json.as_bytes()), unescaped(&json), json]
        .iter()
        .any(|text| text.to_ascii_lowercase().contains(id))
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let hex = rest
            .strip_prefix('u')
            .and_then(|rest| rest.get(..4))
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match hex.and_then(char::from_u32) {
            Some(c) => {
                plain.push(c);
                rest = &rest[5..];
            }
            None => {
                if let Some(c) = rest.chars().next() {
                    plain.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
    }
    plain + rest
}
