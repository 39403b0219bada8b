//! Connections that nobody here translates, whose tuples translated flows must not take: those
//! of clients with endpoints, and those of this node from a port that is a NodePort.

use super::lookup::timeouts;
use super::record::{NO_BACKEND, protocol_flag};
use crate::flow_table::{Claim, NewRecord};
use crate::layout::{Address, Edge, FilterBits, KeyParts, Tuple, flow_flags, protocol};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;

/// Where the answers to a packet will be looked up.
#[inline(always)]
pub(crate) fn answer_key<A: Address>(headers: &Headers<A>, edge: Edge) -> KeyParts<'_, A> {
    KeyParts::of_answers(&headers.tuple, headers.protocol, edge)
}

/// Whether a packet that nobody translates begins a connection whose tuple is yet to be noted
/// for its answers, which come by `edge`: it is the first one, or another flow has the tuple.
#[inline(always)]
pub(crate) fn is_unnoted<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    edge: Edge,
) -> bool {
    if headers.protocol != protocol::UDP {
        return headers.is_syn();
    }
    let Some(record) = tables.find(&answer_key(headers, edge)) else {
        return true;
    };
    let now = tables.now();
    if record.flags() & flow_flags::PLAIN == 0 {
        return true;
    }
    if record.last_seen() != now {
        record.set_last_seen(now);
    }
    false
}

/// Whether the destination can be an endpoint's: then the tuple of a connection to it may be
/// that of a translated flow.
#[inline(always)]
pub(crate) fn may_be_endpoint<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> bool {
    let Tuple {
        destination,
        destination_port,
        ..
    } = &headers.tuple;
    tables.filter_matches(FilterBits::of_source(destination, *destination_port))
}

/// Notes the tuple of a connection that nobody translates, for its answers under `key`.
#[inline(always)]
pub(crate) fn note<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    key: KeyParts<'_, A>,
) -> Claim {
    let timeouts = timeouts(tables);
    let now = tables.now();
    let record = NewRecord {
        key,
        tuple: key,
        backend: NO_BACKEND,
        generation: 0,
        service: NO_BACKEND,
        packets: 0,
        client_end: 0,
        flags: flow_flags::PLAIN | flow_flags::REPLY | protocol_flag(headers.protocol),
        now,
    };
    tables.claim(&record, timeouts, |old| {
        old.is_over(timeouts, now) || old.flags() & flow_flags::PLAIN != 0
    })
}
