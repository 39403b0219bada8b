//! What this node should serve: the model's output, the plan's input.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use std::sync::Arc;

use super::object::{
    Algorithm, Family, Forwarding, ObjectName, Protocol, TrafficPolicy, Unanswered,
};

/// One port of a Service in one IP family: the unit in which the data path is
/// programmed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortName {
    /// The Service.
    pub service: ObjectName,
    /// The port's name; empty where it has none.
    pub port: Arc<str>,
    /// The port's protocol.
    pub protocol: Protocol,
    /// The IP family.
    pub family: Family,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}", self.protocol)
    }
}

/// The desired state of one [`PortName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Where clients find it; sorted, no duplicates.
    pub frontends: Vec<Frontend>,
    /// Every endpoint that still serves: ready, or serving while it
    /// terminates, whether or not a set below names it. Sorted by address and
    /// port, no duplicates. An established flow to one of these is left alone.
    pub endpoints: Vec<Endpoint>,
    /// The cluster set, as positions in `endpoints`; ascending.
    pub cluster: Vec<usize>,
    /// The local set, as positions in `endpoints`; ascending.
    pub local: Vec<usize>,
    /// Whether ClusterIP traffic uses the cluster or the local set.
    pub internal_policy: TrafficPolicy,
    /// Whether outside traffic uses the cluster or the local set.
    pub external_policy: TrafficPolicy,
    /// The timeout in seconds of `ClientIP` affinity.
    pub affinity: Option<u32>,
    /// How connections from outside choose their endpoint.
    pub algorithm: Algorithm,
    /// The weight of each of `endpoints`, where tables are made of the sets and not all are
    /// the same; else none.
    pub weights: Vec<Weight>,
    /// How connections from outside reach endpoints of other nodes.
    pub forwarding: Forwarding,
    /// What becomes of connections whose endpoint does not answer; where its Service does not say,
    /// what the configuration says.
    pub unanswered: Option<Unanswered>,
    /// Who may use its load balancer addresses, of its family; sorted. Everybody where
    /// there is none.
    pub source_ranges: Option<Arc<[IpNet]>>,
}

impl DesiredPort {
    /// The weight of the endpoint at a position.
    pub fn weight(&self, position: usize) -> Weight {
        self.weights.get(position).copied().unwrap_or_default()
    }
}

/// What part of the clients an endpoint gets beside others, where their hash decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    /// No client, while there are others.
    pub const NONE: Self = Self(0);
    /// The greatest.
    const MOST: u16 = 1000;

    /// A weight, if it is not too great.
    pub fn new(weight: u16) -> Option<Self> {
        (weight <= Self::MOST).then_some(Self(weight))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// What an endpoint has that nobody gave a weight: so that others are percentages of it.
impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}

/// A destination that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Its address; unspecified for a NodePort, which answers on the node's
    /// addresses.
    pub address: IpAddr,
    /// Its port, never 0.
    pub port: u16,
    /// What kind it is.
    pub kind: FrontendKind,
}

/// The kinds of frontend; they differ in which traffic policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`
    ClusterIp,
    /// `status.loadBalancer`
    LoadBalancer,
    /// `spec.externalIPs`
    ExternalIp,
    /// `spec.ports[].nodePort`
    NodePort,
    /// Any of these whose address is the host's, where something else answers in the Service's
    /// place.
    LeftToHost,
}

impl FrontendKind {
    /// What operators see. The maps do not tell addresses of load balancers from external IPs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer | Self::ExternalIp => "External",
            Self::NodePort => "NodePort",
            Self::LeftToHost => "Host",
        }
    }
}

/// A place where connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port, never 0.
    pub port: u16,
    /// Whether it runs on this node.
    pub local: bool,
}

impl Endpoint {
    /// Its address with its port.
    pub fn socket(&self) -> SocketAddr {
        (self.address, self.port).into()
    }
}
