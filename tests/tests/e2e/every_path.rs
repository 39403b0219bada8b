//! One packet at least through each path, in one cluster: quick enough to be run on every
//! kernel.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Agent, Cluster, Family, Manifests, Namespace, Options, PodNetwork};
use serde_json::Value;

use crate::metrics::{metrics, value};
use crate::world::{agent_program, print_log};
use crate::xdp::by_xdp;

/// A Service, whose addresses and ports follow from its number.
struct Service {
    name: &'static str,
    number: u16,
    /// Where the endpoint is: node and pod.
    endpoint: Option<(usize, usize)>,
    /// The port of the endpoint.
    target: u16,
    annotations: &'static str,
}

const NEAR: Service = Service {
    name: "near",
    number: 1,
    endpoint: Some((1, 1)),
    target: mirror::PORT,
    annotations: "{}",
};
const FAR: Service = Service {
    name: "far",
    number: 2,
    endpoint: Some((2, 1)),
    ..NEAR
};
/// With direct return.
const DIRECT: Service = Service {
    name: "direct",
    number: 3,
    annotations: "{proxy-agent/forwarding: dsr}",
    ..FAR
};
const NOBODY: Service = Service {
    name: "nobody",
    number: 4,
    endpoint: None,
    ..NEAR
};
/// The endpoint does not listen.
const DEAF: Service = Service {
    name: "deaf",
    number: 5,
    target: 9,
    ..NEAR
};

/// The frontends' port of ClusterIPs.
const PORT: u16 = 80;
/// Longer than a packet.
const LONG: usize = 5000;

impl Service {
    fn cluster_ip(&self, family: Family) -> SocketAddr {
        let number = self.number;
        let text = match family {
            Family::V4 => format!("10.96.1.{number}"),
            Family::V6 => format!("fd00:10:96::1:{number}"),
        };
        let address: IpAddr = text.parse().expect("an address");
        SocketAddr::new(address, PORT)
    }

    fn node_port(&self, cluster: &Cluster, node: usize, family: Family) -> SocketAddr {
        let address = cluster.nodes[node - 1].addresses.of(family);
        SocketAddr::new(address, self.port_of_nodes())
    }

    fn port_of_nodes(&self) -> u16 {
        30_100 + self.number
    }

    fn pod(&self) -> String {
        self.endpoint
            .map(|(node, pod)| format!("pod-{node}-{pod}"))
            .unwrap_or_default()
    }

    /// The Service and its slices.
    fn manifest(&self, cluster: &Cluster) -> Result<String> {
        let Self {
            name, annotations, ..
        } = self;
        let node_port = self.port_of_nodes();
        let [v4, v6] = Family::BOTH.map(|family| self.cluster_ip(family).ip());
        let mut text = format!(
            "apiVersion: v1\nkind: Service\n\
             metadata: {{name: {name}, namespace: default, annotations: {annotations}}}\n\
             spec:\n  type: NodePort\n  clusterIP: {v4}\n  clusterIPs: [{v4}, '{v6}']\n  ports:\n"
        );
        for protocol in ["TCP", "UDP"] {
            let port = format!("name: {protocol}, protocol: {protocol}, port: {PORT}");
            writeln!(text, "    - {{{port}, nodePort: {node_port}}}")?;
        }
        for family in Family::BOTH {
            text += &self.slice(cluster, family);
        }
        Ok(text)
    }

    fn slice(&self, cluster: &Cluster, family: Family) -> String {
        let Self { name, target, .. } = self;
        let endpoints = self.endpoint.map(|(node, pod)| {
            let address = cluster.pod(node, pod).addresses.of(family);
            format!("{{addresses: ['{address}'], nodeName: node{node}}}")
        });
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-{family}, namespace: default, \
             labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: {family}\n\
             ports: [{{name: TCP, protocol: TCP, port: {target}}}, \
             {{name: UDP, protocol: UDP, port: {target}}}]\n\
             endpoints: [{}]\n",
            endpoints.unwrap_or_default()
        )
    }
}

/// The first node has all that its kernel can do; the second has filters in place of tcx.
pub(crate) fn start(cluster: &Cluster) -> Result<Vec<Agent>> {
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    for service in [NEAR, FAR, DIRECT, NOBODY, DEAF] {
        manifests.write(service.name, &service.manifest(cluster)?)?;
    }
    let arguments = [
        ["--xdp=always", "--socket-path=on"],
        ["--attach=clsact", "--xdp=never"],
    ];
    let agents = cluster.nodes.iter().zip(arguments);
    let agents: Result<Vec<_>> = agents
        .map(|(node, arguments)| {
            Agent::start_with(&agent_program(), node, manifests.path(), &arguments)
        })
        .collect();
    let agents = agents?;
    for (agent, node) in agents.iter().zip(&cluster.nodes) {
        agent.wait_programmed()?;
        agent.wait_attached("eth0")?;
        for pod in &node.pods {
            agent.wait_attached(&pod.device)?;
        }
    }
    agents[0].wait_for(0, |event| message(event) == Some("XDP attached"))?;
    Ok(agents)
}

fn message(event: &Value) -> Option<&str> {
    event["fields"]["message"].as_str()
}

/// What the agent says that its kernel has.
fn kernel(agent: &Agent) -> Result<Value> {
    let mut event = agent.wait_for(0, |event| message(event) == Some("kernel"))?;
    Ok(event["fields"].take())
}

/// Several packets, so that XDP gets those behind the first; whether that takes fragments
/// as well.
fn is_answered(from: &Namespace, to: SocketAddr, pod: &str) -> Result<()> {
    let asked = from.run(|| -> Result<()> {
        for transport in [Transport::Tcp, Transport::Udp] {
            let mut conversation = Conversation::open(to, transport)?;
            for _ in 0..2 {
                let answer = conversation.ask()?;
                ensure!(answer.pod == pod, "{} answered {transport:?}", answer.pod);
            }
        }
        mirror::ask_at_length(to, LONG).context("in fragments")?;
        Ok(())
    })?;
    asked.with_context(|| format!("{pod} from {} by {to}", from.name()))
}

fn is_refused(from: &Namespace, to: SocketAddr) -> Result<()> {
    for transport in [Transport::Tcp, Transport::Udp] {
        let asked = from.run(|| mirror::ask(to, transport))?;
        let error = asked.err().context("an answer by nobody")?;
        let kind = error.downcast_ref::<Error>().map(Error::kind);
        let (place, refused) = (from.name(), Some(ErrorKind::ConnectionRefused));
        ensure!(
            kind == refused,
            "from {place} to {to} by {transport:?}: {error:#}"
        );
    }
    Ok(())
}

/// Packets of hosts, at whose sockets there are no hooks.
pub(crate) fn from_hosts(cluster: &Cluster, family: Family) -> Result<()> {
    for node in &cluster.nodes {
        for service in [NEAR, FAR] {
            is_answered(&node.namespace, service.cluster_ip(family), &service.pod())?;
        }
        is_refused(&node.namespace, NOBODY.cluster_ip(family))?;
        is_refused(&node.namespace, DEAF.cluster_ip(family))?;
    }
    Ok(())
}

/// Packets of pods and from outside.
pub(crate) fn packets(cluster: &Cluster, family: Family) -> Result<()> {
    let outside = &cluster.client;
    for pod in [cluster.pod(1, 2), cluster.pod(2, 2)] {
        for service in [NEAR, FAR] {
            is_answered(&pod.namespace, service.cluster_ip(family), &service.pod())?;
        }
        is_refused(&pod.namespace, NOBODY.cluster_ip(family))?;
        is_refused(&pod.namespace, DEAF.cluster_ip(family))?;
    }
    for (pod, service) in [((1, 1), NEAR), ((2, 1), FAR)] {
        let itself = &cluster.pod(pod.0, pod.1).namespace;
        is_answered(itself, service.cluster_ip(family), &service.pod())?;
    }
    for node in [1, 2] {
        for service in [NEAR, FAR, DIRECT] {
            let to = service.node_port(cluster, node, family);
            is_answered(outside, to, &service.pod())?;
        }
        is_refused(outside, NOBODY.node_port(cluster, node, family))?;
        is_refused(outside, DEAF.node_port(cluster, node, family))?;
    }
    Ok(())
}

/// Asks by the shell's own sockets, in the node's cgroup; what it says of an error comes back
/// as one.
fn ask_by_socket(from: &Namespace, to: SocketAddr, device: &str) -> Result<String> {
    let (address, port) = (to.ip(), to.port());
    // `head` takes a datagram as a whole.
    let script = format!(
        "exec 3<>/dev/{device}/{address}/{port} && echo who >&3 && timeout 30 head -n 1 <&3"
    );
    let output = from.command("bash").args(["-c", &script]).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{to}: {told}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Calls of processes of the host and of a pod.
fn sockets(cluster: &Cluster, family: Family, refusal: &str) -> Result<()> {
    let host = &cluster.nodes[0].namespace;
    for from in [host, &cluster.pod(1, 2).namespace] {
        for device in ["tcp", "udp"] {
            for service in [NEAR, FAR] {
                let answer = ask_by_socket(from, service.cluster_ip(family), device)?;
                ensure!(answer.starts_with(&service.pod()), "{answer}");
            }
            let told = ask_by_socket(from, NOBODY.cluster_ip(family), device);
            let told = told.err().context("an answer by nobody")?.to_string();
            ensure!(told.contains(refusal), "{told}");
        }
    }
    Ok(())
}

/// A count of the first node.
fn count(cluster: &Cluster, name: &str, label: (&str, &str)) -> Result<f64> {
    value(&metrics(&cluster.nodes[0].namespace)?, name, &[label])
}

/// Where the kernel has no tcx, and nothing else may be used.
fn tcx_is_refused(cluster: &Cluster) -> Result<()> {
    let folder = cluster.directory.path().join("manifests");
    let node = &cluster.nodes[0];
    let agent = Agent::start_with(&agent_program(), node, &folder, &["--attach=tcx"])?;
    let error = agent.wait_for(0, |event| event["level"] == "ERROR")?;
    let told = message(&error).unwrap_or_default();
    ensure!(
        told.contains("has no tcx (since Linux 6.6): set `--attach auto`"),
        "{told}"
    );
    Ok(())
}

#[test]
fn is_taken_by_a_packet() -> Result<()> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Bridge,
        pods_per_node: 2,
    })?;
    cluster.make_cables_like_hardware()?;
    let _servers = mirror::start([cluster.pod(1, 1), cluster.pod(2, 1)])?;
    let agents = start(&cluster)?;
    let outcome = take_each(&cluster, &agents[0]);
    agents.iter().for_each(print_log);
    outcome
}

fn take_each(cluster: &Cluster, agent: &Agent) -> Result<()> {
    let kernel = kernel(agent)?;
    println!("{kernel}");
    for family in Family::BOTH {
        packets(cluster, family)?;
    }
    let [delivered, sent] = by_xdp(&cluster.nodes[0].namespace)?;
    // XDP sends by a cable only where the kernel says that it may redirect to it.
    let may_send = kernel["xdp_redirect_targets"] == true;
    ensure!(
        delivered > 0.0 && (sent > 0.0) == may_send,
        "{delivered} delivered, {sent} sent by XDP"
    );
    let label = ("direction", "encapsulated");
    let encapsulated = count(cluster, "proxy_agent_tunnel_packets_total", label)?;
    ensure!(encapsulated > 0.0, "nothing went into a tunnel");
    // A device without Ethernet headers.
    cluster.nodes[0].namespace.ip(&[
        "tuntap add layer3 mode tun".into(),
        "link set layer3 up".into(),
    ])?;
    agent.wait_attached("layer3")?;
    if kernel["tcx"] == false {
        tcx_is_refused(cluster)?;
    }
    if kernel["netns_cookie"] == true {
        let refusal = if kernel["set_retval"] == true {
            "Connection refused"
        } else {
            "Operation not permitted"
        };
        for family in Family::BOTH {
            sockets(cluster, family, refusal)?;
        }
    } else {
        println!("skipped: the socket path; this kernel has no SO_NETNS_COOKIE");
        agent.wait_for(0, |event| {
            message(event).is_some_and(|it| it.starts_with("cannot attach the socket path"))
        })?;
    }
    Ok(())
}
