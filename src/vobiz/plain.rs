//! Text of others as a person may be shown it: the one place that says which characters are not shown but obeyed, or hidden. A name, an
//! error or a dead letter may hold any; none of them moves the cursor, turns a line round, or makes two different texts look the same.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Whether a terminal or a browser obeys or hides this character: controls (Cc: ESC, C1), formats (Cf: the directions of writing, zero
/// width, tags), and the separators of lines and paragraphs.
pub fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    !matches!(c, ' '..='~')
        && matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator)
}

/// The text on one line: white space that breaks it is a blank, and what is hidden stands there by its number, such as `\u{202e}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    written_out(text, |_| false)
}

/// The same for text of several lines.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| c == '\n')
}

/// A JSON text that says the same and holds nothing hidden: such characters stand in its strings only, where they can be escaped. What is
/// white space to JSON stays.
pub fn plain_json(json: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\r' | '\t') || !is_hidden(c);
    if json.chars().all(stays) {
        return Cow::Borrowed(json);
    }
    let mut plain = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if stays(c) {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            _ = write!(plain, "\\u{unit:04x}");
        }
    }
    Cow::Owned(plain)
}

fn written_out(text: &str, stays: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| stays(c) || !is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' if !stays(c) => plain.push(' '),
            _ if stays(c) || !is_hidden(c) => plain.push(c),
            _ => plain.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: C0, DEL, C1, soft hyphen, zero width, an order of writing, its isolates, separators, the byte order mark, a tag.
    const HIDDEN: [char; 16] = [
        '\u{0}',
        '\u{7}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200d}',
        '\u{202e}',
        '\u{2028}',
        '\u{2029}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn what_is_obeyed_or_hidden_is_written_out() {
        for c in HIDDEN {
            assert!(is_hidden(c), "{c:?}");
            let told = format!("a\\u{{{:x}}}b", u32::from(c));
            assert_eq!(
                (plain(&format!("a{c}b")), plain_lines(&format!("a{c}b"))),
                (told.clone().into(), told.into())
            );
        }
        assert_eq!(plain("a\u{1b}[2Jb\r\n\tc"), "a\\u{1b}[2Jb   c");
        assert_eq!(plain_lines("a\n\u{1b}[2Jb\tc\r\n"), "a\n\\u{1b}[2Jb c \n");
    }

    #[test]
    fn what_is_shown_stays_as_it_is() {
        for text in ["", "Asha Rao +91 98", "राम कुमार", "₹ 1.50 – “é” 😀", "\u{fffd}"]
        {
            assert!(matches!(plain(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(plain_json(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn plain_json_says_the_same() {
        let said: String = HIDDEN.iter().chain(&['\n', '"', 'é']).collect();
        let value = serde_json::json!({ "a": said, (said.clone()): [said] });
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let plain = plain_json(&json);
            assert!(!plain.chars().any(|c| is_hidden(c) && c != '\n'), "{plain:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
        }
    }
}
