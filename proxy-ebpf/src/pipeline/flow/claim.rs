//! Makes the records of a flow; the record of its replies claims the translated tuple.

use super::connection::Connection;
use super::record::{SHARED, client_key, reply_key};
use super::source_port::{NatPorts, Selection};
use super::state::{segment, store};
use super::traffic::count_connection;
use crate::flow_table::{Claim, NewRecord, Record, Round};
use crate::layout::{
    Counter, Edge, KeyParts, NewFlow, Timeouts, flow_flags, new_flow_notes, protocol,
};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;

/// Who has the tuple of a flow's replies.
#[derive(Clone, Copy)]
pub(crate) enum TupleOwner<'a, A> {
    /// Nobody, or a flow that is over.
    Nobody,
    /// The flow itself: only its client's record was given up, or another CPU makes it.
    Itself(Record<'a, A>),
    /// Another flow, which is over; its endpoint may remember it.
    Former,
    /// Another flow.
    Other,
}

/// Who has the tuple that the flow's replies will have.
#[inline(always)]
pub(crate) fn tuple_owner<'a, A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &'a T,
    flow: &NewFlow<A>,
) -> TupleOwner<'a, A> {
    let Some(owner) = tables.find(&reply_key(&flow.tuple, flow.flags, headers.protocol)) else {
        return TupleOwner::Nobody;
    };
    let is_own = owner.tuple.answers(&headers.tuple);
    // Of a connection that was reset nothing is left for the client's next one.
    let is_reset = headers.is_syn() && owner.flags() & flow_flags::RESET != 0;
    let (timeouts, now) = (tables.timeouts(), tables.now());
    if owner.is_over(timeouts, now) || (is_own && is_reset) {
        if is_own || timeouts.is_forgotten(owner.flags(), owner.idle(now)) {
            TupleOwner::Nobody
        } else {
            TupleOwner::Former
        }
    } else if is_own {
        TupleOwner::Itself(owner)
    } else {
        TupleOwner::Other
    }
}

/// Gives a flow the state of the record of its replies, which takes the packet in.
#[inline(always)]
pub(crate) fn adopt_state<A: IpVersion>(
    headers: &Headers<A>,
    flow: &mut NewFlow<A>,
    reply: &Record<'_, A>,
) {
    let state = reply.flags();
    let next = if headers.is_syn() {
        let before = Connection::of(reply, state);
        let after = before.on_client(&segment(headers, 0));
        store(reply, &before, &after);
        after.flags
    } else {
        state
    };
    if next != state {
        reply.set_flags(next);
    }
    flow.flags = flow.flags & !SHARED | next & SHARED;
}

/// Whether a packet without a flow is one of a connection that has begun before. One that came in
/// a tunnel belongs to a connection that another node knows.
#[inline(always)]
pub(crate) fn is_stray<A>(headers: &Headers<A>, flow: &NewFlow<A>) -> bool {
    headers.protocol == protocol::TCP
        && !headers.begins_flow()
        && flow.notes & (new_flow_notes::TUNNELLED | new_flow_notes::EXISTING) == 0
}

/// Tries to give a flow another source port than its client's; `None` where there is none.
#[inline(always)]
pub(crate) fn select_port<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flow: &mut NewFlow<A>,
) -> Option<Selection> {
    let nat_ports = tables.settings().map_or(0, |settings| settings.nat_ports);
    NatPorts::new(nat_ports, headers, tables.now()).try_some(tables, headers, flow)
}

/// Makes the record of the flow's replies, if no other flow has taken the tuple meanwhile.
#[inline(always)]
pub(crate) fn claim_replies<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flow: &mut NewFlow<A>,
) -> Claim {
    const KEPT: u32 = flow_flags::REDIRECT
        | flow_flags::HAIRPIN
        | flow_flags::HOST_CLIENT
        | flow_flags::TCP
        | flow_flags::SCTP
        | SHARED;
    let now = tables.now();
    let record = NewRecord {
        key: reply_key(&flow.tuple, flow.flags, headers.protocol),
        tuple: KeyParts::of_answers(&headers.tuple, 0, Edge::Ingress),
        backend: flow.backend,
        generation: flow.generation,
        service: flow.service,
        packets: 0,
        client_end: headers.numbers.next,
        flags: flow.flags & KEPT | flow_flags::REPLY,
        now,
    };
    let timeouts = tables.timeouts();
    let reclaims = flow.notes & new_flow_notes::RECLAIMS != 0;
    let claimed = claim_record(tables, flow.notes, &record, timeouts, |old| {
        let is_reclaimed = reclaims && is_reclaimable(old.flags());
        old.tuple.answers(&headers.tuple) || is_reclaimed || old.is_over(timeouts, now)
    });
    note_claim(flow, claimed)
}

/// Makes a record in the round that the notes say; also the index of the bucket.
#[inline(always)]
fn claim_record<A: IpVersion, T: Tables<A>>(
    tables: &T,
    notes: u32,
    record: &NewRecord<'_, A>,
    timeouts: &Timeouts,
    replaces: impl FnOnce(&Record<'_, A>) -> bool,
) -> (Claim, u32) {
    let place = tables.place(&record.key);
    let round = Round::of(notes >> new_flow_notes::ROUND_SHIFT);
    let indices = tables.indices(place, round);
    let claim = tables.claim(indices, (round, place.tag()), record, timeouts, replaces);
    (claim, indices[0])
}

/// What came of a claim, which the flow notes. Its next record begins with the first round.
#[inline(always)]
fn note_claim<A>(flow: &mut NewFlow<A>, (claim, bucket): (Claim, u32)) -> Claim {
    if matches!(claim, Claim::Made { .. }) {
        set_round(flow, Round::HOME);
    }
    flow.awaited = bucket;
    claim
}

/// Whether a record for which there was no room may have some in another round, which is noted.
#[inline(always)]
pub(crate) fn has_next_round<A>(flow: &mut NewFlow<A>) -> bool {
    let next = Round::of(flow.notes >> new_flow_notes::ROUND_SHIFT).next();
    if let Some(round) = next {
        set_round(flow, round);
    }
    next.is_some()
}

#[inline(always)]
fn set_round<A>(flow: &mut NewFlow<A>, round: Round) {
    const OTHERS: u32 = (1 << new_flow_notes::ROUND_SHIFT) - 1;
    flow.notes = flow.notes & OTHERS | round.bits() << new_flow_notes::ROUND_SHIFT;
}

/// Makes the record of the client's packets, and counts the flow.
#[inline(always)]
pub(crate) fn claim_client<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flow: &mut NewFlow<A>,
) -> Claim {
    let now = tables.now();
    let record = NewRecord {
        key: client_key(headers),
        tuple: KeyParts::of(&flow.tuple, 0, Edge::Ingress),
        backend: flow.backend,
        generation: flow.generation,
        service: flow.service,
        packets: 1,
        client_end: 0,
        flags: flow.flags,
        now,
    };
    let timeouts = tables.timeouts();
    let claimed = claim_record(tables, flow.notes, &record, timeouts, |old| {
        old.is_over(timeouts, now)
    });
    let claim = note_claim(flow, claimed);
    if matches!(claim, Claim::Made { .. }) {
        flow.notes |= new_flow_notes::CREATED;
        tables.count(Counter::FlowsCreated);
        count_connection(tables, flow);
    }
    claim
}

/// Whether a flow can lose its tuple where there is no other way: it is unestablished, was reset,
/// or both sides have closed it.
#[inline(always)]
pub(super) fn is_reclaimable(flags: u32) -> bool {
    flags & (flow_flags::EMBRYONIC | flow_flags::RESET | flow_flags::CLOSED) != 0
}
