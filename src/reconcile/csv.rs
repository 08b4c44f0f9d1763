//! The provider's export, bytes in, calls out. Pure. Nothing is passed over silently: what is no call is counted, and what should be
//! one and cannot be read is a row that says why.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{BufRead, Chain, Cursor, Read};

use ::csv::{ByteRecord, Reader, ReaderBuilder};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Wrong;
use super::cell::{self, Spelling};
use super::header::{self, Header, Unit};
use super::row::{self, SaidValue};
use super::text::{self, Text};
use super::total::{self, TotalRow, Totals};
use crate::db::reconcile::TheirCall;
use crate::vobiz::{CallId, Moment, Numeric, written};

/// The header is among so many bytes.
const LOOKED_AT: u64 = 65_536;

/// What a file holds beside calls, and how it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// What it was saved as.
    pub encoding: &'static str,
    /// Rows with text that is no UTF-8, taken for Windows-1252.
    pub windows_rows: i64,
    /// Lines before the header.
    pub title_lines: i64,
    /// Lines that say nothing.
    pub blank_rows: i64,
    /// The header line again.
    pub repeated_headers: i64,
    /// Rows that sum up others.
    pub totals: Vec<TotalRow>,
    /// Times that mean none: before 2000, or in the future.
    pub no_times: i64,
    /// Times that name no zone.
    pub zoneless: i64,
    /// The zone that these were taken in, and who said so.
    pub zone: Option<(String, &'static str)>,
    /// Columns that were read by another name, and the name.
    pub read_as: Vec<(String, &'static str)>,
    /// Columns that were not read, because another one says the same.
    pub not_read: Vec<String>,
}

/// An export that is being read.
pub struct Export<R: BufRead> {
    reader: Reader<Chain<Cursor<Vec<u8>>, Text<R>>>,
    /// Bytes before the header.
    begin: u64,
    separator: u8,
    header: Header,
    spelling: Spelling,
    zone: Option<String>,
    now: DateTime<Utc>,
    facts: FileFacts,
    totals: Totals,
    /// The last line that was read.
    line: i64,
    record: ByteRecord,
}

impl<R: BufRead> std::fmt::Debug for Export<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("header", &self.header)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl<R: BufRead> Export<R> {
    /// Reads up to the header line; None if there is nothing at all. `now` bounds times.
    pub fn open(input: R, spelling: Spelling, now: DateTime<Utc>) -> Result<Option<Self>, Wrong> {
        let mut text = Text::open(input)?;
        let mut start = Vec::new();
        (&mut text).take(LOOKED_AT).read_to_end(&mut start)?;
        let Some(found) = header::find(&start)? else { return Ok(None) };
        let facts = FileFacts {
            encoding: text.encoding(),
            title_lines: found.title_lines,
            blank_rows: found.blank_lines,
            read_as: found.header.read_as.clone(),
            not_read: found.header.not_read.clone(),
            ..FileFacts::default()
        };
        let (zone, dates) = found.header.times()?;
        let spelling = Spelling { dates: spelling.dates.or(dates), ..spelling };
        let begin = found.at as u64;
        let mut start = Cursor::new(start);
        start.set_position(begin);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(found.separator)
            .from_reader(start.chain(text));
        let mut export = Self {
            reader,
            begin,
            separator: found.separator,
            header: found.header,
            spelling,
            zone,
            now,
            facts,
            totals: Totals::default(),
            line: 0,
            record: ByteRecord::new(),
        };
        export.next()?;
        // Those before the header are counted already.
        export.facts.blank_rows = found.blank_lines;
        Ok(Some(export))
    }

    /// Whether the file has a column of this name of ours.
    pub fn has(&self, name: &str) -> bool {
        let of_amounts = || {
            ["cost", "streaming_cost", "total_cost"]
                .iter()
                .flat_map(|name| self.header.columns(name))
                .any(|column| matches!(column.unit, Unit::Currency(_)))
        };
        !self.header.columns(name).is_empty() || name == "currency" && of_amounts()
    }

    /// The zone that the headings name.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The next calls, `most` at most; none means the end of the file.
    pub fn read(&mut self, most: usize) -> Result<Vec<TheirCall>, Wrong> {
        let mut calls = Vec::new();
        while calls.len() < most
            && let Some(line) = self.next()?
        {
            if self.record.iter().all(|cell| cell::bare(&text::cell(cell).0).is_empty()) {
                self.facts.blank_rows += 1;
            } else if self.header.is_again(&self.record) {
                self.facts.repeated_headers += 1;
            } else if self.is_total() {
                let row = self.total(line)?;
                self.totals.say(row);
            } else {
                let call = self.call(line)?;
                self.totals.add(&call);
                calls.push(call);
            }
        }
        Ok(calls)
    }

    /// What there is to say of the file, once it was read to its end. `slack` is what an amount may be off.
    pub fn facts(mut self, slack: Option<&Numeric>) -> FileFacts {
        self.facts.totals = self.totals.judge(slack);
        self.facts
    }

    /// Reads a record; the line on which it begins.
    fn next(&mut self) -> Result<Option<i64>, Wrong> {
        let is_row = self.reader.read_byte_record(&mut self.record)?;
        let end = self.begin + self.reader.position().byte();
        let (_, text) = self.reader.get_mut().get_mut();
        if !is_row {
            self.facts.blank_rows += text.last_line() - self.line;
            self.line = text.last_line();
            return Ok(None);
        }
        let last = text.line_at(end.saturating_sub(1));
        let within = self.record.as_slice().split(|byte| *byte == b'\n').count() - 1;
        // No record begins where another one was read, whatever an open quotation mark holds.
        let line = (last - i64::try_from(within).unwrap_or(0)).max(self.line + 1);
        // The reader passes over empty lines.
        self.facts.blank_rows += (line - self.line - 1).max(0);
        self.line = last;
        Ok(Some(line))
    }

    fn says(&self, name: &str) -> Vec<SaidValue<'_>> {
        let columns = self.header.columns(name).iter();
        let said = columns.filter_map(|column| {
            let text = match text::cell(self.record.get(column.at)?).0 {
                Cow::Borrowed(text) => cell::bare(text).into(),
                Cow::Owned(text) => cell::bare(&text).to_owned().into(),
            };
            let currency = match column.unit {
                Unit::Currency(code) => Some(code),
                _ => None,
            };
            Some(SaidValue { title: column.title.as_str().into(), text, currency })
        });
        said.collect()
    }

    fn says_something(&self, name: &str) -> bool {
        self.says(name).iter().any(|said| !written::is_nothing(&said.text))
    }

    /// No call, but words for a sum, in the first cell that says something.
    fn is_total(&self) -> bool {
        let cells = self.record.iter().map(|cell| text::cell(cell).0);
        let first = cells.into_iter().find(|cell| !cell::bare(cell).is_empty());
        let ids = self.says("call_id");
        let id = ids.iter().find(|said| !written::is_nothing(&said.text));
        first.is_some_and(|first| total::is_label(cell::bare(&first)))
            && id.is_none_or(|said| total::is_label(&said.text))
            && !self.says("started_at").iter().any(|said| said.text.contains(':'))
    }

    fn total(&self, line: i64) -> Result<TheirCall, Wrong> {
        if !self.fits() {
            let why = "its cells do not stand under the columns: it was not held against the rows";
            return Ok(TheirCall { line, unreadable: Some(why.to_owned()), ..TheirCall::default() });
        }
        let numbers = ["duration", "billsec", "cost", "streaming_cost", "total_cost"];
        let says = |name: &str| {
            let said = if numbers.contains(&name) { self.says(name) } else { Vec::new() };
            // The label may stand under an amount.
            said.into_iter().filter(|said| !total::is_label(&said.text)).collect()
        };
        row::read(line, says, Some(self.spelling), self.now).map(|row| row.call)
    }

    /// Whether each cell stands under its heading. Cells behind the last heading may be there if they are empty.
    fn fits(&self) -> bool {
        let behind = self.record.iter().skip(*self.header.width.end());
        self.record.len() >= *self.header.width.start()
            && behind.into_iter().all(|cell| cell::bare(&text::cell(cell).0).is_empty())
    }

    /// An open quotation mark may have swallowed rows.
    fn swallowed(&self, line: i64, mut why: String) -> String {
        if self.line > line {
            let _ = write!(why, "; a quotation mark keeps the lines {line} to {} together", self.line);
        }
        why
    }

    /// Whether a cell holds what looks like a row of its own.
    fn holds_a_row(&self) -> bool {
        let looks_like_one =
            |line: &[u8]| line.split(|byte| *byte == self.separator).count() >= *self.header.width.start();
        *self.header.width.start() > 2
            && self.record.iter().any(|cell| cell.split(|byte| *byte == b'\n').skip(1).any(looks_like_one))
    }

    fn call(&mut self, line: i64) -> Result<TheirCall, Wrong> {
        if self.holds_a_row() {
            let why = self.swallowed(line, "a cell holds a whole row".to_owned());
            return Ok(TheirCall { line, unreadable: Some(why), ..TheirCall::default() });
        }
        if !self.fits() {
            // Which value belongs to which column is not known.
            let why = format!("{} values under {} columns", self.record.len(), self.header.width.end());
            let why = self.swallowed(line, why);
            return Ok(TheirCall { line, unreadable: Some(why), ..TheirCall::default() });
        }
        let row = row::read(line, |name| self.says(name), Some(self.spelling), self.now)?;
        let mut call = row.call;
        self.facts.no_times += row.no_times;
        self.facts.zoneless += i64::from(matches!(call.called_at, Some(Moment::Local(_))));
        self.facts.windows_rows += i64::from(self.record.iter().any(|cell| !text::cell(cell).1));
        let wrong_id = match &call.call_id {
            None if !self.says_something("call_id") => Some("there is no uuid".to_owned()),
            None => None,
            // A further record has its number behind the uuid, in lists of ours.
            Some(id) => CallId::new(uuid_of(id)).err().map(|why| format!("uuid: {why}")),
        };
        if let Some(why) = wrong_id {
            call.call_id = None;
            call.unreadable = Some(call.unreadable.map_or(why.clone(), |others| format!("{why}; {others}")));
        }
        call.unreadable = call.unreadable.map(|why| self.swallowed(line, why));
        Ok(call)
    }
}

fn uuid_of(id: &str) -> &str {
    match id.rsplit_once('~') {
        Some((uuid, number)) if number.parse::<i64>().is_ok() => uuid,
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    fn open(text: &[u8]) -> Result<Option<Export<&[u8]>>, Wrong> {
        Export::open(text, Spelling::default(), "2026-11-27T00:00:00Z".parse().unwrap())
    }

    fn read(text: &[u8]) -> Vec<TheirCall> {
        open(text).unwrap().unwrap().read(usize::MAX).unwrap()
    }

    fn facts(text: &[u8]) -> (Vec<i64>, FileFacts) {
        let mut export = open(text).unwrap().unwrap();
        let lines = export.read(usize::MAX).unwrap().iter().map(|call| call.line).collect();
        (lines, export.facts(None))
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
        let calls = read(
            b"uuid,cost\na1,0.45\na2\n\n,1\na3,\xff\nb c,abc\na4,NULL\na5,1,\na6,\"1\n2\",3\na7,\"1\n2\"\n",
        );
        let said: Vec<_> = calls.iter().map(|call| (call.line, call.unreadable.as_deref())).collect();
        assert_eq!(
            said,
            [
                (2, None),
                (3, Some("1 values under 2 columns")),
                (5, Some("there is no uuid")),
                (6, Some("cost: not a number: \"ÿ\"")),
                (
                    7,
                    Some(
                        "uuid: an id is made of letters, digits and . _ : @ + - only; cost: not a number: \"abc\""
                    )
                ),
                (8, None),
                (9, None),
                (10, Some("3 values under 2 columns; a quotation mark keeps the lines 10 to 11 together")),
                (12, Some("cost: not a number: \"1 2\"; a quotation mark keeps the lines 12 to 13 together"))
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
    fn what_is_no_call_is_counted_and_keeps_no_line_from_its_number() {
        for end in ["\n", "\r\n", "\r", "\r\r\n"] {
            let text = [
                "Calls of November",
                "",
                "uuid,cost",
                "a,0.45",
                "",
                ",",
                "b,0.45",
                "uuid,cost",
                "c,0.45",
                ",",
                "Total,1.35",
                "",
                "",
            ]
            .join(end);
            let (lines, facts) = facts(text.as_bytes());
            assert_eq!(lines, [4, 7, 9], "{end:?}");
            assert_eq!((facts.title_lines, facts.blank_rows, facts.repeated_headers), (1, 5, 1), "{end:?}");
            assert_eq!(facts.totals.len(), 1);
            assert_eq!(
                (facts.totals[0].line, facts.totals[0].right, facts.totals[0].wrong.len()),
                (11, 1, 0)
            );
        }
        let (lines, facts) =
            facts(b"uuid,cost,note\na,0.45,Total\n,0.45,Total\n,0.45,\nGrand total,0.9\nGrand total,0.5,\n");
        assert_eq!(
            lines,
            [2, 3, 4],
            "a call, and two rows without an id that do not begin with a word for a sum"
        );
        assert_eq!(facts.totals.iter().map(|row| row.wrong.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_hides_no_row() {
        for (text, line) in [
            ("uuid,cost,note\na,1,\"see\nb,2,\nc,3,\n", 2),
            ("uuid,cost,note\na,1,\"see\nb,2,\nc,3,\"\nd,4,\n", 2),
            ("uuid,cost,note\na,1,\n\"b,2,\nc,3,\n", 3),
        ] {
            let calls = read(text.as_bytes());
            let said = calls.iter().find(|call| call.line == line).unwrap().unreadable.as_deref().unwrap();
            assert!(said.contains("quotation mark"), "{text}: {said}");
            let lines: std::collections::BTreeSet<i64> = calls.iter().map(|call| call.line).collect();
            assert_eq!(lines.len(), calls.len(), "{text}");
        }
        // A cell may have lines.
        assert_eq!(read(b"uuid,cost,note\na,1,\"see\nline, two\"\n")[0].unreadable, None);
    }

    #[test]
    fn a_file_that_is_no_export_says_what_it_has() {
        let wrong = |text: &[u8]| open(text).unwrap_err().to_string();
        assert!(wrong(b"id,cost\n1,2\n").contains("id, cost"));
        assert!(wrong(b"uuid,cost,Cost\n").contains("cost"));
        assert!(!wrong(b"id,\x1b[31mcost\n1,2\n").contains('\u{1b}'));
        assert!(wrong(b"PK\x03\x04\x14\0\0\0").contains("save it as CSV"));
        for nothing in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"  \n", b"sep=;\n", b",,,\n"] {
            assert!(open(nothing).unwrap().is_none(), "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_an_error(any in any::<Vec<u8>>(), with_header in any::<bool>()) {
            let bytes = if with_header { [b"uuid,cost,start_time\n", &any[..]].concat() } else { any };
            if let Ok(Some(mut export)) = open(&bytes[..]) {
                while export.read(3).is_ok_and(|calls| !calls.is_empty()) {}
            }
        }

        #[test]
        fn every_line_of_text_is_a_row_and_keeps_its_number(
            lines in prop::collection::vec("([a-z0-9,.-]{1,20})?", 0..20),
            end in prop::sample::select(vec!["\n", "\r\n", "\r", "\r\r\n"]),
        ) {
            let text = format!("uuid,cost{end}\"a\n1\",2{end}{}", lines.join(end));
            let found: Vec<_> = read(text.as_bytes()).iter().map(|call| call.line).collect();
            let full = lines.iter().zip(4..).filter(|(text, _)| !text.trim_matches(',').is_empty()).map(|(_, line)| line);
            prop_assert_eq!(found, [2].into_iter().chain(full).collect::<Vec<i64>>());
        }
    }
}
