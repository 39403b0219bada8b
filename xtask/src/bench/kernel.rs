//! The agent's maps in the kernel, read from outside of it.

use std::{fs, net::SocketAddrV4, path::Path};

use anyhow::{Context as _, Result};
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
    let directory = Path::new("/proc").join(pid.to_string()).join("fdinfo");
    let mut maps: Vec<OpenMap> = fs::read_dir(&directory)
        .with_context(|| format!("{}: read", directory.display()))?
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line?.trim().parse::<u64>().ok()
            };
            Some(OpenMap {
                id: number("map_id:")?.try_into().ok()?,
                bytes: number("memlock:")?,
            })
        })
        .collect();
    maps.sort_unstable_by_key(|map| map.id);
    maps.dedup_by_key(|map| map.id);
    Ok(maps)
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
