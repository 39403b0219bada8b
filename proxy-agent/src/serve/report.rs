//! How the agent is.

use std::time::{Duration, SystemTime};

use proxy_ebpf::layout::Counter;

use crate::model::object::Family;

/// What the agent's loop knows of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each IP family.
    pub families: Vec<FamilyReport>,
    /// Whether the Node is known, stays, and is not marked for removal.
    pub node_eligible: bool,
    /// Edge devices that are served.
    pub devices: usize,
    /// Service ports in the kernel.
    pub ports: usize,
    /// How full the maps are.
    pub maps: Vec<MapUsage>,
    /// The data path's counters.
    pub counters: Vec<CounterValue>,
}

/// What concerns one IP family.
#[derive(Clone, Copy, Debug)]
pub struct FamilyReport {
    /// Which one.
    pub family: Family,
    /// When its maps were last brought up to date.
    pub last_updated: Option<SystemTime>,
    /// For how long a change has been waiting.
    pub pending_for: Option<Duration>,
    /// How long one may wait: twice `syncPeriod`, as in kube-proxy.
    pub patience: Duration,
}

/// A counter of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValue {
    /// Which one.
    pub counter: Counter,
    /// Its name.
    pub name: &'static str,
    /// What it has counted.
    pub value: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUsage {
    /// Its name.
    pub map: &'static str,
    /// Elements in use.
    pub used: u64,
    /// Elements that there are.
    pub capacity: u64,
}

impl FamilyReport {
    /// Whether no change has waited for too long.
    pub fn is_healthy(&self) -> bool {
        self.pending_for
            .is_none_or(|pending| pending <= self.patience)
    }
}

impl Report {
    /// Whether every family is healthy. Reaching the API server is no condition.
    pub fn is_healthy(&self) -> bool {
        self.families.iter().all(FamilyReport::is_healthy)
    }

    /// When any family was last brought up to date.
    pub fn last_updated(&self) -> Option<SystemTime> {
        self.families
            .iter()
            .filter_map(|family| family.last_updated)
            .max()
    }
}
