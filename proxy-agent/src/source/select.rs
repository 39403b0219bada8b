//! Which objects the proxy is for.
//!
//! These are the selectors with which kube-proxy watches. The API server
//! applies them itself; for other sources they are here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The label that gives a Service to another proxy.
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label that slices of headless Services bear.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

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

/// A label is there whatever its value, which may be empty.
fn has_label(labels: Option<&BTreeMap<String, String>>, name: &str) -> bool {
    labels.is_some_and(|labels| labels.contains_key(name))
}
