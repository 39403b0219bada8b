//! Whose packets this agent does not translate, although their addresses and ports are those
//! of a frontend: Pods that the node masquerades, the host's own connections, and segments
//! of no connection.

use std::fmt::Write as _;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::spoof::segment;
use proxy_tests::lab::{
    Echo, Family, Namespace, Node, Pod, PodNetwork, Spoofer, addresses, sockets,
};
use proxy_tests::packets::tcp_flags::{ACK, RST, SYN};
use serde_json::Value;

use super::many::{add_mirror, echoes, made_and_refused, none_is_lost, use_ports_again};
use crate::rules::edit;
use crate::world::World;
use crate::xdp;

const PATIENCE: Duration = Duration::from_secs(10);
const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];
/// An address of a load balancer, which leads to node1.
const VIP: &str = "203.0.113.1";

/// Has netfilter masquerade what the node's Pods send to the client outside, as CNI plugins do.
pub(crate) fn masquerade(node: &Node, how: &str) -> Result<()> {
    let (v4, v6) = addresses::pod_ranges(node.number);
    let to = addresses::client();
    // Or many flows would use up netfilter's ports.
    for timeout in ["udp_timeout", "udp_timeout_stream", "tcp_timeout_time_wait"] {
        let setting = format!("net/netfilter/nf_conntrack_{timeout}");
        node.namespace.sysctl(&setting, "2")?;
    }
    node.namespace.nft(&format!(
        "table inet pods {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {v4} ip daddr {} meta l4proto {{ tcp, udp }} masquerade {how}
                ip6 saddr {v6} ip6 daddr {} meta l4proto {{ tcp, udp }} masquerade {how}
            }}
        }}",
        to.v4, to.v6
    ))
}

/// A server outside the cluster.
pub(crate) fn outside(family: Family) -> SocketAddr {
    SocketAddr::new(addresses::client().of(family), mirror::PORT)
}

/// Adds a Service with so many NodePorts, from 30100 on, of TCP and UDP in turn, and one endpoint.
pub(crate) fn add_node_ports(world: &World, count: u16, endpoint: &Pod) -> Result<()> {
    let mut service = "\
apiVersion: v1
kind: Service
metadata: {name: many, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.78
  clusterIPs: [10.96.0.78, 'fd00:10:96::78']
  ports:
"
    .to_owned();
    let mut ports = String::new();
    let target = mirror::PORT;
    for number in 0..count {
        let (port, node_port) = (1000 + number, 30_100 + number);
        let protocol = ["TCP", "UDP"][usize::from(number % 2)];
        let of = format!("name: port-{number}, protocol: {protocol}");
        writeln!(
            service,
            "    - {{{of}, port: {port}, nodePort: {node_port}}}"
        )?;
        writeln!(ports, "  - {{{of}, port: {target}}}")?;
    }
    let slice = |family: Family| {
        let (address, node) = (endpoint.addresses.of(family), &endpoint.node);
        let name = format!("many-{}", family.to_string().to_lowercase());
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, namespace: default, \
             labels: {{kubernetes.io/service-name: many}}}}\n\
             addressType: {family}\nports:\n{ports}\
             endpoints: [{{addresses: ['{address}'], nodeName: {node}}}]\n"
        )
    };
    let text = [service, slice(Family::V4), slice(Family::V6)].join("---\n");
    world.after_programming(|| world.manifests.write("many", &text))
}

/// That whom a Pod asks outside is heard, where the answers come to a NodePort.
fn masqueraded_pods_are_answered(world: &World) -> Result<()> {
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let _outside = Echo::start(client, "outside")?;
    let port = format!("to :{}", mirror::NODE_PORT);
    masquerade(&world.cluster.nodes[0], &port)?;
    for family in Family::BOTH {
        for transport in TRANSPORTS {
            pod.run(|| three_answers(outside(family), transport, None))?
                .with_context(|| format!("{family}, {transport:?}"))?;
            // Beside the NodePort's own clients.
            let node_port = world.node_port(1, family, mirror::NODE_PORT);
            client.run(|| mirror::ask(node_port, transport))??;
        }
    }
    Ok(())
}

#[test]
fn answers_to_a_masqueraded_pod_come_through_at_a_port_that_is_a_node_port() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let (world, _servers) = echoes(network, &[], &[(2, 1), (1, 1)])?;
        masqueraded_pods_are_answered(&world).with_context(|| format!("{network:?}"))?;
    }
    Ok(())
}

#[test]
fn answers_to_a_masqueraded_pod_come_through_xdp_at_a_port_that_is_a_node_port() -> Result<()> {
    let world = xdp::world()?;
    let _servers = Echo::start_all(world.cluster.pods())?;
    add_mirror(&world, &[(2, 1), (1, 1)])?;
    masqueraded_pods_are_answered(&world)
}

/// That what is outside answers, several times on one socket, at a chosen port or any.
fn three_answers(to: SocketAddr, transport: Transport, port: Option<u16>) -> Result<()> {
    let mut conversation = match (port, transport) {
        (None, _) => Conversation::open(to, transport)?,
        (Some(port), Transport::Tcp) => {
            let stream = sockets::connect_from(port, to, PATIENCE)?;
            Conversation::Tcp(BufReader::new(stream))
        }
        (Some(port), Transport::Udp) => {
            let socket = sockets::udp_at(port, to, PATIENCE)?;
            socket.connect(to)?;
            Conversation::Udp(socket)
        }
    };
    for number in 0..3 {
        let answer = conversation.ask();
        let answer = answer.with_context(|| format!("question {number}"))?;
        ensure!(answer.pod == "outside", "{answer:?}");
    }
    Ok(())
}

fn the_hosts_own_flows_are_answered(world: &World, port: u16) -> Result<()> {
    let host = &world.cluster.nodes[0].namespace;
    for family in Family::BOTH {
        for transport in TRANSPORTS {
            host.run(|| three_answers(outside(family), transport, Some(port)))?
                .with_context(|| format!("{family}, {transport:?} from port {port}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_host_may_use_a_node_port_as_the_source_port_of_its_own_flows() -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], &[(2, 1), (1, 1)])?;
    let _outside = Echo::start(&world.cluster.client, "outside")?;
    the_hosts_own_flows_are_answered(&world, mirror::NODE_PORT)
}

/// The load balancer has the node's own address, as in small clusters.
#[test]
fn a_host_may_use_a_load_balancers_port_as_the_source_port_of_its_own_flows() -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], &[(2, 1), (1, 1)])?;
    let client = &world.cluster.client;
    let _outside = Echo::start(client, "outside")?;
    let own = addresses::node(1);
    edit(&world, |service| {
        let ingress = format!("[{{ip: {}}}, {{ip: '{}'}}]", own.v4, own.v6);
        service.replace("type: NodePort", "type: LoadBalancer")
            + &format!("status: {{loadBalancer: {{ingress: {ingress}}}}}\n")
    })?;
    for family in Family::BOTH {
        let balancer = world.node_port(1, family, mirror::PORT);
        client
            .run(|| mirror::ask(balancer, Transport::Tcp))?
            .with_context(|| format!("the load balancer at {balancer}"))?;
    }
    the_hosts_own_flows_are_answered(&world, mirror::PORT)
}

#[test]
fn no_flow_of_a_masqueraded_pod_is_lost_beside_two_thousand_node_ports() -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], &[(2, 1)])?;
    let _outside = Echo::start(&world.cluster.client, "outside")?;
    add_node_ports(&world, 2000, world.cluster.pod(2, 1))?;
    masquerade(&world.cluster.nodes[0], "fully-random")?;
    let pod = &world.cluster.pod(1, 3).namespace;
    use_ports_again(pod)?;
    for family in Family::BOTH {
        for transport in TRANSPORTS {
            none_is_lost(pod, outside(family), transport, 1000)?;
        }
    }
    Ok(())
}

/// Whether a segment that no connection has is answered by a reset, from where it went.
fn is_reset(by: &Spoofer, own: SocketAddr, to: SocketAddr, flags: u8) -> Result<bool> {
    let is_answered = flags & RST == 0;
    let patience = if is_answered {
        PATIENCE
    } else {
        // Nothing is to come.
        Duration::from_millis(200)
    };
    by.send(&segment(own, to, flags, [7, 9]))?;
    let family = if own.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let heard = by.hear(family, patience, |it| {
        it.port == own.port() && it.source == to
    })?;
    Ok(heard.is_some_and(|it| it.flags & RST != 0))
}

#[test]
fn a_segment_of_no_connection_is_reset_and_opens_none() -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], &[(2, 1), (1, 1)])?;
    edit(&world, |service| {
        service.replace("type: NodePort", "type: LoadBalancer")
            + &format!("status: {{loadBalancer: {{ingress: [{{ip: {VIP}}}]}}}}\n")
    })?;
    let (pod, client) = (world.cluster.pod(1, 3), &world.cluster.client);
    let node = world.node_port(1, Family::V4, 0).ip();
    client.ip(&[format!("route add {VIP}/32 via {node}")])?;
    let (inside, outside) = (Spoofer::new(&pod.namespace)?, Spoofer::new(client)?);
    let host = &world.cluster.nodes[0].namespace;
    let before = made_and_refused(host)?;
    let mut ports = 41_000..;
    let mut check = |by: &Spoofer, own: IpAddr, to: SocketAddr| -> Result<()> {
        for (flags, wanted) in [(ACK, true), (SYN | ACK, true), (RST, false)] {
            let own = SocketAddr::new(own, ports.next().context("a port")?);
            let reset = is_reset(by, own, to, flags)?;
            ensure!(reset == wanted, "flags {flags:#x} to {to}: {reset}");
        }
        Ok(())
    };
    for family in Family::BOTH {
        let own = addresses::client().of(family);
        check(
            &inside,
            pod.addresses.of(family),
            mirror::cluster_ip(family),
        )?;
        let node_port = world.node_port(1, family, mirror::NODE_PORT);
        check(&outside, own, node_port)?;
    }
    let balancer = SocketAddr::new(VIP.parse()?, mirror::PORT);
    check(&outside, addresses::client().of(Family::V4), balancer)?;
    assert_eq!(made_and_refused(host)?, before, "flows made");
    Ok(())
}

/// The host's own stack gets it: its netfilter and its sockets own such ports too.
#[test]
fn a_segment_of_no_connection_to_a_node_port_is_the_hosts() -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], &[(2, 1), (1, 1)])?;
    let host = &world.cluster.nodes[0].namespace;
    host.nft(&format!(
        "table inet seen {{
            counter segments {{ }}
            chain input {{
                type filter hook input priority filter
                tcp dport {} counter name segments
            }}
        }}",
        mirror::NODE_PORT
    ))?;
    let client = Spoofer::new(&world.cluster.client)?;
    let own = addresses::client();
    for family in Family::BOTH {
        let node_port = world.node_port(1, family, mirror::NODE_PORT);
        for flags in [ACK, SYN | ACK, RST] {
            let own = SocketAddr::new(own.of(family), 41_000);
            client.send(&segment(own, node_port, flags, [7, 9]))?;
        }
    }
    assert_eq!(counted(host)?, 6);
    Ok(())
}

/// What nftables' counters of a namespace have counted.
fn counted(host: &Namespace) -> Result<u64> {
    let mut nft = host.command("nft");
    let output = nft.args(["-j", "list", "counters"]).output()?;
    let list: Value = serde_json::from_slice(&output.stdout)?;
    let objects = list["nftables"].as_array().context("nft's list")?;
    let packets = objects.iter().map(|it| &it["counter"]["packets"]);
    Ok(packets.filter_map(Value::as_u64).sum())
}
