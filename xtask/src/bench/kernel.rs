//! The agent's maps and programs in the kernel, read from outside of it.

use std::{collections::BTreeMap, fs, net::SocketAddrV4, path::Path};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, MapInfo},
};
use proxy_ebpf::layout::{Backend, Frontend, FrontendKey, Port, SlotPair, V4};

/// TCP's number in an IP header.
const TCP: u8 = 6;

/// The IPv4 maps of a running agent.
pub(super) struct AgentMaps {
    frontends: HashMap<MapData, FrontendKey<V4>, Frontend>,
    slots: Array<MapData, SlotPair>,
    backends: Array<MapData, Backend<V4>>,
    bytes: u64,
}

impl AgentMaps {
    /// The maps that a process has open.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let open = open_maps(pid)?;
        Ok(Self {
            frontends: HashMap::try_from(Map::HashMap(by_name(&open, "FRONTENDS_V4")?))?,
            slots: array(&open, "SLOTS")?,
            backends: array(&open, "BACKENDS_V4")?,
            bytes: open.iter().map(|map| map.bytes).sum(),
        })
    }

    /// What the kernel says that all of them take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether new connections to a frontend may go to an endpoint.
    pub(super) fn serve(&self, frontend: SocketAddrV4, endpoint: SocketAddrV4) -> Result<bool> {
        let (address, port) = ((*frontend.ip()).into(), Port::new(frontend.port()));
        let found = match self.frontends.get(&FrontendKey::new(address, port, TCP), 0) {
            Err(MapError::KeyNotFound) => return Ok(false),
            found => found?,
        };
        // The newest backends are the likeliest to be the last of a set.
        for position in (found.cluster.start..found.cluster.start + found.cluster.len).rev() {
            let pair = self.slots.get(&(position >> 1), 0)?;
            let backend = self.backends.get(&pair.0[position as usize & 1], 0)?;
            let is_it = backend.address == (*endpoint.ip()).into()
                && backend.port == Port::new(endpoint.port());
            if is_it && backend.is_current(backend.generation) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A map that a process has open.
struct OpenMap {
    id: u32,
    bytes: u64,
}

/// From /proc/PID/fdinfo (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c).
fn open_maps(pid: u32) -> Result<Vec<OpenMap>> {
    let maps = descriptors(pid)?;
    let maps = maps.iter().filter_map(|it| {
        Some(OpenMap {
            id: number(it, "map_id:")?.try_into().ok()?,
            bytes: number(it, "memlock:")?,
        })
    });
    let mut maps: Vec<_> = maps.collect();
    maps.sort_unstable_by_key(|map| map.id);
    maps.dedup_by_key(|map| map.id);
    Ok(maps)
}

/// How often a program ran, and for how long, while the kernel counts (`BPF_ENABLE_STATS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

/// The programs that a process has open, by name; from /proc/PID/fdinfo
/// (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c).
pub(super) fn runs_of_programs(pid: u32) -> Result<BTreeMap<String, Runs>> {
    let mut names = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        names.extend(
            program
                .name_as_str()
                .map(|it| (program.id(), it.to_owned())),
        );
    }
    let found = descriptors(pid)?;
    let found = found.iter().filter_map(|it| {
        let id = number(it, "prog_id:")?.try_into().ok()?;
        let runs = Runs {
            count: number(it, "run_cnt:")?,
            nanoseconds: number(it, "run_time_ns:")?,
        };
        Some((names.get(&id)?.clone(), runs))
    });
    Ok(found.collect())
}

/// What the kernel says of each descriptor of a process.
fn descriptors(pid: u32) -> Result<Vec<String>> {
    let directory = Path::new("/proc").join(pid.to_string()).join("fdinfo");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("{}: read", directory.display()))?;
    // Some may be closed meanwhile.
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(texts.collect())
}

fn number(description: &str, name: &str) -> Option<u64> {
    let mut lines = description.lines();
    let line = lines.find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

fn by_name(open: &[OpenMap], name: &str) -> Result<MapData> {
    let is_named = |map: &&OpenMap| {
        MapInfo::from_id(map.id).is_ok_and(|info| info.name_as_str() == Some(name))
    };
    let found = open.iter().find(is_named);
    let found = found.with_context(|| format!("the agent has no map {name}"))?;
    Ok(MapData::from_id(found.id)?)
}

fn array<T: Pod>(open: &[OpenMap], name: &str) -> Result<Array<MapData, T>> {
    Ok(Array::try_from(Map::Array(by_name(open, name)?))?)
}
