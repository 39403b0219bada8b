//! What `connect` costs with and without the socket path.

pub(super) mod caller;

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use proxy_tests::lab::{Agent, Family, Namespace, mirror};

pub(crate) use caller::CallerArgs;
use caller::{Figures, Work};

use super::nodes;
use crate::terminal;

/// How much.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Connections whose `connect` is timed, for each row
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections: u32,
    /// Measure this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
}

/// One measurement.
struct Row {
    what: String,
    figures: Figures,
}

/// Measures, and prints a table.
pub(super) fn run(arguments: &ConnectArgs, agent: &Path) -> Result<()> {
    terminal::heading("Connect");
    let (cluster, manifests) = nodes::lay_out(1)?;
    let server = cluster.pod(2, 1);
    mirror::add(&manifests)?;
    manifests.set_endpoints(mirror::NAME, &[server])?;
    answer_all(&server.namespace)?;
    let (pod, host) = (&cluster.pod(1, 1).namespace, &cluster.nodes[0].namespace);
    for client in [pod, host] {
        // Closed connections' ports are used again after a second.
        client.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    }
    let direct = SocketAddr::new(server.addresses.of(Family::V4), mirror::PORT);
    let service = mirror::cluster_ip(Family::V4);

    let mut rows = Vec::new();
    for mode in ["off", "on"] {
        terminal::note(&format!("socket path {mode}"));
        let agents = cluster
            .nodes
            .iter()
            .map(|node| {
                let arguments = ["--socket-path", mode];
                Agent::start_with(agent, node, manifests.path(), &arguments)
            })
            .collect::<Result<Vec<_>>>()?;
        for (agent, node) in agents.iter().zip(&cluster.nodes) {
            agent.wait_programmed()?;
            agent.wait_attached(&node.pods[0].device)?;
        }
        let mut measure = |what: &str, from: &Namespace, to, work| -> Result<()> {
            let figures = call(from, to, work, arguments.connections)?;
            let what = format!("socket path {mode}: {what}");
            rows.push(Row { what, figures });
            Ok(())
        };
        for (name, to) in [("the Pod directly", direct), ("the ClusterIP", service)] {
            measure(&format!("Pod, TCP, {name}"), pod, to, Work::Tcp)?;
            measure(
                &format!("Pod, TCP and a question, {name}"),
                pod,
                to,
                Work::Ask,
            )?;
        }
        measure("host, UDP, the Pod directly", host, direct, Work::Udp)?;
        if mode == "on" {
            measure("host, UDP, the ClusterIP", host, service, Work::Udp)?;
        }
    }
    print_table(&rows, arguments.connections);
    Ok(())
}

/// Answers a line with a line, on every connection, for as long as this process runs.
fn answer_all(server: &Namespace) -> Result<()> {
    let listener = server.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, mirror::PORT)))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

/// Until the client closes or is gone.
fn answer(stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        reader.get_mut().write_all(line.as_bytes()).ok()?;
        line.clear();
    }
    Some(())
}

/// Has a process in a namespace, and in its cgroup, make the calls.
fn call(from: &Namespace, to: SocketAddr, work: Work, connections: u32) -> Result<Figures> {
    let mut command = from.command(env::current_exe()?);
    command.args(["bench", "connect-caller", "--work", work.name()]);
    command.args(["--to", &to.to_string()]);
    command.args(["--connections", &connections.to_string()]);
    let output = command.output().context("cannot run the caller")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the caller failed: {errors}");
    Figures::parse(&String::from_utf8(output.stdout)?)
}

fn print_table(rows: &[Row], connections: u32) {
    terminal::heading(&format!(
        "{connections} connections each, one after the other"
    ));
    println!(
        "  {:<58} {:>10} {:>10} {:>10}",
        "", "median", "p99", "a second"
    );
    for Row { what, figures } in rows {
        println!(
            "  {what:<58} {:>7.1} µs {:>7.1} µs {:>10.0}",
            figures.p50.as_secs_f64() * 1e6,
            figures.p99.as_secs_f64() * 1e6,
            figures.rate
        );
    }
}
