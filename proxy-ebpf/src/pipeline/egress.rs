//! A packet goes out.

use super::flow::{is_fresh, touch};
use super::headers::{Version, parse};
use super::ingress::count_skip;
use super::rewrite::rewrite;
use super::traffic::count_packet;
use super::{Packet, Tables, Verdict};
use crate::layout::{Bytes, Counter, Edge, FlowKey};

/// Translates a reply of IP version `A` that goes out to its client, with its IP
/// header at `network`.
#[inline(always)]
pub fn egress<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    [A; 2]: Bytes,
    P: Packet,
    T: Tables<A>,
{
    let headers = match parse::<A, P>(packet, network) {
        Ok(headers) => headers,
        Err(skip) => {
            count_skip(tables, skip);
            return Verdict::Pass;
        }
    };
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Egress);
    let Some(flow) = tables.find(&key) else {
        return Verdict::Pass;
    };
    let now = tables.now();
    if !is_fresh(&flow, headers.protocol, now) {
        return Verdict::Pass;
    }
    touch(&flow, &headers, now);
    count_packet(tables, &flow);
    if rewrite(packet, &headers, &flow.tuple).is_none() {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    }
    Verdict::Pass
}
