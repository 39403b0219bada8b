//! `cargo xtask demo`: the proxy at work, for a person to watch.

mod cluster;
mod scale;
mod table;
mod tour;

use std::{io, process::ExitCode, thread, time::Instant};

use anyhow::Result;

use self::cluster::Running;
use crate::{command, interrupt, paths, setup, terminal};

pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    setup::run()?;
    terminal::heading("Build");
    command::run(command::cargo().args(["build", "--release", "--package", "proxy-agent"]))?;
    let started = Instant::now();
    interrupt::clean_up()?;
    let running = Running::set_up(&paths::target().join("release/proxy-agent"))?;

    terminal::heading("Asking through every frontend");
    let mut rows = tour::take(&running);
    terminal::heading("Scaling web while requests run");
    rows.extend(scale::watch(&running)?);
    let good = table::conclude(&rows, started.elapsed());

    if keep {
        running.print_directions();
        wait_for_enter();
    }
    running.take_down()?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns on Enter; without a terminal to press it, only Ctrl-C or a signal ends us.
fn wait_for_enter() {
    let mut line = String::new();
    while !matches!(io::stdin().read_line(&mut line), Ok(1..)) {
        thread::park();
    }
}
