//! Flows that netfilter translates: they began before the programs were attached, and go
//! on as they are.

use std::io;
use std::net::{IpAddr, SocketAddr};

use aya::Ebpf;
use proxy_ebpf::flow_table::NewRecord;
use proxy_ebpf::layout::{
    Address, Edge, FlowSeed, KeyParts, Port, Tuple, V4, V6, flow_flags, maps,
};

use super::MapError;
use super::clock::now;
use super::flow_table::{FlowTable, OpenFlowTable};
use crate::host::Connection;

/// The tables in which such flows are noted.
pub struct NetfilterFlows {
    v4: FlowTable<V4>,
    v6: FlowTable<V6>,
    seed: FlowSeed,
}

impl NetfilterFlows {
    /// The tables of a loaded object.
    pub(super) fn of(object: &Ebpf, seed: FlowSeed) -> Result<Self, MapError> {
        Ok(Self {
            v4: FlowTable::of(object, maps::FLOWS_V4)?,
            v6: FlowTable::of(object, maps::FLOWS_V6)?,
            seed,
        })
    }

    /// Notes that packets of these connections are to pass untouched; what the programs
    /// know better stays.
    ///
    /// # Errors
    ///
    /// A table cannot be mapped, or the clock not be read.
    pub fn note(&self, connections: &[Connection]) -> io::Result<()> {
        let now = now()?;
        let v4 = self.v4.open(self.seed).map_err(io::Error::other)?;
        let v6 = self.v6.open(self.seed).map_err(io::Error::other)?;
        for connection in connections {
            let ends = (connection.source, connection.destination);
            match (ends.0.ip(), ends.1.ip()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    let tuple = tuple([a.into(), b.into()], ends);
                    insert(&v4, tuple, connection.protocol, now);
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    let tuple = tuple([a.into(), b.into()], ends);
                    insert(&v6, tuple, connection.protocol, now);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn tuple<A>([source, destination]: [A; 2], ends: (SocketAddr, SocketAddr)) -> Tuple<A> {
    Tuple {
        source,
        destination,
        source_port: Port::new(ends.0.port()),
        destination_port: Port::new(ends.1.port()),
    }
}

fn insert<A: Address>(table: &OpenFlowTable<A>, tuple: Tuple<A>, number: u8, now: u32) {
    let key = KeyParts::of(&tuple, number, Edge::Ingress);
    // Without room a connection is as one that nobody knows.
    table.insert(&NewRecord {
        key,
        tuple: key,
        // Of no backend.
        backend: u32::MAX,
        generation: 0,
        service: u32::MAX,
        packets: 0,
        client_end: 0,
        flags: flow_flags::NETFILTER | flow_flags::REPLY | flow_flags::of_protocol(number),
        now,
    });
}
