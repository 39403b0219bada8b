//! The lab of one variant: two nodes with a Pod each, a client outside, Services, and what
//! serves them on both nodes.

use std::{
    fs::{self, File},
    net::SocketAddrV4,
    panic,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::{
    apiserver::{self, ApiServer},
    lab::{Agent, Cluster, Namespace, Node, Options, PodNetwork, addresses},
};

use super::{
    super::{
        objects::{self, ENDPOINT_PORT},
        rules::Rules,
        stand,
        workload::Worker,
    },
    load::{self, ENDPOINTS, Load, UDP_PORT},
    variant::Variant,
};

/// How long an agent may take to have all Services in its maps.
const PATIENCE: Duration = Duration::from_mins(2);

/// Fields drop in order: processes before their namespaces.
pub(super) struct Lab {
    pub(super) variant: Variant,
    /// In the Pod of node1; on the CPU of the servers, so that a question and its answer are
    /// one sequence of work.
    pub(super) client: Worker,
    /// The same place, on another CPU than the servers.
    pub(super) sender: Worker,
    /// Outside of the cluster, on another CPU than the servers.
    pub(super) outside: Worker,
    /// The servers, in the Pods of node1 and node2.
    pub(super) servers: [Option<Worker>; 2],
    /// Of each node, where there are some.
    pub(super) agents: Vec<Agent>,
    _api: Option<ApiServer>,
    pub(super) cluster: Cluster,
}

impl Lab {
    /// Lays out the lab, and tries each Service that is called.
    pub(super) fn new(variant: Variant, load: &Load, cables: Cables, agent: &Path) -> Result<Self> {
        let cluster = Cluster::new(Options {
            network: PodNetwork::Routed,
            pods_per_node: 1,
        })?;
        if cables == Cables::LikeHardware {
            cluster.make_cables_like_hardware()?;
        }
        prepare(&cluster)?;
        let [far, near] = [1, 0].map(|cpu: usize| cpu.min(cpus() - 1));
        let [first, second] = [1, 2].map(|node| &cluster.pod(node, 1).namespace);
        let server = |place| Worker::server(place, far, ENDPOINT_PORT, UDP_PORT).map(Some);
        let servers = [server(first)?, server(second)?];
        let client = Worker::client(first, far)?;
        let sender = Worker::client(first, near)?;
        let outside = Worker::client(&cluster.client, near)?;
        let (api, agents) = serve(variant, load, &cluster, agent)?;
        let mut lab = Self {
            variant,
            client,
            sender,
            outside,
            servers,
            agents,
            _api: api,
            cluster,
        };
        lab.check(load)
            .with_context(|| format!("{} with {} Services", variant.name(), load.services))?;
        Ok(lab)
    }

    /// The Services that are called answer, and so does the Pod.
    fn check(&mut self, load: &Load) -> Result<()> {
        self.client.connect(load::direct(), 1)?;
        if self.variant != Variant::None {
            for (position, address) in &load.probes {
                let tried = self.client.connect(*address, 1);
                tried.with_context(|| format!("the {position} Service"))?;
            }
        }
        Ok(())
    }

    /// The server in the Pod of a node.
    pub(super) fn server(&mut self, node: u8) -> Result<&mut Worker> {
        let server = self.servers[usize::from(node) - 1].as_mut();
        server.context("the server was ended")
    }
}

/// What the nodes' cables are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cables {
    /// As veth devices are: checksums are not computed, and segments not cut.
    Virtual,
    /// As XDP needs it (`Cluster::make_cables_like_hardware`).
    LikeHardware,
}

/// How many CPUs there are.
pub(super) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// What is the same in all labs.
fn prepare(cluster: &Cluster) -> Result<()> {
    for pod in cluster.pods() {
        // Closed connections' ports are used again after a second.
        pod.namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let ports = "1024 65535";
        pod.namespace
            .sysctl("net/ipv4/ip_local_port_range", ports)?;
    }
    for node in &cluster.nodes {
        for device in ["all", "eth0"] {
            // Else the client outside would go around node1.
            let setting = format!("net/ipv4/conf/{device}/send_redirects");
            node.namespace.sysctl(&setting, "0")?;
        }
    }
    let via = addresses::node(1).v4;
    let routes = [1, 2].map(|node| addresses::pod_ranges(node).0);
    cluster
        .client
        .ip(&routes.map(|range| format!("route add {range} via {via}")))
}

/// Starts or loads what serves the Services, on both nodes.
fn serve(
    variant: Variant,
    load: &Load,
    cluster: &Cluster,
    agent: &Path,
) -> Result<(Option<ApiServer>, Vec<Agent>)> {
    match variant {
        Variant::None => {}
        Variant::Iptables | Variant::Nftables => {
            let load = |node: &Node| {
                let rules = load.rules(node.number)?;
                load_rules(variant, &rules, &node.namespace, cluster.directory.path())
            };
            on_all(&cluster.nodes, &load)?;
        }
        Variant::Tc | Variant::Xdp | Variant::Socket => {
            let api = api_server(cluster, load)?;
            let agents = start_agents(variant, load, cluster, &api, agent)?;
            return Ok((Some(api), agents));
        }
    }
    Ok((None, Vec::new()))
}

/// Does the same on all nodes at once: each namespace has a lock of its own.
fn on_all(nodes: &[Node], work: &(impl Fn(&Node) -> Result<()> + Sync)) -> Result<()> {
    thread::scope(|scope| {
        let started = nodes.iter().map(|node| scope.spawn(move || work(node)));
        let started: Vec<_> = started.collect();
        let join = |it: thread::ScopedJoinHandle<'_, _>| {
            it.join().unwrap_or_else(|it| panic::resume_unwind(it))
        };
        started.into_iter().try_for_each(join)
    })
}

/// Lines of rules for nftables that are loaded at once where their number does not matter:
/// for each anonymous set, of which each Service has one, the kernel walks through all that
/// the transaction has so far (`__nft_set_trans_bind` in `net/netfilter/nf_tables_api.c`).
const AT_ONCE: usize = 2_000;

/// Loads rules for others to be measured with, in the quickest way.
pub(in super::super) fn load_rules(
    variant: Variant,
    rules: &Rules,
    place: &Namespace,
    directory: &Path,
) -> Result<()> {
    if variant == Variant::Iptables {
        sync_rules(variant, rules, place, directory)?;
        return Ok(());
    }
    set_up_conntrack(place)?;
    let text = rules.nftables();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let file = directory.join(format!("rules of {}", place.name()));
    // Nothing is named before the line that adds it.
    for lines in lines.chunks(AT_ONCE) {
        fs::write(&file, lines.concat()).with_context(|| format!("{}: write", file.display()))?;
        run_loader("nft", &["-f", "-"], &file, place)?;
    }
    Ok(())
}

/// Loads rules as kube-proxy does in a full sync; how long the program took.
pub(super) fn sync_rules(
    variant: Variant,
    rules: &Rules,
    place: &Namespace,
    directory: &Path,
) -> Result<Duration> {
    let (program, arguments, text): (_, &[&str], _) = if variant == Variant::Iptables {
        ("iptables-restore", &["--noflush"], rules.iptables())
    } else {
        ("nft", &["-f", "-"], rules.nftables())
    };
    set_up_conntrack(place)?;
    let file = directory.join(format!("rules of {}", place.name()));
    fs::write(&file, text).with_context(|| format!("{}: write", file.display()))?;
    run_loader(program, arguments, &file, place)
}

/// What kube-proxy sets by default (`KubeProxyConntrackConfiguration`).
fn set_up_conntrack(place: &Namespace) -> Result<()> {
    let setting = |state: &str| format!("net/netfilter/nf_conntrack_tcp_timeout_{state}");
    place.sysctl(&setting("established"), "86400")?;
    place.sysctl(&setting("close_wait"), "3600")
}

/// Runs a program on a file of rules; how long it took.
pub(super) fn run_loader(
    program: &str,
    arguments: &[&str],
    file: &Path,
    place: &Namespace,
) -> Result<Duration> {
    let mut command = place.command(program);
    command.args(arguments).stdin(File::open(file)?);
    let began = Instant::now();
    let output = command.output().context(program.to_owned())?;
    let took = began.elapsed();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", errors.trim());
    Ok(took)
}

/// An API server outside of the cluster that has the load's objects.
fn api_server(cluster: &Cluster, load: &Load) -> Result<ApiServer> {
    let api = cluster.client.run(|| {
        ApiServer::start(apiserver::Options {
            ip: addresses::client().v4.into(),
            ..apiserver::Options::default()
        })
    })??;
    for node in &cluster.nodes {
        api.apply(objects::node(&node.name, node.addresses.v4));
    }
    for object in &load.objects {
        api.apply(object.clone());
    }
    Ok(api)
}

fn start_agents(
    variant: Variant,
    load: &Load,
    cluster: &Cluster,
    api: &ApiServer,
    agent: &Path,
) -> Result<Vec<Agent>> {
    let sizes = stand::map_sizes(load.services, ENDPOINTS);
    let options = variant.options().context("not the agent's variant")?;
    let arguments: Vec<_> = options
        .into_iter()
        .chain(sizes.iter().map(String::as_str))
        .collect();
    let start = |node| Agent::start_at(agent, node, &api.url(), &arguments);
    let agents = cluster
        .nodes
        .iter()
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    for (agent, node) in agents.iter().zip(&cluster.nodes) {
        stand::wait_for_services(agent, PATIENCE)?;
        agent.wait_attached(&node.pods[0].device)?;
    }
    Ok(agents)
}

/// A call of a Service or of a Pod in one of several labs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Which lab.
    pub(super) lab: usize,
    pub(super) to: SocketAddrV4,
}
