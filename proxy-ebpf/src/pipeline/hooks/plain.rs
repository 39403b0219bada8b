//! The stages that note connections which nobody here translates.

use crate::flow_table::{Claim, Record};
use crate::layout::{Edge, FilterBits, NewFlow, Stage, flow_flags};
use crate::pipeline::context::Context;
use crate::pipeline::flow::plain::{Note, answer_key, is_noted, take_note, use_note};
use crate::pipeline::flow::record::NO_BACKEND;
use crate::pipeline::flow::retry::{late_answer_key, late_answers, may_be_retried, retry_of};
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Notes the tuple of a client's connection to an endpoint, so that no translated flow
    /// takes it. Where one has it already, the connection gets another source port, as
    /// netfilter would give it.
    #[inline(always)]
    pub fn note_plain(&mut self) -> Verdict<A> {
        let Some(headers) = self.headers() else {
            return Verdict::Pass;
        };
        let key = answer_key(&headers, Edge::Egress);
        match take_note(&headers, self.tables, key, &Note::plain(&headers)) {
            Claim::Busy => Verdict::Continue(Stage::NotePlain),
            _ if may_be_retried(&headers, self.tables) => Verdict::Continue(Stage::Reopen),
            Claim::Made { .. } | Claim::Full => Verdict::Pass,
            Claim::Taken => self.keep_tuple(&headers),
        }
    }

    /// Notes the tuple of late answers of an endpoint in whose place another one is selected, and
    /// goes on with the flow to that.
    #[inline(always)]
    pub fn note_retried(&mut self) -> Verdict<A> {
        let Some(headers) = self.headers() else {
            return Verdict::Pass;
        };
        let Some(retry) = retry_of(&headers, self.tables) else {
            return Verdict::Pass;
        };
        let note = late_answers(&headers, &retry, self.client);
        let key = late_answer_key(&headers, &note);
        match take_note(&headers, self.tables, key, &note) {
            Claim::Busy => Verdict::Continue(Stage::NoteRetried),
            Claim::Made { .. } | Claim::Full | Claim::Taken => Verdict::Continue(Stage::Claim),
        }
    }

    /// Lets a packet pass that nobody translates, unless a flow has the tuple of its answers.
    #[inline(always)]
    pub(super) fn keep_tuple(&mut self, headers: &Headers<A>) -> Verdict<A> {
        let key = answer_key(headers, Edge::Egress);
        match self.tables.find(&key) {
            Some(record) if !self.is_own(headers, &record) => self.give_source_port(headers),
            _ => Verdict::Pass,
        }
    }

    /// Notes the tuple of a connection of this node from a port at which Services are reached,
    /// so that its answers pass.
    #[inline(always)]
    pub fn note_outgoing(&mut self) -> Verdict<A> {
        let Some(headers) = self.headers() else {
            return Verdict::Pass;
        };
        // Where a flow has the tuple, it is its reply, which was translated where it came in.
        let key = answer_key(&headers, Edge::Ingress);
        match take_note(&headers, self.tables, key, &Note::plain(&headers)) {
            Claim::Busy => Verdict::Continue(Stage::NoteOutgoing),
            Claim::Taken => {
                is_noted(self.tables, &key);
                self.leave(&headers.tuple.destination)
            }
            Claim::Made { .. } | Claim::Full => self.leave(&headers.tuple.destination),
        }
    }

    /// The packet's headers.
    #[inline(always)]
    fn headers(&self) -> Option<Headers<A>> {
        let mut headers = parse::<A, P>(self.packet, self.network).ok()?;
        headers.hide_protocol();
        Some(headers)
    }

    /// Whether a record is of the packet's own connection: one that nobody translates, or the flow
    /// whose SYN this may be, translated at a lower device, such as the one below a VLAN device: that
    /// flow's client has asked in this tick, or at the end of the one before.
    #[inline(always)]
    fn is_own(&self, headers: &Headers<A>, record: &Record<'_, A>) -> bool {
        const STATE: u32 = flow_flags::EMBRYONIC | flow_flags::SEEN_REPLY | flow_flags::RESET;
        let now = self.tables.now();
        use_note(record, now)
            || (headers.is_syn()
                && record.flags() & STATE == flow_flags::EMBRYONIC
                && record.idle(now) <= 1)
    }

    /// Goes on with the stage that makes a flow which changes nothing but the source port.
    #[inline(always)]
    fn give_source_port(&mut self, headers: &Headers<A>) -> Verdict<A> {
        // Before the flow: its packets are to find it.
        let bits = FilterBits::of_destination(&headers.tuple.destination);
        self.tables.set_filter(bits);
        self.tables.store_new_flow(&NewFlow {
            tuple: headers.tuple,
            backend: NO_BACKEND,
            service: NO_BACKEND,
            flags: flow_flags::EMBRYONIC | flow_flags::of_protocol(headers.protocol),
            ..NewFlow::default()
        });
        Verdict::Continue(Stage::Claim)
    }
}
