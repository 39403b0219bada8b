//! A TCP connection that nobody could answer is reset at once.

use crate::host::Action;
use crate::layout::Counter;
use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Choices, Frontend, Hook, Packet, Protocol, Stage, Transport, address, tcp_flags,
};
use std::net::SocketAddr;

use super::world::World;

const SEQUENCE: u32 = 0xffff_fff0;
const ACKNOWLEDGMENT: u32 = 77;

/// A node with a Service that has no endpoint, and the Service's address.
fn nobody(family: Family) -> (World, SocketAddr) {
    let service = SocketAddr::new(address(family, 9, 1), 80);
    let mut stage = Stage::empty();
    stage
        .frontends
        .push(Frontend::new(service, Protocol::Tcp, vec![]));
    (World::new(&stage), service)
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
        assert_eq!(action, Action::Return);
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
