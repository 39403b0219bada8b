//! Objects to tell of.

use serde_json::{Value, json};

pub(crate) fn service(name: &str) -> Value {
    service_at(name, "10.96.0.1")
}

pub(crate) fn service_at(name: &str, cluster_ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    })
}

pub(crate) fn labelled(mut object: Value, key: &str) -> Value {
    // A label is there whatever its value.
    object["metadata"]["labels"][key] = json!("");
    object
}

pub(crate) fn node(name: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

pub(crate) fn slice(name: &str, service: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.1"]}],
    })
}

pub(crate) fn service_cidr(name: &str, range: &str) -> Value {
    json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": name}, "spec": {"cidrs": [range]},
    })
}

/// A Pod that opts out of the socket path, of the node `here`.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"proxy-agent/socket-path": "off"},
        },
        "spec": {"nodeName": "here", "containers": []},
    })
}
