//! Answers of this node in place of a packet: a TCP reset or an ICMP error, which report at once
//! that there is no endpoint, that the packet is too long, or that its TTL is exceeded.

mod icmp_error;
mod reset;

use super::packet::parse::parse_or_first_fragment;
use super::packet::rewrite::swap_link_addresses;
use super::packet::{Headers, IpVersion, Packet};
use super::tables::Tables;
use super::verdict::{Client, Verdict};
use crate::layout::{Counter, TraceKind, protocol};
use crate::pipeline::context::Context;
use icmp_error::into_icmp_error;
use reset::into_reset;

/// Why a packet is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody else will answer it, a client's packet or the first fragment of a datagram, for the
    /// reason with this number.
    Refused(u32),
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

impl Reason {
    /// Index of the counter that has counted it.
    #[inline(always)]
    const fn number(self) -> u32 {
        match self {
            Self::Refused(number) => number,
            Self::Expired => Counter::Unroutable as u32,
            Self::TooBig(_) | Self::TooBigForTunnel(_) => Counter::TooBig as u32,
        }
    }

    /// The element of `ANSWERS` that says how many such answers there were: those of one kind use
    /// nothing up of another's, nor those to outside of the Pods'.
    #[inline(always)]
    const fn budget(self, client: Client) -> u32 {
        let kind = match self {
            Self::Refused(_) => 0,
            Self::Expired => 1,
            Self::TooBig(_) | Self::TooBigForTunnel(_) => 2,
        };
        kind * 2
            + match client {
                Client::Pod => 1,
                Client::Outside | Client::Host => 0,
            }
    }
}

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Makes of a packet, whose IP header is at `network`, the answer to it.
    #[inline(always)]
    pub fn answer(&mut self, reason: Reason) -> Verdict<A> {
        if matches!(reason, Reason::TooBig(_) | Reason::TooBigForTunnel(_)) {
            self.tables.count(Counter::TooBig);
        }
        let Some((headers, _)) = parse_or_first_fragment::<A, P>(self.packet, self.network) else {
            return Verdict::Discard;
        };
        // The sender of one that is sent on is this node by now. (RFC 1812, section 4.3.2.7.)
        if !matches!(reason, Reason::TooBig(_)) && !headers.tuple.source.is_unicast() {
            self.tables.count(Counter::MartianSource);
            return Verdict::Drop(Counter::MartianSource);
        }
        if !self.tables.take_reply_token(reason.budget(self.client)) {
            self.tables.count(Counter::RateLimited);
            return Verdict::Drop(Counter::RateLimited);
        }
        let verdict = self.answer_to(reason, &headers);
        // Some packets have no answer, such as a reset.
        let kind = match verdict {
            Verdict::Discard => TraceKind::Drop,
            _ => TraceKind::Answer,
        };
        self.trace_refusal(kind, &headers, reason.number());
        verdict
    }

    /// The same for a packet that may be answered; `Discard` where it cannot be.
    #[inline(always)]
    fn answer_to(&mut self, reason: Reason, headers: &Headers<A>) -> Verdict<A> {
        if matches!(reason, Reason::Refused(_)) && headers.protocol == protocol::TCP {
            return into_reset(self.packet, headers).map_or(Verdict::Discard, |()| Verdict::Bounce);
        }
        let client = headers.tuple.source;
        let (message, source) = match reason {
            Reason::Refused(_) => (A::PORT_UNREACHABLE, Some(headers.tuple.destination)),
            Reason::Expired if self.client == Client::Host => {
                (A::TIME_EXCEEDED, Some(headers.tuple.destination))
            }
            Reason::Expired => (A::TIME_EXCEEDED, node_address(self.tables)),
            Reason::TooBig(mtu) => (A::too_big(mtu), node_address(self.tables)),
            Reason::TooBigForTunnel(mtu) => (
                A::too_big(A::inner_mtu(mtu)),
                Some(headers.tuple.destination),
            ),
        };
        let Some(source) = source else {
            return Verdict::Discard;
        };
        if into_icmp_error(self.packet, headers, message, [source, client]).is_none() {
            return Verdict::Discard;
        }
        // It is addressed to this host, which has sent the packet itself or sends it on.
        if matches!(reason, Reason::TooBig(_)) && self.client != Client::Host {
            return Verdict::Reinject;
        }
        swap_link_addresses(self.packet, headers).map_or(Verdict::Discard, |()| Verdict::Bounce)
    }

    /// The stage that answers a packet that nobody else will answer, for the reason with this
    /// number.
    #[inline(always)]
    pub fn refuse(&mut self, reason: u32) -> Verdict<A> {
        self.answer(Reason::Refused(reason))
    }

    /// The stage that answers a packet whose time to live is over.
    #[inline(always)]
    pub fn expire(&mut self) -> Verdict<A> {
        self.answer(Reason::Expired)
    }
}

#[inline(always)]
fn node_address<A: IpVersion, T: Tables<A>>(tables: &T) -> Option<A> {
    tables.settings().map(|settings| settings.node_address)
}

/// Whether a packet is rejected with an answer to its client. Every other reason looks like a
/// loss, which may pass.
#[inline(always)]
pub(crate) fn is_rejected(reason: Counter) -> bool {
    matches!(
        reason,
        Counter::NoEndpoints | Counter::NoSuchPort | Counter::EndpointGone | Counter::NoConnection
    )
}
