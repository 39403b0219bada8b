//! Carrying over to new maps what the last agent's maps hold, when sizes have changed.
#![expect(unsafe_code, reason = "a command of bpf(2) on elements of any type")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::{Map, MapData, MapType};
use aya::{Ebpf, maps};

use super::MapError;
use super::batch::for_each_raw;
use super::syscall::{Command, bpf};

/// Maps of what the data path itself makes: it goes on making it until the new programs
/// have taken over.
const LIVING: [&str; 8] = [
    "FLOWS_V4",
    "FLOWS_V6",
    "OPENING_V4",
    "OPENING_V6",
    "AFFINITY_V4",
    "AFFINITY_V6",
    SOCKETS[0],
    SOCKETS[1],
];

/// Those that programs at sockets make.
const SOCKETS: [&str; 2] = ["SOCKETS_V4", "SOCKETS_V6"];

/// The programs that the others call.
const STAGES: &str = "STAGES";

/// Maps that agents of this layout have not always had.
const YOUNGER: [&str; 1] = ["FILTER"];

/// Not carried over: counters begin anew, and new programs have their own stages.
const OWN: [&str; 3] = ["COUNTERS", "ANSWERS", STAGES];

/// The maps of the last agent, whose programs still run.
pub struct Predecessor {
    /// Each with its name, as it was, and the new one.
    living: Vec<(&'static str, MapData, MapData)>,
    /// What the old programs call; the kernel empties it once it is held by nobody.
    _stages: Option<MapData>,
}

impl Predecessor {
    /// Copies the content of the maps in `folder`, called `names`, to the new ones.
    ///
    /// # Errors
    ///
    /// It cannot be read, or does not fit.
    pub(super) fn carry(
        folder: &Path,
        names: impl Iterator<Item = &'static str>,
        new: &Ebpf,
    ) -> Result<Self, MapError> {
        let mut living = Vec::new();
        for name in names.filter(|name| !OWN.contains(name)) {
            let read = |source| MapError::Write { map: name, source };
            let pin = folder.join(name);
            if YOUNGER.contains(&name) && !pin.exists() {
                continue;
            }
            let old = MapData::from_pin(pin).map_err(read)?;
            let new = new.map(name).ok_or(MapError::Missing(name))?;
            let new = reopened(new).map_err(read)?;
            copy(&old, &new, Existing::Replaced)
                .map_err(|source| MapError::Read { map: name, source })?;
            if LIVING.contains(&name) {
                living.push((name, old, new));
            }
        }
        let stages = MapData::from_pin(folder.join(STAGES)).ok();
        Ok(Self {
            living,
            _stages: stages,
        })
    }

    /// Copies what the old programs of sockets have remembered since; to be called when they
    /// remember no more.
    ///
    /// # Errors
    ///
    /// The kernel's, of bpf(2).
    pub fn carry_sockets(&self) -> io::Result<()> {
        self.carry_where(|name| SOCKETS.contains(&name))
    }

    /// Copies what the old programs have made since; to be called when the new ones have
    /// taken over.
    ///
    /// # Errors
    ///
    /// The kernel's, of bpf(2).
    pub fn carry_the_rest(self) -> io::Result<()> {
        self.carry_where(|name| !SOCKETS.contains(&name))
    }

    fn carry_where(&self, is_wanted: impl Fn(&'static str) -> bool) -> io::Result<()> {
        let mut maps = self.living.iter().filter(|(name, ..)| is_wanted(name));
        maps.try_for_each(|(_, old, new)| copy(old, new, Existing::Kept))
    }
}

/// A map of an object, by a descriptor of its own.
pub(super) fn handle(object: &Ebpf, name: &'static str) -> Result<MapData, MapError> {
    let map = object.map(name).ok_or(MapError::Missing(name))?;
    reopened(map).map_err(|source| MapError::Write { map: name, source })
}

/// A descriptor of its own for a map. (To open one by its id takes `CAP_SYS_ADMIN`.)
fn reopened(map: &Map) -> Result<MapData, maps::MapError> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)) = map
    else {
        return Err(maps::MapError::InvalidMapType { map_type: 0 });
    };
    let descriptor = data.fd().as_fd().try_clone_to_owned();
    MapData::from_fd(descriptor.map_err(maps::MapError::IoError)?)
}

/// What becomes of elements that are there.
#[derive(Clone, Copy)]
pub(super) enum Existing {
    Replaced,
    Kept,
}

/// Copies every element; of an array, those that were ever written.
fn copy(old: &MapData, new: &MapData, existing: Existing) -> io::Result<()> {
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
    existing: Existing,
) -> io::Result<()> {
    let mut update = Update {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: match existing {
            Existing::Replaced => 0,
            Existing::Kept => ONLY_NEW,
        },
    };
    // SAFETY: key and value have the sizes of the map's elements.
    match unsafe { bpf(Command::MapUpdate, &mut update) } {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.map(drop),
    }
}
