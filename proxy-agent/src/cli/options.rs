//! The options of the command `run`.
//!
//! What is also in the configuration file has no default here: what is not given is
//! left as the file has it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::logging::LogArgs;
use crate::config::{
    AttachWay, DEFAULT_BPFFS, DEFAULT_MAPS, DEFAULT_NAT_PORTS, NO_BPFFS, PortRange, Settings,
    SocketPathMode, Source, XdpChoice,
};
use crate::model::object::{Algorithm, Forwarding};
use crate::source::kube::KubeSettings;

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

/// Uplinks on which XDP is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum XdpKind {
    /// Hardware, or what a hypervisor shows as such, and bonds of it.
    Auto,
    /// All. Breaks packets whose checksum hardware is yet to complete, such as those of
    /// containers and virtual machines of the same host.
    Always,
    /// None.
    Never,
}

/// Ways to choose an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AlgorithmKind {
    /// Any one, each as likely as the others.
    Random,
    /// By consistent hashing: every node sends a client to the same one.
    Maglev,
}

/// Ways to endpoints of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ForwardingKind {
    /// With this node's address as their source: answers come back by this node.
    Snat,
    /// In a tunnel, with the client's address: the endpoint's node answers the client
    /// directly (DSR).
    Dsr,
}

/// Whose sockets are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SocketPathKind {
    /// Everybody's: a Service's address is translated once, when a process connects.
    On,
    /// The host's own. Pods' packets are translated, one by one.
    HostOnly,
    /// Nobody's. The host's own processes reach no Service then.
    Off,
}

/// The options.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file of a kube-proxy (`KubeProxyConfiguration`), as it is;
    /// behind it may stand a `ProxyAgentConfiguration`. It is watched: most settings
    /// take effect at once. Options given here count more than the file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Remove what agents have left on this machine, and end: what is pinned, filters on
    /// devices, and a clsact qdisc where that is empty then. No agent may run.
    #[arg(long)]
    pub(super) cleanup: bool,

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

    /// The name of the Node object that stands for this machine; by default the
    /// machine's host name.
    #[arg(
        long,
        visible_alias = "node-name",
        value_name = "NAME",
        env = "NODE_NAME"
    )]
    hostname_override: Option<String>,

    #[arg(long, value_name = "FIRST-LAST", help = with_default(
        "Source ports of flows that leave with this node's address; NodePorts, the \
         host's ephemeral ports (net.ipv4.ip_local_port_range) and those that its \
         sockets are bound to are left out of them",
        DEFAULT_NAT_PORTS,
    ))]
    nat_ports: Option<PortRange>,

    /// Give all outside traffic this node's address, also where the backend is
    /// local and could see the client's.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    masquerade_all: Option<bool>,

    /// How programs are attached to devices; by default `auto`.
    #[arg(long, value_enum, value_name = "WAY")]
    attach: Option<AttachKind>,

    #[arg(long, value_name = "DIR|none", help = with_default(
        "The BPF file system in which maps and programs are pinned, so that they go on \
         without the agent, and its successor goes on from them; with `none` a stop \
         takes them away",
        DEFAULT_BPFFS,
    ))]
    bpffs: Option<PathBuf>,

    /// On which uplinks XDP is used, where their drivers have it; by default `auto`.
    #[arg(long, value_enum, value_name = "WHERE")]
    xdp: Option<XdpKind>,

    /// How connections from outside choose their endpoint, where a Service has no
    /// annotation `proxy-agent/lb-algorithm`; by default `random`.
    #[arg(long, value_enum, value_name = "NAME")]
    lb_algorithm: Option<AlgorithmKind>,

    /// How connections from outside reach endpoints of other nodes, where a Service has no
    /// annotation `proxy-agent/forwarding`; by default `snat`.
    #[arg(long, value_enum, value_name = "HOW")]
    forwarding: Option<ForwardingKind>,

    /// Whose sockets are served before there are packets; by default `on`.
    #[arg(long, value_enum, value_name = "WHOSE")]
    socket_path: Option<SocketPathKind>,

    /// The cgroup below which sockets are served; by default the root of all.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,

    /// Leave the sockets of Pods with the label `proxy-agent/socket-path: "off"` alone.
    /// Needs the right to list and watch Pods.
    #[arg(long)]
    pod_opt_out: bool,

    #[arg(long, value_name = "ADDRESS:PORT", help = with_default(
        "Where `/healthz` (for load balancers) and `/livez` (for probes) answer",
        Settings::default().health_address,
    ))]
    healthz_bind_address: Option<SocketAddr>,

    #[arg(long, value_name = "ADDRESS:PORT", help = with_default(
        "Where `/metrics` answers",
        Settings::default().metrics_address,
    ))]
    metrics_bind_address: Option<SocketAddr>,

    #[command(flatten)]
    maps: MapArgs,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Map sizes (elements for each IP version)")]
#[expect(clippy::struct_field_names, reason = "the fields name the options")]
struct MapArgs {
    #[arg(long, value_name = "N", value_parser = elements(), help = with_default(
        "Frontends: ClusterIPs, NodePorts and load balancer addresses, times ports",
        DEFAULT_MAPS.frontends,
    ))]
    map_frontends: Option<u32>,

    #[arg(long, value_name = "N", value_parser = elements(), help = with_default(
        "Backends: endpoints, times Service ports",
        DEFAULT_MAPS.backends,
    ))]
    map_backends: Option<u32>,

    #[arg(long, value_name = "N", value_parser = elements(), help = with_default(
        "Slots: places in endpoint sets; at least twice the backends. Shared by both \
         IP versions",
        DEFAULT_MAPS.slots,
    ))]
    map_slots: Option<u32>,

    #[arg(long, value_name = "N", value_parser = elements(), help = with_default(
        "Flow records, two for each connection; the least recently used give way",
        DEFAULT_MAPS.flows,
    ))]
    map_flows: Option<u32>,
}

/// Help for an option whose default is the configuration's.
fn with_default(help: &str, default: impl Display) -> String {
    format!("{help} [default: {default}]")
}

/// Sizes that the kernel can be asked for without doubt.
fn elements() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(16..=1 << 26)
}

impl RunArgs {
    /// Puts what is given here in the place of what the file says.
    pub(super) fn override_settings(&self, settings: &mut Settings) {
        let given = self.hostname_override.as_deref().map(str::trim);
        if let Some(name) = given.filter(|name| !name.is_empty()) {
            settings.node_name = Some(name.to_lowercase());
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            settings.kubeconfig = Some(kubeconfig.clone());
        }
        set(&mut settings.masquerade_all, self.masquerade_all);
        set(&mut settings.health_address, self.healthz_bind_address);
        set(&mut settings.metrics_address, self.metrics_bind_address);
        set(&mut settings.log.json, self.log.json());
        let own = &mut settings.own;
        set(&mut own.nat_ports, self.nat_ports);
        set(&mut own.maps.frontends, self.maps.map_frontends);
        set(&mut own.maps.backends, self.maps.map_backends);
        set(&mut own.maps.slots, self.maps.map_slots);
        set(&mut own.maps.flows, self.maps.map_flows);
        let attach = self.attach.map(|kind| match kind {
            AttachKind::Auto => AttachWay::Auto,
            AttachKind::Tcx => AttachWay::Tcx,
            AttachKind::Clsact => AttachWay::Clsact,
        });
        set(&mut own.attach, attach);
        let bpffs = self.bpffs.clone();
        set(
            &mut own.bpffs,
            bpffs.map(|path| (path.as_os_str() != NO_BPFFS).then_some(path)),
        );
        let xdp = self.xdp.map(|kind| match kind {
            XdpKind::Auto => XdpChoice::Auto,
            XdpKind::Always => XdpChoice::Always,
            XdpKind::Never => XdpChoice::Never,
        });
        set(&mut own.xdp, xdp);
        let algorithm = self.lb_algorithm.map(|kind| match kind {
            AlgorithmKind::Random => Algorithm::Random,
            AlgorithmKind::Maglev => Algorithm::Maglev,
        });
        set(&mut own.algorithm, algorithm);
        let forwarding = self.forwarding.map(|kind| match kind {
            ForwardingKind::Snat => Forwarding::Snat,
            ForwardingKind::Dsr => Forwarding::Dsr,
        });
        set(&mut own.forwarding, forwarding);
        let socket_path = self.socket_path.map(|kind| match kind {
            SocketPathKind::On => SocketPathMode::On,
            SocketPathKind::HostOnly => SocketPathMode::HostOnly,
            SocketPathKind::Off => SocketPathMode::Off,
        });
        set(&mut own.socket_path, socket_path);
        own.pod_opt_out |= self.pod_opt_out;
        if let Some(cgroup) = &self.cgroup {
            own.cgroup = Some(cgroup.clone());
        }
    }

    /// Where the objects come from, under `settings`.
    pub(super) fn source(&self, settings: &Settings) -> Source {
        match (self.source, &self.manifests) {
            (SourceKind::Files, Some(manifests)) => Source::Files(manifests.clone()),
            _ => Source::Kube(KubeSettings {
                kubeconfig: settings.kubeconfig.clone(),
                master: self.master.clone(),
                pods: settings.own.pod_opt_out,
            }),
        }
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        run: RunArgs,
    }

    /// What options make of settings that a file could have.
    fn over_a_file(options: &[&str]) -> Settings {
        let mut settings = Settings {
            node_name: Some("of-the-file".to_owned()),
            kubeconfig: Some("/file".into()),
            masquerade_all: true,
            ..Settings::default()
        };
        let line = ["proxy-agent"].iter().chain(options);
        let whole = Whole::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        whole.run.override_settings(&mut settings);
        settings
    }

    #[test]
    fn only_options_that_are_given_count_more_than_the_file() {
        let untouched = over_a_file(&[]);
        assert_eq!(untouched.node_name.as_deref(), Some("of-the-file"));
        assert!(untouched.masquerade_all);
        for (options, change) in [
            (
                &["--hostname-override", " Node1 "][..],
                (|it| it.node_name = Some("node1".to_owned())) as fn(&mut Settings),
            ),
            (&["--node-name=node1"], |it| {
                it.node_name = Some("node1".to_owned());
            }),
            (&["--hostname-override="], |_| {}),
            (&["--masquerade-all=false"], |it| it.masquerade_all = false),
            (&["--masquerade-all"], |_| {}),
            (&["--kubeconfig", "/f"], |it| {
                it.kubeconfig = Some("/f".into());
            }),
            (&["--metrics-bind-address", "127.0.0.1:1"], |it| {
                it.metrics_address = ([127, 0, 0, 1], 1).into();
            }),
            (&["--map-flows=64"], |it| it.own.maps.flows = 64),
            (&["--attach=clsact"], |it| it.own.attach = AttachWay::Clsact),
            (&["--bpffs=none"], |it| it.own.bpffs = None),
            (&["--bpffs=/b"], |it| it.own.bpffs = Some("/b".into())),
            (&["--xdp=never"], |it| it.own.xdp = XdpChoice::Never),
            (&["--lb-algorithm=maglev"], |it| {
                it.own.algorithm = Algorithm::Maglev;
            }),
            (&["--forwarding=dsr"], |it| {
                it.own.forwarding = Forwarding::Dsr;
            }),
            (&["--socket-path=host-only"], |it| {
                it.own.socket_path = SocketPathMode::HostOnly;
            }),
            (&["--pod-opt-out"], |it| it.own.pod_opt_out = true),
            (&["--cgroup", "/c"], |it| it.own.cgroup = Some("/c".into())),
            (&["--log-format=json"], |it| it.log.json = true),
        ] {
            let mut expected = untouched.clone();
            change(&mut expected);
            assert_eq!(over_a_file(options), expected, "{options:?}");
        }
    }
}
