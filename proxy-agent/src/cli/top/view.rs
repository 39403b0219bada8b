//! The screen of `top`: what is shown, as cells.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::app::App;
use crate::inspect::top::{EndpointRow, ServiceRow};

/// Columns of a trend.
const TREND: usize = 20;
/// From the least to the most.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: &str =
    "q quit  / search  sort: c connections p packets t total n name  ↑↓ select  space pause";

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &App) {
    let rows = app.rows();
    let position = app.position(&rows);
    let selected = position.and_then(|at| rows.get(at));
    let endpoints = selected.and_then(|(id, _)| app.top.endpoints.get(id));
    let endpoints = endpoints.map_or(&[][..], Vec::as_slice);
    let third = frame.area().height / 3;
    let below = u16::try_from(endpoints.len()).unwrap_or(third);
    let [header, services, title, list, help] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(4),
        Constraint::Length(1),
        Constraint::Length((below + 1).min(third)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header_lines(app, rows.len())), header);
    draw_services(frame, services, &rows, position);
    if let Some((_, row)) = selected {
        let text = format!("Endpoints of {}", row.name);
        frame.render_widget(Paragraph::new(text).style(bold()), title);
        frame.render_widget(endpoint_table(endpoints), list);
    }
    let text = if app.is_typing {
        format!("search: {}_  (Enter keeps it, Esc clears it)", app.search)
    } else {
        HELP.to_owned()
    };
    frame.render_widget(Paragraph::new(text), help);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn header_lines(app: &App, shown: usize) -> Vec<Line<'static>> {
    let all = app.top.services.len();
    let mut first = vec![
        Span::styled("proxy-agent top", bold()),
        Span::raw(format!(
            "   {shown} of {all} Service ports, by {}",
            app.sort.as_str()
        )),
    ];
    if !app.search.is_empty() {
        first.push(Span::raw(format!(", with \"{}\"", app.search)));
    }
    if app.is_paused {
        first.push(Span::styled("   paused", bold()));
    }
    let drops = app.top.drops.iter();
    let drops: Vec<_> = drops
        .map(|(name, rate)| format!("{name} {}", number(*rate)))
        .collect();
    let drops = if drops.is_empty() {
        "none".to_owned()
    } else {
        drops.join(", ")
    };
    let flows = number(app.top.flows_created);
    let second = match &app.problem {
        Some(problem) => Line::styled(format!("cannot read the maps: {problem}"), bold()),
        None => Line::raw(format!(
            "The node, a second: flows made {flows}; dropped or refused: {drops}"
        )),
    };
    vec![Line::from(first), second]
}

fn draw_services(
    frame: &mut Frame<'_>,
    area: Rect,
    rows: &[(u32, &ServiceRow)],
    position: Option<usize>,
) {
    let header = [
        left("SERVICE"),
        left("PROTOCOL"),
        right("ENDPOINTS"),
        right("CONN/S"),
        right("PACKETS/S"),
        right("CONNECTIONS"),
        left("TREND OF CONN/S"),
    ];
    let lines = rows.iter().map(|(_, row)| {
        let protocol = row.protocol.map(|it| it.to_string());
        Row::new([
            left(&row.name),
            left(&protocol.unwrap_or_default()),
            right(&row.endpoints.to_string()),
            right(&number(row.rates.connections)),
            right(&number(row.rates.packets)),
            right(&row.total.connections.to_string()),
            left(&trend(&row.history)),
        ])
    });
    let widths = [
        Constraint::Min(16),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(11),
        // What a narrow terminal has no room for.
        Constraint::Length(area.width.saturating_sub(76).min(20)),
    ];
    let table = Table::new(lines, widths)
        .header(Row::new(header).style(bold()))
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(position);
    frame.render_stateful_widget(table, area, &mut state);
}

fn endpoint_table(rows: &[EndpointRow]) -> Table<'static> {
    let header = [
        left("ENDPOINT"),
        left("STATE"),
        left("LOCAL"),
        right("CONN/S"),
        right("PACKETS/S"),
        right("CONNECTIONS"),
    ];
    let lines = rows.iter().map(|row| {
        Row::new([
            left(&row.endpoint.to_string()),
            left(row.state),
            left(if row.local { "yes" } else { "no" }),
            right(&number(row.rates.connections)),
            right(&number(row.rates.packets)),
            right(&row.total.connections.to_string()),
        ])
    });
    let widths = [
        Constraint::Min(24),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(11),
    ];
    Table::new(lines.collect::<Vec<_>>(), widths)
        .header(Row::new(header).style(bold()))
        .column_spacing(2)
}

fn left(text: &str) -> Cell<'static> {
    Cell::from(text.to_owned())
}

fn right(text: &str) -> Cell<'static> {
    Cell::from(Line::raw(text.to_owned()).alignment(Alignment::Right))
}

/// A rate in few letters.
fn number(rate: f64) -> String {
    match rate {
        0.0..100.0 => format!("{rate:.1}"),
        100.0..100_000.0 => format!("{rate:.0}"),
        _ => format!("{:.0}k", rate / 1000.0),
    }
}

/// The last rates as bars, the most of which is as high as a line.
fn trend(history: &VecDeque<f64>) -> String {
    let most = history.iter().copied().fold(0.0, f64::max);
    let skipped = history.len().saturating_sub(TREND);
    let bars = history.iter().skip(skipped).map(|rate| bar(*rate, most));
    bars.collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 7"
)]
fn bar(rate: f64, most: f64) -> char {
    if rate <= 0.0 {
        return ' ';
    }
    let at = (rate / most * 7.0).round() as usize;
    BARS.get(at).copied().unwrap_or('█')
}
