//! The two records of a flow: one for its client's packets, one for the replies.

use crate::layout::{Address, Backend, Edge, Flow, FlowKey, RelaxedU32, Tuple, flow_flags};
use crate::pipeline::packet::Headers;
use crate::pipeline::tables::Tables;

/// What a flow does to a packet.
pub(crate) struct Translation<A> {
    /// What its addresses and ports become.
    pub(crate) tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    pub(crate) flags: u32,
    /// Whether the packet is left to the hook behind this one.
    pub(crate) is_deferred: bool,
}

/// Where the replies of a flow are looked up: a flow whose packets were sent on
/// with this node's address gets its replies at an ingress.
#[inline(always)]
pub(crate) fn reply_key<A: Copy>(flow: &Flow<A>, protocol: u8) -> FlowKey<A> {
    let edge = if flow.flags() & flow_flags::REDIRECT == 0 {
        Edge::Egress
    } else {
        Edge::Ingress
    };
    FlowKey::new(flow.tuple.reversed(), protocol, edge)
}

/// The record of a flow's replies, where there is one and they pass here.
#[inline(always)]
pub(crate) fn reply_record<'a, A: Address, T: Tables<A>>(
    tables: &'a T,
    flow: &Flow<A>,
    protocol: u8,
) -> Option<T::Flow<'a>> {
    if flow.flags() & flow_flags::DSR == 0 {
        tables.find(&reply_key(flow, protocol))
    } else {
        None
    }
}

/// A flow that a packet opens to an endpoint, with these flags; it keeps its client's end.
#[inline(always)]
pub(crate) fn flow_record<A: Address, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    index: u32,
    backend: &Backend<A>,
    flags: u32,
) -> Flow<A> {
    Flow {
        tuple: Tuple {
            destination: backend.address,
            destination_port: backend.port,
            ..headers.tuple
        },
        backend: index,
        generation: backend.generation,
        service: backend.service,
        last_seen: RelaxedU32::new(tables.now()),
        flags: RelaxedU32::new(flags | flow_flags::EMBRYONIC),
        packets: RelaxedU32::new(1),
    }
}

/// The record of a flow's replies; `original` is what the client sends.
#[inline(always)]
pub(crate) fn reply_record_of<A: Copy>(flow: &Flow<A>, original: &Tuple<A>) -> Flow<A> {
    let mut reply = flow.clone();
    reply.tuple = original.reversed();
    let kept = flow_flags::REDIRECT | flow_flags::HAIRPIN | flow_flags::EMBRYONIC;
    reply.flags.set(flow.flags() & kept | flow_flags::REPLY);
    reply.packets.set(0);
    reply
}

/// The record, of a flow that is open.
#[inline(always)]
pub(crate) fn established<A: Copy>(flow: &Flow<A>) -> Flow<A> {
    let established = flow.clone();
    established.flags.set(flow.flags() & !flow_flags::EMBRYONIC);
    established
}
