//! ICMP errors of our own.
//!
//! The packet goes back in the error about it: a new IP header and an ICMP header are put
//! in front, and what need not be quoted is cut off. The quote ends behind the first
//! bytes of the transport header, so that its sum is over a fixed length.

use super::headers::{Headers, Version};
use super::icmp::{HEADER, Icmp};
use super::reject::INITIAL_TTL;
use super::rewrite::{TCP_CHECKSUM, UDP_CHECKSUM};
use super::{Delta, Packet};
use crate::layout::{Bytes, V4, V6, protocol};

/// Length of an Ethernet header. The kernel puts headers behind it only where no VLAN
/// tag is in the way.
pub(super) const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
/// What lengths of extension headers are multiples of (RFC 8200, section 4).
const EXTENSION_UNIT: usize = 8;
/// So many bytes of extension headers are quoted, at most.
const MOST_QUOTED_EXTENSIONS: usize = 64;
/// Of IPv4 packets with routing information, such as ICMP errors (RFC 1812, section
/// 4.3.2.5: precedence 6).
const INTERNETWORK_CONTROL: u32 = 0xc0;
pub(super) const DONT_FRAGMENT: u32 = 0x4000;

/// Which error.
#[derive(Clone, Copy)]
pub struct Message {
    kind: u8,
    code: u8,
    /// What follows the checksum.
    value: u32,
}

/// What of the packet follows the new headers.
pub struct Quoted {
    /// Offset of its IP header.
    network: usize,
    /// Length of its IP header.
    header: usize,
    /// Length of the transport header's part.
    rest: usize,
    /// The sum of the transport header's part.
    transport_sum: Delta,
}

/// How the IP versions write an ICMP error.
pub trait WriteError: Icmp {
    /// An IP header and an ICMP header.
    type Headers: Bytes;
    /// The destination cannot be reached.
    const HOST_UNREACHABLE: Message;
    /// Nobody listens at the port.
    const PORT_UNREACHABLE: Message;
    /// The time to live is over, on the way.
    const TIME_EXCEEDED: Message;

    /// The packet is longer than `mtu`, and must not be fragmented on the way.
    fn too_big(mtu: u16) -> Message;

    /// The sum of what is quoted of a packet; `None` where its IP header is of a kind that is
    /// not quoted.
    fn sum_of<P: Packet>(packet: &P, quoted: &Quoted) -> Option<Delta>;

    /// The headers of an error that quotes `length` bytes of this sum.
    fn headers(message: Message, length: usize, sum: Delta, ends: [Self; 2]) -> Self::Headers;
}

/// Makes of a packet an ICMP error about it, from and to these. `None` where there is
/// none for such a packet, or it could not be written.
#[inline(always)]
pub(super) fn into_error<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    message: Message,
    ends: [A; 2],
) -> Option<()>
where
    A: Version,
    P: Packet,
{
    if headers.network > ETHERNET {
        return None;
    }
    let transport = headers.transport;
    // As much as the kernel leaves of a header whose checksum hardware completes.
    let (length, transport_sum) = match headers.protocol {
        protocol::TCP => {
            let words: [u32; 5] = packet.read(transport)?;
            let [.., [first, second, ..]] = words.map(u32::to_ne_bytes);
            let present = u16::from_ne_bytes([first, second]);
            let sum = Delta::between(&[], &words);
            (
                20,
                completed(packet, transport + TCP_CHECKSUM, present, sum),
            )
        }
        protocol::UDP => {
            let words: [u32; 2] = packet.read(transport)?;
            let [_, [.., third, fourth]] = words.map(u32::to_ne_bytes);
            let present = u16::from_ne_bytes([third, fourth]);
            let sum = Delta::between(&[], &words);
            (8, completed(packet, transport + UDP_CHECKSUM, present, sum))
        }
        protocol::SCTP => {
            // A checksum that is yet to be completed belongs to a host behind a device that
            // leaves it so, and takes it for right.
            let words: [u32; 3] = packet.read(transport)?;
            (12, Delta::between(&[], &words))
        }
        _ => return None,
    };
    let quoted = Quoted {
        network: headers.network,
        header: transport - headers.network,
        rest: length,
        transport_sum,
    };
    let sum = A::sum_of(packet, &quoted)?;
    let added = A::headers(message, quoted.header + quoted.rest, sum, ends);
    packet.prepend(headers.network, transport + length, &added)
}

/// The sum of a transport header's part that has this one now, and the checksum at `offset`
/// in it, once hardware has completed that.
#[inline(always)]
fn completed<P: Packet>(packet: &mut P, offset: usize, present: u16, sum: Delta) -> Delta {
    if packet.is_checksum_pending(offset, present) {
        // It holds the pseudo header's sum; once complete it will make all that it covers
        // add up to the opposite.
        Delta::between(&[u32::from(present)], &[])
    } else {
        sum
    }
}

/// The checksum of what has this sum.
#[inline(always)]
pub(super) fn checksum_of(sum: Delta) -> [u8; 2] {
    sum.apply(u16::MAX).to_ne_bytes()
}

impl WriteError for V4 {
    type Headers = [u32; 7];
    const HOST_UNREACHABLE: Message = Message {
        kind: 3,
        code: 1,
        value: 0,
    };
    const PORT_UNREACHABLE: Message = Message {
        kind: 3,
        code: 3,
        value: 0,
    };
    const TIME_EXCEEDED: Message = Message {
        kind: 11,
        code: 0,
        value: 0,
    };

    #[inline(always)]
    fn too_big(mtu: u16) -> Message {
        Message {
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
    fn headers(
        message: Message,
        length: usize,
        sum: Delta,
        [V4([source]), V4([destination])]: [V4; 2],
    ) -> [u32; 7] {
        let length = length + size_of::<Self::Headers>();
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
}

impl WriteError for V6 {
    type Headers = [u32; 12];
    // RFC 4443, section 3.1: address unreachable.
    const HOST_UNREACHABLE: Message = Message {
        kind: 1,
        code: 3,
        value: 0,
    };
    const PORT_UNREACHABLE: Message = Message {
        kind: 1,
        code: 4,
        value: 0,
    };
    const TIME_EXCEEDED: Message = Message {
        kind: 3,
        code: 0,
        value: 0,
    };

    #[inline(always)]
    fn too_big(mtu: u16) -> Message {
        Message {
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
    fn headers(
        message: Message,
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
}

/// The sum of the extension headers between the IPv6 header and the transport header.
/// `None` where they are longer than is worth a sum.
#[inline(always)]
fn extensions_sum<P: Packet>(packet: &P, quoted: &Quoted) -> Option<Delta> {
    let mut sum = Delta::between(&[], &[]);
    let end = IPV6_HEADER + MOST_QUOTED_EXTENSIONS + EXTENSION_UNIT;
    for at in (IPV6_HEADER..end).step_by(EXTENSION_UNIT) {
        if at >= quoted.header {
            return Some(sum);
        }
        let words: [u32; 2] = packet.read(quoted.network + at)?;
        sum = sum.and(Delta::between(&[], &words));
    }
    None
}

/// The ICMP header, in front of what has this sum.
#[inline(always)]
fn control_words(message: Message, rest: Delta) -> [u32; 2] {
    let control =
        |[high, low]: [u8; 2]| u32::from_ne_bytes([message.kind, message.code, high, low]);
    let value = message.value.to_be();
    let sum = rest.and(Delta::between(&[], &[control([0, 0]), value]));
    [control(checksum_of(sum)), value]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a quote's length")]
fn short(length: usize) -> u32 {
    length as u32
}
