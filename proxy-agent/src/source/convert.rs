//! From the objects of the API to those of the model.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::model::object::{
    Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Pod, Protocol, Service,
    ServiceCidr, ServicePort, ServiceType, TrafficPolicy,
};
use crate::model::{parse_ip, parse_range};

/// The label by which a slice names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The annotation that says when the change happened that a slice reports.
pub const LAST_CHANGE_TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The annotation of a Service that says how the endpoints of connections from outside
/// are chosen.
pub const ALGORITHM: &str = "proxy-agent/lb-algorithm";

/// The annotation of an EndpointSlice that says what part of the clients each of its
/// endpoints gets.
pub const WEIGHT: &str = "proxy-agent/weight";

/// The annotation of a Service that says how connections from outside reach endpoints of
/// other nodes.
pub const FORWARDING: &str = "proxy-agent/forwarding";

/// The annotation of a Service that says what becomes of connections whose endpoint does not
/// answer.
pub const UNANSWERED: &str = "proxy-agent/unanswered";

/// The taint by which the cluster autoscaler marks a Node that it will delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// The API server's default of `clientIP.timeoutSeconds`: three hours.
const AFFINITY_SECONDS: u32 = 10_800;
/// The longest that the API server admits: a day.
const MAX_AFFINITY_SECONDS: u32 = 86_400;

/// A Service; `None` where it has no name.
pub fn service(object: core::Service) -> Option<Service> {
    let name = object_name(&object.metadata)?;
    let created = object.metadata.creation_timestamp.as_ref();
    let created = created.map_or(0, |time| time.0.as_second());
    let spec = object.spec.unwrap_or_default();
    let affinity = affinity(&spec);
    let annotations = object.metadata.annotations.as_ref();
    let annotation = |name| annotations.and_then(|all| all.get(name)).cloned();
    Some(Service {
        name,
        created,
        kind: match spec.type_.as_deref() {
            Some("NodePort") => ServiceType::NodePort,
            Some("LoadBalancer") => ServiceType::LoadBalancer,
            Some("ExternalName") => ServiceType::ExternalName,
            _ => ServiceType::ClusterIp,
        },
        cluster_ips: spec
            .cluster_ips
            .filter(|addresses| !addresses.is_empty())
            .unwrap_or_else(|| spec.cluster_ip.into_iter().collect())
            .into_iter()
            .filter(|address| !address.is_empty() && address != "None")
            .collect(),
        external_ips: spec.external_ips.unwrap_or_default(),
        load_balancer_ips: reduced(
            object
                .status
                .and_then(|status| status.load_balancer?.ingress),
            |ingress| match ingress.ip_mode.as_deref() {
                None | Some("VIP") => ingress.ip.filter(|address| !address.is_empty()),
                Some(_) => None,
            },
        ),
        ports: reduced(spec.ports, |port| {
            Some(ServicePort {
                protocol: protocol(port.protocol.as_deref())?,
                name: port.name.unwrap_or_default().into(),
                port: port.port,
                node_port: port.node_port.unwrap_or(0),
            })
        }),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_policy: policy(spec.external_traffic_policy.as_deref()),
        affinity,
        algorithm: annotation(ALGORITHM),
        forwarding: annotation(FORWARDING),
        unanswered: annotation(UNANSWERED),
        source_ranges: spec.load_balancer_source_ranges.unwrap_or_default(),
        health_check_node_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0),
    })
}

/// An EndpointSlice; `None` where it has no name or names no Service.
pub fn slice(object: discovery::EndpointSlice) -> Option<EndpointSlice> {
    let name = object_name(&object.metadata)?;
    let labels = object.metadata.labels.as_ref();
    let service = labels?.get(SERVICE_NAME)?.as_str();
    let annotations = object.metadata.annotations.as_ref();
    let trigger = annotations.and_then(|all| all.get(LAST_CHANGE_TRIGGER));
    let weight = annotations.and_then(|all| all.get(WEIGHT)).cloned();
    Some(EndpointSlice {
        service: ObjectName::new(name.namespace.clone(), service),
        name,
        family: match object.address_type.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        },
        ports: reduced(object.ports, |port| {
            Some(EndpointPort {
                name: port.name?.into(),
                protocol: protocol(port.protocol.as_deref())?,
                port: port.port?,
            })
        }),
        endpoints: reduced(Some(object.endpoints), endpoint),
        weight,
        last_change_trigger: trigger
            .and_then(|time| time.parse::<Timestamp>().ok())
            .map(Timestamp::as_millisecond),
    })
}

/// A Node; `None` where it has no name.
pub fn node(object: core::Node) -> Option<Node> {
    let name = object.metadata.name?.into();
    let listed = object
        .status
        .and_then(|status| status.addresses)
        .unwrap_or_default();
    let of_type = |type_: &'static str| {
        listed
            .iter()
            .filter(move |address| address.type_ == type_)
            .filter_map(|address| parse_ip(&address.address))
    };
    let spec = object.spec.unwrap_or_default();
    let is_marked = spec
        .taints
        .iter()
        .flatten()
        .any(|taint| taint.key == TO_BE_DELETED);
    Some(Node {
        is_eligible: object.metadata.deletion_timestamp.is_none() && !is_marked,
        name,
        labels: object.metadata.labels.unwrap_or_default(),
        addresses: of_type("InternalIP").chain(of_type("ExternalIP")).collect(),
        pod_cidrs: spec
            .pod_cidrs
            .unwrap_or_else(|| spec.pod_cidr.into_iter().collect())
            .iter()
            .filter_map(|range| parse_range(range))
            .collect(),
    })
}

/// A ServiceCIDR; `None` where it has no name.
pub fn service_cidr(object: networking::ServiceCIDR) -> Option<ServiceCidr> {
    let cidrs = object.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
    let ranges = cidrs.iter().filter_map(|range| parse_range(range));
    Some(ServiceCidr {
        name: object.metadata.name.filter(|name| !name.is_empty())?.into(),
        ranges: ranges.collect(),
    })
}

/// The annotation of a static Pod's mirror that has the id by which the kubelet knows it.
const STATIC_POD_ID: &str = "kubernetes.io/config.hash";

/// A Pod; `None` where it has no name or id.
pub fn pod(object: core::Pod) -> Option<Pod> {
    let name = object_name(&object.metadata)?;
    let mut annotations = object.metadata.annotations.unwrap_or_default();
    let uid = annotations.remove(STATIC_POD_ID).or(object.metadata.uid)?;
    Some(Pod {
        name,
        uid: uid.into(),
    })
}

/// What is wanted of each of a list's items. The result has memory of its own: one that
/// is collected from a list's own items keeps the list's memory, which is many times
/// what it needs.
fn reduced<T, U>(items: Option<Vec<T>>, reduce: impl FnMut(T) -> Option<U>) -> Vec<U> {
    let items = items.unwrap_or_default();
    let mut reduced = Vec::with_capacity(items.len());
    reduced.extend(items.into_iter().filter_map(reduce));
    reduced
}

fn endpoint(object: discovery::Endpoint) -> Option<Endpoint> {
    // Consumers may take the addresses of an endpoint as one and the same
    // place, and the API server's own controller only ever writes one.
    let address = object.addresses.into_iter().next()?;
    let conditions = object.conditions.unwrap_or_default();
    let hints = object.hints.unwrap_or_default();
    Some(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: object.node_name.map(Into::into),
        zone_hints: hints
            .for_zones
            .unwrap_or_default()
            .into_iter()
            .map(|zone| zone.name.into())
            .collect(),
        node_hints: hints
            .for_nodes
            .unwrap_or_default()
            .into_iter()
            .map(|node| node.name.into())
            .collect(),
    })
}

/// The name of an object. The API server always says the namespace; in files it
/// may be left out.
pub fn object_name(metadata: &ObjectMeta) -> Option<ObjectName> {
    let namespace = metadata
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty());
    let namespace: Arc<str> = namespace.unwrap_or("default").into();
    let name = metadata.name.as_deref().filter(|name| !name.is_empty())?;
    Some(ObjectName::new(namespace, name))
}

/// The default is TCP; what the API server does not know is not served.
fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    match text {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let asked = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = asked.and_then(|seconds| u32::try_from(seconds).ok());
    Some(
        seconds
            .filter(|seconds| *seconds != 0)
            .unwrap_or(AFFINITY_SECONDS)
            .min(MAX_AFFINITY_SECONDS),
    )
}
