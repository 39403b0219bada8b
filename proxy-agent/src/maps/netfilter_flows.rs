//! Flows that netfilter translates: they began before the programs were attached. Those to an endpoint
//! that is known are taken over; the others go on as they are.

mod given;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use aya::Ebpf;
use proxy_ebpf::flow_table::{NewRecord, Record};
use proxy_ebpf::layout::{
    Address, Edge, FlowSeed, KeyParts, Port, Tuple, V4, V6, flow_flags, maps, protocol,
};

pub use given::{GivenFlow, NotGiven};

use super::clock::now;
use super::flow_table::{FlowTable, OpenFlowTable};
use super::{MapError, flow_seed};
use crate::host::Connection;
use crate::plan::BackendId;

/// The tables in which such flows are noted.
pub struct NetfilterFlows {
    v4: FlowTable<V4>,
    v6: FlowTable<V6>,
    seed: FlowSeed,
}

/// The same tables, mapped.
pub struct OpenNetfilterFlows {
    v4: OpenFlowTable<V4>,
    v6: OpenFlowTable<V6>,
    now: u32,
}

/// How long a packet takes from a hook to netfilter, at most where nothing interrupts it.
const ON_THE_WAY: Duration = Duration::from_micros(30);

/// No backend: of a flow that is left to netfilter.
const NONE: BackendId = BackendId {
    index: u32::MAX,
    generation: 0,
    service: u32::MAX,
};

impl NetfilterFlows {
    /// The tables of a loaded object.
    pub(super) fn of(object: &Ebpf, seed: FlowSeed) -> Result<Self, MapError> {
        Ok(Self {
            v4: FlowTable::of(object, maps::FLOWS_V4)?,
            v6: FlowTable::of(object, maps::FLOWS_V6)?,
            seed,
        })
    }

    /// The tables that are pinned in a folder.
    pub(super) fn of_pins(folder: &Path) -> Result<Self, MapError> {
        Ok(Self {
            v4: FlowTable::of_pin(folder, maps::FLOWS_V4)?,
            v6: FlowTable::of_pin(folder, maps::FLOWS_V6)?,
            seed: flow_seed::pinned(folder)?,
        })
    }

    /// Maps them, for a moment: what is mapped counts as this process's memory.
    ///
    /// # Errors
    ///
    /// A table cannot be mapped, or the clock not be read.
    pub fn open(&self) -> io::Result<OpenNetfilterFlows> {
        Ok(OpenNetfilterFlows {
            v4: self.v4.open(self.seed).map_err(io::Error::other)?,
            v6: self.v6.open(self.seed).map_err(io::Error::other)?,
            now: now()?,
        })
    }
}

impl OpenNetfilterFlows {
    /// Notes that packets of a connection are to pass untouched for now; with its backend, how they
    /// will be translated. What the programs know better stays.
    pub fn note(&self, connection: &Connection, backend: Option<BackendId>) {
        match connection.client.ip() {
            IpAddr::V4(_) => note(&self.v4, connection, backend, self.now),
            IpAddr::V6(_) => note(&self.v6, connection, backend, self.now),
        }
    }

    /// Has the programs translate a connection from now on that was noted with its backend, while
    /// `forget` has netfilter forget it. False if there was no room for its records, or netfilter has
    /// not forgotten it: it goes on with the connection.
    #[must_use]
    pub fn take_over(&self, connection: &Connection, forget: impl FnOnce() -> bool) -> bool {
        let taken = match connection.client.ip() {
            IpAddr::V4(_) => take_over(&self.v4, connection, forget),
            IpAddr::V6(_) => take_over(&self.v6, connection, forget),
        };
        taken.is_some()
    }

    /// Forgets a connection that netfilter does not translate any more.
    pub fn expire(&self, connection: &Connection) {
        match connection.client.ip() {
            IpAddr::V4(_) => expire(&self.v4, connection, self.now),
            IpAddr::V6(_) => expire(&self.v6, connection, self.now),
        }
    }
}

/// An IP version's addresses as they are in a connection.
trait FromIp: Address {
    fn from_ip(ip: IpAddr) -> Option<Self>;
}

impl FromIp for V4 {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }
}

impl FromIp for V6 {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V6(address) => Some(address.into()),
            IpAddr::V4(_) => None,
        }
    }
}

/// The tuples of a client's packets, before and after they are translated.
fn tuples<A: FromIp>(connection: &Connection) -> Option<[Tuple<A>; 2]> {
    let tuple = |source: SocketAddr, destination: SocketAddr| {
        Some(Tuple {
            source: A::from_ip(source.ip())?,
            destination: A::from_ip(destination.ip())?,
            source_port: Port::new(source.port()),
            destination_port: Port::new(destination.port()),
        })
    };
    Some([
        tuple(connection.client, connection.frontend)?,
        tuple(connection.source, connection.endpoint)?,
    ])
}

/// How a connection's packets travel: as the pipeline has it for new flows.
fn flags_of(connection: &Connection) -> u32 {
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    let is_masqueraded = connection.source.ip() != connection.client.ip();
    let is_hairpin = connection.endpoint.ip() == connection.client.ip();
    flow_flags::of_protocol(connection.protocol)
        | flag(!connection.is_established, flow_flags::EMBRYONIC)
        | flag(is_masqueraded, flow_flags::REDIRECT)
        | flag(is_masqueraded && is_hairpin, flow_flags::HAIRPIN)
}

/// Where a connection's replies are seen.
fn edge_of_replies(connection: &Connection) -> Edge {
    if flags_of(connection) & flow_flags::REDIRECT == 0 {
        Edge::Egress
    } else {
        Edge::Ingress
    }
}

fn note<A: FromIp>(
    table: &OpenFlowTable<A>,
    connection: &Connection,
    backend: Option<BackendId>,
    now: u32,
) {
    let Some(tuples) = tuples::<A>(connection) else {
        return;
    };
    let Some(backend) = backend else {
        let key = KeyParts::of(&tuples[0], connection.protocol, Edge::Ingress);
        let flags = flags_of(connection) | flow_flags::NETFILTER | flow_flags::REPLY;
        // Without room a connection is as one that nobody knows.
        table.insert(&record((key, key), NONE, flags, now));
        return;
    };
    if table.insert(&reply_record(&tuples, connection, backend, now)) {
        table.insert(&client_record(&tuples, connection, backend, now));
    }
}

/// The record of a connection's replies, which are left to netfilter.
fn reply_record<'a, A: Address>(
    [client, wire]: &'a [Tuple<A>; 2],
    connection: &Connection,
    backend: BackendId,
    now: u32,
) -> NewRecord<'a, A> {
    let key = KeyParts::of_answers(wire, connection.protocol, edge_of_replies(connection));
    let answers = KeyParts::of_answers(client, 0, Edge::Ingress);
    let seen = if connection.is_established {
        flow_flags::SEEN_REPLY
    } else {
        0
    };
    let flags = flags_of(connection) | flow_flags::NETFILTER | flow_flags::REPLY | seen;
    record((key, answers), backend, flags, now)
}

/// The record of a connection's packets from its client, which are left to netfilter.
fn client_record<'a, A: Address>(
    [client, wire]: &'a [Tuple<A>; 2],
    connection: &Connection,
    backend: BackendId,
    now: u32,
) -> NewRecord<'a, A> {
    let key = KeyParts::of(client, connection.protocol, Edge::Ingress);
    let translated = KeyParts::of(wire, 0, Edge::Ingress);
    let flags = flags_of(connection) | flow_flags::NETFILTER;
    record((key, translated), backend, flags, now)
}

fn record<'a, A: Address>(
    (key, tuple): (KeyParts<'a, A>, KeyParts<'a, A>),
    backend: BackendId,
    flags: u32,
    now: u32,
) -> NewRecord<'a, A> {
    NewRecord {
        key,
        tuple,
        backend: backend.index,
        generation: backend.generation,
        service: backend.service,
        packets: 0,
        client_end: 0,
        flags,
        now,
    }
}

/// What the programs send past the stack netfilter does not see: it can forget that afterwards. Of
/// what goes through the stack it would see a translated packet, and, as long as it has the tuple of
/// its answers, give it another source port, which ends a TCP connection. So segments of the client wait
/// meanwhile; one that has interrupted this very thread is dropped, and sent again. A datagram would
/// not be, and a flow of UDP outlives another port. Packets of the endpoint come untranslated to the
/// programs only when netfilter has forgotten the connection.
fn take_over<A: FromIp>(
    table: &OpenFlowTable<A>,
    connection: &Connection,
    forget: impl FnOnce() -> bool,
) -> Option<()> {
    let [client, wire] = tuples::<A>(connection)?;
    let number = connection.protocol;
    let reply_key = KeyParts::of_answers(&wire, number, edge_of_replies(connection));
    let client_key = KeyParts::of(&client, number, Edge::Ingress);
    let reply = table.find(&reply_key)?;
    let record = table.find(&client_key)?;
    let flags = |record: &Record<'_, A>, is_taken| {
        let others = record.flags() & !flow_flags::NETFILTER;
        others | if is_taken { 0 } else { flow_flags::NETFILTER }
    };
    reply.set_flags(flags(&reply, true));
    let waits = number == protocol::TCP && record.flags() & flow_flags::REDIRECT == 0;
    let held = waits.then(|| table.hold(&client_key)).flatten();
    let is_forgotten = if let Some(held) = held {
        let held_since = Instant::now();
        while held_since.elapsed() < ON_THE_WAY {
            std::hint::spin_loop();
        }
        let is_forgotten = forget();
        held.release(flags(&record, is_forgotten));
        is_forgotten
    } else {
        record.set_flags(flags(&record, true));
        let is_forgotten = forget();
        record.set_flags(flags(&record, is_forgotten));
        is_forgotten
    };
    reply.set_flags(flags(&reply, is_forgotten));
    is_forgotten.then_some(())
}

fn expire<A: FromIp>(table: &OpenFlowTable<A>, connection: &Connection, now: u32) {
    const LONG_AGO: u32 = 1 << 30;
    let Some([client, wire]) = tuples::<A>(connection) else {
        return;
    };
    let number = connection.protocol;
    for key in [
        KeyParts::of(&client, number, Edge::Ingress),
        KeyParts::of_answers(&wire, number, edge_of_replies(connection)),
    ] {
        let record = table.find(&key);
        if let Some(record) = record.filter(|it| it.flags() & flow_flags::NETFILTER != 0) {
            record.set_last_seen(now.wrapping_sub(LONG_AGO));
        }
    }
}
