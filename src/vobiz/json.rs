//! JSON as it was written: an object taken apart into its keys and the raw text of its values.
//!
//! Whether a text is JSON at all is `serde_json`'s word ([`check`]); the rest only reads texts that passed it, and gives
//! up quietly (fewer parts, never a panic) on one that did not. Nothing here makes a number of anything, so no amount
//! can pass through a binary float, and nothing here recurses, so no nesting can overflow the stack.
//!
//! A text that is JSON but for single tokens (`NaN`, a raw line break in a name) is [`mended`]: one token must not cost the
//! record, and what it said is kept in the record.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::value::RawValue;

/// The text without the white space around it, if it is one complete JSON value.
pub(super) fn check(text: &str) -> Result<&str, serde_json::Error> {
    // A raw value is checked without recursion, and lone surrogates pass.
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// The bytes as text: a byte order mark is dropped, and whatever is not UTF-8 becomes U+FFFD (then the flag is set).
pub(super) fn text_of(body: &[u8]) -> (Cow<'_, str>, bool) {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    let replaced = matches!(text, Cow::Owned(_));
    (text, replaced)
}

/// Under this key a mended text holds a token that was no JSON: `NaN` becomes `{"not JSON":"NaN"}`. An object is what no field of
/// a CDR can be read from, so the token becomes nothing with a note, and is still what it was when the record is read again.
const NOT_JSON: &str = "not JSON";

/// The token that a mended text holds in this value.
pub(super) fn not_json(written: &str) -> Option<Cow<'_, str>> {
    match members(written).as_slice() {
        [only] if only.key == NOT_JSON => Some(string(only.value).0),
        _ => None,
    }
}

/// One JSON value at the beginning of a text, and only that.
pub(super) fn first_value(text: &str) -> Option<&str> {
    serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().next()?.ok().map(RawValue::get)
}

/// The value at the beginning of a text by its brackets alone, JSON or not.
pub(super) fn first_part(text: &str) -> Option<&str> {
    Cursor { text, at: 0 }.value()
}

/// The text with single tokens put right, or None if there are none. Whether it is JSON now is for [`check`] to say.
///
/// - A bare word where a value belongs is kept under [`NOT_JSON`]; one that is a number in another spelling (`.5`, `+1`, `007`)
///   becomes a string, as which it can be read.
/// - Control characters inside a string are escaped, those between values become blanks.
/// - A backslash that begins no escape is doubled.
pub(super) fn mended(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut mended = String::with_capacity(text.len() + 64);
    let mut open = Vec::new();
    // The last thing that was no white space, and how far the text is copied.
    let (mut before, mut at, mut copied) = (0, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            0..b' ' => {
                mended.extend([&text[copied..start], " "]);
                copied = at;
                continue;
            }
            b'"' => at = mend_string(text, at, &mut copied, &mut mended),
            b'{' | b'[' => open.push(byte),
            b'}' | b']' => _ = open.pop(),
            b',' | b':' => {}
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b':' | b'"') || *b <= b' ';
                at += bytes[at..].iter().take_while(|b| !ends(b)).count();
                let token = &text[start..at];
                let is_value =
                    before == b':' || (open.last() == Some(&b'[') && matches!(before, b'[' | b','));
                if is_value && check(token).is_err() {
                    mended.push_str(&text[copied..start]);
                    let quoted = serde_json::Value::from(token);
                    // Writing to a String cannot fail.
                    _ = match super::decimal::scan(token) {
                        Some(_) => write!(mended, "{quoted}"),
                        None => write!(mended, "{{\"{NOT_JSON}\":{quoted}}}"),
                    };
                    copied = at;
                }
            }
        }
        before = byte;
    }
    if copied == 0 {
        return None;
    }
    mended.push_str(&text[copied..]);
    Some(mended)
}

/// Mends the string whose inside begins here; returns where it is over.
fn mend_string(text: &str, mut at: usize, copied: &mut usize, mended: &mut String) -> usize {
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => break,
            0..b' ' => {
                mended.push_str(&text[*copied..start]);
                _ = write!(mended, "\\u{byte:04x}");
                *copied = at;
            }
            b'\\' => match bytes.get(at) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 1,
                Some(b'u') if text.get(at + 1..).is_some_and(|rest| unit(rest).is_some()) => at += 5,
                _ => {
                    mended.extend([&text[*copied..start], "\\\\"]);
                    *copied = at;
                }
            },
            _ => {}
        }
    }
    at
}

/// One `key: value` of an object.
pub(super) struct Member<'a> {
    /// The key, decoded.
    pub(super) key: Cow<'a, str>,
    /// The key as it was written, with its quotes.
    pub(super) key_text: &'a str,
    /// The value as it was written.
    pub(super) value: &'a str,
}

/// The members of an object in their order, repeated keys included; nothing if this is no object.
pub(super) fn members(object: &str) -> Vec<Member<'_>> {
    let mut cursor = Cursor { text: object, at: 0 };
    let mut found = Vec::new();
    if !cursor.eat(b'{') {
        return found;
    }
    while cursor.next() == Some(b'"') {
        let Some(key_text) = cursor.value() else { break };
        if !cursor.eat(b':') {
            break;
        }
        let Some(value) = cursor.value() else { break };
        found.push(Member { key: string(key_text).0, key_text, value });
        if !cursor.eat(b',') {
            break;
        }
    }
    found
}

/// Whether a text, JSON or not, has more keys and values than this, or control characters that would have to be mended. Counted by what stands
/// between them, in one pass and without keeping any; how deep they are nested costs nothing.
pub(super) fn has_more_parts(text: &str, most: usize) -> bool {
    let (mut parts, mut in_string, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        let counts = match byte {
            _ if escaped => false,
            b'"' => {
                in_string = !in_string;
                false
            }
            b',' | b':' => !in_string,
            b' '.. => false,
            _ => in_string,
        };
        escaped = in_string && byte == b'\\' && !escaped;
        parts += usize::from(counts);
        if parts > most {
            return true;
        }
    }
    false
}

/// The elements of an array as they were written; nothing if this is no array.
pub(super) fn elements(array: &str) -> Vec<&str> {
    elements_up_to(array, usize::MAX).unwrap_or_default()
}

/// The same; none if there are more than this.
pub(super) fn elements_up_to(array: &str, most: usize) -> Option<Vec<&str>> {
    let mut cursor = Cursor { text: array, at: 0 };
    let mut found = Vec::new();
    if !cursor.eat(b'[') {
        return Some(found);
    }
    while let Some(value) = cursor.value() {
        if found.len() == most {
            return None;
        }
        found.push(value);
        if !cursor.eat(b',') {
            break;
        }
    }
    Some(found)
}

/// What a written string says, and whether a lone surrogate in it had to become U+FFFD.
pub(super) fn string(written: &str) -> (Cow<'_, str>, bool) {
    let inside = inside(written);
    if !inside.contains('\\') {
        return (Cow::Borrowed(inside), false);
    }
    let mut text = String::with_capacity(inside.len());
    let mut lone = false;
    pieces(inside, |piece| match piece {
        Piece::Plain(plain) => text.push_str(plain),
        Piece::Char(c) => text.push(c),
        Piece::Lone(_) => {
            lone = true;
            text.push(char::REPLACEMENT_CHARACTER);
        }
    });
    (Cow::Owned(text), lone)
}

/// The one way to write a string: only `"`, `\`, control characters and lone surrogates are escaped.
pub(super) fn canonical_string(written: &str) -> Cow<'_, str> {
    if !written.contains('\\') {
        return Cow::Borrowed(written);
    }
    let mut text = String::with_capacity(written.len());
    text.push('"');
    pieces(inside(written), |piece| match piece {
        Piece::Plain(plain) => text.push_str(plain),
        Piece::Char(c @ ('"' | '\\')) => text.extend(['\\', c]),
        Piece::Char(c) if u32::from(c) < 0x20 => _ = write!(text, "\\u{:04x}", u32::from(c)),
        Piece::Char(c) => text.push(c),
        Piece::Lone(unit) => _ = write!(text, "\\u{unit:04x}"),
    });
    text.push('"');
    Cow::Owned(text)
}

fn inside(written: &str) -> &str {
    let inner = written.strip_prefix('"').unwrap_or(written);
    inner.strip_suffix('"').unwrap_or(inner)
}

enum Piece<'a> {
    Plain(&'a str),
    Char(char),
    Lone(u16),
}

fn pieces<'a>(mut rest: &'a str, mut each: impl FnMut(Piece<'a>)) {
    while let Some(backslash) = rest.find('\\') {
        each(Piece::Plain(&rest[..backslash]));
        let escaped = &rest[backslash + 1..];
        let Some(letter) = escaped.chars().next() else { return };
        rest = &escaped[letter.len_utf8()..];
        each(match letter {
            'n' => Piece::Char('\n'),
            't' => Piece::Char('\t'),
            'r' => Piece::Char('\r'),
            'b' => Piece::Char('\u{8}'),
            'f' => Piece::Char('\u{c}'),
            'u' => {
                let Some(unit) = unit(rest) else { return };
                rest = &rest[4..];
                let low = rest.strip_prefix("\\u").and_then(self::unit);
                // A pair is one character only if both halves are there, in this order.
                let pair = low.and_then(|low| char::decode_utf16([unit, low]).next()?.ok());
                match (char::from_u32(u32::from(unit)), pair) {
                    (Some(c), _) => Piece::Char(c),
                    (None, Some(c)) => {
                        rest = &rest[6..];
                        Piece::Char(c)
                    }
                    (None, None) => Piece::Lone(unit),
                }
            }
            other => Piece::Char(other),
        });
    }
    each(Piece::Plain(rest));
}

fn unit(digits: &str) -> Option<u16> {
    let digits = digits.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no white space; it stays where it is.
    fn next(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The next value as it was written, stepped over by counting brackets.
    fn value(&mut self) -> Option<&'a str> {
        let first = self.next()?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        match first {
            b'"' => self.step_over_string()?,
            b'{' | b'[' => {
                let mut depth = 0usize;
                loop {
                    match bytes.get(self.at)? {
                        b'"' => {
                            self.step_over_string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b':' | b'"') || b.is_ascii_whitespace();
                self.at += bytes[start..].iter().take_while(|b| !ends(b)).count();
            }
        }
        // Both ends stand at ASCII characters, so the slice is never refused.
        self.text.get(start..self.at).filter(|value| !value.is_empty())
    }

    fn step_over_string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
