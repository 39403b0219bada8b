//! Who wants which destination.
//!
//! Two ports can claim one destination (address, port, protocol). All claims
//! are kept; who holds it is a function of the claims that are there, so a
//! owner that goes away is succeeded by the next in rank, and the order in
//! which the claims arrived does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::desired::FrontendKind;
use super::object::{ObjectName, Protocol};
use super::store::ServiceId;

/// A destination; a NodePort's address is unspecified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

/// A port that wants a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) service: ServiceId,
    /// The port, as a position in its Service.
    pub(super) port: u32,
    pub(super) kind: FrontendKind,
}

/// The order in which claims win: a ClusterIP, which the API server allocates so that
/// nobody else has it, before all that people write; then the oldest Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) is_written: bool,
    pub(super) created: i64,
    pub(super) name: ObjectName,
    pub(super) port: u32,
    pub(super) kind: FrontendKind,
}

/// All claims, by destination.
#[derive(Debug, Default)]
pub(super) struct Claims {
    destinations: BTreeMap<Destination, Claimants>,
    /// The Services that have an address as a ClusterIP, and those that want it as an
    /// external IP.
    cluster_ips: BTreeSet<(IpAddr, ServiceId)>,
    external_ips: BTreeSet<(IpAddr, ServiceId)>,
}

/// The claims to one destination: mostly one, whose rank does not matter.
#[derive(Debug)]
enum Claimants {
    One(Claim),
    Several(Box<Contest>),
}

/// Several claims in the order of their ranks, so that the first is found at once however
/// many there are. External IPs are apart: all of a destination are void together.
#[derive(Debug, Default)]
struct Contest {
    external: BTreeMap<Rank, Claim>,
    others: BTreeMap<Rank, Claim>,
}

impl Contest {
    fn of_kind(&mut self, kind: FrontendKind) -> &mut BTreeMap<Rank, Claim> {
        match kind {
            FrontendKind::ExternalIp => &mut self.external,
            _ => &mut self.others,
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&Rank, Claim)> {
        let all = self.external.iter().chain(&self.others);
        all.map(|(rank, claim)| (rank, *claim))
    }

    /// The first of those that `wanted` names.
    fn first(&self, external: bool, wanted: impl Fn(Claim) -> bool) -> Option<Claim> {
        let first = |claims: &BTreeMap<Rank, Claim>| {
            let mut claims = claims.iter().filter(|(_, claim)| wanted(**claim));
            claims.next().map(|(rank, claim)| (rank.clone(), *claim))
        };
        let external = external.then(|| first(&self.external)).flatten();
        let first = external.into_iter().chain(first(&self.others)).min();
        first.map(|(_, claim)| claim)
    }
}

impl Claims {
    /// Adds a claim; `rank` tells that of any.
    pub(super) fn insert(
        &mut self,
        destination: Destination,
        claim: Claim,
        rank: impl Fn(Claim) -> Rank,
    ) {
        let Some(claimants) = self.destinations.get_mut(&destination) else {
            let one = Claimants::One(claim);
            self.destinations.insert(destination, one);
            return;
        };
        match claimants {
            Claimants::One(first) if *first == claim => {}
            Claimants::One(first) => {
                let mut contest = Contest::default();
                for claim in [*first, claim] {
                    contest.of_kind(claim.kind).insert(rank(claim), claim);
                }
                *claimants = Claimants::Several(Box::new(contest));
            }
            Claimants::Several(contest) => {
                contest.of_kind(claim.kind).insert(rank(claim), claim);
            }
        }
    }

    /// Removes a claim, with the rank that it was added with.
    pub(super) fn remove(
        &mut self,
        destination: Destination,
        claim: Claim,
        rank: impl Fn(Claim) -> Rank,
    ) {
        match self.destinations.get_mut(&destination) {
            Some(Claimants::One(one)) if *one == claim => {
                self.destinations.remove(&destination);
            }
            Some(claimants @ Claimants::Several(_)) => {
                let Claimants::Several(contest) = &mut *claimants else {
                    return;
                };
                contest.of_kind(claim.kind).remove(&rank(claim));
                let mut left = contest.iter().map(|(_, claim)| claim);
                if let (Some(last), None) = (left.next(), left.next()) {
                    drop(left);
                    *claimants = Claimants::One(last);
                }
            }
            _ => {}
        }
    }

    /// Who wins a destination among those that `wanted` names; `external` is whether
    /// external IPs there count.
    pub(super) fn winner(
        &self,
        destination: Destination,
        external: bool,
        wanted: impl Fn(Claim) -> bool,
    ) -> Option<Claim> {
        match self.destinations.get(&destination)? {
            Claimants::One(claim) => {
                let counts = external || claim.kind != FrontendKind::ExternalIp;
                (counts && wanted(*claim)).then_some(*claim)
            }
            Claimants::Several(contest) => contest.first(external, wanted),
        }
    }

    /// The claims to one destination.
    pub(super) fn to(&self, destination: Destination) -> impl Iterator<Item = Claim> {
        let claimants = self.destinations.get(&destination);
        claimants.into_iter().flat_map(Claimants::iter)
    }

    /// The Services with a claim to any port of an address.
    pub(super) fn services_on(&self, address: IpAddr) -> BTreeSet<ServiceId> {
        let first = Destination {
            address,
            port: u16::MIN,
            protocol: Protocol::Tcp,
        };
        let last = Destination {
            address,
            port: u16::MAX,
            protocol: Protocol::Sctp,
        };
        let on = self.destinations.range(first..=last);
        on.flat_map(|(_, claimants)| claimants.iter())
            .map(|claim| claim.service)
            .collect()
    }

    /// A Service has `address` as a ClusterIP, or wants it as an external IP.
    pub(super) fn add_address(&mut self, address: IpAddr, kind: FrontendKind, service: ServiceId) {
        if let Some(addresses) = self.addresses(kind) {
            addresses.insert((address, service));
        }
    }

    /// The same is true no more.
    pub(super) fn remove_address(
        &mut self,
        address: IpAddr,
        kind: FrontendKind,
        service: ServiceId,
    ) {
        if let Some(addresses) = self.addresses(kind) {
            addresses.remove(&(address, service));
        }
    }

    fn addresses(&mut self, kind: FrontendKind) -> Option<&mut BTreeSet<(IpAddr, ServiceId)>> {
        match kind {
            FrontendKind::ClusterIp => Some(&mut self.cluster_ips),
            FrontendKind::ExternalIp => Some(&mut self.external_ips),
            FrontendKind::LoadBalancer | FrontendKind::NodePort | FrontendKind::LeftToHost => None,
        }
    }

    /// The Services that have an address as a ClusterIP.
    pub(super) fn with_cluster_ip(&self, address: IpAddr) -> impl Iterator<Item = ServiceId> {
        with(&self.cluster_ips, address)
    }

    /// Whether any Service wants an address as an external IP.
    pub(super) fn is_external_ip(&self, address: IpAddr) -> bool {
        with(&self.external_ips, address).next().is_some()
    }
}

fn with(
    addresses: &BTreeSet<(IpAddr, ServiceId)>,
    address: IpAddr,
) -> impl Iterator<Item = ServiceId> {
    let all = (address, ServiceId::MIN)..=(address, ServiceId::MAX);
    addresses.range(all).map(|(_, service)| *service)
}

impl Claimants {
    fn iter(&self) -> impl Iterator<Item = Claim> {
        let (one, several) = match self {
            Self::One(claim) => (Some(*claim), None),
            Self::Several(contest) => (None, Some(contest)),
        };
        let several = several.into_iter().flat_map(|contest| contest.iter());
        one.into_iter().chain(several.map(|(_, claim)| claim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(address: &str, port: u16, protocol: Protocol) -> Destination {
        Destination {
            address: address.parse().unwrap(),
            port,
            protocol,
        }
    }

    fn claim(service: ServiceId, kind: FrontendKind) -> Claim {
        Claim {
            service,
            port: 0,
            kind,
        }
    }

    /// The lower the number of its Service, the older it is.
    fn rank(claim: Claim) -> Rank {
        Rank {
            is_written: claim.kind != FrontendKind::ClusterIp,
            created: claim.service.into(),
            name: ObjectName::new("n", "same"),
            port: claim.port,
            kind: claim.kind,
        }
    }

    #[test]
    fn a_range_covers_every_claim_of_an_address_and_none_of_its_neighbours() {
        let mut claims = Claims::default();
        let low = destination("10.0.0.1", 1, Protocol::Tcp);
        let high = destination("10.0.0.1", u16::MAX, Protocol::Sctp);
        claims.insert(low, claim(1, FrontendKind::ClusterIp), rank);
        claims.insert(high, claim(u32::MAX, FrontendKind::NodePort), rank);
        for other in ["10.0.0.0", "10.0.0.2", "fd00::1"] {
            let other = destination(other, 1, Protocol::Tcp);
            claims.insert(other, claim(2, FrontendKind::ClusterIp), rank);
        }
        let found: Vec<_> = claims.services_on(low.address).into_iter().collect();
        assert_eq!(found, [1, u32::MAX]);
        assert_eq!(claims.to(low).count(), 1);
        claims.remove(low, claim(1, FrontendKind::ClusterIp), rank);
        assert_eq!(claims.to(low).count(), 0);
        assert_eq!(claims.to(high).count(), 1);
    }

    #[test]
    fn the_first_in_rank_wins_and_is_succeeded_by_the_next() {
        let mut claims = Claims::default();
        let at = destination("198.51.100.1", 80, Protocol::Tcp);
        let oldest = claim(1, FrontendKind::ExternalIp);
        let second = claim(2, FrontendKind::LoadBalancer);
        let youngest = claim(3, FrontendKind::ExternalIp);
        for claim in [youngest, second, oldest, second] {
            claims.insert(at, claim, rank);
        }
        let winner = |claims: &Claims, external| claims.winner(at, external, |_| true);
        assert_eq!(winner(&claims, true), Some(oldest));
        assert_eq!(winner(&claims, false), Some(second));
        let others = claims.winner(at, true, |claim| claim.service != 1);
        assert_eq!(others, Some(second));
        for (gone, next) in [(oldest, second), (second, youngest)] {
            claims.remove(at, gone, rank);
            assert_eq!(winner(&claims, true), Some(next));
        }
        assert_eq!(winner(&claims, false), None, "an external IP that is void");
        claims.remove(at, youngest, rank);
        assert_eq!(claims.to(at).count(), 0);
    }
}
