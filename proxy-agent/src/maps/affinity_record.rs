//! What is remembered of a client, as it was read, whatever its IP version.

use std::net::IpAddr;

use proxy_ebpf::layout::{Address, Affinity, AffinityKey};

/// Where a client's last connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityRecord {
    /// The client.
    pub client: IpAddr,
    /// The Service port's id.
    pub service: u32,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation then.
    pub generation: u32,
    /// When that was, in [`proxy_ebpf::layout::ticks`].
    pub last_seen: u32,
}

impl AffinityRecord {
    /// An element of `AFFINITY_*`.
    pub fn of<A: Address + Into<IpAddr>>(key: &AffinityKey<A>, value: Affinity) -> Self {
        Self {
            client: key.client.into(),
            service: key.service,
            backend: value.backend,
            generation: value.generation,
            last_seen: value.last_seen,
        }
    }
}
