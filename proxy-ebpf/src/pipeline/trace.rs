//! Tells whoever listens what became of a packet or a call (`proxy-agent trace`).
//!
//! Whether somebody does is asked only here: where a flow was made, and where a packet is dropped
//! or answered.

use super::context::Context;
use super::packet::parse::parse_or_first_fragment;
use super::packet::{Headers, IpVersion, Packet};
use super::tables::Tables;
use super::verdict::Client;
use crate::layout::{
    Address, Counter, NewFlow, Port, TraceEvent, TraceKind, Tuple, UNKNOWN, trace_kinds,
};

/// Leaves an event to who listens to its kind, or counts that it is lost.
#[inline(always)]
pub(crate) fn trace<A: Address, T: Tables<A>>(
    tables: &T,
    kinds: u32,
    event: impl FnOnce() -> TraceEvent<A>,
) {
    if tables.is_traced(kinds) && !tables.push_event(&event()) {
        tables.count(Counter::EventsLost);
    }
}

/// An event of a packet, or of a call, with this tuple.
#[inline(always)]
pub(crate) fn event_of<A: Address, T: Tables<A>>(
    tables: &T,
    kind: TraceKind,
    client: Client,
    (tuple, protocol): (Tuple<A>, u8),
) -> TraceEvent<A> {
    TraceEvent {
        time: tables.nanoseconds(),
        tuple,
        translated: Tuple::default(),
        service: UNKNOWN,
        backend: UNKNOWN,
        device: 0,
        reason: UNKNOWN,
        flags: 0,
        kind: kind as u8,
        protocol,
        client: client as u8,
        pad: 0,
    }
}

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Tells of the flow that the packet has made.
    #[inline(always)]
    pub(crate) fn trace_flow(&self, headers: &Headers<A>, flow: &NewFlow<A>) {
        trace(self.tables, trace_kinds::NEW_FLOWS, || {
            let packet = (headers.tuple, headers.protocol);
            TraceEvent {
                translated: flow.tuple,
                service: flow.service,
                backend: flow.backend,
                device: self.packet.device(),
                flags: flow.flags,
                ..event_of(self.tables, TraceKind::NewFlow, self.client, packet)
            }
        });
    }

    /// Tells that the packet with these headers is not passed on, for the reason with this number.
    #[inline(always)]
    pub(crate) fn trace_refusal(&self, kind: TraceKind, headers: &Headers<A>, reason: u32) {
        trace(self.tables, trace_kinds::DROPS, || {
            let packet = (headers.tuple, headers.protocol);
            TraceEvent {
                device: self.packet.device(),
                reason,
                ..event_of(self.tables, kind, self.client, packet)
            }
        });
    }

    /// Tells that the packet is dropped, for the reason with this number: of whatever protocol it
    /// is.
    #[inline(always)]
    pub fn trace_drop(&self, reason: u32) {
        trace(self.tables, trace_kinds::DROPS, || {
            let packet = match parse_or_first_fragment::<A, P>(self.packet, self.network) {
                Some((headers, _)) => (headers.tuple, headers.protocol),
                None => (self.addresses().unwrap_or_default(), 0),
            };
            TraceEvent {
                device: self.packet.device(),
                reason,
                ..event_of(self.tables, TraceKind::Drop, self.client, packet)
            }
        });
    }

    /// The packet's addresses, without ports.
    #[inline(always)]
    fn addresses(&self) -> Option<Tuple<A>> {
        let at = self.network + A::ADDRESSES;
        Some(Tuple {
            source: self.packet.read(at)?,
            destination: self.packet.read(at + size_of::<A>())?,
            source_port: Port::default(),
            destination_port: Port::default(),
        })
    }
}
