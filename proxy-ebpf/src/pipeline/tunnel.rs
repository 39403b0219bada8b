//! Tunnels to endpoints' nodes, for direct server return: IPv4 in IPv4 (RFC 2003) and IPv6
//! in IPv6 (RFC 2473).
//!
//! A tunnel leads to the endpoint's address, which the network knows the way to, and whose
//! node takes the packet out. The outer header also carries the endpoint's port: in the
//! identification of IPv4, which is free in packets that are never fragmented (RFC 6864),
//! and in the flow label of IPv6.

use super::headers::{Headers, Ipv4Header, Ipv6Header};
use super::quote::{DONT_FRAGMENT, checksum_of};
use super::reject::INITIAL_TTL;
use super::{Delta, Packet, Tables, Version};
use crate::layout::{Address, Bytes, Counter, Port, Tuple, V4, V6, protocol};

/// The class of service without the bits for congestion: the outer header does not take
/// part in its notification (RFC 6040, section 4.3, compatibility mode).
const CLASS: u8 = 0xfc;

/// How the IP versions carry a packet of their own.
pub trait Tunnel: Address {
    /// An outer header.
    type Outer: Bytes + AsRef<[u32]>;
    /// The number of this version's packets inside of IP.
    const INSIDE: u8;
    /// How long an outer header is.
    const OUTER: usize = size_of::<Self::Outer>();
    /// No sender takes a way for narrower than this.
    const MINIMUM_MTU: u16;

    /// How long a packet may be in a tunnel whose way takes `mtu` bytes.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a header's length")]
    fn fitting(mtu: u16) -> u16 {
        mtu.saturating_sub(Self::OUTER as u16)
            .max(Self::MINIMUM_MTU)
    }

    /// Whether a whole packet may open a flow that leads through a tunnel: it has no IPv6
    /// extension headers that the other node would have to walk through.
    fn may_tunnel(headers: &Headers<Self>) -> bool;

    /// The header to be put in front of the packet whose IP header is at `network`, in a
    /// tunnel with these ends. `None` where the packet is cut short.
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<Self::Outer>;

    /// The ends of the tunnel whose outer header is at `network`, and the port that it
    /// names. `None` for a header that none of our nodes writes.
    fn ends<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>>;
}

impl Tunnel for V4 {
    type Outer = [u32; 5];
    const INSIDE: u8 = protocol::IPIP;
    const MINIMUM_MTU: u16 = 0;

    #[inline(always)]
    fn may_tunnel(_: &Headers<Self>) -> bool {
        true
    }

    #[inline(always)]
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<[u32; 5]> {
        let inner: Ipv4Header = packet.read(network)?;
        let class = 0x4500 | u32::from(inner.service & CLASS);
        let length = longer(inner.total_length, Self::OUTER);
        let port = u32::from(ends.destination_port.number());
        let (V4([source]), V4([destination])) = (ends.source, ends.destination);
        let third =
            |[high, low]: [u8; 2]| u32::from_ne_bytes([INITIAL_TTL, Self::INSIDE, high, low]);
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
    fn ends<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        let header: Ipv4Header = packet.read(network)?;
        let inner: Ipv4Header = packet.read(network + Self::OUTER)?;
        let is_ours = header.version_and_length == WITHOUT_OPTIONS
            && u32::from(u16::from_be(header.fragment)) == DONT_FRAGMENT
            && u32::from(u16::from_be(header.total_length))
                == longer(inner.total_length, Self::OUTER);
        is_ours.then_some(Tuple {
            source: header.source,
            destination: header.destination,
            source_port: Port::default(),
            destination_port: Port::new(u16::from_be(header.identification)),
        })
    }
}

impl Tunnel for V6 {
    type Outer = [u32; 10];
    const INSIDE: u8 = protocol::IPV6;
    // RFC 2473, section 7.1.
    const MINIMUM_MTU: u16 = 1280;

    #[inline(always)]
    fn may_tunnel(headers: &Headers<Self>) -> bool {
        headers.transport - headers.network == size_of::<Ipv6Header>()
    }

    #[inline(always)]
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<[u32; 10]> {
        let inner: Ipv6Header = packet.read(network)?;
        let length = longer(inner.payload_length, Self::OUTER);
        let port = u32::from(ends.destination_port.number());
        let (V6([s0, s1, s2, s3]), V6([d0, d1, d2, d3])) = (ends.source, ends.destination);
        let class = u32::from_be(inner.version) & u32::from(CLASS) << 20;
        let rest = length << 16 | u32::from(Self::INSIDE) << 8 | u32::from(INITIAL_TTL);
        let first = (6 << 28 | class | port).to_be();
        Some([first, rest.to_be(), s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn ends<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>> {
        let header: Ipv6Header = packet.read(network)?;
        let inner: Ipv6Header = packet.read(network + Self::OUTER)?;
        // Without extension headers.
        let is_ours = header.next_header == Self::INSIDE
            && u32::from(u16::from_be(header.payload_length))
                == longer(inner.payload_length, Self::OUTER);
        is_ours.then_some(Tuple {
            source: header.source,
            destination: header.destination,
            source_port: Port::default(),
            destination_port: Port::new((u32::from_be(header.version) & 0xffff) as u16),
        })
    }
}

/// The length field of the outer header, from the inner one's. 0 where there is no room
/// for it: then the packet will be cut into segments, which have fields of their own.
#[inline(always)]
fn longer(inner: u16, more: usize) -> u32 {
    let inner = usize::from(u16::from_be(inner));
    let length = inner + more;
    if inner == 0 || length > usize::from(u16::MAX) {
        0
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "16 bits")]
        let length = length as u32;
        length
    }
}

/// Puts a packet, whose IP header is at `network`, into a tunnel with these ends. `None`
/// if that failed, which is counted.
#[inline(always)]
pub fn encapsulate<A, P, T>(
    packet: &mut P,
    network: usize,
    tables: &T,
    ends: &Tuple<A>,
) -> Option<()>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let outer = A::outer(packet, network, ends);
    let done = outer.and_then(|outer| packet.encapsulate(network, &outer));
    tables.count(match done {
        Some(()) => Counter::Encapsulated,
        None => Counter::RewriteFailed,
    });
    done
}
