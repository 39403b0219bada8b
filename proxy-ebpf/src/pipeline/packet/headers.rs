//! The parsed headers of a packet.

use crate::layout::{Address, Port, Tuple, flow_flags, protocol};
use crate::verifier::hide_bounds;

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
    /// TCP's sequence and acknowledgment numbers, and the sequence number that follows the
    /// packet; 0 for other protocols.
    pub numbers: Numbers,
    /// Addresses and ports; ICMP has no ports, they are 0.
    pub tuple: Tuple<A>,
}

/// The numbers in a TCP header (RFC 9293, section 3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number.
    pub acknowledgment: u32,
    /// The sequence number that follows: data and FIN count, of a SYN only itself.
    pub next: u32,
}

/// Bits of [`Headers::tcp_flags`] (RFC 9293, section 3.1).
pub(crate) mod tcp_flags {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const RST: u8 = 1 << 2;
    pub(crate) const ACK: u8 = 1 << 4;
}

impl<A> Headers<A> {
    /// A number of which the verifier knows nothing.
    #[inline(always)]
    pub(crate) fn any(&self) -> u32
    where
        A: Address,
    {
        self.tuple.source.words().first().copied().unwrap_or(0)
    }

    /// Hides the protocol from the verifier, which would follow each to the end.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it was 8 bits")]
    pub(crate) fn hide_protocol(&mut self)
    where
        A: Address,
    {
        self.protocol = hide_bounds(u32::from(self.protocol), self.any()) as u8;
    }

    /// Whether this packet asks for a new connection, or association.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
    }

    /// Whether a flow may begin with this packet: of TCP only with a SYN.
    #[inline(always)]
    pub fn begins_flow(&self) -> bool {
        self.protocol != protocol::TCP || self.is_syn()
    }

    /// Whether a client that sends this takes up what it was answered: it neither asks
    /// for its connection again nor resets it.
    #[inline(always)]
    pub fn is_progress(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) == 0
    }

    /// What this packet says about the end of its connection, or association, in bits of
    /// [`flow_flags`].
    #[inline(always)]
    pub fn fin_rst_flags(&self) -> u32 {
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

/// What `IpVersion::parse_ip` finds.
pub struct IpHeaderFields<A> {
    pub(crate) transport: usize,
    /// Where the packet ends, by its own account; link-layer padding may follow.
    pub(crate) end: usize,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) source: A,
    pub(crate) destination: A,
}

/// What a fragment says of itself.
pub struct FragmentHeader<A> {
    /// Which packet it is of.
    pub(crate) id: u32,
    pub(crate) is_first: bool,
    /// Where it goes, without ports; its transport header is at hand only in the first.
    pub(crate) headers: Headers<A>,
}

#[inline(always)]
pub(crate) fn without_ports<A>([source, destination]: [A; 2]) -> Tuple<A> {
    Tuple {
        source,
        destination,
        source_port: Port::default(),
        destination_port: Port::default(),
    }
}

/// Whether both addresses are the same, without a branch for each word.
#[inline(always)]
pub(crate) fn is_same<A: Address>(one: &A, other: &A) -> bool {
    difference(one, other) == 0
}

/// The bits in which some word of two addresses differs.
#[inline(always)]
pub(crate) fn difference<A: Address>(one: &A, other: &A) -> u32 {
    let words = one.words().iter().zip(other.words());
    words.fold(0, |difference, (a, b)| difference | (a ^ b))
}

/// A socket buffer longer than this has come through segmentation offload with
/// BIG TCP, where the length fields of IP hold 0.
pub(crate) const IP_MAX_PACKET: usize = 65_535;
