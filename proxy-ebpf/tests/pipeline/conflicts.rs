//! Another CPU begins to write a flow record, and does not go on: an interrupt came.

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

const CONFLICT: [(Counter, u64); 1] = [(Counter::ClaimConflict, 1)];

/// A Service with an endpoint of this node or of another one.
fn scene(family: Family, is_local: bool) -> (World, [Packet; 3]) {
    let mut scenario = Scenario::empty();
    let endpoint = scenario.add_backend(at(family, 2, 1, 8080), is_local);
    let service = at(family, 9, 1, 80);
    for protocol in Protocol::ALL {
        let frontend = Frontend::new(service, protocol, vec![endpoint]);
        scenario.frontends.push(frontend);
    }
    let client = at(family, 7, 1, 50_000);
    let packets = [
        Packet::udp(client, service),
        Packet::tcp(client, service, tcp_flags::SYN),
        Packet::tcp(client, service, tcp_flags::ACK),
    ];
    let mut world = World::new(&scenario);
    world.set_buckets(1);
    (world, packets)
}

#[test]
fn a_datagram_goes_the_way_of_the_flow_that_is_being_made() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            let (world, [datagram, _, _]) = scene(family, is_local);
            world.abandon_claim(1);
            let during = world.ends(Hook::FromOutside, &datagram);
            assert_eq!(world.counted(), CONFLICT);
            assert_eq!(world.flow_records(), 0);
            world.end_claims();
            assert_eq!(world.open(Hook::FromOutside, &datagram), during);
        }
    }
}

/// Its client sends it again.
#[test]
fn a_connection_waits() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            let (world, [_, syn, _]) = scene(family, is_local);
            world.abandon_claim(1);
            assert_eq!(world.send(Hook::FromOutside, &syn).0, Action::Drop);
            assert_eq!(world.counted(), CONFLICT);
            world.end_claims();
            world.open(Hook::FromOutside, &syn);
        }
    }
}

/// The agent holds the record while netfilter forgets the connection.
#[test]
fn a_segment_whose_record_is_held_is_not_answered_by_a_reset() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            let (world, [_, _, segment]) = scene(family, is_local);
            world.abandon_claim(1);
            assert_eq!(world.send(Hook::FromOutside, &segment).0, Action::Drop);
            assert_eq!(world.counted(), CONFLICT);
            world.end_claims();
            world.send(Hook::FromOutside, &segment);
            assert_eq!(world.counter_of(Counter::NoConnection), 1);
        }
    }
}
