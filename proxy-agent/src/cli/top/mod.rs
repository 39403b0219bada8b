//! The command `top`: Services by what they do, on a terminal.

pub(super) mod app;
#[cfg(test)]
mod tests;
pub(super) mod view;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{MissedTickBehavior, interval};

use super::output::{self, MapsArgs};
use crate::inspect::State;
use crate::inspect::top::Sample;
use crate::maps::PinnedMaps;
use crate::runtime::Signals;
use app::{App, Then};

/// What to read, and how often.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    maps: MapsArgs,

    /// How often the maps are read, in seconds.
    #[arg(
        long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    interval: u64,
}

/// Shows Services until a key or a signal ends it.
pub(super) fn run(args: &TopArgs) -> ExitCode {
    output::once(|_| {
        ensure!(
            io::stdout().is_terminal() && io::stdin().is_terminal(),
            "`top` draws on a terminal, and this is none: `services --watch` and `services -o json` \
             print the same counts (of `kubectl exec`, give it the option `-t`)"
        );
        // What cannot be read at all is said before the screen is taken.
        read(args, Duration::ZERO)?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(show(args))?;
        Ok(true)
    })
}

/// The terminal as long as this lives: then it is as it was. A panic restores it too, before its
/// message is printed.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self> {
        Ok(Self(
            ratatui::try_init().context("cannot draw on the terminal")?,
        ))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn show(args: &TopArgs) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::take()?;
    let mut events = events();
    let mut app = App::default();
    let started = Instant::now();
    let mut timer = interval(Duration::from_secs(args.interval));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.next() => return Ok(()),
            event = events.recv() => match event {
                // Its other end is gone, or the terminal is.
                None | Some(Err(_)) => return Ok(()),
                Some(Ok(Event::Key(key))) if app.press(key) == Then::Quit => return Ok(()),
                Some(Ok(_)) => {}
            },
            _ = timer.tick(), if !app.is_paused => match read(args, started.elapsed()) {
                Ok(sample) => {
                    app.problem = None;
                    app.top.take(&sample);
                }
                Err(error) => app.problem = Some(format!("{error:#}")),
            },
        }
        let drawn = screen.0.draw(|frame| view::draw(frame, &app));
        drawn.context("cannot draw on the terminal")?;
    }
}

fn read(args: &TopArgs, at: Duration) -> Result<Sample> {
    let mut maps = PinnedMaps::open(&args.maps.bpffs)?;
    Ok(Sample {
        at,
        state: State::read(&mut maps)?,
        counters: maps.counters()?,
    })
}

/// Keys and changes of the terminal's size, by a thread that waits for them.
fn events() -> Receiver<io::Result<Event>> {
    let (sender, receiver) = channel(16);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}
