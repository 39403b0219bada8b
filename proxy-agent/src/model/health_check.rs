//! What a load balancer is answered at `spec.healthCheckNodePort`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Model;
use super::endpoints::Offers;
use super::object::{Family, ObjectName};
use super::service::ServedService;
use super::store::{Entry, ServiceId};

/// The health check of a load balancer's Service with `externalTrafficPolicy: Local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`
    pub port: u16,
    /// How many addresses the Service's endpoints have that are ready and on this
    /// node: in each family in which it is served.
    pub local_endpoints: BTreeMap<Family, usize>,
    /// The load balancer's addresses that are this node's too: some balancers, such as Google
    /// Cloud's, ask there, and make them the node's by routes.
    pub balancer_ips: BTreeSet<IpAddr>,
}

impl Model {
    /// The health checks that may have changed since the last call, by Service;
    /// `None` where there is none (any more). Nothing until the first lists are
    /// complete.
    pub fn take_health_checks(&mut self) -> Vec<(ObjectName, Option<HealthCheck>)> {
        if !self.is_complete() {
            return Vec::new();
        }
        let dirty = std::mem::take(&mut self.dirty_health_checks);
        dirty
            .into_iter()
            .map(|service| {
                let entry = self.store.by_name(&service).map(|(_, entry)| entry);
                let check = entry.and_then(|entry| self.health_check(entry));
                (service, check)
            })
            .collect()
    }

    /// Notes that a Service's health check, if it has one, may be another one soon.
    pub(super) fn mark_health_check_dirty(&mut self, id: ServiceId) {
        if let Some(entry) = self.store.get(id)
            && health_check_port(entry).is_some()
            && !self.dirty_health_checks.contains(&entry.name)
        {
            self.dirty_health_checks.insert(entry.name.clone());
        }
    }

    /// The same of all Services with a claim to `address`.
    pub(super) fn mark_health_checks_at_dirty(&mut self, address: IpAddr) {
        for service in self.claims.services_on(address) {
            self.mark_health_check_dirty(service);
        }
    }

    fn health_check(&self, entry: &Entry) -> Option<HealthCheck> {
        let service = entry.service.as_ref()?;
        let endpoints = |family| (family, ready_endpoints(entry, service, family));
        let own = service.load_balancer_ips();
        Some(HealthCheck {
            port: health_check_port(entry)?,
            local_endpoints: service.families().map(endpoints).collect(),
            balancer_ips: own.filter(|it| self.local_addresses.contains(it)).collect(),
        })
    }
}

fn ready_endpoints(entry: &Entry, service: &ServedService, family: Family) -> usize {
    let ports = service.ports().iter();
    let ports = ports.map(|port| (&*port.name, port.protocol));
    let offers = Offers::new(&entry.slices, family, service.endpoints_per_port());
    offers.ready_here(ports).len()
}

fn health_check_port(entry: &Entry) -> Option<u16> {
    entry.service.as_ref()?.health_check_port
}
