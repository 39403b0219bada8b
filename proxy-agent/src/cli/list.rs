//! Lists of rows, as a table or as a document of JSON, written as rows come.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::table::{Column, Table};
use crate::inspect::API_VERSION;

/// How long a line of a table may be that is not `wide`.
const LINE: usize = 120;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table of up to 120 columns.
    #[default]
    Table,
    /// A table with everything.
    Wide,
    /// A JSON document with everything; docs/CLI.md says which fields it has.
    Json,
}

/// What lists are made of.
pub(super) trait Row: Serialize {
    /// The list's kind in documents.
    const KIND: &'static str;

    /// The columns of a table.
    fn columns(is_wide: bool) -> Vec<Column>;

    /// The lines of a table that show the row.
    fn lines(&self, is_wide: bool) -> Vec<Vec<String>>;
}

/// A list that is being written.
pub(super) struct List<W> {
    output: Output<W>,
    rows: usize,
}

enum Output<W> {
    Table { table: Table<W>, is_wide: bool },
    Json(W),
}

impl<W: Write> List<W> {
    /// A list without rows.
    pub(super) fn new<R: Row>(mut out: W, format: Format) -> io::Result<Self> {
        let is_wide = format == Format::Wide;
        let output = match format {
            Format::Table | Format::Wide => {
                let limit = (!is_wide).then_some(LINE);
                let table = Table::new(out, R::columns(is_wide), limit);
                Output::Table { table, is_wide }
            }
            Format::Json => {
                let kind = R::KIND;
                write!(
                    out,
                    r#"{{"apiVersion":"{API_VERSION}","kind":"{kind}","items":["#
                )?;
                Output::Json(out)
            }
        };
        Ok(Self { output, rows: 0 })
    }

    /// Adds a row.
    pub(super) fn push<R: Row>(&mut self, row: &R) -> io::Result<()> {
        let separator = if self.rows == 0 { "\n" } else { ",\n" };
        self.rows += 1;
        match &mut self.output {
            Output::Table { table, is_wide } => {
                let mut lines = row.lines(*is_wide).into_iter();
                lines.try_for_each(|line| table.push(line))
            }
            Output::Json(out) => {
                write!(out, "{separator}")?;
                serde_json::to_writer(out, row).map_err(io::Error::from)
            }
        }
    }

    /// Ends the list; whether there was a row.
    pub(super) fn finish(self) -> io::Result<bool> {
        match self.output {
            Output::Table { table, .. } => table.finish()?,
            Output::Json(mut out) => {
                writeln!(out, "\n]}}")?;
                out.flush()?;
            }
        }
        Ok(self.rows > 0)
    }
}
