//! Tables for people: aligned columns, as rows come.

use std::io::{self, Write};

use super::style;

/// Rows by which the widths of columns are found; those of later ones only grow.
const BATCH: usize = 1000;

/// What is between columns.
const GAP: &str = "  ";

/// The least that is left of a column that gives way.
const LEAST: usize = 12;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    header: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// A word that says how something is.
    State,
    /// Text that is cut short where a row would be too long.
    Elastic,
    Number,
}

impl Column {
    /// A column of texts.
    pub(super) const fn text(header: &'static str) -> Self {
        let kind = Kind::Text;
        Self { header, kind }
    }

    /// A column of words that say how something is.
    pub(super) const fn state(header: &'static str) -> Self {
        let kind = Kind::State;
        Self { header, kind }
    }

    /// A column of texts that are cut short where a row would be too long.
    pub(super) const fn elastic(header: &'static str) -> Self {
        let kind = Kind::Elastic;
        Self { header, kind }
    }

    /// A column of numbers.
    pub(super) const fn number(header: &'static str) -> Self {
        let kind = Kind::Number;
        Self { header, kind }
    }
}

/// A table that is being written.
pub(super) struct Table<W> {
    out: W,
    columns: Vec<Column>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    /// How long a row may be.
    limit: Option<usize>,
    has_header: bool,
}

impl<W: Write> Table<W> {
    /// A table without rows.
    pub(super) fn new(out: W, columns: Vec<Column>, limit: Option<usize>) -> Self {
        Self {
            out,
            widths: columns.iter().map(|it| it.header.len()).collect(),
            columns,
            rows: Vec::new(),
            limit,
            has_header: false,
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Vec<String>) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() == BATCH {
            self.write_rows()?;
        }
        Ok(())
    }

    /// Writes what is left; nothing where there was no row.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write_rows()?;
        self.out.flush()
    }

    fn write_rows(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        self.fit();
        if !rows.is_empty() && !std::mem::replace(&mut self.has_header, true) {
            let header = self.columns.iter().map(|it| it.header.to_owned());
            let cells = self.padded(&header.collect::<Vec<_>>());
            let line = cells.join(GAP);
            writeln!(
                self.out,
                "{}",
                style::painted(style::HEADER, line.trim_end())
            )?;
        }
        rows.iter().try_for_each(|row| self.write_row(row))
    }

    /// Makes elastic columns as short as need be.
    fn fit(&mut self) {
        let Some(limit) = self.limit else { return };
        let gaps = GAP.len() * self.widths.len().saturating_sub(1);
        let all = self.widths.iter().sum::<usize>() + gaps;
        let mut excess = all.saturating_sub(limit);
        for (width, column) in self.widths.iter_mut().zip(&self.columns) {
            if column.kind == Kind::Elastic {
                let given = excess.min(width.saturating_sub(LEAST));
                *width -= given;
                excess -= given;
            }
        }
    }

    fn write_row(&mut self, row: &[String]) -> io::Result<()> {
        let mut cells = self.padded(row);
        if let Some(last) = cells.last_mut() {
            last.truncate(last.trim_end().len());
        }
        for ((column, cell), padded) in self.columns.iter().zip(row).zip(&mut cells) {
            if column.kind == Kind::State {
                // A state is never cut short.
                *padded = padded.replacen(cell.as_str(), &style::state(cell), 1);
            }
        }
        writeln!(self.out, "{}", cells.join(GAP).trim_end())
    }

    /// The cells of a row, as wide as their columns.
    fn padded(&self, row: &[String]) -> Vec<String> {
        let cells = self.columns.iter().zip(&self.widths).zip(row);
        let cells = cells.map(|((column, width), cell)| match column.kind {
            Kind::Number => format!("{cell:>width$}"),
            Kind::Text | Kind::State => format!("{cell:<width$}"),
            Kind::Elastic => format!("{:<width$}", shortened(cell, *width)),
        });
        cells.collect()
    }
}

impl Table<Vec<u8>> {
    /// A table of few rows as text.
    pub(super) fn text(
        columns: &[Column],
        rows: impl IntoIterator<Item = Vec<String>>,
        limit: Option<usize>,
    ) -> String {
        let mut table = Self::new(Vec::new(), columns.to_vec(), limit);
        table.rows.extend(rows);
        // To memory nothing fails.
        let _ = table.write_rows();
        String::from_utf8_lossy(&table.out).into_owned()
    }
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept = cell.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 2]], limit: Option<usize>) -> String {
        let mut out = Vec::new();
        let columns = vec![Column::elastic("NAME"), Column::number("COUNT")];
        let mut table = Table::new(&mut out, columns, limit);
        for row in rows {
            table.push(row.map(str::to_owned).to_vec()).unwrap();
        }
        table.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        let rows = [["a", "1"], ["long name", "1000000"]];
        assert_eq!(
            table(&rows, None),
            "NAME         COUNT\na                1\nlong name  1000000\n"
        );
    }

    #[test]
    fn a_long_text_gives_way_where_a_row_would_be_too_long() {
        let long = "x".repeat(200);
        let table = table(&[[&long, "1"]], Some(120));
        assert!(table.lines().all(|line| line.chars().count() <= 120));
        assert!(table.contains("xxx…  "));
    }

    #[test]
    fn what_has_no_rows_is_nothing() {
        assert_eq!(table(&[], None), "");
    }
}
