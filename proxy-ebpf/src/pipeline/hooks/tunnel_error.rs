//! ICMP errors from a router on the path to a DSR endpoint's node.
//!
//! The router answers the tunnel's source, this node. The error is translated into one about
//! the inner packet and sent to the client from the frontend's address, since the client knows
//! neither the tunnel nor the endpoint (RFC 2003, section 4; RFC 2473, section 8).

use crate::layout::{Counter, Edge, KeyParts, Tuple, flow_flags};
use crate::pipeline::context::Context;
use crate::pipeline::packet::headers::is_same;
use crate::pipeline::packet::icmp::HEADER;
use crate::pipeline::packet::{Delta, Headers, IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;
use crate::verifier::barrier_var;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Makes of an ICMP error about a tunnel of ours one about what is inside, for the client. Any
    /// other packet passes.
    #[inline(always)]
    pub fn tunnel_error(&mut self) -> Verdict<A> {
        let Some(headers) = A::parse_icmp(self.packet, self.network) else {
            return self.pass();
        };
        let Some(quoted) = self.find_quoted(&headers) else {
            return self.pass();
        };
        let Some(error) = inner_error(self.packet, &headers, &quoted) else {
            return Verdict::Pass;
        };
        // What is left in front of the self.packet inside is as long as the headers of an error.
        let done = self
            .packet
            .decapsulate(self.network, A::OUTER)
            .and_then(|()| self.packet.write(self.network, &error));
        if done.is_none() {
            self.tables.count(Counter::RewriteFailed);
            return Verdict::Drop(Counter::RewriteFailed);
        }
        Verdict::Forward(quoted.tuple.reversed())
    }

    /// Finds the packet inside the quoted one. `None` where that was not a tunnel of ours, with a
    /// packet of a flow that leads through it.
    #[inline(always)]
    fn find_quoted(&self, headers: &Headers<A>) -> Option<InnerPacket<A>> {
        let [kind, _]: [u8; 2] = self.packet.read(headers.transport)?;
        // With options the IP header would be too long to make way for another.
        if headers.transport - headers.network != A::OUTER || !A::is_error(kind) {
            return None;
        }
        let outer = headers.transport + HEADER;
        // The compiler knows already that the self.packet is that long; the verifier does not.
        let inside = barrier_var(outer + A::OUTER);
        let ends = A::parse_outer(self.packet, outer)?;
        let quote = A::quoted(self.packet, inside)?;
        let flow = self
            .tables
            .find(&KeyParts::of(&quote.tuple, quote.protocol, Edge::Ingress))?;
        let is_its_way = flow.flags() & flow_flags::DSR != 0
            && is_same(&headers.tuple.destination, &ends.source)
            && flow.tuple.destination_port == ends.destination_port
            && is_same(&flow.tuple.destination, &ends.destination)
            && is_same(&flow.tuple.source, &ends.source);
        let is_whole = inside < headers.end && headers.end <= self.packet.len();
        (is_its_way && is_whole).then(|| InnerPacket {
            tuple: quote.tuple,
            length: headers.end - inside,
        })
    }
}

/// The packet inside the quoted one.
struct InnerPacket<A> {
    tuple: Tuple<A>,
    /// How much of it there is.
    length: usize,
}

/// The headers of an error about the packet inside.
#[inline(always)]
fn inner_error<A, P>(
    packet: &P,
    headers: &Headers<A>,
    inside: &InnerPacket<A>,
) -> Option<A::ErrorHeaders>
where
    A: IpVersion,
    P: Packet,
{
    let control: [u32; 2] = packet.read(headers.transport)?;
    let outer: A::Outer = packet.read(headers.transport + HEADER)?;
    // All that the checksum covers adds up to nothing: what goes now, and what stays.
    let mut sum = Delta::between(&control, &[]).and(Delta::between(outer.as_ref(), &[]));
    if A::HAS_PSEUDO_HEADER {
        let Tuple {
            source,
            destination,
            ..
        } = &headers.tuple;
        #[expect(clippy::cast_possible_truncation, reason = "a packet's length")]
        let length = (headers.end - headers.transport) as u32;
        let rest = [length.to_be(), u32::from(A::ICMP).to_be()];
        sum = sum
            .and(Delta::between(source.words(), &[]))
            .and(Delta::between(destination.words(), &[]))
            .and(Delta::between(&rest, &[]));
    }
    let message = match A::next_hop_mtu(control) {
        Some(mtu) => A::too_big(A::inner_mtu(mtu)),
        None => A::HOST_UNREACHABLE,
    };
    let ends = [inside.tuple.destination, inside.tuple.source];
    Some(A::error_headers(message, inside.length, sum, ends))
}
