//! The header line: where it stands, what separates its columns, and which of them says what. Pure. Its names, their order and spelling
//! are unpublished, so columns are found by name, in any order, and those we do not need are ignored.

use ::csv::{ByteRecord, ReaderBuilder};

use super::date::DateOrder;
use super::heading::{NAMES, Unit, is_number, may_be_a_number, place, shown, squeezed};
use super::{Wrong, text};
use crate::db::reconcile::FIELDS;
use crate::vobiz::is_hidden;

/// Lines that are looked at for the header.
const LOOKED_AT: usize = 200;
/// What separates columns; a spreadsheet saves with what its country uses.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadedColumn {
    pub(super) at: usize,
    /// As it is headed.
    pub(super) title: String,
    pub(super) unit: Unit,
    /// Its place among the names of [`NAMES`].
    rank: usize,
}

/// The header line.
#[derive(Debug)]
pub(super) struct Header {
    /// For each of [`NAMES`], its columns; of several the first that says something counts.
    columns: [Vec<HeadedColumn>; NAMES.len()],
    /// Cells of a row: as many as there are headings, the last ones left away where they have none.
    pub(super) width: std::ops::RangeInclusive<usize>,
    /// Columns read by another name than Vobiz's, and the name.
    pub(super) read_as: Vec<(String, &'static str)>,
    /// Columns for what another one is read for, each with the title of that one.
    pub(super) beside: Vec<Beside>,
    /// Columns that may hold numbers, and are not known.
    pub(super) not_known: Vec<String>,
    squeezed: Vec<String>,
}

/// A column beside one that is read for the same value.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) column: HeadedColumn,
    /// The value.
    pub(super) name: &'static str,
    /// The title of the one that is read.
    pub(super) read: String,
}

impl Beside {
    /// Whether its values can be held against the other's.
    pub(super) fn can_be_checked(&self) -> bool {
        self.column.unit != Unit::Other && FIELDS.contains(&self.name)
    }
}

/// Where it stands.
pub(super) struct FoundHeader {
    pub(super) header: Header,
    pub(super) separator: u8,
    /// The byte at which it begins.
    pub(super) at: usize,
    /// Lines before it that say something.
    pub(super) title_lines: i64,
    /// Lines before it that say nothing.
    pub(super) blank_lines: i64,
}

/// Looks for the header in the beginning of a file; None if there is nothing at all.
pub(super) fn find(start: &[u8]) -> Result<Option<FoundHeader>, Wrong> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in start.split_inclusive(|byte| *byte == b'\n').take(LOOKED_AT) {
        lines.push((at, line));
        at += line.len();
    }
    let said = lines.iter().find_map(|(_, line)| separator_said(line));
    let separators = said.as_ref().map_or(&SEPARATORS[..], std::slice::from_ref);
    let (mut best, mut most) = (None, 0);
    for (nth, (at, line)) in lines.iter().enumerate() {
        for separator in separators.iter().filter(|_| !is_blank_line(line)) {
            let cells = record(&start[*at..], *separator);
            let known = cells.iter().filter(|cell| place(cell).is_some()).count();
            if known > most && cells.iter().any(|cell| place(cell).is_some_and(|(field, ..)| field == 0)) {
                most = known;
                best = Some((nth, *separator, cells));
            }
        }
        // A title may have a word that is a heading, too; a line with two of them is the header, and what follows is rows.
        if most >= 2 {
            break;
        }
    }
    let said_something = |(_, line): &&(usize, &[u8])| !is_blank_line(line) && separator_said(line).is_none();
    let Some((nth, separator, cells)) = best else {
        let Some((at, line)) = lines.iter().find(said_something) else { return Ok(None) };
        let most = separators.iter().rev().max_by_key(|one| line.split(|byte| byte == *one).count());
        return Err(Wrong::NoIdColumn(shown(
            &record(&start[*at..], most.copied().unwrap_or(b',')).join(", "),
        )));
    };
    let before = &lines[..nth];
    Ok(Some(FoundHeader {
        header: Header::of(&cells)?,
        separator,
        at: lines[nth].0,
        title_lines: i64::try_from(before.iter().filter(said_something).count()).unwrap_or_default(),
        blank_lines: i64::try_from(before.iter().filter(|(_, line)| is_blank_line(line)).count())
            .unwrap_or_default(),
    }))
}

/// `sep=;`, by which Excel tells itself.
fn separator_said(line: &[u8]) -> Option<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_prefix(b"\"").map_or(line, |line| line.strip_suffix(b"\"").unwrap_or(line));
    match line {
        [s, e, p, b'=', one] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") && one.is_ascii() => Some(*one),
        _ => None,
    }
}

fn is_blank_line(line: &[u8]) -> bool {
    line.iter().all(|byte| SEPARATORS.contains(byte) || b"\n\" \x1a\x0c".contains(byte))
}

fn record(text: &[u8], separator: u8) -> Vec<String> {
    // A header of many lines is none.
    let text = &text[..text.len().min(32_768)];
    let mut record = ByteRecord::new();
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text);
    match reader.read_byte_record(&mut record) {
        Ok(true) => record.iter().map(|cell| title(&text::cell(cell).0)).collect(),
        _ => Vec::new(),
    }
}

/// A heading as it is shown: without marks and quotes around it, on one line.
pub(super) fn title(cell: &str) -> String {
    let cell: Vec<&str> = cell.split(|c: char| c.is_whitespace() || is_hidden(c)).collect();
    cell.join(" ").trim_matches(|c: char| c.is_whitespace() || "\u{feff}\"'".contains(c)).to_owned()
}

impl Header {
    fn of(titles: &[String]) -> Result<Self, Wrong> {
        let mut columns = [const { Vec::new() }; NAMES.len()];
        for (at, title) in titles.iter().enumerate() {
            if let Some((field, rank, unit)) = place(title) {
                columns[field].push(HeadedColumn { at, title: shown(title), unit, rank });
            }
        }
        let (mut read_as, mut beside) = (Vec::new(), Vec::new());
        for (field, columns) in columns.iter_mut().enumerate() {
            let order = |column: &HeadedColumn| (column.unit.preference(), column.rank);
            columns.sort_by_key(order);
            for (one, other) in columns.iter().zip(columns.iter().skip(1)) {
                if order(one) == order(other) {
                    return Err(Wrong::TwiceThere(one.title.clone()));
                }
            }
            // Of ids and times each row may have another; an amount beside the amount is another amount.
            if !matches!(NAMES[field].0, "call_id" | "started_at") {
                let read = columns.first().map(|column| column.title.clone()).unwrap_or_default();
                let others = columns.drain(1.min(columns.len())..);
                beside.extend(others.map(|column| Beside {
                    column,
                    name: NAMES[field].0,
                    read: read.clone(),
                }));
            }
            if let Some(column) = columns.iter().find(|column| column.unit == Unit::Other) {
                return Err(Wrong::OtherUnit(column.title.clone()));
            }
            let named = columns
                .iter()
                .filter(|column| is_number(field) && (column.rank > 0 || column.unit.places() > 0));
            read_as.extend(named.map(|column| (column.title.clone(), NAMES[field].0)));
        }
        let least = titles.iter().rposition(|title| !title.is_empty()).map_or(0, |at| at + 1);
        let squeezed = titles.iter().map(|title| squeezed(title)).collect();
        let not_known = titles.iter().filter(|title| place(title).is_none() && may_be_a_number(title));
        let not_known = not_known.map(|title| shown(title)).collect();
        Ok(Self { columns, width: least..=titles.len(), read_as, beside, not_known, squeezed })
    }

    /// The columns of one of our names.
    pub(super) fn columns(&self, name: &str) -> &[HeadedColumn] {
        NAMES
            .iter()
            .zip(&self.columns)
            .find(|((ours, _), _)| *ours == name)
            .map_or(&[], |(_, columns)| columns)
    }

    /// Whether a row is this line again, as where files were put together.
    pub(super) fn is_again(&self, record: &ByteRecord) -> bool {
        record.len() == self.squeezed.len()
            && record.iter().zip(&self.squeezed).all(|(cell, name)| squeezed(&text::cell(cell).0) == *name)
    }

    /// The zone that the headings of times name, and the order of their dates.
    pub(super) fn times(&self) -> Result<(Option<String>, Option<DateOrder>), Wrong> {
        let (mut zone, mut dates) = (None, None);
        for column in self.columns("started_at") {
            match &column.unit {
                Unit::Zone(named) if zone.get_or_insert_with(|| named.clone()) != named => {
                    return Err(Wrong::OtherUnit(column.title.clone()));
                }
                Unit::Dates(order) if dates.get_or_insert(*order) != order => {
                    return Err(Wrong::OtherUnit(column.title.clone()));
                }
                _ => {}
            }
        }
        Ok((zone, dates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_line_that_names_most_of_what_we_read() {
        for (text, at, separator, titles, blank) in [
            ("uuid,cost\n", 0, b',', 0, 0),
            ("sep=;\nuuid;cost\n", 6, b';', 0, 0),
            ("\"SEP=|\"\nuuid|cost\n", 8, b'|', 0, 0),
            ("Calls of November\nFor: Acme, Inc; Pune\n\n;;\nuuid;cost\n", 43, b';', 2, 2),
            ("\"An open quote\nuuid\tcost\n", 15, b'\t', 1, 0),
            ("Call ID\nuuid,cost\na,1\n", 8, b',', 1, 0),
            ("\n\"Call\n UUID\",\"Amount\n(INR)\"\n", 1, b',', 0, 1),
        ] {
            let found = find(text.as_bytes()).unwrap().unwrap();
            assert_eq!((found.at, found.separator as char), (at, separator as char), "{text:?}");
            assert_eq!((found.title_lines, found.blank_lines), (titles, blank), "{text:?}");
        }
    }

    #[test]
    fn of_two_columns_for_one_thing_one_is_read_and_the_other_said() {
        let header = |text: &str| find(text.as_bytes()).map(|found| found.unwrap().header);
        let both = header("uuid,Amount,Total Cost,Duration (min),Duration (s)\n").unwrap();
        assert_eq!(both.columns("total_cost")[0].at, 2);
        assert_eq!(both.columns("duration")[0].at, 4);
        let beside: Vec<_> = both.beside.iter().map(|beside| &*beside.column.title).collect();
        assert_eq!(beside, ["Duration (min)", "Amount"]);
        let named = header("uuid,Amount (INR)\n").unwrap();
        assert_eq!(named.read_as, [("Amount (INR)".to_owned(), "total_cost")]);
        assert!(matches!(header("uuid,cost,Cost\n"), Err(Wrong::TwiceThere(_))));
        assert!(matches!(header("uuid,Cost (INR),Cost (USD)\n"), Err(Wrong::TwiceThere(_))));
        let smaller = header("uuid,total_cost_paise,duration_ms,duration,Net Amount\n").unwrap();
        assert_eq!(smaller.columns("duration")[0].title, "duration");
        assert_eq!(smaller.columns("total_cost")[0].unit.places(), 2);
        assert_eq!(smaller.read_as, [("total_cost_paise".to_owned(), "total_cost")]);
        assert_eq!(smaller.not_known, ["Net Amount"]);
        assert!(matches!(header("uuid,billsec_min\n"), Err(Wrong::OtherUnit(_))));
        assert!(matches!(header("uuid,Cost (lakh)\n"), Err(Wrong::OtherUnit(_))));
    }
}
