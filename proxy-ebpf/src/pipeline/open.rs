//! A new flow: frontend, endpoint set, pick, and a translated tuple that no
//! other flow has.

use super::Client;
use super::flow::{Holder, Translation, holder, release_tuple, reply_key, reply_of};
use super::headers::{Headers, Version};
use super::tables::{Make, MakeError, Tables};
use crate::layout::{
    Backend, Counter, Edge, Flow, FlowKey, Frontend, FrontendKey, Port, Racy, Settings, Span,
    Tuple, backend_flags, flow_flags, frontend_flags, settings_flags,
};

/// Translated source ports that are tried for one new flow. With three in four ports
/// taken, one new flow in a thousand finds none free.
const PORT_ATTEMPTS: u32 = 24;
/// How many of these are the same whenever the flow is opened, so that it finds the port
/// again that it had; the others change with time, for a client that asks again because
/// it found none.
const SAME_ATTEMPTS: u32 = 16;

/// Opens a flow for a packet that belongs to none. `None` if its destination is
/// no frontend; an error is the reason to drop the packet.
#[inline(always)]
pub(super) fn open<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
) -> Result<Option<Translation<A>>, Counter> {
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
        flags: Racy::new(flags | flow_flags::OPENING),
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
    Ok(Some(Translation {
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

/// Ports of the NAT range in an order that is the flow's own: flows that begin at one
/// port go on to different ones.
struct NatPorts {
    /// Where the first tries begin, and where the last ones do.
    starts: [u32; 2],
    step: u32,
    count: u32,
}

impl NatPorts {
    #[inline(always)]
    fn new<A: Version>(settings: &Settings<A>, headers: &Headers<A>, now: u32) -> Self {
        let count = settings.nat_ports;
        let hash = mix(headers);
        if count <= PORT_ATTEMPTS {
            // A small range is gone through whole.
            return Self {
                starts: [hash & 0xffff; 2],
                step: 1,
                count,
            };
        }
        let step = hash >> 16 | 1;
        Self {
            starts: [hash & 0xffff, now.wrapping_mul(step)],
            step,
            count,
        }
    }

    /// The first that no other flow has, for replies that come under `key` and become
    /// `own`. If there is none, that of a flow that is weak: so a flood of connections
    /// that never open shuts nobody out.
    #[inline(always)]
    fn find<A: Version, T: Tables<A>>(
        &self,
        tables: &T,
        key: &mut FlowKey<A>,
        own: &Tuple<A>,
    ) -> Option<Port> {
        let now = tables.now();
        let [same, later] = self.starts;
        let mut weak = None;
        for attempt in 0..PORT_ATTEMPTS {
            let start = if attempt < SAME_ATTEMPTS { same } else { later };
            let position = start.wrapping_add(attempt.wrapping_mul(self.step));
            let port = tables.nat_port(position.checked_rem(self.count)?)?;
            key.tuple.destination_port = port;
            let Some(other) = tables.find(key) else {
                return Some(port);
            };
            if other.tuple.is(own) {
                return Some(port);
            }
            match holder(&other, key.protocol, now) {
                Holder::Over => return Some(port),
                Holder::Weak => weak = Some(port),
                Holder::Closing | Holder::Live => {}
            }
        }
        weak
    }
}

/// A number that spreads flows over the NAT range: `MurmurHash3` (Appleby, 2011) of the
/// client's end and the frontend's port.
#[inline(always)]
fn mix<A: Version>(headers: &Headers<A>) -> u32 {
    let ports = u32::from(headers.tuple.source_port.raw()) << 16
        | u32::from(headers.tuple.destination_port.raw());
    let mut hash = stir(0, ports);
    for word in headers.tuple.source.words() {
        hash = stir(hash, *word);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[inline(always)]
fn stir(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    let hash = hash ^ word.wrapping_mul(0x1b87_3593);
    hash.rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}
