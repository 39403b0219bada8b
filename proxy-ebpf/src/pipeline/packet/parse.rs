//! Parses link, network and transport headers.
//!
//! Each header is read once, as a whole, and checked: a truncated or inconsistent one is
//! [`Skip::Malformed`], and its packet is not translated.

use super::access::{Packet, header_bytes};
use super::headers::{FragmentHeader, Headers, Numbers, Skip, tcp_flags};
use super::sctp::SctpHeader;
use super::version::IpVersion;
use crate::layout::{Port, Tuple, protocol};

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

header_bytes!(TcpHeader = 20, UdpHeader = 8);

/// Offset of the network header and EtherType of an Ethernet frame. One with a VLAN tag has the
/// tag's type: it is the VLAN device's business.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P) -> Option<(usize, u16)> {
    const ETHERTYPE: usize = 12;
    Some((ETHERTYPE + 2, u16::from_be(packet.read(ETHERTYPE)?)))
}

/// Reads the headers of a packet of IP version `A` whose IP header is at
/// `network`.
#[inline(always)]
pub fn parse<A: IpVersion, P: Packet>(packet: &P, network: usize) -> Result<Headers<A>, Skip> {
    let found = A::parse_ip(packet, network)?;
    let headers = Headers {
        network,
        transport: found.transport,
        end: found.end,
        protocol: found.protocol,
        ttl: found.ttl,
        tcp_flags: 0,
        numbers: Numbers::default(),
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
pub(crate) fn with_ports<A: IpVersion, P: Packet>(
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
            headers.numbers = numbers_of(&header, present - length);
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
            headers.tcp_flags = header.tcp_flags();
        }
        number if number == A::ICMP => {}
        number if number == A::ENCAP_PROTOCOL => return Err(Skip::Encapsulated),
        _ => return Err(Skip::Other),
    }
    Ok(headers)
}

/// The numbers of a segment with so much data. That of a SYN does not count: it need not be
/// accepted (RFC 7413).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a packet's length")]
fn numbers_of(header: &TcpHeader, data: usize) -> Numbers {
    let sequence = u32::from_be(header.sequence);
    let length = if header.flags & tcp_flags::SYN == 0 {
        // FIN is the lowest bit.
        data as u32 + u32::from(header.flags & tcp_flags::FIN)
    } else {
        1
    };
    Numbers {
        sequence,
        acknowledgment: u32::from_be(header.acknowledgment),
        next: sequence.wrapping_add(length),
    }
}

/// A first fragment tells the length of its whole packet.
const MAX_DATAGRAM: usize = u16::MAX as usize;

impl<A: IpVersion> FragmentHeader<A> {
    #[inline(always)]
    pub(crate) fn read<P: Packet>(packet: &P, network: usize) -> Option<Self> {
        match parse::<A, P>(packet, network) {
            Err(Skip::Fragment(at)) => A::part(packet, network, at),
            _ => None,
        }
    }

    /// The headers of a first fragment, with ports; `None` where it has none.
    #[inline(always)]
    pub(crate) fn first<P: Packet>(&self, packet: &P) -> Option<Headers<A>> {
        if self.headers.protocol == A::ICMP {
            return None;
        }
        with_ports(packet, self.headers, MAX_DATAGRAM).ok()
    }
}

/// The headers of a packet, or of its first fragment, and whether it is whole.
#[inline(always)]
pub(crate) fn parse_or_first_fragment<A: IpVersion, P: Packet>(
    packet: &P,
    network: usize,
) -> Option<(Headers<A>, bool)> {
    let (mut headers, is_whole) = match parse::<A, P>(packet, network) {
        Ok(headers) => (headers, true),
        Err(Skip::Fragment(at)) => {
            let part = A::part(packet, network, at)?;
            if !part.is_first {
                return None;
            }
            (part.first(packet)?, false)
        }
        Err(_) => return None,
    };
    headers.hide_protocol();
    Some((headers, is_whole))
}
