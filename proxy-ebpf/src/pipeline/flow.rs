//! The life of a flow's records.

use super::headers::Headers;
use super::tables::{Make, Tables};
use crate::layout::{Address, Edge, Flow, FlowKey, Tuple, flow_flags, protocol, ticks};

/// A UDP flow without packets for this long is over. Twice as long as a stream
/// of UDP is remembered by netfilter (`nf_conntrack_udp_timeout_stream`, 120 s):
/// a flow that the node's own tracking still knows is never lost here.
const UDP_TIMEOUT: u32 = ticks::from_seconds(240);
/// kube-proxy's `tcpEstablishedTimeout`.
const TCP_TIMEOUT: u32 = ticks::from_seconds(24 * 60 * 60);
/// A connection that has seen a FIN or an RST: `nf_conntrack_tcp_timeout_fin_wait`.
const TCP_CLOSING_TIMEOUT: u32 = ticks::from_seconds(120);

/// Whether the record was used within its protocol's timeout.
#[inline(always)]
pub(super) fn is_fresh<A>(flow: &Flow<A>, protocol: u8, now: u32) -> bool {
    let timeout = if protocol != protocol::TCP {
        UDP_TIMEOUT
    } else if flow.flags() & flow_flags::CLOSING != 0 {
        TCP_CLOSING_TIMEOUT
    } else {
        TCP_TIMEOUT
    };
    now.wrapping_sub(flow.seen.get()) <= timeout
}

/// Notes that a packet used the record. True at most once a tick: then the
/// caller looks after the record's other half.
#[inline(always)]
pub(super) fn touch<A>(flow: &Flow<A>, headers: &Headers<A>, now: u32) -> bool {
    if headers.is_closing() && flow.flags() & flow_flags::CLOSING == 0 {
        flow.mark(flow_flags::CLOSING);
    }
    if flow.seen.get() == now {
        return false;
    }
    flow.seen.set(now);
    true
}

/// Where the replies of a flow are looked up: a flow whose packets were sent on
/// with this node's address gets its replies at an ingress.
#[inline(always)]
pub(super) fn reply_key<A: Copy>(flow: &Flow<A>, protocol: u8) -> FlowKey<A> {
    let edge = if flow.flags() & flow_flags::REDIRECT == 0 {
        Edge::Egress
    } else {
        Edge::Ingress
    };
    FlowKey::new(flow.tuple.reversed(), protocol, edge)
}

/// The record of a flow's replies; `original` is what the client sends.
#[inline(always)]
pub(super) fn reply_of<A: Copy>(flow: &Flow<A>, original: &Tuple<A>) -> Flow<A> {
    let mut reply = flow.clone();
    reply.tuple = original.reversed();
    reply
        .flags
        .set((flow.flags() | flow_flags::REPLY) & !flow_flags::CLOSING);
    reply
}

/// Makes the reply record again where it was evicted, and keeps it fresh. False
/// if another flow has taken its place: then the translated tuple is that flow's.
#[inline(always)]
#[must_use]
pub(super) fn reassert_reply<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    let key = reply_key(flow, headers.protocol);
    if let Some(reply) = tables.find(&key) {
        let is_own = reply.tuple == headers.tuple.reversed();
        if is_own {
            reply.seen.set(now);
        }
        return is_own;
    }
    let reply = reply_of(flow, &headers.tuple);
    // A full table, or another CPU that was faster: the next second tries again.
    let _ = tables.make(&key, &reply, Make::IfAbsent);
    true
}

/// A plain connection begins: where a flow that has ended was translated to its very
/// tuple, that flow's reply record goes, or it would give the plain connection's
/// replies a Service's address. The client may come by another node this time, where
/// the Service was translated. A flow that goes on keeps its record: a SYN from
/// somebody who pretends to be its client must not cut it.
#[inline(always)]
pub(super) fn release_tuple<A: Address, T: Tables<A>>(tables: &T, headers: &Headers<A>) {
    let key = FlowKey::new(headers.tuple.reversed(), headers.protocol, Edge::Egress);
    let Some(reply) = tables.find(&key) else {
        return;
    };
    let original = FlowKey::new(reply.tuple.reversed(), headers.protocol, Edge::Ingress);
    let is_closing = |flow: &Flow<A>| flow.flags() & flow_flags::CLOSING != 0;
    let is_over = is_closing(&reply)
        || tables
            .find(&original)
            .is_none_or(|forward| is_closing(&forward));
    if is_over {
        tables.forget(&key);
    }
}
