//! Answers of this node in place of a packet: a TCP reset or an ICMP error, which report at once
//! that there is no endpoint, that the packet is too long, or that its TTL is exceeded.

mod icmp_error;
mod reset;

use super::packet::parse::parse_or_first_fragment;
use super::packet::rewrite::swap_link_addresses;
use super::packet::{IpVersion, Packet};
use super::tables::Tables;
use super::verdict::Verdict;
use crate::layout::{Counter, protocol};
use icmp_error::into_icmp_error;
use reset::into_reset;

/// Why a packet is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody else will answer it: a client's packet, or the first fragment of a datagram.
    Refused,
    /// It has come as far as its time to live lets it, and is to be sent on. Nothing in it is
    /// translated yet.
    Expired,
    /// It is translated, and longer than the MTU of the way on. The error is addressed like one
    /// that a router on the way would have sent to whoever the packet now seems to be from, and
    /// has to be translated like one. (Of the path's MTU also senders of IPv4 packets hear that
    /// may be fragmented: to redirect a packet is not to route it, and nobody would.)
    TooBig(u16),
    /// In a tunnel it would be longer than the MTU of the way: the frontend reports what it
    /// would take.
    TooBigForTunnel(u16),
}

/// Makes of a packet, whose IP header is at `network`, the answer to it.
#[inline(always)]
pub fn answer<A, P, T>(packet: &mut P, network: usize, tables: &T, reason: Reason) -> Verdict<A>
where
    A: IpVersion,
    P: Packet,
    T: Tables<A>,
{
    if matches!(reason, Reason::TooBig(_) | Reason::TooBigForTunnel(_)) {
        tables.count(Counter::TooBig);
    }
    let Some((headers, _)) = parse_or_first_fragment::<A, P>(packet, network) else {
        return Verdict::Drop;
    };
    if !tables.take_reply_token() {
        tables.count(Counter::AnswersLimited);
        return Verdict::Drop;
    }
    if reason == Reason::Refused && headers.protocol == protocol::TCP {
        return into_reset(packet, &headers).map_or(Verdict::Drop, |()| Verdict::Bounce);
    }
    let client = headers.tuple.source;
    let (message, source) = match reason {
        Reason::Refused => (A::PORT_UNREACHABLE, Some(headers.tuple.destination)),
        Reason::Expired => (A::TIME_EXCEEDED, node_address(tables)),
        Reason::TooBig(mtu) => (A::too_big(mtu), node_address(tables)),
        Reason::TooBigForTunnel(mtu) => (
            A::too_big(A::inner_mtu(mtu)),
            Some(headers.tuple.destination),
        ),
    };
    let Some(source) = source else {
        return Verdict::Drop;
    };
    if into_icmp_error(packet, &headers, message, [source, client]).is_none() {
        return Verdict::Drop;
    }
    if matches!(reason, Reason::TooBig(_)) {
        return Verdict::Reinject;
    }
    swap_link_addresses(packet, &headers).map_or(Verdict::Drop, |()| Verdict::Bounce)
}

/// The stage that answers a packet that nobody else will answer.
#[inline(always)]
pub fn refuse<A: IpVersion, P: Packet, T: Tables<A>>(
    packet: &mut P,
    network: usize,
    tables: &T,
) -> Verdict<A> {
    answer(packet, network, tables, Reason::Refused)
}

/// The stage that answers a packet whose time to live is over.
#[inline(always)]
pub fn expire<A: IpVersion, P: Packet, T: Tables<A>>(
    packet: &mut P,
    network: usize,
    tables: &T,
) -> Verdict<A> {
    answer(packet, network, tables, Reason::Expired)
}

#[inline(always)]
fn node_address<A: IpVersion, T: Tables<A>>(tables: &T) -> Option<A> {
    tables.settings().map(|settings| settings.node_address)
}

/// Whether the client is told that nobody could answer. Every other reason looks like a
/// loss, which may pass.
#[inline(always)]
pub(crate) fn is_rejected(reason: Counter) -> bool {
    matches!(
        reason,
        Counter::NoEndpoints | Counter::NoSuchPort | Counter::EndpointGone
    )
}
