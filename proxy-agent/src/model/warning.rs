//! What the model would not serve, and why.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::AddressClass;
use super::object::{ObjectName, Protocol};

/// One thing that the model refused of a Service; the rest of it works.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceWarning {
    /// The Service.
    pub service: ObjectName,
    /// What, and why.
    pub reason: WarningReason,
}

impl fmt::Display for ServiceWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: {}", self.service, self.reason)
    }
}

/// Why a part of a Service is not served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum WarningReason {
    /// A text that should be an address.
    #[error("the {role} {text:?} is not an IP address")]
    NotAnAddress {
        /// Where it stands.
        role: AddressRole,
        /// The text.
        text: String,
    },
    /// An address that nothing may be served from or sent to.
    #[error("the {role} {address} is {class}")]
    SpecialAddress {
        /// Where it stands.
        role: AddressRole,
        /// The address.
        address: IpAddr,
        /// What is special about it.
        class: AddressClass,
    },
    /// An address of another family than its EndpointSlice, or than the Service's ClusterIPs.
    #[error("the {role} {address} is not of {}", role.family())]
    WrongFamily {
        /// Where it stands.
        role: AddressRole,
        /// The address.
        address: IpAddr,
    },
    /// A port number that no packet can carry.
    #[error("the {role} {number} of the port named {port:?} is not between 1 and 65535")]
    PortNumber {
        /// Where it stands.
        role: PortRole,
        /// The port's name.
        port: Arc<str>,
        /// The number.
        number: i32,
    },
    /// Two ports of a Service share name and protocol; the first is served.
    #[error("the port named {port:?} appears more than once for {protocol}")]
    DuplicatePort {
        /// The name.
        port: Arc<str>,
        /// The protocol.
        protocol: Protocol,
    },
    /// A text that should be a range of addresses; it lets in nobody.
    #[error("the source range {text:?} is not a range of IP addresses")]
    NotARange {
        /// The text.
        text: String,
    },
    /// An address whose family has no source range, where the other one has. It is served.
    #[error(
        "the load balancer IP {address} is open to all, for loadBalancerSourceRanges has no \
         range of its IP version"
    )]
    NoSourceRange {
        /// The address.
        address: IpAddr,
    },
    /// An algorithm that there is none of; the configured one is used.
    #[error("the load balancing algorithm {text:?} is neither random nor maglev")]
    UnknownAlgorithm {
        /// The text.
        text: String,
    },
    /// The weight of an EndpointSlice's endpoints; they have the usual one.
    #[error(
        "the weight {text:?} of the EndpointSlice {slice} is not a whole number from 0 to 1000"
    )]
    NotAWeight {
        /// The EndpointSlice.
        slice: Arc<str>,
        /// The text.
        text: String,
    },
    /// A way of forwarding that there is none of; the configured one is used.
    #[error("the forwarding {text:?} is neither snat nor dsr")]
    UnknownForwarding {
        /// The text.
        text: String,
    },
    /// A choice for unanswered connections that there is none of; the configured one is used.
    #[error("the choice {text:?} for unanswered connections is neither off, retry nor avoid")]
    UnknownUnanswered {
        /// The text.
        text: String,
    },
    /// An external IP outside of the ranges that the configuration allows.
    #[error("the external IP {address} is in no range that the configuration allows")]
    ExternalIpNotAllowed {
        /// The address.
        address: IpAddr,
    },
    /// An external IP that would take traffic away from a ClusterIP.
    #[error("the external IP {address} is the cluster IP of the service {owner}")]
    ExternalIpIsClusterIp {
        /// The address.
        address: IpAddr,
        /// The Service whose ClusterIP it is.
        owner: ObjectName,
    },
    /// An external IP that would take traffic away from this node.
    #[error("the external IP {address} is an address of this node")]
    ExternalIpIsNodeAddress {
        /// The address.
        address: IpAddr,
    },
    /// Another port, mostly of an older Service, has this destination.
    #[error("{} is taken by the service {owner}", Destination(*address, *port, *protocol))]
    Taken {
        /// Its address; unspecified for a NodePort.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
        /// The Service that has it.
        owner: ObjectName,
    },
    /// The Service has more of something than is served of one Service.
    #[error("of {asked} {what} only {served} are served: there is a limit for one service")]
    TooMany {
        /// What there is too much of.
        what: LimitedPart,
        /// How many are served.
        served: usize,
        /// How many there are.
        asked: usize,
    },
    /// There are other reasons beside those that are told.
    #[error("more of it is not accepted than is reported of one service")]
    More,
}

impl WarningReason {
    /// The reason in one word for machines, without its particulars.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotAnAddress { .. } => "NotAnAddress",
            Self::SpecialAddress { .. } => "SpecialAddress",
            Self::WrongFamily { .. } => "WrongFamily",
            Self::PortNumber { .. } => "PortNumber",
            Self::DuplicatePort { .. } => "DuplicatePort",
            Self::NotARange { .. } => "NotARange",
            Self::NoSourceRange { .. } => "NoSourceRange",
            Self::UnknownAlgorithm { .. } => "UnknownAlgorithm",
            Self::NotAWeight { .. } => "NotAWeight",
            Self::UnknownForwarding { .. } => "UnknownForwarding",
            Self::UnknownUnanswered { .. } => "UnknownUnanswered",
            Self::ExternalIpNotAllowed { .. } => "ExternalIpNotAllowed",
            Self::ExternalIpIsClusterIp { .. } => "ExternalIpIsClusterIp",
            Self::ExternalIpIsNodeAddress { .. } => "ExternalIpIsNodeAddress",
            Self::Taken { .. } => "Taken",
            Self::TooMany { .. } => "TooMany",
            Self::More => "More",
        }
    }
}

/// Where a refused address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressRole {
    /// `spec.clusterIPs`
    ClusterIp,
    /// `status.loadBalancer.ingress`
    LoadBalancer,
    /// `spec.externalIPs`
    ExternalIp,
    /// `addresses` of an endpoint
    Endpoint,
}

impl AddressRole {
    /// What its family follows from.
    fn family(self) -> &'static str {
        match self {
            Self::Endpoint => "its EndpointSlice's address type",
            Self::ClusterIp | Self::LoadBalancer | Self::ExternalIp => {
                "an IP version in which the Service has a cluster IP"
            }
        }
    }
}

impl fmt::Display for AddressRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "cluster IP",
            Self::LoadBalancer => "load balancer IP",
            Self::ExternalIp => "external IP",
            Self::Endpoint => "endpoint address",
        })
    }
}

/// Where a refused port number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRole {
    /// `spec.ports[].port`
    Service,
    /// `spec.ports[].nodePort`
    Node,
    /// `ports[].port` of an EndpointSlice
    Endpoint,
}

impl fmt::Display for PortRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "port",
            Self::Node => "node port",
            Self::Endpoint => "endpoint port",
        })
    }
}

/// What of a Service is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitedPart {
    /// ClusterIPs, load balancer IPs and external IPs
    Addresses,
    /// `spec.ports`
    Ports,
    /// `spec.loadBalancerSourceRanges`
    SourceRanges,
    /// Endpoints of one port
    Endpoints,
}

impl fmt::Display for LimitedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Addresses => "addresses",
            Self::Ports => "ports",
            Self::SourceRanges => "source ranges",
            Self::Endpoints => "endpoints of a port",
        })
    }
}

/// Prints a destination; a NodePort's address says nothing.
struct Destination(IpAddr, u16, Protocol);

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address, port, protocol) = self;
        match address {
            _ if address.is_unspecified() => write!(f, "the node port {port}/{protocol}"),
            IpAddr::V4(address) => write!(f, "{address}:{port}/{protocol}"),
            IpAddr::V6(address) => write!(f, "[{address}]:{port}/{protocol}"),
        }
    }
}
