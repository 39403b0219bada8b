//! Who wants which destination.
//!
//! Two ports can claim one destination (address, port, protocol). All claims
//! are kept; who holds it is a function of the claims that are there, so a
//! owner that goes away is succeeded by the next in rank, and the order in
//! which the claims arrived does not matter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::desired::FrontendKind;
use super::object::Protocol;
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

impl Claim {
    const FIRST: Self = Self {
        service: ServiceId::MIN,
        port: u32::MIN,
        kind: FrontendKind::ClusterIp,
    };
    const LAST: Self = Self {
        service: ServiceId::MAX,
        port: u32::MAX,
        kind: FrontendKind::NodePort,
    };
}

/// All claims, ordered by destination.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeSet<(Destination, Claim)>);

impl Claims {
    pub(super) fn insert(&mut self, destination: Destination, claim: Claim) {
        self.0.insert((destination, claim));
    }

    pub(super) fn remove(&mut self, destination: Destination, claim: Claim) {
        self.0.remove(&(destination, claim));
    }

    /// The claims to one destination.
    pub(super) fn to(&self, destination: Destination) -> impl Iterator<Item = Claim> {
        self.0
            .range((destination, Claim::FIRST)..=(destination, Claim::LAST))
            .map(|(_, claim)| *claim)
    }

    /// The claims to any port of an address.
    pub(super) fn on(&self, address: IpAddr) -> impl Iterator<Item = Claim> {
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
        self.0
            .range((first, Claim::FIRST)..=(last, Claim::LAST))
            .map(|(_, claim)| *claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_covers_every_claim_of_an_address_and_none_of_its_neighbours() {
        let mut claims = Claims::default();
        let claim = |service, kind| Claim {
            service,
            port: 0,
            kind,
        };
        let destination = |address: &str, port, protocol| Destination {
            address: address.parse().unwrap(),
            port,
            protocol,
        };
        let low = destination("10.0.0.1", 1, Protocol::Tcp);
        let high = destination("10.0.0.1", u16::MAX, Protocol::Sctp);
        claims.insert(low, claim(1, FrontendKind::ClusterIp));
        claims.insert(high, claim(u32::MAX, FrontendKind::NodePort));
        for other in ["10.0.0.0", "10.0.0.2", "fd00::1"] {
            claims.insert(
                destination(other, 1, Protocol::Tcp),
                claim(2, FrontendKind::ClusterIp),
            );
        }
        let found: Vec<_> = claims.on(low.address).map(|claim| claim.service).collect();
        assert_eq!(found, [1, u32::MAX]);
        assert_eq!(claims.to(low).count(), 1);
        claims.remove(low, claim(1, FrontendKind::ClusterIp));
        assert_eq!(claims.to(low).count(), 0);
        assert_eq!(claims.to(high).count(), 1);
    }
}
