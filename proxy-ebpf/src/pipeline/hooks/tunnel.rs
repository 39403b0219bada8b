//! A packet comes in by a tunnel from another node, which has chosen its endpoint.
//!
//! It is taken out where its frontend is one of those with direct return and the endpoint
//! is one of this node's, and opens a flow like a packet of a client that came here: the
//! replies get the frontend's address at this node's edge. Every other tunnel is somebody
//! else's and passes untouched.

use super::fragment::{Known, known_part};
use super::icmp_error::is_about_flow_to;
use crate::layout::{
    Counter, Edge, Flow, FlowKey, Frontend, FrontendKey, Span, Stage, Tuple, flow_flags,
    frontend_flags,
};
use crate::pipeline::flow::apply::translate;
use crate::pipeline::flow::capabilities::EveryWay;
use crate::pipeline::flow::claim::begin;
use crate::pipeline::flow::lookup::find_flow;
use crate::pipeline::flow::record::{Translation, new_flow};
use crate::pipeline::packet::headers::is_same;
use crate::pipeline::packet::parse::{parse, parse_first};
use crate::pipeline::packet::{Headers, Packet, Skip, Version};
use crate::pipeline::service::pick::{find_in, is_let_in, others};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

/// Takes a packet of a flow that is known, or an ICMP error about one, out of the tunnel
/// whose outer header is at `network`, and translates it.
#[inline(always)]
pub fn decapsulate<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(ends) = A::ends(packet, network) else {
        return Verdict::Pass;
    };
    let inner = network + A::OUTER;
    let (is_ours, next) = match parse::<A, P>(packet, inner) {
        Ok(headers) if headers.protocol == A::ICMP => {
            let is_ours = A::message(packet, inner)
                .is_some_and(|it| is_about_flow_to(packet, &it, tables, &ends.destination));
            (is_ours, Stage::IngressError)
        }
        Ok(headers) => {
            let is_known = leads_there(&headers, tables, &ends)
                || is_served_here(&headers, tables)
                    && find_frontend(&headers, tables, &ends).is_some();
            let flow = if is_known {
                find_flow(&headers, tables, &mut EveryWay)
            } else {
                Ok(None)
            };
            return match flow {
                Ok(Some(flow)) => take_out_and_translate(packet, &headers, tables, &flow),
                Ok(None) => find_endpoints(&headers, tables, &ends),
                // The node that sent the packet tells the client.
                Err(reason) => {
                    tables.count(reason);
                    Verdict::Drop
                }
            };
        }
        Err(Skip::Fragment(at)) => match known_part(packet, inner, at, tables, &ends.destination) {
            Known::First(headers) if leads_there(&headers, tables, &ends) => {
                (true, Stage::Fragment)
            }
            Known::First(headers) if is_served_here(&headers, tables) => (false, Stage::Fragment),
            Known::First(headers) => return find_endpoints(&headers, tables, &ends),
            Known::Follows(is_ours) => (is_ours, Stage::Fragment),
        },
        Err(Skip::Malformed) => {
            tables.count(Counter::Malformed);
            (false, Stage::Fragment)
        }
        Err(Skip::Other | Skip::Encapsulated) => (false, Stage::Fragment),
    };
    if !is_ours {
        return Verdict::Pass;
    }
    match take_out(packet, network, tables) {
        Some(()) => Verdict::Continue(next),
        None => Verdict::Drop,
    }
}

/// Opens a flow for a packet in a tunnel, whose outer header is at `network`, to the one of
/// these endpoints that the tunnel names; takes it out and translates it. Where there are
/// many, it says which are yet to be looked at.
#[inline(always)]
pub fn open_tunnelled<A, P, T>(
    packet: &mut P,
    network: usize,
    tables: &T,
    endpoints: Span,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(ends) = A::ends(packet, network) else {
        return Verdict::Pass;
    };
    let Some((index, backend)) = find_in(endpoints, &ends, tables) else {
        return match others(endpoints) {
            Some(others) => Verdict::OpenTunnelled(others),
            None => Verdict::Pass,
        };
    };
    let inner = network + A::OUTER;
    let Some((headers, is_whole)) = parse_first::<A, P>(packet, inner) else {
        return Verdict::Pass;
    };
    let nat_ports = tables.settings().map_or(0, |settings| settings.nat_ports);
    let mut flow = new_flow(&headers, tables, index, &backend, 0);
    let translation = match begin(&headers, tables, nat_ports, &mut flow) {
        Ok(translation) => translation,
        Err(reason) => {
            tables.count(reason);
            return Verdict::Drop;
        }
    };
    if is_whole {
        return take_out_and_translate(packet, &headers, tables, &translation);
    }
    // Now that its flow is there, it is a fragment like any other.
    match take_out(packet, network, tables) {
        Some(()) => Verdict::Continue(Stage::Fragment),
        None => Verdict::Drop,
    }
}

/// Takes away the outer header of a packet with these inner ones, and translates it.
#[inline(always)]
fn take_out_and_translate<A, P, T>(
    packet: &mut P,
    headers: &Headers<A>,
    tables: &T,
    translation: &Translation<A>,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let network = headers.network - A::OUTER;
    if take_out(packet, network, tables).is_none() {
        return Verdict::Drop;
    }
    let headers = Headers {
        network,
        transport: headers.transport - A::OUTER,
        end: headers.end - A::OUTER,
        ..*headers
    };
    translate(packet, &headers, tables, translation)
}

/// Takes away the outer header, or counts that this failed.
#[inline(always)]
fn take_out<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Option<()>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let done = packet.decapsulate(network, A::OUTER);
    tables.count(match done {
        Some(()) => Counter::Decapsulated,
        None => Counter::RewriteFailed,
    });
    done
}

/// Whether the packet's flow leads to where its tunnel does. One that goes on from here,
/// for which the client has come by this node, could lead back to where the packet is from.
#[inline(always)]
fn leads_there<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> bool {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    tables.find(&key).is_some_and(|flow| {
        is_local(&flow)
            && flow.tuple.destination_port == ends.destination_port
            && is_same(&flow.tuple.destination, &ends.destination)
    })
}

/// Whether the packet has a flow to an endpoint of this node. It stays there, whatever a
/// tunnel says: anybody can write one with a client's tuple in it.
#[inline(always)]
fn is_served_here<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> bool {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    tables.find(&key).is_some_and(|flow| is_local(&flow))
}

/// Whether the flow is of this data path, and its packets do not go on from this node.
#[inline(always)]
fn is_local<A>(flow: &Flow<A>) -> bool {
    flow.flags() & (flow_flags::REDIRECT | flow_flags::FOREIGN) == 0
}

/// What becomes of a packet in a tunnel that belongs to no flow: its frontend says which
/// endpoints it may open one to.
#[inline(always)]
fn find_endpoints<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> Verdict<A> {
    let Some(frontend) = find_frontend(headers, tables, ends) else {
        return Verdict::Pass;
    };
    // The node that sent the packet has asked the same; but anybody can write such packets.
    if !is_let_in(headers.tuple.source, &frontend, tables) {
        tables.count(Counter::SourceNotAllowed);
        return Verdict::Drop;
    }
    Verdict::OpenTunnelled(frontend.local)
}

/// The frontend that a packet in a tunnel with these ends is for, if it has direct return.
/// A NodePort is one at the address of the node that has sent the packet.
#[inline(always)]
fn find_frontend<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> Option<Frontend> {
    const WANTED: u32 = frontend_flags::EXTERNAL | frontend_flags::DSR;
    let address = headers.tuple.destination;
    let mut key = FrontendKey::new(address, headers.tuple.destination_port, headers.protocol);
    let frontend = match tables.frontend(&key) {
        Some(frontend) => frontend,
        None if is_same(&address, &ends.source) => {
            key.address = A::default();
            tables.frontend(&key)?
        }
        None => return None,
    };
    (frontend.flags & WANTED == WANTED).then_some(frontend)
}

/// Puts a packet, whose IP header is at `network`, into a tunnel with these ends. `None`
/// if that failed, which is counted.
#[inline(always)]
pub fn encapsulate<A, P, T>(
    packet: &mut P,
    network: usize,
    tables: &T,
    ends: &Tuple<A>,
) -> Option<()>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let outer = A::outer(packet, network, ends);
    let done = outer.and_then(|outer| packet.encapsulate(network, &outer));
    tables.count(match done {
        Some(()) => Counter::Encapsulated,
        None => Counter::RewriteFailed,
    });
    done
}
