//! The maps in memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use proxy_ebpf::host::{Memory, Shared};
use proxy_ebpf::layout::{CurrentSettings, Port, ServiceName, Settings, Traffic, V4, V6};

use super::elements::{Elements, Indexed, Keyed, ReadElements, apply, content};
use super::filter::ServicePorts;
use super::table::FamilyElements;
use super::{MapError, Maps, Readable};
use crate::plan::{Content, Write};

/// The maps in memory, as the packet pipeline can use them on the host.
pub struct FakeMaps {
    /// The maps of IPv4.
    pub v4: Memory<V4>,
    /// The maps of IPv6.
    pub v6: Memory<V6>,
    /// `SERVICE_NAMES`
    pub service_names: HashMap<u32, ServiceName>,
    service_ports: ServicePorts,
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
            service_names: HashMap::new(),
            service_ports: ServicePorts::default(),
        }
    }
}

impl Maps for FakeMaps {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        apply(self, write)
    }
}

impl Readable for FakeMaps {
    fn read(&mut self) -> Result<Content, MapError> {
        content(self)
    }
}

impl ReadElements for FakeMaps {
    fn v4(&mut self) -> &mut impl FamilyElements<V4> {
        &mut self.v4
    }

    fn v6(&mut self) -> &mut impl FamilyElements<V6> {
        &mut self.v6
    }

    fn service_names(&mut self) -> &mut impl Keyed<u32, ServiceName> {
        &mut self.service_names
    }

    fn slots(&self, count: u32) -> Result<Vec<u32>, MapError> {
        let slots = self.v4.shared.slots.borrow();
        let slot = |position| slots.get(&position).copied().unwrap_or(0);
        Ok((0..count).map(slot).collect())
    }
}

impl Elements for FakeMaps {
    fn add_to_filter(&mut self, write: &Write) -> Result<(), MapError> {
        if let Some(filter) = &mut *self.v4.shared.filter.borrow_mut() {
            filter.extend(self.service_ports.bits_for(write));
        }
        Ok(())
    }

    /// Nothing reads these maps while they are written.
    fn wait_for_readers() {}

    fn set_slot(&mut self, position: u32, backend: u32) -> Result<(), MapError> {
        let mut slots = self.v4.shared.slots.borrow_mut();
        slots.insert(position, backend);
        Ok(())
    }

    fn set_nat_port(&mut self, position: u32, port: Port) -> Result<(), MapError> {
        let mut ports = self.v4.shared.nat_ports.borrow_mut();
        let position = position as usize;
        if position >= ports.len() {
            ports.resize(position + 1, Port::default());
        }
        ports[position] = port;
        Ok(())
    }

    fn set_service_traffic(&mut self, service: u32, traffic: Traffic) -> Result<(), MapError> {
        let mut services = self.v4.shared.service_traffic.borrow_mut();
        services.insert(service, traffic);
        Ok(())
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Keyed<K, V> for HashMap<K, V> {
    fn insert(&mut self, key: K, value: V) -> Result<(), MapError> {
        Self::insert(self, key, value);
        Ok(())
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        Self::remove(self, &key);
        Ok(())
    }

    fn for_each(&self, mut take: impl FnMut(K, V)) -> Result<(), MapError> {
        for (key, value) in self {
            take(*key, *value);
        }
        Ok(())
    }
}

/// Of values of which only their presence counts.
impl<K: Copy + Eq + Hash> Keyed<K, u32> for HashSet<K> {
    fn insert(&mut self, key: K, _: u32) -> Result<(), MapError> {
        Self::insert(self, key);
        Ok(())
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        Self::remove(self, &key);
        Ok(())
    }

    fn for_each(&self, mut take: impl FnMut(K, u32)) -> Result<(), MapError> {
        for key in self {
            take(*key, 1);
        }
        Ok(())
    }
}

impl<V: Copy + Default> Indexed<V> for BTreeMap<u32, V> {
    fn get(&mut self, index: u32) -> Result<V, MapError> {
        Ok(Self::get(self, &index).copied().unwrap_or_default())
    }

    fn set(&mut self, index: u32, value: V) -> Result<(), MapError> {
        self.insert(index, value);
        Ok(())
    }

    fn copy(&self) -> Result<Vec<V>, MapError> {
        let end = self.keys().next_back().map_or(0, |last| last + 1);
        let element = |index| Self::get(self, &index).copied().unwrap_or_default();
        Ok((0..end).map(element).collect())
    }
}

/// Of what the pipeline writes as well.
impl<V: Copy + Default> Indexed<V> for RefCell<BTreeMap<u32, V>> {
    fn get(&mut self, index: u32) -> Result<V, MapError> {
        Indexed::get(self.get_mut(), index)
    }

    fn set(&mut self, index: u32, value: V) -> Result<(), MapError> {
        self.get_mut().set(index, value)
    }

    fn copy(&self) -> Result<Vec<V>, MapError> {
        self.borrow().copy()
    }
}

/// Arrays of one.
macro_rules! array_of_one {
    ($($element:ident)*) => {$(
        impl<A: Copy> Indexed<Self> for $element<A> {
            fn get(&mut self, _: u32) -> Result<Self, MapError> {
                Ok(*self)
            }

            fn set(&mut self, _: u32, value: Self) -> Result<(), MapError> {
                *self = value;
                Ok(())
            }

            fn copy(&self) -> Result<Vec<Self>, MapError> {
                Ok(vec![*self])
            }
        }
    )*};
}

array_of_one!(Settings CurrentSettings);
