//! The client and the server of the measurements: processes of their own, pinned to a
//! CPU, the same ones whatever serves the Services.
//!
//! A process of its own, since the socket path is a matter of processes and their
//! cgroups. It takes a request a line on stdin and answers each with a line on stdout,
//! both JSON, so that a run begins in a process that is warm; it ends with its stdin.

mod connect;
mod flood;
mod serve;
mod steady;
mod worker;

use std::{
    io::{self, BufRead as _, Write as _},
    net::SocketAddrV4,
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

pub(super) use connect::Connected;
pub(super) use steady::{Attempt, Steady};
pub(super) use worker::Worker;

/// What the process is to be.
#[derive(Debug, Default, Args)]
pub(crate) struct WorkloadArgs {
    /// The CPU that it stays on
    #[arg(long)]
    cpu: usize,
    /// Answer connections to this port
    #[arg(long)]
    tcp: Option<u16>,
    /// With this name, in place of the question itself
    #[arg(long, value_name = "NAME", requires = "tcp")]
    named: Option<String>,
    /// Count datagrams to this port
    #[arg(long)]
    udp: Option<u16>,
}

/// What the process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Connect, ask, read the answer and close, one after the other.
    Connect { to: SocketAddrV4, connections: u32 },
    /// Begin so many connections a second, and wait for each for so long.
    Steady(Steady),
    /// Send small datagrams as fast as it goes.
    Flood { to: SocketAddrV4, milliseconds: u64 },
    /// Tell how many datagrams have come.
    Count,
}

/// What it says then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What the connections took.
    Connected(Connected),
    /// What became of each connection.
    Attempts(Vec<Attempt>),
    /// How many datagrams have been sent, or have come.
    Datagrams(u64),
    /// Why it could not be done.
    Failed(String),
}

/// What the process prints once it listens.
const READY: &str = "ready";

/// The process.
pub(super) fn run(arguments: &WorkloadArgs) -> Result<()> {
    // Threads that are started from now on stay there as well.
    let mut cpus = CpuSet::new();
    cpus.set(arguments.cpu).context("no such CPU")?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("sched_setaffinity")?;
    match (arguments.tcp, &arguments.named) {
        (Some(port), Some(name)) => serve::tell(port, name)?,
        (Some(port), None) => serve::answer(port)?,
        (None, _) => {}
    }
    let count = arguments.udp.map(serve::count).transpose()?;
    println!("{READY}");
    for line in io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?)?;
        let answered = match request {
            Request::Connect { to, connections } => {
                connect::run(to, connections).map(Answer::Connected)
            }
            Request::Steady(steady) => steady::run(&steady).map(Answer::Attempts),
            Request::Flood { to, milliseconds } => {
                flood::run(to, milliseconds).map(Answer::Datagrams)
            }
            Request::Count => count
                .as_ref()
                .context("counts nothing")
                .map(|count| Answer::Datagrams(count.now())),
        };
        let answer = answered.unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
        println!("{}", serde_json::to_string(&answer)?);
        io::stdout().flush()?;
    }
    Ok(())
}
