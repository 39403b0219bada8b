//! A cluster with the agent on both nodes and servers in every pod.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Agent, Cluster, Family, Manifests, Options, PodNetwork, Process, server};
use serde_json::Value;

/// NodePort of the Service `web`.
pub(crate) const WEB_NODE_PORT: u16 = 30080;
/// NodePort of the Service `edge`, whose external policy is Local.
pub(crate) const EDGE_NODE_PORT: u16 = 30081;
/// NodePort of the Service `dns`.
pub(crate) const DNS_NODE_PORT: u16 = 30053;

/// How many lines of an agent's log are shown.
const LOG_TAIL: usize = 30;

/// The agent's program: where `cargo xtask test` built it.
pub(crate) fn agent_program() -> PathBuf {
    std::env::var_os("PROXY_AGENT_BIN")
        .map(PathBuf::from)
        .expect("PROXY_AGENT_BIN names the agent: run these tests by `cargo xtask test`")
}

/// A running cluster.
pub(crate) struct World {
    /// The agents, by node. Before the cluster: they stop first.
    pub(crate) agents: Vec<Agent>,
    /// The servers of each kind, by pod.
    pub(crate) http: Vec<Process>,
    _dns: Vec<Process>,
    /// The folder that the agents watch.
    pub(crate) manifests: Manifests,
    /// The namespaces.
    pub(crate) cluster: Cluster,
}

impl World {
    /// A cluster whose agents serve the example manifests.
    pub(crate) fn new(network: PodNetwork) -> Result<Self> {
        Self::with_arguments(network, &[])
    }

    /// The same, with more arguments for the agents.
    pub(crate) fn with_arguments(network: PodNetwork, arguments: &[&str]) -> Result<Self> {
        let cluster = Cluster::new(Options {
            network,
            ..Options::default()
        })?;
        Self::on(cluster, arguments)
    }

    /// The same, with an agent on node 2 alone.
    pub(crate) fn without_agent_on_node_1(network: PodNetwork) -> Result<Self> {
        let cluster = Cluster::new(Options {
            network,
            ..Options::default()
        })?;
        Self::with_agents_on(cluster, &[2], &[])
    }

    /// The same, on a cluster that is there.
    pub(crate) fn on(cluster: Cluster, arguments: &[&str]) -> Result<Self> {
        Self::with_agents_on(cluster, &[1, 2], arguments)
    }

    fn with_agents_on(cluster: Cluster, nodes: &[usize], arguments: &[&str]) -> Result<Self> {
        let directory = cluster.directory.path();
        let manifests = Manifests::copy_examples(directory)?;
        let http = server::start_http(directory, cluster.pods())?;
        let dns = server::start_dns(cluster.pods())?;
        let program = agent_program();
        let agents = nodes
            .iter()
            .map(|number| &cluster.nodes[number - 1])
            .map(|node| Agent::start_with(&program, node, manifests.path(), arguments))
            .collect::<Result<Vec<_>>>()?;
        let world = Self {
            agents,
            http,
            _dns: dns,
            manifests,
            cluster,
        };
        for (agent, number) in world.agents.iter().zip(nodes) {
            let node = &world.cluster.nodes[number - 1];
            agent.wait_programmed()?;
            agent.wait_attached("eth0")?;
            for pod in &node.pods {
                agent.wait_attached(&pod.device)?;
            }
        }
        Ok(world)
    }

    /// Makes the pods (node, number) the endpoints of a Service, and returns when
    /// both nodes have programmed that.
    pub(crate) fn scale(&self, service: &str, pods: &[(usize, usize)]) -> Result<()> {
        let pods: Vec<_> = pods
            .iter()
            .map(|(node, pod)| self.cluster.pod(*node, *pod))
            .collect();
        let marks = self.marks();
        if self.manifests.set_endpoints(service, &pods)? {
            self.wait(&marks, Agent::wait_ports_programmed_after)?;
        }
        Ok(())
    }

    /// Makes a change of Services or their endpoints, and returns when both nodes have
    /// programmed it.
    pub(crate) fn after_programming(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let marks = self.marks();
        change()?;
        self.wait(&marks, Agent::wait_ports_programmed_after)
    }

    /// Makes a change of what holds for all Services, and returns when both nodes have
    /// programmed it.
    pub(crate) fn after_setting(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let marks = self.marks();
        change()?;
        self.wait(&marks, Agent::wait_programmed_after)
    }

    fn marks(&self) -> Vec<usize> {
        self.agents.iter().map(Agent::mark).collect()
    }

    fn wait(&self, marks: &[usize], wait: impl Fn(&Agent, usize) -> Result<Value>) -> Result<()> {
        let mut agents = self.agents.iter().zip(marks);
        agents.try_for_each(|(agent, mark)| wait(agent, *mark).map(drop))
    }

    /// A node's address with a port.
    pub(crate) fn node_port(&self, node: usize, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.cluster.nodes[node - 1].addresses.of(family), port)
    }

    /// The client's address as the HTTP server of a pod logged it for the request
    /// that `ask` makes.
    pub(crate) fn peer_seen_by(
        &self,
        pod: &str,
        ask: impl FnOnce() -> Result<()>,
    ) -> Result<IpAddr> {
        let at = self
            .cluster
            .pods()
            .position(|candidate| candidate.name == pod)
            .context("a pod of this cluster")?;
        let mark = self.http[at].mark();
        ask()?;
        let line =
            self.http[at].wait_for_line_after(mark, std::time::Duration::from_secs(5), |line| {
                line.contains("response:")
            })?;
        let peer = line.split(": ").next().unwrap_or_default();
        let peer: SocketAddr = peer
            .parse()
            .with_context(|| format!("a peer in {line:?}"))?;
        Ok(peer.ip().to_canonical())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.agents.iter().for_each(print_log);
    }
}

/// Prints the end of an agent's log, whatever became of the test: a test that ends by
/// `?` does not panic, and the runner shows the output of failed tests only.
pub(crate) fn print_log(agent: &Agent) {
    let log = agent.log();
    println!("--- the log of {} ends:", agent.name());
    for line in &log[log.len().saturating_sub(LOG_TAIL)..] {
        println!("{line}");
    }
}

/// The ClusterIP of an example Service.
pub(crate) fn cluster_ip(service: &str, family: Family) -> IpAddr {
    let last = match service {
        "web" => "10",
        "edge" => "20",
        "dns" => "53",
        other => panic!("no example Service {other}"),
    };
    let text = match family {
        Family::V4 => format!("10.96.0.{last}"),
        Family::V6 => format!("fd00:10:96::{last}"),
    };
    text.parse().unwrap()
}
