//! What is written to pinned maps that no agent has any more, before their programs are removed.

use std::net::IpAddr;

use proxy_ebpf::layout::{Address, FilterBits, Settings, V4, V6, maps};

use super::PinnedMaps;
use crate::maps::elements::{Indexed as _, Keyed, replace_settings};
use crate::maps::handles::{Open as _, PinnedFolder};
use crate::maps::mapped::MappedArray;
use crate::maps::table::FamilyElements;
use crate::maps::{MapError, NetfilterFlows, synchronize_rcu};

impl PinnedMaps {
    /// Removes all frontends: the programs begin no flow any more, and go on with those that there
    /// are. What else is sent to a Service passes as it is.
    pub fn withdraw_frontends(&mut self) -> Result<(), MapError> {
        withdraw(&mut self.v4)?;
        withdraw(&mut self.v6)
    }

    /// The tables of flows.
    pub fn netfilter_flows(&self) -> Result<NetfilterFlows, MapError> {
        NetfilterFlows::of_pins(&self.folder)
    }

    /// Has the programs look at packets to these addresses: replies of flows whose records were
    /// changed.
    pub fn expect_replies_to(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), MapError> {
        if !self.folder.join(maps::FILTER.name).exists() {
            // Of an older agent, whose programs look at all.
            return Ok(());
        }
        let mut filter: MappedArray<u64> =
            MappedArray::open(&mut PinnedFolder(&self.folder), maps::FILTER)?;
        for address in addresses {
            let bits = match address {
                IpAddr::V4(address) => FilterBits::of_destination(&V4::from(address)),
                IpAddr::V6(address) => FilterBits::of_destination(&V6::from(address)),
            };
            filter.set_bits(bits.word, bits.mask)?;
        }
        Ok(())
    }
}

/// First what has packets dropped that find no frontend.
fn withdraw<A: Address>(family: &mut impl FamilyElements<A>) -> Result<(), MapError> {
    let settings = *family.current_settings().get(0)?.current();
    let settings = Settings {
        service_cidrs: Default::default(),
        ..settings
    };
    replace_settings(family, settings, synchronize_rcu)?;
    remove_all(family.cluster_ips())?;
    remove_all(family.frontends())
}

fn remove_all<K, V>(map: &mut impl Keyed<K, V>) -> Result<(), MapError> {
    let mut keys = Vec::new();
    map.for_each(|key, _| keys.push(key))?;
    keys.into_iter().try_for_each(|key| map.remove(key))
}
