//! The agent's core: keeps the maps in step with the model.
//!
//! It owns the one direction in which everything flows: changes into the model,
//! the model's changes into the plan, the plan into the maps. It does no I/O of
//! its own but for the maps.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use proxy_ebpf::layout::{Settings, V4, V6, settings_flags};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::maps::{MapError, Maps};
use crate::model::object::Family;
use crate::model::{Change, Model, ModelSettings};
use crate::plan::{Plan, Planner, Retired, Write};
use crate::serve::{FamilyReport, MapUsage, Report};

/// Joins model, plan and maps.
pub struct Agent<M> {
    model: Model,
    planner: Planner,
    maps: M,
    settings: NatSettings,
    retired: Retired,
    /// Writes that a map refused; they go first the next time, and until they
    /// succeed nothing that they replace is used again.
    owed: Vec<Write>,
    node_addresses: BTreeSet<IpAddr>,
    node_changed: bool,
    is_programmed: bool,
    last_updated: Option<SystemTime>,
    /// Since when the maps owe a write.
    owing_since: Option<Instant>,
}

struct NatSettings {
    first: u16,
    count: u16,
    flags: u32,
}

impl<M: Maps> Agent<M> {
    /// An agent for empty maps.
    pub fn new(config: &Config, maps: M) -> Self {
        Self {
            model: Model::new(ModelSettings {
                node_name: Arc::from(config.node_name.as_str()),
                ..ModelSettings::default()
            }),
            planner: Planner::new(config.capacity()),
            maps,
            settings: NatSettings {
                first: config.nat_ports.first,
                count: config.nat_ports.count(),
                flags: if config.masquerade_all {
                    settings_flags::MASQUERADE_ALL
                } else {
                    0
                },
            },
            retired: Retired::default(),
            owed: Vec::new(),
            node_addresses: BTreeSet::new(),
            node_changed: false,
            is_programmed: false,
            last_updated: None,
            owing_since: None,
        }
    }

    /// The maps.
    pub fn maps(&self) -> &M {
        &self.maps
    }

    /// Takes changes into the model.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.model.apply(change);
        }
    }

    /// Brings the maps to what the model wants; nothing until the first lists are
    /// complete.
    pub fn program(&mut self) {
        if !self.model.is_complete() {
            return;
        }
        for refusal in self.model.take_refusals() {
            warn!(service = %refusal.service, "refused: {}", refusal.reason);
        }
        let mut writes = self.node_writes();
        let changes = self.model.take_changes();
        let ports = changes.len();
        let is_first = !std::mem::replace(&mut self.is_programmed, true);
        if ports == 0 && writes.is_empty() && !is_first {
            return;
        }
        let mut plan = self.planner.plan(changes);
        writes.append(&mut plan.writes);
        plan.writes = writes;
        let writes = plan.writes.len();
        self.carry_out(plan);
        info!(
            ports,
            writes,
            served = self.planner.programmed(),
            "programmed"
        );
    }

    /// Tries again what a map refused.
    pub fn retry(&mut self) {
        if !self.owed.is_empty() {
            self.carry_out(Plan::default());
        }
    }

    /// Takes what was replaced so far and may be used again after a grace period;
    /// hand it to [`Self::reclaim`] then. Nothing while a map owes a write: what
    /// that write should have replaced is still in use.
    pub fn take_retired(&mut self) -> Option<Retired> {
        let is_due = !self.retired.is_empty() && self.owed.is_empty();
        is_due.then(|| std::mem::take(&mut self.retired))
    }

    /// Uses again what was replaced before a grace period.
    pub fn reclaim(&mut self, retired: Retired) {
        let plan = self.planner.reclaim(retired);
        self.carry_out(plan);
    }

    /// How the agent is; `devices` and `counters` are known to others.
    pub fn report(&self, devices: usize, counters: Vec<(&'static str, u64)>) -> Report {
        // Both families are programmed in one pass.
        let families = Family::ALL.map(|family| FamilyReport {
            family,
            last_updated: self.last_updated,
            pending_for: self.owing_since.map(|since| since.elapsed()),
        });
        Report {
            families: families.to_vec(),
            node_eligible: self.model.node().is_some_and(|node| node.is_eligible),
            devices,
            ports: self.planner.programmed(),
            maps: self
                .planner
                .usage()
                .map(|(map, used, capacity)| MapUsage {
                    map,
                    used,
                    capacity,
                })
                .to_vec(),
            counters,
        }
    }

    /// Whether the first state is in the maps.
    pub fn is_programmed(&self) -> bool {
        self.is_programmed
    }

    /// Whether the node's addresses changed since the last call, or the first
    /// state was programmed.
    pub fn take_node_change(&mut self) -> bool {
        std::mem::take(&mut self.node_changed)
    }

    /// The addresses of this node.
    pub fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node_addresses
    }

    /// The writes that follow from a change of the node's addresses.
    fn node_writes(&mut self) -> Vec<Write> {
        let now: BTreeSet<IpAddr> = self.model.node_addresses().into_iter().collect();
        if self.is_programmed && now == self.node_addresses {
            return Vec::new();
        }
        let mut writes = settings_writes(&self.settings, &now).to_vec();
        writes.extend(
            now.difference(&self.node_addresses)
                .map(|address| Write::NodeAddress { address: *address }),
        );
        writes.extend(
            self.node_addresses
                .difference(&now)
                .map(|address| Write::RemoveNodeAddress { address: *address }),
        );
        self.node_addresses = now;
        self.node_changed = true;
        writes
    }

    /// Writes what is owed and then the plan; what a map refuses is owed.
    fn carry_out(&mut self, plan: Plan) {
        for refused in &plan.refused {
            warn!(port = %refused.port, "not served: {}", refused.full);
        }
        let owed = std::mem::take(&mut self.owed);
        for write in owed.into_iter().chain(plan.writes) {
            if let Err(error) = self.maps.write(&write) {
                report(&write, error);
                self.owed.push(write);
            }
        }
        self.retired.extend(plan.retired);
        if self.owed.is_empty() {
            self.owing_since = None;
            self.last_updated = Some(SystemTime::now());
        } else {
            self.owing_since.get_or_insert_with(Instant::now);
        }
    }
}

fn report(write: &Write, error: MapError) {
    let error = anyhow::Error::from(error);
    match write {
        Write::Frontend { id, .. } | Write::RemoveFrontend { id } => error!(
            frontend = %id.address, port = id.port, protocol = %id.protocol,
            "not programmed, to be tried again: {error:#}"
        ),
        _ => error!("not programmed, to be tried again: {error:#}"),
    }
}

/// The settings of both families for a node with `addresses`.
fn settings_writes(nat: &NatSettings, addresses: &BTreeSet<IpAddr>) -> [Write; 2] {
    let v4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(V4::from(*address)),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(V6::from(*address)),
        IpAddr::V4(_) => None,
    });
    [
        Write::SettingsV4(Settings {
            node_address: v4.unwrap_or_default(),
            nat_first: nat.first,
            nat_ports: nat.count,
            flags: nat.flags,
        }),
        Write::SettingsV6(Settings {
            node_address: v6.unwrap_or_default(),
            nat_first: nat.first,
            nat_ports: nat.count,
            flags: nat.flags,
        }),
    ]
}
