//! The command line.

mod logging;
mod preflight;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::attach::AttachWay;
use crate::config::{
    Config, DEFAULT_HEALTH_ADDRESS, DEFAULT_MAPS, DEFAULT_METRICS_ADDRESS, DEFAULT_NAT_PORTS,
    PortRange, Source,
};
use crate::maps::MapSizes;
use crate::source::kube::KubeSettings;

/// The Kubernetes Service proxy on eBPF: sends Service traffic to backend Pods,
/// in place of kube-proxy, with any CNI.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve this node's Services until stopped.
    ///
    /// Loads the eBPF programs, attaches them to every edge device (uplinks,
    /// tunnels, host ends of pods' devices) as devices come and go, and keeps the
    /// kernel's maps in step with the objects of the source. SIGINT and SIGTERM
    /// stop it; the programs are detached then.
    ///
    /// Needs root, or the capabilities BPF, `NET_ADMIN` and PERFMON; Linux 5.15 or newer.
    ///
    /// Exit status: 0 when stopped by a signal, 1 when it could not start or
    /// cannot go on, 2 for wrong usage.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
}

const RUN_EXAMPLES: &str = "Examples:
  Serve a cluster's Services, as this machine's Node:
    proxy-agent run --node-name node1 --kubeconfig /etc/kubernetes/proxy.conf

  Serve the Services in a folder of manifests, as node1:
    proxy-agent run --source files --manifests manifests/examples --node-name node1

  The same with logs for a machine to read:
    proxy-agent run --source files --manifests manifests/examples --node-name node1 --log-format json";

/// Kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SourceKind {
    /// The cluster's API server.
    Kube,
    /// A folder of YAML or JSON manifests, watched for changes.
    Files,
}

/// Ways to attach programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AttachKind {
    /// tcx where the kernel has it (Linux 6.6), else clsact filters.
    Auto,
    /// Only tcx.
    Tcx,
    /// Only clsact filters, for tools that do not know tcx.
    Clsact,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Where Services, EndpointSlices and Nodes come from.
    #[arg(long, value_enum, default_value_t = SourceKind::Kube)]
    source: SourceKind,

    /// The folder of manifests, for `--source files`.
    #[arg(long, value_name = "DIR", required_if_eq("source", "files"))]
    manifests: Option<PathBuf>,

    /// A kubeconfig file, for `--source kube`; without one the pod's service account
    /// is used.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The API server's address, in place of the configured one, such as
    /// `https://192.0.2.1:6443`. It must not be the address of the Service
    /// `kubernetes`, which this proxy itself makes reachable.
    #[arg(long, value_name = "URL")]
    master: Option<String>,

    /// The name of the Node object that stands for this machine.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,

    /// Ports that flows get when they leave with this node's address. No socket of
    /// the host, no NodePort and no ephemeral port may lie in it.
    #[arg(long, value_name = "FIRST-LAST", default_value_t = DEFAULT_NAT_PORTS)]
    nat_ports: PortRange,

    /// Give all outside traffic this node's address, also where the backend is
    /// local and could see the client's.
    #[arg(long)]
    masquerade_all: bool,

    /// How programs are attached to devices.
    #[arg(long, value_enum, value_name = "WAY", default_value_t = AttachKind::Auto)]
    attach: AttachKind,

    /// Where `/healthz` (for load balancers) and `/livez` (for probes) answer.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = DEFAULT_HEALTH_ADDRESS)]
    healthz_bind_address: SocketAddr,

    /// Where `/metrics` answers.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = DEFAULT_METRICS_ADDRESS)]
    metrics_bind_address: SocketAddr,

    #[command(flatten)]
    maps: MapArgs,

    #[command(flatten)]
    log: logging::LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Map sizes (elements for each IP version)")]
#[expect(clippy::struct_field_names, reason = "the fields name the options")]
struct MapArgs {
    /// Frontends: ClusterIPs, NodePorts and load balancer addresses, times ports.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAPS.frontends, value_parser = elements())]
    map_frontends: u32,

    /// Backends: endpoints, times Service ports.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAPS.backends, value_parser = elements())]
    map_backends: u32,

    /// Slots: places in endpoint sets; at least twice the backends. Shared by both
    /// IP versions.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAPS.slots, value_parser = elements())]
    map_slots: u32,

    /// Flow records, two for each connection; the least recently used give way.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAPS.flows, value_parser = elements())]
    map_flows: u32,
}

/// Sizes that the kernel can be asked for without doubt.
fn elements() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(16..=1 << 26)
}

impl RunArgs {
    fn config(&self) -> Config {
        Config {
            node_name: self.node_name.clone(),
            source: match (self.source, &self.manifests) {
                (SourceKind::Files, Some(manifests)) => Source::Files(manifests.clone()),
                _ => Source::Kube(KubeSettings {
                    kubeconfig: self.kubeconfig.clone(),
                    master: self.master.clone(),
                }),
            },
            maps: MapSizes {
                frontends: self.maps.map_frontends,
                backends: self.maps.map_backends,
                slots: self.maps.map_slots,
                flows: self.maps.map_flows,
                ..DEFAULT_MAPS
            },
            nat_ports: self.nat_ports,
            masquerade_all: self.masquerade_all,
            health_address: self.healthz_bind_address,
            metrics_address: self.metrics_bind_address,
            attach: match self.attach {
                AttachKind::Auto => AttachWay::Auto,
                AttachKind::Tcx => AttachWay::Tcx,
                AttachKind::Clsact => AttachWay::Clsact,
            },
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    logging::start(&args.log);
    match run::run(args.config()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
