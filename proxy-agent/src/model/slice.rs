//! An EndpointSlice as the model keeps it: parsed once, and reduced to what
//! matters on this node.

use std::net::IpAddr;
use std::sync::Arc;

use super::address::special;
use super::intern::Interner;
use super::object::{Endpoint, EndpointSlice, Family, Protocol};
use super::refusal::{AddressRole, PortRole, RefusalReason};
use super::service::port_number;

/// An EndpointSlice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) name: Arc<str>,
    pub(super) family: Family,
    pub(super) ports: Box<[Port]>,
    pub(super) endpoints: Box<[Candidate]>,
    pub(super) refusals: Box<[RefusalReason]>,
}

/// A port of a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: IpAddr,
    pub(super) readiness: Readiness,
    pub(super) terminating: bool,
    pub(super) local: bool,
    pub(super) node_hint: NodeHint,
    /// The zones that its hints name; empty where it has none.
    pub(super) zones: Arc<[Arc<str>]>,
}

/// What new connections may do with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Use it.
    Ready,
    /// Use it where nothing is ready: it terminates but still serves.
    Draining,
    /// Leave it alone.
    Unusable,
}

/// What an endpoint's `hints.forNodes` mean here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeHint {
    /// It has none.
    Absent,
    /// It is meant for other nodes.
    Elsewhere,
    /// It is meant for this node.
    Here,
}

/// The values that slices share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) strings: Interner<str>,
    pub(super) zones: Interner<[Arc<str>]>,
}

impl Slice {
    /// Takes what can be used of `slice`; `None` where its addresses are of no
    /// IP family.
    pub(super) fn new(slice: &EndpointSlice, node: &str, shared: &mut Shared) -> Option<Self> {
        let family = slice.family?;
        let mut refusals = Vec::new();
        let mut ports = Vec::with_capacity(slice.ports.len());
        for asked in &slice.ports {
            let number = port_number(asked.port, PortRole::Endpoint, &asked.name, &mut refusals);
            ports.extend(number.map(|number| Port {
                name: shared.strings.intern(asked.name.clone()),
                protocol: asked.protocol,
                number,
            }));
        }
        let mut endpoints = Vec::with_capacity(slice.endpoints.len());
        for endpoint in &slice.endpoints {
            match usable_address(&endpoint.address, family) {
                Ok(address) => endpoints.push(candidate(address, endpoint, node, shared)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        refusals.sort_unstable();
        refusals.dedup();
        Some(Self {
            name: slice.name.name.clone(),
            family,
            ports: ports.into(),
            endpoints: endpoints.into(),
            refusals: refusals.into(),
        })
    }

    /// Whether the node's zone has a say in which of its endpoints are used.
    pub(super) fn has_zone_hints(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| !endpoint.zones.is_empty())
    }
}

fn usable_address(text: &str, family: Family) -> Result<IpAddr, RefusalReason> {
    let role = AddressRole::Endpoint;
    let Ok(address) = text.parse::<IpAddr>() else {
        let text = text.to_owned();
        return Err(RefusalReason::NotAnAddress { role, text });
    };
    if let Some(class) = special(address) {
        return Err(RefusalReason::SpecialAddress {
            role,
            address,
            class,
        });
    }
    if Family::of(address) != family {
        return Err(RefusalReason::WrongFamily { address });
    }
    Ok(address)
}

fn candidate(address: IpAddr, endpoint: &Endpoint, node: &str, shared: &mut Shared) -> Candidate {
    let zones = endpoint
        .zone_hints
        .iter()
        .map(|zone| shared.strings.intern(zone.clone()))
        .collect();
    Candidate {
        address,
        readiness: match endpoint {
            Endpoint { ready: true, .. } => Readiness::Ready,
            Endpoint {
                serving: true,
                terminating: true,
                ..
            } => Readiness::Draining,
            _ => Readiness::Unusable,
        },
        terminating: endpoint.terminating,
        local: endpoint.node.as_deref() == Some(node),
        node_hint: if endpoint.node_hints.is_empty() {
            NodeHint::Absent
        } else if endpoint.node_hints.iter().any(|hint| **hint == *node) {
            NodeHint::Here
        } else {
            NodeHint::Elsewhere
        },
        zones: shared.zones.intern(zones),
    }
}
