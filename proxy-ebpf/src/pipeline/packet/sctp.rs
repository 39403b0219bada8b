//! SCTP (RFC 9260): the state of an association that its chunks show, and its checksum.
//!
//! An association is translated like a TCP connection, between one address of each side: the
//! additional addresses of a multi-homed host are ignored.

use super::access::Packet;
use super::checksum::TupleDelta;
use super::crc32c::crc32c_change_at_start;
use super::headers::{Headers, tcp_flags};
use super::version::IpVersion;
use crate::layout::{Bytes, Port, Tuple};

/// Offset of the checksum in a common header.
pub(crate) const CHECKSUM: usize = 8;

/// The common header, and that of the first chunk.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SctpHeader {
    pub(crate) source: Port,
    pub(crate) destination: Port,
    tag: u32,
    checksum: u32,
    chunk: u8,
    chunk_flags: u8,
    chunk_length: u16,
}

const _: () = assert!(size_of::<SctpHeader>() == 16);

// SAFETY: `#[repr(C)]` of integers, and the size shows that there is no padding.
#[expect(unsafe_code, reason = "a promise about memory layout")]
unsafe impl Bytes for SctpHeader {}

/// Types of chunks (RFC 9260, section 3.2).
mod chunk {
    pub(crate) const INIT: usize = 1;
    pub(crate) const INIT_ACK: usize = 2;
    pub(crate) const ABORT: usize = 6;
    pub(crate) const SHUTDOWN: usize = 7;
    pub(crate) const SHUTDOWN_ACK: usize = 8;
}

/// What a chunk of each type says, in the flags by which TCP says it. SHUTDOWN and SHUTDOWN
/// ACK are both sides' last words, after which SHUTDOWN COMPLETE only acknowledges. (A
/// table: the kernel's verifier would follow each branch.)
static TCP_FLAGS: [u8; 256] = {
    let mut flags = [0; 256];
    flags[chunk::INIT] = tcp_flags::SYN;
    flags[chunk::INIT_ACK] = tcp_flags::SYN | tcp_flags::ACK;
    flags[chunk::ABORT] = tcp_flags::RST;
    flags[chunk::SHUTDOWN] = tcp_flags::FIN;
    flags[chunk::SHUTDOWN_ACK] = tcp_flags::FIN;
    flags
};

impl SctpHeader {
    /// What the packet says, in the flags by which TCP says it: by its first chunk. Those
    /// that matter come alone, but for ABORT and SHUTDOWN behind others: what these end is
    /// then remembered until its timeout.
    #[inline(always)]
    pub(crate) fn tcp_flags(&self) -> u8 {
        TCP_FLAGS[usize::from(self.chunk)]
    }
}

/// Repairs what covers the ports of a packet that gets those of `to`, which has to be whole,
/// and addresses: SCTP's own checksum has none of these.
#[inline(always)]
pub(crate) fn adjust_checksums<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    to: &Tuple<A>,
    delta: TupleDelta,
) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    // Of a packet that was parsed; a subtraction that checks would be one more thing that
    // the verifier has to know all of the way.
    let length = headers.end.wrapping_sub(headers.transport);
    let change = checksum_change([&headers.tuple, to], length);
    packet.adjust_sctp_checksum(headers.transport + CHECKSUM, change)?;
    packet.adjust_checksum_complete(match A::CHECKSUM {
        Some(_) => delta.ports,
        None => delta.whole(),
    });
    Some(())
}

/// What is added to the checksum of a packet of so many bytes, without IP headers, that gets
/// other ports.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an IP packet's length")]
pub(crate) fn checksum_change<A>([from, to]: [&Tuple<A>; 2], length: usize) -> u32 {
    crc32c_change_at_start(port_word(from) ^ port_word(to), length as u32)
}

/// Both ports as they lie in the transport header.
#[inline(always)]
pub(crate) fn port_word<A>(tuple: &Tuple<A>) -> u32 {
    let [a, b] = tuple.source_port.raw().to_ne_bytes();
    let [c, d] = tuple.destination_port.raw().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}
