//! Which objects the proxy is for.
//!
//! These are the selectors with which kube-proxy watches. The API server
//! applies them itself; for other sources they are here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The label that gives a Service to another proxy.
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label that slices of headless Services bear.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// The label by which a Pod's sockets are left alone, with its value.
pub const SOCKET_PATH: (&str, &str) = ("proxy-agent/socket-path", "off");

/// `!service.kubernetes.io/service-proxy-name` and `spec.clusterIP!=None`
pub fn takes_service(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    !has_label(service.metadata.labels.as_ref(), SERVICE_PROXY_NAME)
        && spec.and_then(|spec| spec.cluster_ip.as_deref()) != Some("None")
}

/// `!service.kubernetes.io/headless`
pub fn takes_slice(slice: &EndpointSlice) -> bool {
    !has_label(slice.metadata.labels.as_ref(), HEADLESS)
}

/// `metadata.name=name`
pub fn takes_node(node: &Node, name: &str) -> bool {
    node.metadata.name.as_deref() == Some(name)
}

/// `proxy-agent/socket-path=off` and `spec.nodeName=node_name`
pub fn takes_pod(pod: &Pod, node_name: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let value = labels.and_then(|labels| labels.get(SOCKET_PATH.0));
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    value.is_some_and(|value| value == SOCKET_PATH.1) && node == Some(node_name)
}

/// A label is there whatever its value, which may be empty.
fn has_label(labels: Option<&BTreeMap<String, String>>, name: &str) -> bool {
    labels.is_some_and(|labels| labels.contains_key(name))
}
