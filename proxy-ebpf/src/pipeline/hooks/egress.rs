//! Egress of an edge device: reverse NAT of replies.

use super::decide::skipped;
use crate::layout::{Counter, FilterBits, Stage, Tuple};
use crate::pipeline::flow::lookup::find_reply;
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::rewrite::rewrite;
use crate::pipeline::packet::{IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

/// Translates a reply of IP version `A` that goes out to its client, with its IP
/// header at `network`.
#[inline(always)]
pub fn egress<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: IpVersion,
    P: Packet,
    T: Tables<A>,
{
    let headers = match parse::<A, P>(packet, network) {
        Ok(headers) => headers,
        Err(skip) => return skipped(tables, skip, Stage::EgressFragment),
    };
    if headers.protocol == A::ICMP {
        return Verdict::Continue(Stage::EgressError);
    }
    let Tuple {
        source,
        source_port,
        ..
    } = &headers.tuple;
    if !tables.filter_matches(FilterBits::of_source(source, *source_port)) {
        return Verdict::Pass;
    }
    let Some(tuple) = find_reply(&headers, tables) else {
        return Verdict::Pass;
    };
    if rewrite(packet, &headers, &tuple).is_none() {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    }
    Verdict::PassTranslated
}
