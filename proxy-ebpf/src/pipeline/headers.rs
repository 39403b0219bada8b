//! Reading link, network and transport headers.
//!
//! Each header is read once, whole, and checked: what is cut short or
//! contradicts itself is [`Skip::Malformed`] and will not be touched.

use super::fragment::Fragments;
use super::quote::WriteError;
use super::sctp::SctpHeader;
use super::tunnel::Tunnel;
use super::verifier::hide_offset;
use super::{Covers, Packet};
use crate::layout::{Bytes, Port, Tuple, V4, V6, flow_flags, protocol};

/// Why a packet is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// Another protocol.
    Other,
    /// Cut short, or its headers contradict each other.
    Malformed,
    /// A packet of the same IP version.
    Encapsulated,
    /// A fragment; where the header is that says so.
    Fragment(usize),
}

/// Where a packet's headers are, and what the pipeline needs of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<A> {
    /// Offset of the IP header.
    pub network: usize,
    /// Offset of the transport header.
    pub transport: usize,
    /// Offset of the first byte behind the IP packet.
    pub end: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// TCP's flags, or those that say what SCTP's first chunk says; 0 for other protocols.
    pub tcp_flags: u8,
    /// Addresses and ports; ICMP has no ports, they are 0.
    pub tuple: Tuple<A>,
}

/// Bits of [`Headers::tcp_flags`] (RFC 9293, section 3.1).
pub(super) mod tcp_flags {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const RST: u8 = 1 << 2;
    pub(crate) const ACK: u8 = 1 << 4;
}

impl<A> Headers<A> {
    /// Whether this packet asks for a new connection, or association.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
    }

    /// Whether a client that sends this takes up what it was answered: it neither asks
    /// for its connection again nor resets it.
    #[inline(always)]
    pub fn goes_on(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) == 0
    }

    /// What this packet says about the end of its connection, or association, in bits of
    /// [`flow_flags`].
    #[inline(always)]
    pub fn ending(&self) -> u32 {
        let flag = |bit, flow_flag| {
            if self.tcp_flags & bit == 0 {
                0
            } else {
                flow_flag
            }
        };
        flag(tcp_flags::FIN, flow_flags::FIN) | flag(tcp_flags::RST, flow_flags::RESET)
    }
}

/// What [`Version::network`] finds.
pub struct Network<A> {
    pub(super) transport: usize,
    /// Where the packet ends, by its own account; link-layer padding may follow.
    pub(super) end: usize,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) source: A,
    pub(super) destination: A,
}

/// What differs between the IP versions.
pub trait Version: WriteError + Fragments + Tunnel {
    /// Source and destination, as they are in the IP header.
    type Pair: Bytes;
    /// Offset of the source address in the IP header; the destination follows.
    const ADDRESSES: usize;
    /// Offset of the header checksum in the IP header, if there is one.
    const CHECKSUM: Option<usize>;
    /// Offset of time to live or hop limit in the IP header.
    const TTL: usize;
    /// What a change of addresses means to a transport checksum.
    const PSEUDO_HEADER: Covers;

    /// Source and destination.
    fn pair(source: Self, destination: Self) -> Self::Pair;

    /// Reads the IP header at `offset`, and what follows up to the transport
    /// header.
    fn network<P: Packet>(packet: &P, offset: usize) -> Result<Network<Self>, Skip>;
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ipv4Header {
    pub(super) version_and_length: u8,
    pub(super) service: u8,
    pub(super) total_length: u16,
    pub(super) identification: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) checksum: u16,
    pub(super) source: V4,
    pub(super) destination: V4,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ipv6Header {
    pub(super) version: u32,
    pub(super) payload_length: u16,
    pub(super) next_header: u8,
    pub(super) hop_limit: u8,
    pub(super) source: V6,
    pub(super) destination: V6,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct TcpHeader {
    source: Port,
    destination: Port,
    sequence: u32,
    acknowledgment: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct UdpHeader {
    source: Port,
    destination: Port,
    length: u16,
    checksum: u16,
}

macro_rules! header_bytes {
    ($($type:ty = $size:literal),*) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size);
            // SAFETY: `#[repr(C)]` of integers, and the size shows that there is
            // no padding.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl Bytes for $type {}
        )*
    };
}

header_bytes!(
    Ipv4Header = 20,
    Ipv6Header = 40,
    TcpHeader = 20,
    UdpHeader = 8
);

/// More fragments, or an offset that is not 0 (RFC 791).
const IPV4_FRAGMENT: u16 = 0x3fff;
/// A socket buffer longer than this has come through segmentation offload with
/// BIG TCP, where the length fields of IP hold 0.
const LONGEST_PACKET: usize = 65_535;

impl Version for V4 {
    type Pair = [V4; 2];
    const ADDRESSES: usize = 12;
    const CHECKSUM: Option<usize> = Some(10);
    const TTL: usize = 8;
    const PSEUDO_HEADER: Covers = Covers::Ipv4PseudoHeader;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> [Self; 2] {
        [source, destination]
    }

    #[inline(always)]
    fn network<P: Packet>(packet: &P, offset: usize) -> Result<Network<Self>, Skip> {
        let header: Ipv4Header = packet.read(offset).ok_or(Skip::Malformed)?;
        let header_length = usize::from(header.version_and_length & 0x0f) * 4;
        if header.version_and_length >> 4 != 4 || header_length < size_of::<Ipv4Header>() {
            return Err(Skip::Malformed);
        }
        let total_length = usize::from(u16::from_be(header.total_length));
        let present = packet.len().saturating_sub(offset);
        let length = if total_length == 0 && present > LONGEST_PACKET {
            present
        } else {
            total_length
        };
        if length < header_length || length > present {
            return Err(Skip::Malformed);
        }
        if u16::from_be(header.fragment) & IPV4_FRAGMENT != 0 {
            return Err(Skip::Fragment(offset));
        }
        Ok(Network {
            transport: offset + header_length,
            end: offset + length,
            protocol: header.protocol,
            ttl: header.ttl,
            source: header.source,
            destination: header.destination,
        })
    }
}

/// Extension headers that are walked through (RFC 8200, section 4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

impl Version for V6 {
    type Pair = [V6; 2];
    const ADDRESSES: usize = 8;
    const CHECKSUM: Option<usize> = None;
    const TTL: usize = 7;
    const PSEUDO_HEADER: Covers = Covers::Ipv6PseudoHeader;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> [Self; 2] {
        [source, destination]
    }

    #[inline(always)]
    fn network<P: Packet>(packet: &P, offset: usize) -> Result<Network<Self>, Skip> {
        let header: Ipv6Header = packet.read(offset).ok_or(Skip::Malformed)?;
        if u32::from_be(header.version) >> 28 != 6 {
            return Err(Skip::Malformed);
        }
        let payload = usize::from(u16::from_be(header.payload_length));
        let present = packet
            .len()
            .saturating_sub(offset + size_of::<Ipv6Header>());
        let length = if payload == 0 && present > LONGEST_PACKET {
            present
        } else {
            payload
        };
        if length > present || (length == 0 && present != 0) {
            return Err(Skip::Malformed);
        }
        let extensions = offset + size_of::<Ipv6Header>();
        let (transport, protocol) = match walk_extensions(packet, extensions, header.next_header) {
            Ok((transport, protocol)) => (walked_to(packet, transport)?, protocol),
            Err(Skip::Fragment(at)) => return Err(Skip::Fragment(walked_to(packet, at)?)),
            Err(skip) => return Err(skip),
        };
        Ok(Network {
            transport,
            end: offset + size_of::<Ipv6Header>() + length,
            protocol,
            ttl: header.hop_limit,
            source: header.source,
            destination: header.destination,
        })
    }
}

/// Offset and protocol of the first header that is no extension header.
#[inline(always)]
pub(super) fn walk_extensions<P: Packet>(
    packet: &P,
    mut offset: usize,
    mut next: u8,
) -> Result<(usize, u8), Skip> {
    for _ in 0..=P::MOST_EXTENSIONS {
        match next {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION_OPTIONS => {
                let [following, length]: [u8; 2] = packet.read(offset).ok_or(Skip::Malformed)?;
                next = following;
                offset += (usize::from(length) + 1) * 8;
            }
            extension::FRAGMENT => {
                let [next_and_reserved, position]: [u16; 2] =
                    packet.read(offset).ok_or(Skip::Malformed)?;
                // The offset's 13 bits and the flag for more; without either it
                // is an atomic fragment, a whole packet (RFC 6946).
                if u16::from_be(position) & 0xfff9 != 0 {
                    return Err(Skip::Fragment(offset));
                }
                next = u16::from_be(next_and_reserved).to_be_bytes()[0];
                offset += 8;
            }
            _ => return Ok((offset, next)),
        }
    }
    Err(Skip::Other)
}

/// An offset behind extension headers. The verifier has come there by a way of its own for each
/// number of them, and would follow each to the end.
#[inline(always)]
fn walked_to<P: Packet>(packet: &P, offset: usize) -> Result<usize, Skip> {
    /// No offset of a header exceeds this.
    const FARTHEST: usize = 0x7fff;
    if P::MOST_EXTENSIONS == 0 {
        return Ok(offset);
    }
    if offset > FARTHEST {
        return Err(Skip::Malformed);
    }
    Ok(hide_offset(offset, packet.len(), FARTHEST))
}

/// Offset of the network header and EtherType of an Ethernet frame, behind up to
/// two VLAN tags.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P) -> Option<(usize, u16)> {
    const VLAN: u16 = 0x8100;
    const SERVICE_VLAN: u16 = 0x88a8;
    let mut offset = 12;
    let mut kind = u16::from_be(packet.read(offset)?);
    for _ in 0..2 {
        if kind != VLAN && kind != SERVICE_VLAN {
            break;
        }
        offset += 4;
        kind = u16::from_be(packet.read(offset)?);
    }
    Some((offset + 2, kind))
}

/// Reads the headers of a packet of IP version `A` whose IP header is at
/// `network`.
#[inline(always)]
pub fn parse<A: Version, P: Packet>(packet: &P, network: usize) -> Result<Headers<A>, Skip> {
    let found = A::network(packet, network)?;
    let headers = Headers {
        network,
        transport: found.transport,
        end: found.end,
        protocol: found.protocol,
        ttl: found.ttl,
        tcp_flags: 0,
        tuple: Tuple {
            source: found.source,
            destination: found.destination,
            source_port: Port::default(),
            destination_port: Port::default(),
        },
    };
    let present = found.end.saturating_sub(found.transport);
    with_ports(packet, headers, present)
}

/// Reads the transport header too; a datagram can be of `longest` bytes.
#[inline(always)]
pub(super) fn with_ports<A: Version, P: Packet>(
    packet: &P,
    mut headers: Headers<A>,
    longest: usize,
) -> Result<Headers<A>, Skip> {
    match headers.protocol {
        protocol::TCP => {
            let header: TcpHeader = packet.read(headers.transport).ok_or(Skip::Malformed)?;
            let length = usize::from(header.data_offset >> 4) * 4;
            let present = headers.end.saturating_sub(headers.transport);
            if length < size_of::<TcpHeader>() || length > present {
                return Err(Skip::Malformed);
            }
            headers.tuple.source_port = header.source;
            headers.tuple.destination_port = header.destination;
            headers.tcp_flags = header.flags;
        }
        protocol::UDP => {
            let header: UdpHeader = packet.read(headers.transport).ok_or(Skip::Malformed)?;
            let length = usize::from(u16::from_be(header.length));
            if length < size_of::<UdpHeader>() || length > longest {
                return Err(Skip::Malformed);
            }
            headers.tuple.source_port = header.source;
            headers.tuple.destination_port = header.destination;
        }
        protocol::SCTP => {
            let header: SctpHeader = packet.read(headers.transport).ok_or(Skip::Malformed)?;
            if headers.transport + size_of::<SctpHeader>() > headers.end {
                return Err(Skip::Malformed);
            }
            headers.tuple.source_port = header.source;
            headers.tuple.destination_port = header.destination;
            headers.tcp_flags = header.meaning();
        }
        number if number == A::ICMP => {}
        number if number == A::INSIDE => return Err(Skip::Encapsulated),
        _ => return Err(Skip::Other),
    }
    Ok(headers)
}
