//! Which endpoints a port has, and which of them new connections may use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::desired::{Endpoint, Weight};
use super::object::{Algorithm, Family, Protocol};
use super::offered::{OfferedEndpoint, Standing};
use super::slice::{Candidate, NodeHint, Readiness, Slice};

/// The endpoints of a port and its two sets, as in `DesiredPort`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) cluster: Vec<usize>,
    pub(super) local: Vec<usize>,
    pub(super) weights: Vec<Weight>,
}

/// What the slices of a Service offer in one family, by the ports' names, so that a port
/// is found at once however many there are.
pub(super) struct Offers<'a> {
    ports: BTreeMap<(&'a str, Protocol), Vec<(&'a Slice, u16)>>,
    /// How many endpoints a port may have.
    limit: usize,
}

impl<'a> Offers<'a> {
    /// `slices` are ordered by name.
    pub(super) fn new(slices: &'a [Slice], family: Family, limit: usize) -> Self {
        let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| slice.family == family) {
            for port in &slice.ports {
                let offers = ports.entry((&*port.name, port.protocol)).or_default();
                offers.push((slice, port.number));
            }
        }
        Self { ports, limit }
    }

    /// The sets of the port with this name and protocol, for this algorithm. `zone` is this
    /// node's.
    pub(super) fn sets(
        &self,
        name: &str,
        protocol: Protocol,
        zone: Option<&str>,
        algorithm: Algorithm,
    ) -> Sets {
        let usable = self.usable(name, protocol);
        let topology = Topology::of(&usable, zone);
        let weights = weights(&usable, algorithm);
        // Where nothing is ready, no topology holds: all that drain count.
        let cluster = positions(&usable, |usable| topology.allows(usable));
        let local = positions(&usable, |usable| usable.candidate.local);
        Sets {
            cluster: with_weight(cluster, &weights),
            local: with_weight(local, &weights),
            weights,
            endpoints: usable.iter().map(Usable::endpoint).collect(),
        }
    }

    /// The addresses of endpoints that are ready and on this node, of any of `ports`
    /// (name and protocol).
    pub(super) fn ready_here<'b>(
        &self,
        ports: impl Iterator<Item = (&'b str, Protocol)>,
    ) -> BTreeSet<IpAddr> {
        ports
            .flat_map(|(name, protocol)| self.usable(name, protocol))
            .filter(|usable| usable.candidate.local && usable.is_ready())
            .map(|usable| usable.candidate.address)
            .collect()
    }

    /// How many endpoints a port is offered, those beyond the limit included.
    pub(super) fn count(&self, name: &str, protocol: Protocol) -> usize {
        let offered = self.of_port(name, protocol).iter();
        offered.map(|(slice, _)| slice.endpoints.len()).sum()
    }

    fn of_port<'s>(&'s self, name: &'s str, protocol: Protocol) -> &'s [(&'a Slice, u16)] {
        let offered = self.ports.get(&(name, protocol));
        offered.map_or(&[], Vec::as_slice)
    }

    /// The endpoints that still serve, by address and port.
    fn usable(&self, name: &str, protocol: Protocol) -> Vec<Usable<'a>> {
        let mut found = self.all(name, protocol);
        found.retain(|usable| usable.candidate.readiness != Readiness::Unusable);
        found
    }

    /// The endpoints, by address and port. Of several at one place the first counts, but one
    /// that terminates gives way to one that does not.
    fn all(&self, name: &str, protocol: Protocol) -> Vec<Usable<'a>> {
        let offered = self.of_port(name, protocol).iter();
        let offered = offered.flat_map(|(slice, port)| {
            slice.endpoints.iter().map(|candidate| Usable {
                port: *port,
                candidate,
                slice,
            })
        });
        let mut found: Vec<_> = offered.take(self.limit).collect();
        // The sort is stable, so that the first stays the first.
        found.sort_by_key(|usable| (usable.candidate.address, usable.port));
        found.dedup_by(|later, kept| {
            let same = later.port == kept.port && later.candidate.address == kept.candidate.address;
            if same && kept.candidate.terminating && !later.candidate.terminating {
                *kept = *later;
            }
            same
        });
        found
    }

    /// Every endpoint of a port, those that do not serve included, and why it is in a set of
    /// [`Self::sets`] or is not.
    pub(super) fn standings(
        &self,
        name: &str,
        protocol: Protocol,
        zone: Option<&str>,
        algorithm: Algorithm,
    ) -> Vec<OfferedEndpoint> {
        let sets = self.sets(name, protocol, zone, algorithm);
        let topology = Topology::of(&self.usable(name, protocol), zone);
        let all = self.all(name, protocol).into_iter();
        all.map(|it| {
            let endpoint = it.endpoint();
            let key = |it: &Endpoint| (it.address, it.port);
            let position = sets
                .endpoints
                .binary_search_by_key(&key(&endpoint), key)
                .ok();
            let standing = |set: &[usize], not_allowed: Option<Standing>| match position {
                Some(position) if set.binary_search(&position).is_ok() => Standing::Candidate,
                None => Standing::NotReady,
                Some(_) => not_allowed.unwrap_or_else(|| it.why_not_selected()),
            };
            OfferedEndpoint {
                endpoint,
                cluster: standing(&sets.cluster, topology.excludes(&it)),
                local: standing(&sets.local, (!endpoint.local).then_some(Standing::NotLocal)),
            }
        })
        .collect()
    }
}

/// An endpoint of a slice under one of the slice's ports.
#[derive(Clone, Copy)]
struct Usable<'a> {
    port: u16,
    candidate: &'a Candidate,
    slice: &'a Slice,
}

impl Usable<'_> {
    fn is_ready(&self) -> bool {
        self.candidate.readiness == Readiness::Ready
    }

    fn zones(&self) -> &[Arc<str>] {
        self.slice.zones_of(self.candidate)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: self.candidate.address,
            port: self.port,
            local: self.candidate.local,
        }
    }

    /// Why it is not in a set that it is near enough for.
    fn why_not_selected(&self) -> Standing {
        match self.candidate.readiness {
            Readiness::Ready => Standing::NoWeight,
            Readiness::Draining => Standing::Terminating,
            Readiness::Unusable => Standing::NotReady,
        }
    }
}

/// Positions of those that are ready and allowed, or else of those that are
/// draining and allowed.
fn positions(usable: &[Usable<'_>], allowed: impl Fn(&Usable<'_>) -> bool) -> Vec<usize> {
    let select = |readiness| -> Vec<usize> {
        (0..)
            .zip(usable)
            .filter(|(_, usable)| usable.candidate.readiness == readiness && allowed(usable))
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

/// The weight of each, where it matters and they differ.
fn weights(usable: &[Usable<'_>], algorithm: Algorithm) -> Vec<Weight> {
    let weights = || usable.iter().map(|usable| usable.slice.weight);
    match algorithm {
        Algorithm::Maglev if !weights().all(|weight| Some(weight) == weights().next()) => {
            weights().collect()
        }
        Algorithm::Maglev | Algorithm::Random => Vec::new(),
    }
}

/// Those of a set that are to have clients; all where none is.
fn with_weight(set: Vec<usize>, weights: &[Weight]) -> Vec<usize> {
    let has_weight = |position: &&usize| weights.get(**position) != Some(&Weight::NONE);
    let chosen: Vec<_> = set.iter().filter(has_weight).copied().collect();
    if chosen.is_empty() { set } else { chosen }
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
    fn of(usable: &[Usable<'_>], zone: Option<&'a str>) -> Self {
        let ready = || usable.iter().filter(|usable| usable.is_ready());
        let holds = |mode: Self, hinted: fn(&Usable<'_>) -> bool| {
            ready().all(hinted) && ready().any(|usable| mode.allows(usable))
        };
        if holds(Self::Node, |it| it.candidate.node_hint != NodeHint::Absent) {
            return Self::Node;
        }
        zone.map(Self::Zone)
            .filter(|mode| holds(*mode, |it| !it.zones().is_empty()))
            .unwrap_or(Self::Anywhere)
    }

    /// Why it excludes an endpoint, if it does.
    fn excludes(self, usable: &Usable<'_>) -> Option<Standing> {
        let reason = match self {
            Self::Anywhere => return None,
            Self::Node => Standing::HintedToOtherNodes,
            Self::Zone(_) => Standing::HintedToOtherZones,
        };
        (!self.allows(usable)).then_some(reason)
    }

    fn allows(self, usable: &Usable<'_>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Node => usable.candidate.node_hint == NodeHint::Here,
            Self::Zone(zone) => usable.zones().iter().any(|hint| **hint == *zone),
        }
    }
}
