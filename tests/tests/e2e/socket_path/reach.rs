//! Every frontend, by programs of the system.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Cluster, Family, Options, PodNetwork, Tally, mirror};

use super::{ON, configured, mirrors, python};
use crate::metrics::{metrics, value};
use crate::world::{DNS_NODE_PORT, EDGE_NODE_PORT, WEB_NODE_PORT, World, cluster_ip};

/// That one of two endpoints never gets its turn happens once in a hundred thousand.
const REQUESTS: usize = 18;

fn loopback(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::LOCALHOST, port).into(),
        Family::V6 => (Ipv6Addr::LOCALHOST, port).into(),
    }
}

fn all_answer(to: SocketAddr, endpoints: &[&str], ask: impl Fn(SocketAddr) -> Result<String>) {
    let tally = Tally::until_answered_by(endpoints.len(), REQUESTS, || ask(to));
    assert_eq!(tally.failures, Vec::<String>::new(), "{to}");
    let answered: BTreeSet<_> = tally.answers.keys().map(String::as_str).collect();
    assert_eq!(answered, endpoints.iter().copied().collect(), "{to}");
}

fn host_reaches_all(network: PodNetwork) -> Result<()> {
    let world = World::with_arguments(network, &ON)?;
    let host = &world.cluster.nodes[0].namespace;
    for family in Family::BOTH {
        for to in [
            SocketAddr::new(cluster_ip("web", family), 80),
            world.node_port(1, family, WEB_NODE_PORT),
            loopback(family, WEB_NODE_PORT),
        ] {
            all_answer(to, &["pod-1-1", "pod-2-1"], |to| client::http(host, to));
        }
        let vip = match family {
            Family::V4 => "192.0.2.20:80".parse()?,
            Family::V6 => "[2001:db8::20]:80".parse()?,
        };
        // External policy Local, and the only endpoint is on the other node: the host
        // itself is inside the cluster.
        for to in [
            vip,
            world.node_port(1, family, EDGE_NODE_PORT),
            loopback(family, EDGE_NODE_PORT),
        ] {
            all_answer(to, &["pod-2-3"], |to| client::http(host, to));
        }
        for to in [
            SocketAddr::new(cluster_ip("dns", family), 53),
            world.node_port(1, family, DNS_NODE_PORT),
            loopback(family, DNS_NODE_PORT),
        ] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let ask = |to| client::dns(host, to, transport);
                all_answer(to, &["pod-1-2", "pod-2-2"], ask);
            }
        }
    }
    Ok(())
}

#[test]
fn host_processes_reach_every_frontend_in_a_bridged_pod_network() -> Result<()> {
    host_reaches_all(PodNetwork::Bridge)
}

#[test]
fn host_processes_reach_every_frontend_in_a_routed_pod_network() -> Result<()> {
    host_reaches_all(PodNetwork::Routed)
}

#[test]
#[expect(clippy::float_cmp, reason = "what is counted is whole")]
fn connections_of_pods_are_no_flows_of_packets() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    let host = &world.cluster.nodes[0].namespace;
    let flows = || value(&metrics(host)?, "proxy_agent_flows_created_total", &[]);
    let before = flows()?;
    let pod = &world.cluster.pod(1, 3).namespace;
    for family in Family::BOTH {
        for to in [
            SocketAddr::new(cluster_ip("web", family), 80),
            world.node_port(1, family, WEB_NODE_PORT),
        ] {
            all_answer(to, &["pod-1-1", "pod-2-1"], |to| client::http(pod, to));
        }
        let edge = world.node_port(1, family, EDGE_NODE_PORT);
        all_answer(edge, &["pod-2-3"], |to| client::http(pod, to));
        let dns = SocketAddr::new(cluster_ip("dns", family), 53);
        let ask = |to| client::dns(pod, to, Transport::Tcp);
        all_answer(dns, &["pod-1-2", "pod-2-2"], ask);
    }
    assert_eq!(flows()?, before);
    Ok(())
}

/// A Service with external IPs, and a load balancer's with the policy Local; both with
/// an endpoint on the other node only.
fn external(world: &World) -> Result<()> {
    world.after_programming(|| {
        mirror::add(&world.manifests)?;
        let service = world.manifests.read(mirror::NAME)?;
        let service = service.replace(
            "  type: NodePort\n",
            "  type: NodePort\n  externalIPs: [198.51.100.77, '2001:db8:7::77', 203.0.113.77]\n",
        );
        world.manifests.write(mirror::NAME, &service)
    })?;
    world.scale(mirror::NAME, &[(2, 1)])
}

#[test]
#[expect(clippy::float_cmp, reason = "what is counted is whole")]
fn external_addresses_are_served_at_sockets_as_the_policy_says() -> Result<()> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Routed,
        ..Options::default()
    })?;
    let own = "externalIPs: [198.51.100.0/24, '2001:db8:7::/64']";
    let world = configured(cluster, own)?;
    let _servers = mirror::start(world.cluster.pods())?;
    external(&world)?;
    let host = &world.cluster.nodes[0].namespace;
    let flows = || value(&metrics(host)?, "proxy_agent_flows_created_total", &[]);
    let before = flows()?;
    let script = r#"
it = open_socket(address, TCP)
result = attempt(it.connect, (address, port))
if result == "ok":
    it.send(b"who\n")
    result = it.recv(100).decode().split()[0]
print(result)
"#;
    for (who, from) in world.host_and_pod() {
        for address in ["198.51.100.77", "2001:db8:7::77"] {
            let to = SocketAddr::new(address.parse()?, mirror::PORT);
            assert_eq!(
                python(from, script, to, &[])?,
                "pod-2-1",
                "{who}, {address}"
            );
        }
        // Inside the cluster, whatever the external policy: the endpoint is elsewhere.
        for vip in ["192.0.2.20:80", "[2001:db8::20]:80"] {
            let vip = vip.parse()?;
            assert_eq!(client::http(from, vip)?, "pod-2-3", "{who}, {vip}");
        }
        // An address that may not be one.
        let to = SocketAddr::new("203.0.113.77".parse()?, mirror::PORT);
        assert_ne!(python(from, script, to, &[])?, "pod-2-1", "{who}");
    }
    // The same where this node has an endpoint too: all of them are the cluster's.
    world.scale("edge", &[(1, 3), (2, 3)])?;
    for (_, from) in world.host_and_pod() {
        for vip in ["192.0.2.20:80", "[2001:db8::20]:80"] {
            all_answer(vip.parse()?, &["pod-1-3", "pod-2-3"], |to| {
                client::http(from, to)
            });
        }
    }
    assert_eq!(flows()?, before, "no packet was translated");
    Ok(())
}

/// A connection to oneself: who answers whom, and what the client takes for its peer.
const SELF: &str = r#"
it = open_socket(address, TCP)
it.connect((address, port))
it.send(b"who\n")
name, peer = it.recv(100).decode().split()
print(name, peer.removeprefix("::ffff:"), *it.getpeername()[:2])
"#;

#[test]
fn a_pod_reaches_itself_through_its_own_service() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &ON, &[(1, 1)])?;
    let pod = world.cluster.pod(1, 1);
    for family in Family::BOTH {
        let to = mirror::cluster_ip(family);
        let own = pod.addresses.of(family);
        let told = python(&pod.namespace, SELF, to, &[])?;
        assert_eq!(told, format!("pod-1-1 {own} {} {}", to.ip(), to.port()));
    }
    Ok(())
}
