//! A copy of the pinned maps in memory, in which the packet pipeline can run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{Address, V4, V6, maps};

use super::PinnedMaps;
use crate::maps::elements::{Indexed as _, Keyed as _};
use crate::maps::flow_table::FlowTable;
use crate::maps::handles::{Open as _, PinnedFolder};
use crate::maps::mapped::MappedArray;
use crate::maps::table::FamilyElements;
use crate::maps::{MapError, flow_seed, now};

impl PinnedMaps {
    /// A copy in memory in which the packet pipeline can run. Buckets of the flow table are read
    /// when they are asked for.
    pub fn memory(&mut self) -> Result<(Memory<V4>, Memory<V6>), MapError> {
        let mut v4 = Memory::default();
        let mut v6 = Memory {
            shared: Rc::clone(&v4.shared),
            ..Memory::default()
        };
        let slots = self.content()?.slots;
        v4.shared.slots.replace((0..).zip(slots).collect());
        v4.shared
            .nat_ports
            .replace(self.nat_ports.copy(self.nat_ports.len())?);
        v4.shared.filter_words.replace(self.filter()?);
        v4.shared.flow_seed.set(flow_seed::pinned(&self.folder)?);
        let time = now().map_err(|source| MapError::System {
            call: "clock_gettime",
            source,
        })?;
        v4.shared.now.set(time);
        fill(&mut v4, &mut self.v4)?;
        fill(&mut v6, &mut self.v6)?;
        self.affinity_v4.for_each(|key, value| {
            v4.affinity.get_mut().insert(key, value);
        })?;
        self.affinity_v6.for_each(|key, value| {
            v6.affinity.get_mut().insert(key, value);
        })?;
        FlowTable::of_pin(&self.folder, maps::FLOWS_V4)?.show_in(&mut v4);
        FlowTable::of_pin(&self.folder, maps::FLOWS_V6)?.show_in(&mut v6);
        Ok((v4, v6))
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
    memory.backend_liveness = (0..)
        .zip(maps.backend_liveness().copy()?)
        .filter(|(_, liveness)| liveness.generation != 0)
        .collect::<BTreeMap<_, _>>()
        .into();
    memory.settings = *maps.current_settings().get(0)?.current();
    Ok(())
}
