//! Flows that netfilter translates: they began before the programs were attached, and go
//! on as they are.
#![expect(unsafe_code, reason = "records as the bytes that they are")]

use std::io;
use std::net::{IpAddr, SocketAddr};

use aya::Ebpf;
use aya::maps::MapData;
use proxy_ebpf::layout::{
    Address, Edge, Flow, FlowKey, Port, RelaxedU32, Tuple, V4, V6, flow_flags, maps,
};

use super::MapError;
use super::clock::now;
use super::migrate::{UpdateFlag, handle, update};
use crate::host::Connection;

/// The tables in which such flows are noted.
pub struct NetfilterFlows {
    v4: MapData,
    v6: MapData,
}

impl NetfilterFlows {
    /// The tables of a loaded object.
    pub(super) fn of(object: &Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            v4: handle(object, maps::FLOWS_V4.name)?,
            v6: handle(object, maps::FLOWS_V6.name)?,
        })
    }

    /// Notes that packets of these connections are to pass untouched; what the programs
    /// know better stays.
    ///
    /// # Errors
    ///
    /// The kernel's, of bpf(2).
    pub fn note(&self, connections: &[Connection]) -> io::Result<()> {
        let now = now()?;
        connections.iter().try_for_each(|connection| {
            let ends = (connection.source, connection.destination);
            match (ends.0.ip(), ends.1.ip()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    let tuple = tuple::<V4>([a.into(), b.into()], ends);
                    insert(&self.v4, tuple, connection.protocol, now)
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    let tuple = tuple::<V6>([a.into(), b.into()], ends);
                    insert(&self.v6, tuple, connection.protocol, now)
                }
                _ => Ok(()),
            }
        })
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

fn insert<A: Address>(map: &MapData, tuple: Tuple<A>, protocol: u8, now: u32) -> io::Result<()> {
    let key = FlowKey::new(tuple, protocol, Edge::Ingress);
    let flow = Flow {
        tuple,
        // Of no backend.
        backend: u32::MAX,
        generation: 0,
        service: u32::MAX,
        last_seen: RelaxedU32::new(now),
        flags: RelaxedU32::new(flow_flags::NETFILTER | flow_flags::REPLY),
        packets: RelaxedU32::new(0),
    };
    update(map, bytes(&key), bytes(&flow), UpdateFlag::NoExist)
}

/// The bytes of a key or a record.
fn bytes<T>(value: &T) -> &[u8] {
    // SAFETY: types of the layout have no padding, and nobody writes to them meanwhile.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}
