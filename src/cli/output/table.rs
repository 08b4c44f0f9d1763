//! The one way in which tables are laid out on a terminal.

use std::fmt;
use std::io::IsTerminal;

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, TableStyle, Width, presets,
};

/// A text that goes over several lines has lines no shorter than this.
const SHORTEST_PART: u16 = 6;

/// A table without lines, for data; the columns at these places hold numbers and are set to the right.
pub(in crate::cli) fn open(
    header: impl IntoIterator<Item = impl Into<Cell>>,
    numbers: impl IntoIterator<Item = usize>,
) -> Table {
    laid_out(presets::NOTHING, header, numbers)
}

/// A table with a frame, for a page that a person reads from top to bottom. A terminal that is too narrow for it gets texts that go over
/// several lines, and if that is not enough, no frame; the first column and numbers are never broken. Data without a frame is for other
/// programs, and stays as it is.
pub(in crate::cli) struct Framed {
    heads: Vec<String>,
    numbers: Vec<usize>,
    rows: Vec<Vec<String>>,
}

/// A framed table; the columns at these places hold numbers.
pub(in crate::cli) fn framed<const N: usize>(
    heads: [&str; N],
    numbers: impl IntoIterator<Item = usize>,
) -> Framed {
    Framed {
        heads: heads.map(str::to_owned).to_vec(),
        numbers: numbers.into_iter().collect(),
        rows: Vec::new(),
    }
}

impl Framed {
    pub(in crate::cli) fn add_row<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.to_vec());
    }

    fn laid_out(&self, preset: TableStyle) -> Table {
        let mut table = laid_out(preset, &self.heads, self.numbers.iter().copied());
        table.add_rows(&self.rows);
        table
    }

    fn fitted(&self, width: u16) -> Table {
        let framed = self.laid_out(presets::UTF8_FULL_CONDENSED);
        if widest_line(&framed) <= width.into() {
            return framed;
        }
        let framed = self.broken(framed, width, (1, 1));
        if widest_line(&framed) <= width.into() {
            return framed;
        }
        self.broken(self.laid_out(presets::NOTHING), width, (0, 1))
    }

    /// With cells that go over several lines.
    fn broken(&self, mut table: Table, width: u16, (left, right): (u16, u16)) -> Table {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((left, right));
            let longest = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            let longest = u16::try_from(longest.max().unwrap_or(0)).unwrap_or(u16::MAX);
            let is_whole = at == 0 || self.numbers.contains(&at);
            let least = if is_whole { longest } else { longest.min(SHORTEST_PART) };
            let least = least.saturating_add(left + right);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
        table
    }
}

impl fmt::Display for Framed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match width_of_terminal() {
            None => self.laid_out(presets::UTF8_FULL_CONDENSED),
            Some(width) => self.fitted(width),
        };
        table.fmt(f)
    }
}

fn widest_line(table: &Table) -> usize {
    table.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0)
}

/// Columns of the terminal that shows stdout; none where it is no terminal, which takes lines of any length.
#[expect(clippy::disallowed_methods, reason = "asks it for its width, and writes nothing")]
fn width_of_terminal() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

fn laid_out(
    preset: TableStyle,
    header: impl IntoIterator<Item = impl Into<Cell>>,
    numbers: impl IntoIterator<Item = usize>,
) -> Table {
    let mut table = Table::new();
    let header: Vec<Cell> = header.into_iter().map(Into::into).collect();
    table.load_style(preset).set_header(header);
    for at in numbers {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = open(["name", "calls"], [1]);
        table.add_row(["a", "7"]).add_row(["b", "1000"]);
        let text = table.to_string();
        let ends: Vec<usize> = text.lines().map(|line| line.trim_end().len()).collect();
        assert!(ends[1..].iter().all(|end| *end == ends[1]), "{text}");
    }

    #[test]
    fn a_framed_table_fits_a_narrow_terminal_and_says_the_same() {
        let heads = [
            "day (Asia/Kolkata)",
            "direction",
            "hangup cause",
            "calls",
            "answered",
            "minutes",
            "cost",
            "currency",
        ];
        let rows = [
            ["2026-11-27", "inbound", "NORMAL_CLEARING", "60", "60", "141.50", "78.3632", "INR"],
            ["2026-11-27", "outbound", "ORIGINATOR_CANCEL", "1480", "1480", "353.60", "186.37561", "INR"],
        ];
        let mut table = framed(heads, 3..7);
        for row in rows {
            table.add_row(row.map(str::to_owned));
        }
        for width in [200, 110, 80, 60] {
            let fitted = table.fitted(width);
            assert!(widest_line(&fitted) <= width.into(), "{width}:\n{fitted}");
            let text = fitted.to_string();
            for whole in rows.iter().flat_map(|row| [&row[0]].into_iter().chain(&row[3..7])) {
                assert!(text.contains(whole), "{width}: {whole} is broken\n{text}");
            }
            assert!(text.contains("inboun") && text.contains("ORIGIN"), "{width}:\n{text}");
        }
        assert!(table.fitted(200).to_string().contains("ORIGINATOR_CANCEL"));
        assert!(table.fitted(80).to_string().contains('│'), "the frame fits:\n{}", table.fitted(80));
    }
}
