//! The number by which flow records have their places, for as long as their table lives.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use proxy_ebpf::layout::{FlowSeed, maps};

use super::MapError;

const NAME: &str = maps::FLOW_SEED.name;

/// A seed that nobody can foresee. Not 0: that is one that was never written.
#[expect(clippy::cast_possible_truncation, reason = "half of a random number")]
pub(super) fn random() -> FlowSeed {
    (RandomState::new().hash_one(NAME) as FlowSeed).max(1)
}

/// The seed of the tables that are pinned in a folder.
pub(super) fn pinned(folder: &Path) -> Result<FlowSeed, MapError> {
    let failed = |source| MapError::Write { map: NAME, source };
    let map = MapData::from_pin(folder.join(NAME)).map_err(failed)?;
    let array: Array<_, FlowSeed> = Array::try_from(Map::Array(map)).map_err(failed)?;
    match array.get(&0, 0).map_err(failed)? {
        0 => Err(MapError::Read {
            map: NAME,
            source: io::Error::other("the agent that made it ended before it was written"),
        }),
        seed => Ok(seed),
    }
}
