//! What a planner knows, for others to read.

use std::net::SocketAddr;

use proxy_ebpf::layout::maps;

use super::planner::{Planner, at};
use super::write::{BackendId, FrontendId};
use crate::model::desired::{Endpoint, PortName};
use crate::model::object::{Family, Unanswered};

/// A port, and where its connections go.
#[derive(Clone, Copy, Debug)]
pub struct PortSets<'a> {
    /// Which one.
    pub name: &'a PortName,
    /// Its endpoints with the indices of their backends.
    pub backends: &'a [(Endpoint, u32)],
    /// Backend indices of the cluster set and of the local set, or tables of them.
    pub sets: [&'a [u32]; 2],
    /// What its Service says of connections whose endpoint does not answer.
    pub unanswered: Option<Unanswered>,
}

impl Planner {
    /// Number of ports in the kernel.
    pub fn programmed(&self) -> usize {
        self.ports.len()
    }

    /// Every port with its id and the indices of its backends.
    pub fn ports(&self) -> impl Iterator<Item = (&PortName, u32, &[(Endpoint, u32)])> {
        let ports = self.ports.iter();
        ports.map(|(name, port)| (&**name, port.service, &*port.backends))
    }

    /// Every port with its sets.
    pub fn sets(&self) -> impl Iterator<Item = PortSets<'_>> {
        self.ports.iter().map(|(name, port)| {
            let cluster = usize::try_from(port.cluster).unwrap_or(usize::MAX);
            let (cluster, local) = port.slots.split_at(cluster.min(port.slots.len()));
            PortSets {
                name,
                backends: &port.backends,
                sets: [cluster, local],
                unanswered: port.unanswered,
            }
        })
    }

    /// Whether a Service says itself that endpoints are avoided which do not answer.
    pub fn has_avoiding(&self) -> bool {
        self.avoiding > 0
    }

    /// The generation of a backend.
    pub fn generation(&self, family: Family, index: u32) -> u32 {
        self.backends[at(family)].generation(index)
    }

    /// The backend of an endpoint behind a frontend.
    pub fn backend_of(&self, frontend: &FrontendId, endpoint: SocketAddr) -> Option<BackendId> {
        let name = self.owners.get(frontend)?;
        let port = self.ports.get(name)?;
        let mut backends = port.backends.iter();
        let (_, index) = backends.find(|(known, _)| known.socket() == endpoint)?;
        Some(BackendId {
            index: *index,
            generation: self.backends[at(name.family)].generation(*index),
            service: port.service,
        })
    }

    /// Elements in use and elements that there are, by map. What waits for a grace
    /// period counts as in use.
    pub fn usage(&self) -> [(&'static str, u64, u64); 5] {
        let count = |used: usize| u64::try_from(used).unwrap_or(u64::MAX);
        let (frontends, backends) = (self.capacity.frontends, self.capacity.backends);
        let slots = u64::from(self.capacity.slots);
        [
            (
                maps::FRONTENDS_V4.name,
                self.frontends[0].into(),
                frontends.into(),
            ),
            (
                maps::FRONTENDS_V6.name,
                self.frontends[1].into(),
                frontends.into(),
            ),
            (
                maps::BACKENDS_V4.name,
                count(self.backends[0].used()),
                backends.into(),
            ),
            (
                maps::BACKENDS_V6.name,
                count(self.backends[1].used()),
                backends.into(),
            ),
            (maps::SLOTS.name, slots - self.slots.available(), slots),
        ]
    }
}
