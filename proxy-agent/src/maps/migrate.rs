//! Carrying over to new maps what the last agent's maps hold, when sizes have changed.
#![expect(unsafe_code, reason = "a command of bpf(2) on elements of any type")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapType};
use proxy_ebpf::layout::{FlowSeed, Lifetime, MapSpec, V4, V6, maps};

use super::MapError;
use super::batch::for_each_raw;
use super::flow_table::FlowTable;
use super::layout5::{self, OldFlowTables};
use super::syscall::{Command, bpf};

/// The maps of the last agent, whose programs still run.
pub struct Predecessor {
    /// Those that its programs at sockets go on filling until the new ones have taken over, as
    /// they were, and the new ones.
    sockets: Vec<(MapData, MapData)>,
    flows: FlowMigration,
    /// What the old programs call; the kernel empties it once it is held by nobody.
    _stages: Option<MapData>,
}

/// The layout of the last agent's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OldLayout {
    /// That of this agent.
    Same,
    /// The one before.
    Layout5,
}

impl Predecessor {
    /// Copies the content of the maps in `folder` to the new ones, whose flows have their
    /// places by `seed`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or does not fit.
    pub(super) fn migrate(
        folder: &Path,
        layout: OldLayout,
        new: &Ebpf,
        seed: FlowSeed,
    ) -> Result<Self, MapError> {
        let mut sockets = Vec::new();
        let carried = maps::ALL
            .iter()
            .filter(|map| map.lifetime.is_carried() && map.lifetime != Lifetime::FilledByPackets);
        for MapSpec { name, lifetime, .. } in carried {
            let read = |source| MapError::Write { map: name, source };
            let pin = folder.join(name);
            let may_be_absent = *lifetime == Lifetime::CarriedIfThere || layout != OldLayout::Same;
            // The seed is this object's already.
            if (may_be_absent && !pin.exists()) || *name == maps::FLOW_SEED.name {
                continue;
            }
            let old = MapData::from_pin(pin).map_err(read)?;
            let new = new.map(name).ok_or(MapError::Missing(name))?;
            let new = reopened(new).map_err(read)?;
            let is_settings = [maps::SETTINGS_V4.name, maps::SETTINGS_V6.name].contains(name);
            let copied = if is_settings && layout == OldLayout::Layout5 {
                copy_extended(&old, &new, &layout5::timeouts())
            } else {
                copy(&old, &new, UpdateFlag::Any)
            };
            copied.map_err(|source| MapError::Read { map: name, source })?;
            if *lifetime == Lifetime::FilledBySockets {
                sockets.push((old, new));
            }
        }
        let flows = FlowMigration::new(folder, layout, new, seed)?;
        flows.copy()?;
        let stages = MapData::from_pin(folder.join(maps::STAGES.name)).ok();
        Ok(Self {
            sockets,
            flows,
            _stages: stages,
        })
    }

    /// Copies what the old programs of sockets have remembered since; to be called when they
    /// remember no more.
    ///
    /// # Errors
    ///
    /// The kernel's, of bpf(2).
    pub fn migrate_sockets(&self) -> io::Result<()> {
        let mut sockets = self.sockets.iter();
        sockets.try_for_each(|(old, new)| copy(old, new, UpdateFlag::NoExist))
    }

    /// Copies what the old programs have made since; to be called when the new ones have
    /// taken over.
    ///
    /// # Errors
    ///
    /// A table cannot be read or mapped.
    pub fn migrate_remaining(self) -> io::Result<()> {
        self.flows.copy().map_err(io::Error::other)
    }
}

/// The flow records of the last agent, and the tables into which they are carried over.
struct FlowMigration {
    old: OldFlows,
    v4: FlowTable<V4>,
    v6: FlowTable<V6>,
    seed: FlowSeed,
}

enum OldFlows {
    Same(Box<(FlowTable<V4>, FlowTable<V6>)>),
    Layout5(Box<[OldFlowTables; 2]>),
}

impl FlowMigration {
    fn new(folder: &Path, layout: OldLayout, new: &Ebpf, seed: FlowSeed) -> Result<Self, MapError> {
        let old = match layout {
            OldLayout::Same => OldFlows::Same(Box::new((
                FlowTable::of_pin(folder, maps::FLOWS_V4)?,
                FlowTable::of_pin(folder, maps::FLOWS_V6)?,
            ))),
            OldLayout::Layout5 => OldFlows::Layout5(Box::new([
                OldFlowTables::open(folder, ["FLOWS_V4", "OPENING_V4"])?,
                OldFlowTables::open(folder, ["FLOWS_V6", "OPENING_V6"])?,
            ])),
        };
        Ok(Self {
            old,
            v4: FlowTable::of(new, maps::FLOWS_V4)?,
            v6: FlowTable::of(new, maps::FLOWS_V6)?,
            seed,
        })
    }

    /// Copies the records that are not there.
    fn copy(&self) -> Result<(), MapError> {
        let (v4, v6) = (self.v4.open(self.seed)?, self.v6.open(self.seed)?);
        match &self.old {
            OldFlows::Same(old) => {
                let (old_v4, old_v6) = &**old;
                old_v4.for_each(|record| v4.copy(record))?;
                old_v6.for_each(|record| v6.copy(record))
            }
            OldFlows::Layout5(old) => {
                let [old_v4, old_v6] = &**old;
                old_v4.copy_to(&v4)?;
                old_v6.copy_to(&v6)
            }
        }
    }
}

/// A map of an object, by a descriptor of its own.
pub(super) fn handle(object: &Ebpf, name: &'static str) -> Result<MapData, MapError> {
    let map = object.map(name).ok_or(MapError::Missing(name))?;
    reopened(map).map_err(|source| MapError::Write { map: name, source })
}

/// A descriptor of its own for a map. (To open one by its id takes `CAP_SYS_ADMIN`.)
fn reopened(map: &Map) -> Result<MapData, aya::maps::MapError> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)) = map
    else {
        return Err(aya::maps::MapError::InvalidMapType { map_type: 0 });
    };
    let descriptor = data.fd().as_fd().try_clone_to_owned();
    MapData::from_fd(descriptor.map_err(aya::maps::MapError::IoError)?)
}

/// What becomes of elements that are there.
#[derive(Clone, Copy)]
pub(super) enum UpdateFlag {
    Any,
    NoExist,
}

/// Copies every element; of an array, those that were ever written.
fn copy(old: &MapData, new: &MapData, existing: UpdateFlag) -> io::Result<()> {
    let info = old.info().map_err(io::Error::other)?;
    let is_array = matches!(info.map_type(), Ok(MapType::Array));
    let sizes = [info.key_size() as usize, info.value_size() as usize];
    let mut result = Ok(());
    for_each_raw(old, sizes, |key, value| {
        let is_unwritten = is_array && value.iter().all(|byte| *byte == 0);
        if result.is_ok() && !is_unwritten {
            result = update(new, key, value, existing);
        }
    })?;
    result
}

/// Copies the one element of an array, whose new value goes on with `tail`.
fn copy_extended(old: &MapData, new: &MapData, tail: &[u8]) -> io::Result<()> {
    let info = old.info().map_err(io::Error::other)?;
    let sizes = [info.key_size() as usize, info.value_size() as usize];
    let mut result = Ok(());
    for_each_raw(old, sizes, |key, value| {
        if result.is_ok() {
            result = update(new, key, &[value, tail].concat(), UpdateFlag::Any);
        }
    })?;
    result
}

/// The member of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct Update {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_NOEXIST` of `linux/bpf.h`.
const ONLY_NEW: u64 = 1;

pub(super) fn update(
    map: &MapData,
    key: &[u8],
    value: &[u8],
    existing: UpdateFlag,
) -> io::Result<()> {
    let mut update = Update {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: match existing {
            UpdateFlag::Any => 0,
            UpdateFlag::NoExist => ONLY_NEW,
        },
    };
    // SAFETY: key and value have the sizes of the map's elements.
    match unsafe { bpf(Command::MapUpdate, &mut update) } {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.map(drop),
    }
}
