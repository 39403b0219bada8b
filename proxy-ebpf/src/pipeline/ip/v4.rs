//! IPv4 (RFC 791), ICMP (RFC 792), and IPv4 in IPv4 (RFC 2003).

use crate::layout::{Port, Tuple, V4, protocol};
use crate::pipeline::packet::access::{Packet, PseudoHeader, header_bytes};
use crate::pipeline::packet::checksum::{Delta, checksum_of};
use crate::pipeline::packet::headers::{
    FragmentHeader, Headers, IP_MAX_PACKET, IpHeaderFields, Numbers, Skip, without_ports,
};
use crate::pipeline::packet::icmp::{
    INITIAL_TTL, IcmpMessage, Quote, Quoted, control_words, short,
};
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::tunnel::{CLASS, outer_length};
use crate::pipeline::packet::version::IpVersion;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Ipv4Header {
    pub(crate) version_and_length: u8,
    pub(crate) service: u8,
    pub(crate) total_length: u16,
    pub(crate) identification: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: V4,
    pub(crate) destination: V4,
}

header_bytes!(Ipv4Header = 20);

/// More fragments, or an offset that is not 0 (RFC 791).
const IPV4_FRAGMENT: u16 = 0x3fff;

/// Of IPv4 packets with routing information, such as ICMP errors (RFC 1812, section
/// 4.3.2.5: precedence 6).
const INTERNETWORK_CONTROL: u32 = 0xc0;

/// "Don't fragment" in the word of identification and fragment offset.
const DONT_FRAGMENT: u32 = 0x4000;

impl IpVersion for V4 {
    type Pair = [V4; 2];
    const ADDRESSES: usize = 12;
    const CHECKSUM: Option<usize> = Some(10);
    const TTL: usize = 8;
    const PSEUDO_HEADER: PseudoHeader = PseudoHeader::Ipv4;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> [Self; 2] {
        [source, destination]
    }

    #[inline(always)]
    fn parse_ip<P: Packet>(packet: &P, offset: usize) -> Result<IpHeaderFields<Self>, Skip> {
        let header: Ipv4Header = packet.read(offset).ok_or(Skip::Malformed)?;
        let header_length = usize::from(header.version_and_length & 0x0f) * 4;
        if header.version_and_length >> 4 != 4 || header_length < size_of::<Ipv4Header>() {
            return Err(Skip::Malformed);
        }
        let total_length = usize::from(u16::from_be(header.total_length));
        let present = packet.len().saturating_sub(offset);
        let length = if total_length == 0 && present > IP_MAX_PACKET {
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
        Ok(IpHeaderFields {
            transport: offset + header_length,
            end: offset + length,
            protocol: header.protocol,
            ttl: header.ttl,
            source: header.source,
            destination: header.destination,
        })
    }

    #[inline(always)]
    fn part<P: Packet>(packet: &P, network: usize, _: usize) -> Option<FragmentHeader<Self>> {
        const OFFSET: u16 = 0x1fff;
        let header: Ipv4Header = packet.read(network)?;
        let length = usize::from(header.version_and_length & 0x0f) * 4;
        Some(FragmentHeader {
            id: u32::from(header.identification),
            is_first: u16::from_be(header.fragment) & OFFSET == 0,
            headers: Headers {
                network,
                transport: network + length,
                end: network + usize::from(u16::from_be(header.total_length)),
                protocol: header.protocol,
                ttl: header.ttl,
                tcp_flags: 0,
                numbers: Numbers::default(),
                tuple: without_ports([header.source, header.destination]),
            },
        })
    }

    const ICMP: u8 = protocol::ICMP;
    const HAS_PSEUDO_HEADER: bool = false;
    const ECHO_REQUEST: u8 = 8;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        const DESTINATION_UNREACHABLE: u8 = 3;
        const TIME_EXCEEDED: u8 = 11;
        const PARAMETER_PROBLEM: u8 = 12;
        matches!(
            kind,
            DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }

    #[inline(always)]
    fn is_unreachable(message: [u8; 2]) -> bool {
        // Network and host: unreachable (RFC 792), unknown, unreachable for the type of service
        // (RFC 1122, section 3.2.2.1). That it is forbidden says nothing of the endpoint.
        matches!(message, [3, 0 | 1 | 6 | 7 | 11 | 12])
    }

    #[inline(always)]
    fn next_hop_mtu([kind, value]: [u32; 2]) -> Option<u16> {
        // RFC 1191, section 4.
        const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
        let [kind, code, ..] = kind.to_ne_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "the second half of it")]
        let mtu = u32::from_be(value) as u16;
        ([kind, code] == FRAGMENTATION_NEEDED).then_some(mtu)
    }

    #[inline(always)]
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool {
        let header: Option<Ipv4Header> = packet.read(offset);
        header.is_some_and(|header| header.protocol == protocol::IPIP)
    }

    #[inline(always)]
    fn parse_icmp<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>> {
        parse(packet, network).ok()
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>> {
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        let header: Ipv4Header = packet.read(offset)?;
        let length = usize::from(header.version_and_length & 0x0f) * 4;
        let has_ports = u16::from_be(header.fragment) & FRAGMENT_OFFSET == 0;
        if header.version_and_length >> 4 != 4 || length < size_of::<Ipv4Header>() || !has_ports {
            return None;
        }
        let total_length = usize::from(u16::from_be(header.total_length));
        Quote::read(
            packet,
            [offset, offset + length, offset + total_length],
            header.protocol,
            [header.source, header.destination],
        )
    }

    type ErrorHeaders = [u32; 7];
    const HOST_UNREACHABLE: IcmpMessage = IcmpMessage {
        kind: 3,
        code: 1,
        value: 0,
    };
    const PORT_UNREACHABLE: IcmpMessage = IcmpMessage {
        kind: 3,
        code: 3,
        value: 0,
    };
    const TIME_EXCEEDED: IcmpMessage = IcmpMessage {
        kind: 11,
        code: 0,
        value: 0,
    };

    #[inline(always)]
    fn too_big(mtu: u16) -> IcmpMessage {
        IcmpMessage {
            kind: 3,
            code: 4,
            value: u32::from(mtu),
        }
    }

    #[inline(always)]
    fn sum_of<P: Packet>(_: &P, quoted: &Quoted) -> Option<Delta> {
        // The IP header adds nothing: it holds its own checksum.
        Some(quoted.transport_sum)
    }

    #[inline(always)]
    fn error_headers(
        message: IcmpMessage,
        length: usize,
        sum: Delta,
        [V4([source]), V4([destination])]: [V4; 2],
    ) -> [u32; 7] {
        let length = length + size_of::<Self::ErrorHeaders>();
        let first = [
            (0x4500_0000 | INTERNETWORK_CONTROL << 16 | short(length)).to_be(),
            DONT_FRAGMENT.to_be(),
        ];
        let third =
            |[high, low]: [u8; 2]| u32::from_ne_bytes([INITIAL_TTL, protocol::ICMP, high, low]);
        let words = [first[0], first[1], third([0, 0]), source, destination];
        let network_checksum = checksum_of(Delta::between(&[], &words));
        let [control, value] = control_words(message, sum);
        [
            first[0],
            first[1],
            third(network_checksum),
            source,
            destination,
            control,
            value,
        ]
    }

    type Outer = [u32; 5];
    const ENCAP_PROTOCOL: u8 = protocol::IPIP;
    const MINIMUM_MTU: u16 = 0;

    #[inline(always)]
    fn can_encapsulate(_: &Headers<Self>) -> bool {
        true
    }

    #[inline(always)]
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<[u32; 5]> {
        let inner: Ipv4Header = packet.read(network)?;
        let class = 0x4500 | u32::from(inner.service & CLASS);
        let length = outer_length(inner.total_length, Self::OUTER);
        let port = u32::from(ends.destination_port.number());
        let (V4([source]), V4([destination])) = (ends.source, ends.destination);
        let third = |[high, low]: [u8; 2]| {
            u32::from_ne_bytes([INITIAL_TTL, Self::ENCAP_PROTOCOL, high, low])
        };
        let mut words = [
            (class << 16 | length).to_be(),
            (port << 16 | DONT_FRAGMENT).to_be(),
            third([0, 0]),
            source,
            destination,
        ];
        words[2] = third(checksum_of(Delta::between(&[], &words)));
        Some(words)
    }

    #[inline(always)]
    fn parse_outer<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        let header: Ipv4Header = packet.read(network)?;
        let inner: Ipv4Header = packet.read(network + Self::OUTER)?;
        let is_ours = header.version_and_length == WITHOUT_OPTIONS
            && u32::from(u16::from_be(header.fragment)) == DONT_FRAGMENT
            && u32::from(u16::from_be(header.total_length))
                == outer_length(inner.total_length, Self::OUTER);
        is_ours.then_some(Tuple {
            source: header.source,
            destination: header.destination,
            source_port: Port::default(),
            destination_port: Port::new(u16::from_be(header.identification)),
        })
    }
}
