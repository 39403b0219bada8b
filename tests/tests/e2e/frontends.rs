//! Every kind of frontend, from every place, over both families, in both kinds
//! of pod network.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, Namespace, PodNetwork, Tally};

use crate::world::{DNS_NODE_PORT, WEB_NODE_PORT, World, cluster_ip};

/// With two endpoints and random choice, that one of them never gets its turn
/// happens once in a quarter of a million tallies.
const REQUESTS: usize = 18;

/// Asks the ClusterIP and both nodes' NodePorts from a pod with a local backend, a
/// pod of the other node, and outside; every endpoint answers, nothing fails.
fn every_client_reaches_every_endpoint(
    world: &World,
    service: &str,
    (port, node_port): (u16, u16),
    endpoints: [&str; 2],
    ask: impl Fn(&Namespace, SocketAddr) -> Result<String>,
) {
    let cluster = &world.cluster;
    let clients = [
        ("a pod of node1", &cluster.pod(1, 3).namespace),
        ("a pod of node2", &cluster.pod(2, 3).namespace),
        ("a client outside", &cluster.client),
    ];
    for family in Family::BOTH {
        for frontend in [
            SocketAddr::new(cluster_ip(service, family), port),
            world.node_port(1, family, node_port),
            world.node_port(2, family, node_port),
        ] {
            for (client, namespace) in &clients {
                let tally = Tally::until_answered_by(endpoints.len(), REQUESTS, || {
                    ask(namespace, frontend)
                });
                assert_eq!(
                    tally.failures,
                    Vec::<String>::new(),
                    "{client} to {service} at {frontend}"
                );
                let answered: BTreeSet<_> = tally.answers.keys().map(String::as_str).collect();
                assert_eq!(
                    answered,
                    BTreeSet::from(endpoints),
                    "{client} to {service} at {frontend}"
                );
            }
        }
    }
}

fn http(network: PodNetwork, arguments: &[&str]) -> Result<()> {
    let world = World::with_arguments(network, arguments)?;
    every_client_reaches_every_endpoint(
        &world,
        "web",
        (80, WEB_NODE_PORT),
        ["pod-1-1", "pod-2-1"],
        client::http,
    );
    Ok(())
}

fn dns(network: PodNetwork, transport: Transport) -> Result<()> {
    let world = World::new(network)?;
    every_client_reaches_every_endpoint(
        &world,
        "dns",
        (53, DNS_NODE_PORT),
        ["pod-1-2", "pod-2-2"],
        |from, address| client::dns(from, address, transport),
    );
    Ok(())
}

#[test]
fn http_in_a_bridged_pod_network() -> Result<()> {
    http(PodNetwork::Bridge, &[])
}

#[test]
fn http_in_a_routed_pod_network() -> Result<()> {
    http(PodNetwork::Routed, &[])
}

#[test]
fn http_with_clsact_filters() -> Result<()> {
    http(PodNetwork::Bridge, &["--attach", "clsact"])
}

#[test]
fn dns_over_udp_in_a_bridged_pod_network() -> Result<()> {
    dns(PodNetwork::Bridge, Transport::Udp)
}

#[test]
fn dns_over_udp_in_a_routed_pod_network() -> Result<()> {
    dns(PodNetwork::Routed, Transport::Udp)
}

#[test]
fn dns_over_tcp() -> Result<()> {
    dns(PodNetwork::Bridge, Transport::Tcp)
}
