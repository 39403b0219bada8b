//! Direct server return (DSR), at the node that receives the client's packet.
//!
//! A local endpoint is served as usual. For a remote one the packet is encapsulated unmodified,
//! and the endpoint's node answers the client directly. Such a flow has one record, whose
//! tuple is that of the tunnel.

use super::open::create_flow_to;
use crate::layout::{
    Backend, Counter, Edge, FlowKey, Frontend, FrontendKey, Settings, Tuple, backend_flags,
    flow_flags, settings_flags,
};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::MasqueradeSource;
use crate::pipeline::flow::record::{Translation, flow_record};
use crate::pipeline::flow::traffic::count_connection;
use crate::pipeline::packet::parse::parse_or_first_fragment;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::{endpoint_selector, pick};
use crate::pipeline::tables::{InsertMode, Tables};
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Opens a flow for a packet from outside to a frontend with direct return, and has the
    /// packet go on.
    #[inline(always)]
    pub fn open_direct<S: MasqueradeSource<A>>(&mut self, sources: &S) -> Verdict<A> {
        let Some((headers, is_whole)) = parse_or_first_fragment::<A, P>(self.packet, self.network)
        else {
            return Verdict::Pass;
        };
        // Fragments are mostly as long as the client's way takes, and too long for a tunnel.
        let can_encapsulate = is_whole && A::can_encapsulate(&headers);
        let address = &headers.tuple.destination;
        let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
        let Some(frontend) = find_frontend(&mut key, address, Client::Outside, self.tables) else {
            return Verdict::Pass;
        };
        let opened = create_flow(
            &headers,
            self.tables,
            sources,
            (&key, &frontend),
            can_encapsulate,
        );
        self.finish_create(&headers, is_whole, opened)
    }
}

#[inline(always)]
fn create_flow<A: IpVersion, T: Tables<A>, S: MasqueradeSource<A>>(
    headers: &Headers<A>,
    tables: &T,
    sources: &S,
    (key, frontend): (&FrontendKey<A>, &Frontend),
    can_encapsulate: bool,
) -> Result<Translation<A>, Counter> {
    let client = Client::Outside;
    let selector = || endpoint_selector(headers, frontend, tables);
    let (index, backend) = pick(headers.tuple.source, client, frontend, selector, tables)?;
    let settings = tables.settings().copied().unwrap_or_default();
    if can_encapsulate && is_direct(headers, &backend, &settings) {
        // By its own address the endpoint's node knows a NodePort.
        let is_node_port = key.address == A::default();
        let source = if is_node_port {
            headers.tuple.destination
        } else {
            settings.node_address
        };
        open_tunnel(headers, tables, (index, &backend), source)
    } else {
        create_flow_to(headers, tables, client, sources, (index, &backend))
    }
}

/// Whether the endpoint is to answer the client itself.
#[inline(always)]
fn is_direct<A: IpVersion>(
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
fn open_tunnel<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    (index, backend): (u32, &Backend<A>),
    source: A,
) -> Result<Translation<A>, Counter> {
    if source == A::default() {
        return Err(Counter::Unroutable);
    }
    let flags = flow_flags::REDIRECT | flow_flags::DSR;
    let mut flow = flow_record(headers, tables, index, backend, flags);
    flow.tuple = Tuple {
        source,
        ..flow.tuple
    };
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.insert_flow(&key, &flow, InsertMode::Any).is_err() {
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsCreated);
    count_connection(tables, &flow);
    Ok(Translation {
        tuple: flow.tuple,
        flags,
        is_deferred: false,
    })
}
