//! The model: Kubernetes objects in, what this node should serve out.
//!
//! ```text
//!  Change ──► apply ──► Store (by Service: what is served of it, its slices)
//!                  └──► Claims (who wants which destination)
//!                                │ take_changes: of the dirty Services only
//!                                ▼
//!                       (PortName, DesiredPort)
//! ```
//!
//! It is pure: no I/O, no clock, nothing of Kubernetes or the kernel. What it
//! wants is a function of the objects that are there, never of the order in
//! which they came.
//!
//! The desired state is not stored. It is computed when asked for, and, before
//! the first change to a Service since then, once more as it was: so the model
//! knows what really changed, and its memory holds little more than the objects.

#![forbid(unsafe_code)]

mod address;
mod apply;
mod claims;
mod cluster_ips;
mod compute;
pub mod desired;
mod endpoints;
mod health_check;
mod intern;
mod limits;
mod node;
pub mod object;
mod offered;
mod parse;
mod pods;
mod service;
mod slice;
mod source_ranges;
mod store;
#[cfg(test)]
mod tests;
pub mod warning;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use address::AddressClass;
pub use cluster_ips::ClusterIpChanges;
pub use desired::{DesiredPort, PortName};
pub use health_check::HealthCheck;
pub use node::{NodeAddresses, NodePortAddresses};
pub use object::{Change, ObjectName};
pub use offered::{OfferedEndpoint, OfferedFrontend, Standing};
pub use parse::{parse_ip, parse_ip_as_written, parse_range};
pub use warning::{ServiceWarning, WarningReason};

use claims::{Claims, Destination};
use cluster_ips::ClusterIps;
use intern::Interner;
use object::{Algorithm, Family, Forwarding, Node};
use pods::Pods;
use slice::Shared;
use store::{ServiceId, Store};

/// What decides beside the objects.
#[derive(Clone, Debug, Default)]
pub struct ModelSettings {
    /// Where external IPs may be. None by default: whoever may write a Service
    /// could otherwise take any traffic that passes this node (CVE-2020-8554).
    pub external_ips: Vec<IpNet>,
    /// This node's primary address, in place of the first that its object lists.
    pub bind_address: Option<IpAddr>,
    /// Which of its addresses answer on `NodePorts`.
    pub node_port_addresses: NodePortAddresses,
    /// How connections from outside choose their endpoint, where a Service does not say.
    pub algorithm: Algorithm,
    /// How connections from outside reach endpoints of other nodes, where a Service does
    /// not say.
    pub forwarding: Forwarding,
}

/// The objects, and what follows from them for this node.
#[derive(Debug)]
pub struct Model {
    node_name: Arc<str>,
    settings: ModelSettings,
    store: Store,
    /// The Service that each slice belongs to.
    slices: HashMap<ObjectName, ServiceId>,
    claims: Claims,
    cluster_ips: ClusterIps,
    pods: Pods,
    node: Option<Node>,
    shared: Shared,
    services_listed: bool,
    slices_listed: bool,
    node_listed: bool,
    /// Services that something happened to since the desired state was handed
    /// out, with what was handed out. `None` before the first time: all is new.
    dirty: Option<BTreeMap<ObjectName, Vec<(PortName, DesiredPort)>>>,
    /// The same for warnings, of which what was handed out is kept below.
    warnings_dirty: Option<BTreeSet<ObjectName>>,
    /// Destinations that another one has now: all that want them are refused in its favour.
    /// Who they are is asked when warnings are, not at each change.
    changed_hands: BTreeSet<Destination>,
    reported_warnings: HashMap<ObjectName, BTreeSet<WarningReason>>,
    /// When the changes happened that slices reported since the last call, in
    /// milliseconds since the epoch.
    triggers: Vec<(Family, i64)>,
    /// Services whose health check may be another than was handed out.
    dirty_health_checks: BTreeSet<ObjectName>,
    /// The addresses of this node's devices.
    local_addresses: BTreeSet<IpAddr>,
    /// Those at which something on the host answers in the place of Services.
    host_frontends: BTreeSet<IpAddr>,
}

impl Model {
    /// A model that knows of no object, for the node of this name.
    pub fn new(node_name: &str, settings: ModelSettings) -> Self {
        Self {
            node_name: node_name.into(),
            settings,
            store: Store::default(),
            slices: HashMap::new(),
            claims: Claims::default(),
            cluster_ips: ClusterIps::default(),
            pods: Pods::default(),
            node: None,
            shared: Shared {
                strings: Interner::new(),
                zones: Interner::new(),
            },
            services_listed: false,
            slices_listed: false,
            node_listed: false,
            dirty: None,
            warnings_dirty: None,
            changed_hands: BTreeSet::new(),
            reported_warnings: HashMap::new(),
            triggers: Vec::new(),
            dirty_health_checks: BTreeSet::new(),
            local_addresses: BTreeSet::new(),
            host_frontends: BTreeSet::new(),
        }
    }

    /// Takes in a change. The cost depends on what it affects, not on how much
    /// there is.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Service(service) => self.put_service(&service),
            Change::ServiceGone(name) => self.remove_service(&name),
            Change::EndpointSlice(slice) => self.put_slice(&slice),
            Change::EndpointSliceGone(name) => self.remove_slice(&name),
            Change::Node(node) => self.put_node(Some(node)),
            Change::NodeGone => self.put_node(None),
            Change::ServiceCidr(cidr) => self.cluster_ips.put_cidr(cidr),
            Change::ServiceCidrGone(name) => self.cluster_ips.remove_cidr(&name),
            Change::Pod(pod) => self.pods.put(pod),
            Change::PodGone(name) => self.pods.remove(&name),
            Change::ServicesListed => self.services_listed = true,
            Change::EndpointSlicesListed => self.slices_listed = true,
            Change::NodeListed => self.node_listed = true,
        }
    }

    /// The ids of the Pods whose sockets are left alone, if these are others than at the
    /// last call.
    pub fn take_opted_out_pods(&mut self) -> Option<BTreeSet<Arc<str>>> {
        self.pods.take_change()
    }

    /// Whether the first lists of Services and of slices are complete.
    /// Before that nothing may be programmed, and above all nothing removed.
    pub fn is_complete(&self) -> bool {
        self.services_listed && self.slices_listed
    }

    /// Whether it is known what this node's object says, or that there is none.
    pub fn is_node_listed(&self) -> bool {
        self.node_listed
    }

    /// What changed since the last call, ordered by port; `None` for a port
    /// that is gone. Nothing until the first lists are complete. What is not
    /// taken from the iterator is lost.
    ///
    /// Each port is computed when it is taken: that all of them change at once,
    /// as the first time, costs no memory for all of them.
    pub fn take_changes(&mut self) -> impl Iterator<Item = (PortName, Option<DesiredPort>)> {
        let dirty = if self.is_complete() {
            let dirty = self.dirty.replace(BTreeMap::new());
            dirty.unwrap_or_else(|| {
                let all = self.store.iter();
                all.map(|(_, entry)| (entry.name.clone(), Vec::new()))
                    .collect()
            })
        } else {
            BTreeMap::new()
        };
        dirty
            .into_iter()
            .flat_map(|(service, before)| self.changes_of(&service, before))
    }

    /// What is different from before with the ports of a Service.
    fn changes_of(
        &self,
        service: &ObjectName,
        before: Vec<(PortName, DesiredPort)>,
    ) -> BTreeMap<PortName, Option<DesiredPort>> {
        let mut before: BTreeMap<_, _> = before.into_iter().collect();
        let mut changes = BTreeMap::new();
        for (port, desired) in self.desired_of(service) {
            if before.remove(&port).as_ref() != Some(&desired) {
                changes.insert(port, Some(desired));
            }
        }
        changes.extend(before.into_keys().map(|port| (port, None)));
        changes
    }

    /// Refusals that are new since the last call; each is reported once while it
    /// persists. None until the first lists are complete.
    pub fn take_warnings(&mut self) -> Vec<ServiceWarning> {
        if !self.is_complete() {
            return Vec::new();
        }
        let mut contested = BTreeSet::new();
        for destination in std::mem::take(&mut self.changed_hands) {
            contested.extend(self.claims.to(destination).map(|claim| claim.service));
        }
        let dirty = self.warnings_dirty.replace(BTreeSet::new());
        let dirty = if let Some(mut dirty) = dirty {
            let entries = contested.into_iter().filter_map(|id| self.store.get(id));
            dirty.extend(entries.map(|entry| entry.name.clone()));
            dirty
        } else {
            let all = self.store.iter().map(|(_, entry)| entry.name.clone());
            all.collect()
        };
        let mut new = Vec::new();
        for service in dirty {
            let current = self
                .store
                .by_name(&service)
                .map(|(id, entry)| self.warnings_of(id, entry))
                .unwrap_or_default();
            let known = self.reported_warnings.remove(&service).unwrap_or_default();
            new.extend(current.difference(&known).map(|reason| ServiceWarning {
                service: service.clone(),
                reason: reason.clone(),
            }));
            if !current.is_empty() {
                self.reported_warnings.insert(service, current);
            }
        }
        new
    }

    /// All that is refused at present, in no order that means anything.
    pub fn warnings(&self) -> impl Iterator<Item = ServiceWarning> {
        self.store.iter().flat_map(|(id, entry)| {
            self.warnings_of(id, entry)
                .into_iter()
                .map(|reason| ServiceWarning {
                    service: entry.name.clone(),
                    reason,
                })
        })
    }

    /// When the changes happened that slices have brought since the last call and the
    /// first lists, in milliseconds since the epoch; by the slices' families.
    pub fn take_triggers(&mut self) -> Vec<(Family, i64)> {
        std::mem::take(&mut self.triggers)
    }

    /// This node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// This node's object.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// What the ports of one Service should be.
    pub fn desired_of(&self, service: &ObjectName) -> Vec<(PortName, DesiredPort)> {
        let entry = self.store.by_name(service);
        let desired = entry.map(|(id, entry)| self.desired_ports(id, entry));
        desired.unwrap_or_default()
    }

    /// All that this node should serve, in no order that means anything.
    pub fn desired(&self) -> impl Iterator<Item = (PortName, DesiredPort)> {
        self.store
            .iter()
            .flat_map(|(id, entry)| self.desired_ports(id, entry))
    }
}
