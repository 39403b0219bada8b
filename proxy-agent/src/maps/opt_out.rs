//! The Pods whose sockets are left alone, as the programs know them: by their cgroups.

use std::collections::BTreeSet;

use proxy_ebpf::layout::LEFT_OUT_PODS;

use super::MapError;
use super::elements::{Indexed as _, Keyed as _};
use super::handles::{Array, Hash};

/// A cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup {
    /// The kernel's id.
    pub id: u64,
    /// How far it is below the root of all.
    pub level: u32,
}

/// `LEFT_OUT` and `LEFT_OUT_LEVELS`.
pub struct OptOutCgroups {
    cgroups: Hash<u64, u32>,
    levels: Array<u32>,
    /// The ids that are in the map.
    written: BTreeSet<u64>,
}

impl OptOutCgroups {
    /// The maps, with what an agent may have left in them.
    pub(super) fn new(cgroups: Hash<u64, u32>, levels: Array<u32>) -> Self {
        Self {
            written: cgroups.keys().collect(),
            cgroups,
            levels,
        }
    }

    /// Makes these the cgroups whose processes are left alone; those for which there is
    /// no room are served.
    pub fn set(&mut self, cgroups: &BTreeSet<Cgroup>) -> Result<(), MapError> {
        let fitting = || cgroups.iter().take(LEFT_OUT_PODS as usize);
        let wanted: BTreeSet<u64> = fitting().map(|cgroup| cgroup.id).collect();
        for gone in self.written.difference(&wanted) {
            self.cgroups.remove(*gone)?;
        }
        self.written.retain(|id| wanted.contains(id));
        for new in &wanted {
            if !self.written.contains(new) {
                self.cgroups.insert(*new, 1)?;
                self.written.insert(*new);
            }
        }
        let levels = fitting().fold(0, |levels, it| levels | 1 << it.level);
        self.levels.set(0, levels)
    }
}
