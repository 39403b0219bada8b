//! The maps that outlive the agent, held so that they can be pinned again: somebody may
//! remove the pins of an agent that runs.

use std::path::Path;

use aya::Ebpf;
use aya::maps::MapData;
use proxy_ebpf::layout::{MapSpec, maps};

use super::MapError;
use super::migrate::handle;

/// A descriptor of each of them.
pub struct LastingMaps(Vec<(&'static str, MapData)>);

impl LastingMaps {
    /// Those of an object.
    pub(super) fn of(object: &Ebpf) -> Result<Self, MapError> {
        let maps = pinned().map(|MapSpec { name, .. }| Ok((*name, handle(object, name)?)));
        maps.collect::<Result<_, _>>().map(Self)
    }

    /// Pins all of them into a folder.
    pub(super) fn pin(&self, folder: &Path) -> Result<(), MapError> {
        self.0.iter().try_for_each(|(name, map)| {
            map.pin(folder.join(name))
                .map_err(|source| MapError::Pin { map: name, source })
        })
    }

    /// Whether all of them have a pin in a folder.
    pub(super) fn are_in(&self, folder: &Path) -> bool {
        self.0.iter().all(|(name, _)| folder.join(name).exists())
    }
}

/// The maps that outlive the agent.
pub(super) fn pinned() -> impl Iterator<Item = &'static MapSpec> {
    maps::ALL.iter().filter(|map| map.lifetime.is_pinned())
}
