//! Takes in one change of an object.
//!
//! Every Service that a change can affect is marked dirty before it is applied; its desired
//! state at that time is what `take_changes` compares with.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Model;
use super::compute::{claims_of, zone_of};
use super::desired::FrontendKind;
use super::object::{EndpointSlice, Node, ObjectName, Service};
use super::service::ServedService;
use super::slice::Slice;
use super::store::ServiceId;

impl Model {
    pub(super) fn put_service(&mut self, service: &Service) {
        let allowed = &self.settings.external_ips;
        let served = ServedService::new(service, allowed, &mut self.shared.strings);
        if let Some(served) = served {
            let id = self.entry(&service.name);
            self.replace_service(id, Some(served));
        } else {
            self.remove_service(&service.name);
        }
    }

    pub(super) fn remove_service(&mut self, name: &ObjectName) {
        if let Some(id) = self.store.id(name) {
            self.replace_service(id, None);
            self.store.remove_if_empty(id);
        }
    }

    pub(super) fn replace_service(&mut self, id: ServiceId, new: Option<ServedService>) {
        let Some(entry) = self.store.get(id) else {
            return;
        };
        let old = entry.service.as_deref();
        if old == new.as_ref() {
            return;
        }
        let leaving: Vec<_> = claims_of(old, id).collect();
        let coming: Vec<_> = claims_of(new.as_ref(), id).collect();
        let addresses = |service: Option<&ServedService>| -> BTreeSet<_> {
            service.iter().flat_map(|it| it.addresses()).collect()
        };
        let (old_addresses, new_addresses) = (addresses(old), addresses(new.as_ref()));

        self.mark_dirty(id);
        let destinations = leaving.iter().chain(&coming).map(|(it, _)| *it);
        let destinations: BTreeSet<_> = destinations.collect();
        let owners: Vec<_> = destinations
            .into_iter()
            .map(|destination| (destination, self.owner(destination)))
            .collect();
        for (destination, owner) in &owners {
            let heir = self.owner_but(*destination, id);
            for affected in owner.iter().chain(&heir) {
                self.mark_dirty(affected.service);
            }
        }
        for (address, kind) in old_addresses.symmetric_difference(&new_addresses) {
            if *kind == FrontendKind::ClusterIp {
                self.mark_external_ips_dirty(*address);
            }
        }

        if let Some(entry) = self.store.get(id) {
            let old = entry.service.iter().flat_map(|old| old.cluster_ips());
            old.for_each(|address| self.cluster_ips.free(address));
        }
        let coming_ips = new.iter().flat_map(ServedService::cluster_ips);
        coming_ips.for_each(|address| self.cluster_ips.take(address));
        for (destination, claim) in leaving {
            let rank = |claim| self.store.rank(claim);
            self.claims.remove(destination, claim, rank);
        }
        for (address, kind) in old_addresses {
            self.claims.remove_address(address, kind, id);
        }
        if let Some(entry) = self.store.get_mut(id) {
            entry.service = new.map(Box::new);
        }
        for (destination, claim) in coming {
            let rank = |claim| self.store.rank(claim);
            self.claims.insert(destination, claim, rank);
        }
        for (address, kind) in new_addresses {
            self.claims.add_address(address, kind, id);
        }
        let changed = owners
            .into_iter()
            .filter(|(destination, owner)| self.owner(*destination) != *owner);
        let changed: Vec<_> = changed.map(|(destination, _)| destination).collect();
        self.changed_hands.extend(changed);
        self.mark_health_check_dirty(id);
    }

    pub(super) fn put_slice(&mut self, slice: &EndpointSlice) {
        let Some(new) = Slice::new(slice, &self.node_name, &mut self.shared) else {
            self.remove_slice(&slice.name);
            return;
        };
        if let Some(before) = self.slices.get(&slice.name).copied()
            && self.store.id(&slice.service) != Some(before)
        {
            // It names another Service than it did.
            self.remove_slice(&slice.name);
        }
        let id = self.entry(&slice.service);
        if self
            .store
            .get(id)
            .is_some_and(|entry| entry.slices.contains(&new))
        {
            return;
        }
        self.mark_dirty(id);
        if self.is_complete() {
            let trigger = slice.last_change_trigger;
            self.triggers.extend(trigger.map(|time| (new.family, time)));
        }
        let name = self.shared_name(&slice.name);
        if let Some(entry) = self.store.get_mut(id) {
            entry.replace_slice(&name.name.clone(), Some(new));
        }
        self.slices.insert(name, id);
    }

    pub(super) fn remove_slice(&mut self, name: &ObjectName) {
        let Some(id) = self.slices.remove(name) else {
            return;
        };
        self.mark_dirty(id);
        if let Some(entry) = self.store.get_mut(id) {
            entry.replace_slice(&name.name, None);
        }
        self.store.remove_if_empty(id);
    }

    pub(super) fn put_node(&mut self, node: Option<Node>) {
        if self.zone() != node.as_ref().and_then(zone_of) {
            let hinted: Vec<_> = self
                .store
                .iter()
                .filter(|(_, entry)| entry.slices.iter().any(Slice::has_zone_hints))
                .map(|(id, _)| id)
                .collect();
            for id in hinted {
                self.mark_dirty(id);
            }
        }
        let addresses = |node: Option<&Node>| -> Vec<IpAddr> {
            node.map(|node| node.addresses.clone()).unwrap_or_default()
        };
        let old = addresses(self.node.as_ref());
        let new = addresses(node.as_ref());
        if old != new {
            for address in old.into_iter().chain(new) {
                self.mark_external_ips_dirty(address);
            }
            self.mark_source_ranges_dirty();
        }
        self.node = node;
    }

    /// Touches whoever has source ranges, in which this node's address may be.
    pub(super) fn mark_source_ranges_dirty(&mut self) {
        let restricted = self.store.iter().filter(|(_, entry)| {
            let service = entry.service.as_ref();
            service.is_some_and(|service| service.has_source_ranges())
        });
        for id in restricted.map(|(id, _)| id).collect::<Vec<_>>() {
            self.mark_dirty(id);
        }
    }

    /// Touches whoever has or wants `address` as an external IP, and thereby
    /// whoever it could be lost to.
    pub(super) fn mark_external_ips_dirty(&mut self, address: IpAddr) {
        if self.claims.is_external_ip(address) {
            for service in self.claims.services_on(address) {
                self.mark_dirty(service);
            }
        }
    }

    /// Notes that something about a Service is about to change.
    pub(super) fn mark_dirty(&mut self, id: ServiceId) {
        let Some(entry) = self.store.get(id) else {
            return;
        };
        if let Some(dirty) = &mut self.warnings_dirty
            && !dirty.contains(&entry.name)
        {
            dirty.insert(entry.name.clone());
        }
        if let Some(dirty) = &self.dirty
            && !dirty.contains_key(&entry.name)
        {
            let name = entry.name.clone();
            let before = self.desired_ports(id, entry);
            self.dirty.get_or_insert_default().insert(name, before);
        }
        self.mark_health_check_dirty(id);
    }

    fn entry(&mut self, name: &ObjectName) -> ServiceId {
        if let Some(id) = self.store.id(name) {
            return id;
        }
        let name = self.shared_name(name);
        self.store.add(name)
    }

    fn shared_name(&mut self, name: &ObjectName) -> ObjectName {
        let namespace = self.shared.strings.intern(name.namespace.clone());
        ObjectName::new(namespace, name.name.clone())
    }
}
