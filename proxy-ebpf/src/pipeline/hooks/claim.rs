//! The stages that make the records of a flow whose endpoint is selected. Each leaves the flow to
//! the next one; where another CPU is in the way, they begin again.

use crate::flow_table::{Claim, Record};
use crate::layout::{Bucket, Counter, NewFlow, Stage, flow_flags, new_flow_notes, protocol};
use crate::pipeline::context::Context;
use crate::pipeline::flow::claim::{
    TupleOwner, adopt_state, claim_client, claim_replies, has_next_round, is_stray, select_port,
    tuple_owner,
};
use crate::pipeline::flow::lookup::usable_flow;
use crate::pipeline::flow::record::{NO_BACKEND, Translation, become_existing, client_key};
use crate::pipeline::flow::source_port::Selection;
use crate::pipeline::packet::parse::parse_or_first_fragment;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::source::is_own_address;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

/// How often a flow's records are tried to be made. With three stages each, and what comes before
/// and after them, that is within the kernel's limit of 33 tail calls for a packet.
const CLAIM_ATTEMPTS: u32 = 7;
/// Pauses of one wait for another CPU.
const PAUSES: u32 = 1024;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Looks who has the flow's tuples. Where another CPU has made the flow meanwhile, or only
    /// the record of its replies is not there, that flow goes on.
    #[inline(always)]
    pub fn claim(&mut self) -> Verdict<A> {
        self.with_new_flow(|context, headers, is_whole, flow| {
            if let Some(existing) = usable_flow(headers, flow.notes, context.tables) {
                become_existing(flow, &existing);
                return context.resume(headers, flow, &existing);
            }
            if !headers.begins_flow() && context.is_written(headers, flow) {
                return context.on_conflict(headers, flow, Stage::AwaitClaim);
            }
            if flow.notes & new_flow_notes::UNPICKED != 0 {
                return Verdict::Continue(if flow.notes & new_flow_notes::RETRIED == 0 {
                    Stage::Open
                } else {
                    Stage::Reopen
                });
            }
            if flow.flags & flow_flags::DSR != 0 {
                return Verdict::Continue(Stage::ClaimClient);
            }
            let has_port = flow.notes & new_flow_notes::HAS_PORT != 0;
            if flow.flags & flow_flags::REDIRECT != 0 && !has_port {
                return Verdict::Continue(Stage::SelectPort);
            }
            context.claim_from(headers, is_whole, flow)
        })
    }

    /// Selects another source port than the client's.
    #[inline(always)]
    pub fn select_port(&mut self) -> Verdict<A> {
        self.with_new_flow(|context, headers, is_whole, flow| {
            match select_port(headers, context.tables, flow) {
                Some(Selection::Done) => Verdict::Continue(Stage::Claim),
                Some(Selection::Unfinished) => Verdict::Continue(Stage::SelectPort),
                None if is_stray(headers, flow) => context.on_stray(headers, is_whole),
                None => context.refuse_or_drop(headers, is_whole, Counter::PortsExhausted),
            }
        })
    }

    /// Makes the record of the replies.
    #[inline(always)]
    pub fn claim_reply(&mut self) -> Verdict<A> {
        self.with_new_flow(|context, headers, is_whole, flow| {
            match claim_replies(headers, context.tables, flow) {
                Claim::Made { .. } => Verdict::Continue(after_replies(flow)),
                Claim::Full if has_next_round(flow) => Verdict::Continue(Stage::ClaimReply),
                Claim::Full => context.refuse_or_drop(headers, is_whole, Counter::FlowTableFull),
                Claim::Taken => context.on_conflict(headers, flow, Stage::Claim),
                Claim::Busy => context.on_conflict(headers, flow, Stage::AwaitClaim),
            }
        })
    }

    /// Makes the record of the client's packets.
    #[inline(always)]
    pub fn claim_client(&mut self) -> Verdict<A> {
        self.with_new_flow(|context, headers, is_whole, flow| {
            match claim_client(headers, context.tables, flow) {
                Claim::Made { .. } => Verdict::Continue(Stage::Translate),
                Claim::Taken => context.on_conflict(headers, flow, Stage::Claim),
                Claim::Busy => context.on_conflict(headers, flow, Stage::AwaitClaim),
                Claim::Full if has_next_round(flow) => Verdict::Continue(Stage::ClaimClient),
                Claim::Full => context.refuse_or_drop(headers, is_whole, Counter::FlowTableFull),
            }
        })
    }

    /// Translates the first packet of a flow that is made.
    #[inline(always)]
    pub fn translate_first(&mut self) -> Verdict<A> {
        self.with_new_flow(|context, headers, is_whole, flow| {
            let translation = Translation {
                tuple: flow.tuple,
                flags: flow.flags,
                is_deferred: false,
            };
            if flow.notes & new_flow_notes::CREATED != 0 {
                context.trace_flow(headers, flow);
            }
            if is_whole {
                context.translate(headers, &translation)
            } else {
                context.translate_first_fragment(&translation)
            }
        })
    }

    /// Goes on with the flow that the stage before has left, the packet's headers, and whether it
    /// is whole.
    #[inline(always)]
    fn with_new_flow(
        &mut self,
        work: impl FnOnce(&mut Self, &Headers<A>, bool, &mut NewFlow<A>) -> Verdict<A>,
    ) -> Verdict<A> {
        let Some((headers, is_whole)) = parse_or_first_fragment::<A, P>(self.packet, self.network)
        else {
            return Verdict::Discard;
        };
        let tables = self.tables;
        tables
            .with_new_flow(|flow| work(self, &headers, is_whole, flow))
            .unwrap_or(Verdict::Discard)
    }

    /// Whether the record of a connection that goes on may be there in a moment: somebody writes in
    /// its bucket, as the agent does while netfilter forgets a connection that is taken over.
    #[inline(always)]
    fn is_written(&self, headers: &Headers<A>, flow: &mut NewFlow<A>) -> bool {
        let place = self.tables.place(&client_key(headers));
        flow.awaited = place.bucket(Tables::<A>::buckets(self.tables));
        let bucket = Tables::<A>::bucket(self.tables, flow.awaited);
        bucket.is_some_and(Bucket::is_busy)
    }

    /// Goes on with a flow that has its client's record.
    #[inline(always)]
    fn resume(
        &mut self,
        headers: &Headers<A>,
        flow: &mut NewFlow<A>,
        client: &Record<'_, A>,
    ) -> Verdict<A> {
        if flow.flags & flow_flags::DSR != 0 {
            return Verdict::Continue(Stage::Translate);
        }
        Verdict::Continue(match tuple_owner(headers, self.tables, flow) {
            TupleOwner::Itself(reply) => {
                adopt_state(headers, flow, &reply);
                Stage::Translate
            }
            TupleOwner::Nobody | TupleOwner::Former => Stage::ClaimReply,
            // It is over, and a new one begins.
            TupleOwner::Other => {
                client.mark(flow_flags::CLOSED);
                if flow.backend == NO_BACKEND {
                    Stage::NotePlain
                } else {
                    Stage::Open
                }
            }
        })
    }

    /// Goes on with a new flow whose tuple is known.
    #[inline(always)]
    fn claim_from(
        &mut self,
        headers: &Headers<A>,
        is_whole: bool,
        flow: &mut NewFlow<A>,
    ) -> Verdict<A> {
        Verdict::Continue(match tuple_owner(headers, self.tables, flow) {
            TupleOwner::Itself(reply) => {
                adopt_state(headers, flow, &reply);
                Stage::ClaimClient
            }
            _ if is_stray(headers, flow) => return self.on_stray(headers, is_whole),
            TupleOwner::Other | TupleOwner::Former
                if flow.notes & new_flow_notes::RECLAIMS == 0 =>
            {
                Stage::SelectPort
            }
            TupleOwner::Other | TupleOwner::Former | TupleOwner::Nobody => Stage::ClaimReply,
        })
    }

    /// Waits until no other CPU writes to the bucket in which the flow's record is to be, for some
    /// hundred microseconds at most.
    #[inline(always)]
    pub fn await_claim(&mut self) -> Verdict<A> {
        let awaited = self.tables.with_new_flow(|flow| flow.awaited);
        if let Some(bucket) = awaited.and_then(|index| Tables::<A>::bucket(self.tables, index)) {
            let mut left = PAUSES;
            while left > 0 && bucket.is_busy() {
                self.tables.pause();
                left -= 1;
            }
        }
        Verdict::Continue(Stage::Claim)
    }

    /// Goes on where another CPU was in the way. If an interrupt keeps that from finishing its
    /// record, it is mostly the one of this very flow, made of the datagram that the client has sent
    /// beside this one: the other one's endpoint and source port are the same.
    #[inline(always)]
    fn on_conflict(&self, headers: &Headers<A>, flow: &mut NewFlow<A>, next: Stage) -> Verdict<A> {
        flow.claim_conflicts = flow.claim_conflicts.wrapping_add(1);
        if flow.claim_conflicts < CLAIM_ATTEMPTS {
            return Verdict::Continue(next);
        }
        self.tables.count(Counter::ClaimConflict);
        if headers.protocol == protocol::UDP {
            Verdict::Continue(Stage::Translate)
        } else {
            Verdict::Drop(Counter::ClaimConflict)
        }
    }

    /// What becomes of a segment of no connection. To the node itself it may be one of a
    /// connection of the node's own.
    #[inline(always)]
    fn on_stray(&mut self, headers: &Headers<A>, is_whole: bool) -> Verdict<A> {
        if is_own_address(&headers.tuple.destination, self.tables) {
            return Verdict::Pass;
        }
        self.refuse_or_drop(headers, is_whole, Counter::NoConnection)
    }
}

/// The stage that follows when the record of the replies is there.
#[inline(always)]
fn after_replies<A>(flow: &NewFlow<A>) -> Stage {
    if flow.notes & new_flow_notes::EXISTING == 0 {
        Stage::ClaimClient
    } else {
        Stage::Translate
    }
}
