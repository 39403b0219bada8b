//! What clients notice of an agent's end and the next one's start.

mod observer;

use std::{
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use proxy_tests::lab::{Agent, Bpffs, Cluster, Family, Manifests, Namespace, mirror};

use observer::{Observer, Seen};

use super::nodes;
use crate::terminal;

/// Where health is asked for.
const HEALTH_PORT: u16 = 10256;

/// How often.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Restarts of each kind
    #[arg(long, value_name = "N", default_value_t = 10)]
    times: usize,
    /// Measure this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
}

/// How an agent is followed by the next.
#[derive(Clone, Copy)]
enum Kind {
    /// It is not: the same clients, for a second.
    None,
    /// It is killed, and started again in its place.
    InPlace,
    /// The next one waits until it ends.
    Standby,
}

impl Kind {
    const ALL: [Self; 3] = [Self::None, Self::InPlace, Self::Standby];

    fn name(self) -> &'static str {
        match self {
            Self::None => "no restart, a second",
            Self::InPlace => "killed, and started in its place",
            Self::Standby => "taken over by a standby",
        }
    }
}

/// A node with an agent that is followed by others.
struct Stand<'a> {
    program: &'a Path,
    cluster: Cluster,
    manifests: Manifests,
    bpffs: Bpffs,
}

impl Stand<'_> {
    fn start(&self) -> Result<Agent> {
        let node = &self.cluster.nodes[0];
        let folder = self.manifests.path();
        Agent::start_pinned(self.program, node, &self.bpffs, folder, &[])
    }

    fn is_up(&self, agent: &Agent) -> Result<()> {
        agent.wait_programmed()?;
        agent.wait_attached("eth0")?;
        for pod in &self.cluster.nodes[0].pods {
            agent.wait_attached(&pod.device)?;
        }
        Ok(())
    }

    /// One restart, or none; the agent that runs then, how long it took to take over, and what
    /// clients have seen.
    fn restart(&self, agent: Agent, kind: Kind) -> Result<(Agent, Duration, Seen)> {
        let node = self.cluster.nodes[0].addresses.of(Family::V4);
        let to = |port| SocketAddr::new(node, port);
        let outside = &self.cluster.client;
        let observer = Observer::start(outside, to(mirror::NODE_PORT), to(HEALTH_PORT))?;
        thread::sleep(Duration::from_millis(500));
        let mut begun = Instant::now();
        let next = match kind {
            Kind::None => agent,
            Kind::InPlace => {
                drop(agent);
                begun = Instant::now();
                let next = self.start()?;
                self.is_up(&next)?;
                next
            }
            Kind::Standby => {
                let next = self.start()?;
                next.wait_for(0, |event| {
                    let message = event["fields"]["message"].as_str();
                    message.is_some_and(|it| it.contains("another agent runs"))
                })?;
                begun = Instant::now();
                agent.stop()?;
                self.is_up(&next)?;
                next
            }
        };
        let took = begun.elapsed();
        thread::sleep(Duration::from_millis(500));
        Ok((next, took, observer.end()?))
    }
}

/// Measures, and prints a table.
pub(super) fn run(arguments: &RestartArgs, program: &Path) -> Result<()> {
    terminal::heading("Restart");
    let (cluster, manifests) = nodes::lay_out(1)?;
    let server = cluster.pod(1, 1);
    mirror::add(&manifests)?;
    manifests.set_endpoints(mirror::NAME, &[server])?;
    echo(&server.namespace)?;
    let stand = Stand {
        program,
        cluster,
        manifests,
        bpffs: Bpffs::new()?,
    };
    let mut agent = stand.start()?;
    stand.is_up(&agent)?;
    print_heading(arguments.times);
    for kind in Kind::ALL {
        let mut all = Vec::new();
        for _ in 0..arguments.times {
            let (next, took, seen) = stand.restart(agent, kind).context(kind.name())?;
            agent = next;
            all.push((took, seen));
        }
        print_row(kind, &all);
    }
    Ok(())
}

/// Answers datagrams, for as long as this process runs.
fn echo(server: &Namespace) -> Result<()> {
    let socket = server.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, mirror::PORT)))??;
    thread::spawn(move || {
        let mut buffer = [0; 8];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
    Ok(())
}

fn print_heading(times: usize) {
    terminal::heading(&format!("{times} of each; a datagram every millisecond"));
    println!(
        "  {:<34} {:>12} {:>16} {:>12} {:>18}",
        "", "took", "datagrams lost", "silence", "no health check"
    );
}

/// The median, and the worst in brackets.
fn print_row(kind: Kind, all: &[(Duration, Seen)]) {
    let of = |value: fn(&(Duration, Seen)) -> Duration| {
        let mut values: Vec<_> = all.iter().map(value).collect();
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or_default().as_millis();
        format!("{} ({})", at(values.len() / 2), at(values.len() - 1))
    };
    let lost: u64 = all.iter().map(|(_, seen)| seen.lost).sum();
    let sent: u64 = all.iter().map(|(_, seen)| seen.sent).sum();
    let refused: u64 = all.iter().map(|(_, seen)| seen.refused).sum();
    let health = match refused {
        0 => "none".to_owned(),
        _ => format!("{} ms", of(|(_, seen)| seen.health_silence)),
    };
    println!(
        "  {:<34} {:>9} ms {:>16} {:>9} ms {:>18}",
        kind.name(),
        of(|(took, _)| *took),
        format!("{lost} of {sent}"),
        of(|(_, seen)| seen.silence),
        health,
    );
}
