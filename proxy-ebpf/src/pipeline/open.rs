//! A new flow: frontend, endpoint set, pick, and a translated tuple that no
//! other flow has.

use super::Client;
use super::flow::{is_fresh, release_tuple, reply_key, reply_of};
use super::headers::{Headers, Version};
use super::tables::{Make, MakeError, Tables};
use crate::layout::{
    Backend, Counter, Edge, Flow, FlowKey, Frontend, FrontendKey, Port, Racy, Settings, Span,
    Tuple, backend_flags, flow_flags, frontend_flags, settings_flags,
};

/// Translated source ports that are tried for one new flow.
const PORT_ATTEMPTS: u32 = 16;

/// A flow that was opened.
pub(super) struct Opened<A> {
    /// What its packets become.
    pub(super) tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    pub(super) flags: u32,
}

/// Opens a flow for a packet that belongs to none. `None` if its destination is
/// no frontend; an error is the reason to drop the packet.
#[inline(always)]
pub(super) fn open<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
) -> Result<Option<Opened<A>>, Counter> {
    let Some(frontend) = find_frontend(headers, tables) else {
        if headers.is_syn() {
            release_tuple(tables, headers);
        }
        return Ok(None);
    };
    let (index, backend) = pick(tables, endpoint_set(&frontend, client)?)?;
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
        flags: Racy::new(flags),
    };
    if flags & flow_flags::REDIRECT != 0 {
        if settings.node_address == A::default() {
            return Err(Counter::Unroutable);
        }
        flow.tuple.source = settings.node_address;
    }
    claim(headers, tables, &settings, &mut flow)?;
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.make(&key, &flow, Make::Replace).is_err() {
        tables.forget(&reply_key(&flow, headers.protocol));
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsMade);
    Ok(Some(Opened {
        tuple: flow.tuple,
        flags,
    }))
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

/// The set that this client's connection picks from; never empty.
#[inline(always)]
fn endpoint_set(frontend: &Frontend, client: Client) -> Result<Span, Counter> {
    if frontend.cluster.len == 0 {
        return Err(Counter::NoEndpoints);
    }
    let is_local_pod = frontend.flags & frontend_flags::EXTERNAL != 0 && client == Client::Pod;
    if frontend.flags & frontend_flags::LOCAL_POLICY == 0 || is_local_pod {
        return Ok(frontend.cluster);
    }
    if frontend.local.len == 0 {
        return Err(Counter::NoLocalEndpoints);
    }
    Ok(frontend.local)
}

/// Any one of the set, each as likely as the others.
#[inline(always)]
fn pick<A: Version, T: Tables<A>>(tables: &T, set: Span) -> Result<(u32, Backend<A>), Counter> {
    let offset = ((u64::from(tables.random()) * u64::from(set.len)) >> 32) as u32;
    let index = tables
        .slot(set.start.wrapping_add(offset))
        .ok_or(Counter::NoEndpoints)?;
    let backend = tables.backend(index).ok_or(Counter::NoEndpoints)?;
    Ok((index, backend))
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

/// Makes the reply record, which claims the translated tuple; where another flow
/// has it, tries other source ports.
#[inline(always)]
fn claim<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    settings: &Settings<A>,
    flow: &mut Flow<A>,
) -> Result<(), Counter> {
    let reply = reply_of(flow, &headers.tuple);
    let keeps_port = flow.flags() & flow_flags::REDIRECT == 0;
    let start = mix(headers);
    for attempt in 0..PORT_ATTEMPTS {
        if attempt > 0 || !keeps_port {
            flow.tuple.source_port =
                nat_port(settings, start.wrapping_add(attempt)).ok_or(Counter::PortsExhausted)?;
        }
        let key = reply_key(flow, headers.protocol);
        match tables.make(&key, &reply, Make::IfAbsent) {
            Ok(()) => return Ok(()),
            Err(MakeError::Full) => return Err(Counter::FlowTableFull),
            Err(MakeError::Exists) => {}
        }
        let is_free = tables.find(&key).is_none_or(|other| {
            other.tuple == reply.tuple || !is_fresh(&other, headers.protocol, tables.now())
        });
        if is_free {
            return tables
                .make(&key, &reply, Make::Replace)
                .map_err(|_| Counter::FlowTableFull);
        }
    }
    Err(Counter::PortsExhausted)
}

/// A port of the NAT range.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "less than the range's length"
)]
fn nat_port<A>(settings: &Settings<A>, start: u32) -> Option<Port> {
    let offset = start.checked_rem(u32::from(settings.nat_ports))? as u16;
    Some(Port::new(settings.nat_first.wrapping_add(offset)))
}

/// A number that spreads clients over the NAT range.
#[inline(always)]
fn mix<A: Version>(headers: &Headers<A>) -> u32 {
    let mut hash = u32::from(headers.tuple.source_port.number());
    for word in headers.tuple.source.words() {
        hash = (hash ^ *word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    hash
}
