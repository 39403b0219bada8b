//! A packet goes out.

use super::flow::{is_fresh, touch};
use super::headers::{Headers, Version, parse};
use super::ingress::count_skip;
use super::rewrite::rewrite;
use super::traffic::count_packet;
use super::{Packet, Tables, Verdict};
use crate::layout::{Bytes, Counter, Edge, FlowKey, Stage};

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
    if headers.protocol == A::ICMP {
        return Verdict::Continue(Stage::EgressError);
    }
    let done = pass_reply(packet, &headers, tables);
    if done.is_none() {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    }
    Verdict::Pass
}

/// Gives a reply of a translated flow the frontend's address; others pass.
#[inline(always)]
fn pass_reply<A, P, T>(packet: &mut P, headers: &Headers<A>, tables: &T) -> Option<()>
where
    A: Version,
    [A; 2]: Bytes,
    P: Packet,
    T: Tables<A>,
{
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Egress);
    let Some(flow) = tables.find(&key) else {
        return Some(());
    };
    let now = tables.now();
    if !is_fresh(&flow, headers.protocol, now) {
        return Some(());
    }
    touch(&flow, headers, now);
    count_packet(tables, &flow);
    rewrite(packet, headers, &flow.tuple)
}
