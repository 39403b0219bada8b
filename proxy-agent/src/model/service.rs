//! A Service as the model keeps it: parsed once, with what it refuses of it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::address::unusable_class;
use super::claims::{Claim, Destination};
use super::desired::FrontendKind;
use super::intern::Interner;
use super::limits;
use super::object::{
    Algorithm, Family, Forwarding, Protocol, Service, ServicePort, ServiceType, TrafficPolicy,
    Unanswered,
};
use super::parse::parse_ip;
use super::source_ranges::SourceRanges;
use super::store::ServiceId;
use super::warning::{AddressRole, LimitedPart, PortRole, WarningReason};
use crate::choice::Choice;

/// A Service that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServedService {
    pub(super) created: i64,
    /// Families in which it has a ClusterIP, in the order of [`Family::ALL`].
    families: [bool; 2],
    /// The addresses that it claims; only of those families.
    addresses: Box<[(IpAddr, FrontendKind)]>,
    /// The external IPs that it asks for, allowed or not.
    external_ips: Box<[IpAddr]>,
    ports: Box<[Port]>,
    /// How many of its ports are served.
    served_ports: usize,
    pub(super) internal_policy: TrafficPolicy,
    pub(super) external_policy: TrafficPolicy,
    pub(super) affinity: Option<u32>,
    /// As its annotation has it; where it has none, what the configuration says.
    algorithm: Option<Algorithm>,
    /// The same.
    forwarding: Option<Forwarding>,
    /// The same.
    pub(super) unanswered: Option<Unanswered>,
    /// Whether anything is reached from outside.
    has_external_frontend: bool,
    /// Who may use its load balancer addresses.
    source_ranges: SourceRanges,
    pub(super) health_check_port: Option<u16>,
    /// What is refused whatever else there is in the cluster.
    pub(super) warnings: Box<[WarningReason]>,
}

/// A port of a Service; its numbers are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    number: u16,
    on_nodes: Option<u16>,
}

impl ServedService {
    /// Takes what can be served of `service`, with external IPs in the ranges `allowed`;
    /// `None` where that is nothing by its kind: headless, without an address, or a mere
    /// name.
    pub(super) fn new(
        service: &Service,
        allowed: &[IpNet],
        strings: &mut Interner<str>,
    ) -> Option<Self> {
        if service.kind == ServiceType::ExternalName || service.cluster_ips.is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let addresses = Addresses::new(service, &mut warnings);
        let ports = ports(service, strings, &mut warnings);
        let source_ranges = SourceRanges::new(service, addresses.of_balancer(), &mut warnings);
        let algorithm = named(
            service.algorithm.as_deref(),
            |text| WarningReason::UnknownAlgorithm { text },
            &mut warnings,
        );
        let forwarding = named(
            service.forwarding.as_deref(),
            |text| WarningReason::UnknownForwarding { text },
            &mut warnings,
        );
        let unanswered = named(
            service.unanswered.as_deref(),
            |text| WarningReason::UnknownUnanswered { text },
            &mut warnings,
        );
        warnings.sort_unstable();
        warnings.dedup();
        let served = Self {
            created: service.created,
            families: addresses.families,
            addresses: addresses.own.into(),
            external_ips: addresses.external.into(),
            ports: ports.into(),
            served_ports: 0,
            internal_policy: service.internal_policy,
            external_policy: match service.kind {
                // The field means nothing where nothing comes from outside.
                ServiceType::ClusterIp if service.external_ips.is_empty() => TrafficPolicy::Cluster,
                _ => service.external_policy,
            },
            affinity: service.affinity,
            algorithm,
            forwarding,
            unanswered,
            has_external_frontend: service.kind != ServiceType::ClusterIp
                || !service.external_ips.is_empty(),
            source_ranges,
            // As upstream's NeedsHealthCheck: elsewhere the field means nothing.
            health_check_port: service.health_check_node_port.filter(|_| {
                service.kind == ServiceType::LoadBalancer
                    && service.external_policy == TrafficPolicy::Local
            }),
            warnings: warnings.into(),
        };
        Some(served.with_external_ips(allowed))
    }

    /// The same with external IPs in other ranges. Those that are forbidden it does not
    /// claim.
    pub(super) fn with_external_ips(self, allowed: &[IpNet]) -> Self {
        let is_external = |(_, kind): &(IpAddr, FrontendKind)| *kind == FrontendKind::ExternalIp;
        let others = self.addresses.iter().filter(|it| !is_external(it)).copied();
        let external = self.external_ips.iter().copied();
        let external = external.filter(|address| is_in(*address, allowed));
        let external = external.map(|address| (address, FrontendKind::ExternalIp));
        let mut addresses: Vec<_> = others.chain(external).collect();
        // What is allocated first, so that no limit cuts it off.
        addresses.sort_unstable_by_key(|(address, kind)| (*kind, *address));
        addresses.dedup();
        let has_node_ports = self.ports.iter().any(|port| port.on_nodes.is_some());
        let node_ports = self.families().filter(|_| has_node_ports).count();
        let frontends = addresses.len().min(limits::ADDRESSES) + node_ports;
        Self {
            addresses: addresses.into(),
            served_ports: self.ports.len().min(limits::FRONTENDS / frontends.max(1)),
            ..self
        }
    }

    /// The addresses that it claims, as far as the limit allows.
    fn claimed(&self) -> &[(IpAddr, FrontendKind)] {
        let count = self.addresses.len().min(limits::ADDRESSES);
        &self.addresses[..count]
    }

    /// Its ports, as far as the limit on frontends allows.
    pub(super) fn ports(&self) -> &[Port] {
        &self.ports[..self.served_ports]
    }

    /// How many endpoints each of its ports may have.
    pub(super) fn endpoints_per_port(&self) -> usize {
        limits::BACKENDS / self.ports().len().max(1)
    }

    /// What of it is beyond a limit, its endpoints aside.
    pub(super) fn excess(&self) -> impl Iterator<Item = WarningReason> {
        let excess = |what, served: usize, asked: usize| {
            (served < asked).then_some(WarningReason::TooMany {
                what,
                served,
                asked,
            })
        };
        let count = |ranges: fn(&Self, Family) -> Option<&[IpNet]>| {
            let families = Family::ALL.into_iter();
            let counts = families.filter_map(|family| ranges(self, family).map(<[_]>::len));
            counts.sum()
        };
        let ranges = count(|service, family| service.source_ranges.of(family));
        let within = count(Self::source_ranges);
        [
            excess(
                LimitedPart::Addresses,
                self.claimed().len(),
                self.addresses.len(),
            ),
            excess(LimitedPart::Ports, self.ports().len(), self.ports.len()),
            excess(LimitedPart::SourceRanges, within, ranges),
        ]
        .into_iter()
        .flatten()
    }

    /// How connections from outside choose their endpoint, where the configuration says
    /// `default`. Without a way in from outside there is no need for tables.
    pub(super) fn algorithm(&self, default: Algorithm) -> Algorithm {
        if self.has_external_frontend {
            self.algorithm.unwrap_or(default)
        } else {
            Algorithm::Random
        }
    }

    /// How connections from outside reach endpoints of other nodes, where the
    /// configuration says `default`. The Local policy needs none of it.
    pub(super) fn forwarding(&self, default: Forwarding) -> Forwarding {
        if self.has_external_frontend && self.external_policy == TrafficPolicy::Cluster {
            self.forwarding.unwrap_or(default)
        } else {
            Forwarding::Snat
        }
    }

    /// The families in which it is served.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        let families = self.families;
        Family::ALL
            .into_iter()
            .filter(move |family| families[*family as usize])
    }

    /// The external IPs that it asks for, allowed or not.
    pub(super) fn external_ips(&self) -> &[IpAddr] {
        &self.external_ips
    }

    /// The addresses that it claims for at least one port, by kind.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, FrontendKind)> {
        let has_ports = !self.ports().is_empty();
        let claimed = self.claimed().iter().copied();
        claimed.filter(move |_| has_ports)
    }

    fn of_kind(&self, kind: FrontendKind) -> impl Iterator<Item = IpAddr> {
        let claimed = self.claimed().iter();
        claimed
            .filter(move |(_, of)| *of == kind)
            .map(|(address, _)| *address)
    }

    /// Its load balancer IPs.
    pub(super) fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.of_kind(FrontendKind::LoadBalancer)
    }

    /// Who may use its load balancer addresses of a family, as far as the limit allows; everybody
    /// where there is none.
    pub(super) fn source_ranges(&self, family: Family) -> Option<&[IpNet]> {
        let ranges = self.source_ranges.of(family)?;
        let most = limits::SOURCE_RANGES / self.ports().len().max(1);
        Some(&ranges[..ranges.len().min(most)])
    }

    /// Whether not everybody may use all of its load balancer addresses.
    pub(super) fn has_source_ranges(&self) -> bool {
        let mut families = Family::ALL.into_iter();
        families.any(|family| self.source_ranges(family).is_some())
    }

    /// Its ClusterIPs.
    pub(super) fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.of_kind(FrontendKind::ClusterIp)
    }

    /// The destinations that the port at position `port` wants in `family`.
    pub(super) fn port_claims(
        &self,
        id: ServiceId,
        position: u32,
        port: &Port,
        family: Family,
    ) -> impl Iterator<Item = (Destination, Claim)> {
        let Port {
            protocol,
            number,
            on_nodes,
            ..
        } = *port;
        let own = self
            .claimed()
            .iter()
            .filter(move |(address, _)| Family::of(*address) == family)
            .map(move |(address, kind)| (*address, number, *kind));
        let node = on_nodes.map(|port| (unspecified(family), port, FrontendKind::NodePort));
        own.chain(node).map(move |(address, port, kind)| {
            let destination = Destination {
                address,
                port,
                protocol,
            };
            let claim = Claim {
                service: id,
                port: position,
                kind,
            };
            (destination, claim)
        })
    }

    /// All destinations that it wants.
    pub(super) fn claims(&self, id: ServiceId) -> impl Iterator<Item = (Destination, Claim)> {
        self.families().flat_map(move |family| {
            (0..)
                .zip(self.ports())
                .flat_map(move |(at, port)| self.port_claims(id, at, port, family))
        })
    }
}

/// The address that means all addresses of a family.
pub(super) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether an address is in one of these ranges.
pub(super) fn is_in(address: IpAddr, ranges: &[IpNet]) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

/// The addresses of a Service, sorted out.
struct Addresses {
    families: [bool; 2],
    /// Those that others gave it.
    own: Vec<(IpAddr, FrontendKind)>,
    external: Vec<IpAddr>,
}

impl Addresses {
    fn new(service: &Service, warnings: &mut Vec<WarningReason>) -> Self {
        let mut this = Self {
            families: [false; 2],
            own: Vec::new(),
            external: Vec::new(),
        };
        for text in &service.cluster_ips {
            let Some(address) = parse(text, AddressRole::ClusterIp, warnings) else {
                continue;
            };
            // One address a family: the first.
            let family = Family::of(address) as usize;
            if !this.families[family] {
                this.families[family] = true;
                this.add(address, FrontendKind::ClusterIp, warnings);
            }
        }
        let (balancer, external) = (&service.load_balancer_ips, &service.external_ips);
        this.add_outside(balancer, AddressRole::LoadBalancer, warnings);
        this.add_outside(external, AddressRole::ExternalIp, warnings);
        this.external.sort_unstable();
        this.external.dedup();
        this
    }

    /// Adds addresses for clients outside, which are served in the families of ClusterIPs.
    fn add_outside(
        &mut self,
        texts: &[String],
        role: AddressRole,
        warnings: &mut Vec<WarningReason>,
    ) {
        let kind = match role {
            AddressRole::LoadBalancer => FrontendKind::LoadBalancer,
            _ => FrontendKind::ExternalIp,
        };
        for text in texts {
            let Some(address) = parse(text, role, warnings) else {
                continue;
            };
            if self.families[Family::of(address) as usize] {
                self.add(address, kind, warnings);
            } else {
                warnings.push(WarningReason::WrongFamily { role, address });
            }
        }
    }

    fn of_balancer(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.own.iter();
        own.filter(|(_, kind)| *kind == FrontendKind::LoadBalancer)
            .map(|(address, _)| *address)
    }

    fn add(&mut self, address: IpAddr, kind: FrontendKind, warnings: &mut Vec<WarningReason>) {
        let Some(class) = unusable_class(address) else {
            match kind {
                FrontendKind::ExternalIp => self.external.push(address),
                _ => self.own.push((address, kind)),
            }
            return;
        };
        let role = match kind {
            FrontendKind::ClusterIp | FrontendKind::NodePort | FrontendKind::LeftToHost => {
                AddressRole::ClusterIp
            }
            FrontendKind::LoadBalancer => AddressRole::LoadBalancer,
            FrontendKind::ExternalIp => AddressRole::ExternalIp,
        };
        warnings.push(WarningReason::SpecialAddress {
            role,
            address,
            class,
        });
    }
}

/// The value that an annotation names, if it is there and names one.
fn named<T: Choice>(
    annotation: Option<&str>,
    unknown: fn(String) -> WarningReason,
    warnings: &mut Vec<WarningReason>,
) -> Option<T> {
    let text = annotation?;
    let known = T::of_name(text);
    if known.is_none() {
        warnings.push(unknown(text.to_owned()));
    }
    known
}

fn parse(text: &str, role: AddressRole, warnings: &mut Vec<WarningReason>) -> Option<IpAddr> {
    let parsed = parse_ip(text);
    if parsed.is_none() {
        let text = text.to_owned();
        warnings.push(WarningReason::NotAnAddress { role, text });
    }
    parsed
}

fn ports(
    service: &Service,
    strings: &mut Interner<str>,
    warnings: &mut Vec<WarningReason>,
) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::with_capacity(service.ports.len());
    let mut seen = HashSet::with_capacity(service.ports.len());
    let has_node_ports = matches!(
        service.kind,
        ServiceType::NodePort | ServiceType::LoadBalancer
    );
    for asked in &service.ports {
        let ServicePort { name, protocol, .. } = asked;
        if seen.contains(&(name, protocol)) {
            warnings.push(WarningReason::DuplicatePort {
                port: name.clone(),
                protocol: *protocol,
            });
            continue;
        }
        let Some(number) = port_number(asked.port, PortRole::Service, name, warnings) else {
            continue;
        };
        let node_port = (has_node_ports && asked.node_port != 0)
            .then(|| port_number(asked.node_port, PortRole::Node, name, warnings))
            .flatten();
        seen.insert((name, protocol));
        ports.push(Port {
            name: strings.intern(name.clone()),
            protocol: *protocol,
            number,
            on_nodes: node_port,
        });
    }
    ports
}

/// `number` as a port number, or a warning.
pub(super) fn port_number(
    number: i32,
    role: PortRole,
    port: &Arc<str>,
    warnings: &mut Vec<WarningReason>,
) -> Option<u16> {
    let good = u16::try_from(number).ok().filter(|number| *number != 0);
    if good.is_none() {
        let port = port.clone();
        warnings.push(WarningReason::PortNumber { role, port, number });
    }
    good
}
