//! The maps in the kernel.

use std::borrow::{Borrow, BorrowMut};
use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, IterableMap as _, MapData, PerCpuArray};
use proxy_ebpf::layout::{
    Address, Allowed, Backend, ClusterIp, Counter, Frontend, FrontendKey, NatPort, NodeAddress,
    Port, Settings, SlotPair, SocketCookie, SocketKey, SocketRecord, SourceRange, Traffic, V4, V6,
};

use super::filter::{Filter, FilterMending};
use super::mapped::MappedArray;
use super::translate::{self, Either};
use super::{MapError, Maps, Readable, batch, read};
use crate::model::object::Family;
use crate::plan::{Content, Write};

/// The maps of one IP version.
pub(super) struct FamilyMaps<A: Pod>
where
    FrontendKey<A>: Pod,
    Backend<A>: Pod,
    SourceRange<A>: Pod,
    Settings<A>: Pod,
    SocketKey<A>: Pod,
    SocketRecord<A>: Pod,
{
    pub(super) frontends: Table<FrontendKey<A>, Frontend>,
    pub(super) node_addresses: Table<A, NodeAddress>,
    pub(super) device_addresses: Table<u32, A>,
    pub(super) backends: MappedArray<Backend<A>>,
    pub(super) source_ranges: Trie<SourceRange<A>>,
    pub(super) cluster_ips: Table<A, ClusterIp>,
    pub(super) settings: Array<MapData, Settings<A>>,
    pub(super) traffic: MappedArray<Traffic>,
    pub(super) sockets: HashMap<MapData, SocketKey<A>, SocketRecord<A>>,
}

impl<A: Address + Pod> FamilyMaps<A>
where
    FrontendKey<A>: Pod,
    Backend<A>: Pod,
    SourceRange<A>: Pod,
    Settings<A>: Pod,
    SocketKey<A>: Pod,
    SocketRecord<A>: Pod,
{
    fn backend_state(
        &mut self,
        cookie: SocketCookie,
        address: A,
        port: u16,
    ) -> Option<BackendState> {
        let record = self.sockets.get(&SocketKey::connected(cookie), 0).ok()?;
        if !record.is_connected_to(&address, Port::new(port)) {
            return None;
        }
        let backend = self.backends.get(record.backend).ok()?;
        Some(if backend.is_current(record.generation) {
            BackendState::Serving
        } else if backend.resets(record.generation) {
            BackendState::Gone
        } else {
            BackendState::Ended
        })
    }
}

/// How the endpoint is to which a socket's connection was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It serves.
    Serving,
    /// Its life has ended.
    Ended,
    /// It has ended for so long that connections are reset.
    Gone,
}

/// A hash map with its name, for errors.
pub(super) struct Table<K, V> {
    pub(super) name: &'static str,
    pub(super) map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Hands out every element.
    fn for_each(&self, take: impl FnMut(K, V)) -> Result<(), MapError> {
        batch::for_each(self.map.map(), take).map_err(|source| MapError::Read {
            map: self.name,
            source,
        })
    }

    pub(super) fn set(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        let name = self.name;
        self.map
            .insert(key, value, 0)
            .map_err(|source| MapError::Write { map: name, source })
    }

    pub(super) fn remove(&mut self, key: &K) -> Result<(), MapError> {
        let name = self.name;
        gone(self.map.remove(key)).map_err(|source| MapError::Write { map: name, source })
    }
}

/// A trie of prefixes with its name, for errors.
pub(super) struct Trie<K> {
    pub(super) name: &'static str,
    pub(super) map: LpmTrie<MapData, K, Allowed>,
}

impl<K: Pod> Trie<K> {
    /// Every prefix, with its length in bits.
    fn prefixes(&self) -> Result<Vec<(u32, K)>, MapError> {
        let keys = self.map.keys();
        let prefixes = keys.map(|key| key.map(|key| (key.prefix_len(), key.data())));
        prefixes
            .collect::<Result<_, _>>()
            .map_err(|source| MapError::Write {
                map: self.name,
                source,
            })
    }

    fn set(&mut self, (prefix, data): (u32, K)) -> Result<(), MapError> {
        let name = self.name;
        self.map
            .insert(&Key::new(prefix, data), 1, 0)
            .map_err(|source| MapError::Write { map: name, source })
    }

    fn remove(&mut self, (prefix, data): (u32, K)) -> Result<(), MapError> {
        let name = self.name;
        gone(self.map.remove(&Key::new(prefix, data)))
            .map_err(|source| MapError::Write { map: name, source })
    }
}

/// What was not there is gone, too.
fn gone(removed: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match removed {
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// The maps in the kernel.
pub struct KernelMaps {
    pub(super) v4: FamilyMaps<V4>,
    pub(super) v6: FamilyMaps<V6>,
    pub(super) slots: MappedArray<SlotPair>,
    pub(super) nat_ports: MappedArray<NatPort>,
    pub(super) service_traffic: MappedArray<Traffic>,
    pub(super) counters: PerCpuArray<MapData, u64>,
    pub(super) filter: Filter,
}

impl KernelMaps {
    /// The value of a counter, over all CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        self.counters
            .get(&(counter as u32), 0)
            .map(|values| values.iter().sum())
            .map_err(|source| MapError::Write {
                map: "COUNTERS",
                source,
            })
    }

    /// How `peer` is as an endpoint, if the connection of the socket with this cookie was
    /// translated to it.
    pub fn backend_state(
        &mut self,
        cookie: SocketCookie,
        peer: SocketAddr,
    ) -> Option<BackendState> {
        match peer.ip() {
            IpAddr::V4(address) => self.v4.backend_state(cookie, address.into(), peer.port()),
            IpAddr::V6(address) => self.v6.backend_state(cookie, address.into(), peer.port()),
        }
    }

    /// What was translated for a Service port.
    pub fn service_traffic(&mut self, service: u32) -> Result<Traffic, MapError> {
        self.service_traffic.get(service)
    }

    /// What was translated for a backend.
    pub fn backend_traffic(&mut self, family: Family, index: u32) -> Result<Traffic, MapError> {
        match family {
            Family::V4 => self.v4.traffic.get(index),
            Family::V6 => self.v6.traffic.get(index),
        }
    }

    /// Fills a run of slots, two in an element.
    fn write_slots(&mut self, start: u32, backends: &[u32]) -> Result<(), MapError> {
        for (position, backend) in (start..).zip(backends) {
            let mut pair = self.slots.get(position >> 1)?;
            pair.0[position as usize & 1] = *backend;
            self.slots.set(position >> 1, pair)?;
        }
        Ok(())
    }

    fn end_backend(&mut self, family: Family, index: u32, generation: u32) -> Result<(), MapError> {
        match family {
            Family::V4 => {
                let mut backend = self.v4.backends.get(index)?;
                backend.generation = generation;
                self.v4.backends.set(index, backend)
            }
            Family::V6 => {
                let mut backend = self.v6.backends.get(index)?;
                backend.generation = generation;
                self.v6.backends.set(index, backend)
            }
        }
    }
}

impl Maps for KernelMaps {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        self.filter.admit(write)?;
        match write {
            Write::Backend { index, entry } => match translate::backend(entry) {
                Either::V4(backend) => self.v4.write_backend(*index, backend),
                Either::V6(backend) => self.v6.write_backend(*index, backend),
            },
            Write::Service { service } => self.service_traffic.set(*service, Traffic::default()),
            Write::Slots { start, backends } => self.write_slots(*start, backends),
            Write::Frontend { id, value } => match translate::frontend_key(id) {
                Either::V4(key) => self.v4.frontends.set(&key, value),
                Either::V6(key) => self.v6.frontends.set(&key, value),
            },
            Write::RemoveFrontend { id } => match translate::frontend_key(id) {
                Either::V4(key) => self.v4.frontends.remove(&key),
                Either::V6(key) => self.v6.frontends.remove(&key),
            },
            Write::EndBackend {
                family,
                index,
                generation,
            } => self.end_backend(*family, *index, *generation),
            Write::SourceRange { service, range } => {
                match translate::source_range(*service, *range) {
                    Either::V4(range) => self.v4.source_ranges.set(range),
                    Either::V6(range) => self.v6.source_ranges.set(range),
                }
            }
            Write::RemoveSourceRange { service, range } => {
                match translate::source_range(*service, *range) {
                    Either::V4(range) => self.v4.source_ranges.remove(range),
                    Either::V6(range) => self.v6.source_ranges.remove(range),
                }
            }
            Write::ClusterIp { address } => match address {
                IpAddr::V4(address) => self.v4.cluster_ips.set(&(*address).into(), &1),
                IpAddr::V6(address) => self.v6.cluster_ips.set(&(*address).into(), &1),
            },
            Write::RemoveClusterIp { address } => match address {
                IpAddr::V4(address) => self.v4.cluster_ips.remove(&(*address).into()),
                IpAddr::V6(address) => self.v6.cluster_ips.remove(&(*address).into()),
            },
            Write::NodeAddress { address } => match address {
                IpAddr::V4(address) => self.v4.node_addresses.set(&(*address).into(), &1),
                IpAddr::V6(address) => self.v6.node_addresses.set(&(*address).into(), &1),
            },
            Write::RemoveNodeAddress { address } => match address {
                IpAddr::V4(address) => self.v4.node_addresses.remove(&(*address).into()),
                IpAddr::V6(address) => self.v6.node_addresses.remove(&(*address).into()),
            },
            Write::DeviceAddress { device, address } => match address {
                IpAddr::V4(address) => self.v4.device_addresses.set(device, &(*address).into()),
                IpAddr::V6(address) => self.v6.device_addresses.set(device, &(*address).into()),
            },
            Write::RemoveDeviceAddress { device, family } => match family {
                Family::V4 => self.v4.device_addresses.remove(device),
                Family::V6 => self.v6.device_addresses.remove(device),
            },
            Write::NatPorts { ports } => (0..)
                .zip(ports.iter())
                .try_for_each(|(position, port)| self.nat_ports.set(position, Port::new(*port))),
            Write::SettingsV4(settings) => store(&mut self.v4.settings, "SETTINGS_V4", *settings),
            Write::SettingsV6(settings) => store(&mut self.v6.settings, "SETTINGS_V6", *settings),
        }
    }
}

impl Readable for KernelMaps {
    fn read(&mut self) -> Result<Content, MapError> {
        let mut content = Content::default();
        self.v4.read(Family::V4, &mut content)?;
        self.v6.read(Family::V6, &mut content)?;
        let slots = Content::last_slot(&content.frontends);
        let pairs = self.slots.copy(slots.div_ceil(2))?;
        content.slots = pairs.iter().flat_map(|pair| pair.0).collect();
        content.settings = (
            fetch(&self.v4.settings, "SETTINGS_V4")?,
            fetch(&self.v6.settings, "SETTINGS_V6")?,
        );
        Ok(content)
    }

    fn admit(&mut self, content: &Content) -> Result<(), MapError> {
        self.filter.fill(content)
    }

    fn mend_filter(&mut self, content: &Content) -> Result<FilterMending, MapError> {
        self.filter.mend(content)
    }
}

impl<A> FamilyMaps<A>
where
    A: Address + Pod + Into<IpAddr>,
    FrontendKey<A>: Pod,
    Backend<A>: Pod,
    SourceRange<A>: Pod,
    Settings<A>: Pod,
    SocketKey<A>: Pod,
    SocketRecord<A>: Pod,
{
    /// Fills a backend's element; with a new life its traffic is counted from zero.
    fn write_backend(&mut self, index: u32, backend: Backend<A>) -> Result<(), MapError> {
        let before = self.backends.get(index)?;
        self.backends.set(index, backend)?;
        if before.generation == backend.generation {
            return Ok(());
        }
        self.traffic.set(index, Traffic::default())
    }

    fn read(&self, family: Family, content: &mut Content) -> Result<(), MapError> {
        self.frontends.for_each(|key, value| {
            content.frontends.extend(read::frontend(&key, value));
        })?;
        let backends = self.backends.copy(self.backends.len())?;
        let backends = (0..).zip(&backends);
        let used =
            backends.filter_map(|(index, backend)| Some((family, index, read::element(backend)?)));
        content.backends.extend(used);
        for (prefix, range) in self.source_ranges.prefixes()? {
            let range = read::source_range(prefix, &range);
            content.source_ranges.extend(range);
        }
        self.cluster_ips.for_each(|address, _| {
            content.cluster_ips.insert(address.into());
        })?;
        self.node_addresses.for_each(|address, _| {
            content.node_addresses.insert(address.into());
        })?;
        self.device_addresses.for_each(|device, address| {
            let key = (device, family);
            content.device_addresses.insert(key, address.into());
        })
    }
}

fn store<T: BorrowMut<MapData>, V: Pod>(
    array: &mut Array<T, V>,
    name: &'static str,
    value: V,
) -> Result<(), MapError> {
    array
        .set(0, value, 0)
        .map_err(|source| MapError::Write { map: name, source })
}

fn fetch<T: Borrow<MapData>, V: Pod>(
    array: &Array<T, V>,
    name: &'static str,
) -> Result<V, MapError> {
    array
        .get(&0, 0)
        .map_err(|source| MapError::Write { map: name, source })
}
