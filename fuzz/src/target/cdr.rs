//! The answer of a single fetch. Promise: where another reader finds a record in it, so do we, and the same one; where nobody does, there is
//! none, or one that [`record`] holds for.

use super::record;
use crate::bounds::{Bounds, bounded};
use crate::independent::{Pairs, is_id, is_number, string, text_of};
use crate::vobiz::{HomeCountry, Single, decode_single};

const BOUNDS: Bounds = Bounds { bytes_per_byte: 512 };

pub fn run(body: &[u8]) {
    let answer = bounded(BOUNDS, body, |body| decode_single(body, HomeCountry::INDIA));
    if let Ok(Single::Cdr(cdr)) = &answer {
        record::check(cdr);
    }
    let text = text_of(body);
    let Some(envelope) = Pairs::of(&text) else { return };
    let found = match envelope.last("data") {
        Some(data) if data.starts_with('{') => data,
        _ if envelope.last("uuid").is_some() => text.trim_matches([' ', '\t', '\n', '\r']),
        _ => return assert!(!matches!(answer, Ok(Single::Cdr(_))), "a record where nobody else sees one"),
    };
    if envelope.last("success") == Some("false") {
        return assert!(matches!(answer, Ok(Single::NotYet(_))));
    }
    let Some(uuid) = Pairs::of(found).and_then(|pairs| pairs.last("uuid")) else { return };
    let named = string(uuid).or_else(|| is_number(uuid).then(|| uuid.to_owned()));
    match answer {
        Ok(Single::Cdr(cdr)) => assert_eq!(cdr.payload.text(), found),
        Ok(Single::NotYet(why)) => panic!("{why}, and another reader sees {uuid}"),
        // Ids of characters that an id may have are refused for what they say: words of the path, words for none.
        Err(why) => assert!(
            named.is_none_or(|named| !is_id(&named)
                || named.len() <= 10
                || named.bytes().all(|b| matches!(b, b'0' | b'-'))),
            "{why} of {uuid}"
        ),
    }
}
