//! Updates the state of a packet's flow: last seen, FIN and RST, established.

use super::record::{established, reply_key, reply_record, reply_record_of};
use crate::layout::{Address, Edge, Flow, FlowKey, flow_flags};
use crate::pipeline::packet::Headers;
use crate::pipeline::tables::{InsertMode, Tables};

/// Updates the record's last-seen time and its FIN and RST flags. True at most once a tick:
/// then the caller refreshes the record of the other direction.
#[inline(always)]
pub(crate) fn update_last_seen<A>(flow: &Flow<A>, headers: &Headers<A>, now: u32) -> bool {
    let mut news = headers.fin_rst_flags();
    if flow.flags() & flow_flags::REPLY != 0 {
        news |= flow_flags::SEEN_REPLY | closed_flag(flow, headers);
    }
    if flow.flags() & news != news {
        flow.mark(news);
    }
    if flow.last_seen.get() == now {
        return false;
    }
    flow.last_seen.set(now);
    true
}

/// In the record of the replies, both sides' FINs.
pub(crate) const BOTH_FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;

/// What a packet of either direction says about the end of the connection: what comes
/// after both FINs acknowledges the second one. Before that the tuple is not free, or a
/// new connection would meet the old one's end that still waits for this ACK.
#[inline(always)]
fn closed_flag<A>(reply: &Flow<A>, headers: &Headers<A>) -> u32 {
    if reply.flags() & BOTH_FINS == BOTH_FINS && headers.fin_rst_flags() == 0 {
        flow_flags::CLOSED
    } else {
        0
    }
}

/// Refreshes the reply record for a packet of the client; with DSR, where no replies pass,
/// updates the flow's own state. False if another flow has claimed the translated tuple.
#[inline(always)]
#[must_use]
pub(crate) fn refresh_flow<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    if flow.flags() & flow_flags::DSR == 0 {
        return refresh_reply_record(tables, flow, headers, now);
    }
    // That the client goes on is all that tells here of an answer.
    if flow.flags() & flow_flags::EMBRYONIC != 0 && headers.is_progress() {
        let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
        // Without room it stays where it is, and the next packet tries again.
        let _ = tables.insert_flow(&key, &established(flow), InsertMode::Any);
    }
    true
}

/// Refreshes the reply record for a packet of the client: inserts it again if it was evicted,
/// copies the client's FIN or RST to it, and moves an answered flow to the established ones.
/// False if the record is another flow's, which has claimed the translated tuple.
#[inline(always)]
#[must_use]
fn refresh_reply_record<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    let key = reply_key(flow, headers.protocol);
    let Some(reply) = tables.find(&key) else {
        let reply = reply_record_of(flow, &headers.tuple);
        // A full table, or another CPU that was faster: the next second tries again.
        let _ = tables.insert_flow(&key, &reply, InsertMode::NoExist);
        return true;
    };
    if !reply.tuple.is(&headers.tuple.reversed()) {
        return false;
    }
    reply.last_seen.set(now);
    reply.mark(match headers.fin_rst_flags() {
        0 => closed_flag(&reply, headers),
        flow_flags::FIN => flow_flags::CLIENT_FIN,
        _ => flow_flags::RESET,
    });
    let is_embryonic = flow.flags() & flow_flags::EMBRYONIC != 0;
    if is_embryonic && reply.flags() & flow_flags::SEEN_REPLY != 0 && headers.is_progress() {
        let forward = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
        // Without room both stay where they are, and the next packet tries again. The
        // old copies stay behind: found only where the new ones are not, until they
        // are too old to count.
        let is_moved = tables
            .insert_flow(&key, &established(&reply), InsertMode::Any)
            .is_ok();
        let _ = is_moved
            && tables
                .insert_flow(&forward, &established(flow), InsertMode::Any)
                .is_ok();
    }
    true
}

/// Marks both records as reset: the client gets an RST, and the tuple becomes reclaimable.
#[inline(always)]
pub(crate) fn mark_reset<A: Address, T: Tables<A>>(tables: &T, flow: &Flow<A>, protocol: u8) {
    flow.mark(flow_flags::RESET);
    if let Some(reply) = reply_record(tables, flow, protocol) {
        reply.mark(flow_flags::RESET);
    }
}
