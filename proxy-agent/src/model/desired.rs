//! What this node should serve: the model's output, the plan's input.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use std::sync::Arc;

use super::object::{Algorithm, Family, ObjectName, Protocol, TrafficPolicy};

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
    /// Who may use its load balancer addresses, of its family; sorted. Everybody where
    /// there is none.
    pub source_ranges: Option<Vec<IpNet>>,
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
