//! Loading the eBPF object.

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, Pod};
use proxy_ebpf::layout::{NAT_PORTS, Settings};

use super::MapError;
use super::kernel::{FamilyMaps, KernelMaps, Table, Trie};
use super::mapped::MappedArray;

/// The object that the build script has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs"));

/// How many elements the maps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Frontends of one IP version.
    pub frontends: u32,
    /// Backends of one IP version.
    pub backends: u32,
    /// Slots.
    pub slots: u32,
    /// Records of open flows of one IP version; a flow has two. Flows that are opening
    /// have half as many of their own.
    pub flows: u32,
    /// Addresses of this node, of one IP version.
    pub node_addresses: u32,
}

impl MapSizes {
    /// Records of flows that are opening, of one IP version.
    fn opening(self) -> u32 {
        self.flows.div_ceil(2)
    }

    /// Ranges of sources, of one IP version; each costs memory only when it is there.
    fn source_ranges(self) -> u32 {
        self.frontends
    }

    /// ClusterIPs of one IP version, also of Services for which there is no room.
    fn cluster_ips(self) -> u32 {
        self.frontends.saturating_mul(2)
    }

    /// Clients that are remembered for affinity, of one IP version: as many as there
    /// can be open flows.
    fn affinity(self) -> u32 {
        self.flows.div_ceil(2)
    }
}

/// A program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramName {
    /// Ingress of a pod's device.
    IngressPod,
    /// Ingress of any other device.
    IngressOutside,
    /// Ingress of a pod's device without link-layer headers.
    IngressPodIp,
    /// Ingress of any other device without link-layer headers.
    IngressOutsideIp,
    /// Egress of a device.
    Egress,
    /// Egress of a device without link-layer headers.
    EgressIp,
}

impl ProgramName {
    /// All programs.
    pub const ALL: [Self; 6] = [
        Self::IngressPod,
        Self::IngressOutside,
        Self::IngressPodIp,
        Self::IngressOutsideIp,
        Self::Egress,
        Self::EgressIp,
    ];

    /// Its name in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IngressPod => "ingress_pod",
            Self::IngressOutside => "ingress_outside",
            Self::IngressPodIp => "ingress_pod_ip",
            Self::IngressOutsideIp => "ingress_outside_ip",
            Self::Egress => "egress_any",
            Self::EgressIp => "egress_any_ip",
        }
    }
}

/// The loaded object.
pub struct Loaded {
    /// Its maps.
    pub maps: KernelMaps,
    /// Its programs, loaded and not attached.
    pub programs: Ebpf,
}

impl Loaded {
    /// One of the programs.
    pub fn program(&mut self, name: ProgramName) -> Result<&mut SchedClassifier, MapError> {
        classifier(&mut self.programs, name)
    }
}

/// One of the object's programs.
pub(crate) fn classifier(
    object: &mut Ebpf,
    name: ProgramName,
) -> Result<&mut SchedClassifier, MapError> {
    let name = name.as_str();
    object
        .program_mut(name)
        .ok_or(MapError::Missing(name))?
        .try_into()
        .map_err(|source| MapError::Program { name, source })
}

/// Creates the maps and loads the programs.
///
/// # Errors
///
/// The kernel is too old, the process lacks a capability, or memory is short.
pub fn load(sizes: MapSizes) -> Result<Loaded, MapError> {
    let mut loader = EbpfLoader::new();
    for (name, size) in [
        ("FRONTENDS_V4", sizes.frontends),
        ("FRONTENDS_V6", sizes.frontends),
        ("NODE_ADDRS_V4", sizes.node_addresses),
        ("NODE_ADDRS_V6", sizes.node_addresses),
        ("BACKENDS_V4", sizes.backends),
        ("BACKENDS_V6", sizes.backends),
        ("FLOWS_V4", sizes.flows),
        ("FLOWS_V6", sizes.flows),
        ("OPENING_V4", sizes.opening()),
        ("OPENING_V6", sizes.opening()),
        ("AFFINITY_V4", sizes.affinity()),
        ("AFFINITY_V6", sizes.affinity()),
        ("SOURCE_RANGES_V4", sizes.source_ranges()),
        ("SOURCE_RANGES_V6", sizes.source_ranges()),
        ("CLUSTER_IPS_V4", sizes.cluster_ips()),
        ("CLUSTER_IPS_V6", sizes.cluster_ips()),
        ("SLOTS", sizes.slots.div_ceil(2)),
    ] {
        loader.map_max_entries(name, size);
    }
    let mut object = loader.load(OBJECT)?;
    for name in ProgramName::ALL {
        classifier(&mut object, name)?
            .load()
            .map_err(|source| MapError::Program {
                name: name.as_str(),
                source,
            })?;
    }
    let maps = KernelMaps {
        v4: FamilyMaps {
            frontends: table(&mut object, "FRONTENDS_V4")?,
            node_addresses: table(&mut object, "NODE_ADDRS_V4")?,
            backends: mapped(&mut object, "BACKENDS_V4", sizes.backends)?,
            source_ranges: trie(&mut object, "SOURCE_RANGES_V4")?,
            cluster_ips: table(&mut object, "CLUSTER_IPS_V4")?,
            settings: settings(&mut object, "SETTINGS_V4")?,
        },
        v6: FamilyMaps {
            frontends: table(&mut object, "FRONTENDS_V6")?,
            node_addresses: table(&mut object, "NODE_ADDRS_V6")?,
            backends: mapped(&mut object, "BACKENDS_V6", sizes.backends)?,
            source_ranges: trie(&mut object, "SOURCE_RANGES_V6")?,
            cluster_ips: table(&mut object, "CLUSTER_IPS_V6")?,
            settings: settings(&mut object, "SETTINGS_V6")?,
        },
        slots: mapped(&mut object, "SLOTS", sizes.slots.div_ceil(2))?,
        nat_ports: mapped(&mut object, "NAT_PORTS", NAT_PORTS)?,
        counters: counters(&mut object)?,
    };
    Ok(Loaded {
        maps,
        programs: object,
    })
}

fn take(object: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, MapError> {
    object.take_map(name).ok_or(MapError::Missing(name))
}

fn table<K: Pod, V: Pod>(object: &mut Ebpf, name: &'static str) -> Result<Table<K, V>, MapError> {
    let map = HashMap::try_from(take(object, name)?)
        .map_err(|source| MapError::Write { map: name, source })?;
    Ok(Table { name, map })
}

fn trie<K: Pod>(object: &mut Ebpf, name: &'static str) -> Result<Trie<K>, MapError> {
    let map = LpmTrie::try_from(take(object, name)?)
        .map_err(|source| MapError::Write { map: name, source })?;
    Ok(Trie { name, map })
}

fn mapped<A: Pod>(
    object: &mut Ebpf,
    name: &'static str,
    elements: u32,
) -> Result<MappedArray<A>, MapError> {
    match take(object, name)? {
        aya::maps::Map::Array(data) => MappedArray::new(name, data, elements),
        _ => Err(MapError::Missing(name)),
    }
}

fn settings<A>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<Array<MapData, Settings<A>>, MapError>
where
    Settings<A>: Pod,
{
    Array::try_from(take(object, name)?).map_err(|source| MapError::Write { map: name, source })
}

fn counters(object: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, MapError> {
    const NAME: &str = "COUNTERS";
    PerCpuArray::try_from(take(object, NAME)?)
        .map_err(|source| MapError::Write { map: NAME, source })
}
