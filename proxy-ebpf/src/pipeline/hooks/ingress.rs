//! A packet comes in.

use super::decide::{pass, refused, skipped, without_flow};
use crate::layout::{Counter, FilterBits, Stage, Tuple};
use crate::pipeline::flow::apply::translate;
use crate::pipeline::flow::capabilities::Onward;
use crate::pipeline::flow::lookup::find_flow;
use crate::pipeline::flow::owner::release_tuple;
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::{Headers, Packet, Skip, Version};
use crate::pipeline::service::frontend::is_in_service_range;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

/// Translates a packet of IP version `A` that came in, with its IP header at
/// `network`, where `onward` has a way for it then. What opens a flow, and whatever else is
/// seldom, is the business of a stage.
#[inline(always)]
pub fn ingress<A, P, T, O>(
    packet: &mut P,
    network: usize,
    tables: &T,
    client: Client,
    onward: &mut O,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
    O: Onward<A>,
{
    let headers = match parse::<A, P>(packet, network) {
        Ok(headers) => headers,
        // The hook behind this one comes to the same, and has the stages.
        Err(_) if O::HAS_NEXT => return Verdict::Pass,
        Err(Skip::Encapsulated) if client == Client::Outside => {
            return Verdict::Continue(Stage::Decapsulate);
        }
        Err(skip) => {
            return match skipped(tables, skip, Stage::Fragment) {
                Verdict::Pass => pass(packet, network, tables),
                verdict => verdict,
            };
        }
    };
    if headers.protocol == A::ICMP {
        return Verdict::Continue(Stage::IngressError);
    }
    if !tables.are_set(FilterBits::of_destination(&headers.tuple.destination)) {
        return if O::HAS_NEXT {
            Verdict::Pass
        } else {
            plain(&headers, tables)
        };
    }
    match find_flow(&headers, tables, onward) {
        Ok(Some(translation)) if translation.is_left => Verdict::Pass,
        Ok(Some(translation)) => translate(packet, &headers, tables, &translation),
        Ok(None) | Err(_) if O::HAS_NEXT => Verdict::Pass,
        Ok(None) => without_flow(&headers, tables, client),
        Err(reason) => {
            tables.count(reason);
            refused(reason)
        }
    }
}

/// What becomes of a packet to an address that no Service has, nor this node.
#[inline(always)]
fn plain<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Verdict<A> {
    let Tuple {
        destination,
        destination_port,
        ..
    } = &headers.tuple;
    if is_in_service_range(destination, tables) {
        tables.count(Counter::NoSuchService);
        return Verdict::Drop;
    }
    if headers.is_syn() && tables.are_set(FilterBits::of_source(destination, *destination_port)) {
        release_tuple(tables, headers);
    }
    Verdict::Pass
}
