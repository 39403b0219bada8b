//! The maps that an agent has pinned, for whoever wants to see what they hold. To read them nothing is
//! written and nothing is locked: the agent may run, or be gone.

mod copy;
mod error;
mod withdraw;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use proxy_ebpf::layout::{
    Address, Affinity, AffinityKey, Counter, FrontendKey, Liveness, NatPort, Port, ServiceName,
    SlotPair, Timeouts, Traffic, V4, V6, VERSION, maps,
};

pub use error::PinnedMapsError;

use super::MapError;
use super::affinity_record::AffinityRecord;
use super::elements::{Indexed as _, Keyed, ReadElements, content};
use super::flow_record::FlowRecord;
use super::flow_table::FlowTable;
use super::handles::{Hash, MapSource as _, Open as _, PinnedFolder};
use super::mapped::MappedArray;
use super::pins::{is_bpffs, pinned_versions};
use super::table::{FamilyElements, FamilyMaps};
use crate::model::object::Family;
use crate::plan::Content;

/// The maps that an agent has pinned.
pub struct PinnedMaps {
    folder: PathBuf,
    v4: FamilyMaps<V4>,
    v6: FamilyMaps<V6>,
    slots: MappedArray<SlotPair>,
    nat_ports: MappedArray<NatPort>,
    service_traffic: MappedArray<Traffic>,
    /// None of an older agent.
    service_names: Option<Hash<u32, ServiceName>>,
    affinity_v4: Hash<AffinityKey<V4>, Affinity>,
    affinity_v6: Hash<AffinityKey<V6>, Affinity>,
}

impl PinnedMaps {
    /// Opens the maps in the BPF file system at `bpffs`.
    ///
    /// # Errors
    ///
    /// There are none, they are of another layout version, or this process may not read them.
    pub fn open(bpffs: &Path) -> Result<Self, PinnedMapsError> {
        if !is_bpffs(bpffs).unwrap_or(false) {
            return Err(PinnedMapsError::NoFileSystem(bpffs.to_owned()));
        }
        let versions = pinned_versions(bpffs);
        let versions = versions.map_err(|source| PinnedMapsError::of_folder(bpffs, source))?;
        if versions.is_empty() {
            return Err(PinnedMapsError::Absent(bpffs.to_owned()));
        }
        let Some((_, folder)) = versions.iter().find(|(version, _)| *version == VERSION) else {
            let found: Vec<_> = versions.iter().map(|(it, _)| it.to_string()).collect();
            return Err(PinnedMapsError::OtherVersion {
                bpffs: bpffs.to_owned(),
                found: found.join(", "),
            });
        };
        Self::open_folder(folder).map_err(|error| PinnedMapsError::of_map(bpffs, error))
    }

    fn open_folder(folder: &Path) -> Result<Self, MapError> {
        let mut from = PinnedFolder(folder);
        let has_names = folder.join(maps::SERVICE_NAMES.name).exists();
        Ok(Self {
            v4: FamilyMaps::<V4>::open(&mut from)?,
            v6: FamilyMaps::<V6>::open(&mut from)?,
            slots: MappedArray::open(&mut from, maps::SLOTS)?,
            nat_ports: MappedArray::open(&mut from, maps::NAT_PORTS)?,
            service_traffic: MappedArray::open(&mut from, maps::SERVICE_TRAFFIC)?,
            service_names: has_names
                .then(|| Hash::open(&mut from, maps::SERVICE_NAMES))
                .transpose()?,
            affinity_v4: Hash::open(&mut from, maps::AFFINITY_V4)?,
            affinity_v6: Hash::open(&mut from, maps::AFFINITY_V6)?,
            folder: folder.to_owned(),
        })
    }

    /// The data path's counters, over all CPUs.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>, MapError> {
        let name = maps::COUNTERS.name;
        let failed = |source| MapError::Open { map: name, source };
        let map = PinnedFolder(&self.folder).take(name)?;
        let map: PerCpuArray<MapData, u64> = map.try_into().map_err(failed)?;
        // Of an older agent there may be fewer.
        let values = Counter::ALL.iter().map_while(|(counter, _)| {
            let values = map.get(&(*counter as u32), 0).ok()?;
            Some((*counter, values.iter().sum()))
        });
        Ok(values.collect())
    }

    /// The folder of their pins.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of a Service port.
    pub fn service_name(&self, id: u32) -> Option<ServiceName> {
        self.service_names.as_ref()?.get(&id)
    }

    /// The id of the Service port that is reached at a destination: at an address of its own, or as
    /// a NodePort.
    pub fn service_at(&self, destination: SocketAddr, protocol: u8) -> Option<u32> {
        let port = Port::new(destination.port());
        match destination.ip() {
            IpAddr::V4(address) => self.v4.service_at(address.into(), port, protocol),
            IpAddr::V6(address) => self.v6.service_at(address.into(), port, protocol),
        }
    }

    /// What an agent has written.
    pub fn content(&mut self) -> Result<Content, MapError> {
        content(self)
    }

    /// The names of Service ports, by their ids.
    pub fn service_names(&self) -> Result<BTreeMap<u32, Arc<str>>, MapError> {
        let mut names = BTreeMap::new();
        self.service_names.for_each(|service, name| {
            names.insert(service, name.text().into());
        })?;
        Ok(names)
    }

    /// What was translated, by Service port id.
    pub fn service_traffic(&self) -> Result<Vec<Traffic>, MapError> {
        self.service_traffic.copy(self.service_traffic.len())
    }

    /// What was translated, by index of the backend.
    pub fn backend_traffic(&self, family: Family) -> Result<Vec<Traffic>, MapError> {
        match family {
            Family::V4 => self.v4.backend_traffic.copy(self.v4.backend_traffic.len()),
            Family::V6 => self.v6.backend_traffic.copy(self.v6.backend_traffic.len()),
        }
    }

    /// Whether endpoints answer, by index of the backend.
    pub fn backend_liveness(&self, family: Family) -> Result<Vec<Liveness>, MapError> {
        match family {
            Family::V4 => self
                .v4
                .backend_liveness
                .copy(self.v4.backend_liveness.len()),
            Family::V6 => self
                .v6
                .backend_liveness
                .copy(self.v6.backend_liveness.len()),
        }
    }

    /// How long flows are remembered.
    pub fn timeouts(&mut self) -> Result<Timeouts, MapError> {
        Ok(self.v4.current_settings.get(0)?.current().timeouts)
    }

    /// How many elements each map of `usage` has room for: frontends and backends of either
    /// family, and slots.
    pub fn capacities(&self) -> Result<Vec<(&'static str, u64)>, MapError> {
        Ok(vec![
            (maps::FRONTENDS_V4.name, self.v4.frontends.capacity()?),
            (maps::FRONTENDS_V6.name, self.v6.frontends.capacity()?),
            (maps::BACKENDS_V4.name, self.v4.backends.len().into()),
            (maps::BACKENDS_V6.name, self.v6.backends.len().into()),
            (maps::SLOTS.name, u64::from(self.slots.len()) * 2),
        ])
    }

    /// Hands every flow record of a family to `take`, one after the other: the table is read where
    /// it lies, a part at a time, and no packet waits.
    pub fn for_each_flow(
        &self,
        family: Family,
        mut take: impl FnMut(FlowRecord),
    ) -> Result<(), MapError> {
        match family {
            Family::V4 => {
                let table = FlowTable::<V4>::of_pin(&self.folder, maps::FLOWS_V4)?;
                table.for_each(|record| FlowRecord::of(record).into_iter().for_each(&mut take))
            }
            Family::V6 => {
                let table = FlowTable::<V6>::of_pin(&self.folder, maps::FLOWS_V6)?;
                table.for_each(|record| FlowRecord::of(record).into_iter().for_each(&mut take))
            }
        }
    }

    /// How many flow records of a family there is room for.
    pub fn flow_capacity(&self, family: Family) -> Result<u64, MapError> {
        Ok(match family {
            Family::V4 => FlowTable::<V4>::of_pin(&self.folder, maps::FLOWS_V4)?.capacity(),
            Family::V6 => FlowTable::<V6>::of_pin(&self.folder, maps::FLOWS_V6)?.capacity(),
        })
    }

    /// Hands everything that is remembered of clients to `take`.
    pub fn for_each_affinity(&self, mut take: impl FnMut(AffinityRecord)) -> Result<(), MapError> {
        self.affinity_v4
            .for_each(|key, value| take(AffinityRecord::of(&key, value)))?;
        self.affinity_v6
            .for_each(|key, value| take(AffinityRecord::of(&key, value)))
    }
}

impl<A: Address + aya::Pod> FamilyMaps<A>
where
    FrontendKey<A>: aya::Pod,
{
    fn service_at(&self, address: A, port: Port, protocol: u8) -> Option<u32> {
        let at = |address| {
            self.frontends
                .get(&FrontendKey::new(address, port, protocol))
        };
        let is_of_node = || self.node_addresses.get(&address).is_some();
        let found = at(address).or_else(|| at(A::default()).filter(|_| is_of_node()));
        found.map(|frontend| frontend.service)
    }
}

impl ReadElements for PinnedMaps {
    fn v4(&mut self) -> &mut impl FamilyElements<V4> {
        &mut self.v4
    }

    fn v6(&mut self) -> &mut impl FamilyElements<V6> {
        &mut self.v6
    }

    fn service_names(&mut self) -> &mut impl Keyed<u32, ServiceName> {
        &mut self.service_names
    }

    fn slots(&self, count: u32) -> Result<Vec<u32>, MapError> {
        self.slots.halves(count)
    }
}
