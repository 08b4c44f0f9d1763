//! CSV as its readers want it: RFC 4180 with the values as they are, or made safe to open in a spreadsheet. Pure.

use std::io::Write;

/// How a CSV file is meant to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// By a program: the values as they are.
    Program,
    /// By a spreadsheet: no value is taken for a formula or for a number that it is not, and the file says that it is UTF-8.
    Spreadsheet,
}

/// A cell: what it says, and whether it is a number of ours.
pub(crate) type Cell<'a> = (Option<&'a str>, bool);

/// A CSV file in the making.
pub(crate) struct Sheet<W: Write> {
    rows: csv::Writer<W>,
    reader: Reader,
}

impl<W: Write> Sheet<W> {
    /// Begins with the header.
    pub(crate) fn new(mut out: W, reader: Reader, header: &[&str]) -> std::io::Result<Self> {
        if reader == Reader::Spreadsheet {
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
                Reader::Spreadsheet if !number => self.rows.write_field(guarded(text))?,
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

/// Text that no spreadsheet calculates with. Phone numbers and other long digits stay what they are, as text: a formula of one
/// constant, which Excel, LibreOffice and Google Sheets show as that constant. Everything else that would begin a formula gets an
/// apostrophe.
fn guarded(text: &str) -> String {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // Spreadsheets drop a plus and leading zeros, and keep fifteen digits of a number.
    if all_digits && (digits.len() != text.len() || digits.starts_with('0') || digits.len() > 11) {
        return format!("=\"{text}\"");
    }
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠']) {
        return format!("'{text}");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reader: Reader, cells: &[Cell<'_>]) -> String {
        let mut sheet = Sheet::new(Vec::new(), reader, &["a", "b"]).unwrap();
        sheet.add(cells.iter().copied()).unwrap();
        String::from_utf8(sheet.end().unwrap()).unwrap()
    }

    #[test]
    fn a_program_gets_the_values_as_they_are() {
        let cells = [(Some("=1+1"), false), (Some("-0.50"), true)];
        assert_eq!(written(Reader::Program, &cells), "a,b\r\n=1+1,-0.50\r\n");
        let cells = [(Some("a \"b\",\nc"), false), (None, true)];
        assert_eq!(written(Reader::Program, &cells), "a,b\r\n\"a \"\"b\"\",\nc\",\r\n");
    }

    #[test]
    fn a_spreadsheet_gets_no_formula_and_whole_phone_numbers() {
        let cells = [(Some("=1+1"), false), (Some("-0.50"), true)];
        assert_eq!(written(Reader::Spreadsheet, &cells), "\u{feff}a,b\r\n'=1+1,-0.50\r\n");
        let cells = [(Some("+911100000001"), false), (Some("0044"), false)];
        assert_eq!(
            written(Reader::Spreadsheet, &cells),
            "\u{feff}a,b\r\n\"=\"\"+911100000001\"\"\",\"=\"\"0044\"\"\"\r\n"
        );
    }

    #[test]
    fn what_could_begin_a_formula_is_guarded_and_the_rest_is_not_touched() {
        for text in ["=cmd", "+1+1", "-1", "@x", "\tx", "\r=1", "+91 11", "'x"] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["", "4000", "NORMAL_CLEARING", "2026-03-01", "0b1c-2d", "91", "a=1"] {
            assert_eq!(guarded(text), text);
        }
        for text in ["123456789012", "+91", "007"] {
            assert_eq!(guarded(text), format!("=\"{text}\""));
        }
    }
}
