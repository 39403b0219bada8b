//! `cargo xtask bench`: what the proxy costs, measured on the real thing.

mod compare;
mod connect;
mod failover;
mod kernel;
mod limits;
mod memory;
mod nodes;
mod objects;
mod percentiles;
mod report;
mod restart;
mod rules;
mod scale;
mod stand;
mod workload;

use std::{env, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::{command, paths, setup, terminal};
use compare::CompareArgs;
use connect::{CallerArgs, ConnectArgs};
use failover::FailoverArgs;
use limits::LimitsArgs;
use restart::RestartArgs;
use workload::WorkloadArgs;

/// What to measure: the comparison, or one of the others.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    compare: CompareArgs,
}

/// What is measured besides.
#[derive(Debug, Subcommand)]
enum Other {
    /// Memory, first sync and programming latency with many Services
    ///
    /// Starts an API server and the release build of the agent in namespaces of their
    /// own. Measures the time to the first sync and the agent's memory after it; then
    /// the time from a change at the server to the change in the kernel's map, at a
    /// steady rate; then memory before and after a flood of changes.
    Scale(ScaleArgs),
    /// How even and how steady consistent hashing is
    ///
    /// Looks up a million clients among 3 to 1000 endpoints: how much more than its share
    /// the busiest one gets, and how many clients of the others move when one goes or
    /// comes.
    Maglev,
    /// What the programs cost a packet, by path
    ///
    /// Test runs in the kernel, over a program that does nothing: packets that concern no
    /// Service, of a flow, opening one, refused; by TC and XDP, IPv4 and IPv6, with few and
    /// with many flows and Services. `-- --help` tells what can be chosen.
    Packet {
        /// Passed on to the bench
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// The cost of `connect` with and without the socket path
    ///
    /// A Pod connects by TCP to a Pod of the other node, directly and by a ClusterIP, and
    /// asks one question by each connection; a process of the host connects UDP sockets,
    /// of which nothing is on the wire. All of it with the agent's socket path off and on.
    Connect(ConnectArgs),
    /// What clients notice of an agent's restart
    ///
    /// A client outside sends a datagram every millisecond to an echo behind a NodePort, another
    /// one asks for the node's health every five, while an agent is killed and started in its
    /// place, and while a standby takes over from one that ends. For each: how long that took,
    /// datagrams that were lost, the longest time without an answer, and the longest without a
    /// health check that succeeds; of the times the median, and the worst in brackets.
    Restart(RestartArgs),
    /// What becomes of new connections when a node goes dark
    ///
    /// One of three endpoints is on a node that drops all it gets for twenty seconds, and the API
    /// says nothing: connections at a steady rate from a Pod and from outside, beside kube-proxy's
    /// rules. How many fail, how long `connect` takes, and when the node is used again.
    Failover(FailoverArgs),
    /// What objects cost that ask for too much
    ///
    /// Services with thousands of ports and of addresses that are not allowed, thousands that want
    /// one such address, and more Services than the maps have room for: how long an agent is
    /// busy with them, its memory, and how long a change of another Service takes after that.
    Limits(LimitsArgs),
    /// The process whose calls are measured
    #[command(hide = true)]
    ConnectCaller(CallerArgs),
    /// A client or a server of the comparison
    #[command(hide = true)]
    Workload(WorkloadArgs),
}

/// How much, and for how long.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Services
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    services: u32,
    /// Endpoints of each Service
    #[arg(long, value_name = "N", default_value_t = 10)]
    endpoints: u32,
    /// Give each Service addresses and endpoints of both IP versions
    #[arg(long)]
    dual_stack: bool,
    /// Let the server send lists in pages, as one without streaming lists does
    #[arg(long)]
    paged: bool,
    /// Changes a second while latency is measured
    #[arg(long, value_name = "N", default_value_t = 20)]
    rate: u32,
    /// Changes whose latency is measured
    #[arg(long, value_name = "N", default_value_t = 1000)]
    changes: u32,
    /// Changes of the flood, sent as fast as they are taken
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    churn: u32,
    /// Measure this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// How the results are printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Forms of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table, for people
    Table,
    /// One JSON object on stdout; progress goes to stderr
    Json,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match &bench.other {
        None => {
            if let Some(report) = &bench.compare.report {
                return compare::write_page(report);
            }
        }
        Some(Other::Maglev) => {
            setup::run()?;
            let bench = ["bench", "--package", "proxy-agent", "--bench", "maglev"];
            return command::run(command::cargo().args(bench));
        }
        Some(Other::Packet { arguments }) => {
            setup::run()?;
            // The kernel measures: how the bench itself is optimised does not matter.
            let bench = ["bench", "--profile", "dev", "--package", "proxy-tests"];
            return command::run(
                command::cargo()
                    .args(bench)
                    .args(["--bench", "packet", "--"])
                    .args(arguments),
            );
        }
        Some(Other::ConnectCaller(arguments)) => return connect::caller::run(arguments),
        Some(Other::Workload(arguments)) => return workload::run(arguments),
        // The kernel takes the time.
        Some(Other::Restart(arguments)) if arguments.agent.is_some() => {
            return restart::run(arguments, &agent(arguments.agent.as_ref()));
        }
        Some(Other::Failover(arguments)) if arguments.agent.is_some() => {
            return failover::run(arguments, &agent(arguments.agent.as_ref()));
        }
        Some(Other::Limits(arguments)) if arguments.agent.is_some() => {
            return limits::run(arguments, &agent(arguments.agent.as_ref()));
        }
        Some(Other::Scale(arguments)) if arguments.output == Output::Json => {
            terminal::keep_stdout_for_results();
        }
        Some(_) => {}
    }
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    match &bench.other {
        None => compare::run(&bench.compare, &agent(bench.compare.agent.as_ref())),
        Some(Other::Scale(arguments)) => measure_scale(arguments),
        Some(Other::Connect(arguments)) => {
            connect::run(arguments, &agent(arguments.agent.as_ref()))
        }
        Some(Other::Restart(arguments)) => {
            restart::run(arguments, &agent(arguments.agent.as_ref()))
        }
        Some(Other::Failover(arguments)) => {
            failover::run(arguments, &agent(arguments.agent.as_ref()))
        }
        Some(Other::Limits(arguments)) => limits::run(arguments, &agent(arguments.agent.as_ref())),
        Some(
            Other::ConnectCaller(_) | Other::Workload(_) | Other::Maglev | Other::Packet { .. },
        ) => Ok(()),
    }
}

fn measure_scale(arguments: &ScaleArgs) -> Result<()> {
    let results = scale::measure(arguments, &agent(arguments.agent.as_ref()))?;
    match arguments.output {
        Output::Table => scale::report::print_table(&results),
        Output::Json => println!("{}", scale::report::json(&results)),
    }
    Ok(())
}

/// The agent that was named, or that is built here.
fn agent(named: Option<&PathBuf>) -> PathBuf {
    let built = || paths::target().join("release/proxy-agent");
    named.cloned().unwrap_or_else(built)
}

/// Goes on as the release build of ourselves, which holds the API server: without
/// optimisation the server and not the agent would be measured.
fn run_optimised() -> Result<()> {
    setup::run()?;
    terminal::heading("Build");
    let packages = ["--package", "proxy-agent", "--package", "xtask"];
    command::run(command::cargo().args(["build", "--release"]).args(packages))?;
    let mut optimised = Command::new(paths::target().join("release/xtask"));
    Err(optimised.args(env::args_os().skip(1)).exec()).context("cannot run the release build")
}
