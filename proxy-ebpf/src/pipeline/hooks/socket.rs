//! The socket path: translation when a process calls `connect` or `sendmsg`.
//!
//! A destination that is a frontend is replaced by an endpoint; the socket's packets then need
//! no translation. The packet path works without this one and handles what a Pod's socket hook
//! cannot:
//!
//! - session affinity and source ranges, which need the client's address;
//! - masquerading;
//! - moving a connected UDP socket off a removed endpoint: `send` calls no hook;
//! - resetting TCP connections to removed endpoints (`resetGoneEndpoints`).
//!
//! Sockets of the host have a packet path behind them where they reach a Service by an uplink; their
//! address is the node's. Of those that were translated when they connected, the agent destroys
//! the ones whose endpoint is removed.

use super::socket_trace::{trace_connection, trace_failure};
use crate::layout::{
    Address, Backend, Counter, FilterBits, Frontend, FrontendKey, NatDirection, Port, Retry,
    Settings, SocketCookie, SocketKey, SocketRecord, TraceKind, Traffic, Tuple, frontend_flags,
    protocol, settings_flags, ticks,
};
use crate::pipeline::answer::is_rejected;
use crate::pipeline::flow::record::NO_BACKEND;
use crate::pipeline::service::frontend::{
    find_frontend, is_in_service_cidr, node_port, unassigned_service_address,
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
pub struct SockAddr<A> {
    /// Its address.
    pub address: A,
    /// Its port.
    pub port: Port,
}

/// What becomes of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketVerdict<A> {
    /// It stays.
    Unchanged,
    /// It becomes this one.
    Endpoint(SockAddr<A>),
    /// Nobody could answer: the call fails as if a reset had come.
    Refused,
    /// Nobody may answer: the call fails as if nobody had answered in time.
    TimedOut,
}

/// What a process calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Connect,
    SendMsg,
}

/// The table of sockets, beside the other maps.
pub trait SocketTables<A: Address>: Tables<A> {
    /// What is remembered under `key`.
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketRecord<A>>;
    /// Remembers it; a full table forgets somebody else.
    fn insert_socket(&self, key: &SocketKey<A>, record: &SocketRecord<A>);
    /// Says that the SYN of the connection with this tuple is sent again.
    fn insert_retry(&self, tuple: &Tuple<A>, retry: &Retry<A>);
    /// Forgets what is under `key`.
    fn remove_socket(&self, key: &SocketKey<A>);
}

/// A process connects a socket to `to`.
#[inline(always)]
pub fn on_connect<A: Address, T: SocketTables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    tables: &T,
) -> SocketVerdict<A> {
    if !is_tcp_or_udp(socket) {
        return SocketVerdict::Unchanged;
    }
    let to = meant_by(socket, to);
    let is_pinned = socket.protocol == protocol::UDP && socket.client == Client::Pod;
    let selected = if is_pinned {
        Ok(None)
    } else {
        select_endpoint(socket, Call::Connect, to, tables)
    };
    match selected {
        Ok(Some((index, backend))) => {
            let endpoint = sock_addr_of(&backend);
            forget_datagrams(socket, endpoint, tables);
            let record = record(to, index, backend.generation, tables)
                .connected_to(&endpoint.address, endpoint.port);
            tables.insert_socket(&SocketKey::connected(socket.cookie), &record);
            open_connection(socket, to, (index, &backend), tables);
            SocketVerdict::Endpoint(endpoint)
        }
        Ok(None) => {
            // It may have been connected to a frontend before, and now to that one's endpoint.
            if tables.filter_matches(FilterBits::of_source(&to.address, to.port)) {
                on_release(socket.cookie, tables);
                forget_datagrams(socket, to, tables);
            }
            SocketVerdict::Unchanged
        }
        Err(reason) => deny(socket, to, reason, tables),
    }
}

/// A process names the destination `to` of a datagram. While a socket that is not
/// connected does so again and again, it is one flow, with one endpoint as long as that
/// serves. A connected one hears from its `peer` only.
#[inline(always)]
pub fn on_sendmsg<A: Address, T: SocketTables<A>>(
    socket: &Socket,
    peer: Option<SockAddr<A>>,
    to: SockAddr<A>,
    tables: &T,
) -> SocketVerdict<A> {
    if socket.protocol != protocol::UDP {
        return SocketVerdict::Unchanged;
    }
    if let Some(peer) = peer {
        return if on_getpeername(socket.cookie, peer, tables) == Some(to) {
            SocketVerdict::Endpoint(peer)
        } else {
            SocketVerdict::Unchanged
        };
    }
    let to = meant_by(socket, to);
    if let Some(endpoint) = udp_flow_endpoint(socket, to, tables) {
        return SocketVerdict::Endpoint(endpoint);
    }
    match select_endpoint(socket, Call::SendMsg, to, tables) {
        Ok(Some((index, backend))) => {
            let endpoint = sock_addr_of(&backend);
            let from = key(socket, endpoint, NatDirection::Reverse);
            if socket.client == Client::Pod && is_reverse_nat_taken(&from, to, tables) {
                // Answers could not be distinguished; the packet path gives this flow
                // another source port.
                return SocketVerdict::Unchanged;
            }
            remember(socket, to, endpoint, (index, backend.generation), tables);
            let last = record(to, index, backend.generation, tables);
            tables.insert_socket(&SocketKey::last_flow(socket.cookie), &last);
            open_connection(socket, to, (index, &backend), tables);
            SocketVerdict::Endpoint(endpoint)
        }
        Ok(None) => {
            forget_datagrams(socket, to, tables);
            SocketVerdict::Unchanged
        }
        Err(reason) => deny(socket, to, reason, tables),
    }
}

/// The frontend behind whose address `from` answers a socket, if it is an endpoint to
/// which the socket's destination was translated.
#[inline(always)]
pub fn on_getpeername<A: Address, T: SocketTables<A>>(
    cookie: SocketCookie,
    from: SockAddr<A>,
    tables: &T,
) -> Option<SockAddr<A>> {
    let key = SocketKey::new(cookie, from.address, from.port, NatDirection::Reverse);
    let record = match tables.socket(&key) {
        Some(record) if is_valid(&record, tables) => record,
        _ => tables
            .socket(&SocketKey::connected(cookie))
            .filter(|record| record.is_connected_to(&from.address, from.port))?,
    };
    Some(SockAddr {
        address: record.address,
        port: record.port,
    })
}

/// The same when a datagram comes from there, which keeps a flow fresh as one that is sent.
#[inline(always)]
pub fn on_recvmsg<A: Address, T: SocketTables<A>>(
    cookie: SocketCookie,
    from: SockAddr<A>,
    tables: &T,
) -> Option<SockAddr<A>> {
    let frontend = on_getpeername(cookie, from, tables)?;
    let reverse = SocketKey::new(cookie, from.address, from.port, NatDirection::Reverse);
    if let Some(record) = tables.socket(&reverse)
        && record.last_seen != tables.now()
        && is_valid(&record, tables)
    {
        refresh(&reverse, record, tables);
        let forward = SocketKey::new(
            cookie,
            frontend.address,
            frontend.port,
            NatDirection::Forward,
        );
        if let Some(record) = tables.socket(&forward) {
            refresh(&forward, record, tables);
        }
    }
    Some(frontend)
}

#[inline(always)]
fn refresh<A: Address, T: SocketTables<A>>(
    key: &SocketKey<A>,
    record: SocketRecord<A>,
    tables: &T,
) {
    let last_seen = tables.now();
    tables.insert_socket(
        key,
        &SocketRecord {
            last_seen,
            ..record
        },
    );
}

/// Whether a process may bind a socket to `at`: not the host's own where that would take
/// a NodePort.
#[inline(always)]
pub fn on_bind<A: Address, T: Tables<A>>(socket: &Socket, at: SockAddr<A>, tables: &T) -> bool {
    if socket.client != Client::Host || !is_tcp_or_udp(socket) {
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
pub fn on_release<A: Address, T: SocketTables<A>>(cookie: SocketCookie, tables: &T) {
    tables.remove_socket(&SocketKey::connected(cookie));
}

/// A socket is closed that may have had a flow of datagrams. Of several the last one is
/// forgotten; the others expire.
#[inline(always)]
pub fn on_release_udp<A: Address, T: SocketTables<A>>(cookie: SocketCookie, tables: &T) {
    let last = SocketKey::last_flow(cookie);
    let Some(record) = tables.socket(&last) else {
        return;
    };
    tables.remove_socket(&last);
    let forward = SocketKey::new(cookie, record.address, record.port, NatDirection::Forward);
    let Some(record) = tables.socket(&forward) else {
        return;
    };
    tables.remove_socket(&forward);
    let reverse = SocketKey::new(cookie, record.address, record.port, NatDirection::Reverse);
    tables.remove_socket(&reverse);
}

/// Whether the socket's protocol is one whose ports frontends have here.
#[inline(always)]
fn is_tcp_or_udp(socket: &Socket) -> bool {
    socket.protocol == protocol::TCP || socket.protocol == protocol::UDP
}

/// The endpoint for a new flow to `to`, with its index. `None` if `to` stays as it is.
#[inline(always)]
fn select_endpoint<A: Address, T: Tables<A>>(
    socket: &Socket,
    call: Call,
    to: SockAddr<A>,
    tables: &T,
) -> Result<Option<(u32, Backend<A>)>, Counter> {
    // A NodePort of the host's is at its loopback addresses, too.
    let is_to_itself = socket.client == Client::Host && to.address.is_loopback();
    if !is_to_itself && !tables.filter_matches(FilterBits::of_destination(&to.address)) {
        return if is_in_service_cidr(&to.address, tables) {
            Err(Counter::NoSuchService)
        } else {
            Ok(None)
        };
    }
    let mut key = FrontendKey::new(to.address, to.port, socket.protocol);
    let Some(frontend) = find_frontend(&mut key, &to.address, socket.client, tables) else {
        return unassigned_service_address(&to.address, tables).map_or(Ok(None), Err);
    };
    let settings = tables.settings().ok_or(Counter::Unroutable)?;
    let has_packet_path = match socket.client {
        Client::Pod => needs_packet_path(socket, &frontend, settings),
        _ => call == Call::Connect && is_translated_where_it_leaves(socket, &frontend, settings),
    };
    if has_packet_path {
        return Ok(None);
    }
    let selector = || tables.random();
    pick(
        settings.node_address,
        socket.client,
        &frontend,
        selector,
        NO_BACKEND,
        tables,
    )
    .map(Some)
}

/// Whether only the packet path can serve a socket of a Pod of this node: it knows the
/// client's address, can change it, and can reset a connection.
#[inline(always)]
fn needs_packet_path<A>(socket: &Socket, frontend: &Frontend, settings: &Settings<A>) -> bool {
    let is_tcp = socket.protocol == protocol::TCP;
    let flags = frontend_flags::SOURCE_RANGES | frontend_flags::LEFT_TO_HOST;
    frontend.affinity_seconds != 0
        || frontend.flags & flags != 0
        || settings.flags & settings_flags::MASQUERADE_ALL != 0
        || (is_tcp && settings.flags & settings_flags::RESET_GONE != 0)
}

/// Whether the datagrams of a connected socket of the host are translated at an uplink. By an
/// external address they may not leave: it may be the host's own.
#[inline(always)]
fn is_translated_where_it_leaves<A>(
    socket: &Socket,
    frontend: &Frontend,
    settings: &Settings<A>,
) -> bool {
    socket.protocol == protocol::UDP
        && settings.flags & settings_flags::HOST_DATAGRAMS != 0
        && frontend.flags & (frontend_flags::EXTERNAL | frontend_flags::LEFT_TO_HOST) == 0
}

/// Counts a connection, of which there will be no packets to count, and tells of it.
#[inline(always)]
fn open_connection<A: Address, T: Tables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    (index, backend): (u32, &Backend<A>),
    tables: &T,
) {
    let traffic = Traffic {
        connections: 1,
        packets: 0,
    };
    tables.add_traffic(backend.service, index, traffic);
    trace_connection(socket, to, (index, backend), tables);
}

/// What becomes of a destination that nothing may reach. What only looks like a loss is
/// left to the packet path where there is one.
#[inline(always)]
fn deny<A: Address, T: Tables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    reason: Counter,
    tables: &T,
) -> SocketVerdict<A> {
    let (kind, verdict) = if is_rejected(reason) {
        (TraceKind::Refuse, SocketVerdict::Refused)
    } else if socket.client == Client::Host {
        (TraceKind::TimeOut, SocketVerdict::TimedOut)
    } else {
        return SocketVerdict::Unchanged;
    };
    tables.count(reason);
    trace_failure(socket, kind, (to, reason), tables);
    verdict
}

/// The endpoint to which this socket's datagrams to `to` go, if they are a flow whose
/// endpoint still serves. Both records are kept fresh, at most once a tick.
#[inline(always)]
fn udp_flow_endpoint<A: Address, T: SocketTables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    tables: &T,
) -> Option<SockAddr<A>> {
    let record = tables.socket(&key(socket, to, NatDirection::Forward))?;
    let backend = tables.backend(record.backend)?;
    if !is_valid(&record, tables) || !backend.is_current(record.generation) {
        return None;
    }
    let endpoint = SockAddr {
        address: record.address,
        port: record.port,
    };
    if record.last_seen != tables.now() {
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
fn remember<A: Address, T: SocketTables<A>>(
    socket: &Socket,
    to: SockAddr<A>,
    endpoint: SockAddr<A>,
    (index, generation): (u32, u32),
    tables: &T,
) {
    let reverse = record(to, index, generation, tables);
    tables.insert_socket(&key(socket, endpoint, NatDirection::Reverse), &reverse);
    let forward = record(endpoint, index, generation, tables);
    tables.insert_socket(&key(socket, to, NatDirection::Forward), &forward);
}

/// What the kernel takes a destination for: the unspecified address is the host's loopback one
/// (`ip_route_output_key_hash_rcu` in `net/ipv4/route.c`, `tcp_v6_connect` in
/// `net/ipv6/tcp_ipv6.c`). A Pod's loopback has no NodePorts.
#[inline(always)]
fn meant_by<A: Address>(socket: &Socket, to: SockAddr<A>) -> SockAddr<A> {
    if socket.client == Client::Host && to.address == A::default() {
        SockAddr {
            address: A::LOOPBACK,
            ..to
        }
    } else {
        to
    }
}

/// An answer of this end has its own address from now on, also where it was asked as the endpoint
/// of a frontend before, in datagrams.
#[inline(always)]
fn forget_datagrams<A: Address, T: SocketTables<A>>(socket: &Socket, to: SockAddr<A>, tables: &T) {
    if socket.protocol != protocol::UDP {
        return;
    }
    let from = key(socket, to, NatDirection::Reverse);
    let Some(record) = tables.socket(&from) else {
        return;
    };
    let frontend = SockAddr {
        address: record.address,
        port: record.port,
    };
    tables.remove_socket(&from);
    tables.remove_socket(&key(socket, frontend, NatDirection::Forward));
}

/// Whether what comes from the endpoint is taken as an answer of another frontend.
#[inline(always)]
fn is_reverse_nat_taken<A: Address, T: SocketTables<A>>(
    from: &SocketKey<A>,
    to: SockAddr<A>,
    tables: &T,
) -> bool {
    tables.socket(from).is_some_and(|record| {
        is_valid(&record, tables) && (record.address != to.address || record.port != to.port)
    })
}

#[inline(always)]
fn is_valid<A: Address, T: Tables<A>>(record: &SocketRecord<A>, tables: &T) -> bool {
    // Another CPU may have written a later time than this one's.
    let idle = tables.now().wrapping_sub(record.last_seen).cast_signed();
    idle <= TIMEOUT.cast_signed()
}

#[inline(always)]
fn key<A>(socket: &Socket, peer: SockAddr<A>, direction: NatDirection) -> SocketKey<A> {
    SocketKey::new(socket.cookie, peer.address, peer.port, direction)
}

#[inline(always)]
fn sock_addr_of<A: Copy>(backend: &Backend<A>) -> SockAddr<A> {
    SockAddr {
        address: backend.address,
        port: backend.port,
    }
}

#[inline(always)]
fn record<A: Address, T: Tables<A>>(
    end: SockAddr<A>,
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
        last_seen: tables.now(),
    }
}
