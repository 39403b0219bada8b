//! Loading the eBPF object.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, MapData, MapInfo, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use proxy_ebpf::layout::{
    COUNTERS, DEVICE_ADDRESSES, FRAGMENTS, LEFT_OUT_PODS, NAT_PORTS, STAGES, Stage,
};
use tracing::{info, warn};

use super::kernel::{FamilyMaps, KernelMaps, Table, Trie};
use super::left_out::LeftOut;
use super::mapped::MappedArray;
use super::xdp::{XdpDevices, xdp};
use super::{ForeignFlows, MapError, Pins, Predecessor, RecordTables};

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
    /// Service port ids: each port has a frontend, and one that is replaced has its id
    /// for a moment more.
    pub fn services(self) -> u32 {
        self.frontends.saturating_mul(2)
    }

    /// Every map that outlives the agent, with its number of elements.
    fn by_map(self) -> [(&'static str, u32); 36] {
        [
            ("FRONTENDS_V4", self.frontends),
            ("FRONTENDS_V6", self.frontends),
            ("NODE_ADDRS_V4", self.node_addresses),
            ("NODE_ADDRS_V6", self.node_addresses),
            ("DEVICE_ADDRS_V4", DEVICE_ADDRESSES),
            ("DEVICE_ADDRS_V6", DEVICE_ADDRESSES),
            ("BACKENDS_V4", self.backends),
            ("BACKENDS_V6", self.backends),
            ("FLOWS_V4", self.flows),
            ("FLOWS_V6", self.flows),
            ("OPENING_V4", self.opening()),
            ("OPENING_V6", self.opening()),
            ("AFFINITY_V4", self.affinity()),
            ("AFFINITY_V6", self.affinity()),
            ("SOURCE_RANGES_V4", self.source_ranges()),
            ("SOURCE_RANGES_V6", self.source_ranges()),
            ("CLUSTER_IPS_V4", self.cluster_ips()),
            ("CLUSTER_IPS_V6", self.cluster_ips()),
            ("SETTINGS_V4", 1),
            ("SETTINGS_V6", 1),
            ("SLOTS", self.slots.div_ceil(2)),
            ("NAT_PORTS", NAT_PORTS),
            ("SERVICE_TRAFFIC", self.services()),
            ("BACKEND_TRAFFIC_V4", self.backends),
            ("BACKEND_TRAFFIC_V6", self.backends),
            ("SOCKETS_V4", self.sockets()),
            ("SOCKETS_V6", self.sockets()),
            ("LEFT_OUT", LEFT_OUT_PODS),
            ("LEFT_OUT_LEVELS", 1),
            ("COUNTERS", COUNTERS),
            ("FRAGMENTS_V4", FRAGMENTS),
            ("FRAGMENTS_V6", FRAGMENTS),
            ("ANSWERS", 1),
            ("STAGES", STAGES),
            // What a program leaves to a stage's, which may be the next agent's already.
            ("TUNNEL_V4", 1),
            ("TUNNEL_V6", 1),
        ]
    }

    /// Records of flows that are opening, of one IP version.
    fn opening(self) -> u32 {
        self.flows.div_ceil(2)
    }

    /// Ranges of sources, of one IP version; each costs memory only when it is there.
    fn source_ranges(self) -> u32 {
        self.frontends
    }

    /// ClusterIPs of one IP version, also of Services for which there is no room.
    pub fn cluster_ips(self) -> u32 {
        self.frontends.saturating_mul(2)
    }

    /// Records of sockets, of one IP version: as many as of open flows.
    fn sockets(self) -> u32 {
        self.flows
    }

    /// Clients that are remembered for affinity, of one IP version: as many as there
    /// can be open flows.
    fn affinity(self) -> u32 {
        self.flows.div_ceil(2)
    }
}

/// Whose sockets are served, where sockets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketScope {
    /// The cookie of the host's network namespace.
    pub host_netns: u64,
    /// Whether Pods' sockets are served as well as the host's.
    pub pods: bool,
}

/// A program of the object that runs at devices.
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

    /// Those that every node needs: there are few devices without link-layer headers.
    const USUAL: [Self; 3] = [Self::IngressPod, Self::IngressOutside, Self::Egress];

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
    /// The Pods whose sockets are left alone.
    pub left_out: LeftOut,
    /// Its programs, loaded and not attached.
    pub programs: Ebpf,
    /// Where the maps are from.
    pub origin: Origin,
    /// The tables that the data path itself fills.
    pub records: RecordTables,
    /// For flows that are not the programs'.
    pub foreign: ForeignFlows,
    /// The last agent's maps, where these are only a copy.
    pub predecessor: Option<Predecessor>,
    /// What XDP can do with devices: nothing. Always new, since XDP ends with its agent.
    pub xdp_devices: XdpDevices,
}

/// Where maps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are new, and empty.
    New,
    /// An agent has left them behind.
    Adopted,
}

impl Loaded {
    /// One of the programs.
    pub fn program(&mut self, name: ProgramName) -> Result<&mut SchedClassifier, MapError> {
        classifier(&mut self.programs, name)
    }

    /// The program of XDP, which is not loaded yet.
    pub fn xdp(&mut self) -> Result<&mut Xdp, MapError> {
        xdp(&mut self.programs)
    }
}

/// One of the object's programs, which is loaded now if it was not.
pub(crate) fn classifier(
    object: &mut Ebpf,
    name: ProgramName,
) -> Result<&mut SchedClassifier, MapError> {
    let name = name.as_str();
    let program = classifier_named(object, name)?;
    if program.fd().is_err() {
        let loaded = program.load();
        loaded.map_err(|source| MapError::Program { name, source })?;
    }
    Ok(program)
}

fn classifier_named<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, MapError> {
    object
        .program_mut(name)
        .ok_or(MapError::Missing(name))?
        .try_into()
        .map_err(|source| MapError::Program { name, source })
}

/// Loads the programs of devices, with the maps that an agent has left behind, or else with
/// new ones. Those of sockets are loaded where they are attached, for a kernel may refuse
/// them.
///
/// # Errors
///
/// The kernel is too old, the process lacks a capability, or memory is short.
pub fn load(sizes: MapSizes, scope: SocketScope, pins: Option<&Pins>) -> Result<Loaded, MapError> {
    let Some(pins) = pins else {
        return load_new(sizes, scope, None);
    };
    let folder = pins.maps();
    let taken = match fit(&folder, sizes) {
        Fit::Absent => return load_new(sizes, scope, Some(pins)),
        Fit::Whole => create(sizes, scope, Some(&folder))
            .and_then(|object| Loaded::new(object, sizes, Origin::Adopted)),
        Fit::Resized => load_resized(sizes, scope, pins),
    };
    taken.or_else(|error| {
        let error = anyhow::Error::from(error);
        warn!(
            maps = %folder.display(),
            "what the last agent has left cannot be used, so new maps are made, and \
             connections may break: {error:#}"
        );
        load_new(sizes, scope, Some(pins))
    })
}

/// Loads the programs with new maps that hold what the last agent's do.
fn load_resized(sizes: MapSizes, scope: SocketScope, pins: &Pins) -> Result<Loaded, MapError> {
    let object = create(sizes, scope, None)?;
    let names = sizes.by_map().map(|(name, _)| name);
    let predecessor = Predecessor::carry(&pins.maps(), names.into_iter(), &object)?;
    pin(&object, sizes, pins)?;
    info!("the maps of the last agent have other sizes; their content is carried over");
    let mut loaded = Loaded::new(object, sizes, Origin::Adopted)?;
    loaded.predecessor = Some(predecessor);
    Ok(loaded)
}

/// Loads the programs with new maps, in the place of any that an agent has left behind.
///
/// # Errors
///
/// As of [`load`].
pub fn load_new(
    sizes: MapSizes,
    scope: SocketScope,
    pins: Option<&Pins>,
) -> Result<Loaded, MapError> {
    let object = create(sizes, scope, None)?;
    if let Some(pins) = pins {
        pin(&object, sizes, pins)?;
    }
    Loaded::new(object, sizes, Origin::New)
}

/// Pins the maps in the place of any that are pinned.
fn pin(object: &Ebpf, sizes: MapSizes, pins: &Pins) -> Result<(), MapError> {
    let is_lasting = |(name, _): &(&str, _)| sizes.by_map().iter().any(|(it, _)| it == name);
    pins.replace_maps(|folder| {
        object
            .maps()
            .filter(is_lasting)
            .try_for_each(|(name, map)| {
                map.pin(folder.join(name)).map_err(|source| MapError::Pin {
                    map: name.to_owned(),
                    source,
                })
            })
    })
}

/// Whether pinned maps go with the configured sizes.
enum Fit {
    Absent,
    Resized,
    Whole,
}

fn fit(folder: &Path, sizes: MapSizes) -> Fit {
    if !folder.exists() {
        return Fit::Absent;
    }
    let is_as_large = |(name, size): &(&str, u32)| {
        MapInfo::from_pin(folder.join(name)).is_ok_and(|map| map.max_entries() == *size)
    };
    if sizes.by_map().iter().all(is_as_large) {
        Fit::Whole
    } else {
        Fit::Resized
    }
}

/// Makes an object of the program's code with new maps, or those in a folder, and loads
/// its programs.
fn create(sizes: MapSizes, scope: SocketScope, folder: Option<&Path>) -> Result<Ebpf, MapError> {
    let serves_pods = u8::from(scope.pods);
    let mut loader = EbpfLoader::new();
    loader.override_global("HOST_NETNS", &scope.host_netns, true);
    loader.override_global("SERVES_PODS", &serves_pods, true);
    for (name, size) in sizes.by_map() {
        loader.map_max_entries(name, size);
        if let Some(folder) = folder {
            loader.map_pin_path(name, folder.join(name));
        }
    }
    let mark = network_namespace()?;
    loader.override_global("TRANSLATED_MARK", &mark, true);
    let mut object = loader.load(OBJECT)?;
    for name in ProgramName::USUAL {
        classifier(&mut object, name)?;
    }
    load_stages(&mut object)?;
    Ok(object)
}

/// Loads the programs that the others call, and tells those where they are.
fn load_stages(object: &mut Ebpf) -> Result<(), MapError> {
    const MAP: &str = "STAGES";
    let written = |source| MapError::Write { map: MAP, source };
    for (stage, names) in Stage::ALL {
        for (version, name) in (0..).zip(names) {
            let failed = |source| MapError::Program { name, source };
            let program = classifier_named(object, name)?;
            program.load().map_err(failed)?;
            let program = program
                .fd()
                .and_then(|fd| fd.try_clone().map_err(Into::into))
                .map_err(failed)?;
            let map = object.map_mut(MAP).ok_or(MapError::Missing(MAP))?;
            let mut stages = ProgramArray::try_from(map).map_err(written)?;
            let index = stage.index(version);
            stages.set(index, &program, 0).map_err(written)?;
        }
    }
    Ok(())
}

impl Loaded {
    fn new(mut object: Ebpf, sizes: MapSizes, origin: Origin) -> Result<Self, MapError> {
        let records = RecordTables::of(&object)?;
        let foreign = ForeignFlows::of(&object)?;
        let maps = KernelMaps {
            v4: FamilyMaps {
                frontends: table(&mut object, "FRONTENDS_V4")?,
                node_addresses: table(&mut object, "NODE_ADDRS_V4")?,
                device_addresses: table(&mut object, "DEVICE_ADDRS_V4")?,
                backends: mapped(&mut object, "BACKENDS_V4", sizes.backends)?,
                source_ranges: trie(&mut object, "SOURCE_RANGES_V4")?,
                cluster_ips: table(&mut object, "CLUSTER_IPS_V4")?,
                settings: array(&mut object, "SETTINGS_V4")?,
                traffic: mapped(&mut object, "BACKEND_TRAFFIC_V4", sizes.backends)?,
                sockets: hash(&mut object, "SOCKETS_V4")?,
            },
            v6: FamilyMaps {
                frontends: table(&mut object, "FRONTENDS_V6")?,
                node_addresses: table(&mut object, "NODE_ADDRS_V6")?,
                device_addresses: table(&mut object, "DEVICE_ADDRS_V6")?,
                backends: mapped(&mut object, "BACKENDS_V6", sizes.backends)?,
                source_ranges: trie(&mut object, "SOURCE_RANGES_V6")?,
                cluster_ips: table(&mut object, "CLUSTER_IPS_V6")?,
                settings: array(&mut object, "SETTINGS_V6")?,
                traffic: mapped(&mut object, "BACKEND_TRAFFIC_V6", sizes.backends)?,
                sockets: hash(&mut object, "SOCKETS_V6")?,
            },
            slots: mapped(&mut object, "SLOTS", sizes.slots.div_ceil(2))?,
            nat_ports: mapped(&mut object, "NAT_PORTS", NAT_PORTS)?,
            service_traffic: mapped(&mut object, "SERVICE_TRAFFIC", sizes.services())?,
            counters: counters(&mut object)?,
        };
        let xdp_devices = XdpDevices::of(&mut object)?;
        let left_out = LeftOut::new(
            hash(&mut object, "LEFT_OUT")?,
            array(&mut object, "LEFT_OUT_LEVELS")?,
        );
        Ok(Self {
            maps,
            xdp_devices,
            left_out,
            records,
            foreign,
            programs: object,
            origin,
            predecessor: None,
        })
    }
}

/// A number that no other network namespace of this machine has (`namespaces(7)`), and
/// the same for whoever comes after this agent.
fn network_namespace() -> Result<u32, MapError> {
    let metadata = std::fs::metadata("/proc/self/ns/net").map_err(|source| MapError::System {
        call: "stat of /proc/self/ns/net",
        source,
    })?;
    Ok(u32::try_from(metadata.ino()).unwrap_or(u32::MAX))
}

fn take(object: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, MapError> {
    object.take_map(name).ok_or(MapError::Missing(name))
}

pub(super) fn table<K: Pod, V: Pod>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<Table<K, V>, MapError> {
    let map = hash(object, name)?;
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

fn hash<K: Pod, V: Pod>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, K, V>, MapError> {
    HashMap::try_from(take(object, name)?).map_err(|source| MapError::Write { map: name, source })
}

fn array<V: Pod>(object: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, MapError> {
    Array::try_from(take(object, name)?).map_err(|source| MapError::Write { map: name, source })
}

fn counters(object: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, MapError> {
    const NAME: &str = "COUNTERS";
    PerCpuArray::try_from(take(object, NAME)?)
        .map_err(|source| MapError::Write { map: NAME, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps that no agent finds again: what a program leaves to nobody but itself, and what
    /// XDP ends with.
    const PASSING: [&str; 2] = ["LOOKUP", "XDP_DEVICES"];

    #[test]
    fn every_map_outlives_the_agent_or_is_known_to_pass() {
        let sizes = MapSizes {
            frontends: 1,
            backends: 1,
            slots: 2,
            flows: 2,
            node_addresses: 1,
        };
        let mut loader = EbpfLoader::new();
        for (name, size) in sizes.by_map() {
            loader.map_max_entries(name, size);
        }
        let object = loader.load(OBJECT).unwrap();
        let mut passing: Vec<_> = object
            .maps()
            .map(|(name, _)| name)
            .filter(|name| !name.starts_with('.'))
            .filter(|name| sizes.by_map().iter().all(|(lasting, _)| lasting != name))
            .collect();
        passing.sort_unstable();
        assert_eq!(passing, PASSING);
    }
}
