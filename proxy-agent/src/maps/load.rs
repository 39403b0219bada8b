//! Loading the eBPF object.

use std::path::Path;

use aya::Ebpf;
use aya::maps::{MapData, MapInfo, PerCpuArray};
use aya::programs::{SchedClassifier, Xdp};
use proxy_ebpf::layout::{DEVICE_ADDRESSES, FILTER_WORDS, NAT_PORTS};
use tracing::{info, warn};

use super::filter::Filter;
use super::handles::Open;
use super::kernel::{FamilyMaps, KernelMaps};
use super::left_out::LeftOut;
use super::mapped::MappedArray;
use super::object::{SocketScope, object};
use super::programs::{ProgramName, classifier, load_usual};
use super::sizes::MapSizes;
use super::standing::Sockets;
use super::xdp::{XdpDevices, xdp};
use super::{ForeignFlows, MapError, Pins, Predecessor, RecordTables};

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

/// Makes the object with new maps, or those in a folder, and loads the programs that every
/// node needs.
fn create(sizes: MapSizes, scope: SocketScope, folder: Option<&Path>) -> Result<Ebpf, MapError> {
    let mut object = object(sizes, scope, folder)?;
    load_usual(&mut object)?;
    Ok(object)
}

impl Loaded {
    fn new(mut object: Ebpf, sizes: MapSizes, origin: Origin) -> Result<Self, MapError> {
        let records = RecordTables::of(&object)?;
        let foreign = ForeignFlows::of(&object)?;
        let bits = MappedArray::open(&mut object, "FILTER", FILTER_WORDS)?;
        let filter = Filter::of(&object, bits)?;
        let maps = KernelMaps {
            v4: FamilyMaps {
                frontends: Open::open(&mut object, "FRONTENDS_V4", sizes.frontends)?,
                node_addresses: Open::open(&mut object, "NODE_ADDRS_V4", sizes.node_addresses)?,
                device_addresses: Open::open(&mut object, "DEVICE_ADDRS_V4", DEVICE_ADDRESSES)?,
                backends: Open::open(&mut object, "BACKENDS_V4", sizes.backends)?,
                source_ranges: Open::open(&mut object, "SOURCE_RANGES_V4", sizes.frontends)?,
                cluster_ips: Open::open(&mut object, "CLUSTER_IPS_V4", sizes.cluster_ips())?,
                settings: Open::open(&mut object, "SETTINGS_V4", 1)?,
                backend_traffic: Open::open(&mut object, "BACKEND_TRAFFIC_V4", sizes.backends)?,
            },
            v6: FamilyMaps {
                frontends: Open::open(&mut object, "FRONTENDS_V6", sizes.frontends)?,
                node_addresses: Open::open(&mut object, "NODE_ADDRS_V6", sizes.node_addresses)?,
                device_addresses: Open::open(&mut object, "DEVICE_ADDRS_V6", DEVICE_ADDRESSES)?,
                backends: Open::open(&mut object, "BACKENDS_V6", sizes.backends)?,
                source_ranges: Open::open(&mut object, "SOURCE_RANGES_V6", sizes.frontends)?,
                cluster_ips: Open::open(&mut object, "CLUSTER_IPS_V6", sizes.cluster_ips())?,
                settings: Open::open(&mut object, "SETTINGS_V6", 1)?,
                backend_traffic: Open::open(&mut object, "BACKEND_TRAFFIC_V6", sizes.backends)?,
            },
            slots: Open::open(&mut object, "SLOTS", sizes.slots.div_ceil(2))?,
            nat_ports: Open::open(&mut object, "NAT_PORTS", NAT_PORTS)?,
            service_traffic: Open::open(&mut object, "SERVICE_TRAFFIC", sizes.services())?,
            sockets: Sockets::of(&mut object)?,
            counters: counters(&mut object)?,
            filter,
        };
        Ok(Self {
            maps,
            xdp_devices: XdpDevices::of(&mut object)?,
            left_out: LeftOut::of(&mut object)?,
            records,
            foreign,
            programs: object,
            origin,
            predecessor: None,
        })
    }
}

fn counters(object: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, MapError> {
    const NAME: &str = "COUNTERS";
    let map = object.take_map(NAME).ok_or(MapError::Missing(NAME))?;
    PerCpuArray::try_from(map).map_err(|source| MapError::Write { map: NAME, source })
}
