//! XDP in front of TC: what is left to TC is counted there, and there only.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Scenario, chunks, tcp_flags};

use super::world::{World, at};
use crate::host::{self, Action, Frame, Link};
use crate::layout::Counter;

/// What becomes of a packet from outside, where XDP can send.
fn send(world: &World, packet: &Packet) -> (Action, Vec<u8>) {
    let mut frame = Frame(packet.build());
    let hook = host::Hook::Xdp { can_send: true };
    let action = host::run(&mut frame, hook, Link::Ethernet, &world.v4, &world.v6);
    (action, frame.0)
}

/// The stack finds the next hop out for the first packet of a flow in each direction.
#[test]
fn the_first_packet_of_a_flow_is_sent_on_by_tc() {
    for family in Family::BOTH {
        let world = World::new(&Scenario::usual());
        let packet = Packet::udp(at(family, 7, 7, 50_000), at(family, 9, 2, 80));
        let sent = |packet: &Packet| -> (u64, Vec<u8>) {
            let before = world.v4.counter(Counter::XdpTransmit);
            let (action, bytes) = send(&world, packet);
            assert_eq!(action, Action::Forward);
            (world.v4.counter(Counter::XdpTransmit) - before, bytes)
        };
        let (by_xdp, bytes) = sent(&packet);
        assert_eq!(by_xdp, 0);
        let (node, endpoint): (SocketAddr, SocketAddr) = packet.endpoints_in(&bytes);
        let answer = packet.between(endpoint, node);
        assert_eq!([sent(&answer).0, sent(&answer).0], [0, 1]);
        assert_eq!(sent(&packet).0, 1);
        let packets: u64 = world
            .shared
            .service_traffic
            .borrow()
            .values()
            .map(|it| it.packets)
            .sum();
        assert_eq!(packets, 4, "each is counted once");
    }
}

#[test]
fn a_refusal_is_counted_once() {
    for family in Family::BOTH {
        let world = World::new(&Scenario::usual());
        let packet = Packet::udp(at(family, 7, 7, 50_000), at(family, 9, 3, 80));
        assert_eq!(send(&world, &packet).0, Action::Bounce);
        assert_eq!(world.counted(), [(Counter::NoEndpoints, 1)]);
    }
}

/// What a client sends after the endpoint's answer is XDP's, of each protocol with connections.
#[test]
fn all_that_follows_the_answer_is_xdps() {
    for family in Family::BOTH {
        let world = World::new(&Scenario::usual());
        let (client, service) = (at(family, 7, 7, 50_000), at(family, 9, 1, 80));
        let tcp = |flags| Packet::tcp(client, service, flags);
        let sctp = |chunk| Packet::sctp(client, service, chunk);
        let (syn, ack) = (tcp_flags::SYN, tcp_flags::ACK);
        for [first, answer, next] in [
            [tcp(syn), tcp(syn | ack), tcp(ack)],
            [chunks::INIT, chunks::INIT_ACK, chunks::COOKIE_ECHO].map(sctp),
        ] {
            let (_, bytes) = send(&world, &first);
            let (client, endpoint) = first.endpoints_in(&bytes);
            world.ends(Hook::Out, &answer.between(endpoint, client));
            let before = world.v4.counter(Counter::XdpPass);
            send(&world, &next);
            assert_eq!(world.v4.counter(Counter::XdpPass) - before, 1, "{next:?}");
        }
    }
}
