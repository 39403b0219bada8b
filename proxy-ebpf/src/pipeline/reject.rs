//! Refusing a connection: the client hears at once that nobody answers, by a reset (TCP)
//! or an ICMP error (UDP, SCTP); and telling the sender of a packet that it was too big, or
//! that its time to live is over.
//!
//! For a reset the client's own packet goes back as a reset (RFC 9293, section 3.10.7.1), with
//! its length, options and data as they are: only the ends trade places and a few
//! fields of the header change. So the checksum stays incremental, also where
//! hardware is yet to complete it, and nothing is cut or moved.

use super::fragment::parse_first;
use super::headers::{Headers, Version, tcp_flags};
use super::quote::into_error;
use super::rewrite::{rewrite, set_ttl, swap_link_addresses};
use super::{Covers, Delta, Packet, Tables, Verdict};
use crate::layout::{Counter, protocol};

/// Time to live of packets that start here (RFC 1700).
pub(super) const INITIAL_TTL: u8 = 64;

/// Offset of the sequence number in a TCP header; acknowledgment, then data offset,
/// flags and window follow, 32 bits each.
const SEQUENCE: usize = 4;
/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;

/// Answers a client's packet, or the first fragment of a datagram, that nobody else will
/// answer.
#[inline(always)]
pub fn refuse<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some((headers, _)) = parse_first::<A, P>(packet, network) else {
        return Verdict::Drop;
    };
    if !tables.may_answer() {
        tables.count(Counter::AnswersLimited);
        return Verdict::Drop;
    }
    let told = if headers.protocol == protocol::TCP {
        into_reset(packet, &headers)
    } else {
        let ends = [headers.tuple.destination, headers.tuple.source];
        into_error(packet, &headers, A::PORT_UNREACHABLE, ends)
            .and_then(|()| swap_link_addresses(packet, &headers))
    };
    match told {
        Some(()) => Verdict::Return,
        None => Verdict::Drop,
    }
}

/// Makes of a translated packet, which is longer than the way on lets through, the ICMP
/// error about it. It is addressed like one that a router on the way would have sent to
/// whoever the packet now seems to be from, and has to be translated like one. (The path
/// is told also of IPv4 packets that may be fragmented: to redirect a packet is not to
/// route it, and nobody would.)
#[inline(always)]
pub fn too_big<A, P, T>(packet: &mut P, network: usize, tables: &T, mtu: u16) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    tables.count(Counter::TooBig);
    let Some((headers, _)) = parse_first::<A, P>(packet, network) else {
        return Verdict::Drop;
    };
    if !tables.may_answer() {
        tables.count(Counter::AnswersLimited);
        return Verdict::Drop;
    }
    let Some(settings) = tables.settings() else {
        return Verdict::Drop;
    };
    let ends = [settings.node_address, headers.tuple.source];
    match into_error(packet, &headers, A::too_big(mtu), ends) {
        Some(()) => Verdict::Again,
        None => Verdict::Drop,
    }
}

/// Makes of a packet that has come as far as its time to live lets it, and is to be sent
/// on, the ICMP error about it. Nothing in it is translated yet.
#[inline(always)]
pub fn expire<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some((headers, _)) = parse_first::<A, P>(packet, network) else {
        return Verdict::Drop;
    };
    if !tables.may_answer() {
        tables.count(Counter::AnswersLimited);
        return Verdict::Drop;
    }
    let Some(settings) = tables.settings() else {
        return Verdict::Drop;
    };
    let ends = [settings.node_address, headers.tuple.source];
    let told = into_error(packet, &headers, A::TIME_EXCEEDED, ends)
        .and_then(|()| swap_link_addresses(packet, &headers));
    match told {
        Some(()) => Verdict::Return,
        None => Verdict::Drop,
    }
}

/// Makes of a client's packet, which in a tunnel would be longer than the `mtu` of the way,
/// the ICMP error about it, and sends that back: the frontend tells what it would take.
#[inline(always)]
pub fn too_big_for_tunnel<A, P, T>(
    packet: &mut P,
    network: usize,
    tables: &T,
    mtu: u16,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    tables.count(Counter::TooBig);
    let Some((headers, _)) = parse_first::<A, P>(packet, network) else {
        return Verdict::Drop;
    };
    if !tables.may_answer() {
        tables.count(Counter::AnswersLimited);
        return Verdict::Drop;
    }
    let ends = [headers.tuple.destination, headers.tuple.source];
    let told = into_error(packet, &headers, A::too_big(A::fitting(mtu)), ends)
        .and_then(|()| swap_link_addresses(packet, &headers));
    match told {
        Some(()) => Verdict::Return,
        None => Verdict::Drop,
    }
}

/// Makes of a client's TCP packet the reset that answers it. `None` where none may
/// be sent, since the packet is a reset itself, or where it could not be written.
#[inline(always)]
pub(super) fn into_reset<A, P>(packet: &mut P, headers: &Headers<A>) -> Option<()>
where
    A: Version,
    P: Packet,
{
    if headers.tcp_flags & tcp_flags::RST != 0 {
        return None;
    }
    let old: [u32; 3] = packet.read(headers.transport + SEQUENCE)?;
    let new = reset_fields(old, headers);
    let checksum = headers.transport + CHECKSUM;
    packet.adjust_tcp_checksum(checksum, Delta::between(&old, &new), Covers::Header)?;
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
