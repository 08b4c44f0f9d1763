//! The bytes of a file as text in UTF-8 whose lines all end in a line feed, whatever the file was saved as. What is no text at
//! all is refused by what it is, and nothing of it is shown.

use std::collections::VecDeque;
use std::io::{BufRead, Chain, Cursor, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Wrong;

/// So much of a file says what it is.
const HEAD: u64 = 8192;

/// What files begin with that are no text, and what to do with them.
const KINDS: [(&[u8], &str); 14] = [
    (
        b"PK\x03\x04",
        "a zip archive, as .xlsx and .ods are: open it in a spreadsheet and save it as CSV UTF-8",
    ),
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook: open it in a spreadsheet and save it as CSV UTF-8"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first, with gunzip"),
    (b"BZh91AY&SY", "compressed with bzip2: unpack it first, with bunzip2"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first, with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first, with unzstd"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!\x1a", "a rar archive: unpack it first"),
    (b"%PDF", "a PDF: ask for the same list as CSV"),
    (b"{\\rtf", "a document in RTF: ask for the same list as CSV"),
    (b"PAR1\x15", "a Parquet file: write it as CSV, as DuckDB's `copy … to 'calls.csv'` does"),
    (b"SQLite format 3\0", "a database of SQLite: write the table as CSV"),
    (b"\x89PNG", "a picture: ask for the same list as CSV"),
    (b"\xff\xd8\xff", "a picture: ask for the same list as CSV"),
];
/// The same of files that are text, but no CSV.
const MARKUP: [(&str, &str); 4] = [
    ("<", "HTML or XML, as some pages save for .xls: open it in a spreadsheet and save it as CSV UTF-8"),
    ("{", "JSON: ask for the same list as CSV"),
    ("[{", "JSON: ask for the same list as CSV"),
    ("[ {", "JSON: ask for the same list as CSV"),
];

/// Text in the making. It counts lines as an editor does: CR, LF and CR LF end one each; and so does CR CR LF, which is a CR LF that was
/// written through a layer that made CR LF of each LF.
pub(super) struct Text<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    /// Where the file is not in bytes of ASCII and others.
    decoder: Option<Decoder>,
    encoding: &'static str,
    bytes: Vec<u8>,
    /// Decoded, up to the place from which on it was not given away yet.
    ready: Vec<u8>,
    given: usize,
    /// CRs that may be the beginning of a line end: two at most.
    carriage_returns: usize,
    over: bool,
    written: u64,
    /// Where the line ends lie that were given away, but not passed yet: the first of some that follow each other, and how many.
    ends: VecDeque<(u64, u64)>,
    line: i64,
}

impl<R: BufRead> Text<R> {
    /// Looks at the beginning of a file, and begins.
    pub(super) fn open(mut input: R) -> Result<Self, Wrong> {
        let mut head = Vec::new();
        (&mut input).take(HEAD).read_to_end(&mut head)?;
        let (encoding, mark) = encoding(&head);
        if encoding.is_none() {
            refuse_other_files(&head[mark..])?;
        }
        let mut from = Cursor::new(head);
        from.set_position(mark as u64);
        Ok(Self {
            input: from.chain(input),
            decoder: encoding.map(Encoding::new_decoder_without_bom_handling),
            encoding: encoding.map_or("UTF-8", Encoding::name),
            bytes: vec![0; 65_536],
            ready: Vec::new(),
            given: 0,
            carriage_returns: 0,
            over: false,
            written: 0,
            ends: VecDeque::new(),
            line: 1,
        })
    }

    /// What the file was saved as.
    pub(super) fn encoding(&self) -> &'static str {
        self.encoding
    }

    /// The line on which a byte of the text stands, counted from 1; bytes must be asked for in their order.
    pub(super) fn line_at(&mut self, byte: u64) -> i64 {
        while let Some((first, count)) = self.ends.front_mut()
            && *first < byte
        {
            let passed = (byte - *first).min(*count);
            self.line += i64::try_from(passed).unwrap_or(i64::MAX);
            (*first, *count) = (*first + passed, *count - passed);
            if *count == 0 {
                self.ends.pop_front();
            }
        }
        self.line
    }

    /// The last line; the text must have been read to its end.
    pub(super) fn last_line(&mut self) -> i64 {
        self.line_at(self.written.saturating_sub(1))
    }

    fn fill(&mut self) -> std::io::Result<()> {
        self.ready.clear();
        self.given = 0;
        let length = self.input.read(&mut self.bytes)?;
        self.over = length == 0;
        let read = &self.bytes[..length];
        let mut made = Vec::new();
        let read = match &mut self.decoder {
            None => read,
            Some(decoder) => {
                let mut rest = read;
                loop {
                    let at = made.len();
                    made.resize(at + 3 * rest.len() + 16, 0);
                    let (result, used, length, _) = decoder.decode_to_utf8(rest, &mut made[at..], self.over);
                    made.truncate(at + length);
                    rest = &rest[used..];
                    if result == CoderResult::InputEmpty {
                        break &made;
                    }
                }
            }
        };
        for byte in read {
            match byte {
                b'\r' => {
                    // The first of three is a line end of its own.
                    if self.carriage_returns == 2 {
                        self.ready.push(b'\n');
                    } else {
                        self.carriage_returns += 1;
                    }
                    continue;
                }
                b'\n' => self.carriage_returns = 0,
                _ => self.ready.resize(self.ready.len() + std::mem::take(&mut self.carriage_returns), b'\n'),
            }
            self.ready.push(*byte);
        }
        if self.over {
            self.ready.resize(self.ready.len() + std::mem::take(&mut self.carriage_returns), b'\n');
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Text<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.given == self.ready.len() && !self.over {
            self.fill()?;
        }
        let length = buffer.len().min(self.ready.len() - self.given);
        buffer[..length].copy_from_slice(&self.ready[self.given..self.given + length]);
        for (byte, at) in buffer[..length].iter().zip(self.written..) {
            if *byte == b'\n' {
                match self.ends.back_mut() {
                    Some((first, count)) if *first + *count == at => *count += 1,
                    _ => self.ends.push_back((at, 1)),
                }
            }
        }
        self.given += length;
        self.written += length as u64;
        Ok(length)
    }
}

/// UTF-16, by its mark or, without one, by the zeros of its Latin letters; and the length of the mark.
fn encoding(head: &[u8]) -> (Option<&'static Encoding>, usize) {
    match head {
        [0xff, 0xfe, ..] => (Some(UTF_16LE), 2),
        [0xfe, 0xff, ..] => (Some(UTF_16BE), 2),
        [0xef, 0xbb, 0xbf, ..] => (None, 3),
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => (Some(UTF_16LE), 0),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => (Some(UTF_16BE), 0),
        _ => (None, 0),
    }
}

fn refuse_other_files(head: &[u8]) -> Result<(), Wrong> {
    if let Some((_, what)) = KINDS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Wrong::OtherFile(what));
    }
    let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1a);
    let begin = &head[..head.len().min(512)];
    if head.contains(&0) || begin.iter().filter(|byte| control(byte)).count() > 3 {
        return Err(Wrong::OtherFile("no text: save the list as CSV UTF-8"));
    }
    let text = String::from_utf8_lossy(begin);
    let markup = MARKUP.iter().find(|(sign, _)| text.trim_start().starts_with(sign));
    markup.map_or(Ok(()), |(_, what)| Err(Wrong::OtherFile(what)))
}

/// The text of a cell. Bytes that are no UTF-8 are those of Windows in western countries: what we need is ASCII in either.
pub(super) fn cell(bytes: &[u8]) -> (std::borrow::Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), true),
        Err(_) => (WINDOWS_1252.decode_without_bom_handling(bytes).0, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> String {
        let mut text = String::new();
        Text::open(bytes).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect()
    }

    #[test]
    fn each_line_end_is_one() {
        for (bytes, lines) in [
            ("a\rb\rc\r", "a\nb\nc\n"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("a\r\r\nb\r\r\n", "a\nb\n"),
            ("a\n\nb", "a\n\nb"),
            ("a\r\rb", "a\n\nb"),
            ("a\r\n\r\nb", "a\n\nb"),
            ("a\r\r\r\nb", "a\n\nb"),
            ("a\r\r\r\rb", "a\n\n\n\nb"),
            ("\r", "\n"),
            ("", ""),
        ] {
            assert_eq!(read(bytes.as_bytes()), lines, "{bytes:?}");
        }
    }

    #[test]
    fn line_ends_without_number_take_no_room() {
        for end in [b'\r', b'\n'] {
            let many = [&b"a"[..], &vec![end; 3_000_000], b"b\nc"].concat();
            let mut text = Text::open(&many[..]).unwrap();
            let (mut read, mut buffer) = (0, [0; 8192]);
            loop {
                match text.read(&mut buffer).unwrap() {
                    0 => break,
                    length => read += length,
                }
                assert!(text.ready.len() <= 65_536 + 2 && text.ends.len() <= 2);
            }
            assert_eq!(read, many.len());
            assert_eq!(
                (text.line_at(3), text.line_at(3_000_001), text.last_line()),
                (3, 3_000_001, 3_000_002)
            );
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_named_and_not_shown() {
        for (bytes, word) in [
            (&b"PK\x03\x04\x14\0\x06\0"[..], ".xlsx"),
            (b"\x1f\x8b\x08\0\0\0", "gunzip"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", ".xls workbook"),
            (b"%PDF-1.7\n", "PDF"),
            (b"uuid,cost\n\0\0\0\0", "no text"),
            (b"\x01\x02\x1b[31m\x07\x1b\x02", "no text"),
            (b"\n <html><table>", "HTML"),
            (b"{\"data\":[]}", "JSON"),
            (b"\xef\xbb\xbf[{\"uuid\":1}]", "JSON"),
        ] {
            let Err(Wrong::OtherFile(said)) = Text::open(bytes).map(|_| ()) else { panic!("{bytes:?}") };
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(read(b"PK,uuid\n"), "PK,uuid\n", "letters are letters");
    }

    proptest! {
        #[test]
        fn the_same_text_comes_of_each_encoding(text in "[a-z₹,é\n😀]{2,50}", little: bool, mark: bool) {
            let latin = format!("uuid{text}");
            let bom = if mark { "\u{feff}" } else { "" };
            prop_assert_eq!(read(&utf16(&format!("{bom}{latin}"), little)), &*latin);
            prop_assert_eq!(read(format!("{bom}{latin}").as_bytes()), &*latin);
        }

        #[test]
        fn any_bytes_are_text_or_refused(bytes in any::<Vec<u8>>()) {
            if let Ok(mut text) = Text::open(&bytes[..]) {
                let mut all = Vec::new();
                text.read_to_end(&mut all).unwrap();
                prop_assert!(!all.contains(&b'\r'));
            }
        }
    }
}
