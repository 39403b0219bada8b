//! The maps in memory.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use proxy_ebpf::host::{Memory, Shared};
use proxy_ebpf::layout::{Address, Port, V4, V6};

use super::translate::{self, Either};
use super::{MapError, Maps, Readable, filter, read};
use crate::model::object::Family;
use crate::plan::{Content, Write};

/// The maps in memory, as the packet pipeline can use them on the host.
pub struct FakeMaps {
    /// The maps of IPv4.
    pub v4: Memory<V4>,
    /// The maps of IPv6.
    pub v6: Memory<V6>,
    /// `DEVICE_ADDRS_*`, which no packet in memory asks for.
    pub device_addresses: BTreeMap<(u32, Family), IpAddr>,
}

impl Default for FakeMaps {
    fn default() -> Self {
        let shared = Rc::new(Shared::default());
        shared.filter.replace(Some(HashSet::new()));
        Self {
            v4: Memory {
                shared: Rc::clone(&shared),
                ..Memory::default()
            },
            v6: Memory {
                shared,
                ..Memory::default()
            },
            device_addresses: BTreeMap::new(),
        }
    }
}

impl Maps for FakeMaps {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        if let Some(filter) = &mut *self.v4.shared.filter.borrow_mut() {
            filter.extend(filter::needed_by(write));
        }
        match write {
            Write::Backend { index, entry } => match translate::backend(entry) {
                Either::V4(backend) => drop(self.v4.backends.insert(*index, backend)),
                Either::V6(backend) => drop(self.v6.backends.insert(*index, backend)),
            },
            Write::Service { service } => {
                let mut traffic = self.v4.shared.service_traffic.borrow_mut();
                traffic.remove(service);
            }
            Write::Slots { start, backends } => {
                let mut slots = self.v4.shared.slots.borrow_mut();
                slots.extend((*start..).zip(backends.iter().copied()));
            }
            Write::Frontend { id, value } => match translate::frontend_key(id) {
                Either::V4(key) => drop(self.v4.frontends.insert(key, *value)),
                Either::V6(key) => drop(self.v6.frontends.insert(key, *value)),
            },
            Write::RemoveFrontend { id } => match translate::frontend_key(id) {
                Either::V4(key) => drop(self.v4.frontends.remove(&key)),
                Either::V6(key) => drop(self.v6.frontends.remove(&key)),
            },
            Write::EndBackend {
                family,
                index,
                generation,
            } => match family {
                Family::V4 => {
                    self.v4.backends.entry(*index).or_default().generation = *generation;
                }
                Family::V6 => {
                    self.v6.backends.entry(*index).or_default().generation = *generation;
                }
            },
            Write::SourceRange { service, range } => {
                match translate::source_range(*service, *range) {
                    Either::V4(range) => drop(self.v4.source_ranges.insert(range)),
                    Either::V6(range) => drop(self.v6.source_ranges.insert(range)),
                }
            }
            Write::RemoveSourceRange { service, range } => {
                match translate::source_range(*service, *range) {
                    Either::V4(range) => drop(self.v4.source_ranges.remove(&range)),
                    Either::V6(range) => drop(self.v6.source_ranges.remove(&range)),
                }
            }
            Write::ClusterIp { address } => match address {
                IpAddr::V4(address) => drop(self.v4.cluster_ips.insert((*address).into())),
                IpAddr::V6(address) => drop(self.v6.cluster_ips.insert((*address).into())),
            },
            Write::RemoveClusterIp { address } => match address {
                IpAddr::V4(address) => drop(self.v4.cluster_ips.remove(&(*address).into())),
                IpAddr::V6(address) => drop(self.v6.cluster_ips.remove(&(*address).into())),
            },
            Write::NodeAddress { address } => match address {
                IpAddr::V4(address) => drop(self.v4.node_addresses.insert((*address).into())),
                IpAddr::V6(address) => drop(self.v6.node_addresses.insert((*address).into())),
            },
            Write::RemoveNodeAddress { address } => match address {
                IpAddr::V4(address) => {
                    self.v4.node_addresses.remove(&(*address).into());
                }
                IpAddr::V6(address) => {
                    self.v6.node_addresses.remove(&(*address).into());
                }
            },
            Write::DeviceAddress { device, address } => {
                let key = (*device, Family::of(*address));
                self.device_addresses.insert(key, *address);
            }
            Write::RemoveDeviceAddress { device, family } => {
                self.device_addresses.remove(&(*device, *family));
            }
            Write::NatPorts { ports } => {
                let ports = ports.iter().copied().map(Port::new).collect();
                self.v4.shared.nat_ports.replace(ports);
            }
            Write::SettingsV4(settings) => self.v4.settings = *settings,
            Write::SettingsV6(settings) => self.v6.settings = *settings,
        }
        Ok(())
    }
}

impl Readable for FakeMaps {
    fn read(&mut self) -> Result<Content, MapError> {
        let mut content = Content::default();
        take(&mut content, Family::V4, &self.v4);
        take(&mut content, Family::V6, &self.v6);
        let slots = self.v4.shared.slots.borrow();
        let wanted = 0..Content::last_slot(&content.frontends);
        let slot = |position| slots.get(&position).copied().unwrap_or(0);
        content.slots = wanted.map(slot).collect();
        content.device_addresses = self.device_addresses.clone();
        content.settings = (self.v4.settings, self.v6.settings);
        Ok(content)
    }
}

fn take<A: Address + Into<IpAddr>>(content: &mut Content, family: Family, memory: &Memory<A>) {
    let frontends = memory.frontends.iter();
    let frontends = frontends.filter_map(|(key, value)| read::frontend(key, *value));
    content.frontends.extend(frontends);
    let backends = memory.backends.iter();
    let backends =
        backends.filter_map(|(index, backend)| Some((family, *index, read::element(backend)?)));
    content.backends.extend(backends);
    let ranges = memory.source_ranges.iter();
    let ranges = ranges.filter_map(|(prefix, range)| read::source_range(*prefix, range));
    content.source_ranges.extend(ranges);
    let cluster_ips = memory.cluster_ips.iter();
    content
        .cluster_ips
        .extend(cluster_ips.map(|address| (*address).into()));
    let node_addresses = memory.node_addresses.iter();
    content
        .node_addresses
        .extend(node_addresses.map(|address| (*address).into()));
}
