//! Many rows in one statement: the statement, not the row, is what costs. Each table has three sizes prepared.

use rusqlite::{Connection, Result, Statement};

/// Rows a statement. Larger ones gain little more and bloat the statement cache.
const CHUNKS: [usize; 3] = [32, 8, 1];

/// One table's statements.
pub(super) struct Bulk {
    columns: usize,
    sql: [String; 3],
}

impl Bulk {
    /// Statements of `head`, then `row` once a row with commas between, then `tail`. A row takes `columns` parameters.
    pub(super) fn new(head: &str, row: &str, tail: &str) -> Self {
        let columns = row.matches('?').count();
        Self { columns, sql: CHUNKS.map(|n| format!("{head} {} {tail}", vec![row; n].join(","))) }
    }

    /// Runs the statements for all rows. `bind` binds one row's parameters, from the given index on.
    pub(super) fn run<T>(
        &self,
        conn: &Connection,
        mut rows: &[T],
        bind: impl Fn(&mut Statement<'_>, usize, &T) -> Result<()>,
    ) -> Result<()> {
        for (size, sql) in CHUNKS.iter().zip(&self.sql) {
            if rows.len() < *size {
                continue;
            }
            let mut statement = conn.prepare_cached(sql)?;
            while let Some((chunk, rest)) = rows.split_at_checked(*size) {
                for (n, row) in chunk.iter().enumerate() {
                    bind(&mut statement, 1 + n * self.columns, row)?;
                }
                statement.raw_execute()?;
                rows = rest;
            }
        }
        Ok(())
    }
}
