//! The maps in the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use proxy_ebpf::layout::{
    Backend, Counter, Liveness, NatPort, Port, ServiceName, SlotPair, Traffic, V4, V6,
    backend_flags, liveness_state, maps,
};

use super::backend_state::Sockets;
use super::elements::{Elements, Indexed, Keyed, ReadElements, apply, content};
use super::filter::{Filter, FilterRepairs};
use super::handles::Hash;
use super::mapped::MappedArray;
use super::table::{FamilyElements, FamilyMaps};
use super::{MapError, Maps, Readable, synchronize_rcu};
use crate::model::object::Family;
use crate::plan::{Content, Write};

/// The data path's counters, which can be read from anywhere.
#[derive(Clone)]
pub struct Counters(Arc<PerCpuArray<MapData, u64>>);

impl Counters {
    pub(super) fn new(counters: PerCpuArray<MapData, u64>) -> Self {
        Self(Arc::new(counters))
    }

    /// The value of one, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel does not tell it.
    pub fn get(&self, counter: Counter) -> Result<u64, MapError> {
        let values = self.0.get(&(counter as u32), 0);
        values
            .map(|values| values.iter().sum())
            .map_err(|source| MapError::Write {
                map: maps::COUNTERS.name,
                source,
            })
    }
}

/// The maps in the kernel.
pub struct KernelMaps {
    pub(super) v4: FamilyMaps<V4>,
    pub(super) v6: FamilyMaps<V6>,
    pub(super) slots: MappedArray<SlotPair>,
    pub(super) nat_ports: MappedArray<NatPort>,
    pub(super) service_traffic: MappedArray<Traffic>,
    pub(super) service_names: Hash<u32, ServiceName>,
    pub(super) sockets: Sockets,
    pub(super) counters: Counters,
    pub(super) filter: Filter,
}

impl KernelMaps {
    /// The value of a counter, over all CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        self.counters.get(counter)
    }

    /// All counters, to be read beside these maps.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// What was translated for a Service port.
    pub fn service_traffic(&mut self, service: u32) -> Result<Traffic, MapError> {
        self.service_traffic.get(service)
    }

    /// What was translated for a backend.
    pub fn backend_traffic(&mut self, family: Family, index: u32) -> Result<Traffic, MapError> {
        match family {
            Family::V4 => self.v4.backend_traffic.get(index),
            Family::V6 => self.v6.backend_traffic.get(index),
        }
    }

    /// Whether a backend answers.
    pub fn backend_liveness(&mut self, family: Family, index: u32) -> Result<Liveness, MapError> {
        match family {
            Family::V4 => self.v4.backend_liveness.get(index),
            Family::V6 => self.v6.backend_liveness.get(index),
        }
    }

    /// Says whether new connections go to a backend, by one of `liveness_state`.
    pub fn set_liveness_state(
        &mut self,
        family: Family,
        index: u32,
        state: u32,
    ) -> Result<(), MapError> {
        let before = self.backend_liveness(family, index)?;
        self.set_liveness(family, index, Liveness { state, ..before })?;
        let is_suspect = state != liveness_state::USED;
        match family {
            Family::V4 => mark_suspect(&mut self.v4.backends, index, is_suspect),
            Family::V6 => mark_suspect(&mut self.v6.backends, index, is_suspect),
        }
    }

    /// Says which backends connections go to in the place of one that is avoided.
    pub fn set_instead(
        &mut self,
        family: Family,
        index: u32,
        instead: [u32; 4],
    ) -> Result<(), MapError> {
        let before = self.backend_liveness(family, index)?;
        self.set_liveness(family, index, Liveness { instead, ..before })
    }

    fn set_liveness(
        &mut self,
        family: Family,
        index: u32,
        liveness: Liveness,
    ) -> Result<(), MapError> {
        match family {
            Family::V4 => self.v4.backend_liveness.set(index, liveness),
            Family::V6 => self.v6.backend_liveness.set(index, liveness),
        }
    }

    /// Has the programs look at packets to an address: replies of flows that are taken over.
    pub fn expect_replies_to(&mut self, address: IpAddr) -> Result<(), MapError> {
        self.filter.set_destination(address)
    }
}

impl Maps for KernelMaps {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        apply(self, write)
    }
}

impl Readable for KernelMaps {
    fn read(&mut self) -> Result<Content, MapError> {
        content(self)
    }

    fn add_to_filter(&mut self, content: &Content) -> Result<(), MapError> {
        self.filter.fill(content)
    }

    fn reconcile_filter(&mut self, content: &Content) -> Result<FilterRepairs, MapError> {
        self.filter.reconcile(content)
    }
}

impl ReadElements for KernelMaps {
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
        self.slots.halves(count)
    }
}

impl Elements for KernelMaps {
    fn add_to_filter(&mut self, write: &Write) -> Result<(), MapError> {
        self.filter.set_for(write)
    }

    fn wait_for_readers() {
        synchronize_rcu();
    }

    /// Two slots are in an element.
    fn set_slot(&mut self, position: u32, backend: u32) -> Result<(), MapError> {
        let mut pair = self.slots.get(position >> 1)?;
        pair.0[position as usize & 1] = backend;
        self.slots.set(position >> 1, pair)
    }

    fn set_nat_port(&mut self, position: u32, port: Port) -> Result<(), MapError> {
        self.nat_ports.set(position, port)
    }

    fn set_service_traffic(&mut self, service: u32, traffic: Traffic) -> Result<(), MapError> {
        self.service_traffic.set(service, traffic)
    }
}

/// Says whether the programs look at a backend's liveness.
fn mark_suspect<A>(
    backends: &mut impl Indexed<Backend<A>>,
    index: u32,
    is_suspect: bool,
) -> Result<(), MapError> {
    let before = backends.get(index)?;
    let others = before.flags & !backend_flags::SUSPECT;
    let flags = others
        | if is_suspect {
            backend_flags::SUSPECT
        } else {
            0
        };
    backends.set(index, Backend { flags, ..before })
}
