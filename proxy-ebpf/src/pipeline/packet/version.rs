//! What differs between the IP versions, as one trait.

use super::access::{Packet, PseudoHeader};
use super::checksum::Delta;
use super::headers::{FragmentHeader, Headers, IpHeaderFields, Skip};
use super::icmp::{IcmpMessage, Quote, Quoted};
use crate::layout::{Address, Bytes, Tuple};

/// What differs between the IP versions: the IP header, fragments, ICMP, and tunnels.
pub trait IpVersion: Address {
    /// Source and destination, as they are in the IP header.
    type Pair: Bytes;
    /// Offset of the source address in the IP header; the destination follows.
    const ADDRESSES: usize;
    /// Offset of the header checksum in the IP header, if there is one.
    const CHECKSUM: Option<usize>;
    /// Offset of time to live or hop limit in the IP header.
    const TTL: usize;
    /// What a change of addresses means to a transport checksum.
    const PSEUDO_HEADER: PseudoHeader;

    /// Source and destination.
    fn pair(source: Self, destination: Self) -> Self::Pair;

    /// Reads the IP header at `offset`, and what follows up to the transport
    /// header.
    fn parse_ip<P: Packet>(packet: &P, offset: usize) -> Result<IpHeaderFields<Self>, Skip>;

    // Fragments.

    /// Reads a fragment whose IP header is at `network`, and the header that shows it is
    /// one at `at`.
    fn part<P: Packet>(packet: &P, network: usize, at: usize) -> Option<FragmentHeader<Self>>;

    // ICMP.

    /// Its protocol number.
    const ICMP: u8;
    /// Whether its checksum covers the addresses of the IP header.
    const HAS_PSEUDO_HEADER: bool;

    /// The type of an echo request.
    const ECHO_REQUEST: u8;

    /// Whether a message of this type is an error, which quotes a packet.
    fn is_error(kind: u8) -> bool;

    /// Whether an error of this type and code says that no way leads to the destination's host or
    /// network.
    fn is_unreachable(message: [u8; 2]) -> bool;

    /// The length that an error with this ICMP header says a packet may have, if it says that
    /// one was too long.
    fn next_hop_mtu(control: [u32; 2]) -> Option<u16>;

    /// Whether the packet whose IP header is at `offset` has another of its version inside.
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool;

    /// Reads the headers of an ICMP packet. Of IPv6 only such as errors have, without
    /// extension headers: the kernel verifies every walk through these together with
    /// every one through the quoted packet's.
    fn parse_icmp<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>>;

    /// Reads the headers of a quoted packet whose IP header is at `offset`. `None` where
    /// its ports are not quoted.
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>>;

    // ICMP errors of our own.

    /// An IP header and an ICMP header.
    type ErrorHeaders: Bytes;
    /// The destination cannot be reached.
    const HOST_UNREACHABLE: IcmpMessage;
    /// Nobody listens at the port.
    const PORT_UNREACHABLE: IcmpMessage;
    /// The time to live is over, on the way.
    const TIME_EXCEEDED: IcmpMessage;

    /// The packet is longer than `mtu`, and must not be fragmented on the way.
    fn too_big(mtu: u16) -> IcmpMessage;

    /// The sum of what is quoted of a packet; `None` where its IP header is of a kind that is
    /// not quoted.
    fn sum_of<P: Packet>(packet: &P, quoted: &Quoted) -> Option<Delta>;

    /// The headers of an error that quotes `length` bytes of this sum.
    fn error_headers(
        message: IcmpMessage,
        length: usize,
        sum: Delta,
        ends: [Self; 2],
    ) -> Self::ErrorHeaders;

    // Tunnels of the same version.

    /// An outer header.
    type Outer: Bytes + AsRef<[u32]>;
    /// The number of this version's packets inside of IP.
    const ENCAP_PROTOCOL: u8;
    /// How long an outer header is.
    const OUTER: usize = size_of::<Self::Outer>();
    /// No sender takes a way for narrower than this.
    const MINIMUM_MTU: u16;

    /// How long a packet may be in a tunnel whose way takes `mtu` bytes.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a header's length")]
    fn inner_mtu(mtu: u16) -> u16 {
        mtu.saturating_sub(Self::OUTER as u16)
            .max(Self::MINIMUM_MTU)
    }

    /// Whether a whole packet may open a flow that leads through a tunnel: it has no IPv6
    /// extension headers that the other node would have to walk through.
    fn can_encapsulate(headers: &Headers<Self>) -> bool;

    /// The header to be put in front of the packet whose IP header is at `network`, in a
    /// tunnel with these ends. `None` where the packet is cut short.
    fn outer<P: Packet>(packet: &P, network: usize, ends: &Tuple<Self>) -> Option<Self::Outer>;

    /// The ends of the tunnel whose outer header is at `network`, and the port that it
    /// names. `None` for a header that none of our nodes writes.
    fn parse_outer<P: Packet>(packet: &P, network: usize) -> Option<Tuple<Self>>;
}
