//! An event of the data path as it was read, whatever its IP version.

use std::net::{IpAddr, SocketAddr};

use proxy_ebpf::layout::{Address, Bytes, Counter, TraceEvent, TraceKind, Tuple, UNKNOWN, V4, V6};

/// An event of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRecord {
    /// When, in nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub time: u64,
    /// What it tells.
    pub kind: TraceKind,
    /// Who sends: of [`proxy_ebpf::pipeline::Client`] the number.
    pub client: u8,
    /// IP protocol number; 0 where the packet does not show it.
    pub protocol: u8,
    /// Source and destination of the packet; of a call the source is unspecified.
    pub ends: [SocketAddr; 2],
    /// What they become, of a new flow.
    pub translated: [SocketAddr; 2],
    /// The Service port's id.
    pub service: Option<u32>,
    /// Index of the backend.
    pub backend: Option<u32>,
    /// Index of the device; none at a socket.
    pub device: Option<u32>,
    /// Why.
    pub reason: Option<Counter>,
    /// Bits of [`proxy_ebpf::layout::flow_flags`].
    pub flags: u32,
}

impl TraceRecord {
    /// The event; `None` of a kind that this program does not know.
    pub fn of<A: Address + Into<IpAddr>>(event: &TraceEvent<A>) -> Option<Self> {
        let known = |number: u32| Some(number).filter(|it| *it != UNKNOWN);
        let reason = known(event.reason).and_then(|it| Counter::ALL.get(it as usize));
        Some(Self {
            time: event.time,
            kind: *TraceKind::ALL.get(usize::from(event.kind))?,
            client: event.client,
            protocol: event.protocol,
            ends: ends(&event.tuple),
            translated: ends(&event.translated),
            service: known(event.service),
            backend: known(event.backend),
            device: Some(event.device).filter(|it| *it != 0),
            reason: reason.map(|(counter, _)| *counter),
            flags: event.flags,
        })
    }

    /// The event in an entry of the ring buffer, whose length says of which IP version it is.
    pub(super) fn read(entry: &[u8]) -> Option<Self> {
        if entry.len() == size_of::<TraceEvent<V4>>() {
            Self::of::<V4>(&value(entry)?)
        } else {
            Self::of::<V6>(&value(entry)?)
        }
    }
}

#[expect(unsafe_code, reason = "reads any value from checked bytes")]
fn value<T: Bytes>(bytes: &[u8]) -> Option<T> {
    // SAFETY: `bytes` has the size of `T`, and any bytes are a `T`.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn ends<A: Address + Into<IpAddr>>(tuple: &Tuple<A>) -> [SocketAddr; 2] {
    [
        SocketAddr::new(tuple.source.into(), tuple.source_port.number()),
        SocketAddr::new(tuple.destination.into(), tuple.destination_port.number()),
    ]
}
