//! What this node should serve at a destination, told to people: every endpoint, and why new
//! connections go to it or do not.

use std::net::IpAddr;

use super::Model;
use super::claims::{Claim, Destination};
use super::compute::port_name;
use super::desired::{Endpoint, FrontendKind, PortName};
use super::endpoints::Offers;
use super::object::{Family, Protocol, TrafficPolicy};
use super::service::unspecified;
use crate::choice::choice;

choice! {
    /// Why an endpoint is in a set, or is not.
    #[derive(PartialOrd, Ord)]
    pub enum Standing {
        /// New connections go to it.
        Candidate = "candidate",
        /// It is not ready.
        NotReady = "not ready",
        /// It terminates, and there are others that do not.
        Terminating = "terminating",
        /// `hints.forNodes` of all endpoints name nodes, and its ones not this.
        HintedToOtherNodes = "hinted to other nodes",
        /// `hints.forZones` of all endpoints name zones, and its ones not this node's.
        HintedToOtherZones = "hinted to other zones",
        /// It is on another node.
        NotLocal = "not on this node",
        /// Its weight is 0, and there are others.
        NoWeight = "weight 0",
    }
}

/// An endpoint of a Service port, whether it serves or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedEndpoint {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Why it is in the cluster set, or is not.
    pub cluster: Standing,
    /// Why it is in the local set, or is not.
    pub local: Standing,
}

/// A frontend that this node should serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedFrontend {
    /// Of which Service port.
    pub port: PortName,
    /// What kind it is.
    pub kind: FrontendKind,
    /// Which set new connections use that come to it from outside the cluster, or, at a
    /// ClusterIP, from anywhere.
    pub policy: TrafficPolicy,
    /// The endpoints, by address and port.
    pub endpoints: Vec<OfferedEndpoint>,
}

impl Model {
    /// What this node should serve at a destination; the node's own addresses have NodePorts.
    pub fn offered_at(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
    ) -> Option<OfferedFrontend> {
        let family = Family::of(address);
        let at = |address| Destination {
            address,
            port,
            protocol,
        };
        let has_node_ports =
            address.is_loopback() || self.node_addresses().node_ports.contains(&address);
        let destination = self.owner(at(address)).map(|claim| (at(address), claim));
        let (destination, claim) = destination.or_else(|| {
            let node_port = at(unspecified(family));
            let claim = self.owner(node_port).filter(|_| has_node_ports)?;
            Some((node_port, claim))
        })?;
        self.offered(destination, claim, family)
    }

    fn offered(
        &self,
        destination: Destination,
        claim: Claim,
        family: Family,
    ) -> Option<OfferedFrontend> {
        let entry = self.store.get(claim.service)?;
        let service = entry.service.as_ref()?;
        let port = service.ports().get(usize::try_from(claim.port).ok()?)?;
        let offers = Offers::new(&entry.slices, family, service.endpoints_per_port());
        let algorithm = service.algorithm(self.settings.algorithm);
        let endpoints = offers.standings(&port.name, port.protocol, self.zone(), algorithm);
        Some(OfferedFrontend {
            port: port_name(&entry.name, port, family),
            kind: self.kind_of(destination, claim),
            policy: match claim.kind {
                FrontendKind::ClusterIp => service.internal_policy,
                _ => service.external_policy,
            },
            endpoints,
        })
    }
}
