//! The two records of a flow: one for its client's packets, one for the replies.

use crate::flow_table::Record;
use crate::layout::{
    Address, Backend, Edge, KeyParts, NewFlow, Tuple, flow_flags, new_flow_notes, protocol,
};
use crate::pipeline::packet::{Headers, IpVersion};

/// What a flow does to a packet.
pub(crate) struct Translation<A> {
    /// What its addresses and ports become.
    pub(crate) tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    pub(crate) flags: u32,
    /// Whether the packet is left to the hook behind this one.
    pub(crate) is_deferred: bool,
}

/// No backend: of a flow that belongs to no Service.
pub(crate) const NO_BACKEND: u32 = u32::MAX;

/// A flow that a packet opens to an endpoint, with these flags; it keeps its client's end.
#[inline(always)]
pub(crate) fn new_flow<A: IpVersion>(
    headers: &Headers<A>,
    index: u32,
    backend: &Backend<A>,
    flags: u32,
) -> NewFlow<A> {
    // What only has to go on, was established before: its handshake is over.
    let phase = if headers.protocol == protocol::UDP || headers.is_syn() {
        flow_flags::EMBRYONIC
    } else {
        0
    };
    NewFlow {
        tuple: Tuple {
            destination: backend.address,
            destination_port: backend.port,
            ..headers.tuple
        },
        backend: index,
        generation: backend.generation,
        service: backend.service,
        flags: flags | phase | flow_flags::of_protocol(headers.protocol),
        notes: 0,
        port_attempts: 0,
        reclaimable_port: 0,
        claim_conflicts: 0,
        awaited: 0,
    }
}

/// Makes of a new flow the one that a client's record is of.
#[inline(always)]
pub(crate) fn become_existing<A: Copy>(flow: &mut NewFlow<A>, record: &Record<'_, A>) {
    flow.tuple = record.tuple;
    flow.backend = record.backend;
    flow.generation = record.generation;
    flow.service = record.service;
    flow.flags = record.flags();
    flow.notes = new_flow_notes::EXISTING;
}

/// Where the record of a client's packets is looked up.
#[inline(always)]
pub(crate) fn client_key<A: Address>(headers: &Headers<A>) -> KeyParts<'_, A> {
    KeyParts::of(&headers.tuple, headers.protocol, Edge::Ingress)
}

/// Where the replies of a flow are looked up whose packets become `tuple`: a flow whose packets
/// were sent on with this node's address gets its replies at an ingress.
#[inline(always)]
pub(crate) fn reply_key<A: Address>(tuple: &Tuple<A>, flags: u32, protocol: u8) -> KeyParts<'_, A> {
    let edge = if flags & flow_flags::REDIRECT == 0 {
        Edge::Egress
    } else {
        Edge::Ingress
    };
    KeyParts::of_answers(tuple, protocol, edge)
}

/// The flags that a flow's records have in common; the record of the replies decides.
pub(crate) const SHARED: u32 = flow_flags::EMBRYONIC
    | flow_flags::FIN
    | flow_flags::CLIENT_FIN
    | flow_flags::FIN_ACKNOWLEDGED
    | flow_flags::CLIENT_FIN_ACKNOWLEDGED
    | flow_flags::RESET
    | flow_flags::CLOSED;

/// Gives a client's record the flags that its flow has by the record of the replies.
#[inline(always)]
pub(crate) fn share_flags<A>(record: &Record<'_, A>, reply: u32) {
    let flags = record.flags();
    let shared = flags & !SHARED | reply & SHARED;
    if shared != flags {
        record.set_flags(shared);
    }
}
