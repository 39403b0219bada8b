//! Every link loses one packet of ten for a minute: who is taken for dead that is not.

use std::{
    collections::HashMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Agent, Family};
use serde_json::Value;

use super::{
    super::{compare::Variant, percentiles::Percentiles},
    clients::{Client, Place},
    served::Served,
    services::Choice,
};

/// Packets of a hundred that a link loses.
pub(super) const PERCENT: u8 = 10;
/// For how long.
pub(super) const SPAN: Duration = Duration::from_mins(1);
/// An endpoint that is taken out for longer counts.
pub(super) const LONG: Duration = Duration::from_secs(5);
/// How often the agent's log is read.
const LOOK: Duration = Duration::from_millis(20);

/// From a Pod and the host by their sockets, from outside by packets.
const CLIENTS: [Client; 6] = {
    use {
        Choice::Random,
        Family::{V4, V6},
        Place::{Host, Outside, Pod},
    };
    [
        Client::new(Pod, V4, Random),
        Client::new(Pod, V6, Random),
        Client::new(Host, V4, Random),
        Client::new(Host, V6, Random),
        Client::new(Outside, V4, Random),
        Client::new(Outside, V6, Random),
    ]
};

/// What became of connections and endpoints.
pub(super) struct Loss {
    pub(super) connections: usize,
    pub(super) failed: usize,
    pub(super) connect: Percentiles,
    /// For how long endpoints were left alone, times Service ports.
    pub(super) taken_out: Vec<Duration>,
}

impl Loss {
    pub(super) fn longest(&self) -> Duration {
        self.taken_out.iter().copied().max().unwrap_or_default()
    }

    /// How many were taken out for too long.
    pub(super) fn long(&self) -> usize {
        self.taken_out.iter().filter(|it| **it > LONG).count()
    }
}

/// Measures.
pub(super) fn measure(rate: u32, program: &Path) -> Result<Loss> {
    let served = Served::new(Variant::Socket, program)?;
    let agent = served.agent.as_ref().context("no agent")?;
    served.cluster.lose(PERCENT)?;
    let (attempts, taken_out) = served.connect(&CLIENTS, rate, SPAN, || Ok(watch(agent)))?;
    let attempts: Vec<_> = attempts.into_iter().flatten().collect();
    Ok(Loss {
        connections: attempts.len(),
        failed: attempts.iter().filter(|it| it.took.is_none()).count(),
        connect: Percentiles::of(attempts.iter().filter_map(|it| it.took).collect()),
        taken_out,
    })
}

/// Reads the agent's log for so long; for how long which endpoints were taken out.
fn watch(agent: &Agent) -> Vec<Duration> {
    let end = Instant::now() + SPAN;
    let mut seen = agent.mark();
    let mut out = HashMap::new();
    let mut taken_out = Vec::new();
    while Instant::now() < end {
        let lines = agent.log().split_off(seen);
        seen += lines.len();
        for (endpoint, step) in lines.iter().filter_map(|line| step(line)) {
            match step {
                Step::Out => drop(out.insert(endpoint, Instant::now())),
                Step::Back => taken_out.extend(out.remove(&endpoint).map(|it| it.elapsed())),
            }
        }
        thread::sleep(LOOK);
    }
    taken_out.extend(out.into_values().map(|since| since.elapsed()));
    taken_out
}

#[derive(Debug, PartialEq)]
enum Step {
    Out,
    Back,
}

/// What a line of the log says of an endpoint of a Service port.
fn step(line: &str) -> Option<(String, Step)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let fields = &event["fields"];
    let message = fields["message"].as_str()?;
    let step = if message.starts_with("does not answer") {
        Step::Out
    } else if message.starts_with("is used again") {
        Step::Back
    } else {
        return None;
    };
    Some((format!("{} {}", fields["port"], fields["endpoint"]), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_who_is_taken_out() {
        let line = |message: &str| {
            format!(
                r#"{{"fields":{{"message":"{message}","port":"a/b:c","endpoint":"1.2.3.4:5"}}}}"#
            )
        };
        let out = step(&line("does not answer; new connections avoid it")).unwrap();
        let back = step(&line("is used again")).unwrap();
        assert_eq!((out.1, back.1), (Step::Out, Step::Back));
        assert_eq!(out.0, back.0);
        assert_eq!(step(&line("programmed")), None);
    }
}
