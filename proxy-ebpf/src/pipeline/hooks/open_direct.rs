//! Direct server return, where a client's packet comes in.
//!
//! An endpoint of this node is served as ever. To one of another node the packet goes as it
//! is, in a tunnel, and the endpoint's node answers the client itself. So the flow has one
//! record only, and its tuple is that of the tunnel.

use super::open::{open_to, opened_or_refused};
use crate::layout::{
    Backend, Counter, Edge, FlowKey, Frontend, FrontendKey, Settings, Tuple, backend_flags,
    flow_flags, settings_flags,
};
use crate::pipeline::flow::capabilities::Sources;
use crate::pipeline::flow::record::{Translation, new_flow};
use crate::pipeline::flow::traffic::count_connection;
use crate::pipeline::packet::parse::parse_first;
use crate::pipeline::packet::{Headers, Packet, Version};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::{lot_of, pick};
use crate::pipeline::tables::{Make, Tables};
use crate::pipeline::verdict::{Client, Verdict};

/// Opens a flow for a packet from outside to a frontend with direct return, and has the
/// packet go on.
#[inline(always)]
pub fn open_direct<A, P, T, S>(
    packet: &mut P,
    network: usize,
    tables: &T,
    sources: &S,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
    S: Sources<A>,
{
    let Some((headers, is_whole)) = parse_first::<A, P>(packet, network) else {
        return Verdict::Pass;
    };
    // Fragments are mostly as long as the client's way takes, and too long for a tunnel.
    let may_tunnel = is_whole && A::may_tunnel(&headers);
    let address = &headers.tuple.destination;
    let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
    let Some(frontend) = find_frontend(&mut key, address, Client::Outside, tables) else {
        return Verdict::Pass;
    };
    let opened = open(&headers, tables, sources, (&key, &frontend), may_tunnel);
    opened_or_refused(packet, &headers, is_whole, tables, opened)
}

#[inline(always)]
fn open<A: Version, T: Tables<A>, S: Sources<A>>(
    headers: &Headers<A>,
    tables: &T,
    sources: &S,
    (key, frontend): (&FrontendKey<A>, &Frontend),
    may_tunnel: bool,
) -> Result<Translation<A>, Counter> {
    let client = Client::Outside;
    let lot = || lot_of(headers, frontend, tables);
    let (index, backend) = pick(headers.tuple.source, client, frontend, lot, tables)?;
    let settings = tables.settings().copied().unwrap_or_default();
    if may_tunnel && is_direct(headers, &backend, &settings) {
        // By its own address the endpoint's node knows a NodePort.
        let is_node_port = key.address == A::default();
        let source = if is_node_port {
            headers.tuple.destination
        } else {
            settings.node_address
        };
        open_tunnel(headers, tables, (index, &backend), source)
    } else {
        open_to(headers, tables, client, sources, (index, &backend))
    }
}

/// Whether the endpoint is to answer the client itself.
#[inline(always)]
fn is_direct<A: Version>(
    headers: &Headers<A>,
    backend: &Backend<A>,
    settings: &Settings<A>,
) -> bool {
    backend.flags & backend_flags::LOCAL == 0
        && settings.flags & settings_flags::MASQUERADE_ALL == 0
        && backend.address != headers.tuple.source
}

/// Makes the record of a flow to an endpoint of another node, in a tunnel from `source`.
#[inline(always)]
fn open_tunnel<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    (index, backend): (u32, &Backend<A>),
    source: A,
) -> Result<Translation<A>, Counter> {
    if source == A::default() {
        return Err(Counter::Unroutable);
    }
    let flags = flow_flags::REDIRECT | flow_flags::DSR;
    let mut flow = new_flow(headers, tables, index, backend, flags);
    flow.tuple = Tuple {
        source,
        ..flow.tuple
    };
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.make(&key, &flow, Make::Replace).is_err() {
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsMade);
    count_connection(tables, &flow);
    Ok(Translation {
        tuple: flow.tuple,
        flags,
        is_left: false,
    })
}
