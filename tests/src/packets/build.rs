//! A packet's bytes, from its description.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{checksum, crc32c, pseudo_header};
use super::{Packet, Transport, Tunnel};

impl Packet {
    /// Its bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.link_header();
        let outer_at = bytes.len();
        let transport = self.transport_bytes();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend(self.ipv4_header(source, destination, transport.len()));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend(self.ipv6_headers(source, destination, transport.len()));
            }
            _ => panic!("addresses of two families"),
        }
        bytes.extend(transport);
        if let Some(tunnel) = self.tunnel {
            let outer = self.outer_header(tunnel, bytes.len() - outer_at);
            bytes.splice(outer_at..outer_at, outer);
        }
        bytes.extend(&self.trailer);
        bytes
    }

    fn link_header(&self) -> Vec<u8> {
        let Some(link) = &self.link else {
            return Vec::new();
        };
        let mut bytes = [link.destination, link.source].concat();
        for tag in &link.tags {
            bytes.extend(tag.kind.to_be_bytes());
            bytes.extend(tag.control.to_be_bytes());
        }
        bytes.extend(self.ether_type().to_be_bytes());
        bytes
    }

    /// The header of a tunnel around `length` bytes.
    fn outer_header(&self, tunnel: Tunnel, length: usize) -> Vec<u8> {
        // Without the bits for congestion.
        let service = self.network.service & 0xfc;
        let port = tunnel.endpoint.port().to_be_bytes();
        match (tunnel.source, tunnel.endpoint.ip()) {
            (IpAddr::V4(source), IpAddr::V4(endpoint)) => {
                let mut bytes = vec![0x45, service];
                bytes.extend(short(20 + length));
                bytes.extend(port);
                bytes.extend([0x40, 0, 64, 4, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(endpoint.octets());
                let sum = checksum([&bytes[..]]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(endpoint)) => {
                let mut bytes = vec![0x60 | service >> 4, service << 4];
                bytes.extend(port);
                bytes.extend(short(length));
                bytes.extend([41, 64]);
                bytes.extend(source.octets());
                bytes.extend(endpoint.octets());
                bytes
            }
            _ => panic!("addresses of two families"),
        }
    }

    fn ipv4_header(&self, source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Vec<u8> {
        let network = &self.network;
        let words = 5 + network.options.len() / 4;
        let mut bytes = vec![
            0x40 | u8::try_from(words).expect("options"),
            network.service,
        ];
        bytes.extend(short(words * 4 + length));
        bytes.extend(network.identification.to_be_bytes());
        let fragment = network
            .fragment
            .map_or(0, |it| it.offset | if it.more { 0x2000 } else { 0 });
        let flags = if network.dont_fragment { 0x4000 } else { 0 };
        bytes.extend((fragment | flags).to_be_bytes());
        bytes.extend([self.ttl, self.protocol(), 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(&network.options);
        let sum = checksum([&bytes[..]]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn ipv6_headers(&self, source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> Vec<u8> {
        let network = &self.network;
        let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
        for extension in &network.extensions {
            let units = (extension.content.len() + 2) / 8 - 1;
            let mut bytes = vec![0, u8::try_from(units).expect("an extension header")];
            bytes.extend(&extension.content);
            headers.push((extension.kind, bytes));
        }
        if let Some(fragment) = network.fragment {
            let position = fragment.offset << 3 | u16::from(fragment.more);
            let [a, b] = position.to_be_bytes();
            headers.push((44, vec![0, 0, a, b, 0, 0, 0, 1]));
        }
        // Each header tells the kind of the one behind it.
        let mut next = self.protocol();
        for (kind, bytes) in headers.iter_mut().rev() {
            bytes[0] = next;
            next = *kind;
        }
        let extensions: Vec<u8> = headers.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let first = 6 << 28 | u32::from(network.service) << 20 | u32::from(network.identification);
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(short(extensions.len() + length));
        bytes.extend([next, self.ttl]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(extensions);
        bytes
    }

    /// The transport header and what follows it.
    pub(super) fn transport_bytes(&self) -> Vec<u8> {
        let ports = [self.source.port(), self.destination.port()].map(u16::to_be_bytes);
        let mut bytes = ports.concat();
        let checksum_at = match &self.transport {
            Transport::Other(_) => return self.payload.clone(),
            Transport::Icmp {
                kind,
                value,
                about,
                quoted,
            } => {
                bytes = [kind[0], kind[1], 0, 0].to_vec();
                bytes.extend(value.to_be_bytes());
                let about = about.build().split_off(about.outermost_at());
                bytes.extend(&about[..*quoted]);
                Some(2)
            }
            Transport::Tcp {
                flags,
                numbers: [sequence, acknowledgment],
                options,
            } => {
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledgment.to_be_bytes());
                let words = u8::try_from(5 + options.len() / 4).expect("options");
                bytes.extend([words << 4, *flags, 0x72, 0x10, 0, 0, 0, 0]);
                bytes.extend(options);
                Some(16)
            }
            Transport::Sctp { chunk, tag } => {
                bytes.extend(tag.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend([*chunk, 0]);
                bytes.extend(short(4 + self.payload.len()));
                bytes.extend(&self.payload);
                let sum = crc32c(&bytes);
                bytes[8..12].copy_from_slice(&sum.to_le_bytes());
                return bytes;
            }
            Transport::Udp { checksum } => {
                bytes.extend(short(8 + self.payload.len()));
                bytes.extend([0, 0]);
                checksum.then_some(6)
            }
        };
        bytes.extend(&self.payload);
        if let Some(at) = checksum_at {
            let (source, destination) = (self.source.ip(), self.destination.ip());
            let pseudo = pseudo_header(source, destination, self.protocol(), bytes.len());
            let pseudo = if self.protocol() == 1 {
                &[]
            } else {
                &pseudo[..]
            };
            let sum = checksum([pseudo, &bytes]);
            let is_udp = matches!(self.transport, Transport::Udp { .. });
            let sum = if is_udp && sum == 0 { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("a packet's length")
        .to_be_bytes()
}
