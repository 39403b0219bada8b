//! A client that nobody could answer is told at once: by a reset, or an ICMP error.

use crate::host::{Action, Link};
use crate::layout::{Answers, Counter};
use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Choices, Frontend, Hook, Packet, Protocol, Scenario, Transport, address, tcp_flags,
};
use std::net::SocketAddr;

use super::world::World;

const SEQUENCE: u32 = 0xffff_fff0;
const ACKNOWLEDGMENT: u32 = 77;

/// A node with a Service that has no endpoint, and the Service's address.
fn nobody(family: Family) -> (World, SocketAddr) {
    let service = SocketAddr::new(address(family, 9, 1), 80);
    let mut scenario = Scenario::empty();
    for protocol in Protocol::ALL {
        scenario
            .frontends
            .push(Frontend::new(service, protocol, vec![]));
    }
    (World::new(&scenario), service)
}

fn client(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, 7, 7), 50_000)
}

fn with_tcp(packet: &Packet, flags: u8, numbers: [u32; 2]) -> Packet {
    let mut packet = packet.clone();
    if let Transport::Tcp {
        flags: old,
        numbers: old_numbers,
        ..
    } = &mut packet.transport
    {
        *old = flags;
        *old_numbers = numbers;
    }
    packet
}

/// What the node makes of a packet to nobody: the same packet the other way, with
/// other flags and numbers.
#[track_caller]
fn is_answered(packet: &Packet, world: &World, flags: u8, numbers: [u32; 2]) {
    for hook in [Hook::FromOutside, Hook::FromPod] {
        let (action, bytes) = world.send(hook, packet);
        let mut answer = packet
            .between(packet.destination, packet.source)
            .turned_back();
        answer.ttl = 64;
        assert_eq!(action, Action::Bounce);
        assert_eq!(bytes, with_tcp(&answer, flags, numbers).build());
        assert_eq!(world.flow_records(), 0);
    }
}

#[test]
fn a_syn_is_acknowledged_by_the_reset() {
    for family in Family::BOTH {
        let (world, service) = nobody(family);
        let mut syn = Packet::tcp(client(family), service, tcp_flags::SYN);
        syn.payload.clear();
        let syn = with_tcp(&syn, tcp_flags::SYN, [SEQUENCE, 0]);
        let reset = tcp_flags::RST | tcp_flags::ACK;
        is_answered(&syn, &world, reset, [0, SEQUENCE.wrapping_add(1)]);
        assert_eq!(world.counted(), [(Counter::NoEndpoints, 2)]);
    }
}

#[test]
fn data_and_a_fin_count_in_what_is_acknowledged() {
    for family in Family::BOTH {
        let (world, service) = nobody(family);
        let mut packet = Packet::tcp(client(family), service, tcp_flags::FIN);
        packet.payload = vec![1; 33];
        let packet = with_tcp(&packet, tcp_flags::FIN, [SEQUENCE, 0]);
        let reset = tcp_flags::RST | tcp_flags::ACK;
        is_answered(&packet, &world, reset, [0, SEQUENCE.wrapping_add(34)]);
    }
}

#[test]
fn a_segment_that_acknowledges_is_reset_where_it_stands() {
    for family in Family::BOTH {
        let (world, service) = nobody(family);
        let packet = Packet::tcp(client(family), service, tcp_flags::ACK);
        let packet = with_tcp(&packet, tcp_flags::ACK, [SEQUENCE, ACKNOWLEDGMENT]);
        is_answered(&packet, &world, tcp_flags::RST, [ACKNOWLEDGMENT, 0]);
    }
}

#[test]
fn a_reset_is_never_answered() {
    for family in Family::BOTH {
        let (world, service) = nobody(family);
        for flags in [tcp_flags::RST, tcp_flags::RST | tcp_flags::ACK] {
            let packet = Packet::tcp(client(family), service, flags);
            let (action, bytes) = world.send(Hook::FromPod, &packet);
            assert_eq!(action, Action::Drop);
            assert_eq!(bytes, packet.build());
        }
    }
}

proptest! {
    #[test]
    fn whatever_its_shape_a_syn_is_reset(chance in prop::collection::vec(any::<u8>(), 256)) {
        for family in Family::BOTH {
            let (world, service) = nobody(family);
            let plain = Packet::tcp(client(family), service, tcp_flags::SYN);
            let syn = plain.reshaped(&mut Choices::new(&chance));
            let syn = with_tcp(&syn, tcp_flags::SYN, [SEQUENCE, 0]);
            let length = u32::try_from(syn.payload.len()).expect("a packet") + 1;
            let reset = tcp_flags::RST | tcp_flags::ACK;
            is_answered(&syn, &world, reset, [0, SEQUENCE.wrapping_add(length)]);
        }
    }
}

/// The error that a datagram to nobody is answered by; `None` for one that is not quoted.
fn expected(packet: &Packet) -> Option<Vec<u8>> {
    let has_tags = packet.network_at() != 14;
    let is_long = packet.source.is_ipv6() && packet.transport_at() > 54 + 64;
    (!has_tags && !is_long).then(|| packet.port_unreachable().build())
}

proptest! {
    #[test]
    fn a_datagram_or_an_init_is_quoted_in_an_error(chance in prop::collection::vec(any::<u8>(), 256)) {
        let both = |family| [Protocol::Udp, Protocol::Sctp].map(|protocol| (family, protocol));
        for (family, protocol) in Family::BOTH.into_iter().flat_map(both) {
            let (world, service) = nobody(family);
            let plain = Packet::opening(protocol, client(family), service);
            let packet = plain.reshaped(&mut Choices::new(&chance));
            for hook in [Hook::FromOutside, Hook::FromPod] {
                let (action, bytes) = world.send(hook, &packet);
                if let Some(error) = expected(&packet) {
                    prop_assert_eq!((action, bytes), (Action::Bounce, error));
                } else {
                    prop_assert_eq!(action, Action::Drop);
                }
            }
            prop_assert_eq!(world.counted(), [(Counter::NoEndpoints, 2)]);
            prop_assert_eq!(world.flow_records(), 0);
        }
    }
}

#[test]
fn so_many_are_answered_and_the_rest_is_dropped() {
    for family in Family::BOTH {
        let (world, service) = nobody(family);
        let datagram = Packet::udp(client(family), service);
        let syn = Packet::tcp(client(family), service, tcp_flags::SYN);
        for number in 0..Answers::LIMIT {
            let packet = if number % 2 == 0 { &datagram } else { &syn };
            assert_eq!(world.send(Hook::FromOutside, packet).0, Action::Bounce);
        }
        world.counted();
        for packet in [&datagram, &syn] {
            let (action, bytes) = world.send(Hook::FromOutside, packet);
            assert_eq!((action, bytes), (Action::Drop, packet.build()));
            let counted = [(Counter::NoEndpoints, 1), (Counter::RateLimited, 1)];
            assert_eq!(world.counted(), counted);
        }
        world.wait(2);
        let (action, _) = world.send(Hook::FromOutside, &datagram);
        assert_eq!(action, Action::Bounce);
    }
}

/// A flood from outside uses up what others are told neither of other things nor in Pods.
#[test]
fn each_kind_of_answer_has_a_limit_of_its_own_and_so_have_pods() {
    for family in Family::BOTH {
        let [nobodys, service] = [1, 2].map(|host| SocketAddr::new(address(family, 9, host), 80));
        let mut scenario = Scenario::empty();
        let far = scenario.add_backend(SocketAddr::new(address(family, 3, 1), 8080), false);
        for (frontend, set) in [(nobodys, vec![]), (service, vec![far])] {
            let frontend = Frontend::new(frontend, Protocol::Udp, set);
            scenario.frontends.push(frontend);
        }
        let world = World::new(&scenario);
        let refused = Packet::udp(client(family), nobodys);
        while world.send(Hook::FromOutside, &refused).0 == Action::Bounce {}
        let pod = SocketAddr::new(address(family, 2, 1), 50_000);
        let (action, _) = world.send(Hook::FromPod, &Packet::udp(pod, nobodys));
        assert_eq!(action, Action::Bounce, "a Pod's");

        let packet = Packet::udp(client(family), service);
        let (action, sent_on) = world.send(Hook::FromOutside, &packet);
        assert_eq!(action, Action::Forward);
        let (action, _) = world.too_big(&sent_on, 1400);
        assert_eq!(action, Action::Reinject, "too big");

        let last_hop = Packet { ttl: 1, ..packet };
        let (action, _) = world.send(Hook::FromOutside, &last_hop);
        assert_eq!(action, Action::Bounce, "time exceeded");
    }
}

#[test]
fn the_sender_of_what_is_too_big_for_the_way_on_is_told() {
    let world = World::new(&Scenario::usual());
    for family in Family::BOTH {
        let service = SocketAddr::new(address(family, 9, 2), 80);
        let node = address(family, 1, 1);
        for packet in Protocol::ALL.map(|it| Packet::opening(it, client(family), service)) {
            let (action, sent_on) = world.send(Hook::FromOutside, &packet);
            assert_eq!(action, Action::Forward);
            let wire = packet.endpoints_in(&sent_on);
            // Of what the client sent, as it is after one more router.
            let told = packet.clone().sent_on().too_big(node, 1400).sent_on();
            is_told(&world, &sent_on, &told);
            let answer = packet.answer(wire.1, wire.0);
            let (action, sent_back) = world.send(Hook::FromOutside, &answer);
            assert_eq!(action, Action::Forward);
            let told = answer.sent_on().too_big(node, 1400).sent_on();
            is_told(&world, &sent_back, &told);
        }
    }
}

/// That a packet is turned into an error which then is translated to this one.
#[track_caller]
fn is_told(world: &World, sent_on: &[u8], told: &Packet) {
    let (action, error) = world.too_big(sent_on, 1400);
    assert_eq!(action, Action::Reinject);
    let (action, bytes) = world.run(Hook::FromOutside, &error, Link::Ethernet);
    assert_eq!(action, Action::Forward);
    assert_eq!(bytes, told.build());
}
