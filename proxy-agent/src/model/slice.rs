//! An EndpointSlice as the model keeps it: parsed once, and reduced to what
//! matters on this node.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::address::unusable_class;
use super::desired::Weight;
use super::intern::Interner;
use super::object::{Endpoint, EndpointSlice, Family, Protocol};
use super::parse::parse_ip;
use super::service::port_number;
use super::warning::{AddressRole, PortRole, WarningReason};

/// An EndpointSlice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) name: Arc<str>,
    pub(super) family: Family,
    pub(super) ports: Box<[Port]>,
    pub(super) endpoints: Box<[Candidate]>,
    /// Of each of its endpoints.
    pub(super) weight: Weight,
    /// The different sets of zones that hints of its endpoints name.
    zones: Box<[Zones]>,
    pub(super) warnings: Box<[WarningReason]>,
}

/// A port of a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

/// Names of zones.
type Zones = Arc<[Arc<str>]>;

/// An endpoint of a slice. There are more of these than of anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: IpAddr,
    pub(super) readiness: Readiness,
    pub(super) terminating: bool,
    pub(super) local: bool,
    pub(super) node_hint: NodeHint,
    /// Which of the slice's sets of zones its hints name, counted from one; `None`
    /// where it has no such hint.
    zones: Option<NonZeroU16>,
}

const _: () = assert!(size_of::<Candidate>() == 24);

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
        let mut warnings = Vec::new();
        let mut ports = Vec::with_capacity(slice.ports.len());
        for asked in &slice.ports {
            let number = port_number(asked.port, PortRole::Endpoint, &asked.name, &mut warnings);
            ports.extend(number.map(|number| Port {
                name: shared.strings.intern(asked.name.clone()),
                protocol: asked.protocol,
                number,
            }));
        }
        let mut endpoints = Vec::with_capacity(slice.endpoints.len());
        let mut zones = Vec::new();
        for endpoint in &slice.endpoints {
            match usable_address(&endpoint.address, family) {
                Ok(address) => {
                    let zones = place_of(&endpoint.zone_hints, &mut zones, shared);
                    endpoints.push(candidate(address, endpoint, node, zones));
                }
                Err(warning) => warnings.push(warning),
            }
        }
        let weight = weight(slice, &mut warnings);
        warnings.sort_unstable();
        warnings.dedup();
        Some(Self {
            name: slice.name.name.clone(),
            family,
            ports: ports.into(),
            endpoints: endpoints.into(),
            weight,
            zones: zones.into(),
            warnings: warnings.into(),
        })
    }

    /// Whether the node's zone has a say in which of its endpoints are used.
    pub(super) fn has_zone_hints(&self) -> bool {
        !self.zones.is_empty()
    }

    /// The zones that the hints of one of its endpoints name; empty where it has none.
    pub(super) fn zones_of(&self, endpoint: &Candidate) -> &[Arc<str>] {
        let place = endpoint.zones.map(|place| usize::from(place.get()) - 1);
        place
            .and_then(|place| self.zones.get(place))
            .map_or(&[], |zones| zones)
    }
}

/// The place of these zones among the sets of a slice, counted from one; they are
/// added if they are new.
fn place_of(hints: &[Arc<str>], sets: &mut Vec<Zones>, shared: &mut Shared) -> Option<NonZeroU16> {
    if hints.is_empty() {
        return None;
    }
    let known = sets.iter().position(|zones| **zones == *hints);
    let place = known.unwrap_or_else(|| {
        let hints = hints.iter().map(|zone| shared.strings.intern(zone.clone()));
        let hints = hints.collect();
        sets.push(shared.zones.intern(hints));
        sets.len() - 1
    });
    // A slice has at most a thousand endpoints (the API's validation).
    NonZeroU16::new(u16::try_from(place + 1).ok()?)
}

/// The weight that the annotation says.
fn weight(slice: &EndpointSlice, warnings: &mut Vec<WarningReason>) -> Weight {
    let Some(text) = &slice.weight else {
        return Weight::default();
    };
    text.parse().ok().and_then(Weight::new).unwrap_or_else(|| {
        warnings.push(WarningReason::NotAWeight {
            slice: slice.name.name.clone(),
            text: text.clone(),
        });
        Weight::default()
    })
}

fn usable_address(text: &str, family: Family) -> Result<IpAddr, WarningReason> {
    let role = AddressRole::Endpoint;
    let Some(address) = parse_ip(text) else {
        let text = text.to_owned();
        return Err(WarningReason::NotAnAddress { role, text });
    };
    if let Some(class) = unusable_class(address) {
        return Err(WarningReason::SpecialAddress {
            role,
            address,
            class,
        });
    }
    if Family::of(address) != family {
        return Err(WarningReason::WrongFamily { role, address });
    }
    Ok(address)
}

fn candidate(
    address: IpAddr,
    endpoint: &Endpoint,
    node: &str,
    zones: Option<NonZeroU16>,
) -> Candidate {
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
        zones,
    }
}
