//! Where the fields of any frame are, and whether its checksums hold.

use std::net::IpAddr;

use super::checksum::{checksum, crc32c, pseudo_header};

/// Where the parts of a TCP, UDP, SCTP or ICMP packet are in a frame, or of a fragment of one,
/// which may have no transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// The IP header.
    pub network: usize,
    /// The transport header.
    pub transport: usize,
    /// Where the IP packet ends.
    pub end: usize,
    /// The protocol number.
    pub protocol: u8,
    /// Whether this is IPv4.
    pub is_ipv4: bool,
    /// Whether this is a fragment.
    pub is_fragment: bool,
}

/// What the checksums of a frame are worth; `None` where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checksums {
    /// Of the IPv4 header.
    pub network: Option<bool>,
    /// Of TCP, UDP, SCTP or ICMP.
    pub transport: Option<bool>,
}

fn byte(frame: &[u8], at: usize) -> Option<usize> {
    frame.get(at).map(|&it| usize::from(it))
}

fn short(frame: &[u8], at: usize) -> Option<usize> {
    Some(byte(frame, at)? << 8 | byte(frame, at + 1)?)
}

impl Places {
    /// Finds its way through a frame with an Ethernet header.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        for _ in 0..2 {
            if matches!(short(frame, at)?, 0x8100 | 0x88a8) {
                at += 4;
            }
        }
        match short(frame, at)? {
            0x0800 | 0x86dd => Self::of_packet(frame, at + 2, short(frame, at)? == 0x0800),
            _ => None,
        }
    }

    /// Finds its way from the IP header on.
    pub fn of_packet(frame: &[u8], network: usize, is_ipv4: bool) -> Option<Self> {
        let mut is_fragment = false;
        let (transport, end, protocol) = if is_ipv4 {
            let transport = network + (byte(frame, network)? & 15) * 4;
            let end = network + short(frame, network + 2)?;
            is_fragment = short(frame, network + 6)? & 0x3fff != 0;
            if transport < network + 20 {
                return None;
            }
            (transport, end, byte(frame, network + 9)?)
        } else {
            let end = network + 40 + short(frame, network + 4)?;
            let (mut at, mut next) = (network + 40, byte(frame, network + 6)?);
            while matches!(next, 0 | 43 | 44 | 60) {
                let length = byte(frame, at + 1)?;
                is_fragment |= next == 44 && short(frame, at + 2)? & 0xfff9 != 0;
                let step = if next == 44 { 8 } else { 8 + length * 8 };
                next = byte(frame, at)?;
                at += step;
            }
            (at, end, next)
        };
        let header = match protocol {
            1 | 6 | 17 | 58 | 132 if is_fragment => 0,
            6 => 20,
            132 => 16,
            1 | 17 | 58 => 8,
            _ => return None,
        };
        (transport + header <= end && end <= frame.len()).then_some(Self {
            network,
            transport,
            end,
            protocol: u8::try_from(protocol).ok()?,
            is_ipv4,
            is_fragment,
        })
    }

    /// The bytes of the IP addresses.
    pub fn addresses(&self) -> std::ops::Range<usize> {
        if self.is_ipv4 {
            self.network + 12..self.network + 20
        } else {
            self.network + 8..self.network + 40
        }
    }

    /// The byte of time to live or hop limit.
    pub fn ttl(&self) -> usize {
        self.network + if self.is_ipv4 { 8 } else { 7 }
    }

    /// The bytes of the transport checksum.
    pub fn transport_checksum(&self) -> std::ops::Range<usize> {
        let (at, length) = match self.protocol {
            6 => (16, 2),
            17 => (6, 2),
            132 => (8, 4),
            _ => (2, 2),
        };
        self.transport + at..self.transport + at + length
    }

    /// Whether a translation may change this byte, apart from time to live and
    /// link-layer addresses.
    pub fn is_of_translation(&self, at: usize) -> bool {
        let ip_checksum = self.network + 10..self.network + 12;
        self.addresses().contains(&at)
            || (self.transport..self.transport + 4).contains(&at)
            || self.transport_checksum().contains(&at)
            || (self.is_ipv4 && ip_checksum.contains(&at))
    }
}

impl Checksums {
    /// Computes them over all that they cover.
    pub fn of(frame: &[u8], places: &Places) -> Self {
        let header = &frame[places.network..places.transport];
        let segment = &frame[places.transport..places.end];
        let addresses = &frame[places.addresses()];
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        let pseudo = pseudo_header(
            read_address(source),
            read_address(destination),
            places.protocol,
            segment.len(),
        );
        // That of ICMP covers no addresses.
        let pseudo = if places.protocol == 1 {
            &[]
        } else {
            &pseudo[..]
        };
        if places.is_fragment {
            return Self {
                network: places.is_ipv4.then(|| checksum([header]) == 0),
                transport: None,
            };
        }
        if places.protocol == 132 {
            let mut bytes = segment.to_vec();
            let field = places.transport_checksum();
            bytes[field.start - places.transport..field.end - places.transport].fill(0);
            let is_right = crc32c(&bytes).to_le_bytes() == frame[field];
            return Self {
                network: places.is_ipv4.then(|| checksum([header]) == 0),
                transport: Some(is_right),
            };
        }
        let is_absent = places.protocol == 17 && frame[places.transport_checksum()] == [0, 0];
        Self {
            network: places.is_ipv4.then(|| checksum([header]) == 0),
            transport: (!is_absent).then(|| checksum([pseudo, segment]) == 0),
        }
    }
}

fn read_address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) => bytes.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("16 bytes").into(),
    }
}
