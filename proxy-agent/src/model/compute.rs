//! The desired state and the warnings of one Service, from what is known.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Model;
use super::claims::{Claim, Destination};
use super::desired::{DesiredPort, Frontend, FrontendKind, PortName};
use super::endpoints::Sets;
use super::object::{Family, ObjectName};
use super::service::{Port, ServedService};
use super::store::{Entry, ServiceId};
use super::warning::WarningReason;

/// The label by which a node's zone is known.
const ZONE: &str = "topology.kubernetes.io/zone";

impl Model {
    /// The ports of a Service and what they should be.
    pub(super) fn desired_ports(
        &self,
        id: ServiceId,
        entry: &Entry,
    ) -> Vec<(PortName, DesiredPort)> {
        let Some(service) = &entry.service else {
            return Vec::new();
        };
        let mut desired = Vec::new();
        for family in service.families() {
            for (position, port) in (0..).zip(&service.ports) {
                let claims = service.port_claims(id, position, port, family);
                let algorithm = service.algorithm(self.settings.algorithm);
                let sets = Sets::new(
                    &entry.slices,
                    &port.name,
                    port.protocol,
                    family,
                    self.zone(),
                    algorithm,
                );
                desired.push((
                    port_name(&entry.name, port, family),
                    DesiredPort {
                        frontends: self.frontends(claims),
                        endpoints: sets.endpoints,
                        cluster: sets.cluster,
                        local: sets.local,
                        internal_policy: service.internal_policy,
                        external_policy: service.external_policy,
                        affinity: service.affinity,
                        algorithm,
                        weights: sets.weights,
                        forwarding: service.forwarding(self.settings.forwarding),
                        source_ranges: self.source_ranges(service, family),
                    },
                ));
            }
        }
        desired
    }

    /// Who may use a Service's load balancer addresses of a family. Where a range has
    /// an address of this node, they may be their own source as well.
    fn source_ranges(&self, service: &ServedService, family: Family) -> Option<Vec<IpNet>> {
        let mut allowed = service.source_ranges(family)?.to_vec();
        let node = self.node_addresses().primary;
        if allowed
            .iter()
            .any(|range| node.iter().any(|it| range.contains(it)))
        {
            let own = service.load_balancer_ips();
            allowed.extend(own.filter(|it| Family::of(*it) == family).map(IpNet::from));
        }
        allowed.sort_unstable();
        allowed.dedup();
        Some(allowed)
    }

    fn frontends(&self, claims: impl Iterator<Item = (Destination, Claim)>) -> Vec<Frontend> {
        let mut frontends: Vec<_> = claims
            .filter(|(destination, claim)| self.owner(*destination) == Some(*claim))
            .map(|(destination, claim)| Frontend {
                address: destination.address,
                port: destination.port,
                kind: claim.kind,
            })
            .collect();
        frontends.sort_unstable();
        frontends
    }

    /// All that is refused of a Service.
    pub(super) fn warnings_of(&self, id: ServiceId, entry: &Entry) -> BTreeSet<WarningReason> {
        let Some(service) = &entry.service else {
            return BTreeSet::new();
        };
        let conflict = service
            .claims(id)
            .filter_map(|(destination, claim)| self.conflict(destination, claim));
        let not_allowed = service
            .external_ips()
            .filter(|address| !self.allows_external_ip(*address))
            .map(|address| WarningReason::ExternalIpNotAllowed { address });
        let slices = entry.slices.iter().flat_map(|slice| &*slice.warnings);
        let own = service.warnings.iter().chain(slices).cloned();
        own.chain(conflict).chain(not_allowed).collect()
    }

    fn allows_external_ip(&self, address: IpAddr) -> bool {
        let mut allowed = self.settings.external_ips.iter();
        allowed.any(|range| range.contains(&address))
    }

    /// Why `claim` does not have what it wants. A port that wants one thing
    /// twice, as its load balancer IP and its external IP, loses nothing.
    fn conflict(&self, destination: Destination, claim: Claim) -> Option<WarningReason> {
        if let Some(reason) = self.blocked(destination.address, claim) {
            return Some(reason);
        }
        let owner = self.owner(destination)?;
        if (owner.service, owner.port) == (claim.service, claim.port) {
            return None;
        }
        let Destination {
            address,
            port,
            protocol,
        } = destination;
        Some(WarningReason::Taken {
            address,
            port,
            protocol,
            owner: self.store.get(owner.service)?.name.clone(),
        })
    }

    /// Who has `destination`.
    fn owner(&self, destination: Destination) -> Option<Claim> {
        self.claims
            .to(destination)
            .filter(|claim| self.blocked(destination.address, *claim).is_none())
            .min_by_key(|claim| self.rank(*claim))
    }

    /// The order in which claims win: a ClusterIP, which the API server
    /// allocates so that nobody else has it, before all that people write;
    /// then the oldest Service.
    fn rank(&self, claim: Claim) -> impl Ord {
        let is_written = claim.kind != FrontendKind::ClusterIp;
        let entry = self.store.get(claim.service);
        let created = entry
            .and_then(|entry| entry.service.as_ref())
            .map(|service| service.created);
        let name = entry.map(|entry| &entry.name);
        (is_written, created, name, claim.port, claim.kind)
    }

    /// An external IP can be written by anyone who may write a Service, so it
    /// needs leave, and never takes an address that is somebody's already
    /// (CVE-2020-8554).
    fn blocked(&self, address: IpAddr, claim: Claim) -> Option<WarningReason> {
        if claim.kind != FrontendKind::ExternalIp {
            return None;
        }
        if !self.allows_external_ip(address) {
            return Some(WarningReason::ExternalIpNotAllowed { address });
        }
        if self.is_node_address(address) {
            return Some(WarningReason::ExternalIpIsNodeAddress { address });
        }
        let owner = self
            .claims
            .on(address)
            .filter(|other| other.kind == FrontendKind::ClusterIp && other.service != claim.service)
            .min_by_key(|other| self.rank(*other))?;
        Some(WarningReason::ExternalIpIsClusterIp {
            address,
            owner: self.store.get(owner.service)?.name.clone(),
        })
    }

    /// This node's zone.
    pub(super) fn zone(&self) -> Option<&str> {
        zone_of(self.node.as_ref()?)
    }
}

/// The zone that the labels of `node` name.
pub(super) fn zone_of(node: &super::object::Node) -> Option<&str> {
    let zone = node.labels.get(ZONE)?;
    (!zone.is_empty()).then_some(zone)
}

fn port_name(service: &ObjectName, port: &Port, family: Family) -> PortName {
    PortName {
        service: service.clone(),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
        family,
    }
}

/// The claims of a Service that may be absent.
pub(super) fn claims_of(
    service: Option<&ServedService>,
    id: ServiceId,
) -> impl Iterator<Item = (Destination, Claim)> {
    service
        .into_iter()
        .flat_map(move |service| service.claims(id))
}
