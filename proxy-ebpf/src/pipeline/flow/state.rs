//! What packets say about the state of their flow.

use super::record::{opened, reply_key, reply_of, reply_record};
use crate::layout::{Address, Edge, Flow, FlowKey, flow_flags};
use crate::pipeline::packet::Headers;
use crate::pipeline::tables::{Make, Tables};

/// Notes that a packet used the record. True at most once a tick: then the
/// caller looks after the record's other half.
#[inline(always)]
pub(crate) fn touch<A>(flow: &Flow<A>, headers: &Headers<A>, now: u32) -> bool {
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
pub(crate) const BOTH_FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;

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

/// Looks after the other half of a flow whose client is heard, or, where the replies do not
/// pass here, after its state. False if the translated tuple is another flow's now.
#[inline(always)]
#[must_use]
pub(crate) fn tend<A: Address, T: Tables<A>>(
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
pub(crate) fn reset<A: Address, T: Tables<A>>(tables: &T, flow: &Flow<A>, protocol: u8) {
    flow.mark(flow_flags::RESET);
    if let Some(reply) = reply_record(tables, flow, protocol) {
        reply.mark(flow_flags::RESET);
    }
}
