//! The maps that an agent has pinned, for whoever wants to see what they hold. Nothing is written
//! and nothing is locked: the agent may run, or be gone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{
    Address, Affinity, AffinityKey, NatPort, ServiceName, SlotPair, Timeouts, Traffic, V4, V6,
    VERSION, maps,
};

use super::affinity_record::AffinityRecord;
use super::capabilities::missing_for_maps;
use super::elements::{Indexed as _, Keyed, ReadElements, content};
use super::flow_record::FlowRecord;
use super::flow_table::FlowTable;
use super::handles::{Hash, Open as _, PinnedFolder};
use super::mapped::MappedArray;
use super::pins::{is_bpffs, pinned_versions};
use super::table::{FamilyElements, FamilyMaps};
use super::{MapError, flow_seed, now};
use crate::model::object::Family;
use crate::plan::Content;

/// There are no pinned maps that can be read.
#[derive(Debug, thiserror::Error)]
pub enum PinnedMapsError {
    /// There is no BPF file system.
    #[error(
        "there is no BPF file system at {} (is this the host's mount namespace, and the --bpffs of the agent?)",
        .0.display()
    )]
    NoFileSystem(PathBuf),
    /// Nobody has pinned maps.
    #[error(
        "no agent has pinned maps in {} (is the agent installed on this node, and is this its --bpffs?)",
        .0.display()
    )]
    Absent(PathBuf),
    /// Those of other agents.
    #[error(
        "the maps in {} have layout version {found}, this program reads version {VERSION} (use the proxy-agent of the agent's own image)",
        bpffs.display()
    )]
    OtherVersion {
        /// The file system.
        bpffs: PathBuf,
        /// Their versions.
        found: String,
    },
    /// The process may not read them.
    #[error(
        "not allowed to read the maps in {}: this process lacks {missing} (run it as root, or in the agent's Pod)",
        bpffs.display()
    )]
    Denied {
        /// The file system.
        bpffs: PathBuf,
        /// What it would take.
        missing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
}

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
        let versions = pinned_versions(bpffs).map_err(|source| denied_or(bpffs, source))?;
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
        Self::open_folder(folder).map_err(|error| {
            if is_denied(&error) {
                let bpffs = bpffs.to_owned();
                let source = Box::new(error);
                let missing = missing_for_maps();
                return PinnedMapsError::Denied {
                    bpffs,
                    missing,
                    source,
                };
            }
            error.into()
        })
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

    /// How long flows are remembered.
    pub fn timeouts(&mut self) -> Result<Timeouts, MapError> {
        Ok(self.v4.settings.get(0)?.timeouts)
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

    /// The packet filter; empty of an older agent, which had none.
    fn filter(&self) -> Result<Vec<u64>, MapError> {
        if !self.folder.join(maps::FILTER.name).exists() {
            return Ok(Vec::new());
        }
        let filter = MappedArray::open(&mut PinnedFolder(&self.folder), maps::FILTER)?;
        filter.copy(filter.len())
    }

    /// A copy in memory in which the packet pipeline can run. Buckets of the flow table are read
    /// when they are asked for.
    pub fn memory(&mut self) -> Result<(Memory<V4>, Memory<V6>), MapError> {
        let mut v4 = Memory::default();
        let mut v6 = Memory {
            shared: std::rc::Rc::clone(&v4.shared),
            ..Memory::default()
        };
        let slots = self.content()?.slots;
        v4.shared.slots.replace((0..).zip(slots).collect());
        v4.shared
            .nat_ports
            .replace(self.nat_ports.copy(self.nat_ports.len())?);
        v4.shared.filter_words.replace(self.filter()?);
        v4.shared.flow_seed.set(flow_seed::pinned(&self.folder)?);
        let time = now().map_err(|source| MapError::System {
            call: "clock_gettime",
            source,
        })?;
        v4.shared.now.set(time);
        fill(&mut v4, &mut self.v4)?;
        fill(&mut v6, &mut self.v6)?;
        self.affinity_v4.for_each(|key, value| {
            v4.affinity.get_mut().insert(key, value);
        })?;
        self.affinity_v6.for_each(|key, value| {
            v6.affinity.get_mut().insert(key, value);
        })?;
        FlowTable::of_pin(&self.folder, maps::FLOWS_V4)?.show_in(&mut v4);
        FlowTable::of_pin(&self.folder, maps::FLOWS_V6)?.show_in(&mut v6);
        Ok((v4, v6))
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
        let pairs = self.slots.copy(count.div_ceil(2))?;
        Ok(pairs.iter().flat_map(|pair| pair.0).collect())
    }
}

/// Copies what an agent has written for one IP version.
fn fill<A: Address + Into<IpAddr>>(
    memory: &mut Memory<A>,
    maps: &mut impl FamilyElements<A>,
) -> Result<(), MapError> {
    maps.frontends().for_each(|key, value| {
        memory.frontends.insert(key, value);
    })?;
    maps.node_addresses().for_each(|address, _| {
        memory.node_addresses.insert(address);
    })?;
    maps.device_addresses().for_each(|device, address| {
        memory.device_addresses.insert(device, address);
    })?;
    maps.cluster_ips().for_each(|address, _| {
        memory.cluster_ips.insert(address);
    })?;
    maps.source_ranges().for_each(|range, _| {
        memory.source_ranges.insert(range);
    })?;
    memory.backends = (0..)
        .zip(maps.backends().copy()?)
        .filter(|(_, backend)| backend.generation != 0)
        .collect();
    memory.settings = maps.settings().get(0)?;
    Ok(())
}

fn denied_or(bpffs: &Path, source: io::Error) -> PinnedMapsError {
    match source.kind() {
        io::ErrorKind::NotFound => PinnedMapsError::Absent(bpffs.to_owned()),
        io::ErrorKind::PermissionDenied => PinnedMapsError::Denied {
            bpffs: bpffs.to_owned(),
            missing: missing_for_maps(),
            source: source.into(),
        },
        _ => MapError::System {
            call: "reading the folder of pins",
            source,
        }
        .into(),
    }
}

/// Whether the kernel denies an operation, as bpf(2) does with EPERM and a pin with EACCES.
fn is_denied(error: &MapError) -> bool {
    anyhow::Chain::new(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}
