//! A node goes dark, and its endpoints stay in the API: what becomes of new connections.

mod clients;
mod loss;
mod page;
mod plot;
mod served;
mod services;
mod summary;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{compare::Variant, report::Machine, workload::Attempt};
use crate::{interrupt, terminal};
use clients::{Client, clients};
use page::Page;
use served::Served;
use summary::Summary;

/// How often it is tried, and where the results go.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// Connections a second of each client
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Write docs/FAILOVER.md and its plot
    #[arg(long)]
    write: bool,
    /// Measure this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
}

/// When the node goes dark, since the first connection.
const DARK: Duration = Duration::from_secs(3);
/// For so long after the cut nobody can know.
const SURPRISE: Duration = Duration::from_secs(2);
/// When it is light again.
const LIGHT: Duration = Duration::from_secs(23);
/// When the last connection begins.
const END: Duration = Duration::from_secs(38);
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing that comes to the node by its uplink arrives; whoever sends is not told.
const DARKEN: &str = "add table netdev dark\n\
    add chain netdev dark in { type filter hook ingress device eth0 priority 0; policy drop; }\n";
const LIGHTEN: &str = "delete table netdev dark\n";

const TRIALS: &str = "proxy_agent_endpoint_trials_total";

/// One after the other.
const VARIANTS: [Variant; 5] = [
    Variant::Iptables,
    Variant::Nftables,
    Variant::Tc,
    Variant::Xdp,
    Variant::Socket,
];

/// What became of the connections of one client, with one variant.
struct Run {
    variant: Variant,
    client: Client,
    attempts: Vec<Attempt>,
}

/// Connections of the agent by which it was tried whether an endpoint answers again, of all
/// clients, from [`SURPRISE`] after the cut until the node is back.
struct Trials {
    variant: Variant,
    count: f64,
}

/// Measures, and prints tables.
pub(super) fn run(arguments: &FailoverArgs, program: &Path) -> Result<()> {
    terminal::heading("Failover");
    terminal::note("one of three endpoints is on a node that goes dark for 20 seconds");
    interrupt::clean_up()?;
    let machine = Machine::this()?;
    let began = Instant::now();
    let (mut runs, mut trials) = (Vec::new(), Vec::new());
    for variant in VARIANTS {
        terminal::note(variant.name());
        let measured = go_dark(variant, program, arguments.rate);
        let (of_clients, of_variant) = measured.context(variant.name())?;
        runs.extend(of_clients);
        if variant.options().is_some() {
            trials.push(of_variant);
        }
    }
    terminal::note("loss on every link");
    let loss = loss::measure(arguments.rate, program).context("loss")?;
    let page = Page {
        rows: runs.iter().map(Summary::of).collect(),
        trials,
        loss,
        rate: arguments.rate,
        took: began.elapsed(),
        machine,
    };
    print!("{}", page.tables());
    if arguments.write {
        page.write(&plot::draw(&runs)?)?;
    }
    Ok(())
}

/// Connects from all places at once, while node2 goes dark and comes back.
fn go_dark(variant: Variant, program: &Path, rate: u32) -> Result<(Vec<Run>, Trials)> {
    let served = Served::new(variant, program)?;
    let clients = clients(variant);
    let dark = &served.cluster.nodes[1].namespace;
    let (attempts, count) = served.connect(&clients, rate, END, || {
        thread::sleep(DARK);
        dark.nft(DARKEN)?;
        thread::sleep(SURPRISE);
        let before = served.counter(TRIALS)?;
        thread::sleep(LIGHT.saturating_sub(DARK + SURPRISE));
        let trials = served.counter(TRIALS)? - before;
        dark.nft(LIGHTEN)?;
        Ok(trials)
    })?;
    let of_clients = clients.into_iter().zip(attempts);
    let runs = of_clients.map(|(client, attempts)| Run {
        variant,
        client,
        attempts,
    });
    Ok((runs.collect(), Trials { variant, count }))
}
