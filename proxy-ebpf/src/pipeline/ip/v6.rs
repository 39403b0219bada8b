//! IPv6 (RFC 8200), `ICMPv6` (RFC 4443), and IPv6 in IPv6 (RFC 2473).

use crate::layout::{Port, Tuple, V6, protocol};
use crate::pipeline::packet::access::{Packet, PseudoHeader, header_bytes};
use crate::pipeline::packet::checksum::Delta;
use crate::pipeline::packet::headers::{
    FragmentHeader, Headers, IP_MAX_PACKET, IpHeaderFields, Numbers, Skip, without_ports,
};
use crate::pipeline::packet::icmp::{
    HEADER, INITIAL_TTL, IcmpMessage, Quote, Quoted, control_words, short,
};
use crate::pipeline::packet::tunnel::{CLASS, outer_length};
use crate::pipeline::packet::version::IpVersion;
use crate::verifier::{barrier_var, hide_offset};

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Ipv6Header {
    pub(crate) version: u32,
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: V6,
    pub(crate) destination: V6,
}

header_bytes!(Ipv6Header = 40);

const IPV6_HEADER: usize = 40;

/// What lengths of extension headers are multiples of (RFC 8200, section 4).
const EXTENSION_UNIT: usize = 8;

/// So many bytes of extension headers are quoted, at most.
const MAX_QUOTED_EXTENSIONS: usize = 64;

/// Extension headers that are walked through (RFC 8200, section 4).
mod extension {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

impl IpVersion for V6 {
    type Pair = [V6; 2];
    const ADDRESSES: usize = 8;
    const CHECKSUM: Option<usize> = None;
    const TTL: usize = 7;
    const PSEUDO_HEADER: PseudoHeader = PseudoHeader::Ipv6;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> [Self; 2] {
        [source, destination]
    }

    #[inline(always)]
    fn parse_ip<P: Packet>(packet: &P, offset: usize) -> Result<IpHeaderFields<Self>, Skip> {
        let header: Ipv6Header = packet.read(offset).ok_or(Skip::Malformed)?;
        if u32::from_be(header.version) >> 28 != 6 {
            return Err(Skip::Malformed);
        }
        let payload = usize::from(u16::from_be(header.payload_length));
        let present = packet
            .len()
            .saturating_sub(offset + size_of::<Ipv6Header>());
        let length = if payload == 0 && present > IP_MAX_PACKET {
            present
        } else {
            payload
        };
        if length > present || (length == 0 && present != 0) {
            return Err(Skip::Malformed);
        }
        let extensions = offset + size_of::<Ipv6Header>();
        let (transport, protocol) = match walk_extensions(packet, extensions, header.next_header) {
            Ok((transport, protocol)) => (hide_walked_offset(packet, transport)?, protocol),
            Err(Skip::Fragment(at)) => return Err(Skip::Fragment(hide_walked_offset(packet, at)?)),
            Err(skip) => return Err(skip),
        };
        Ok(IpHeaderFields {
            transport,
            end: offset + size_of::<Ipv6Header>() + length,
            protocol,
            ttl: header.hop_limit,
            source: header.source,
            destination: header.destination,
        })
    }

    #[inline(always)]
    fn part<P: Packet>(packet: &P, network: usize, at: usize) -> Option<FragmentHeader<Self>> {
        const OFFSET: u16 = 0xfff8;
        // The compiler knows already that the packet is that long; the verifier does not.
        let network = barrier_var(network);
        let header: Ipv6Header = packet.read(network)?;
        let [next, position]: [u16; 2] = packet.read(at)?;
        let id: u32 = packet.read(at + 4)?;
        let transport = at + 8;
        let end = network + 40 + usize::from(u16::from_be(header.payload_length));
        // Else what looks like its header is behind the packet.
        (transport <= end).then(|| FragmentHeader {
            id,
            is_first: u16::from_be(position) & OFFSET == 0,
            headers: Headers {
                network,
                transport,
                end,
                protocol: next.to_ne_bytes()[0],
                ttl: header.hop_limit,
                tcp_flags: 0,
                numbers: Numbers::default(),
                tuple: without_ports([header.source, header.destination]),
            },
        })
    }

    const ICMP: u8 = protocol::ICMPV6;
    const HAS_PSEUDO_HEADER: bool = true;
    const ECHO_REQUEST: u8 = 128;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn is_unreachable(message: [u8; 2]) -> bool {
        // No route to the destination, address unreachable (RFC 4443, section 3.1).
        matches!(message, [1, 0 | 3])
    }

    #[inline(always)]
    fn next_hop_mtu([kind, value]: [u32; 2]) -> Option<u16> {
        // RFC 4443, section 3.2.
        const PACKET_TOO_BIG: u8 = 2;
        let [kind, ..] = kind.to_ne_bytes();
        let mtu = u16::try_from(u32::from_be(value)).unwrap_or(u16::MAX);
        (kind == PACKET_TOO_BIG).then_some(mtu)
    }

    #[inline(always)]
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool {
        let header: Option<Ipv6Header> = packet.read(offset);
        header.is_some_and(|header| header.next_header == protocol::IPV6)
    }

    #[inline(always)]
    fn parse_icmp<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>> {
        let header: Ipv6Header = packet.read(network)?;
        let transport = network + size_of::<Ipv6Header>();
        let length = usize::from(u16::from_be(header.payload_length));
        (header.next_header == Self::ICMP).then_some(Headers {
            network,
            transport,
            end: transport + length,
            protocol: Self::ICMP,
            ttl: header.hop_limit,
            tcp_flags: 0,
            numbers: Numbers::default(),
            tuple: Tuple {
                source: header.source,
                destination: header.destination,
                source_port: Port::default(),
                destination_port: Port::default(),
            },
        })
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>> {
        let header: Ipv6Header = packet.read(offset)?;
        if u32::from_be(header.version) >> 28 != 6 {
            return None;
        }
        let behind = offset + size_of::<Ipv6Header>();
        let (transport, protocol) = match walk_extensions(packet, behind, header.next_header) {
            Ok(found) => found,
            Err(Skip::Fragment(at)) => first_fragment(packet, offset, at)?,
            Err(_) => return None,
        };
        let payload_length = usize::from(u16::from_be(header.payload_length));
        Quote::read(
            packet,
            [offset, transport, behind + payload_length],
            protocol,
            [header.source, header.destination],
        )
    }

    type ErrorHeaders = [u32; 12];
    // RFC 4443, section 3.1: address unreachable.
    const HOST_UNREACHABLE: IcmpMessage = IcmpMessage {
        kind: 1,
        code: 3,
        value: 0,
    };
    const PORT_UNREACHABLE: IcmpMessage = IcmpMessage {
        kind: 1,
        code: 4,
        value: 0,
    };
    const TIME_EXCEEDED: IcmpMessage = IcmpMessage {
        kind: 3,
        code: 0,
        value: 0,
    };

    #[inline(always)]
    fn too_big(mtu: u16) -> IcmpMessage {
        IcmpMessage {
            kind: 2,
            code: 0,
            value: u32::from(mtu),
        }
    }

    #[inline(always)]
    fn sum_of<P: Packet>(packet: &P, quoted: &Quoted) -> Option<Delta> {
        let network: [u32; 10] = packet.read(quoted.network)?;
        let extensions = extensions_sum(packet, quoted)?;
        let headers = Delta::between(&[], &network).and(extensions);
        Some(headers.and(quoted.transport_sum))
    }

    #[inline(always)]
    fn error_headers(
        message: IcmpMessage,
        length: usize,
        sum: Delta,
        [V6(source), V6(destination)]: [V6; 2],
    ) -> [u32; 12] {
        let length = short(length + HEADER);
        let pseudo_header = [length.to_be(), u32::from(protocol::ICMPV6).to_be()];
        let sum = sum
            .and(Delta::between(&[], &source))
            .and(Delta::between(&[], &destination))
            .and(Delta::between(&[], &pseudo_header));
        let [control, value] = control_words(message, sum);
        let [s0, s1, s2, s3] = source;
        let [d0, d1, d2, d3] = destination;
        let lengths = length << 16 | u32::from(protocol::ICMPV6) << 8 | u32::from(INITIAL_TTL);
        let first = [0x6000_0000_u32.to_be(), lengths.to_be()];
        [
            first[0], first[1], s0, s1, s2, s3, d0, d1, d2, d3, control, value,
        ]
    }

    type Outer = [u32; 10];
    const ENCAP_PROTOCOL: u8 = protocol::IPV6;
    // RFC 2473, section 7.1.
    const MINIMUM_MTU: u16 = 1280;

    #[inline(always)]
    fn can_encapsulate(headers: &Headers<Self>) -> bool {
        headers.transport - headers.network == size_of::<Ipv6Header>()
    }

    #[inline(always)]
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<[u32; 10]> {
        let inner: Ipv6Header = packet.read(network)?;
        let length = outer_length(inner.payload_length, Self::OUTER);
        let port = u32::from(ends.destination_port.number());
        let (V6([s0, s1, s2, s3]), V6([d0, d1, d2, d3])) = (ends.source, ends.destination);
        let class = u32::from_be(inner.version) & u32::from(CLASS) << 20;
        let rest = length << 16 | u32::from(Self::ENCAP_PROTOCOL) << 8 | u32::from(INITIAL_TTL);
        let first = (6 << 28 | class | port).to_be();
        Some([first, rest.to_be(), s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn parse_outer<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>> {
        let header: Ipv6Header = packet.read(network)?;
        let inner: Ipv6Header = packet.read(network + Self::OUTER)?;
        // Without extension headers.
        let is_ours = header.next_header == Self::ENCAP_PROTOCOL
            && u32::from(u16::from_be(header.payload_length))
                == outer_length(inner.payload_length, Self::OUTER);
        is_ours.then_some(Tuple {
            source: header.source,
            destination: header.destination,
            source_port: Port::default(),
            destination_port: Port::new((u32::from_be(header.version) & 0xffff) as u16),
        })
    }
}

/// Offset and protocol of the first header that is no extension header.
#[inline(always)]
pub(crate) fn walk_extensions<P: Packet>(
    packet: &P,
    mut offset: usize,
    mut next: u8,
) -> Result<(usize, u8), Skip> {
    for _ in 0..=P::MAX_EXTENSION_HEADERS {
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
fn hide_walked_offset<P: Packet>(packet: &P, offset: usize) -> Result<usize, Skip> {
    /// No offset of a header exceeds this.
    const MAX_OFFSET: usize = 0x7fff;
    if P::MAX_EXTENSION_HEADERS == 0 {
        return Ok(offset);
    }
    if offset > MAX_OFFSET {
        return Err(Skip::Malformed);
    }
    Ok(hide_offset(offset, packet.len(), MAX_OFFSET))
}

/// The offset and protocol of the transport header of a first fragment, like
/// [`IpVersion::part`].
#[inline(always)]
fn first_fragment<P: Packet>(packet: &P, network: usize, at: usize) -> Option<(usize, u8)> {
    let part = V6::part(packet, network, at).filter(|part| part.is_first)?;
    Some((part.headers.transport, part.headers.protocol))
}

/// The sum of the extension headers between the IPv6 header and the transport header.
/// `None` where they are longer than is worth a sum.
#[inline(always)]
fn extensions_sum<P: Packet>(packet: &P, quoted: &Quoted) -> Option<Delta> {
    let mut sum = Delta::between(&[], &[]);
    let end = IPV6_HEADER + MAX_QUOTED_EXTENSIONS + EXTENSION_UNIT;
    for at in (IPV6_HEADER..end).step_by(EXTENSION_UNIT) {
        if at >= quoted.header {
            return Some(sum);
        }
        let words: [u32; 2] = packet.read(quoted.network + at)?;
        sum = sum.and(Delta::between(&[], &words));
    }
    None
}
