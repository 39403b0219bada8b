//! Checksums at the edges of one's complement arithmetic, where two ways to write
//! zero have to be kept apart.

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, Transport, tcp_flags};

use super::world::{World, at};

fn world(family: Family) -> World {
    let mut scenario = Scenario::empty();
    let backend = scenario.add_backend(at(family, 2, 1, 8080), true);
    for protocol in Protocol::ALL {
        let address = at(family, 9, 1, 80);
        scenario
            .frontends
            .push(Frontend::new(address, protocol, vec![backend]));
    }
    World::new(&scenario)
}

/// Every value of two bytes of the payload: so every checksum occurs once before,
/// and once after the translation.
fn all_checksums(family: Family, template: &Packet) {
    let world = world(family);
    let mut packet = template.between(at(family, 7, 1, 50_000), at(family, 9, 1, 80));
    for word in 0..=u16::MAX {
        packet.payload = word.to_be_bytes().to_vec();
        let (_, bytes) = world.send(Hook::FromOutside, &packet);
        let expected = packet.between(packet.source, at(family, 2, 1, 8080));
        assert_eq!(bytes, expected.build(), "{word:04x}");
    }
}

#[test]
fn every_udp_checksum_is_translated_and_none_becomes_none() {
    for family in Family::BOTH {
        let any = at(family, 0, 0, 0);
        all_checksums(family, &Packet::udp(any, any));
    }
}

#[test]
fn every_tcp_checksum_is_translated() {
    for family in Family::BOTH {
        let any = at(family, 0, 0, 0);
        all_checksums(family, &Packet::tcp(any, any, tcp_flags::SYN));
    }
}

#[test]
fn every_ipv4_header_checksum_is_translated() {
    let world = world(Family::V4);
    let mut packet = Packet::udp(at(Family::V4, 7, 1, 50_000), at(Family::V4, 9, 1, 80));
    for identification in 0..=u16::MAX {
        packet.network.identification = identification;
        let (_, bytes) = world.send(Hook::FromOutside, &packet);
        let expected = packet.between(packet.source, at(Family::V4, 2, 1, 8080));
        assert_eq!(bytes, expected.build(), "{identification:04x}");
    }
}

#[test]
fn an_absent_udp_checksum_stays_absent() {
    for family in Family::BOTH {
        let world = world(family);
        let transport = Transport::Udp { checksum: false };
        let (client, service) = (at(family, 7, 1, 50_000), at(family, 9, 1, 80));
        let packet = Packet::new(client, service, transport);
        let (_, bytes) = world.send(Hook::FromOutside, &packet);
        let sum = packet.transport_at() + 6;
        assert_eq!(bytes[sum..sum + 2], [0, 0]);
    }
}
