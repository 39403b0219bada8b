//! Every frontend, by programs of the system.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, PodNetwork, Tally};

use super::ON;
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
    let tally = Tally::of(REQUESTS, || ask(to));
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
    let flows = || value(&metrics(host)?, "proxy_agent_flows_made_total", &[]);
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

#[test]
fn a_pod_reaches_itself_through_its_own_service() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Routed, &ON)?;
    world.scale("web", &[(1, 1)])?;
    let pod = &world.cluster.pod(1, 1).namespace;
    for family in Family::BOTH {
        let to = SocketAddr::new(cluster_ip("web", family), 80);
        all_answer(to, &["pod-1-1"], |to| client::http(pod, to));
    }
    Ok(())
}
