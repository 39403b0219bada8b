//! The reset that answers a client's TCP packet.
//!
//! The packet itself is sent back as a reset (RFC 9293, section 3.10.7.1). Length, options and data
//! are kept; addresses and ports are swapped, and a few fields of the header change. So the
//! checksum is updated incrementally, also a `CHECKSUM_PARTIAL` one, and nothing is cut or moved.

use crate::pipeline::packet::checksum::TCP_CHECKSUM;
use crate::pipeline::packet::headers::tcp_flags;
use crate::pipeline::packet::icmp::INITIAL_TTL;
use crate::pipeline::packet::rewrite::{rewrite, set_ttl, swap_link_addresses};
use crate::pipeline::packet::{Delta, Headers, IpVersion, Packet};

/// Offset of the sequence number in a TCP header; acknowledgment, then data offset,
/// flags and window follow, 32 bits each.
const SEQUENCE: usize = 4;

/// Makes of a client's TCP packet the reset that answers it. `None` where none may
/// be sent, since the packet is a reset itself, or where it could not be written.
#[inline(always)]
pub(crate) fn into_reset<A, P>(packet: &mut P, headers: &Headers<A>) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    if headers.tcp_flags & tcp_flags::RST != 0 {
        return None;
    }
    let old: [u32; 3] = packet.read(headers.transport + SEQUENCE)?;
    let new = reset_fields(old, headers);
    let checksum = headers.transport + TCP_CHECKSUM;
    packet.adjust_header_checksum(checksum, Delta::between(&old, &new))?;
    packet.write(headers.transport + SEQUENCE, &new)?;
    rewrite(packet, headers, &headers.tuple.reversed())?;
    set_ttl(packet, headers, INITIAL_TTL)?;
    swap_link_addresses(packet, headers)
}

/// Sequence, acknowledgment, and the word with the flags, of the reset.
#[inline(always)]
fn reset_fields<A>([sequence, acknowledgment, word]: [u32; 3], headers: &Headers<A>) -> [u32; 3] {
    let [offset, flags, window @ ..] = word.to_ne_bytes();
    let with = |flags| u32::from_ne_bytes([offset, flags, window[0], window[1]]);
    if flags & tcp_flags::ACK != 0 {
        return [acknowledgment, 0, with(tcp_flags::RST)];
    }
    let header = usize::from(offset >> 4) * 4;
    let data = headers.end.saturating_sub(headers.transport + header);
    let syn = u32::from(flags & tcp_flags::SYN != 0);
    let fin = u32::from(flags & tcp_flags::FIN != 0);
    #[expect(clippy::cast_possible_truncation, reason = "a packet's length")]
    let length = data as u32 + syn + fin;
    let next = u32::from_be(sequence).wrapping_add(length);
    [0, next.to_be(), with(tcp_flags::RST | tcp_flags::ACK)]
}
