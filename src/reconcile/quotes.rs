//! Quotation marks as a reader of CSV meets them, and those that are probably a slip: one that is never closed, or closed amid a cell.
//! The reader of the rows takes such text without a word, and whole rows with it.

use std::collections::VecDeque;
use std::io::Read;

/// Where in a cell the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At its beginning.
    Begin,
    /// In one without marks around it.
    Plain,
    /// Between the marks.
    Quoted,
    /// Behind what may be the closing one.
    Closed,
}

/// Text that is handed on as it is, watched for slips.
pub(super) struct Quotes<R> {
    input: R,
    separator: u8,
    place: Place,
    /// Bytes that were handed on.
    at: u64,
    opened_at: u64,
    slips: VecDeque<u64>,
}

impl<R: Read> Quotes<R> {
    pub(super) fn new(input: R, separator: u8) -> Self {
        Self { input, separator, place: Place::Begin, at: 0, opened_at: 0, slips: VecDeque::new() }
    }

    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Whether there is a slip before this byte of the text and behind the one that was asked for last.
    pub(super) fn slipped_before(&mut self, end: u64) -> bool {
        let mut any = false;
        while self.slips.front().is_some_and(|slip| *slip < end) {
            self.slips.pop_front();
            any = true;
        }
        any
    }

    fn watch(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.place = match (self.place, byte) {
                (Place::Begin, b'"') => {
                    self.opened_at = self.at;
                    Place::Quoted
                }
                (Place::Quoted, b'"') => Place::Closed,
                // A mark that is said twice.
                (Place::Quoted, _) | (Place::Closed, b'"') => Place::Quoted,
                (_, b'\n') => Place::Begin,
                (_, byte) if *byte == self.separator => Place::Begin,
                (Place::Closed, _) => {
                    self.slips.push_back(self.at);
                    Place::Plain
                }
                (Place::Begin | Place::Plain, _) => Place::Plain,
            };
            self.at += 1;
        }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.input.read(buffer)?;
        if length == 0 && !buffer.is_empty() && self.place == Place::Quoted {
            self.slips.push_back(self.opened_at);
            self.place = Place::Plain;
        }
        self.watch(&buffer[..length]);
        Ok(length)
    }
}

/// Whether a line within a cell looks like a row of its own: as wide as one, with an id and, where there is one, a time in their columns.
pub(super) fn is_a_row(
    line: &[u8],
    separator: u8,
    width: usize,
    id: Option<usize>,
    time: Option<usize>,
) -> bool {
    let cells: Vec<&[u8]> = line.split(|byte| *byte == separator).collect();
    let has_digit = |at: usize| cells.get(at).is_some_and(|cell| cell.iter().any(u8::is_ascii_digit));
    let is_id = |at: usize| {
        let text = cells.get(at).and_then(|cell| std::str::from_utf8(cell).ok()).unwrap_or_default();
        crate::vobiz::CallId::new(text.trim().trim_matches('"')).is_ok()
    };
    cells.len() >= width
        && id.is_none_or(|at| is_id(at) && (time.is_some() || has_digit(at)))
        && time.is_none_or(has_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips(text: &str) -> VecDeque<u64> {
        let mut quotes = Quotes::new(text.as_bytes(), b',');
        std::io::copy(&mut quotes, &mut std::io::sink()).unwrap();
        quotes.slips
    }

    #[test]
    fn a_mark_that_is_not_closed_or_closed_amid_a_cell_is_a_slip() {
        for text in [
            "a,\"b\",c\n",
            "a,\"b \"\"c\"\"\",d\n",
            "a,5\" pipe,c\n",
            "a,\"b\nc, d\"\n",
            "\"a\"",
            "a,\"\",c",
            "",
        ] {
            assert!(slips(text).is_empty(), "{text}");
        }
        for (text, at) in [("a,\"b,c\nd", 2), ("a,\"Joe,42\nz,\"Al\",42\n", 13), ("\"a\" ,b\n", 3)] {
            assert_eq!(slips(text), [at], "{text}");
        }
    }

    #[test]
    fn a_line_is_a_row_if_its_id_and_time_are() {
        let row = |line: &str| is_a_row(line.as_bytes(), b',', 3, Some(0), Some(1));
        assert!(row("zzz,2026-03-25T10:05:00Z,0.45") && row("b,10:05,"));
        assert!(!row("please, when you can, call") && !row("a,10:05") && !row(",10:05,1"));
        assert!(is_a_row(b"a7,x,y", b',', 3, Some(0), None) && !is_a_row(b"so,x,y", b',', 3, Some(0), None));
    }
}
