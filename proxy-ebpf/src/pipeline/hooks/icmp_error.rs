//! Translation of ICMP errors about packets of translated flows.
//!
//! An error goes to the sender of the quoted packet, who knows it only untranslated: the quote
//! is translated back, and the error sent to that sender. The reversed tuple of the quote is
//! the key of the flow record, for both directions and at both hooks.

use crate::flow_table::Record;
use crate::layout::{Counter, Edge, KeyParts, Port, Stage, Tuple, flow_flags, protocol};
use crate::pipeline::context::Context;
use crate::pipeline::flow::apply::is_ttl_exceeded;
use crate::pipeline::flow::liveness::note_unreachable;
use crate::pipeline::flow::lookup::is_expired;
use crate::pipeline::packet::checksum::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pipeline::packet::headers::is_same;
use crate::pipeline::packet::icmp::{CHECKSUM, HEADER, Quote};
use crate::pipeline::packet::rewrite::address_delta;
use crate::pipeline::packet::sctp::{self, port_word};
use crate::pipeline::packet::{Delta, Headers, IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

impl<'t, A: IpVersion, P: Packet, T: Tables<A>> Context<'t, A, P, T> {
    /// Translates an ICMP error about a packet of a translated flow that came in; one about a
    /// tunnel has a stage, and any other ICMP packet passes.
    #[inline(always)]
    pub fn ingress_error(&mut self) -> Verdict<A> {
        let Some(headers) = A::parse_icmp(self.packet, self.network) else {
            return self.pass();
        };
        let Some(related) = self.find_related(&headers, Edge::Ingress) else {
            return if A::is_tunnel(self.packet, headers.transport + HEADER) {
                Verdict::Continue(Stage::TunnelError)
            } else {
                self.pass_or(Verdict::Refuse(Counter::NoSuchPort))
            };
        };
        related.note(self.tables);
        let flags = related.flags;
        if is_ttl_exceeded(&headers, self.tables, flags) {
            return Verdict::Drop(Counter::Unroutable);
        }
        let done = if flags & flow_flags::DSR == 0 {
            rewrite_related(self.packet, &headers, &related)
        } else {
            // For the endpoint's node to translate.
            Some(())
        };
        let tuple = done.map(|()| related.tuple);
        self.forward_verdict(&headers, flags, tuple)
    }

    /// Translates an ICMP error about what the client of a translated flow has sent, on its
    /// way out to him; any other ICMP packet passes.
    #[inline(always)]
    pub fn egress_error(&mut self) -> Verdict<A> {
        let Some(headers) = A::parse_icmp(self.packet, self.network) else {
            return self.leave_unparsed();
        };
        let Some(related) = self.find_related(&headers, Edge::Egress) else {
            return self.leave(&headers.tuple.destination);
        };
        related.note(self.tables);
        if rewrite_related(self.packet, &headers, &related).is_none() {
            self.tables.count(Counter::RewriteFailed);
            return Verdict::Drop(Counter::RewriteFailed);
        }
        self.leave_translated(Verdict::Pass)
    }

    /// What an ICMP packet becomes that is seen at `edge`. `None` if it is no error, or about
    /// no flow of ours. It does not keep the flow alive: anybody can send one.
    #[inline(always)]
    fn find_related(&self, headers: &Headers<A>, edge: Edge) -> Option<Related<'t, A>> {
        let message @ [kind, _code]: [u8; 2] = self.packet.read(headers.transport)?;
        if !A::is_error(kind) {
            return None;
        }
        let quote = A::quoted(self.packet, headers.transport + HEADER)?;
        let Tuple {
            source: sender,
            destination: addressee,
            ..
        } = headers.tuple;
        let is_whole = quote.transport + UDP_CHECKSUM + 2 <= headers.end;
        if !is_whole || !is_same(&addressee, &quote.tuple.source) {
            return None;
        }
        let reply = quote.tuple.reversed();
        let tables = self.tables;
        let flow = tables.find(&KeyParts::of(&reply, quote.protocol, edge))?;
        let flags = flow.flags();
        let is_forward = flags & flow_flags::REPLY == 0;
        let is_untranslated = flags & (flow_flags::PLAIN | flow_flags::NETFILTER) != 0;
        if is_untranslated || (!is_forward && is_expired(self.tables, &flow, self.tables.now())) {
            return None;
        }
        // A router on the way keeps its address. Who takes the quoted packets for those of
        // the frontend, or of this node, gets to see that one.
        // This host takes none from outside that has an address of its own.
        let is_to_stack = flags & flow_flags::HOST_CLIENT != 0;
        let is_hidden = is_to_stack || (is_forward && flags & flow_flags::REDIRECT != 0);
        let source = if is_hidden || is_same(&sender, &reply.source) {
            flow.tuple.source
        } else {
            sender
        };
        Some(Related {
            quote,
            quoted: flow.tuple.reversed(),
            tuple: Tuple {
                source,
                destination: flow.tuple.destination,
                source_port: Port::default(),
                destination_port: flow.tuple.destination_port,
            },
            flags,
            message,
            flow,
        })
    }

    /// Whether an ICMP packet is an error about what an endpoint has sent to the client of a
    /// flow whose packets this node hands to it.
    #[inline(always)]
    pub(crate) fn is_error_for_flow_to(&self, headers: &Headers<A>, endpoint: &A) -> bool {
        self.find_related(headers, Edge::Ingress)
            .is_some_and(|related| {
                related.flags & (flow_flags::REDIRECT | flow_flags::REPLY) == 0
                    && is_same(&related.tuple.destination, endpoint)
            })
    }
}

/// An error about a packet of a translated flow, and what it becomes.
struct Related<'t, A> {
    quote: Quote<A>,
    /// What the quoted packet was before it was translated.
    quoted: Tuple<A>,
    /// From where and to where the error goes then.
    tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    flags: u32,
    /// Type and code of the error.
    message: [u8; 2],
    /// The record of what answers the quoted packet.
    flow: Record<'t, A>,
}

impl<A: IpVersion> Related<'_, A> {
    /// Notes what it says of an endpoint.
    #[inline(always)]
    fn note<T: Tables<A>>(&self, tables: &T) {
        if A::is_unreachable(self.message) {
            note_unreachable(tables, &self.flow);
        }
    }
}

/// Writes what the error becomes into the packet.
#[inline(always)]
fn rewrite_related<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    related: &Related<'_, A>,
) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    let mut change = rewrite_quote(packet, headers, &related.quote, &related.quoted)?;
    let addresses = address_delta(&headers.tuple, &related.tuple);
    if A::HAS_PSEUDO_HEADER {
        change = change.and(addresses);
    }
    packet.adjust_header_checksum(headers.transport + CHECKSUM, change)?;
    if let Some(checksum) = A::CHECKSUM {
        packet.adjust_ip_checksum(headers.network + checksum, addresses)?;
    }
    let Tuple {
        source,
        destination,
        ..
    } = related.tuple;
    packet.write(
        headers.network + A::ADDRESSES,
        &A::pair(source, destination),
    )
}

/// Gives the quoted packet the addresses and ports of `to`, and repairs its checksums as
/// far as they are quoted. The difference of all that was written.
#[inline(always)]
fn rewrite_quote<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    quote: &Quote<A>,
    to: &Tuple<A>,
) -> Option<Delta>
where
    A: IpVersion,
    P: Packet,
{
    let addresses = address_delta(&quote.tuple, to);
    let ports = Delta::between(&[port_word(&quote.tuple)], &[port_word(to)]);
    let mut change = addresses.and(ports);
    if let Some(checksum) = A::CHECKSUM {
        change = change.and(adjust(packet, quote.network + checksum, addresses)?);
    }
    if quote.protocol == protocol::SCTP {
        change = change.and(adjust_sctp(packet, headers, quote, to)?);
    } else {
        let (checksum, may_be_absent) = match quote.protocol {
            protocol::TCP => (quote.transport + TCP_CHECKSUM, false),
            _ => (quote.transport + UDP_CHECKSUM, true),
        };
        if checksum + 2 <= headers.end {
            let present: u16 = packet.read(checksum)?;
            if packet.is_checksum_partial(checksum, present) {
                // It makes all that it covers add up to the same, whatever the ports.
                change = change.and(Delta::between(&[port_word(to)], &[port_word(&quote.tuple)]));
            } else if !(may_be_absent && present == 0) {
                change = change.and(adjust(packet, checksum, addresses.and(ports))?);
            }
        }
    }
    packet.write(
        quote.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )?;
    packet.write(quote.transport, &port_word(to))?;
    Some(change)
}

/// Adjusts SCTP's checksum, if it is quoted, and says what difference that makes. One that
/// was yet to be completed when the error was made is 0.
#[inline(always)]
fn adjust_sctp<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    quote: &Quote<A>,
    to: &Tuple<A>,
) -> Option<Delta>
where
    A: IpVersion,
    P: Packet,
{
    const LENGTH: usize = 4;
    let checksum = quote.transport + sctp::CHECKSUM;
    let mut change = Delta::between(&[], &[]);
    if checksum + LENGTH <= headers.end {
        let present: u32 = packet.read(checksum)?;
        if present != 0 {
            let length = quote.end.saturating_sub(quote.transport);
            let new = present ^ sctp::checksum_change([&quote.tuple, to], length);
            packet.write(checksum, &new)?;
            change = Delta::between(&[present], &[new]);
        }
    }
    Some(change)
}

/// Adjusts a checksum in the quoted packet, and says what difference that makes.
#[inline(always)]
fn adjust<P: Packet>(packet: &mut P, offset: usize, delta: Delta) -> Option<Delta> {
    let old: u16 = packet.read(offset)?;
    let new = delta.apply(old);
    packet.write(offset, &new)?;
    Some(Delta::between(&[u32::from(old)], &[u32::from(new)]))
}
