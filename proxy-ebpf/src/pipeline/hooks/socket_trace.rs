//! Tells whoever listens what became of a call at a socket: the source is not known yet.

use super::socket::{SockAddr, Socket};
use crate::layout::{Address, Backend, Counter, TraceEvent, TraceKind, Tuple, trace_kinds};
use crate::pipeline::tables::Tables;
use crate::pipeline::trace::{event_of, trace};

/// Tells that a connection to a frontend, or a flow of datagrams, goes to this backend.
#[inline(always)]
pub(super) fn trace_connection<A: Address, T: Tables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    (index, backend): (u32, &Backend<A>),
    tables: &T,
) {
    let endpoint = SockAddr {
        address: backend.address,
        port: backend.port,
    };
    trace(tables, trace_kinds::NEW_FLOWS, || TraceEvent {
        translated: tuple_to(endpoint),
        service: backend.service,
        backend: index,
        ..event_of_call(socket, TraceKind::NewFlow, to, tables)
    });
}

/// Tells that a call fails for a reason.
#[inline(always)]
pub(super) fn trace_failure<A: Address, T: Tables<A>>(
    socket: &Socket,
    kind: TraceKind,
    (to, reason): (SockAddr<A>, Counter),
    tables: &T,
) {
    trace(tables, trace_kinds::DROPS, || TraceEvent {
        reason: reason as u32,
        ..event_of_call(socket, kind, to, tables)
    });
}

#[inline(always)]
fn event_of_call<A: Address, T: Tables<A>>(
    socket: &Socket,
    kind: TraceKind,
    to: SockAddr<A>,
    tables: &T,
) -> TraceEvent<A> {
    let call = (tuple_to(to), socket.protocol);
    event_of(tables, kind, socket.client, call)
}

#[inline(always)]
fn tuple_to<A: Address>(to: SockAddr<A>) -> Tuple<A> {
    Tuple {
        destination: to.address,
        destination_port: to.port,
        ..Tuple::default()
    }
}
