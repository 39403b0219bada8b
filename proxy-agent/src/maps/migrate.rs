//! Carrying over to new maps what the last agent's maps hold, when sizes have changed.
#![expect(unsafe_code, reason = "a command of bpf(2) on elements of any type")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapType};
use proxy_ebpf::layout::{Lifetime, MapSpec, maps};

use super::MapError;
use super::batch::for_each_raw;
use super::syscall::{Command, bpf};

/// The maps of the last agent, whose programs still run.
pub struct Predecessor {
    /// Those that its programs go on filling until the new ones have taken over, as they were,
    /// and the new ones.
    filled: Vec<(Lifetime, MapData, MapData)>,
    /// What the old programs call; the kernel empties it once it is held by nobody.
    _stages: Option<MapData>,
}

impl Predecessor {
    /// Copies the content of the maps in `folder` to the new ones.
    ///
    /// # Errors
    ///
    /// It cannot be read, or does not fit.
    pub(super) fn migrate(folder: &Path, new: &Ebpf) -> Result<Self, MapError> {
        let mut filled = Vec::new();
        let carried = maps::ALL.iter().filter(|map| map.lifetime.is_carried());
        for MapSpec { name, lifetime, .. } in carried {
            let read = |source| MapError::Write { map: name, source };
            let pin = folder.join(name);
            if *lifetime == Lifetime::CarriedIfThere && !pin.exists() {
                continue;
            }
            let old = MapData::from_pin(pin).map_err(read)?;
            let new = new.map(name).ok_or(MapError::Missing(name))?;
            let new = reopened(new).map_err(read)?;
            copy(&old, &new, UpdateFlag::Any)
                .map_err(|source| MapError::Read { map: name, source })?;
            if lifetime.is_filled_by_programs() {
                filled.push((*lifetime, old, new));
            }
        }
        let stages = MapData::from_pin(folder.join(maps::STAGES.name)).ok();
        Ok(Self {
            filled,
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
        self.carry_again(Lifetime::FilledBySockets)
    }

    /// Copies what the old programs have made since; to be called when the new ones have
    /// taken over.
    ///
    /// # Errors
    ///
    /// The kernel's, of bpf(2).
    pub fn migrate_remaining(self) -> io::Result<()> {
        self.carry_again(Lifetime::FilledByPackets)
    }

    fn carry_again(&self, wanted: Lifetime) -> io::Result<()> {
        let wanted = |(lifetime, ..): &&(Lifetime, _, _)| *lifetime == wanted;
        let mut filled = self.filled.iter().filter(wanted);
        filled.try_for_each(|(_, old, new)| copy(old, new, UpdateFlag::NoExist))
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
    | Map::PerCpuArray(data)) = map
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
