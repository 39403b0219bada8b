//! A new flow: frontend, endpoint set, pick, and a translated tuple that no
//! other flow has.

use super::flow::{Holder, Translation, holder, release_tuple, reply_key, reply_of};
use super::headers::{Headers, Version};
use super::onward::can_finish;
use super::pick::{choose, endpoint_set};
use super::source_port::NatPorts;
use super::tables::{Make, MakeError, Tables};
use super::traffic::count_connection;
use super::{Client, Onward};
use crate::layout::{
    Backend, Counter, Edge, Flow, FlowKey, Frontend, FrontendKey, Racy, Settings, SourceRange,
    Tuple, backend_flags, flow_flags, frontend_flags, settings_flags,
};

/// Opens a flow for a packet that belongs to none. `None` if its destination is
/// no frontend; an error is the reason to drop the packet.
#[inline(always)]
pub(super) fn open<A: Version, T: Tables<A>, O: Onward<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
    onward: &mut O,
) -> Result<Option<Translation<A>>, Counter> {
    let Some(frontend) = find_frontend(headers, tables) else {
        if let Some(reason) = leads_nowhere(headers, tables) {
            return Err(reason);
        }
        if headers.is_syn() {
            release_tuple(tables, headers);
        }
        return Ok(None);
    };
    let is_restricted = frontend.flags & frontend_flags::SOURCE_RANGES != 0;
    let source = SourceRange {
        service: frontend.service,
        source: headers.tuple.source,
    };
    if is_restricted && !tables.is_allowed(&source) {
        return Err(Counter::SourceNotAllowed);
    }
    let set = endpoint_set(&frontend, client)?;
    let (index, backend) = choose(headers, tables, &frontend, set)?;
    let settings = tables.settings();
    let flags = flow_kind(headers, &backend, &settings, client);
    let mut flow = Flow {
        tuple: Tuple {
            destination: backend.address,
            destination_port: backend.port,
            ..headers.tuple
        },
        backend: index,
        generation: backend.generation,
        service: backend.service,
        seen: Racy::new(tables.now()),
        flags: Racy::new(flags | flow_flags::OPENING),
        packets: Racy::new(1),
    };
    if flags & flow_flags::REDIRECT != 0 {
        if settings.node_address == A::default() {
            return Err(Counter::Unroutable);
        }
        flow.tuple.source = settings.node_address;
    }
    claim(headers, tables, &settings, &mut flow)?;
    let is_left = !can_finish(onward, headers, &flow, true);
    // Who finishes it counts it.
    flow.packets.set(u32::from(!is_left));
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.make(&key, &flow, Make::Replace).is_err() {
        tables.forget(&reply_key(&flow, headers.protocol));
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsMade);
    count_connection(tables, &flow);
    Ok(Some(Translation {
        tuple: flow.tuple,
        flags,
        is_left,
    }))
}

/// Why a packet that is for no frontend must not go on: its destination is a ClusterIP,
/// or could become one. It would leave the node by a default route.
#[inline(always)]
fn leads_nowhere<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Option<Counter> {
    let address = &headers.tuple.destination;
    let ranges = tables.settings().service_ranges;
    if !ranges.iter().any(|range| range.contains(address)) {
        None
    } else if tables.is_cluster_ip(address) {
        Some(Counter::NoSuchPort)
    } else {
        Some(Counter::NoSuchService)
    }
}

/// The frontend that the packet is for: by its exact address first, then as a
/// NodePort on one of the node's addresses.
#[inline(always)]
fn find_frontend<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Option<Frontend> {
    let mut key = FrontendKey::new(
        headers.tuple.destination,
        headers.tuple.destination_port,
        headers.protocol,
    );
    // Nobody's address is the zero one, under which NodePorts lie.
    if key.address == A::default() {
        return None;
    }
    if let Some(frontend) = tables.frontend(&key) {
        return Some(frontend);
    }
    key.address = A::default();
    let frontend = tables.frontend(&key)?;
    tables
        .is_node_address(&headers.tuple.destination)
        .then_some(frontend)
}

/// How the flow's packets travel: by the stack, or sent on with this node's
/// address because the reply would not pass here otherwise.
#[inline(always)]
fn flow_kind<A: Version>(
    headers: &Headers<A>,
    backend: &Backend<A>,
    settings: &Settings<A>,
    client: Client,
) -> u32 {
    if backend.address == headers.tuple.source {
        return flow_flags::REDIRECT | flow_flags::HAIRPIN;
    }
    let is_remote = backend.flags & backend_flags::LOCAL == 0;
    let masquerades_all = settings.flags & settings_flags::MASQUERADE_ALL != 0;
    if masquerades_all || (client == Client::Outside && is_remote) {
        return flow_flags::REDIRECT;
    }
    0
}

/// Makes the reply record, which claims the translated tuple, with another source port
/// where another flow has the tuple or the packets leave with this node's address.
#[inline(always)]
fn claim<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    settings: &Settings<A>,
    flow: &mut Flow<A>,
) -> Result<(), Counter> {
    let reply = reply_of(flow, &headers.tuple);
    let mut key = reply_key(flow, headers.protocol);
    let is_own = flow.flags() & flow_flags::REDIRECT == 0
        && tables.find(&key).is_none_or(|other| {
            other.tuple.is(&reply.tuple)
                || holder(&other, key.protocol, tables.now()) == Holder::Over
        });
    if !is_own {
        let ports = NatPorts::new(settings, headers, tables.now());
        let port = ports
            .find(tables, &mut key, &reply.tuple)
            .ok_or(Counter::PortsExhausted)?;
        key.tuple.destination_port = port;
        flow.tuple.source_port = port;
    }
    // Whoever had the tuple goes.
    tables.forget(&key);
    tables
        .make(&key, &reply, Make::IfAbsent)
        .map_err(|error| match error {
            MakeError::Full => Counter::FlowTableFull,
            // Another CPU was faster; the client will ask again.
            MakeError::Exists => Counter::PortsExhausted,
        })
}
