//! Finds the flow record of a packet, checks that it is still valid, and refreshes it.

use super::capabilities::{HookCapabilities, can_handle};
use super::liveness::{is_retried, note_unanswered};
use super::record::{NO_BACKEND, Translation, client_key, reply_key};
use super::state::{
    Standing, continues_on_syn, is_current, is_stateful, mark_reset, update_from_client,
    update_from_endpoint,
};
use super::traffic::count_packet;
use crate::flow_table::Record;
use crate::layout::{
    Counter, Edge, KeyParts, Tuple, flow_flags, new_flow_notes, protocol, settings_flags,
};
use crate::pipeline::packet::headers::tcp_flags;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::verifier::{all_ones_if_zero, hide_bounds};

/// Flags of records whose packets pass as they are.
const UNTRANSLATED: u32 = flow_flags::PLAIN | flow_flags::NETFILTER;

/// The flow that the packet belongs to, if there is one; it is kept alive. An error says
/// that its endpoint has been gone for long, which is asked at most once a tick.
#[inline(always)]
pub(crate) fn find_flow<A: IpVersion, T: Tables<A>, O: HookCapabilities<A>>(
    headers: &Headers<A>,
    tables: &T,
    capabilities: &mut O,
) -> Result<Option<Translation<A>>, Counter> {
    let Some(flow) = tables.find(&client_key(headers)) else {
        return Ok(None);
    };
    let now = tables.now();
    let flags = flow.flags();
    if flags & UNTRANSLATED != 0 {
        return Ok(pass_untranslated(headers, tables, &flow, now));
    }
    let is_due = flow.last_seen() != now;
    if is_due && is_expired(tables, &flow, now) {
        return Ok(None);
    }
    if flags & flow_flags::REPLY != 0 {
        if !update_from_endpoint(tables, &flow, headers, now) {
            return Ok(None);
        }
    } else if headers.is_syn() || (headers.protocol == protocol::UDP && !is_current(tables, &flow))
    {
        // A stage looks whether the flow goes on.
        return Ok(None);
    } else if is_due || is_stateful(headers, flags) {
        if update_from_client(tables, &flow, headers, now) != Standing::Valid {
            return Ok(None);
        }
        flow.set_last_seen(now);
        if is_endpoint_gone(tables, &flow, headers) {
            mark_reset(tables, &flow, headers.protocol);
            return Err(Counter::EndpointGone);
        }
    }
    note_acknowledgment(headers, &flow);
    let is_first = flags & (flow_flags::REPLY | flow_flags::SEEN_REPLY) == flow_flags::REPLY;
    let tuple = flow.tuple;
    if !flow.is_unchanged() {
        return Ok(None);
    }
    let is_deferred = !can_handle(capabilities, headers, (&tuple, flags), is_first);
    if !is_deferred {
        count_packet(tables, &flow);
    }
    Ok(Some(Translation {
        tuple,
        flags,
        is_deferred,
    }))
}

/// What a reply of a translated flow becomes; the flow is kept alive.
#[inline(always)]
pub(crate) fn find_reply<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Option<Tuple<A>> {
    let key = KeyParts::of(&headers.tuple, headers.protocol, Edge::Egress);
    let flow = tables.find(&key)?;
    let now = tables.now();
    if flow.flags() & UNTRANSLATED != 0 {
        pass_untranslated(headers, tables, &flow, now);
        return None;
    }
    if flow.last_seen() != now && is_expired(tables, &flow, now) {
        return None;
    }
    if !update_from_endpoint(tables, &flow, headers, now) {
        return None;
    }
    note_acknowledgment(headers, &flow);
    let tuple = flow.tuple;
    if !flow.is_unchanged() {
        return None;
    }
    count_packet(tables, &flow);
    Some(tuple)
}

/// The flow under a packet's tuple that the packet may go on with, though its hook did not
/// find it so: it was made meanwhile, or has lost the record of its replies. One that the packet
/// does not belong to is over; so is one that leads on in a tunnel, for a packet that came in one.
#[inline(always)]
pub(crate) fn usable_flow<'a, A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    notes: u32,
    tables: &'a T,
) -> Option<Record<'a, A>> {
    let flow = tables.find(&client_key(headers))?;
    let now = tables.now();
    let flags = flow.flags();
    if flags & (flow_flags::REPLY | UNTRANSLATED) == flow_flags::REPLY {
        return None;
    }
    let others = if notes & new_flow_notes::TUNNELLED == 0 {
        0
    } else {
        flow_flags::DSR
    };
    let is_usable = flags & (UNTRANSLATED | flow_flags::CLOSED | others) == 0
        && !is_expired(tables, &flow, now)
        && belongs(headers, tables, &flow, now);
    if !is_usable {
        flow.mark(flow_flags::CLOSED);
        return None;
    }
    if is_syn_again(headers, notes, tables, &flow) {
        note_unanswered(tables, (flow.backend, flow.generation));
        flow.mark(flow_flags::CLOSED | flow_flags::UNANSWERED);
        return None;
    }
    Some(flow)
}

/// What is known of the packet's tuple before an endpoint is selected.
#[derive(Clone, Copy)]
pub(crate) struct FlowBefore {
    /// There is a flow that the packet may go on with: no endpoint is to be selected.
    pub may_go_on: bool,
    /// The backend that has not answered the SYN before this one, if there is one.
    pub unanswered_by: u32,
}

/// The flow that a packet may go on with, or that was given up because its endpoint did not answer.
#[inline(always)]
pub(crate) fn flow_before<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> FlowBefore {
    const OTHERS: u32 = UNTRANSLATED | flow_flags::REPLY | flow_flags::CLOSED;
    let flow = tables.find(&client_key(headers));
    let (flags, backend) = flow.map_or((OTHERS, NO_BACKEND), |it| (it.flags(), it.backend));
    let flags = hide_bounds(flags, headers.numbers.next);
    let backend = hide_bounds(backend, headers.numbers.next);
    let is_answered = all_ones_if_zero(flags & flow_flags::UNANSWERED);
    FlowBefore {
        may_go_on: flags & OTHERS == 0,
        unanswered_by: if headers.is_syn() {
            backend | is_answered
        } else {
            NO_BACKEND
        },
    }
}

/// Whether a record was not used for longer than flows of its kind are remembered. The end of a
/// connection does not count: until the tuple is claimed, late packets are still translated.
#[inline(always)]
pub(crate) fn is_expired<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Record<'_, A>,
    now: u32,
) -> bool {
    const ENDED: u32 = flow_flags::RESET | flow_flags::CLOSED;
    tables
        .timeouts()
        .is_over(flow.flags() & !ENDED, flow.idle(now))
}

/// Whether the packet is the SYN of a flow, sent again because nobody has answered it, and is to go
/// to another endpoint. The flow's replies are not translated any more then: an answer that comes
/// late is reset by the client.
#[inline(always)]
fn is_syn_again<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    notes: u32,
    tables: &T,
    flow: &Record<'_, A>,
) -> bool {
    const ANSWERED: u32 = flow_flags::SEEN_REPLY | flow_flags::RESET;
    let flags = flow.flags();
    if headers.protocol != protocol::TCP
        || !headers.is_syn()
        || flags & flow_flags::DSR != 0
        || notes & new_flow_notes::TUNNELLED != 0
        || !is_retried(tables, flow.backend)
    {
        return false;
    }
    let Some(reply) = tables.find(&reply_key(&flow.tuple, flags, protocol::TCP)) else {
        return false;
    };
    let is_again = reply.flags() & (flow_flags::EMBRYONIC | ANSWERED) == flow_flags::EMBRYONIC
        && reply.ends[0].get() == headers.numbers.next;
    if is_again {
        reply.mark(flow_flags::CLOSED | flow_flags::PLAIN);
    }
    is_again
}

/// Whether a client's packet still belongs to the flow that was found under its tuple.
#[inline(always)]
fn belongs<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flow: &Record<'_, A>,
    now: u32,
) -> bool {
    if headers.is_syn() {
        continues_on_syn(tables, flow, headers.protocol, now)
    } else {
        headers.protocol != protocol::UDP || is_current(tables, flow)
    }
}

/// A packet of a connection that others translate, or nobody: it passes, and is remembered.
/// `None` where it begins another connection.
#[inline(always)]
fn pass_untranslated<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flow: &Record<'_, A>,
    now: u32,
) -> Option<Translation<A>> {
    const ENDED: u32 = flow_flags::FIN | flow_flags::RESET;
    let flags = flow.flags();
    let is_new = headers.is_syn() && flags & ENDED != 0;
    if is_new || is_expired(tables, flow, now) {
        return None;
    }
    if flow.last_seen() != now {
        flow.set_last_seen(now);
    }
    let news = headers.fin_rst_flags();
    if flags & news != news {
        flow.set_flags(flags | news);
    }
    Some(Translation {
        tuple: headers.tuple,
        flags,
        is_deferred: false,
    })
}

/// Remembers what the sender of a segment expects next.
#[inline(always)]
fn note_acknowledgment<A>(headers: &Headers<A>, flow: &Record<'_, A>) {
    if headers.tcp_flags & tcp_flags::ACK != 0 {
        flow.acknowledged.set(headers.numbers.acknowledgment);
    }
}

/// Whether this connection is to be reset because its endpoint is gone. A reset
/// of its own still goes there.
#[inline(always)]
fn is_endpoint_gone<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Record<'_, A>,
    headers: &Headers<A>,
) -> bool {
    if headers.protocol != protocol::TCP || headers.tcp_flags & tcp_flags::RST != 0 {
        return false;
    }
    let flags = tables.settings().map_or(0, |settings| settings.flags);
    flags & settings_flags::RESET_GONE != 0
        && tables
            .backend(flow.backend)
            .is_some_and(|backend| backend.resets(flow.generation))
}
