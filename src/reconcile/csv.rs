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
use super::decimal::{Marks, UnclearNumber};
use super::header::{self, HeadedColumn, Header};
use super::quotes::{Quotes, is_a_row};
use super::row::{self, SaidValue};
use super::text::{self, Text};
use super::total::{self, SaidTotal, TotalRows, Totals};
use crate::db::reconcile::{AMOUNTS, Closeness, NUMBERS, TheirCall};
use crate::vobiz::{CallId, Moment, written};

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
    pub totals: TotalRows,
    /// Times that mean none: before 2000, or in the future.
    pub no_times: i64,
    /// Times that name no zone.
    pub zoneless: i64,
    /// The zone that these were taken in, and who said so.
    pub zone: Option<(String, &'static str)>,
    /// Columns that were read by another name, and the name.
    pub read_as: Vec<(String, &'static str)>,
    /// Columns that were not compared, because another one was.
    pub not_read: Vec<NotRead>,
    /// Columns that may hold seconds or amounts, and were not compared because nobody knows which.
    pub not_known: Vec<String>,
    /// A number that may be two: its point was taken for that before the decimals, which no other number of the file shows.
    pub unclear_number: Option<UnclearNumber>,
}

/// A column beside one that was read for the same thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NotRead {
    /// How it is headed.
    pub column: String,
    /// The one that was read.
    pub read: String,
    /// Whether its values could be held against those that were read.
    pub checked: bool,
    /// Rows in which the two do not say the same.
    pub differing: i64,
    /// The first of them.
    pub first: Option<i64>,
}

/// The text of a file from its header on.
type Rows<R> = Quotes<Chain<Cursor<Vec<u8>>, Text<R>>>;

/// An export that is being read.
pub struct Export<R: BufRead> {
    reader: Reader<Rows<R>>,
    /// Bytes before the header.
    begin: u64,
    separator: u8,
    header: Header,
    spelling: Spelling,
    zone: Option<String>,
    now: DateTime<Utc>,
    facts: FileFacts,
    totals: Totals,
    marks: Marks,
    /// The last line that was read.
    line: i64,
    record: ByteRecord,
    /// A quotation mark in it is never closed, or closed amid a cell.
    slipped: bool,
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
    /// Reads up to the header line; None if there is nothing at all. `now` bounds times, `closeness` is what sums may be off by.
    pub fn open(
        input: R,
        spelling: Spelling,
        closeness: Closeness,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, Wrong> {
        let mut text = Text::open(input)?;
        let mut start = Vec::new();
        (&mut text).take(LOOKED_AT).read_to_end(&mut start)?;
        let Some(found) = header::find(&start)? else { return Ok(None) };
        let facts = FileFacts {
            encoding: text.encoding(),
            title_lines: found.title_lines,
            blank_rows: found.blank_lines,
            read_as: found.header.read_as.clone(),
            not_read: found
                .header
                .beside
                .iter()
                .map(|beside| NotRead {
                    column: beside.column.title.clone(),
                    read: beside.read.clone(),
                    checked: beside.can_be_checked(),
                    ..NotRead::default()
                })
                .collect(),
            not_known: found.header.not_known.clone(),
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
            .from_reader(Quotes::new(start.chain(text), found.separator));
        let mut export = Self {
            reader,
            begin,
            separator: found.separator,
            header: found.header,
            spelling,
            zone,
            now,
            facts,
            totals: Totals::new(closeness),
            marks: Marks::default(),
            line: 0,
            record: ByteRecord::new(),
            slipped: false,
        };
        export.next()?;
        // Those before the header are counted already.
        export.facts.blank_rows = found.blank_lines;
        Ok(Some(export))
    }

    /// Whether the file has a column of this name of ours.
    pub fn has(&self, name: &str) -> bool {
        let of_amounts = || {
            AMOUNTS
                .iter()
                .flat_map(|name| self.header.columns(name))
                .any(|column| column.unit.currency().is_some())
        };
        !self.header.columns(name).is_empty() || name == "currency" && of_amounts()
    }

    /// Whether it has a column of currencies.
    pub fn has_currency(&self) -> bool {
        !self.header.columns("currency").is_empty()
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
                self.totals.say(row, self.spelling.decimal.unwrap_or_default());
            } else {
                let call = self.call(line)?;
                self.totals.add(&call);
                calls.push(call);
            }
        }
        Ok(calls)
    }

    /// What there is to say of the file, once it was read to its end. Fails where its numbers may be other ones.
    pub fn facts(mut self) -> Result<FileFacts, Wrong> {
        if self.spelling.decimal.is_none() {
            self.facts.unclear_number = self.marks.judge()?;
        }
        self.facts.totals = self.totals.judge(self.spelling.decimal.unwrap_or_default());
        Ok(self.facts)
    }

    /// Reads a record; the line on which it begins.
    fn next(&mut self) -> Result<Option<i64>, Wrong> {
        let is_row = self.reader.read_byte_record(&mut self.record)?;
        let read = self.reader.position().byte();
        let end = self.begin + read;
        self.slipped = self.reader.get_mut().slipped_before(read);
        let (_, text) = self.reader.get_mut().input().get_mut();
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
        self.header.columns(name).iter().filter_map(|column| said_in(&self.record, column)).collect()
    }

    /// Looks at how numbers are written, and at columns beside those that are read.
    fn look_beside(&mut self, line: i64) {
        for name in NUMBERS {
            if let Some(column) = self.header.columns(name).first()
                && let Some(said) = said_in(&self.record, column)
            {
                self.marks.see(line, &said.title, &said.text);
            }
        }
        for (beside, facts) in self.header.beside.iter().zip(&mut self.facts.not_read) {
            let read =
                self.header.columns(beside.name).first().and_then(|column| said_in(&self.record, column));
            if let (true, Some(read), Some(other)) =
                (facts.checked, read, said_in(&self.record, &beside.column))
                && !read.says_the_same(&other, beside.name, self.spelling)
            {
                facts.differing += 1;
                facts.first.get_or_insert(line);
            }
        }
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

    /// What a row of sums says: under columns of ours, and elsewhere.
    fn total(&mut self, line: i64) -> Result<SaidTotal, Wrong> {
        let mut cells = Vec::new();
        for (at, cell) in self.record.iter().enumerate() {
            let text = cell::bare(&text::cell(cell).0).to_owned();
            if !written::is_nothing(&text) {
                cells.push((at, text));
            }
        }
        let label = if cells.is_empty() { String::new() } else { cells.remove(0).1 };
        if !self.fits() {
            // Which cell stands under which column is not known.
            let others = cells.into_iter().map(|(_, text)| text).collect();
            return Ok(SaidTotal { call: TheirCall { line, ..TheirCall::default() }, label, others });
        }
        self.look_beside(line);
        let is_currency = |text: &str| {
            text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) || cell::is_currency(text)
        };
        let says = |name: &str| {
            let said =
                if NUMBERS.contains(&name) || name == "currency" { self.says(name) } else { Vec::new() };
            // The label may stand under an amount.
            let counts = |said: &SaidValue<'_>| {
                !total::is_label(&said.text) && (name != "currency" || is_currency(&said.text))
            };
            said.into_iter().filter(counts).collect()
        };
        let call = row::read(line, says, Some(self.spelling), self.now)?.call;
        let is_under = |names: &[&str], at: usize| {
            names.iter().flat_map(|name| self.header.columns(name)).any(|column| column.at == at)
        };
        // Whatever else it says is held against all sums: under which heading it stands proves nothing.
        let is_taken = |at: usize, text: &str| {
            is_under(NUMBERS, at) && !total::is_label(text)
                || is_under(&["currency"], at) && is_currency(text)
        };
        let others = cells.into_iter().filter(|(at, text)| !is_taken(*at, text));
        let others = others.map(|(_, text)| text).collect();
        Ok(SaidTotal { call, label, others })
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

    /// Whether rows were probably swallowed by a quotation mark: it is a slip, or a cell holds what looks like a row of its own.
    fn swallows_rows(&self, line: i64) -> bool {
        if self.line == line {
            return false;
        }
        let column = |name: &str| self.header.columns(name).first().map(|column| column.at);
        let (id, time) = (column("call_id"), column("started_at"));
        let width = *self.header.width.start();
        let is_a_row = |line: &[u8]| is_a_row(line, self.separator, width, id, time);
        self.slipped
            || width > 2
                && self.record.iter().any(|cell| cell.split(|byte| *byte == b'\n').skip(1).any(is_a_row))
    }

    fn call(&mut self, line: i64) -> Result<TheirCall, Wrong> {
        if self.swallows_rows(line) {
            let why = self.swallowed(
                line,
                "rows are in one of its cells, or a quotation mark is not closed".to_owned(),
            );
            return Ok(TheirCall { line, unreadable: Some(why), ..TheirCall::default() });
        }
        if !self.fits() {
            // Which value belongs to which column is not known.
            let why = format!("{} values under {} columns", self.record.len(), self.header.width.end());
            let why = self.swallowed(line, why);
            return Ok(TheirCall { line, unreadable: Some(why), ..TheirCall::default() });
        }
        self.look_beside(line);
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

/// What a row says in a column.
fn said_in<'a>(record: &'a ByteRecord, column: &'a HeadedColumn) -> Option<SaidValue<'a>> {
    let text = match text::cell(record.get(column.at)?).0 {
        Cow::Borrowed(text) => cell::bare(text).into(),
        Cow::Owned(text) => cell::bare(&text).to_owned().into(),
    };
    let (currency, places) = (column.unit.currency(), column.unit.places());
    Some(SaidValue { title: column.title.as_str().into(), text, currency, places })
}

fn uuid_of(id: &str) -> &str {
    match id.rsplit_once('~') {
        Some((uuid, number)) if number.parse::<i64>().is_ok() => uuid,
        _ => id,
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
