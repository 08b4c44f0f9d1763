//! The one way in which tables are laid out on a terminal.

use comfy_table::{Cell, CellAlignment, Table, TableStyle, presets};

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
    laid_out(presets::UTF8_FULL_CONDENSED, header, numbers)
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

/// Text that may hold anything, as a terminal may be given it: no control character is obeyed.
pub(in crate::cli) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
    fn a_terminal_obeys_nothing_that_a_record_says() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
