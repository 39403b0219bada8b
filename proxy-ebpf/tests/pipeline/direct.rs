//! Direct return: from the client's node to the endpoint's in a tunnel, and from there to
//! the client.

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Choices, Frontend, Hook, Packet, Protocol, Scenario, noise, tcp_flags};

use super::world::{UDP, World, at, segment};
use crate::host::{self, Action, Frame, Link};
use crate::layout::{Counter, frontend_flags};

use tcp_flags::{ACK, FIN, SYN};

const NODE_PORT: u16 = 30_082;

/// Two nodes with one Service, whose endpoints are one on each node.
struct Nodes {
    family: Family,
    first: World,
    second: World,
}

impl Nodes {
    fn new(family: Family) -> Self {
        Self::with_endpoints(family, &[1])
    }

    /// The same with the second node's endpoints only, these hosts.
    fn with_endpoints(family: Family, hosts: &[u8]) -> Self {
        let node = |number: u8, is_second: bool| {
            let mut scenario = Scenario {
                node: vec![at(family, 1, number, 0).ip()],
                ..Scenario::empty()
            };
            let set: Vec<_> = hosts
                .iter()
                .map(|host| scenario.add_backend(at(family, 3, *host, 8080), is_second))
                .collect();
            for protocol in Protocol::ALL {
                for address in [unspecified(family), at(family, 9, 7, 80)] {
                    scenario.frontends.push(Frontend {
                        external: true,
                        direct: true,
                        local: if is_second { set.clone() } else { vec![] },
                        ..Frontend::new(address, protocol, set.clone())
                    });
                }
            }
            World::new(&scenario)
        };
        Self {
            family,
            first: node(1, false),
            second: node(2, true),
        }
    }

    fn client(&self) -> SocketAddr {
        at(self.family, 7, 7, 50_000)
    }

    fn node_port(&self) -> SocketAddr {
        at(self.family, 1, 1, NODE_PORT)
    }

    fn endpoint(&self) -> SocketAddr {
        at(self.family, 3, 1, 8080)
    }

    /// What the first node makes of a packet, which it sends on.
    fn sent(&self, packet: &Packet) -> Vec<u8> {
        let (action, bytes) = self.first.send(Hook::FromOutside, packet);
        assert_eq!(action, Action::Forward, "{packet:?}");
        bytes
    }

    /// The addresses of a packet at the second node's endpoint, by both nodes.
    fn arrives(&self, packet: &Packet) -> (SocketAddr, SocketAddr) {
        let sent = self.sent(packet);
        let (action, bytes) = self.second.run(Hook::FromOutside, &sent, Link::Ethernet);
        assert_eq!(action, Action::Pass);
        packet.endpoints_in(&bytes)
    }

    /// Lets time pass on both nodes.
    fn wait(&self, seconds: u32) {
        self.first.wait(seconds);
        self.second.wait(seconds);
    }
}

/// Under which NodePorts lie.
fn unspecified(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::new([0; 4].into(), NODE_PORT),
        Family::V6 => SocketAddr::new([0; 16].into(), NODE_PORT),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_packet_arrives_as_its_client_has_sent_it(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut choices = Choices::new(&bytes);
        let nodes = Nodes::new(choices.one_of(&Family::BOTH));
        let (client, endpoint) = (nodes.client(), nodes.endpoint());
        let frontend = choices.one_of(&[nodes.node_port(), at(nodes.family, 9, 7, 80)]);
        let mut packet = Packet::random(&mut choices, client, frontend);
        // Where these are, the node's own address takes the client's place.
        packet.network.extensions.clear();
        packet.network.fragment = None;
        let node = at(nodes.family, 1, 1, 0).ip();
        for _ in 0..3 {
            let sent = nodes.sent(&packet);
            let wanted = packet.clone().sent_on().in_tunnel(node, endpoint);
            prop_assert_eq!(&sent, &wanted.build());
            let (action, arrived) = nodes.second.run(Hook::FromOutside, &sent, Link::Ethernet);
            prop_assert_eq!(action, Action::Pass);
            let wanted = packet.between(client, endpoint).sent_on();
            prop_assert_eq!(arrived, wanted.build());
            let answer = packet.answer(endpoint, client);
            let (action, bytes) = nodes.second.send(Hook::Out, &answer);
            prop_assert_eq!(action, Action::Pass);
            prop_assert_eq!(bytes, answer.between(frontend, client).build());
        }
        prop_assert_eq!(nodes.first.flow_records(), 1);
        prop_assert_eq!(nodes.second.flow_records(), 2);
    }

    #[test]
    fn damaged_tunnels_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 8..256)) {
        let mut choices = Choices::new(&bytes);
        let nodes = Nodes::new(choices.one_of(&Family::BOTH));
        let packet = Packet::random(&mut choices, nodes.client(), nodes.node_port());
        let node = at(nodes.family, 1, 1, 0).ip();
        let mut frame = packet.in_tunnel(node, nodes.endpoint()).build();
        for _ in 0..choices.below(4) {
            let at = 12 + choices.below(frame.len().min(110) - 12);
            frame[at] = choices.byte();
        }
        if choices.seldom(3) {
            frame.truncate(14 + choices.below(frame.len() - 14));
        }
        let (action, after) = nodes.second.run(Hook::FromOutside, &frame, Link::Ethernet);
        if action == Action::Pass && nodes.second.flow_records() == 0 {
            prop_assert_eq!(after, frame);
        }
    }
}

#[test]
fn extension_headers_go_by_the_nodes_own_address() {
    let nodes = Nodes::new(Family::V6);
    let mut packet = Packet::udp(nodes.client(), nodes.node_port());
    packet
        .network
        .extensions
        .push(proxy_tests::packets::Extension {
            kind: 60,
            content: vec![1, 4, 0, 0, 0, 0],
        });
    let sent = nodes.sent(&packet);
    assert_eq!(
        packet.endpoints_in(&sent).0.ip(),
        at(Family::V6, 1, 1, 0).ip()
    );
}

#[test]
fn a_flow_is_open_when_its_client_goes_on() {
    for family in Family::BOTH {
        let nodes = Nodes::with_endpoints(family, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let (client, frontend) = (nodes.client(), nodes.node_port());
        let packets = [
            Packet::tcp(client, frontend, SYN),
            Packet::tcp(client, frontend, ACK),
        ];
        let first = packets.each_ref().map(|packet| nodes.arrives(packet));
        assert_eq!(first[0], first[1]);
        assert!(nodes.first.v4.records().count() + nodes.first.v6.records().count() == 1);
        // Longer than one that is opening would be remembered.
        nodes.wait(3600);
        assert_eq!(nodes.arrives(&packets[1]), first[0]);
        assert_eq!(nodes.first.counter_of(Counter::FlowsCreated), 1);
        // After its end another connection begins.
        nodes.arrives(&Packet::tcp(client, frontend, FIN | ACK));
        nodes.arrives(&packets[0]);
        assert_eq!(nodes.first.counter_of(Counter::FlowsCreated), 2);
    }
}

#[test]
fn one_that_does_not_go_on_is_forgotten_after_a_minute() {
    let nodes = Nodes::new(Family::V4);
    let syn = Packet::tcp(nodes.client(), nodes.node_port(), SYN);
    nodes.arrives(&syn);
    nodes.wait(59);
    nodes.arrives(&syn);
    nodes.wait(63);
    nodes.arrives(&syn);
    assert_eq!(nodes.first.counter_of(Counter::FlowsCreated), 2);
}

#[test]
fn datagrams_move_on_when_their_endpoint_leaves_and_connections_stay() {
    for family in Family::BOTH {
        let mut nodes = Nodes::with_endpoints(family, &[1, 2]);
        let (client, frontend) = (nodes.client(), nodes.node_port());
        let datagram = Packet::udp(client, frontend);
        let [syn, ack] = [SYN, ACK].map(|flags| Packet::tcp(client, frontend, flags));
        let before = [&datagram, &syn].map(|packet| nodes.arrives(packet));
        nodes.arrives(&ack);
        for world in [&mut nodes.first, &mut nodes.second] {
            // Both endpoints' sets become the second one.
            world.end_backend(0);
            world.switch_sets(&[1]);
        }
        let second = at(family, 3, 2, 8080);
        assert_eq!(nodes.arrives(&datagram), (client, second));
        assert_eq!(nodes.arrives(&ack), before[1]);
    }
}

/// The client's own way to the second node leads on from there; a packet that comes there
/// in a tunnel does not take it.
#[test]
fn what_comes_in_a_tunnel_does_not_go_on_in_another() {
    for family in Family::BOTH {
        let mut scenario = Scenario::empty();
        let near = scenario.add_backend(at(family, 2, 1, 8080), true);
        let far = scenario.add_backend(at(family, 3, 1, 8080), false);
        scenario.frontends.push(Frontend {
            external: true,
            direct: true,
            local: vec![near],
            ..Frontend::new(at(family, 9, 7, 80), Protocol::Udp, vec![far])
        });
        let world = World::new(&scenario);
        let client = at(family, 7, 7, 50_000);
        let packet = Packet::udp(client, at(family, 9, 7, 80));
        let (action, _) = world.send(Hook::FromOutside, &packet);
        assert_eq!(action, Action::Forward);
        let (near, peer) = (at(family, 2, 1, 8080), at(family, 1, 2, 0).ip());
        let tunnelled = packet.clone().in_tunnel(peer, near);
        let (action, bytes) = world.send(Hook::FromOutside, &tunnelled);
        assert_eq!(action, Action::Pass);
        assert_eq!(packet.endpoints_in(&bytes), (client, near));
        // From now on the client's packets go there as well.
        let (action, _) = world.send(Hook::FromOutside, &packet);
        assert_eq!(action, Action::Pass);
    }
}

/// Anybody can write a tunnel, and in it the client's tuple.
#[test]
fn a_tunnel_to_another_endpoint_does_not_move_a_connection() {
    for family in Family::BOTH {
        let nodes = Nodes::with_endpoints(family, &[1, 2]);
        let (client, frontend) = (nodes.client(), nodes.node_port());
        let [syn, ack] = [SYN, ACK].map(|flags| Packet::tcp(client, frontend, flags));
        let before = nodes.arrives(&syn);
        let answer = syn.answer(before.1, client);
        let (_, bytes) = nodes.second.send(Hook::Out, &answer);
        assert_eq!(answer.endpoints_in(&bytes), (frontend, client));
        nodes.arrives(&ack);
        let other = [1, 2].map(|host| at(family, 3, host, 8080));
        let other = other.into_iter().find(|it| *it != before.1).unwrap();
        for packet in [&ack, &syn] {
            let forged = packet.clone().in_tunnel(frontend.ip(), other);
            let (_, bytes) = nodes.second.send(Hook::FromOutside, &forged);
            assert_eq!(packet.endpoints_in(&bytes), before);
        }
        let mut part = Packet {
            payload: noise(1, 100),
            ..ack.clone()
        };
        part = part.fragments(48).remove(0);
        let forged = part.in_tunnel(frontend.ip(), other);
        let (action, bytes) = nodes.second.send(Hook::FromOutside, &forged);
        assert_eq!((action, bytes), (Action::Pass, forged.build()));
        assert_eq!(nodes.arrives(&ack), before);
        // After its end another connection begins, wherever that leads.
        nodes.arrives(&segment((client, frontend), FIN | ACK, [1, 1]));
        let fin = segment((before.1, client), FIN | ACK, [1, 2]);
        nodes.second.send(Hook::Out, &fin);
        nodes.arrives(&segment((client, frontend), ACK, [2, 2]));
        let new = syn.clone().in_tunnel(frontend.ip(), other);
        let (_, bytes) = nodes.second.send(Hook::FromOutside, &new);
        assert_eq!(syn.endpoints_in(&bytes), (client, other));
    }
}

#[test]
fn the_client_is_told_what_fits_into_a_tunnel() {
    for (family, header) in [(Family::V4, 20), (Family::V6, 40)] {
        let nodes = Nodes::new(family);
        let (client, frontend) = (nodes.client(), nodes.node_port());
        for packet in [
            Packet::udp(client, frontend),
            Packet::tcp(client, frontend, ACK),
        ] {
            let nodes = Nodes::new(family);
            let mut frame = Frame(packet.build());
            let world = &nodes.first;
            let action = host::run_too_big_for_tunnel(
                &mut frame,
                Link::Ethernet,
                1500,
                &world.v4,
                &world.v6,
            );
            assert_eq!(action, Action::Bounce);
            let told = packet.too_big(frontend.ip(), 1500 - header).turned_back();
            assert_eq!(frame.0, told.build());
            assert_eq!(world.counted(), [(Counter::TooBig, 1)]);
        }
    }
}

#[test]
fn fragments_take_the_way_of_their_flow() {
    for family in Family::BOTH {
        let nodes = Nodes::new(family);
        nodes.arrives(&Packet::udp(nodes.client(), nodes.node_port()));
        let packet = Packet {
            payload: noise(1, 100),
            ..Packet::udp(nodes.client(), nodes.node_port())
        };
        let node = at(family, 1, 1, 0).ip();
        let arrived = packet.between(nodes.client(), nodes.endpoint());
        let parts = packet.fragments(24);
        for (number, (part, wanted)) in parts.iter().zip(arrived.fragments(24)).enumerate() {
            let sent = nodes.sent(part);
            let mut endpoint = nodes.endpoint();
            if number > 0 {
                // Only the first one has ports.
                endpoint.set_port(0);
            }
            let tunnelled = part.clone().sent_on().in_tunnel(node, endpoint);
            assert_eq!(sent, tunnelled.build());
            let (action, bytes) = nodes.second.run(Hook::FromOutside, &sent, Link::Ethernet);
            assert_eq!((action, bytes), (Action::Pass, wanted.sent_on().build()));
        }
    }
}

/// They would be too long for a tunnel.
#[test]
fn a_flow_that_begins_with_fragments_goes_by_the_nodes_own_address() {
    for family in Family::BOTH {
        let nodes = Nodes::new(family);
        let packet = Packet {
            payload: noise(1, 100),
            ..Packet::udp(nodes.client(), nodes.node_port())
        };
        for part in packet.fragments(24) {
            let sent = nodes.sent(&part);
            assert_eq!(sent.len(), part.build().len());
        }
    }
}

#[test]
fn a_fragment_whose_first_one_was_not_seen_is_left_in_its_tunnel() {
    for family in Family::BOTH {
        let nodes = Nodes::new(family);
        let packet = Packet {
            payload: noise(1, 100),
            ..Packet::udp(nodes.client(), nodes.node_port())
        };
        let node = at(family, 1, 1, 0).ip();
        let part = packet.fragments(24).remove(1);
        let part = part.in_tunnel(node, nodes.endpoint());
        let (action, bytes) = nodes.second.send(Hook::FromOutside, &part);
        assert_eq!((action, bytes), (Action::Pass, part.build()));
    }
}

#[test]
fn sources_are_looked_at_on_the_endpoints_node_too() {
    let mut nodes = Nodes::new(Family::V4);
    for frontend in nodes.second.v4.frontends.values_mut() {
        frontend.flags |= frontend_flags::SOURCE_RANGES;
    }
    let sent = nodes.sent(&Packet::udp(nodes.client(), at(Family::V4, 9, 7, 80)));
    let (action, _) = nodes.second.run(Hook::FromOutside, &sent, Link::Ethernet);
    assert_eq!(action, Action::Drop);
    assert_eq!(nodes.second.counted(), [(Counter::SourceNotAllowed, 1)]);
}

#[test]
fn a_service_that_loses_direct_return_keeps_its_flows() {
    for family in Family::BOTH {
        let mut nodes = Nodes::new(family);
        let known = Packet::udp(nodes.client(), nodes.node_port());
        let before = nodes.arrives(&known);
        for world in [&mut nodes.first, &mut nodes.second] {
            world.lose_direct_return();
        }
        assert_eq!(nodes.arrives(&known), before);
        let new = Packet::udp(at(family, 7, 8, 50_000), nodes.node_port());
        let (action, bytes) = nodes.first.send(Hook::FromOutside, &new);
        assert_eq!(action, Action::Forward);
        assert_eq!(new.endpoints_in(&bytes).0.ip(), at(family, 1, 1, 0).ip());
        assert_eq!(UDP, new.protocol());
    }
}

#[test]
fn masquerading_all_wins() {
    let family = Family::V4;
    let mut scenario = Scenario {
        masquerade_all: true,
        ..Scenario::usual()
    };
    scenario.nat_ports = (40_000, 10);
    let world = World::new(&scenario);
    let packet = Packet::udp(at(family, 7, 7, 50_000), at(family, 1, 1, NODE_PORT));
    let (action, bytes) = world.send(Hook::FromOutside, &packet);
    assert_eq!(action, Action::Forward);
    let (source, destination) = packet.endpoints_in(&bytes);
    assert_eq!(source.ip(), at(family, 1, 1, 0).ip());
    assert_eq!(destination, at(family, 3, 1, 8080));
}
