//! A flow record as it was read, whatever its IP version.

use std::net::{IpAddr, SocketAddr};

use proxy_ebpf::flow_table::Record;
use proxy_ebpf::layout::{Address, Tuple};

/// A flow record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination of the packets that it is for.
    pub key: [SocketAddr; 2],
    /// What they become.
    pub tuple: [SocketAddr; 2],
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation when it was picked.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
    /// Packets that it has translated.
    pub packets: u32,
    /// Bits of [`proxy_ebpf::layout::flow_flags`].
    pub flags: u32,
    /// When a packet last used it, in [`proxy_ebpf::layout::ticks`].
    pub last_seen: u32,
}

impl FlowRecord {
    /// Copies a record; `None` where a program has replaced it meanwhile.
    pub fn of<A: Address + Into<IpAddr>>(record: &Record<'_, A>) -> Option<Self> {
        let copy = Self {
            protocol: record.key.protocol,
            key: ends(&record.key.tuple),
            tuple: ends(&record.tuple),
            backend: record.backend,
            generation: record.generation,
            service: record.service,
            packets: record.packets.get(),
            flags: record.flags(),
            last_seen: record.last_seen(),
        };
        record.is_unchanged().then_some(copy)
    }
}

fn ends<A: Address + Into<IpAddr>>(tuple: &Tuple<A>) -> [SocketAddr; 2] {
    [
        SocketAddr::new(tuple.source.into(), tuple.source_port.number()),
        SocketAddr::new(tuple.destination.into(), tuple.destination_port.number()),
    ]
}
