//! What the maps alone say of a node whose agent does not run.

use std::collections::BTreeSet;

use proxy_ebpf::layout::maps;
use serde::Serialize;

use super::API_VERSION;
use crate::maps::{MapError, PinnedMaps, now};
use crate::model::object::Family;
use crate::plan::{Content, Element};
use crate::status::Map;

/// How much the maps hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapsSummary {
    /// [`API_VERSION`]
    pub api_version: &'static str,
    /// `MapsStatus`
    pub kind: &'static str,
    /// Always `not running`.
    pub condition: &'static str,
    /// Services.
    pub services: usize,
    /// Ports of them, of each IP family one.
    pub service_ports: usize,
    /// Endpoints of these.
    pub endpoints: usize,
    /// How full the maps are.
    pub maps: Vec<Map>,
}

impl MapsSummary {
    /// Reads it from the pinned maps.
    pub fn read(maps: &mut PinnedMaps) -> Result<Self, MapError> {
        let content = maps.content()?;
        let capacities = maps.capacities()?;
        let mut summary = Self::of(&content, &capacities);
        for (family, name) in [
            (Family::V4, maps::FLOWS_V4.name),
            (Family::V6, maps::FLOWS_V6.name),
        ] {
            summary.maps.push(Map {
                name: name.to_owned(),
                used: flows(maps, family)?,
                capacity: maps.flow_capacity(family)?,
            });
        }
        Ok(summary)
    }

    /// What an agent has written.
    pub fn of(content: &Content, capacities: &[(&'static str, u64)]) -> Self {
        let services = content.service_names.values();
        let services: BTreeSet<_> = services
            .map(|name| name.split(':').next().unwrap_or_default())
            .collect();
        let ports = content.frontends.iter().map(|(_, value)| value.service);
        let maps = capacities.iter().map(|(name, capacity)| Map {
            name: (*name).to_owned(),
            used: used(content, name),
            capacity: *capacity,
        });
        Self {
            api_version: API_VERSION,
            kind: "MapsStatus",
            condition: "not running",
            services: services.len(),
            service_ports: ports.collect::<BTreeSet<_>>().len(),
            endpoints: content
                .backends
                .iter()
                .filter(|(.., element)| matches!(element, Element::Living(_)))
                .count(),
            maps: maps.collect(),
        }
    }
}

fn used(content: &Content, map: &str) -> u64 {
    let frontends = |family| {
        let frontends = content.frontends.iter();
        frontends
            .filter(|(id, _)| Family::of(id.address) == family)
            .count()
    };
    let backends = |family| {
        let backends = content.backends.iter();
        let living = backends
            .filter(|(it, _, element)| *it == family && matches!(element, Element::Living(_)));
        living.count()
    };
    let used = match map {
        _ if map == maps::FRONTENDS_V4.name => frontends(Family::V4),
        _ if map == maps::FRONTENDS_V6.name => frontends(Family::V6),
        _ if map == maps::BACKENDS_V4.name => backends(Family::V4),
        _ if map == maps::BACKENDS_V6.name => backends(Family::V6),
        // As far as frontends lead to them.
        _ => content.slots.len(),
    };
    used.try_into().unwrap_or(u64::MAX)
}

/// Flow records that are not over.
fn flows(maps: &mut PinnedMaps, family: Family) -> Result<u64, MapError> {
    let timeouts = maps.timeouts()?;
    let now = now().map_err(|source| MapError::System {
        call: "clock_gettime",
        source,
    })?;
    let mut count = 0;
    maps.for_each_flow(family, |record| {
        let idle = proxy_ebpf::flow_table::idle(record.last_seen, now);
        count += u64::from(!timeouts.is_over(record.flags, idle));
    })?;
    Ok(count)
}
