//! Consistent hashing: what leads to the endpoint is the client's tuple, on every node.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags::SYN};

use super::world::{World, at};

const ENDPOINTS: u8 = 8;
const AFFINITY_SECONDS: u32 = 100;

/// A node, by chance at another point than others; two of its addresses, and its
/// endpoints, are of one hashed Service.
fn node(chance: u32, affinity: u32) -> World {
    let mut scenario = Scenario::empty();
    for family in Family::BOTH {
        let hosts = 1..=ENDPOINTS;
        let backends = hosts.map(|host| scenario.add_backend(at(family, 2, host, 8080), false));
        let set: Vec<_> = backends.collect();
        for protocol in Protocol::ALL {
            for host in [1, 2] {
                scenario.frontends.push(Frontend {
                    external: true,
                    ..Frontend::new(at(family, 9, host, 80), protocol, set.clone())
                });
            }
        }
    }
    let mut world = World::new(&scenario);
    world.hash();
    world.set_affinity(affinity);
    world.shared.random.set(chance);
    world
}

fn connect(world: &World, client: SocketAddr, service: SocketAddr) -> SocketAddr {
    let packet = Packet::tcp(client, service, SYN);
    world.ends(Hook::FromOutside, &packet).1
}

#[test]
fn every_node_and_every_address_of_it_leads_to_the_same_endpoint() {
    for family in Family::BOTH {
        let mut reached = BTreeSet::new();
        for port in 1024..1224 {
            let client = at(family, 7, 1, port);
            let first = connect(&node(1, 0), client, at(family, 9, 1, 80));
            let second = connect(&node(77, 0), client, at(family, 9, 2, 80));
            assert_eq!(first, second);
            reached.insert(first);
        }
        assert_eq!(reached.len(), usize::from(ENDPOINTS), "ports spread");
    }
}

#[test]
fn protocols_lead_to_endpoints_of_their_own() {
    let world = node(1, 0);
    let service = at(Family::V4, 9, 1, 80);
    let differs = |port| {
        let client = at(Family::V4, 7, 1, port);
        let packet = Packet::udp(client, service);
        world.ends(Hook::FromOutside, &packet).1 != connect(&world, client, service)
    };
    assert!((1024..1040).any(differs));
}

#[test]
fn with_affinity_a_client_has_one_endpoint_on_all_nodes() {
    for family in Family::BOTH {
        let mut reached = BTreeSet::new();
        for host in 1..60 {
            let of_port = |port| {
                let client = at(family, 7, host, port);
                let chance = u32::from(port);
                connect(
                    &node(chance, AFFINITY_SECONDS),
                    client,
                    at(family, 9, 1, 80),
                )
            };
            let first = of_port(1024);
            assert!((1025..1035).all(|port| of_port(port) == first));
            reached.insert(first);
        }
        assert_eq!(reached.len(), usize::from(ENDPOINTS), "clients spread");
    }
}

/// Nodes of different architectures agree, and those of an older version while a new one is
/// rolled out: whoever changes these moves all clients.
#[test]
fn what_leads_where_is_fixed() {
    let endpoints_of = |family, affinity| -> Vec<u8> {
        let world = node(1, affinity);
        let endpoint_of = |packet: Packet| {
            let (_, endpoint) = world.ends(Hook::FromOutside, &packet);
            (1..=ENDPOINTS).find(|host| endpoint == at(family, 2, *host, 8080))
        };
        let tuple = |number: u8| {
            let client = at(family, 7, number, 40_000 + u16::from(number));
            (client, at(family, 9, 1, 80))
        };
        let tcp = (1..=6).map(tuple).map(|(a, b)| Packet::tcp(a, b, SYN));
        let udp = (1..=6).map(tuple).map(|(a, b)| Packet::udp(a, b));
        tcp.chain(udp).filter_map(endpoint_of).collect()
    };
    assert_eq!(
        endpoints_of(Family::V4, 0),
        [2, 6, 5, 3, 8, 7, 6, 5, 3, 2, 7, 1]
    );
    assert_eq!(
        endpoints_of(Family::V4, AFFINITY_SECONDS),
        [6, 3, 3, 5, 1, 8, 5, 2, 6, 5, 2, 8]
    );
    assert_eq!(
        endpoints_of(Family::V6, 0),
        [7, 1, 6, 1, 1, 4, 1, 5, 6, 2, 5, 1]
    );
}

#[test]
fn ports_of_a_service_lead_to_endpoints_of_their_own() {
    let mut scenario = Scenario::empty();
    let hosts = 1..=ENDPOINTS;
    let backends = hosts.map(|host| scenario.add_backend(at(Family::V4, 2, host, 8080), false));
    let set: Vec<_> = backends.collect();
    for port in [80, 443] {
        scenario.frontends.push(Frontend {
            external: true,
            ..Frontend::new(at(Family::V4, 9, 1, port), Protocol::Tcp, set.clone())
        });
    }
    let mut world = World::new(&scenario);
    world.hash();
    let differs = |port| {
        let client = at(Family::V4, 7, 1, port);
        let [first, second] =
            [80, 443].map(|port| connect(&world, client, at(Family::V4, 9, 1, port)));
        first != second
    };
    assert!((1024..1040).any(differs));
}
