//! Egress of an edge device: reverse NAT of replies.

use super::decide::skipped;
use crate::layout::{Counter, FilterBits, Stage, Tuple};
use crate::pipeline::context::Context;
use crate::pipeline::flow::lookup::find_reply;
use crate::pipeline::flow::plain::may_begin;
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::rewrite::rewrite;
use crate::pipeline::packet::{IpVersion, Packet};
use crate::pipeline::service::frontend::is_from_frontend;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Translates a reply of IP version `A` that goes out to its client, with its IP
    /// header at `network`.
    #[inline(always)]
    pub fn egress(&mut self) -> Verdict<A> {
        let headers = match parse::<A, P>(self.packet, self.network) {
            Ok(headers) => headers,
            Err(skip) => return skipped(self.tables, skip, Stage::EgressFragment),
        };
        if headers.protocol == A::ICMP {
            return Verdict::Continue(Stage::EgressError);
        }
        let Tuple {
            source,
            source_port,
            ..
        } = &headers.tuple;
        if !self
            .tables
            .filter_matches(FilterBits::of_source(source, *source_port))
        {
            return Verdict::Pass;
        }
        let Some(tuple) = find_reply(&headers, self.tables) else {
            return if may_begin(&headers) && is_from_frontend(&headers, self.tables) {
                Verdict::Continue(Stage::NoteOutgoing)
            } else {
                Verdict::Pass
            };
        };
        if rewrite(self.packet, &headers, &tuple).is_none() {
            self.tables.count(Counter::RewriteFailed);
            return Verdict::Drop;
        }
        Verdict::PassTranslated
    }
}
