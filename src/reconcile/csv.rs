//! The provider's export, bytes in, calls out. Pure. Its header line, the order of columns, the spelling of nothing and the
//! quoting are unpublished, so columns are found by name, in any order, and those we do not need are ignored.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use ::csv::{ByteRecord, Reader, ReaderBuilder};

use super::{Wrong, row};
use crate::db::reconcile::TheirCall;
use crate::vobiz::CallId;

/// What we read, and the names of its columns in the export; of several the first that says something counts. The start is
/// taken as `vobiz.cdr.day_at` takes it.
const NAMES: [(&str, &[&str]); 11] = [
    ("call_id", &["uuid", "call_id"]),
    ("account_id", &["account_id"]),
    ("from", &["caller_id_number"]),
    ("to", &["destination_number"]),
    ("started_at", &["start_time", "end_time", "created_at"]),
    ("duration", &["duration"]),
    ("billsec", &["billsec"]),
    ("cost", &["cost"]),
    ("streaming_cost", &["streaming_cost"]),
    ("total_cost", &["total_cost"]),
    ("currency", &["currency"]),
];

/// An export that is being read.
#[derive(Debug)]
pub struct Export<R> {
    reader: Reader<Lines<R>>,
    /// For each of [`NAMES`], the places of its columns.
    places: [Vec<usize>; NAMES.len()],
    width: usize,
    record: ByteRecord,
}

impl<R: BufRead> Export<R> {
    /// Reads the header line; None if there is nothing at all.
    pub fn open(mut input: R) -> Result<Option<Self>, Wrong> {
        if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        let start = input.fill_buf()?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(Wrong::NotUtf8);
        }
        let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // A spreadsheet saves with what its country uses. Of equals the last is taken.
        let delimiter =
            [b'|', b'\t', b';', b','].into_iter().max_by_key(|byte| count(first_line, *byte)).unwrap_or(b',');
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(Lines::of(input));
        let mut header = ByteRecord::new();
        if !reader.read_byte_record(&mut header)? {
            return Ok(None);
        }
        let header: Vec<String> = header.iter().map(plain).collect();
        if header.iter().all(String::is_empty) {
            return Ok(None);
        }
        let mut places = [const { Vec::new() }; NAMES.len()];
        for ((_, names), places) in NAMES.iter().zip(&mut places) {
            for name in *names {
                let mut at = (0..header.len()).filter(|at| header[*at] == *name);
                places.extend(at.next());
                if at.next().is_some() {
                    return Err(Wrong::TwiceThere((*name).to_owned()));
                }
            }
        }
        if places[0].is_empty() {
            return Err(Wrong::NoIdColumn(header.join(", ").chars().take(1000).collect()));
        }
        Ok(Some(Self { reader, places, width: header.len(), record: ByteRecord::new() }))
    }

    /// Whether the file has a column of this name of ours.
    pub fn has(&self, name: &str) -> bool {
        NAMES.iter().zip(&self.places).any(|((ours, _), places)| *ours == name && !places.is_empty())
    }

    /// The next calls, `most` at most; none means the end of the file.
    pub fn read(&mut self, most: usize) -> Result<Vec<TheirCall>, Wrong> {
        let mut calls = Vec::new();
        while calls.len() < most && self.reader.read_byte_record(&mut self.record)? {
            let end = self.reader.position().byte();
            let within = count(self.record.as_slice(), b'\n');
            let line =
                self.reader.get_mut().line_at(end.saturating_sub(1)) - i64::try_from(within).unwrap_or(0);
            calls.push(self.call(line));
        }
        Ok(calls)
    }

    fn call(&self, line: i64) -> TheirCall {
        let unreadable = |why: String| TheirCall { line, unreadable: Some(why), ..TheirCall::default() };
        if self.record.len() != self.width {
            // Which value belongs to which column is not known.
            return unreadable(format!("{} values under {} columns", self.record.len(), self.width));
        }
        if self.record.iter().any(|value| std::str::from_utf8(value).is_err()) {
            return unreadable("not UTF-8".to_owned());
        }
        let mut call = row::read(line, |name| {
            let (_, places) = NAMES.iter().zip(&self.places).find(|((ours, _), _)| *ours == name)?;
            let texts = places.iter().filter_map(|at| std::str::from_utf8(self.record.get(*at)?).ok());
            texts.into_iter().find(|text| says_something(text))
        });
        let wrong_id = match &call.call_id {
            None => Some("there is no uuid".to_owned()),
            Some(id) => CallId::new(id).err().map(|why| format!("uuid: {why}")),
        };
        if let Some(why) = wrong_id {
            call.call_id = None;
            call.unreadable = Some(call.unreadable.map_or(why.clone(), |others| format!("{why}; {others}")));
        }
        call
    }
}

fn count(bytes: &[u8], of: u8) -> usize {
    bytes.split(|byte| *byte == of).count() - 1
}

/// Counts lines as an editor does. The reader of CSV passes over empty lines without counting them, and stops between the two
/// characters of a Windows line end.
#[derive(Debug)]
struct Lines<R> {
    input: R,
    read: u64,
    /// Where the line ends lie that were read, but not passed yet.
    ends: VecDeque<u64>,
    line: i64,
}

impl<R> Lines<R> {
    fn of(input: R) -> Self {
        Self { input, read: 0, ends: VecDeque::new(), line: 1 }
    }

    /// The line on which a byte stands, counted from 1; bytes must be asked for in their order.
    fn line_at(&mut self, byte: u64) -> i64 {
        while self.ends.front().is_some_and(|end| *end < byte) {
            self.ends.pop_front();
            self.line += 1;
        }
        self.line
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.input.read(buffer)?;
        for (byte, at) in buffer[..length].iter().zip(self.read..) {
            if *byte == b'\n' {
                self.ends.push_back(at);
            }
        }
        self.read += length as u64;
        Ok(length)
    }
}

fn says_something(text: &str) -> bool {
    !crate::vobiz::written::is_nothing(text) && !text.trim().starts_with("0001-01-01")
}

/// A column's name in the one spelling we look for.
fn plain(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name = name.trim_start_matches('\u{feff}').trim();
    name.to_lowercase().split([' ', '_', '-']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vobiz::Moment;

    fn read(text: &[u8]) -> Vec<TheirCall> {
        Export::open(text).unwrap().unwrap().read(usize::MAX).unwrap()
    }

    #[test]
    fn columns_are_found_by_name_however_it_is_spelt() {
        for text in [
            "\u{feff}UUID,Total Cost,Trunk Name,Start Time\na1,0.45,main,2026-03-25T10:00:00Z\n",
            "start_time;trunk;total_cost;Call-ID\r\n2026-03-25 10:00:00+00;;0.45;a1\r\n",
            "\"uuid\"\t\" TOTAL_COST \"\tstart_time\n\"a1\"\t\"0.45\"\t\"2026-03-25T15:30:00+05:30\"",
        ] {
            let calls = read(text.as_bytes());
            assert_eq!(calls.len(), 1, "{text}");
            assert_eq!((calls[0].line, calls[0].call_id.as_deref()), (2, Some("a1")), "{text}");
            assert_eq!(calls[0].total_cost.as_ref().unwrap().to_string(), "0.45");
            let at = "2026-03-25T10:00:00Z".parse().unwrap();
            assert_eq!(calls[0].called_at, Some(Moment::Instant(at)), "{text}");
            assert_eq!(calls[0].unreadable, None);
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_keeps_its_line() {
        let calls = read(b"uuid,cost\na1,0.45\na2\n\n,1\na3,\xff\nb c,abc\na4,NULL\n");
        let said: Vec<_> = calls.iter().map(|call| (call.line, call.unreadable.as_deref())).collect();
        assert_eq!(
            said,
            [
                (2, None),
                (3, Some("1 values under 2 columns")),
                (5, Some("there is no uuid")),
                (6, Some("not UTF-8")),
                (
                    7,
                    Some(
                        "uuid: an id is made of letters, digits and . _ : @ + - only; cost: not a number: \"abc\""
                    )
                ),
                (8, None)
            ]
        );
        assert_eq!(calls[5].cost, None);
    }

    #[test]
    fn without_a_start_the_end_counts() {
        let calls = read(
            b"uuid,end_time,start_time\na,2026-03-25 10:00:00,\nb,2026-03-25 10:00:00,0001-01-01T00:00:00Z\n",
        );
        assert!(calls.iter().all(|call| call.called_at.is_some() && call.unreadable.is_none()), "{calls:?}");
    }

    #[test]
    fn a_file_that_is_no_export_says_what_it_has() {
        let wrong = |text: &[u8]| Export::open(text).unwrap_err().to_string();
        assert!(wrong(b"id,cost\n1,2\n").contains("id, cost"));
        assert!(wrong(b"uuid,cost,Cost\n").contains("cost"));
        assert!(wrong(b"\xff\xfeu\0u\0").contains("UTF-8"));
        for nothing in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"  \n"] {
            assert!(Export::open(nothing).unwrap().is_none(), "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_an_error(any in any::<Vec<u8>>(), with_header in any::<bool>()) {
            let bytes = if with_header { [b"uuid,cost,start_time\n", &any[..]].concat() } else { any };
            if let Ok(Some(mut export)) = Export::open(&bytes[..]) {
                while !export.read(3).unwrap().is_empty() {}
            }
        }

        #[test]
        fn every_line_of_text_is_a_row_and_keeps_its_number(
            lines in prop::collection::vec("([a-z0-9,.-]{1,20})?", 0..20),
            windows in any::<bool>(),
        ) {
            let end = if windows { "\r\n" } else { "\n" };
            let text = format!("uuid,cost{end}\"a\n1\",2{end}{}", lines.join(end));
            let found: Vec<_> = read(text.as_bytes()).iter().map(|call| call.line).collect();
            let full = lines.iter().zip(4..).filter(|(text, _)| !text.is_empty()).map(|(_, line)| line);
            prop_assert_eq!(found, [2].into_iter().chain(full).collect::<Vec<i64>>());
        }
    }
}
