//! Finds the flow record of a packet, checks that it is still valid, and refreshes it.

use super::capabilities::{HookCapabilities, can_handle};
use super::lifetime::is_fresh;
use super::record::{Translation, reply_record};
use super::state::{mark_reset, refresh_flow, update_last_seen};
use super::traffic::count_packet;
use crate::layout::{Counter, Edge, Flow, FlowKey, Tuple, flow_flags, protocol, settings_flags};
use crate::pipeline::packet::headers::tcp_flags;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;

/// The flow that the packet belongs to, if there is one; it is kept alive. An error says
/// that its endpoint has been gone for long, which is asked at most once a tick.
#[inline(always)]
pub(crate) fn find_flow<A: IpVersion, T: Tables<A>, O: HookCapabilities<A>>(
    headers: &Headers<A>,
    tables: &T,
    capabilities: &mut O,
) -> Result<Option<Translation<A>>, Counter> {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    let Some(flow) = tables.find(&key) else {
        return Ok(None);
    };
    let now = tables.now();
    if !is_valid(tables, &flow, headers, now) {
        return Ok(None);
    }
    let is_reply = flow.flags() & flow_flags::REPLY != 0;
    let is_first = is_reply && flow.flags() & flow_flags::SEEN_REPLY == 0;
    // What comes before the flow is open, and from its first FIN on, may change its state.
    let is_changing = flow.flags() & STATEFUL != 0;
    let is_due =
        update_last_seen(&flow, headers, now) || is_changing || headers.fin_rst_flags() != 0;
    if !is_reply && is_due {
        if !refresh_flow(tables, &flow, headers, now) {
            tables.remove_flow(&key);
            return Ok(None);
        }
        if is_endpoint_gone(tables, &flow, headers) {
            mark_reset(tables, &flow, headers.protocol);
            return Err(Counter::EndpointGone);
        }
    }
    let is_deferred = !can_handle(capabilities, headers, &flow, is_first);
    if !is_deferred {
        count_packet(tables, &flow);
    }
    Ok(Some(Translation {
        tuple: flow.tuple,
        flags: flow.flags(),
        is_deferred,
    }))
}

/// Of a flow with one of these each packet is looked at closely.
const STATEFUL: u32 = flow_flags::EMBRYONIC | flow_flags::FIN | flow_flags::RESET;

/// Whether this connection is to be reset because its endpoint is gone. A reset
/// of its own still goes there.
#[inline(always)]
fn is_endpoint_gone<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
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

/// Whether this packet still belongs to the flow that was found under its tuple.
#[inline(always)]
fn is_valid<A: IpVersion, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    if flow.flags() & flow_flags::NETFILTER != 0 && headers.is_syn() {
        return false;
    }
    let is_reply = flow.flags() & flow_flags::REPLY != 0;
    if !is_fresh(flow, headers.protocol, now) {
        // Traffic in one direction only keeps the other record fresh.
        let is_kept = !is_reply
            && reply_record(tables, flow, headers.protocol)
                .is_some_and(|reply| is_fresh(&reply, headers.protocol, now));
        if !is_kept {
            return false;
        }
    }
    if is_reply {
        return true;
    }
    if headers.is_syn() {
        // After a FIN or an RST of either side this is another connection.
        let is_ending = |flow: &Flow<A>| flow.flags() & (flow_flags::FIN | flow_flags::RESET) != 0;
        return is_current(tables, flow)
            && !is_ending(flow)
            && reply_record(tables, flow, headers.protocol).is_none_or(|reply| !is_ending(&reply));
    }
    headers.protocol != protocol::UDP || is_current(tables, flow)
}

#[inline(always)]
fn is_current<A: IpVersion, T: Tables<A>>(tables: &T, flow: &Flow<A>) -> bool {
    tables
        .backend(flow.backend)
        .is_some_and(|backend| backend.is_current(flow.generation))
}

/// What a reply of a translated flow becomes; the flow is kept alive.
#[inline(always)]
pub(crate) fn find_reply<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Option<Tuple<A>> {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Egress);
    let flow = tables.find(&key)?;
    let now = tables.now();
    if !is_fresh(&flow, headers.protocol, now) {
        return None;
    }
    update_last_seen(&flow, headers, now);
    count_packet(tables, &flow);
    Some(flow.tuple)
}
