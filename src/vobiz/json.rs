//! JSON as it was written: an object taken apart into its keys and the raw text of its values.
//!
//! Whether a text is JSON at all is `serde_json`'s word ([`check`]); the rest only reads texts that passed it, and gives
//! up quietly (fewer parts, never a panic) on one that did not. Nothing here makes a number of anything, so no amount
//! can pass through a binary float, and nothing here recurses, so no nesting can overflow the stack.

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

/// The elements of an array as they were written; nothing if this is no array.
pub(super) fn elements(array: &str) -> Vec<&str> {
    let mut cursor = Cursor { text: array, at: 0 };
    let mut found = Vec::new();
    if !cursor.eat(b'[') {
        return found;
    }
    while let Some(value) = cursor.value() {
        found.push(value);
        if !cursor.eat(b',') {
            break;
        }
    }
    found
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
mod tests {
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
        }
    }
}
