//! The API objects as the model needs them, and nothing more of them.
//!
//! The source reduces each Kubernetes object to one of these as it arrives, so
//! that the agent's memory holds only what decides about traffic.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::choice::choice;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

impl ObjectName {
    /// A name from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, in the order in which everything here is listed.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that Services can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number of the protocol in an IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

choice! {
    /// `internalTrafficPolicy` or `externalTrafficPolicy`.
    pub enum TrafficPolicy {
        /// Any endpoint of the cluster.
        Cluster = "Cluster",
        /// Only endpoints of this node.
        Local = "Local",
    }
}

choice! {
    /// How a new connection's endpoint is chosen.
    pub enum Algorithm {
        /// Any one, each as likely as the others.
        Random = "random",
        /// By consistent hashing: every node sends a client to the same one.
        Maglev = "maglev",
    }
}

choice! {
    /// How connections from outside reach an endpoint of another node.
    pub enum Forwarding {
        /// With this node's address as their source: answers come back by this node.
        Snat = "snat",
        /// In a tunnel, with the client's address: the endpoint's node answers the client
        /// directly (DSR).
        Dsr = "dsr",
    }
}

choice! {
    /// What becomes of new TCP connections whose endpoint does not answer.
    pub enum Unanswered {
        /// They try the same endpoint until they time out, as with kube-proxy.
        Off = "off",
        /// A SYN that is sent again goes to another endpoint.
        Retry = "retry",
        /// The same, and new connections go to other endpoints, until this one answers.
        Avoid = "avoid",
    }
}

/// `spec.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// `ClusterIP`
    #[default]
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
    /// `ExternalName`; never served.
    ExternalName,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// `metadata.creationTimestamp` in seconds since the epoch. Where two
    /// Services claim one frontend, the older one has it.
    pub created: i64,
    /// `spec.type`
    pub kind: ServiceType,
    /// `spec.clusterIPs` (or the one `spec.clusterIP`), `None` and empty left
    /// out. Kept as text where it is no address, so that the warning names it.
    pub cluster_ips: Vec<String>,
    /// `spec.externalIPs`
    pub external_ips: Vec<String>,
    /// Addresses of `status.loadBalancer.ingress` whose ipMode is absent or `VIP`.
    pub load_balancer_ips: Vec<String>,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`
    pub external_policy: TrafficPolicy,
    /// The timeout in seconds where `spec.sessionAffinity` is `ClientIP`.
    pub affinity: Option<u32>,
    /// The annotation `proxy-agent/lb-algorithm`, as written.
    pub algorithm: Option<String>,
    /// The annotation `proxy-agent/forwarding`, as written.
    pub forwarding: Option<String>,
    /// The annotation `proxy-agent/unanswered`, as written.
    pub unanswered: Option<String>,
    /// `spec.loadBalancerSourceRanges`, as written.
    pub source_ranges: Vec<String>,
    /// `spec.healthCheckNodePort`
    pub health_check_node_port: Option<u16>,
}

/// One of `spec.ports` of a Service. Numbers are kept as the API has them, so
/// that a bad one is refused by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty where the Service has one unnamed port.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// `port`
    pub port: i32,
    /// `nodePort`; 0 where there is none.
    pub node_port: i32,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its own name.
    pub name: ObjectName,
    /// The Service named by the label `kubernetes.io/service-name`.
    pub service: ObjectName,
    /// `addressType`; `None` for FQDN slices, which are ignored.
    pub family: Option<Family>,
    /// Its ports; those with no name field or no number are left out.
    pub ports: Vec<EndpointPort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The annotation `proxy-agent/weight`, as written.
    pub weight: Option<String>,
    /// The annotation `endpoints.kubernetes.io/last-change-trigger-time`, in
    /// milliseconds since the epoch.
    pub last_change_trigger: Option<i64>,
}

/// One of an EndpointSlice's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The Service port that it belongs to, by name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// `port`
    pub port: i32,
}

/// One of an EndpointSlice's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`
    pub address: String,
    /// `conditions.ready`, absent is true.
    pub ready: bool,
    /// `conditions.serving`, absent is true.
    pub serving: bool,
    /// `conditions.terminating`, absent is false.
    pub terminating: bool,
    /// `nodeName`
    pub node: Option<Arc<str>>,
    /// `hints.forZones`
    pub zone_hints: Vec<Arc<str>>,
    /// `hints.forNodes`
    pub node_hints: Vec<Arc<str>>,
}

/// The Node on which this agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `InternalIP` addresses, then `ExternalIP` ones, in the object's order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`
    pub pod_cidrs: Vec<IpNet>,
    /// Whether load balancers should send traffic here: it is not being deleted, and
    /// not tainted for the cluster autoscaler to delete it.
    pub is_eligible: bool,
}

/// A ServiceCIDR: where the API server allocates ClusterIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `spec.cidrs`, those that are ranges.
    pub ranges: Vec<IpNet>,
}

/// A Pod of this node whose sockets are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// The id by which the kubelet names its cgroup.
    pub uid: Arc<str>,
}

/// A change of one object, or the news that the first full list of a kind is
/// complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Service was added or modified.
    Service(Service),
    /// A Service is gone.
    ServiceGone(ObjectName),
    /// An EndpointSlice was added or modified.
    EndpointSlice(EndpointSlice),
    /// An EndpointSlice is gone.
    EndpointSliceGone(ObjectName),
    /// This node was added or modified.
    Node(Node),
    /// This node's object is gone.
    NodeGone,
    /// A ServiceCIDR was added or modified.
    ServiceCidr(ServiceCidr),
    /// The ServiceCIDR of this name is gone.
    ServiceCidrGone(Arc<str>),
    /// A Pod whose sockets are left alone was added or modified.
    Pod(Pod),
    /// Such a Pod is gone, or is to be served again.
    PodGone(ObjectName),
    /// Every Service of the first list has been reported.
    ServicesListed,
    /// Every EndpointSlice of the first list has been reported.
    EndpointSlicesListed,
    /// This node's object has been reported, if there is one.
    NodeListed,
}
