//! The stages that note connections which nobody here translates.

use crate::flow_table::Claim;
use crate::layout::{Edge, FilterBits, KeyParts, NewFlow, Stage, flow_flags};
use crate::pipeline::context::Context;
use crate::pipeline::flow::plain::{answer_key, is_noted, note, use_note};
use crate::pipeline::flow::record::NO_BACKEND;
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
            Claim::Taken if self.has_tuple(&headers, &key) => Verdict::Pass,
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

    /// Whether the packet's own connection has the tuple under `key`: one that nobody translates,
    /// or the flow whose SYN this may be, translated at a lower device, such as the one below a
    /// VLAN device: that flow's client has asked in this tick, or at the end of the one before.
    #[inline(always)]
    fn has_tuple(&self, headers: &Headers<A>, key: &KeyParts<'_, A>) -> bool {
        const STATE: u32 = flow_flags::EMBRYONIC | flow_flags::SEEN_REPLY | flow_flags::RESET;
        let Some(record) = self.tables.find(key) else {
            return false;
        };
        let now = self.tables.now();
        use_note(&record, now)
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
