//! A packet for the pipeline: the first one of a connection, or a datagram.

use std::net::{IpAddr, SocketAddr};

use crate::model::object::{Family, Protocol};

/// Length of an Ethernet header.
pub(super) const NETWORK: usize = 14;

/// The first packet from `source` to `destination`, in an Ethernet frame; both are of one family.
///
/// The pipeline changes checksums and never verifies them, so there are none.
pub(super) fn first(source: SocketAddr, destination: SocketAddr, protocol: Protocol) -> Vec<u8> {
    let payload = transport(source.port(), destination.port(), protocol);
    let ethertype: u16 = match Family::of(source.ip()) {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    };
    let mut frame = vec![0; NETWORK - 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(network(
        source.ip(),
        destination.ip(),
        protocol,
        payload.len(),
    ));
    frame.extend(payload);
    frame
}

/// Time to live, or hop limit, as Linux has it.
const TTL: u8 = 64;

fn network(source: IpAddr, destination: IpAddr, protocol: Protocol, payload: usize) -> Vec<u8> {
    let length = |headers: usize| u16::try_from(headers + payload).unwrap_or(u16::MAX);
    let mut header = match source {
        // RFC 791, 3.1: version and header length; ToS; length; identification, fragment offset;
        // TTL; protocol; checksum.
        IpAddr::V4(_) => {
            let mut header = vec![0x45, 0];
            header.extend(length(20).to_be_bytes());
            header.extend([0, 0, 0, 0, TTL, protocol.number(), 0, 0]);
            header
        }
        // RFC 8200, 3: version, traffic class, flow label; payload length; next header; hop limit.
        IpAddr::V6(_) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(0).to_be_bytes());
            header.extend([protocol.number(), TTL]);
            header
        }
    };
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header
}

fn transport(source: u16, destination: u16, protocol: Protocol) -> Vec<u8> {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    match protocol {
        // RFC 9293, 3.1: numbers; header length; SYN; window; checksum, urgent pointer.
        Protocol::Tcp => {
            header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        }
        // RFC 768: length; checksum.
        Protocol::Udp => header.extend([0, 8, 0, 0]),
        // RFC 9260, 3.1 and 3.3.2: verification tag, checksum; an INIT chunk.
        Protocol::Sctp => {
            header.extend([0; 8]);
            header.extend([
                1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1,
            ]);
        }
    }
    header
}
