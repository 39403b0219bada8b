//! Updates the state of a packet's flow: last seen, established, closed.

use super::connection::{Connection, STATEFUL, Segment};
use super::liveness::note_answer;
use super::record::{NO_BACKEND, reply_key, share_flags};
use crate::flow_table::Record;
use crate::layout::{Counter, Edge, KeyParts, flow_flags};
use crate::pipeline::packet::headers::tcp_flags;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;

/// How a flow stands, by the record of its replies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes on.
    Valid,
    /// It has no record of the replies any more.
    Incomplete,
    /// Another flow has its translated tuple.
    Lost,
}

/// Whether a client's packet has to be looked at closely: one in a tick, and each one of a
/// connection that begins or ends.
#[inline(always)]
pub(crate) fn is_stateful<A>(headers: &Headers<A>, flags: u32) -> bool {
    flags & STATEFUL != 0
        || headers.tcp_flags & (tcp_flags::FIN | tcp_flags::RST | tcp_flags::SYN) != 0
}

/// Whether the protocol has connections.
#[inline(always)]
const fn has_connections(flags: u32) -> bool {
    flags & (flow_flags::TCP | flow_flags::SCTP) != 0
}

/// Takes a packet of the client.
#[inline(always)]
pub(crate) fn update_from_client<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Record<'_, A>,
    headers: &Headers<A>,
    now: u32,
) -> Standing {
    let flags = flow.flags();
    if flags & flow_flags::DSR != 0 {
        update_direct(flow, headers);
        return Standing::Valid;
    }
    let Some(reply) = tables.find(&reply_key(&flow.tuple, flags, headers.protocol)) else {
        return Standing::Incomplete;
    };
    if !reply.tuple.answers(&headers.tuple) {
        return Standing::Lost;
    }
    let next = if has_connections(flags) {
        let expected = reply.acknowledged.get();
        let before = Connection::of(&reply, reply.flags());
        let after = before.on_client(&segment(headers, expected));
        store(&reply, &before, &after);
        after.flags
    } else {
        // The client goes on after an answer, or in a later tick: a stream, also where nothing
        // is answered.
        let is_stream = reply.flags() & flow_flags::SEEN_REPLY != 0 || flow.last_seen() != now;
        let phase = if is_stream { flow_flags::EMBRYONIC } else { 0 };
        reply.flags() & !phase
    };
    if next != reply.flags() {
        reply.set_flags(next);
    }
    reply.set_last_seen(now);
    share_flags(flow, next);
    Standing::Valid
}

/// Takes a packet of the client of a flow with direct return, whose answers do not pass here:
/// all that is known is what the client says.
#[inline(always)]
fn update_direct<A>(flow: &Record<'_, A>, headers: &Headers<A>) {
    let flags = flow.flags();
    let mut next = flags;
    if headers.is_progress() {
        next &= !flow_flags::EMBRYONIC;
    }
    if headers.tcp_flags & tcp_flags::FIN != 0 {
        next |= flow_flags::CLIENT_FIN;
    }
    if headers.tcp_flags & tcp_flags::RST != 0 {
        next |= flow_flags::RESET;
    }
    if next != flags {
        flow.set_flags(next);
    }
}

/// Takes a reply. False if it belongs to a connection that nobody translates.
#[inline(always)]
pub(crate) fn update_from_endpoint<A: IpVersion, T: Tables<A>>(
    tables: &T,
    reply: &Record<'_, A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    let flags = reply.flags();
    let is_first = flags & flow_flags::SEEN_REPLY == 0;
    let is_due = is_first || reply.last_seen() != now;
    let is_stateful = has_connections(flags) && is_stateful(headers, flags);
    if !is_due && !is_stateful {
        if flags & flow_flags::UNANSWERED_SYN != 0 {
            reply.set_flags(answered(flags));
        }
        return true;
    }
    let key = KeyParts::of_answers(&reply.tuple, headers.protocol, Edge::Ingress);
    let client = tables
        .find(&key)
        .filter(|client| client.tuple.answers(&headers.tuple));
    let mut next = answered(flags);
    if is_stateful {
        // Without the client's record no RST counts.
        let expected = client
            .as_ref()
            .map_or(headers.numbers.sequence.wrapping_add(1), |client| {
                client.acknowledged.get()
            });
        let before = Connection::of(reply, flags);
        let Some(after) = before.on_endpoint(&segment(headers, expected)) else {
            return false;
        };
        store(reply, &before, &after);
        next = answered(after.flags);
    }
    if is_first && flags & flow_flags::SCTP == 0 {
        note_answer(tables, (reply.backend, reply.generation), now);
        if headers.tcp_flags & tcp_flags::RST != 0 {
            tables.count(Counter::ConnectionRefused);
        }
    }
    if next != flags {
        reply.set_flags(next);
    }
    reply.set_last_seen(now);
    if let Some(client) = client {
        client.set_last_seen(now);
        share_flags(&client, next);
    }
    true
}

/// The flags of a flow whose endpoint has answered.
#[inline(always)]
const fn answered(flags: u32) -> u32 {
    (flags | flow_flags::SEEN_REPLY) & !flow_flags::UNANSWERED_SYN
}

#[inline(always)]
pub(super) fn segment<A>(headers: &Headers<A>, expected: u32) -> Segment {
    Segment {
        flags: headers.tcp_flags,
        numbers: headers.numbers,
        expected,
    }
}

#[inline(always)]
pub(super) fn store<A>(reply: &Record<'_, A>, before: &Connection, after: &Connection) {
    if before.ends != after.ends {
        reply.ends[0].set(after.ends[0]);
        reply.ends[1].set(after.ends[1]);
    }
}

/// SYNs, each in a tick of its own, after which an established connection is given up whose
/// endpoint answers none of them. An endpoint that lives answers at least every other one, though
/// it sends at most two challenge ACKs a second (`net.ipv4.tcp_invalid_ratelimit`).
const UNANSWERED_LIMIT: u32 = 4;

/// Whether a connection goes on when its client's tuple sends a SYN. While it is not over, its
/// endpoint answers: with a challenge ACK, where it does not know of an end (RFC 5961, section
/// 4), so that a client that has forgotten the connection resets it.
#[inline(always)]
pub(crate) fn continues_on_syn<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Record<'_, A>,
    protocol: u8,
    now: u32,
) -> bool {
    const ENDED: u32 = flow_flags::RESET | flow_flags::CLOSED;
    let flags = flow.flags();
    if flags & flow_flags::DSR != 0 {
        return flags & (ENDED | flow_flags::CLIENT_FIN) == 0 && is_current(tables, flow);
    }
    let Some(reply) = tables.find(&reply_key(&flow.tuple, flags, protocol)) else {
        return flags & ENDED == 0 && is_current(tables, flow);
    };
    let state = reply.flags();
    if state & ENDED != 0 {
        return false;
    }
    if state & flow_flags::EMBRYONIC != 0 {
        return is_current(tables, flow);
    }
    count_unanswered(&reply, now) < UNANSWERED_LIMIT
}

/// How many SYNs the endpoint has not answered, with one that comes now.
#[inline(always)]
fn count_unanswered<A>(reply: &Record<'_, A>, now: u32) -> u32 {
    const COUNT: u32 = 0xff;
    let flags = reply.flags();
    let tick = now << 8;
    let before = reply.unanswered_syns.get();
    let is_counting = flags & flow_flags::UNANSWERED_SYN != 0;
    let count = if is_counting { before & COUNT } else { 0 };
    if is_counting && before & !COUNT == tick {
        return count;
    }
    reply.unanswered_syns.set(tick | (count + 1));
    reply.set_flags(flags | flow_flags::UNANSWERED_SYN);
    count + 1
}

/// Whether the backend of a flow still serves.
#[inline(always)]
pub(crate) fn is_current<A: IpVersion, T: Tables<A>>(tables: &T, flow: &Record<'_, A>) -> bool {
    flow.backend == NO_BACKEND
        || tables
            .backend(flow.backend)
            .is_some_and(|backend| backend.is_current(flow.generation))
}

/// Marks both records as reset: the client gets an RST, and the tuple can be reused soon.
#[inline(always)]
pub(crate) fn mark_reset<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Record<'_, A>,
    protocol: u8,
) {
    let flags = flow.flags();
    flow.mark(flow_flags::RESET);
    if flags & flow_flags::DSR == 0
        && let Some(reply) = tables.find(&reply_key(&flow.tuple, flags, protocol))
    {
        reply.mark(flow_flags::RESET);
    }
}
