//! The desired state and the warnings of one Service, from what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Model;
use super::claims::{Claim, Destination};
use super::desired::{DesiredPort, Frontend, FrontendKind, PortName};
use super::endpoints::Offers;
use super::limits;
use super::object::{Family, ObjectName};
use super::service::{Port, ServedService, is_in};
use super::store::{Entry, ServiceId};
use super::warning::{LimitedPart, WarningReason};

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
        let algorithm = service.algorithm(self.settings.algorithm);
        let forwarding = service.forwarding(self.settings.forwarding);
        for family in service.families() {
            let offers = Offers::new(&entry.slices, family, service.endpoints_per_port());
            let source_ranges = self.source_ranges(service, family);
            for (position, port) in (0..).zip(service.ports()) {
                let claims = service.port_claims(id, position, port, family);
                let sets = offers.sets(&port.name, port.protocol, self.zone(), algorithm);
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
                        forwarding,
                        unanswered: service.unanswered,
                        source_ranges: source_ranges.clone(),
                    },
                ));
            }
        }
        desired
    }

    /// Who may use a Service's load balancer addresses of a family. Where a range has
    /// an address of this node, they may be their own source as well.
    fn source_ranges(&self, service: &ServedService, family: Family) -> Option<Arc<[IpNet]>> {
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
        Some(allowed.into())
    }

    fn frontends(&self, claims: impl Iterator<Item = (Destination, Claim)>) -> Vec<Frontend> {
        let mut frontends: Vec<_> = claims
            .filter(|(destination, claim)| self.owner(*destination) == Some(*claim))
            .map(|(destination, claim)| Frontend {
                address: destination.address,
                port: destination.port,
                kind: self.kind_of(destination, claim),
            })
            .collect();
        frontends.sort_unstable();
        frontends
    }

    /// As what `claim` has `destination`.
    pub(super) fn kind_of(&self, destination: Destination, claim: Claim) -> FrontendKind {
        if self.host_frontends.contains(&destination.address) {
            FrontendKind::LeftToHost
        } else {
            claim.kind
        }
    }

    /// What is refused of a Service: all of it, or the first few reasons and that there are
    /// more.
    pub(super) fn warnings_of(&self, id: ServiceId, entry: &Entry) -> BTreeSet<WarningReason> {
        let Some(service) = &entry.service else {
            return BTreeSet::new();
        };
        let excess = service.excess().chain(excess_endpoints(entry, service));
        let slices = entry.slices.iter().flat_map(|slice| &*slice.warnings);
        let own = service.warnings.iter().chain(slices).cloned();
        let allowed = &self.settings.external_ips;
        let not_allowed = service.external_ips().iter().filter_map(|address| {
            let address = *address;
            (!is_in(address, allowed)).then_some(WarningReason::ExternalIpNotAllowed { address })
        });
        let external = service
            .addresses()
            .filter(|(_, kind)| *kind == FrontendKind::ExternalIp);
        let void: BTreeMap<IpAddr, WarningReason> = external
            .filter_map(|(address, _)| Some((address, self.void(address, id)?)))
            .collect();
        let is_void = |destination: &Destination, claim: &Claim| {
            claim.kind == FrontendKind::ExternalIp && void.contains_key(&destination.address)
        };
        let taken = service
            .claims(id)
            .filter(|(destination, claim)| !is_void(destination, claim))
            .filter_map(|(destination, claim)| self.taken(destination, claim));

        let reasons = excess.chain(own).chain(not_allowed);
        let reasons = reasons.chain(void.values().cloned()).chain(taken);
        let mut told = BTreeSet::new();
        for reason in reasons {
            if told.len() == limits::WARNINGS && !told.contains(&reason) {
                told.insert(WarningReason::More);
                break;
            }
            told.insert(reason);
        }
        told
    }

    /// Why `claim` does not have what it wants: another one has it. A port that wants one
    /// thing twice, as its load balancer IP and its external IP, loses nothing.
    fn taken(&self, destination: Destination, claim: Claim) -> Option<WarningReason> {
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
    pub(super) fn owner(&self, destination: Destination) -> Option<Claim> {
        self.owner_among(destination, |_| true)
    }

    /// Who would have `destination` if this Service did not want it.
    pub(super) fn owner_but(&self, destination: Destination, service: ServiceId) -> Option<Claim> {
        self.owner_among(destination, |claim| claim.service != service)
    }

    /// Where an address is a ClusterIP or the node's, external IPs there are void; that of
    /// the Service whose ClusterIP it is wants only what this Service has anyway.
    fn owner_among(
        &self,
        destination: Destination,
        wanted: impl Fn(Claim) -> bool,
    ) -> Option<Claim> {
        let address = destination.address;
        let is_cluster_ip = self.claims.with_cluster_ip(address).next().is_some();
        let external = !is_cluster_ip && !self.is_node_address(address);
        self.claims.winner(destination, external, wanted)
    }

    /// An external IP can be written by anyone who may write a Service, so it
    /// needs leave, and never takes an address that is somebody's already
    /// (CVE-2020-8554).
    fn void(&self, address: IpAddr, service: ServiceId) -> Option<WarningReason> {
        if self.is_node_address(address) {
            return Some(WarningReason::ExternalIpIsNodeAddress { address });
        }
        let owners = self.claims.with_cluster_ip(address);
        let owners = owners
            .filter(|owner| *owner != service)
            .filter_map(|owner| {
                let entry = self.store.get(owner)?;
                Some((entry.service.as_ref()?.created, &entry.name))
            });
        let (_, owner) = owners.min()?;
        Some(WarningReason::ExternalIpIsClusterIp {
            address,
            owner: owner.clone(),
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

pub(super) fn port_name(service: &ObjectName, port: &Port, family: Family) -> PortName {
    PortName {
        service: service.clone(),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
        family,
    }
}

/// That ports of a Service have more endpoints than they may.
fn excess_endpoints(entry: &Entry, service: &ServedService) -> Option<WarningReason> {
    let served = service.endpoints_per_port();
    let most = service.families().filter_map(|family| {
        let offers = Offers::new(&entry.slices, family, served);
        let count = |port: &Port| offers.count(&port.name, port.protocol);
        service.ports().iter().map(count).max()
    });
    let asked = most.max().filter(|asked| *asked > served)?;
    Some(WarningReason::TooMany {
        what: LimitedPart::Endpoints,
        served,
        asked,
    })
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
