//! Aligned columns, as wide as they need to be.

use super::plain;

/// A cell longer than this would push the others off the screen; `--json` has the whole.
const MAX_CELL: usize = 100;
const GAP: &str = "  ";

pub struct Table {
    rows: Vec<Vec<String>>,
    columns: usize,
}

impl Table {
    /// A table with a head.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|h| (*h).to_owned()).collect()], columns: head.len() }
    }

    /// A table without one.
    #[must_use]
    pub fn headless(columns: usize) -> Self {
        Self { rows: Vec::new(), columns }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| shorten(&plain(cell).replace('\n', " "))).collect());
    }

    /// The text, without a newline at its end.
    #[must_use]
    pub fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join(GAP).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn shorten(cell: &str) -> String {
    match cell.char_indices().nth(MAX_CELL) {
        Some((at, _)) => format!("{}...", &cell[..at]),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["id", "status"]);
        table.row(["order-17".to_owned(), "running".to_owned()]);
        table.row(["ü".to_owned(), "x\ny".to_owned()]);
        assert_eq!(table.render(), "id        status\norder-17  running\nü         x y");
    }
}
