//! Connections that nobody here translates, whose tuples translated flows must not take: those
//! of clients with endpoints, and those of this node from a port that is a NodePort.

use super::record::NO_BACKEND;
use crate::flow_table::{Claim, NewRecord, Record, Round};
use crate::layout::{Address, Edge, FilterBits, KeyParts, Tuple, flow_flags, protocol};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::verifier::hide_bounds;

/// Where the answers to a packet will be looked up.
#[inline(always)]
pub(crate) fn answer_key<A: Address>(headers: &Headers<A>, edge: Edge) -> KeyParts<'_, A> {
    KeyParts::of_answers(&headers.tuple, headers.protocol, edge)
}

/// Whether a packet may begin a connection whose tuple is to be noted.
#[inline(always)]
pub(crate) fn may_begin<A>(headers: &Headers<A>) -> bool {
    headers.is_syn() || headers.protocol == protocol::UDP
}

/// Whether the tuple under `key` is that of a connection which nobody translates; it is used now.
#[inline(always)]
pub(crate) fn is_noted<A: IpVersion, T: Tables<A>>(tables: &T, key: &KeyParts<'_, A>) -> bool {
    tables
        .find(key)
        .is_some_and(|record| use_note(&record, tables.now()))
}

/// Whether a record is of a connection which nobody translates; it is used now.
#[inline(always)]
pub(crate) fn use_note<A>(record: &Record<'_, A>, now: u32) -> bool {
    let is_note = record.flags() & flow_flags::PLAIN != 0;
    if is_note {
        record.set_last_seen(now);
    }
    is_note
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

/// What is noted of a connection.
pub(crate) struct Note<A> {
    /// The tuple to whose sender its answers seem to come: the connection's own.
    pub(crate) tuple: Tuple<A>,
    /// The backend that they come from, and its generation, if they are a Service's.
    pub(crate) backend: (u32, u32),
    /// Bits of [`flow_flags`].
    pub(crate) flags: u32,
}

impl<A: IpVersion> Note<A> {
    /// Of a connection that nobody translates.
    #[inline(always)]
    pub(crate) fn plain(headers: &Headers<A>) -> Self {
        // One datagram is remembered for short.
        let phase = if headers.protocol == protocol::UDP {
            flow_flags::EMBRYONIC
        } else {
            0
        };
        let any = headers.numbers.next;
        let flags = flow_flags::PLAIN | phase | flow_flags::of_protocol(headers.protocol);
        Self {
            tuple: headers.tuple,
            backend: (hide_bounds(NO_BACKEND, any), hide_bounds(0, any)),
            flags: hide_bounds(flags, any),
        }
    }
}

/// Notes the tuple of a connection, for its answers under `key`.
#[inline(always)]
pub(crate) fn take_note<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    key: KeyParts<'_, A>,
    note: &Note<A>,
) -> Claim {
    let timeouts = tables.timeouts();
    let now = tables.now();
    let (backend, generation) = note.backend;
    let record = NewRecord {
        key,
        tuple: KeyParts::of_answers(&note.tuple, 0, Edge::Ingress),
        backend,
        generation,
        service: NO_BACKEND,
        packets: 0,
        client_end: headers.numbers.next,
        flags: flow_flags::REPLY | note.flags,
        now,
    };
    // With a SYN begins another connection, of which nobody has closed anything.
    let place = tables.place(&key);
    let round = Round::EVICTING;
    let indices = tables.indices(place, round);
    tables.claim(indices, (round, place.tag()), &record, timeouts, |old| {
        let is_begun_anew = headers.is_syn() && old.flags() & flow_flags::PLAIN != 0;
        is_begun_anew || old.is_over(timeouts, now)
    })
}
