//! What happens to a socket, before there are packets.
//!
//! A destination that is a frontend becomes an endpoint when a process calls `connect`
//! or sends a datagram; its packets are plain ones from then on. Whatever is left alone
//! here meets the packet path, which is complete without this. So what a Pod's socket
//! cannot know or do is left to it:
//!
//! - the address that its packets will have, which affinity and ranges of sources need;
//! - to give them the node's address;
//! - to move a connected UDP socket when its endpoint goes: that sends on without asking;
//! - to reset a TCP connection whose endpoint is gone, where that is wanted.
//!
//! The host's own sockets have no packet path behind them. They have the node's address,
//! and the agent ends their connected sockets when an endpoint goes.

use crate::layout::{
    Address, Backend, Counter, FilterBits, Frontend, FrontendKey, Port, Settings, SocketCookie,
    SocketKey, SocketRecord, Towards, Traffic, frontend_flags, protocol, settings_flags, ticks,
};
use crate::pipeline::answer::is_refusal;
use crate::pipeline::service::frontend::{
    find_frontend, is_in_service_range, leads_nowhere, node_port,
};
use crate::pipeline::service::pick::pick;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;

/// As long as a flow of UDP without packets: what is sent later is another flow.
const TIMEOUT: u32 = ticks::from_seconds(240);

/// A socket, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// Its cookie.
    pub cookie: SocketCookie,
    /// IP protocol number.
    pub protocol: u8,
    /// [`Client::Host`] or [`Client::Pod`].
    pub client: Client,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End<A> {
    /// Its address.
    pub address: A,
    /// Its port.
    pub port: Port,
}

/// What becomes of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach<A> {
    /// It stays.
    Unchanged,
    /// It becomes this one.
    Endpoint(End<A>),
    /// Nobody could answer: the call fails as if a reset had come.
    Refused,
    /// Nobody may answer: the call fails as if nobody had answered in time.
    TimedOut,
}

/// The table of sockets, beside the other maps.
pub trait Sockets<A: Address>: Tables<A> {
    /// What is remembered under `key`.
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketRecord<A>>;
    /// Remembers it; a full table forgets somebody else.
    fn remember_socket(&self, key: &SocketKey<A>, record: &SocketRecord<A>);
    /// Forgets what is under `key`.
    fn forget_socket(&self, key: &SocketKey<A>);
}

/// A process connects a socket to `to`.
#[inline(always)]
pub fn connect<A: Address, T: Sockets<A>>(socket: &Socket, to: End<A>, tables: &T) -> Reach<A> {
    let is_pinned = socket.protocol == protocol::UDP && socket.client == Client::Pod;
    if is_pinned || !has_ports(socket) {
        return Reach::Unchanged;
    }
    match choose(socket, to, tables) {
        Ok(Some((index, backend))) => {
            let endpoint = end_of(&backend);
            let record = record(to, index, backend.generation, tables)
                .connected_to(&endpoint.address, endpoint.port);
            tables.remember_socket(&SocketKey::connected(socket.cookie), &record);
            count_connection(index, &backend, tables);
            Reach::Endpoint(endpoint)
        }
        Ok(None) => {
            if socket.protocol == protocol::UDP {
                // It may have been connected to a frontend before.
                forget(socket.cookie, tables);
            }
            Reach::Unchanged
        }
        Err(reason) => turn_away(socket, reason, tables),
    }
}

/// A process names the destination `to` of a datagram. While a socket that is not
/// connected does so again and again, it is one flow, with one endpoint as long as that
/// serves. A connected one hears from its `peer` only.
#[inline(always)]
pub fn send<A: Address, T: Sockets<A>>(
    socket: &Socket,
    peer: Option<End<A>>,
    to: End<A>,
    tables: &T,
) -> Reach<A> {
    if socket.protocol != protocol::UDP {
        return Reach::Unchanged;
    }
    if let Some(peer) = peer {
        return if reveal(socket.cookie, peer, tables) == Some(to) {
            Reach::Endpoint(peer)
        } else {
            Reach::Unchanged
        };
    }
    if let Some(endpoint) = endpoint_of_flow(socket, to, tables) {
        return Reach::Endpoint(endpoint);
    }
    match choose(socket, to, tables) {
        Ok(Some((index, backend))) => {
            let endpoint = end_of(&backend);
            let from = key(socket, endpoint, Towards::Frontend);
            if socket.client == Client::Pod && is_of_another(&from, to, tables) {
                // Answers could not be told apart; the packet path gives this flow
                // another source port.
                return Reach::Unchanged;
            }
            remember(socket, to, endpoint, (index, backend.generation), tables);
            let last = record(to, index, backend.generation, tables);
            tables.remember_socket(&SocketKey::last_flow(socket.cookie), &last);
            count_connection(index, &backend, tables);
            Reach::Endpoint(endpoint)
        }
        Ok(None) => {
            answer_as_itself(socket, to, tables);
            Reach::Unchanged
        }
        Err(reason) => turn_away(socket, reason, tables),
    }
}

/// The frontend behind whose address `from` answers a socket, if it is an endpoint to
/// which the socket's destination was translated.
#[inline(always)]
pub fn reveal<A: Address, T: Sockets<A>>(
    cookie: SocketCookie,
    from: End<A>,
    tables: &T,
) -> Option<End<A>> {
    let key = SocketKey::new(cookie, from.address, from.port, Towards::Frontend);
    let record = match tables.socket(&key) {
        Some(record) if is_valid(&record, tables) => record,
        _ => tables
            .socket(&SocketKey::connected(cookie))
            .filter(|record| record.is_connected_to(&from.address, from.port))?,
    };
    Some(End {
        address: record.address,
        port: record.port,
    })
}

/// The same when a datagram comes from there, which keeps a flow fresh as one that is sent.
#[inline(always)]
pub fn hear<A: Address, T: Sockets<A>>(
    cookie: SocketCookie,
    from: End<A>,
    tables: &T,
) -> Option<End<A>> {
    let frontend = reveal(cookie, from, tables)?;
    let back = SocketKey::new(cookie, from.address, from.port, Towards::Frontend);
    if let Some(record) = tables.socket(&back)
        && record.seen != tables.now()
        && is_valid(&record, tables)
    {
        keep_fresh(&back, record, tables);
        let forth = SocketKey::new(cookie, frontend.address, frontend.port, Towards::Endpoint);
        if let Some(record) = tables.socket(&forth) {
            keep_fresh(&forth, record, tables);
        }
    }
    Some(frontend)
}

#[inline(always)]
fn keep_fresh<A: Address, T: Sockets<A>>(key: &SocketKey<A>, record: SocketRecord<A>, tables: &T) {
    let seen = tables.now();
    tables.remember_socket(key, &SocketRecord { seen, ..record });
}

/// Whether a process may bind a socket to `at`: not the host's own where that would take
/// a NodePort.
#[inline(always)]
pub fn bind<A: Address, T: Tables<A>>(socket: &Socket, at: End<A>, tables: &T) -> bool {
    if socket.client != Client::Host || !has_ports(socket) {
        return true;
    }
    let mut key = FrontendKey::new(at.address, at.port, socket.protocol);
    let is_taken = if at.address == A::default() {
        tables.frontend(&key).is_some()
    } else {
        node_port(&mut key, &at.address, Client::Host, tables).is_some()
    };
    !is_taken
}

/// A socket is closed that may be connected, or was to be.
#[inline(always)]
pub fn forget<A: Address, T: Sockets<A>>(cookie: SocketCookie, tables: &T) {
    tables.forget_socket(&SocketKey::connected(cookie));
}

/// A socket is closed that may have had a flow of datagrams. Of several the last one is
/// forgotten; the others expire.
#[inline(always)]
pub fn forget_flow<A: Address, T: Sockets<A>>(cookie: SocketCookie, tables: &T) {
    let last = SocketKey::last_flow(cookie);
    let Some(record) = tables.socket(&last) else {
        return;
    };
    tables.forget_socket(&last);
    let forth = SocketKey::new(cookie, record.address, record.port, Towards::Endpoint);
    let Some(record) = tables.socket(&forth) else {
        return;
    };
    tables.forget_socket(&forth);
    let back = SocketKey::new(cookie, record.address, record.port, Towards::Frontend);
    tables.forget_socket(&back);
}

/// Whether the socket's protocol is one whose ports frontends have here.
#[inline(always)]
fn has_ports(socket: &Socket) -> bool {
    socket.protocol == protocol::TCP || socket.protocol == protocol::UDP
}

/// The endpoint for a new flow to `to`, with its index. `None` if `to` stays as it is.
#[inline(always)]
fn choose<A: Address, T: Tables<A>>(
    socket: &Socket,
    to: End<A>,
    tables: &T,
) -> Result<Option<(u32, Backend<A>)>, Counter> {
    // A NodePort of the host's is at its loopback addresses, too.
    let is_to_itself = socket.client == Client::Host && to.address.is_loopback();
    if !is_to_itself && !tables.are_set(FilterBits::of_destination(&to.address)) {
        return if is_in_service_range(&to.address, tables) {
            Err(Counter::NoSuchService)
        } else {
            Ok(None)
        };
    }
    let mut key = FrontendKey::new(to.address, to.port, socket.protocol);
    let Some(frontend) = find_frontend(&mut key, &to.address, socket.client, tables) else {
        return leads_nowhere(&to.address, tables).map_or(Ok(None), Err);
    };
    let settings = tables.settings().ok_or(Counter::Unroutable)?;
    if socket.client == Client::Pod && needs_packets(socket, &frontend, settings) {
        return Ok(None);
    }
    let lot = || tables.random();
    pick(settings.node_address, socket.client, &frontend, lot, tables).map(Some)
}

/// Whether only the packet path can serve a socket of a Pod of this node: it knows the
/// client's address, can change it, and can reset a connection.
#[inline(always)]
fn needs_packets<A>(socket: &Socket, frontend: &Frontend, settings: &Settings<A>) -> bool {
    let is_tcp = socket.protocol == protocol::TCP;
    frontend.affinity_seconds != 0
        || frontend.flags & frontend_flags::SOURCE_RANGES != 0
        || settings.flags & settings_flags::MASQUERADE_ALL != 0
        || (is_tcp && settings.flags & settings_flags::RESET_GONE != 0)
}

/// Counts a connection, of which there will be no packets to count.
#[inline(always)]
fn count_connection<A: Address, T: Tables<A>>(index: u32, backend: &Backend<A>, tables: &T) {
    let traffic = Traffic {
        connections: 1,
        packets: 0,
    };
    tables.add_traffic(backend.service, index, traffic);
}

/// What becomes of a destination that nothing may reach. What only looks like a loss is
/// left to the packet path where there is one.
#[inline(always)]
fn turn_away<A: Address, T: Tables<A>>(socket: &Socket, reason: Counter, tables: &T) -> Reach<A> {
    if is_refusal(reason) {
        tables.count(reason);
        Reach::Refused
    } else if socket.client == Client::Host {
        tables.count(reason);
        Reach::TimedOut
    } else {
        Reach::Unchanged
    }
}

/// The endpoint to which this socket's datagrams to `to` go, if they are a flow whose
/// endpoint still serves. Both records are kept fresh, at most once a tick.
#[inline(always)]
fn endpoint_of_flow<A: Address, T: Sockets<A>>(
    socket: &Socket,
    to: End<A>,
    tables: &T,
) -> Option<End<A>> {
    let record = tables.socket(&key(socket, to, Towards::Endpoint))?;
    let backend = tables.backend(record.backend)?;
    if !is_valid(&record, tables) || !backend.is_current(record.generation) {
        return None;
    }
    let endpoint = End {
        address: record.address,
        port: record.port,
    };
    if record.seen != tables.now() {
        remember(
            socket,
            to,
            endpoint,
            (record.backend, record.generation),
            tables,
        );
    }
    Some(endpoint)
}

/// Makes both records of a flow of datagrams.
#[inline(always)]
fn remember<A: Address, T: Sockets<A>>(
    socket: &Socket,
    to: End<A>,
    endpoint: End<A>,
    (index, generation): (u32, u32),
    tables: &T,
) {
    let back = record(to, index, generation, tables);
    tables.remember_socket(&key(socket, endpoint, Towards::Frontend), &back);
    let forth = record(endpoint, index, generation, tables);
    tables.remember_socket(&key(socket, to, Towards::Endpoint), &forth);
}

/// What is sent to `to` is no Service's: an answer has its own address, also where `to`
/// was an endpoint before.
#[inline(always)]
fn answer_as_itself<A: Address, T: Sockets<A>>(socket: &Socket, to: End<A>, tables: &T) {
    let from = key(socket, to, Towards::Frontend);
    let Some(record) = tables.socket(&from) else {
        return;
    };
    let frontend = End {
        address: record.address,
        port: record.port,
    };
    tables.forget_socket(&from);
    tables.forget_socket(&key(socket, frontend, Towards::Endpoint));
}

/// Whether what comes from the endpoint is taken as an answer of another frontend.
#[inline(always)]
fn is_of_another<A: Address, T: Sockets<A>>(from: &SocketKey<A>, to: End<A>, tables: &T) -> bool {
    tables.socket(from).is_some_and(|record| {
        is_valid(&record, tables) && (record.address != to.address || record.port != to.port)
    })
}

#[inline(always)]
fn is_valid<A: Address, T: Tables<A>>(record: &SocketRecord<A>, tables: &T) -> bool {
    // Another CPU may have written a later time than this one's.
    let idle = tables.now().wrapping_sub(record.seen).cast_signed();
    idle <= TIMEOUT.cast_signed()
}

#[inline(always)]
fn key<A>(socket: &Socket, peer: End<A>, towards: Towards) -> SocketKey<A> {
    SocketKey::new(socket.cookie, peer.address, peer.port, towards)
}

#[inline(always)]
fn end_of<A: Copy>(backend: &Backend<A>) -> End<A> {
    End {
        address: backend.address,
        port: backend.port,
    }
}

#[inline(always)]
fn record<A: Address, T: Tables<A>>(
    end: End<A>,
    backend: u32,
    generation: u32,
    tables: &T,
) -> SocketRecord<A> {
    SocketRecord {
        address: end.address,
        port: end.port,
        peer_port: Port::new(0),
        backend,
        generation,
        seen: tables.now(),
    }
}
