//! A node goes dark, and its endpoints stay in the API: what becomes of new connections.

mod page;
mod plot;
mod summary;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use proxy_tests::lab::{
    Agent, Cluster, Family, Manifests, Namespace, Options, PodNetwork, Process, addresses, mirror,
};
use serde_json::{Value, json};

use super::{
    compare::{self, Variant},
    report::Machine,
    rules::Rules,
    workload::{Attempt, Worker},
};
use crate::{interrupt, terminal};
use summary::Summary;

/// How often it is tried, and where the results go.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// Connections a second from each place
    #[arg(long, value_name = "N", default_value_t = 100)]
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

/// The endpoints (node, Pod): the last one is on the node that goes dark.
const ENDPOINTS: [(u8, u8); 3] = [(1, 1), (1, 2), (2, 1)];

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A Pod of node1, to the ClusterIP.
    Pod,
    /// Outside of the cluster, to a NodePort of node1.
    Outside,
}

impl Place {
    const ALL: [Self; 2] = [Self::Pod, Self::Outside];

    fn name(self) -> &'static str {
        match self {
            Self::Pod => "from a Pod",
            Self::Outside => "from outside",
        }
    }

    fn in_lab(self, cluster: &Cluster) -> (&Namespace, SocketAddr) {
        match self {
            Self::Pod => (&cluster.pod(1, 3).namespace, mirror::cluster_ip(Family::V4)),
            Self::Outside => (
                &cluster.client,
                (addresses::node(1).v4, mirror::NODE_PORT).into(),
            ),
        }
    }
}

/// What became of the connections of one place, with one variant.
struct Run {
    variant: Variant,
    place: Place,
    attempts: Vec<Attempt>,
}

/// What serves the Service on node1. Fields drop in order.
struct Served {
    _agent: Option<Agent>,
    _servers: Vec<Process>,
    cluster: Cluster,
}

/// Measures, and prints a table.
pub(super) fn run(arguments: &FailoverArgs, program: &Path) -> Result<()> {
    terminal::heading("Failover");
    terminal::note("one of three endpoints is on a node that goes dark for 20 seconds");
    interrupt::clean_up()?;
    let mut runs = Vec::new();
    for variant in [
        Variant::Iptables,
        Variant::Nftables,
        Variant::Tc,
        Variant::Socket,
    ] {
        terminal::note(variant.name());
        let served = serve(variant, program).context(variant.name())?;
        runs.extend(go_dark(variant, &served.cluster, arguments.rate).context(variant.name())?);
    }
    let rows: Vec<_> = runs.iter().map(Summary::of).collect();
    print!("{}", page::table(&rows));
    if arguments.write {
        page::write(
            &rows,
            &plot::draw(&runs)?,
            arguments.rate,
            &Machine::this()?,
        )?;
    }
    Ok(())
}

fn serve(variant: Variant, program: &Path) -> Result<Served> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Routed,
        pods_per_node: 3,
    })?;
    let pods = ENDPOINTS.map(|(node, pod)| cluster.pod(node.into(), pod.into()));
    let servers = mirror::start(pods)?;
    let node = &cluster.nodes[0];
    let agent = match variant.options() {
        None => {
            let rules = Rules::of(&compare::rules_node(1)?, objects())?;
            compare::load_rules(variant, &rules, &node.namespace, cluster.directory.path())?;
            None
        }
        Some(options) => {
            let manifests = Manifests::copy_examples(cluster.directory.path())?;
            mirror::add(&manifests)?;
            manifests.set_endpoints(mirror::NAME, &pods)?;
            let agent = Agent::start_with(program, node, manifests.path(), &options)?;
            agent.wait_programmed()?;
            for device in ["eth0", &cluster.pod(1, 3).device] {
                agent.wait_attached(device)?;
            }
            Some(agent)
        }
    };
    Ok(Served {
        _agent: agent,
        _servers: servers,
        cluster,
    })
}

/// The Service and its endpoints, as an API server has them.
fn objects() -> Vec<Value> {
    let cluster_ip = mirror::cluster_ip(Family::V4).ip().to_string();
    let endpoints = ENDPOINTS.map(|(node, pod)| {
        json!({
            "addresses": [addresses::pod(node, pod).v4.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node{node}"),
        })
    });
    vec![
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": mirror::NAME, "namespace": "default"},
            "spec": {
                "type": "NodePort", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{"name": "tcp", "protocol": "TCP", "port": mirror::PORT,
                    "targetPort": mirror::PORT, "nodePort": mirror::NODE_PORT}],
            },
            "status": {"loadBalancer": {}},
        }),
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": mirror::NAME, "namespace": "default",
                "labels": {"kubernetes.io/service-name": mirror::NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "tcp", "protocol": "TCP", "port": mirror::PORT}],
            "endpoints": endpoints,
        }),
    ]
}

/// Connects from all places at once, while node2 goes dark and comes back.
fn go_dark(variant: Variant, cluster: &Cluster, rate: u32) -> Result<Vec<Run>> {
    let dark = &cluster.nodes[1].namespace;
    thread::scope(|scope| {
        let running = Place::ALL.map(|place| {
            let (from, to) = place.in_lab(cluster);
            let connect = move || -> Result<_> {
                let mut client = Worker::client(from, 0)?;
                client.connect_steadily(to, rate, END, PATIENCE)
            };
            (place, scope.spawn(connect))
        });
        thread::sleep(DARK);
        dark.nft(DARKEN)?;
        thread::sleep(LIGHT.saturating_sub(DARK));
        dark.nft(LIGHTEN)?;
        let ended = running.into_iter().map(|(place, it)| {
            let attempts = it
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Run {
                variant,
                place,
                attempts: attempts.context(place.name())?,
            })
        });
        ended.collect()
    })
}

/// The name of the Pod on the node that goes dark.
fn dark_endpoint() -> String {
    let (node, pod) = ENDPOINTS[2];
    format!("pod-{node}-{pod}")
}
