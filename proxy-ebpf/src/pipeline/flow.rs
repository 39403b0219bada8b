//! The life of a flow's records.
//!
//! A flow is *opening* until its client is heard again after an answer, then it is
//! *open*; [`holder`] says when its translated tuple may be another's.

use super::headers::Headers;
use super::tables::{Make, Tables};
use crate::layout::{
    Address, Backend, Edge, Flow, FlowKey, Racy, Tuple, flow_flags, protocol, ticks,
};

/// A UDP flow without packets for this long is over. Twice as long as a stream
/// of UDP is remembered by netfilter (`nf_conntrack_udp_timeout_stream`, 120 s):
/// a flow that the node's own tracking still knows is never lost here.
const UDP_TIMEOUT: u32 = ticks::from_seconds(240);
/// kube-proxy's `tcpEstablishedTimeout`.
const TCP_TIMEOUT: u32 = ticks::from_seconds(24 * 60 * 60);
/// An association of SCTP: three heartbeats and more may get lost. As netfilter has it
/// (`nf_conntrack_sctp_timeout_established`, since Linux 6.2).
const SCTP_TIMEOUT: u32 = ticks::from_seconds(210);
/// A flow that is opening: `nf_conntrack_tcp_timeout_syn_recv`, and twice
/// `nf_conntrack_udp_timeout`.
const OPENING_TIMEOUT: u32 = ticks::from_seconds(60);
/// A connection of which one side is closed: `nf_conntrack_tcp_timeout_fin_wait`.
const TCP_CLOSING_TIMEOUT: u32 = ticks::from_seconds(120);
/// A connection of which both sides are closed, and the last ACK was not seen:
/// `nf_conntrack_tcp_timeout_last_ack`.
const TCP_LAST_ACK_TIMEOUT: u32 = ticks::from_seconds(30);
/// A connection that was reset: `nf_conntrack_tcp_timeout_close`.
const TCP_RESET_TIMEOUT: u32 = ticks::from_seconds(10);

/// What a flow does to a packet.
pub(super) struct Translation<A> {
    /// What its addresses and ports become.
    pub(super) tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    pub(super) flags: u32,
    /// Whether the packet is left to the hook behind this one.
    pub(super) is_left: bool,
}

/// Whether the record was used within its protocol's timeout. How a connection ends
/// does not count: while its place is not needed, what comes late goes where the
/// rest went.
#[inline(always)]
pub(super) fn is_fresh<A>(flow: &Flow<A>, protocol: u8, now: u32) -> bool {
    let timeout = if flow.flags() & flow_flags::OPENING != 0 {
        OPENING_TIMEOUT
    } else {
        open_timeout(protocol)
    };
    idle(flow, now) <= timeout
}

/// How long an open flow may be without packets.
#[inline(always)]
fn open_timeout(protocol: u8) -> u32 {
    match protocol {
        protocol::TCP => TCP_TIMEOUT,
        protocol::SCTP => SCTP_TIMEOUT,
        _ => UDP_TIMEOUT,
    }
}

/// Ticks since the record was used. Another CPU may have written a later time than
/// this one's `now`.
#[inline(always)]
fn idle<A>(flow: &Flow<A>, now: u32) -> u32 {
    let idle = now.wrapping_sub(flow.seen.get());
    if idle > u32::MAX / 2 { 0 } else { idle }
}

/// Notes that a packet used the record. True at most once a tick: then the
/// caller looks after the record's other half.
#[inline(always)]
pub(super) fn touch<A>(flow: &Flow<A>, headers: &Headers<A>, now: u32) -> bool {
    let mut news = headers.ending();
    if flow.flags() & flow_flags::REPLY != 0 {
        news |= flow_flags::ANSWERED | finish(flow, headers);
    }
    if flow.flags() & news != news {
        flow.mark(news);
    }
    if flow.seen.get() == now {
        return false;
    }
    flow.seen.set(now);
    true
}

/// In the record of the replies, both sides' FINs.
const BOTH_FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;

/// What a packet of either direction says about the end of the connection: what comes
/// after both FINs acknowledges the second one. Before that the tuple is not free, or a
/// new connection would meet the old one's end that still waits for this ACK.
#[inline(always)]
fn finish<A>(reply: &Flow<A>, headers: &Headers<A>) -> u32 {
    if reply.flags() & BOTH_FINS == BOTH_FINS && headers.ending() == 0 {
        flow_flags::FINISHED
    } else {
        0
    }
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

/// The record of a flow's replies, where there is one and they pass here.
#[inline(always)]
pub(super) fn reply_record<'a, A: Address, T: Tables<A>>(
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
pub(super) fn new_flow<A: Address, T: Tables<A>>(
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
        seen: Racy::new(tables.now()),
        flags: Racy::new(flags | flow_flags::OPENING),
        packets: Racy::new(1),
    }
}

/// The record of a flow's replies; `original` is what the client sends.
#[inline(always)]
pub(super) fn reply_of<A: Copy>(flow: &Flow<A>, original: &Tuple<A>) -> Flow<A> {
    let mut reply = flow.clone();
    reply.tuple = original.reversed();
    let kept = flow_flags::REDIRECT | flow_flags::HAIRPIN | flow_flags::OPENING;
    reply.flags.set(flow.flags() & kept | flow_flags::REPLY);
    reply.packets.set(0);
    reply
}

/// Looks after the other half of a flow whose client is heard, or, where the replies do not
/// pass here, after its state. False if the translated tuple is another flow's now.
#[inline(always)]
#[must_use]
pub(super) fn tend<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    if flow.flags() & flow_flags::DSR == 0 {
        return tend_reply(tables, flow, headers, now);
    }
    // That the client goes on is all that tells here of an answer.
    if flow.flags() & flow_flags::OPENING != 0 && headers.goes_on() {
        let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
        // Without room it stays where it is, and the next packet tries again.
        let _ = tables.make(&key, &opened(flow), Make::Replace);
    }
    true
}

/// Looks after the reply record of a flow whose client is heard: makes it again where
/// it was evicted, keeps it fresh, tells it of the client's end, and opens a flow that
/// was answered. False if another flow has taken its place: then the translated tuple
/// is that flow's.
#[inline(always)]
#[must_use]
fn tend_reply<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    let key = reply_key(flow, headers.protocol);
    let Some(reply) = tables.find(&key) else {
        let reply = reply_of(flow, &headers.tuple);
        // A full table, or another CPU that was faster: the next second tries again.
        let _ = tables.make(&key, &reply, Make::IfAbsent);
        return true;
    };
    if !reply.tuple.is(&headers.tuple.reversed()) {
        return false;
    }
    reply.seen.set(now);
    reply.mark(match headers.ending() {
        0 => finish(&reply, headers),
        flow_flags::FIN => flow_flags::CLIENT_FIN,
        _ => flow_flags::RESET,
    });
    let is_opening = flow.flags() & flow_flags::OPENING != 0;
    if is_opening && reply.flags() & flow_flags::ANSWERED != 0 && headers.goes_on() {
        let forward = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
        // Without room both stay where they are, and the next packet tries again. The
        // old copies stay behind: found only where the new ones are not, until they
        // are too old to count.
        let is_moved = tables.make(&key, &opened(&reply), Make::Replace).is_ok();
        let _ = is_moved && tables.make(&forward, &opened(flow), Make::Replace).is_ok();
    }
    true
}

/// A flow ends here: its client is told by a reset. Its translated tuple is soon another's.
#[inline(always)]
pub(super) fn reset<A: Address, T: Tables<A>>(tables: &T, flow: &Flow<A>, protocol: u8) {
    flow.mark(flow_flags::RESET);
    if let Some(reply) = reply_record(tables, flow, protocol) {
        reply.mark(flow_flags::RESET);
    }
}

/// The record, of a flow that is open.
#[inline(always)]
fn opened<A: Copy>(flow: &Flow<A>) -> Flow<A> {
    let opened = flow.clone();
    opened.flags.set(flow.flags() & !flow_flags::OPENING);
    opened
}

/// Who has a translated tuple that another flow would like to have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// A flow that has ended.
    Over,
    /// A flow that has to go where there is no other way: it is opening, or was reset.
    Weak,
    /// A connection that one side has closed.
    Closing,
    /// A flow that goes on.
    Live,
}

/// What the flow is like whose replies are translated by `reply`. Traffic in either
/// direction keeps this record fresh, and it hears of both sides' ends.
#[inline(always)]
pub(super) fn holder<A>(reply: &Flow<A>, protocol: u8, now: u32) -> Holder {
    let flags = reply.flags();
    let (timeout, holder) = if flags & flow_flags::FINISHED != 0 {
        return Holder::Over;
    } else if flags & flow_flags::RESET != 0 {
        (TCP_RESET_TIMEOUT, Holder::Weak)
    } else if flags & flow_flags::OPENING != 0 {
        (OPENING_TIMEOUT, Holder::Weak)
    } else if flags & BOTH_FINS == BOTH_FINS {
        (TCP_LAST_ACK_TIMEOUT, Holder::Closing)
    } else if flags & BOTH_FINS != 0 {
        (TCP_CLOSING_TIMEOUT, Holder::Closing)
    } else {
        (open_timeout(protocol), Holder::Live)
    };
    if idle(reply, now) > timeout {
        Holder::Over
    } else {
        holder
    }
}

/// A plain connection begins: where a flow that is not open was translated to its very
/// tuple, that flow's reply record goes, or it would give the plain connection's
/// replies a Service's address. The client may come by another node this time, where
/// the Service was translated. A flow that is open keeps its record: a SYN from
/// somebody who pretends to be its client must not cut it. And so does one whose own SYN
/// this may be, translated at a device below this one: of a VLAN, say.
#[inline(always)]
pub(super) fn release_tuple<A: Address, T: Tables<A>>(tables: &T, headers: &Headers<A>) {
    let key = FlowKey::new(headers.tuple.reversed(), headers.protocol, Edge::Egress);
    let now = tables.now();
    let stays = tables.find(&key).is_none_or(|reply| {
        holder(&reply, key.protocol, now) == Holder::Live || is_opened_just_now(&reply, now)
    });
    if !stays {
        tables.forget(&key);
    }
}

/// Whether the flow's client has asked in this tick, or at the end of the one before.
#[inline(always)]
fn is_opened_just_now<A>(reply: &Flow<A>, now: u32) -> bool {
    const STATE: u32 = flow_flags::OPENING | flow_flags::RESET | BOTH_FINS;
    reply.flags() & STATE == flow_flags::OPENING && idle(reply, now) <= 1
}
