//! The stages that note connections which nobody here translates.

use crate::flow_table::Claim;
use crate::layout::{Edge, FilterBits, NewFlow, Stage, flow_flags};
use crate::pipeline::context::Context;
use crate::pipeline::flow::plain::{answer_key, is_noted, note};
use crate::pipeline::flow::record::{NO_BACKEND, protocol_flag};
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
        match note(&headers, self.tables, key) {
            Claim::Made { .. } | Claim::Full => Verdict::Pass,
            Claim::Busy => Verdict::Continue(Stage::NotePlain),
            Claim::Taken if is_noted(self.tables, &key) || self.is_own_syn(&headers) => {
                Verdict::Pass
            }
            Claim::Taken => self.give_source_port(&headers),
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
        match note(&headers, self.tables, key) {
            Claim::Busy => Verdict::Continue(Stage::NoteOutgoing),
            Claim::Taken => {
                is_noted(self.tables, &key);
                Verdict::Pass
            }
            Claim::Made { .. } | Claim::Full => Verdict::Pass,
        }
    }

    /// The packet's headers.
    #[inline(always)]
    fn headers(&self) -> Option<Headers<A>> {
        let mut headers = parse::<A, P>(self.packet, self.network).ok()?;
        headers.hide_protocol();
        Some(headers)
    }

    /// Whether this may be the SYN of the flow that has the tuple, translated at a lower device,
    /// such as the one below a VLAN device: that flow's client has asked in this tick, or at the
    /// end of the one before.
    #[inline(always)]
    fn is_own_syn(&self, headers: &Headers<A>) -> bool {
        const STATE: u32 = flow_flags::EMBRYONIC | flow_flags::SEEN_REPLY | flow_flags::RESET;
        let now = self.tables.now();
        headers.is_syn()
            && self
                .tables
                .find(&answer_key(headers, Edge::Egress))
                .is_some_and(|reply| {
                    reply.flags() & STATE == flow_flags::EMBRYONIC && reply.idle(now) <= 1
                })
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
            generation: 0,
            service: NO_BACKEND,
            flags: flow_flags::EMBRYONIC | protocol_flag(headers.protocol),
            notes: 0,
            port_attempts: 0,
            reclaimable_port: 0,
        });
        Verdict::Continue(Stage::Claim)
    }
}
