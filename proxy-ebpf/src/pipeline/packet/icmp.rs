//! ICMP messages: the packet that an error quotes, and the errors of this node.

use super::access::Packet;
use super::checksum::{Delta, checksum_of};
use crate::layout::{Address, Bytes, Port, Tuple, protocol};

/// Length of an ICMP error's own header (RFC 792, RFC 4443).
pub(crate) const HEADER: usize = 8;

/// Offset of the checksum in it.
pub(crate) const CHECKSUM: usize = 2;

/// Time to live of packets that start here (RFC 1700).
pub(crate) const INITIAL_TTL: u8 = 64;

/// The beginning of a packet in the error about it.
pub struct Quote<A> {
    /// Offset of its IP header.
    pub(crate) network: usize,
    /// Offset of its transport header.
    pub(crate) transport: usize,
    /// Where the whole packet ended.
    pub(crate) end: usize,
    pub(crate) protocol: u8,
    pub(crate) tuple: Tuple<A>,
}

/// What the transport protocols' headers begin with.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ports {
    source: Port,
    destination: Port,
}

const _: () = assert!(size_of::<Ports>() == 4);

// SAFETY: `#[repr(C)]` of two ports, and the size shows that there is no padding.
#[expect(unsafe_code, reason = "a promise about memory layout")]
unsafe impl Bytes for Ports {}

impl<A: Address> Quote<A> {
    #[inline(always)]
    pub(crate) fn read<P: Packet>(
        packet: &P,
        [network, transport, end]: [usize; 3],
        protocol: u8,
        [source, destination]: [A; 2],
    ) -> Option<Self> {
        if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
            return None;
        }
        let ports: Ports = packet.read(transport)?;
        Some(Self {
            network,
            transport,
            end,
            protocol,
            tuple: Tuple {
                source,
                destination,
                source_port: ports.source,
                destination_port: ports.destination,
            },
        })
    }
}

/// Which error.
#[derive(Clone, Copy)]
pub struct IcmpMessage {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// What follows the checksum.
    pub(crate) value: u32,
}

/// What of the packet follows the new headers.
pub struct Quoted {
    /// Offset of its IP header.
    pub(crate) network: usize,
    /// Length of its IP header.
    pub(crate) header: usize,
    /// Length of the transport header's part.
    pub(crate) rest: usize,
    /// The sum of the transport header's part.
    pub(crate) transport_sum: Delta,
}

/// The ICMP header, in front of what has this sum.
#[inline(always)]
pub(crate) fn control_words(message: IcmpMessage, rest: Delta) -> [u32; 2] {
    let control =
        |[high, low]: [u8; 2]| u32::from_ne_bytes([message.kind, message.code, high, low]);
    let value = message.value.to_be();
    let sum = rest.and(Delta::between(&[], &[control([0, 0]), value]));
    [control(checksum_of(sum)), value]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a quote's length")]
pub(crate) fn short(length: usize) -> u32 {
    length as u32
}
