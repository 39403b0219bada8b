//! Where ClusterIPs are, and which of these addresses Services have: what is sent to
//! the others belongs nowhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Model;
use super::object::ServiceCidr;

/// The ranges of all ServiceCIDRs, and the ClusterIPs of all Services.
#[derive(Debug, Default)]
pub(super) struct ClusterIps {
    cidrs: BTreeMap<Arc<str>, Vec<IpNet>>,
    /// The ranges as they were handed out.
    reported: BTreeSet<IpNet>,
    /// How many Services have an address.
    in_use: HashMap<IpAddr, u32>,
    /// Addresses that came or went since they were handed out, with whether they were
    /// in use then.
    dirty: BTreeMap<IpAddr, bool>,
}

/// What changed about ClusterIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterIpChanges {
    /// All ranges, where they are others than before.
    pub ranges: Option<BTreeSet<IpNet>>,
    /// Addresses that a Service has now and none had before.
    pub taken: BTreeSet<IpAddr>,
    /// Addresses that a Service had and none has now.
    pub freed: BTreeSet<IpAddr>,
}

impl ClusterIps {
    pub(super) fn put_cidr(&mut self, cidr: ServiceCidr) {
        self.cidrs.insert(cidr.name, cidr.ranges);
    }

    pub(super) fn remove_cidr(&mut self, name: &str) {
        self.cidrs.remove(name);
    }

    /// A Service has an address.
    pub(super) fn take(&mut self, address: IpAddr) {
        let count = self.in_use.entry(address).or_default();
        self.dirty.entry(address).or_insert(*count > 0);
        *count += 1;
    }

    /// A Service has an address no more.
    pub(super) fn free(&mut self, address: IpAddr) {
        let Some(count) = self.in_use.get_mut(&address) else {
            return;
        };
        self.dirty.entry(address).or_insert(true);
        *count -= 1;
        if *count == 0 {
            self.in_use.remove(&address);
        }
    }

    fn ranges(&self) -> BTreeSet<IpNet> {
        self.cidrs.values().flatten().copied().collect()
    }

    fn changes(&mut self) -> ClusterIpChanges {
        let mut changes = ClusterIpChanges::default();
        for (address, was_in_use) in std::mem::take(&mut self.dirty) {
            match (was_in_use, self.in_use.contains_key(&address)) {
                (false, true) => changes.taken.insert(address),
                (true, false) => changes.freed.insert(address),
                _ => continue,
            };
        }
        let ranges = self.ranges();
        if ranges != self.reported {
            self.reported.clone_from(&ranges);
            changes.ranges = Some(ranges);
        }
        changes
    }
}

impl Model {
    /// The ranges of all ServiceCIDRs; none where the API server has no such objects.
    pub fn service_cidrs(&self) -> BTreeSet<IpNet> {
        self.cluster_ips.ranges()
    }

    /// What changed about them since the last call; at the first one, all. Nothing until
    /// the first lists are complete: an address seems free only because its Service has
    /// not been heard of.
    pub fn take_cluster_ip_changes(&mut self) -> ClusterIpChanges {
        if !self.is_complete() {
            return ClusterIpChanges::default();
        }
        self.cluster_ips.changes()
    }
}
