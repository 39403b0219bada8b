//! A Service as the model keeps it: parsed once, with what it refuses of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::address::unusable_class;
use super::claims::{Claim, Destination};
use super::desired::FrontendKind;
use super::intern::Interner;
use super::object::{
    Algorithm, Family, Forwarding, Protocol, Service, ServicePort, ServiceType, TrafficPolicy,
};
use super::parse::parse_ip;
use super::source_ranges::SourceRanges;
use super::store::ServiceId;
use super::warning::{AddressRole, PortRole, WarningReason};

/// A Service that is served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServedService {
    pub(super) created: i64,
    /// Families in which it has a ClusterIP, in the order of [`Family::ALL`].
    families: [bool; 2],
    /// Addresses that are its own; only of those families.
    addresses: Box<[(IpAddr, FrontendKind)]>,
    pub(super) ports: Box<[Port]>,
    pub(super) internal_policy: TrafficPolicy,
    pub(super) external_policy: TrafficPolicy,
    pub(super) affinity: Option<u32>,
    /// As its annotation has it; where it has none, what the configuration says.
    algorithm: Option<Algorithm>,
    /// The same.
    forwarding: Option<Forwarding>,
    /// Whether anything is reached from outside.
    has_external_frontend: bool,
    /// Who may use its load balancer addresses.
    source_ranges: SourceRanges,
    pub(super) health_check_port: Option<u16>,
    /// What is refused whatever else there is in the cluster.
    pub(super) warnings: Box<[WarningReason]>,
}

/// A port of a Service; its numbers are good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    number: u16,
    on_nodes: Option<u16>,
}

impl ServedService {
    /// Takes what can be served of `service`; `None` where that is nothing by
    /// its kind: headless, without an address, or a mere name.
    pub(super) fn new(service: &Service, strings: &mut Interner<str>) -> Option<Self> {
        if service.kind == ServiceType::ExternalName || service.cluster_ips.is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let addresses = Addresses::new(service, &mut warnings);
        let ports = ports(service, strings, &mut warnings);
        let source_ranges = SourceRanges::new(service, addresses.of_balancer(), &mut warnings);
        let algorithm = algorithm(service, &mut warnings);
        let forwarding = forwarding(service, &mut warnings);
        warnings.sort_unstable();
        warnings.dedup();
        Some(Self {
            created: service.created,
            families: addresses.families,
            addresses: addresses.own.into(),
            ports: ports.into(),
            internal_policy: service.internal_policy,
            external_policy: match service.kind {
                // The field means nothing where nothing comes from outside.
                ServiceType::ClusterIp if service.external_ips.is_empty() => TrafficPolicy::Cluster,
                _ => service.external_policy,
            },
            affinity: service.affinity,
            algorithm,
            forwarding,
            has_external_frontend: service.kind != ServiceType::ClusterIp
                || !service.external_ips.is_empty(),
            source_ranges,
            // As upstream's NeedsHealthCheck: elsewhere the field means nothing.
            health_check_port: service.health_check_node_port.filter(|_| {
                service.kind == ServiceType::LoadBalancer
                    && service.external_policy == TrafficPolicy::Local
            }),
            warnings: warnings.into(),
        })
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

    /// Its external IPs, allowed or not.
    pub(super) fn external_ips(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.addresses.iter();
        own.filter(|(_, kind)| *kind == FrontendKind::ExternalIp)
            .map(|(address, _)| *address)
    }

    /// Its load balancer IPs.
    pub(super) fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.addresses.iter();
        own.filter(|(_, kind)| *kind == FrontendKind::LoadBalancer)
            .map(|(address, _)| *address)
    }

    /// Who may use its load balancer addresses of a family; everybody where there is none.
    pub(super) fn source_ranges(&self, family: Family) -> Option<&[IpNet]> {
        self.source_ranges.of(family)
    }

    /// Whether not everybody may use all of its load balancer addresses.
    pub(super) fn has_source_ranges(&self) -> bool {
        let mut families = Family::ALL.into_iter();
        families.any(|family| self.source_ranges(family).is_some())
    }

    /// Its ClusterIPs.
    pub(super) fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.addresses.iter();
        own.filter(|(_, kind)| *kind == FrontendKind::ClusterIp)
            .map(|(address, _)| *address)
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
            .addresses
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
                .zip(&self.ports)
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

/// The addresses of a Service, sorted out.
struct Addresses {
    families: [bool; 2],
    own: Vec<(IpAddr, FrontendKind)>,
}

impl Addresses {
    fn new(service: &Service, warnings: &mut Vec<WarningReason>) -> Self {
        let mut this = Self {
            families: [false; 2],
            own: Vec::new(),
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
        this.own.sort_unstable();
        this.own.dedup();
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
            self.own.push((address, kind));
            return;
        };
        let role = match kind {
            FrontendKind::ClusterIp | FrontendKind::NodePort => AddressRole::ClusterIp,
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

/// The algorithm that the annotation names.
fn algorithm(service: &Service, warnings: &mut Vec<WarningReason>) -> Option<Algorithm> {
    let text = service.algorithm.as_deref()?;
    let known = Algorithm::of_name(text);
    if known.is_none() {
        let text = text.to_owned();
        warnings.push(WarningReason::UnknownAlgorithm { text });
    }
    known
}

/// The way of forwarding that the annotation names.
fn forwarding(service: &Service, warnings: &mut Vec<WarningReason>) -> Option<Forwarding> {
    let text = service.forwarding.as_deref()?;
    let known = Forwarding::of_name(text);
    if known.is_none() {
        let text = text.to_owned();
        warnings.push(WarningReason::UnknownForwarding { text });
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
    let has_node_ports = matches!(
        service.kind,
        ServiceType::NodePort | ServiceType::LoadBalancer
    );
    for asked in &service.ports {
        let ServicePort { name, protocol, .. } = asked;
        if ports
            .iter()
            .any(|port| port.name == *name && port.protocol == *protocol)
        {
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
