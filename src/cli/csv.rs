//! CSV as its readers want it: RFC 4180 with the values as they are, or made safe to open in a spreadsheet. Pure.

use std::io::Write;

use chrono::{NaiveDate, NaiveDateTime};

use crate::vobiz::is_hidden;

/// How a CSV file is meant to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CsvDialect {
    /// By a program: the values as they are.
    Program,
    /// By a spreadsheet: no value is taken for a formula, nor for a number or a date that it is not, and the file says that it is
    /// UTF-8.
    Spreadsheet,
}

/// A cell: what it says, and whether it is a number of ours.
pub(crate) type Cell<'a> = (Option<&'a str>, bool);

/// A CSV file in the making.
pub(crate) struct CsvFile<W: Write> {
    rows: csv::Writer<W>,
    reader: CsvDialect,
}

impl<W: Write> CsvFile<W> {
    /// Begins with the header.
    pub(crate) fn new(mut out: W, reader: CsvDialect, header: &[&str]) -> std::io::Result<Self> {
        if reader == CsvDialect::Spreadsheet {
            // Without the mark, Excel takes UTF-8 for something else.
            out.write_all("\u{feff}".as_bytes())?;
        }
        let mut rows = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        rows.write_record(header)?;
        Ok(Self { rows, reader })
    }

    /// A further row; NULL is an empty cell.
    pub(crate) fn add<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) -> std::io::Result<()> {
        for (text, number) in cells {
            let text = text.unwrap_or_default();
            match self.reader {
                CsvDialect::Spreadsheet if !number => self.rows.write_field(guarded(text))?,
                _ => self.rows.write_field(text)?,
            }
        }
        self.rows.write_record(None::<&[u8]>)?;
        Ok(())
    }

    /// Writes what is left, and gives the file back.
    pub(crate) fn end(mut self) -> std::io::Result<W> {
        self.rows.flush()?;
        self.rows.into_inner().map_err(|error| std::io::Error::other(error.to_string()))
    }
}

/// Text that a spreadsheet shows as it is. Phone numbers, and what it would take for another number or a date, become a formula of
/// one constant, which Excel, LibreOffice and Google Sheets show as that constant. What would begin a formula gets an apostrophe.
fn guarded(text: &str) -> String {
    // What a spreadsheet drops at the beginning hides no formula from us.
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || is_hidden(c));
    let phone = begin.strip_prefix('+').is_some_and(all_digits);
    if text.starts_with(['\t', '\r', '\n'])
        || (!phone && begin.starts_with(['=', '+', '-', '@', '\'', '＝', '＋', '－', '＠']))
    {
        return format!("'{text}");
    }
    if phone || is_truth(begin) || (is_read_as_something(text) && !is_shown_as_it_is(text)) {
        return format!("=\"{text}\"");
    }
    text.to_owned()
}

/// Whether a spreadsheet sees one of its two words for true and false.
fn is_truth(text: &str) -> bool {
    let word = text.trim_end_matches(|c: char| c.is_whitespace() || is_hidden(c));
    ["true", "false"].iter().any(|truth| word.eq_ignore_ascii_case(truth))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a spreadsheet may see a number, a date or a time: digits among signs, and no words but those that belong to them, such
/// as in 12E34, 1-2, 5 %, 10 PM and MAR-1.
fn is_read_as_something(text: &str) -> bool {
    let sign = |c: char| !c.is_ascii_punctuation() || "+-.,/:%()$'".contains(c);
    text.contains(char::is_numeric)
        && text.chars().all(sign)
        && text.split(|c: char| !c.is_alphabetic()).all(|word| {
            let word = word.to_ascii_lowercase();
            let month = word.len() >= 3 && MONTHS.iter().any(|month| month.starts_with(&word));
            month || matches!(word.as_str(), "" | "e" | "a" | "p" | "am" | "pm")
        })
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Whether the number or date that a spreadsheet sees is the one that is written: a few digits, of which it drops none (it drops
/// leading zeros, and keeps fifteen digits), an ISO date, and one with a time.
fn is_shown_as_it_is(text: &str) -> bool {
    (all_digits(text) && !text.starts_with('0') && text.len() <= 11)
        || NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok_and(|_| text.len() == 10)
        || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").is_ok_and(|_| text.len() == 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reader: CsvDialect, cells: &[Cell<'_>]) -> String {
        let mut sheet = CsvFile::new(Vec::new(), reader, &["a", "b"]).unwrap();
        sheet.add(cells.iter().copied()).unwrap();
        String::from_utf8(sheet.end().unwrap()).unwrap()
    }

    #[test]
    fn a_program_gets_the_values_as_they_are() {
        let cells = [(Some("=1+1"), false), (Some("-0.50"), true)];
        assert_eq!(written(CsvDialect::Program, &cells), "a,b\r\n=1+1,-0.50\r\n");
        let cells = [(Some("a \"b\",\nc"), false), (None, true)];
        assert_eq!(written(CsvDialect::Program, &cells), "a,b\r\n\"a \"\"b\"\",\nc\",\r\n");
    }

    #[test]
    fn a_spreadsheet_gets_no_formula_and_whole_phone_numbers() {
        let cells = [(Some("=1+1"), false), (Some("-0.50"), true)];
        assert_eq!(written(CsvDialect::Spreadsheet, &cells), "\u{feff}a,b\r\n'=1+1,-0.50\r\n");
        let cells = [(Some("+911100000001"), false), (Some("0044"), false)];
        assert_eq!(
            written(CsvDialect::Spreadsheet, &cells),
            "\u{feff}a,b\r\n\"=\"\"+911100000001\"\"\",\"=\"\"0044\"\"\"\r\n"
        );
    }

    #[test]
    fn what_could_begin_a_formula_is_guarded_and_the_rest_is_not_touched() {
        let hidden =
            ["\u{200b}=cmd", "\u{feff}+1+1", " =1", "\u{a0}@x", " \u{202e}\u{200b}-1", "\u{3000}＝1"];
        for text in
            ["=cmd", "+1+1", "-1", "@x", "\tx", "\r=1", "+91 11", "'x", "\t+9111"].into_iter().chain(hidden)
        {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in [
            "",
            " ",
            "4000",
            "NORMAL_CLEARING",
            "2026-03-01",
            "0b1c-2d",
            "91",
            "a=1",
            " a=1",
            "truth",
            "TRUE or FALSE",
        ] {
            assert_eq!(guarded(text), text);
        }
        for text in ["123456789012", "+91", "007", " +91", "\u{200b}007", "TRUE", "false", " True\u{200b}"] {
            assert_eq!(guarded(text), format!("=\"{text}\""));
        }
    }

    #[test]
    fn what_a_spreadsheet_would_take_for_another_number_or_a_date_stays_what_it_is() {
        for text in [
            "12E34567",
            "1e5",
            "1-2",
            "2024-03",
            "3/4",
            "1.10",
            "1,234",
            "12:30",
            "10 PM",
            "1a",
            "5%",
            "(5)",
            ".5",
            "₹100",
            " 7",
            "0",
            "MAR-1",
            "mar 1",
            "1MAR",
            "DEC1",
            "SEPT2",
            "March 2026",
            "May-24",
            "2026-3-1",
            "2026-02-30",
            "२०२६",
        ] {
            assert_eq!(guarded(text), format!("=\"{text}\""));
        }
        for text in [
            "2026-03-01 09:30:00",
            "2026-03-10T18:29:59Z",
            "trunk-1",
            "T1",
            "MARS1",
            "diwali-2026",
            "Mar",
            "11742617-ef66-4cc6-8394-6d831fcfa979",
            "e",
            "-",
        ] {
            assert_eq!(guarded(text).trim_start_matches('\''), text, "{text}");
            assert!(!guarded(text).starts_with('='), "{text}");
        }
    }
}
