//! A packet goes out.

use super::flow::{is_fresh, touch};
use super::headers::{Headers, Version, parse};
use super::ingress::skipped;
use super::rewrite::rewrite;
use super::traffic::count_packet;
use super::{Packet, Tables, Verdict};
use crate::layout::{Counter, Edge, FilterBits, FlowKey, Stage, Tuple};

/// Translates a reply of IP version `A` that goes out to its client, with its IP
/// header at `network`.
#[inline(always)]
pub fn egress<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
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
    if !tables.are_set(FilterBits::of_source(source, *source_port)) {
        return Verdict::Pass;
    }
    let Some(tuple) = find_reply(&headers, tables) else {
        return Verdict::Pass;
    };
    if rewrite(packet, &headers, &tuple).is_none() {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    }
    Verdict::Deliver
}

/// What a reply of a translated flow becomes; the flow is kept alive.
#[inline(always)]
pub(super) fn find_reply<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Option<Tuple<A>> {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Egress);
    let flow = tables.find(&key)?;
    let now = tables.now();
    if !is_fresh(&flow, headers.protocol, now) {
        return None;
    }
    touch(&flow, headers, now);
    count_packet(tables, &flow);
    Some(flow.tuple)
}
