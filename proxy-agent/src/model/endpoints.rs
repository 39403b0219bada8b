//! Which endpoints a port has, and which of them new connections may use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::desired::Endpoint;
use super::object::{Family, Protocol};
use super::slice::{Candidate, NodeHint, Readiness, Slice};

/// The endpoints of a port and its two sets, as in `DesiredPort`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) cluster: Vec<usize>,
    pub(super) local: Vec<usize>,
}

impl Sets {
    /// The sets of the port with this name and protocol. `slices` are ordered
    /// by name, `zone` is this node's.
    pub(super) fn new(
        slices: &[Slice],
        name: &str,
        protocol: Protocol,
        family: Family,
        zone: Option<&str>,
    ) -> Self {
        let usable = usable(slices, name, protocol, family);
        let topology = Topology::of(&usable, zone);
        Self {
            // Where nothing is ready, no topology holds: all that drain count.
            cluster: positions(&usable, |candidate| topology.allows(candidate)),
            local: positions(&usable, |candidate| candidate.local),
            endpoints: usable
                .into_iter()
                .map(|(port, candidate)| Endpoint {
                    address: candidate.address,
                    port,
                    local: candidate.local,
                })
                .collect(),
        }
    }
}

/// The addresses of endpoints that are ready and on this node, of any of `ports`
/// (name and protocol).
pub(super) fn ready_here<'a>(
    slices: &[Slice],
    ports: impl Iterator<Item = (&'a str, Protocol)>,
    family: Family,
) -> BTreeSet<IpAddr> {
    ports
        .flat_map(|(name, protocol)| usable(slices, name, protocol, family))
        .map(|(_, candidate)| candidate)
        .filter(|candidate| candidate.local && candidate.readiness == Readiness::Ready)
        .map(|candidate| candidate.address)
        .collect()
}

/// The endpoints that still serve, by address and port. Of several at one
/// place the first counts, but one that terminates gives way to one that does
/// not.
fn usable<'a>(
    slices: &'a [Slice],
    name: &str,
    protocol: Protocol,
    family: Family,
) -> Vec<(u16, &'a Candidate)> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        for port in &slice.ports {
            if *port.name == *name && port.protocol == protocol {
                found.extend(
                    slice
                        .endpoints
                        .iter()
                        .map(|candidate| (port.number, candidate)),
                );
            }
        }
    }
    // The sort is stable, so that the first stays the first.
    found.sort_by_key(|(port, candidate)| (candidate.address, *port));
    found.dedup_by(|later, kept| {
        let same = later.0 == kept.0 && later.1.address == kept.1.address;
        if same && kept.1.terminating && !later.1.terminating {
            *kept = *later;
        }
        same
    });
    found.retain(|(_, candidate)| candidate.readiness != Readiness::Unusable);
    found
}

/// Positions of those that are ready and allowed, or else of those that are
/// draining and allowed.
fn positions(usable: &[(u16, &Candidate)], allowed: impl Fn(&Candidate) -> bool) -> Vec<usize> {
    let select = |readiness| -> Vec<usize> {
        (0..)
            .zip(usable)
            .filter(|(_, (_, candidate))| candidate.readiness == readiness && allowed(candidate))
            .map(|(position, _)| position)
            .collect()
    };
    let ready = select(Readiness::Ready);
    if ready.is_empty() {
        select(Readiness::Draining)
    } else {
        ready
    }
}

/// How near an endpoint must be. Only hints decide: what the Service asked for
/// was the concern of whoever wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology<'a> {
    Anywhere,
    Node,
    Zone(&'a str),
}

impl<'a> Topology<'a> {
    fn of(usable: &[(u16, &Candidate)], zone: Option<&'a str>) -> Self {
        let ready = || {
            usable
                .iter()
                .map(|(_, candidate)| *candidate)
                .filter(|candidate| candidate.readiness == Readiness::Ready)
        };
        let holds = |mode: Self, hinted: fn(&Candidate) -> bool| {
            ready().all(hinted) && ready().any(|candidate| mode.allows(candidate))
        };
        if holds(Self::Node, |c| c.node_hint != NodeHint::Absent) {
            return Self::Node;
        }
        zone.map(Self::Zone)
            .filter(|mode| holds(*mode, |c| !c.zones.is_empty()))
            .unwrap_or(Self::Anywhere)
    }

    fn allows(self, candidate: &Candidate) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Node => candidate.node_hint == NodeHint::Here,
            Self::Zone(zone) => candidate.zones.iter().any(|hint| **hint == *zone),
        }
    }
}
