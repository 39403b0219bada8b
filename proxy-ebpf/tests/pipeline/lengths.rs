//! Packets that are cut short, or whose headers contradict each other.

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Choices, Extension, Packet, chunks, tcp_flags};

use super::untouched::is_untouched;
use super::world::at;
use crate::host::Link;
use crate::layout::Counter;

const MALFORMED: &[Counter] = &[Counter::Malformed];

fn udp(family: Family) -> Packet {
    Packet::udp(at(family, 7, 7, 50_000), at(family, 9, 1, 80))
}

fn tcp(family: Family) -> Packet {
    Packet::tcp(
        at(family, 7, 7, 50_000),
        at(family, 9, 1, 80),
        tcp_flags::SYN,
    )
}

fn sctp(family: Family) -> Packet {
    Packet::sctp(at(family, 7, 7, 50_000), at(family, 9, 1, 80), chunks::INIT)
}

/// Malformed with the packet's bytes changed like this.
fn is_malformed(packet: &Packet, change: impl FnOnce(&mut [u8])) {
    let mut bytes = packet.build();
    change(&mut bytes);
    is_untouched(&bytes, Link::Ethernet, MALFORMED);
    let bare = &bytes[packet.network_at()..];
    is_untouched(bare, Link::Ip(packet.ether_type()), MALFORMED);
}

/// Writes a number of two bytes.
fn put(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap();
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Where the IP header says how long the packet is, and what of it counts.
fn length_field(packet: &Packet) -> (usize, usize) {
    let network = packet.network_at();
    if packet.source.is_ipv4() {
        (network + 2, network)
    } else {
        (network + 4, network + 40)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn cut_short_at_any_byte(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut choices = Choices::new(&bytes);
        let family = choices.one_of(&Family::BOTH);
        let (source, destination) = (at(family, 7, 7, 50_000), at(family, 9, 1, 80));
        let packet = Packet::random(&mut choices, source, destination);
        let bytes = packet.build();
        for length in 0..packet.network_at() {
            // Not known to be IP.
            is_untouched(&bytes[..length], Link::Ethernet, &[]);
        }
        for length in packet.network_at()..packet.end() {
            is_untouched(&bytes[..length], Link::Ethernet, MALFORMED);
        }
    }
}

#[test]
fn cut_short_at_any_byte_without_an_ethernet_header() {
    for family in Family::BOTH {
        for packet in [udp(family), tcp(family), sctp(family)] {
            let bytes = packet.build();
            for length in packet.network_at()..packet.end() {
                let bare = &bytes[packet.network_at()..length];
                is_untouched(bare, Link::Ip(packet.ether_type()), MALFORMED);
            }
        }
    }
}

#[test]
fn another_ip_version_than_the_ether_type() {
    for family in Family::BOTH {
        let packet = udp(family);
        for version in 0..16u8 {
            let own = if family == Family::V4 { 4 } else { 6 };
            if version != own {
                is_malformed(&packet, |bytes| {
                    let first = &mut bytes[packet.network_at()];
                    *first = version << 4 | *first & 15;
                });
            }
        }
    }
}

#[test]
fn an_ipv4_header_shorter_than_its_fixed_part() {
    let packet = udp(Family::V4);
    for words in 0..5 {
        is_malformed(&packet, |bytes| bytes[packet.network_at()] = 0x40 | words);
    }
}

#[test]
fn an_ipv4_header_longer_than_the_packet() {
    let packet = Packet {
        payload: Vec::new(),
        trailer: vec![0; 64],
        ..udp(Family::V4)
    };
    for words in 8..=15 {
        is_malformed(&packet, |bytes| bytes[packet.network_at()] = 0x40 | words);
    }
}

#[test]
fn longer_than_what_is_there() {
    for family in Family::BOTH {
        let packet = udp(family);
        let (field, from) = length_field(&packet);
        for more in [1, 7, 1000] {
            is_malformed(&packet, |bytes| {
                put(bytes, field, packet.end() - from + more);
            });
        }
    }
}

#[test]
fn an_ip_length_of_zero() {
    for family in Family::BOTH {
        let packet = udp(family);
        let (field, _) = length_field(&packet);
        is_malformed(&packet, |bytes| put(bytes, field, 0));
    }
}

#[test]
fn an_ip_packet_that_ends_within_its_headers() {
    // The frame goes on, but what follows is not the packet's.
    for family in Family::BOTH {
        for (packet, header) in [(udp(family), 8), (tcp(family), 20), (sctp(family), 16)] {
            let (field, from) = length_field(&packet);
            let enough = packet.transport_at() + header - from;
            for length in 1..enough {
                is_malformed(&packet, |bytes| put(bytes, field, length));
            }
        }
    }
}

#[test]
fn an_extension_header_that_leads_out_of_the_packet() {
    let mut packet = udp(Family::V6);
    packet.network.extensions = vec![Extension {
        kind: 0,
        content: vec![0; 6],
    }];
    for units in [2, 9, 255] {
        is_malformed(&packet, |bytes| bytes[packet.network_at() + 41] = units);
    }
}

#[test]
fn a_tcp_header_shorter_than_its_fixed_part() {
    for family in Family::BOTH {
        let packet = tcp(family);
        for words in 0..5 {
            is_malformed(&packet, |bytes| {
                bytes[packet.transport_at() + 12] = words << 4;
            });
        }
    }
}

#[test]
fn a_tcp_header_longer_than_the_packet() {
    for family in Family::BOTH {
        let packet = Packet {
            payload: vec![0; 4],
            trailer: vec![0; 64],
            ..tcp(family)
        };
        for words in 7..16 {
            is_malformed(&packet, |bytes| {
                bytes[packet.transport_at() + 12] = words << 4;
            });
        }
    }
}

#[test]
fn a_udp_length_shorter_than_its_header() {
    for family in Family::BOTH {
        let packet = udp(family);
        for length in 0..8 {
            is_malformed(&packet, |bytes| {
                put(bytes, packet.transport_at() + 4, length);
            });
        }
    }
}

#[test]
fn a_udp_length_longer_than_the_packet() {
    for family in Family::BOTH {
        let packet = Packet {
            trailer: vec![0; 64],
            ..udp(family)
        };
        let there = packet.end() - packet.transport_at();
        for more in [1, 2, 64, 1000] {
            is_malformed(&packet, |bytes| {
                put(bytes, packet.transport_at() + 4, there + more);
            });
        }
    }
}
