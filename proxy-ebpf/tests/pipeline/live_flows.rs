//! Many flows at once: each has a translated tuple of its own.
//!
//! The model here is a table from what is on the wire to who is behind it. It does
//! not foresee which endpoint or port a flow gets, only that nobody else has it and
//! that it stays.

use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Choices, Frontend, Hook, Packet, Protocol, Scenario};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

type Ends = (SocketAddr, SocketAddr);

/// Who is behind what.
#[derive(Default)]
struct Model {
    wire_of: HashMap<(u8, Ends), Ends>,
    client_of: HashMap<(u8, Ends), Ends>,
}

impl Model {
    /// The client's packet went out like this.
    fn went(&mut self, protocol: u8, client: Ends, wire: Ends) {
        let known = self.wire_of.insert((protocol, client), wire);
        assert!(known.is_none_or(|it| it == wire), "{client:?} has moved");
        let owner = self.client_of.insert((protocol, wire), client);
        assert!(
            owner.is_none_or(|it| it == client),
            "{wire:?} belongs to {owner:?} and {client:?}"
        );
    }
}

/// Two families' Services that share endpoints, near and far ones.
fn crowded(nat_ports: u16) -> Scenario {
    let mut scenario = Scenario::empty();
    scenario.nat_ports = (40_000, nat_ports);
    for family in Family::BOTH {
        let near = scenario.add_backend(at(family, 2, 1, 8080), true);
        let far = scenario.add_backend(at(family, 3, 1, 8080), false);
        for protocol in Protocol::ALL {
            for (host, set) in [
                (1, vec![near]),
                (2, vec![near, far]),
                (3, vec![far]),
                (4, vec![near, far]),
            ] {
                let address = at(family, 9, host, 80);
                scenario
                    .frontends
                    .push(Frontend::new(address, protocol, set));
            }
        }
    }
    scenario
}

/// Which hook a client at this address comes by.
fn hook_of(client: SocketAddr, family: Family) -> Hook {
    if client.ip() == at(family, 7, 0, 0).ip() || client.ip() == at(family, 7, 1, 0).ip() {
        Hook::FromOutside
    } else {
        Hook::FromPod
    }
}

/// Has clients send, and endpoints answer, in any order.
fn bustle(bytes: &[u8], nat_ports: u16) {
    let mut choices = Choices::new(bytes);
    let world = World::new(&crowded(nat_ports));
    let mut model = Model::default();
    while !choices.is_over() {
        let family = choices.one_of(&Family::BOTH);
        // Two outsiders, two pods, one of which is the near endpoint.
        let (network, host) = choices.one_of(&[(7, 0), (7, 1), (2, 1), (2, 2)]);
        let port = choices.one_of(&[50_000, 50_001, 40_000, 40_001, 8080]);
        let client = at(family, network, host, port);
        let service = at(family, 9, choices.one_of(&[1, 2, 3, 4]), 80);
        let packet = Packet::opening(choices.one_of(&Protocol::ALL), client, service);
        let hook = hook_of(client, family);
        let (action, bytes) = world.send(hook, &packet);
        if action == Action::Drop {
            // Only who is new, and only for want of a port.
            let known = model.wire_of.get(&(packet.protocol(), (client, service)));
            assert_eq!(known, None);
            assert!(world.counted().contains(&(Counter::PortsExhausted, 1)));
            assert_eq!(bytes, packet.build());
            continue;
        }
        let wire = packet.endpoints_in(&bytes);
        // Open, so that it gives way to no other.
        world.go_on(hook, &packet, wire);
        model.went(packet.protocol(), (client, service), wire);
        // All endpoints answer all clients; each hears the Service that it asked.
        for ((protocol, (source, endpoint)), (client, service)) in &model.client_of {
            if *protocol != packet.protocol() {
                continue;
            }
            let answer = packet.answer(*endpoint, *source);
            let is_snat = source.ip() == at(Family::V4, 1, 1, 0).ip()
                || source.ip() == at(Family::V6, 1, 1, 0).ip();
            let back = if is_snat {
                Hook::FromOutside
            } else {
                Hook::Out
            };
            assert_eq!(world.ends(back, &answer), (*service, *client));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_two_flows_share_a_tuple_with_many_ports(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        bustle(&bytes, 1000);
    }

    #[test]
    fn no_two_flows_share_a_tuple_with_few_ports(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        bustle(&bytes, 3);
    }
}

#[test]
fn every_port_of_the_range_is_used_before_they_are_exhausted() {
    const PORTS: u16 = 10;
    for family in Family::BOTH {
        let world = World::new(&crowded(PORTS));
        let service = at(family, 9, 3, 80);
        let mut sources = Vec::new();
        for host in 0..PORTS {
            let client = at(family, 7, 9, 1000 + host);
            let packet = Packet::udp(client, service);
            sources.push(world.open(Hook::FromOutside, &packet).0.port());
        }
        sources.sort_unstable();
        assert_eq!(sources, (40_000..40_000 + PORTS).collect::<Vec<_>>());
        world.counted();
        let packet = Packet::udp(at(family, 7, 9, 2000), service);
        assert_eq!(world.send(Hook::FromOutside, &packet).0, Action::Drop);
        assert_eq!(world.counted(), [(Counter::PortsExhausted, 1)]);
    }
}

#[test]
fn protocols_and_endpoints_have_ports_of_their_own() {
    for family in Family::BOTH {
        let mut scenario = crowded(1);
        let other = scenario.add_backend(at(family, 3, 2, 8080), false);
        let address = at(family, 9, 5, 80);
        let frontend = Frontend::new(address, Protocol::Udp, vec![other]);
        scenario.frontends.push(frontend);
        let world = World::new(&scenario);
        let client = at(family, 7, 7, 50_000);
        for packet in [
            Packet::udp(client, at(family, 9, 3, 80)),
            Packet::tcp(client, at(family, 9, 3, 80), 2),
            Packet::udp(client, address),
        ] {
            assert_eq!(world.ends(Hook::FromOutside, &packet).0.port(), 40_000);
        }
    }
}

#[test]
fn a_client_of_two_services_with_one_endpoint_hears_both() {
    for family in Family::BOTH {
        let world = World::new(&crowded(1000));
        let client = at(family, 2, 9, 50_000);
        let mut wires = Vec::new();
        for host in [1, 2, 4] {
            let service = at(family, 9, host, 80);
            let packet = Packet::udp(client, service);
            wires.push((world.ends(Hook::FromPod, &packet), service));
        }
        for ((source, endpoint), service) in wires {
            let answer = Packet::udp(endpoint, source);
            assert_eq!(world.ends(Hook::Out, &answer), (service, client));
        }
    }
}
