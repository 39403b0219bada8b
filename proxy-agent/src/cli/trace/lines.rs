//! How events are printed: a line each, as they come.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::list::Format;
use crate::cli::style;
use crate::inspect::API_VERSION;
use crate::inspect::explain::meaning;
use crate::inspect::trace::TraceRow;

/// Where events are printed, and how many there were.
pub(crate) struct Lines<W> {
    out: W,
    format: Format,
    seen: u64,
    shown: u64,
    lost: u64,
}

/// How many events there were.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceSummary {
    api_version: &'static str,
    kind: &'static str,
    seen: u64,
    shown: u64,
    lost: u64,
}

impl<W: Write> Lines<W> {
    /// No lines yet.
    pub(crate) fn new(out: W, format: Format) -> Self {
        Self {
            out,
            format,
            seen: 0,
            shown: 0,
            lost: 0,
        }
    }

    /// Counts an event, and prints it if it is wanted.
    pub(crate) fn push(&mut self, row: &TraceRow, is_wanted: bool) -> io::Result<()> {
        self.seen += 1;
        if !is_wanted {
            return Ok(());
        }
        self.shown += 1;
        match self.format {
            Format::Json => self.document(row),
            Format::Table => writeln!(self.out, "{}", line(row)),
            Format::Wide => writeln!(self.out, "{}", wide_line(row)),
        }
    }

    /// So many events were lost; printed where that is news.
    pub(crate) fn lost(&mut self, lost: u64) -> io::Result<()> {
        if lost == self.lost {
            return Ok(());
        }
        let more = lost.saturating_sub(self.lost);
        self.lost = lost;
        match self.format {
            Format::Json => self.document(&self.summary("TraceLoss")),
            Format::Table | Format::Wide => writeln!(
                self.out,
                "-- {more} events lost: more came than were read; --new or --drops ask for less --"
            ),
        }
    }

    /// Says how many there were. How many were lost.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        match self.format {
            Format::Json => self.document(&self.summary("TraceSummary"))?,
            Format::Table | Format::Wide => writeln!(
                self.out,
                "-- {} events, {} shown, {} lost --",
                self.seen, self.shown, self.lost
            )?,
        }
        self.flush()?;
        Ok(self.lost)
    }

    /// Hands on what was printed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn summary(&self, kind: &'static str) -> TraceSummary {
        TraceSummary {
            api_version: API_VERSION,
            kind,
            seen: self.seen,
            shown: self.shown,
            lost: self.lost,
        }
    }

    fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, document)?;
        writeln!(self.out)
    }
}

/// An event in a line.
fn line(row: &TraceRow) -> String {
    // Without the date and the zone.
    let time = row.time.as_deref().and_then(|it| it.get(11..23));
    let time = time.unwrap_or("-");
    let mut line = format!("{time} {}", what(row));
    append(&mut line, row.reason);
    line
}

/// The same with everything.
fn wide_line(row: &TraceRow) -> String {
    let time = row.time.as_deref().unwrap_or("-");
    let mut line = format!("{time} {}  {}", what(row), row.sender);
    let masqueraded = row.masqueraded_as.map(|it| format!("as {it}"));
    append(&mut line, masqueraded);
    append(&mut line, row.dsr.then_some("in a tunnel"));
    let reason = row.reason.map(|reason| match meaning(reason) {
        Some(meaning) => format!("{reason}: {meaning}"),
        None => reason.to_owned(),
    });
    append(&mut line, reason);
    line
}

fn what(row: &TraceRow) -> String {
    let device = row.device.as_deref().unwrap_or("socket");
    let protocol = row.protocol.as_deref().unwrap_or("-");
    let source = row.source.map(|it| it.to_string());
    let source = source.unwrap_or_else(|| row.sender.to_owned());
    let space = 8_usize.saturating_sub(row.event.len());
    let mut text = format!(
        "{}{:space$} {device:<8} {protocol:<4} {source} > {}",
        style::state(row.event),
        "",
        row.destination
    );
    if let Some(endpoint) = row.endpoint {
        // To a text nothing fails.
        let _ = write!(text, " > {endpoint}");
    }
    append(&mut text, row.service.as_ref());
    text
}

fn append(line: &mut String, part: Option<impl std::fmt::Display>) {
    if let Some(part) = part {
        // To a text nothing fails.
        let _ = write!(line, "  {part}");
    }
}
