//! What `top` shows and how keys change that: no terminal, no maps.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::inspect::top::{ServiceRow, Top};

/// By what Services are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// New connections a second.
    #[default]
    Connections,
    /// Packets a second.
    Packets,
    /// Connections since they came.
    Total,
    Name,
}

impl Sort {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Packets => "packets",
            Self::Total => "total",
            Self::Name => "name",
        }
    }
}

/// What is shown.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) top: Top,
    pub(crate) sort: Sort,
    /// What names of Services must contain.
    pub(crate) search: String,
    /// Whether keys go to the search.
    pub(crate) is_typing: bool,
    /// The id of the selected Service port.
    pub(crate) selected: Option<u32>,
    pub(crate) is_paused: bool,
    /// Why the maps could not be read just now.
    pub(crate) problem: Option<String>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Quit,
}

impl App {
    /// The Services that are wanted, in order.
    pub(crate) fn rows(&self) -> Vec<(u32, &ServiceRow)> {
        let wanted = self.search.to_lowercase();
        let rows = self.top.services.iter().map(|(id, row)| (*id, row));
        let mut rows: Vec<_> = rows
            .filter(|(_, row)| row.name.to_lowercase().contains(&wanted))
            .collect();
        rows.sort_by(|(_, a), (_, b)| {
            let most_first = match self.sort {
                Sort::Connections => b.rates.connections.total_cmp(&a.rates.connections),
                Sort::Packets => b.rates.packets.total_cmp(&a.rates.packets),
                Sort::Total => b.total.connections.cmp(&a.total.connections),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            most_first.then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// The place of the selected Service in `rows`: the first, if it is not there any more.
    pub(crate) fn position(&self, rows: &[(u32, &ServiceRow)]) -> Option<usize> {
        let position = rows.iter().position(|(id, _)| Some(*id) == self.selected);
        position.or_else(|| (!rows.is_empty()).then_some(0))
    }

    /// A key was pressed.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::GoOn;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Then::Quit,
            _ if self.is_typing => self.type_key(key.code),
            KeyCode::Char('q') | KeyCode::Esc => return Then::Quit,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('c') => self.sort = Sort::Connections,
            KeyCode::Char('p') => self.sort = Sort::Packets,
            KeyCode::Char('t') => self.sort = Sort::Total,
            KeyCode::Char('n') => self.sort = Sort::Name,
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| last.min(at + 1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            _ => {}
        }
        Then::GoOn
    }

    fn type_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(letter) => self.search.push(letter),
            KeyCode::Backspace => {
                self.search.pop();
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.search.clear();
            }
            _ => {}
        }
    }

    /// Selects another row: of where it is and of the last one's place follows which.
    fn select(&mut self, next: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let Some(at) = self.position(&rows) else {
            return;
        };
        let next = rows.get(next(at, rows.len() - 1));
        self.selected = next.map(|(id, _)| *id);
    }
}
