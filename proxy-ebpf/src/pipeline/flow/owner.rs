//! Which flow owns a translated tuple, and when another one may claim it.

use super::lifetime::{EMBRYONIC_TIMEOUT, established_timeout, idle};
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
pub(crate) enum TupleOwner {
    /// A flow that has ended.
    Expired,
    /// A flow that has to go where there is no other way: it is opening, or was reset.
    Reclaimable,
    /// A connection that one side has closed.
    Closing,
    /// A flow that goes on.
    Live,
}

/// What the flow is like whose replies are translated by `reply`. Traffic in either
/// direction keeps this record fresh, and it hears of both sides' ends.
#[inline(always)]
pub(crate) fn tuple_owner<A>(reply: &Flow<A>, protocol: u8, now: u32) -> TupleOwner {
    let flags = reply.flags();
    let (timeout, tuple_owner) = if flags & flow_flags::CLOSED != 0 {
        return TupleOwner::Expired;
    } else if flags & flow_flags::RESET != 0 {
        (TCP_RESET_TIMEOUT, TupleOwner::Reclaimable)
    } else if flags & flow_flags::EMBRYONIC != 0 {
        (EMBRYONIC_TIMEOUT, TupleOwner::Reclaimable)
    } else if flags & BOTH_FINS == BOTH_FINS {
        (TCP_LAST_ACK_TIMEOUT, TupleOwner::Closing)
    } else if flags & BOTH_FINS != 0 {
        (TCP_CLOSING_TIMEOUT, TupleOwner::Closing)
    } else {
        (established_timeout(protocol), TupleOwner::Live)
    };
    if idle(reply, now) > timeout {
        TupleOwner::Expired
    } else {
        tuple_owner
    }
}

/// Removes the reply record of a flow that is not established and has the tuple of this
/// untranslated connection: it would translate the connection's replies. (The client may have
/// reached the Service through another node, which picked the same endpoint.) An established
/// flow keeps its record, since a spoofed SYN must not cut it. So does a flow whose own SYN
/// this may be, translated at a lower device, such as the one below a VLAN device.
#[inline(always)]
pub(crate) fn release_tuple<A: Address, T: Tables<A>>(tables: &T, headers: &Headers<A>) {
    let key = FlowKey::new(headers.tuple.reversed(), headers.protocol, Edge::Egress);
    let now = tables.now();
    let stays = tables.find(&key).is_none_or(|reply| {
        tuple_owner(&reply, key.protocol, now) == TupleOwner::Live
            || is_created_just_now(&reply, now)
    });
    if !stays {
        tables.remove_flow(&key);
    }
}

/// Whether the flow's client has asked in this tick, or at the end of the one before.
#[inline(always)]
fn is_created_just_now<A>(reply: &Flow<A>, now: u32) -> bool {
    const STATE: u32 = flow_flags::EMBRYONIC | flow_flags::RESET | BOTH_FINS;
    reply.flags() & STATE == flow_flags::EMBRYONIC && idle(reply, now) <= 1
}
