//! Clients: curl and dig, and a tally of what they were told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::namespace::Namespace;

/// After this many failures, [`Tally::of`] asks no more.
const ENOUGH_FAILURES: usize = 3;

/// Who answered how often, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by the name of the pod that gave them.
    pub answers: BTreeMap<String, usize>,
    /// The text of each failure.
    pub failures: Vec<String>,
    /// The longest that a request took: a second or more tells of a lost packet
    /// that was sent again.
    pub slowest: Duration,
}

impl Tally {
    /// Requests made, answered or not.
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }

    /// Counts one outcome, and how long it took.
    pub fn add(&mut self, outcome: Result<String>, took: Duration) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(name) => *self.answers.entry(name).or_default() += 1,
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// Counts `requests` calls of `ask`, or fewer: a few failures tell as much as
    /// many, and each may take its full timeout.
    pub fn of(requests: usize, ask: impl FnMut() -> Result<String>) -> Self {
        Self::until(requests, |_| false, ask)
    }

    /// Counts calls of `ask` until so many pods have answered, but no more than `requests`.
    pub fn until_answered_by(
        pods: usize,
        requests: usize,
        ask: impl FnMut() -> Result<String>,
    ) -> Self {
        Self::until(requests, |tally| tally.answers.len() >= pods, ask)
    }

    fn until(
        requests: usize,
        is_enough: impl Fn(&Self) -> bool,
        mut ask: impl FnMut() -> Result<String>,
    ) -> Self {
        let mut tally = Self::default();
        while tally.requests() < requests
            && tally.failures.len() < ENOUGH_FAILURES
            && !is_enough(&tally)
        {
            let asked = Instant::now();
            let outcome = ask();
            tally.add(outcome, asked.elapsed());
        }
        tally
    }
}

/// How a question travels to a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

/// Asks for a page with curl, and returns the name of the pod that answered.
pub fn http(from: &Namespace, address: SocketAddr) -> Result<String> {
    let mut command = from.command("curl");
    command.args(["-g", "--silent", "--show-error", "--fail"]);
    command.args(["--max-time", "10", "--noproxy", "*"]);
    answer(command.arg(format!("http://{address}/")))
}

/// Asks a DNS server with dig for `TXT who.`, and returns the name of the pod that answered.
pub fn dns(from: &Namespace, address: SocketAddr, transport: Transport) -> Result<String> {
    let mut command = from.command("dig");
    command.args(["+short", "+tries=1", "+timeout=10"]);
    if transport == Transport::Tcp {
        command.arg("+tcp");
    }
    command.arg(format!("@{}", address.ip()));
    command.args(["-p", &address.port().to_string(), "TXT", "who."]);
    Ok(answer(&mut command)?.trim_matches('"').to_owned())
}

fn answer(command: &mut Command) -> Result<String> {
    let output = command.output().context("nsenter: start")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}{} ({})", stderr.trim(), stdout.trim(), output.status);
    }
    ensure!(!stdout.trim().is_empty(), "an empty answer");
    Ok(stdout.trim().to_owned())
}
