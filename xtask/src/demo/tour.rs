//! Every kind of frontend, from every place, over both families.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::Result;
use proxy_tests::lab::{
    Family, Namespace, Tally,
    client::{self, Transport},
};

use super::{
    cluster::Running,
    table::{self, Row},
};

/// Requests a row. With two endpoints and random choice, that one of them never
/// gets its turn happens once in half a million rows.
const REQUESTS: usize = 20;

/// A Service of `manifests/examples`.
struct Service {
    name: &'static str,
    cluster_ips: [&'static str; 2],
    port: u16,
    node_port: u16,
    endpoints: [&'static str; 2],
    ask: fn(&Namespace, SocketAddr) -> Result<String>,
}

const SERVICES: [Service; 2] = [
    Service {
        name: "web",
        cluster_ips: ["10.96.0.10", "fd00:10:96::10"],
        port: 80,
        node_port: 30080,
        endpoints: ["pod-1-1", "pod-2-1"],
        ask: client::http,
    },
    Service {
        name: "dns",
        cluster_ips: ["10.96.0.53", "fd00:10:96::53"],
        port: 53,
        node_port: 30053,
        endpoints: ["pod-1-2", "pod-2-2"],
        ask: |from, address| client::dns(from, address, Transport::Udp),
    },
];

/// Asks, and prints a row as soon as it is known.
pub(super) fn take(running: &Running) -> Vec<Row> {
    table::print_head();
    let mut rows = Vec::new();
    for service in &SERVICES {
        for (frontend, family, address) in frontends(running, service) {
            for (client, namespace) in running.clients() {
                let row = Row {
                    frontend: format!("{} {frontend} {address}", service.name),
                    client: client.into(),
                    family,
                    tally: Tally::of(REQUESTS, || (service.ask)(namespace, address)),
                    required: service.endpoints.map(str::to_owned).into(),
                    allowed: BTreeSet::new(),
                };
                row.print();
                rows.push(row);
            }
        }
    }
    rows
}

/// The ClusterIP, and the NodePort of each node, in both families.
fn frontends(running: &Running, service: &Service) -> Vec<(String, Family, SocketAddr)> {
    let mut frontends = Vec::new();
    for (family, cluster_ip) in Family::BOTH.into_iter().zip(service.cluster_ips) {
        let cluster_ip = cluster_ip.parse().expect("an address of the table above");
        let address = SocketAddr::new(cluster_ip, service.port);
        frontends.push(("ClusterIP".to_owned(), family, address));
        for node in &running.cluster.nodes {
            let address = SocketAddr::new(node.addresses.of(family), service.node_port);
            frontends.push((format!("{} NodePort", node.name), family, address));
        }
    }
    frontends
}
