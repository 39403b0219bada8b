//! Who owns a translated tuple, and when another flow may have it.

use super::lifetime::{OPENING_TIMEOUT, idle, open_timeout};
use super::state::BOTH_FINS;
use crate::layout::{Address, Edge, Flow, FlowKey, flow_flags, ticks};
use crate::pipeline::packet::Headers;
use crate::pipeline::tables::Tables;

/// A connection of which one side is closed: `nf_conntrack_tcp_timeout_fin_wait`.
const TCP_CLOSING_TIMEOUT: u32 = ticks::from_seconds(120);

/// A connection of which both sides are closed, and the last ACK was not seen:
/// `nf_conntrack_tcp_timeout_last_ack`.
const TCP_LAST_ACK_TIMEOUT: u32 = ticks::from_seconds(30);

/// A connection that was reset: `nf_conntrack_tcp_timeout_close`.
const TCP_RESET_TIMEOUT: u32 = ticks::from_seconds(10);

/// Who has a translated tuple that another flow would like to have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
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
pub(crate) fn holder<A>(reply: &Flow<A>, protocol: u8, now: u32) -> Holder {
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
pub(crate) fn release_tuple<A: Address, T: Tables<A>>(tables: &T, headers: &Headers<A>) {
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
