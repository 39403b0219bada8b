//! A copy of the pinned maps in memory, in which the packet pipeline can run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::take;
use std::net::IpAddr;
use std::rc::Rc;

use proxy_ebpf::host::{Memory, Shared};
use proxy_ebpf::layout::{Address, Liveness, V4, V6, maps};

use super::PinnedMaps;
use crate::maps::elements::{Indexed as _, Keyed as _};
use crate::maps::flow_table::FlowTable;
use crate::maps::handles::{Open as _, PinnedFolder};
use crate::maps::mapped::MappedArray;
use crate::maps::table::FamilyElements;
use crate::maps::{MapError, flow_seed, now};

impl PinnedMaps {
    /// A copy in memory in which the packet pipeline can run.
    pub fn memory(&mut self) -> Result<(Memory<V4>, Memory<V6>), MapError> {
        let slots = self.content()?.slots;
        let shared = Rc::new(Shared {
            slots: RefCell::new((0..).zip(slots).collect()),
            nat_ports: self.nat_ports.copy(self.nat_ports.len())?.into(),
            ..Shared::default()
        });
        shared.flow_seed.set(flow_seed::pinned(&self.folder)?);
        let mut v4 = Memory {
            shared: Rc::clone(&shared),
            ..Memory::default()
        };
        let mut v6 = Memory {
            shared,
            ..Memory::default()
        };
        fill(&mut v4, &mut self.v4)?;
        fill(&mut v6, &mut self.v6)?;
        let mut copies = (v4, v6);
        self.refresh(&mut copies)?;
        Ok(copies)
    }

    /// Reads into such a copy what programs write, as it is now: whatever the pipeline has changed in
    /// the copy is undone. Buckets of the flow table are read when they are asked for.
    pub fn refresh(&mut self, (v4, v6): &mut (Memory<V4>, Memory<V6>)) -> Result<(), MapError> {
        let shared = Rc::new(Shared {
            slots: v4.shared.slots.take().into(),
            nat_ports: v4.shared.nat_ports.take().into(),
            filter_words: self.filter()?.into(),
            flow_seed: v4.shared.flow_seed.clone(),
            ..Shared::default()
        });
        let time = now().map_err(|source| MapError::System {
            call: "clock_gettime",
            source,
        })?;
        shared.now.set(time);
        *v4 = only_of_the_agent(v4, &shared);
        *v6 = only_of_the_agent(v6, &shared);
        v4.backend_liveness = liveness(&mut self.v4)?.into();
        v6.backend_liveness = liveness(&mut self.v6)?.into();
        self.affinity_v4.for_each(|key, value| {
            v4.affinity.get_mut().insert(key, value);
        })?;
        self.affinity_v6.for_each(|key, value| {
            v6.affinity.get_mut().insert(key, value);
        })?;
        FlowTable::of_pin(&self.folder, maps::FLOWS_V4)?.show_in(v4);
        FlowTable::of_pin(&self.folder, maps::FLOWS_V6)?.show_in(v6);
        Ok(())
    }

    /// The packet filter; empty of an older agent, which had none.
    fn filter(&self) -> Result<Vec<u64>, MapError> {
        if !self.folder.join(maps::FILTER.name).exists() {
            return Ok(Vec::new());
        }
        let filter = MappedArray::open(&mut PinnedFolder(&self.folder), maps::FILTER)?;
        filter.copy(filter.len())
    }
}

/// What an agent has written for one IP version, without what programs write.
fn only_of_the_agent<A: Address>(memory: &mut Memory<A>, shared: &Rc<Shared>) -> Memory<A> {
    Memory {
        frontends: take(&mut memory.frontends),
        node_addresses: take(&mut memory.node_addresses),
        device_addresses: take(&mut memory.device_addresses),
        output_device: Rc::clone(&memory.output_device),
        backends: take(&mut memory.backends),
        settings: memory.settings,
        cluster_ips: take(&mut memory.cluster_ips),
        source_ranges: take(&mut memory.source_ranges),
        shared: Rc::clone(shared),
        ..Memory::default()
    }
}

/// Whether endpoints answer.
fn liveness<A: Address + Into<IpAddr>>(
    maps: &mut impl FamilyElements<A>,
) -> Result<BTreeMap<u32, Liveness>, MapError> {
    let all = (0..).zip(maps.backend_liveness().copy()?);
    Ok(all.filter(|(_, it)| it.generation != 0).collect())
}

/// Copies what an agent has written for one IP version.
fn fill<A: Address + Into<IpAddr>>(
    memory: &mut Memory<A>,
    maps: &mut impl FamilyElements<A>,
) -> Result<(), MapError> {
    maps.frontends().for_each(|key, value| {
        memory.frontends.insert(key, value);
    })?;
    maps.node_addresses().for_each(|address, _| {
        memory.node_addresses.insert(address);
    })?;
    maps.device_addresses().for_each(|device, address| {
        memory.device_addresses.insert(device, address);
    })?;
    maps.cluster_ips().for_each(|address, _| {
        memory.cluster_ips.insert(address);
    })?;
    maps.source_ranges().for_each(|range, _| {
        memory.source_ranges.insert(range);
    })?;
    memory.backends = (0..)
        .zip(maps.backends().copy()?)
        .filter(|(_, backend)| backend.generation != 0)
        .collect();
    memory.settings = *maps.current_settings().get(0)?.current();
    Ok(())
}
