//! The few operations on elements by which maps are written and read, in the kernel and in
//! memory alike; what a plan's writes and its content are in terms of them.

use std::net::IpAddr;

use proxy_ebpf::layout::{
    Address, Backend, Liveness, Port, ServiceName, Settings, Traffic, V4, V6, backend_flags,
};

use super::table::FamilyElements;
use super::{MapError, read, translate};
use crate::model::object::Family;
use crate::plan::{Content, Write};

/// A map whose elements have keys: a hash table or a trie.
pub(super) trait Keyed<K, V> {
    /// Makes an element, or replaces it.
    fn insert(&mut self, key: K, value: V) -> Result<(), MapError>;

    /// Removes an element, if it is there.
    fn remove(&mut self, key: K) -> Result<(), MapError>;

    /// Hands out every element.
    fn for_each(&self, take: impl FnMut(K, V)) -> Result<(), MapError>;
}

/// A map whose elements have indices: an array, all zero at first.
pub(super) trait Indexed<V> {
    /// Reads an element.
    fn get(&mut self, index: u32) -> Result<V, MapError>;

    /// Replaces an element.
    fn set(&mut self, index: u32, value: V) -> Result<(), MapError>;

    /// Copies the elements out, at least up to the last one that is not zero.
    fn copy(&self) -> Result<Vec<V>, MapError>;
}

/// All maps that a plan writes, as they are read.
pub(super) trait ReadElements {
    fn v4(&mut self) -> &mut impl FamilyElements<V4>;
    fn v6(&mut self) -> &mut impl FamilyElements<V6>;
    fn service_names(&mut self) -> &mut impl Keyed<u32, ServiceName>;

    /// The first `count` slots.
    fn slots(&self, count: u32) -> Result<Vec<u32>, MapError>;
}

/// The same, as they are written.
pub(super) trait Elements: ReadElements {
    /// Lets packets find what a write is about.
    fn add_to_filter(&mut self, write: &Write) -> Result<(), MapError>;

    /// Returns when no program uses any more what it has read of the maps until now.
    fn wait_for_readers();

    fn set_slot(&mut self, position: u32, backend: u32) -> Result<(), MapError>;
    fn set_nat_port(&mut self, position: u32, port: Port) -> Result<(), MapError>;
    fn set_service_traffic(&mut self, service: u32, traffic: Traffic) -> Result<(), MapError>;
}

/// Evaluates an expression with the maps of an address's IP version, and with the address as
/// they have it.
macro_rules! with_address {
    ($maps:expr, $of:expr, |$family:ident, $address:ident| $then:expr) => {
        match $of {
            IpAddr::V4(address) => {
                let ($family, $address) = ($maps.v4(), V4::from(address));
                $then
            }
            IpAddr::V6(address) => {
                let ($family, $address) = ($maps.v6(), V6::from(address));
                $then
            }
        }
    };
}

/// Evaluates an expression with the maps of an IP version.
macro_rules! with_family {
    ($maps:expr, $of:expr, |$family:ident| $then:expr) => {
        match $of {
            Family::V4 => {
                let $family = $maps.v4();
                $then
            }
            Family::V6 => {
                let $family = $maps.v6();
                $then
            }
        }
    };
}

/// Carries out one write.
pub(super) fn apply<M: Elements>(maps: &mut M, write: &Write) -> Result<(), MapError> {
    maps.add_to_filter(write)?;
    match write {
        Write::Backend { index, entry } => with_address!(maps, entry.address, |family, address| {
            begin_backend(family, *index, translate::backend(address, entry))
        }),
        Write::EndBackend {
            family,
            index,
            generation,
        } => with_family!(maps, family, |family| {
            end_backend(family.backends(), *index, *generation)
        }),
        Write::Service { service } => maps.set_service_traffic(*service, Traffic::default()),
        Write::ServiceName { service, name } => maps
            .service_names()
            .insert(*service, ServiceName::new(name)),
        Write::RemoveServiceName { service } => maps.service_names().remove(*service),
        Write::Slots { start, backends } => (*start..)
            .zip(backends)
            .try_for_each(|(position, backend)| maps.set_slot(position, *backend)),
        Write::Frontend { id, value } => with_address!(maps, id.address, |family, address| {
            let key = translate::frontend_key(address, id);
            family.frontends().insert(key, *value)
        }),
        Write::RemoveFrontend { id } => with_address!(maps, id.address, |family, address| {
            let key = translate::frontend_key(address, id);
            family.frontends().remove(key)
        }),
        Write::SourceRange { service, range } => {
            with_address!(maps, range.network(), |family, address| {
                let key = translate::source_range(address, *service, range.prefix_len());
                family.source_ranges().insert(key, 1)
            })
        }
        Write::RemoveSourceRange { service, range } => {
            with_address!(maps, range.network(), |family, address| {
                let key = translate::source_range(address, *service, range.prefix_len());
                family.source_ranges().remove(key)
            })
        }
        Write::ClusterIp { address } => with_address!(maps, *address, |family, address| {
            family.cluster_ips().insert(address, 1)
        }),
        Write::RemoveClusterIp { address } => with_address!(maps, *address, |family, address| {
            family.cluster_ips().remove(address)
        }),
        Write::NodeAddress { address } => with_address!(maps, *address, |family, address| {
            family.node_addresses().insert(address, 1)
        }),
        Write::RemoveNodeAddress { address } => with_address!(maps, *address, |family, address| {
            family.node_addresses().remove(address)
        }),
        Write::DeviceAddress { device, address } => {
            with_address!(maps, *address, |family, address| {
                family.device_addresses().insert(*device, address)
            })
        }
        Write::RemoveDeviceAddress { device, family } => with_family!(maps, family, |family| {
            family.device_addresses().remove(*device)
        }),
        Write::NatPorts { ports } => (0..)
            .zip(ports.iter())
            .try_for_each(|(position, port)| maps.set_nat_port(position, Port::new(*port))),
        Write::SettingsV4(settings) => replace_settings(maps.v4(), *settings, M::wait_for_readers),
        Write::SettingsV6(settings) => replace_settings(maps.v6(), *settings, M::wait_for_readers),
    }
}

/// Has the programs read other settings, whole; `wait` returns when none reads any more what it has
/// read before.
pub(super) fn replace_settings<A: Address>(
    family: &mut impl FamilyElements<A>,
    settings: Settings<A>,
    wait: impl FnOnce(),
) -> Result<(), MapError> {
    family.settings().set(0, settings)?;
    let there = family.current_settings().get(0)?;
    if *there.current() == settings {
        return Ok(());
    }
    if there.has_predecessor() {
        wait();
    }
    let mut steps = there.changed_to(settings).into_iter();
    steps.try_for_each(|step| family.current_settings().set(0, step))
}

/// Fills a backend's element; with a new life its traffic is counted from zero, and it is not
/// suspect.
fn begin_backend<A>(
    family: &mut impl FamilyElements<A>,
    index: u32,
    mut backend: Backend<A>,
) -> Result<(), MapError> {
    let before = family.backends().get(index)?;
    let is_same = before.generation == backend.generation;
    if is_same {
        backend.flags |= before.flags & backend_flags::SUSPECT;
    }
    family.backends().set(index, backend)?;
    if is_same {
        return Ok(());
    }
    family.backend_traffic().set(index, Traffic::default())?;
    family.backend_liveness().set(index, Liveness::default())
}

fn end_backend<A>(
    backends: &mut impl Indexed<Backend<A>>,
    index: u32,
    generation: u32,
) -> Result<(), MapError> {
    let mut backend = backends.get(index)?;
    backend.generation = generation;
    backends.set(index, backend)
}

/// Reads what a plan has written.
pub(super) fn content(maps: &mut impl ReadElements) -> Result<Content, MapError> {
    let mut content = Content::default();
    add(&mut content, Family::V4, maps.v4())?;
    add(&mut content, Family::V6, maps.v6())?;
    content.slots = maps.slots(Content::last_slot(&content.frontends))?;
    maps.service_names().for_each(|service, name| {
        content.service_names.insert(service, name.text().into());
    })?;
    content.settings = (
        *maps.v4().current_settings().get(0)?.current(),
        *maps.v6().current_settings().get(0)?.current(),
    );
    Ok(content)
}

/// Reads the maps of one IP version.
fn add<A: Address + Into<IpAddr>>(
    content: &mut Content,
    family: Family,
    maps: &mut impl FamilyElements<A>,
) -> Result<(), MapError> {
    maps.frontends().for_each(|key, value| {
        content.frontends.extend(read::frontend(&key, value));
    })?;
    let backends = maps.backends().copy()?;
    let used = (0..)
        .zip(&backends)
        .filter_map(|(index, backend)| Some((family, index, read::element(backend)?)));
    content.backends.extend(used);
    maps.source_ranges().for_each(|(prefix, range), _| {
        content
            .source_ranges
            .extend(read::source_range(prefix, &range));
    })?;
    maps.cluster_ips().for_each(|address, _| {
        content.cluster_ips.insert(address.into());
    })?;
    maps.node_addresses().for_each(|address, _| {
        content.node_addresses.insert(address.into());
    })?;
    maps.device_addresses().for_each(|device, address| {
        content
            .device_addresses
            .insert((device, family), address.into());
    })
}

#[cfg(test)]
mod tests {
    use proxy_ebpf::host::Memory;

    use super::*;

    #[test]
    fn settings_are_replaced_when_nobody_reads_those_before_the_last() {
        let mut family = Memory::<V4>::default();
        let mut replace = |nat_ports: u32| {
            let settings = Settings {
                nat_ports,
                ..Settings::default()
            };
            let mut has_waited = false;
            replace_settings(&mut family, settings, || has_waited = true).unwrap();
            assert_eq!(*family.current_settings.current(), settings);
            has_waited
        };
        assert!(!replace(1), "there were none before");
        assert!(!replace(1), "nothing is written");
        assert!(!replace(2), "only the last ones are read");
        assert!(replace(3));
        assert!(replace(4));
    }

    #[test]
    fn a_backend_that_is_written_again_stays_suspect_until_its_life_ends() {
        let mut family = Memory::<V4>::default();
        let planned = |generation| Backend {
            flags: backend_flags::LOCAL,
            generation,
            ..Backend::default()
        };
        let is_suspect = |family: &Memory<V4>| family.backends[&1] != planned(1);
        begin_backend(&mut family, 1, planned(1)).unwrap();
        assert!(!is_suspect(&family));
        let suspect = family.backends.get_mut(&1).unwrap();
        suspect.flags |= backend_flags::SUSPECT;
        begin_backend(&mut family, 1, planned(1)).unwrap();
        assert!(is_suspect(&family));
        let living = read::element(&family.backends[&1]);
        assert_eq!(living, read::element(&planned(1)), "no part of a plan");
        begin_backend(&mut family, 1, planned(3)).unwrap();
        assert_eq!(family.backends[&1], planned(3));
    }
}
