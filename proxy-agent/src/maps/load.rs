//! Loading the eBPF object.

use std::path::Path;

use aya::Ebpf;
use aya::maps::{MapInfo, PerCpuArray};
use aya::programs::{SchedClassifier, Xdp};
use proxy_ebpf::layout::{FlowSeed, MapSpec, V4, V6, maps};
use tracing::{info, warn};

use super::backend_state::Sockets;
use super::devices::{EdgeDevices, xdp};
use super::elements::Indexed as _;
use super::filter::Filter;
use super::flow_seed;
use super::flow_table::FlowTable;
use super::kernel::KernelMaps;
use super::lasting_maps::{LastingMaps, pinned};
use super::layout5;
use super::migrate::OldLayout;
use super::object::{SocketScope, object};
use super::opt_out::OptOutCgroups;
use super::programs::{ProgramName, classifier, load_usual};
use super::table::{FamilyMaps, SharedMaps};
use super::{Counters, MapError, NetfilterFlows, Pins, Predecessor, RecordTables};
use crate::config::MapSizes;

/// The loaded object.
pub struct Loaded {
    /// Its maps.
    pub maps: KernelMaps,
    /// The Pods whose sockets are left alone.
    pub opt_out: OptOutCgroups,
    /// Its programs, loaded and not attached.
    pub programs: Ebpf,
    /// Where the maps are from.
    pub origin: Origin,
    /// The tables that the data path itself fills.
    pub records: RecordTables,
    /// By which flow records have their places.
    pub flow_seed: FlowSeed,
    /// For flows that are not the programs'.
    pub netfilter_flows: NetfilterFlows,
    /// Those of its maps that outlive the agent.
    pub lasting: LastingMaps,
    /// The last agent's maps, where these are only a copy.
    pub predecessor: Option<Predecessor>,
    /// What XDP can do with devices: nothing. Always new, since XDP ends with its agent.
    pub edge_devices: EdgeDevices,
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
        PinnedMaps::Absent => match pins.maps_of(layout5::VERSION) {
            Some(old) => load_migrated(sizes, scope, pins, (&old, OldLayout::Layout5)),
            None => return load_new(sizes, scope, Some(pins)),
        },
        PinnedMaps::Compatible => load_adopted(sizes, scope, &folder),
        PinnedMaps::Resized => load_migrated(sizes, scope, pins, (&folder, OldLayout::Same)),
    };
    taken.or_else(|error| {
        let error = anyhow::Error::from(error);
        warn!(
            maps = %folder.display(),
            "cannot use the pinned maps of the previous agent; creating new ones, \
             connections may break: {error:#}"
        );
        load_new(sizes, scope, Some(pins))
    })
}

/// Loads the programs with the maps of the last agent.
fn load_adopted(sizes: MapSizes, scope: SocketScope, folder: &Path) -> Result<Loaded, MapError> {
    let seed = flow_seed::pinned(folder)?;
    FlowTable::<V4>::of_pin(folder, maps::FLOWS_V4)?.free_abandoned()?;
    FlowTable::<V6>::of_pin(folder, maps::FLOWS_V6)?.free_abandoned()?;
    let object = create(sizes, scope, seed, Some(folder))?;
    Loaded::new(object, seed, Origin::Adopted)
}

/// Loads the programs with new maps that hold what the last agent's do.
fn load_migrated(
    sizes: MapSizes,
    scope: SocketScope,
    pins: &Pins,
    (folder, layout): (&Path, OldLayout),
) -> Result<Loaded, MapError> {
    let seed = flow_seed::random();
    let object = create(sizes, scope, seed, None)?;
    let predecessor = Predecessor::migrate(folder, layout, &object, seed)?;
    pin(&object, pins)?;
    info!("map sizes or their layout changed; migrating the previous agent's maps");
    let mut loaded = Loaded::new(object, seed, Origin::Adopted)?;
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
    let seed = flow_seed::random();
    let object = create(sizes, scope, seed, None)?;
    if let Some(pins) = pins {
        pin(&object, pins)?;
    }
    Loaded::new(object, seed, Origin::New)
}

/// Pins the maps in the place of any that are pinned.
fn pin(object: &Ebpf, pins: &Pins) -> Result<(), MapError> {
    let maps = LastingMaps::of(object)?;
    pins.replace_maps(|folder| maps.pin(folder))
}

/// Whether pinned maps go with the configured sizes.
enum PinnedMaps {
    Absent,
    Resized,
    Compatible,
}

fn fit(folder: &Path, sizes: MapSizes) -> PinnedMaps {
    if !folder.exists() {
        return PinnedMaps::Absent;
    }
    let is_as_large = |map: &MapSpec| {
        let pinned = MapInfo::from_pin(folder.join(map.name));
        pinned.is_ok_and(|pinned| pinned.max_entries() == sizes.of(map.size))
    };
    if pinned().all(is_as_large) {
        PinnedMaps::Compatible
    } else {
        PinnedMaps::Resized
    }
}

/// Makes the object with new maps, or those in a folder, and loads the programs that every
/// node needs.
fn create(
    sizes: MapSizes,
    scope: SocketScope,
    seed: FlowSeed,
    folder: Option<&Path>,
) -> Result<Ebpf, MapError> {
    let mut object = object(sizes, scope, seed, folder)?;
    load_usual(&mut object)?;
    Ok(object)
}

impl Loaded {
    fn new(mut object: Ebpf, seed: FlowSeed, origin: Origin) -> Result<Self, MapError> {
        let lasting = LastingMaps::of(&object)?;
        let records = RecordTables::of(&object)?;
        let netfilter_flows = NetfilterFlows::of(&object, seed)?;
        let mut shared = SharedMaps::open(&mut object)?;
        shared.flow_seed.set(0, seed)?;
        let maps = KernelMaps {
            v4: FamilyMaps::<V4>::open(&mut object)?,
            v6: FamilyMaps::<V6>::open(&mut object)?,
            slots: shared.slots,
            nat_ports: shared.nat_ports,
            service_traffic: shared.service_traffic,
            service_names: shared.service_names,
            sockets: Sockets::open(&mut object)?,
            counters: counters(&mut object)?,
            filter: Filter::of(&object, shared.filter)?,
        };
        Ok(Self {
            maps,
            edge_devices: EdgeDevices(shared.edge_devices),
            opt_out: OptOutCgroups::new(shared.left_out, shared.left_out_levels),
            records,
            flow_seed: seed,
            netfilter_flows,
            programs: object,
            origin,
            lasting,
            predecessor: None,
        })
    }
}

fn counters(object: &mut Ebpf) -> Result<Counters, MapError> {
    const NAME: &str = maps::COUNTERS.name;
    let map = object.take_map(NAME).ok_or(MapError::Missing(NAME))?;
    let counters = PerCpuArray::try_from(map);
    counters
        .map(Counters::new)
        .map_err(|source| MapError::Write { map: NAME, source })
}
