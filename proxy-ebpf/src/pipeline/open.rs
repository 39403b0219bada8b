//! A new flow: frontend, endpoint set, pick, and a translated tuple that no
//! other flow has.

use super::flow::{Holder, Translation, holder, new_flow, release_tuple, reply_key, reply_of};
use super::frontend::{find_frontend, leads_nowhere};
use super::headers::{Headers, Version};
use super::onward::can_finish;
use super::pick::{lot_of, pick};
use super::source_port::NatPorts;
use super::tables::{Make, MakeError, Tables};
use super::traffic::count_connection;
use super::verifier::{join, veil};
use super::{Client, Onward};
use crate::layout::{
    Backend, Counter, Edge, Flow, FlowKey, FrontendKey, Settings, backend_flags, flow_flags,
    frontend_flags, settings_flags,
};

/// Why a packet opens no flow, or is the last of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unopened {
    /// It must not go on, for this reason.
    Refused(Counter),
    /// Its frontend has direct return, which is the business of a stage.
    Direct,
}

impl From<Counter> for Unopened {
    #[inline(always)]
    fn from(reason: Counter) -> Self {
        Self::Refused(reason)
    }
}

/// Opens a flow for a packet that belongs to none. `None` if its destination is
/// no frontend.
#[inline(always)]
pub(super) fn open<A: Version, T: Tables<A>, O: Onward<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
    onward: &mut O,
) -> Result<Option<Translation<A>>, Unopened> {
    let address = &headers.tuple.destination;
    let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
    let Some(frontend) = find_frontend(&mut key, address, client, tables) else {
        if let Some(reason) = leads_nowhere(address, tables) {
            return Err(reason.into());
        }
        if headers.is_syn() {
            release_tuple(tables, headers);
        }
        return Ok(None);
    };
    if client == Client::Outside && frontend.flags & frontend_flags::DSR != 0 {
        return Err(Unopened::Direct);
    }
    let lot = || lot_of(headers, &frontend, tables);
    let (index, backend) = pick(headers.tuple.source, client, &frontend, lot, tables)?;
    let translation = open_to(headers, tables, client, onward, (index, &backend))?;
    Ok(Some(translation))
}

/// Opens a flow to an endpoint, with its index; an error is the reason to drop the packet.
#[inline(always)]
pub(super) fn open_to<A: Version, T: Tables<A>, O: Onward<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
    onward: &mut O,
    (index, backend): (u32, &Backend<A>),
) -> Result<Translation<A>, Counter> {
    let settings = tables.settings().ok_or(Counter::Unroutable)?;
    // A copy: of numbers in a map the kernel's verifier knows less from line to line.
    let nat_ports = settings.nat_ports;
    let flags = veil(flow_kind(headers, backend, settings, client), tables.now());
    let mut flow = new_flow(headers, tables, index, backend, flags);
    if flags & flow_flags::REDIRECT != 0 {
        set_source(&mut flow, &headers.tuple.source, settings, onward);
        if flow.tuple.source == A::default() {
            return Err(Counter::Unroutable);
        }
    }
    begin(headers, tables, onward, nat_ports, &mut flow)
}

/// Makes the records of a new flow, which may get another source port.
#[inline(always)]
pub(super) fn begin<A: Version, T: Tables<A>, O: Onward<A>>(
    headers: &Headers<A>,
    tables: &T,
    onward: &mut O,
    nat_ports: u32,
    flow: &mut Flow<A>,
) -> Result<Translation<A>, Counter> {
    claim(headers, tables, nat_ports, flow)?;
    let is_left = !can_finish(onward, headers, flow, true);
    // Who finishes it counts it.
    flow.packets.set(u32::from(!is_left));
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.make(&key, flow, Make::Replace).is_err() {
        tables.forget(&reply_key(flow, headers.protocol));
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsMade);
    count_connection(tables, flow);
    Ok(Translation {
        tuple: flow.tuple,
        flags: flow.flags(),
        is_left,
    })
}

/// Gives a flow whose packets are sent on an address of this node: that of the device by
/// which they leave, as the other end knows whoever comes from there. To a hairpin's own
/// Pod they go back without a look at routes.
#[inline(always)]
fn set_source<A: Version, O: Onward<A>>(
    flow: &mut Flow<A>,
    client: &A,
    settings: &Settings<A>,
    onward: &mut O,
) {
    let found = if flow.flags() & flow_flags::HAIRPIN == 0 {
        onward.source(client, &flow.tuple.destination)
    } else {
        None
    };
    flow.tuple.source = join(*found.unwrap_or(&settings.node_address));
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
    nat_ports: u32,
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
        let ports = NatPorts::new(nat_ports, headers, tables.now());
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
