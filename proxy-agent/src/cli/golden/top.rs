//! The screen of `top`, and what keys do.

use std::time::Duration;

use proxy_ebpf::layout::{Counter, Traffic};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::check;
use super::fixture::{maps, state};
use crate::cli::top::app::{App, Then};
use crate::cli::top::view::draw;
use crate::inspect::top::{HISTORY, Sample};

/// The maps after so many seconds, in which the Services with these ids have got so many
/// connections a second.
fn sample(seconds: u64, connections: [u64; 3]) -> Sample {
    let mut state = state(&mut maps());
    for (traffic, rate) in state.service_traffic.iter_mut().zip(connections) {
        traffic.connections += rate * seconds;
        traffic.packets += 10 * rate * seconds;
    }
    let [v4, _] = &mut state.backend_traffic;
    v4[0] = Traffic {
        connections: 6 + seconds,
        packets: 1728,
    };
    Sample {
        at: Duration::from_secs(seconds),
        state,
        counters: vec![
            (Counter::FlowsCreated, 100 + 3 * seconds),
            (Counter::NoEndpoints, 2 * seconds),
            (Counter::MartianSource, 7),
            (Counter::NoSuchPort, 5 * seconds),
        ],
    }
}

fn app() -> App {
    let mut app = App::default();
    for second in [0, 2, 4, 6] {
        app.top.take(&sample(second, [3, 40, 0]));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text += line.trim_end();
        text += "\n";
    }
    text
}

fn press(app: &mut App, keys: impl IntoIterator<Item = KeyCode>) {
    for key in keys {
        let then = app.press(KeyEvent::new(key, KeyModifiers::NONE));
        assert_eq!(then, Then::GoOn, "{key:?}");
    }
}

#[test]
fn services_are_shown_by_what_they_do() {
    let mut app = app();
    check("top.txt", &screen(&app, 110, 16));
    press(&mut app, "n".chars().map(KeyCode::Char));
    press(&mut app, [KeyCode::Home]);
    check("top-name.txt", &screen(&app, 110, 16));
}

#[test]
fn a_search_leaves_services_with_its_text() {
    let mut app = app();
    press(&mut app, "/DNS".chars().map(KeyCode::Char));
    check("top-search.txt", &screen(&app, 80, 12));
    press(
        &mut app,
        [KeyCode::Enter, KeyCode::Char('p'), KeyCode::Char(' ')],
    );
    assert!(app.is_paused);
    assert_eq!(app.rows().len(), 1);
    press(&mut app, [KeyCode::Char('/'), KeyCode::Esc]);
    assert_eq!(app.rows().len(), 3);
}

#[test]
fn the_selection_stays_with_its_service() {
    let mut app = app();
    press(&mut app, [KeyCode::Down]);
    let selected = app.selected;
    assert_eq!(selected, Some(app.rows()[1].0));
    // It is first now.
    app.top.take(&sample(8, [3000, 40, 0]));
    let rows = app.rows();
    assert_eq!(
        app.position(&rows),
        rows.iter().position(|(id, _)| Some(*id) == selected)
    );
    press(
        &mut app,
        [
            KeyCode::End,
            KeyCode::Down,
            KeyCode::Up,
            KeyCode::Up,
            KeyCode::Up,
        ],
    );
    assert_eq!(app.selected, Some(app.rows()[0].0));
}

#[test]
fn keys_end_it() {
    let quit = |code, modifiers| app().press(KeyEvent::new(code, modifiers));
    assert_eq!(quit(KeyCode::Char('q'), KeyModifiers::NONE), Then::Quit);
    assert_eq!(quit(KeyCode::Esc, KeyModifiers::NONE), Then::Quit);
    assert_eq!(quit(KeyCode::Char('c'), KeyModifiers::CONTROL), Then::Quit);
    let mut typing = app();
    press(&mut typing, "/q".chars().map(KeyCode::Char));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(typing.press(control_c), Then::Quit);
}

#[test]
fn what_comes_anew_has_no_rate_and_what_is_old_is_forgotten() {
    let mut app = App::default();
    app.top.take(&sample(5, [3, 40, 0]));
    assert!(app.top.services.values().all(|row| row.history.is_empty()));
    assert!(app.top.drops.is_empty());
    for second in 6..200 {
        app.top.take(&sample(second, [3, 40, 0]));
    }
    assert!(
        app.top
            .services
            .values()
            .all(|row| row.history.len() == HISTORY)
    );
    let mut empty = sample(300, [0; 3]);
    empty.state.content.frontends.clear();
    app.top.take(&empty);
    assert_eq!(app.rows().len(), 0);
    assert!(screen(&app, 80, 12).contains("0 of 0 Service ports"));
}

#[test]
fn a_small_terminal_is_drawn_on_as_far_as_it_goes() {
    for (width, height) in [(1, 1), (10, 3), (300, 100)] {
        screen(&app(), width, height);
    }
}
