//! The one way in which tables are laid out on a terminal.

use std::io::IsTerminal;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableStyle, presets};

/// A table without lines, for data; the columns at these places hold numbers and are set to the right.
pub(in crate::cli) fn open(
    header: impl IntoIterator<Item = impl Into<Cell>>,
    numbers: impl IntoIterator<Item = usize>,
) -> Table {
    laid_out(presets::NOTHING, header, numbers)
}

/// The same with a frame, for a page that a person reads from top to bottom.
pub(in crate::cli) fn framed(
    header: impl IntoIterator<Item = impl Into<Cell>>,
    numbers: impl IntoIterator<Item = usize>,
) -> Table {
    let mut table = laid_out(presets::UTF8_FULL_CONDENSED, header, numbers);
    // A frame that a narrow terminal breaks cannot be read; data without one is for other programs, and stays as it is.
    if let Some(width) = width_of_terminal() {
        fit(&mut table, width);
    }
    table
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

/// Breaks cells over lines where the table is wider than this.
fn fit(table: &mut Table, width: u16) {
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
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
        let row = ["2026-11-27", "inbound", "NORMAL_CLEARING", "60", "60", "141.50", "78.3632", "INR"];
        for (width, fits) in [(80, 80), (60, 60), (200, 110)] {
            let mut table = framed(heads, 3..7);
            table.add_row(row);
            fit(&mut table, width);
            let text = table.to_string();
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= fits, "{width}: {widest}\n{text}");
        }
    }
}
