//! Conversion of what the model has no use for yet. The rest is tried together
//! with the model, in `tests/model_conformance.rs`.

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde::de::DeserializeOwned;

use super::convert;
use crate::model::object::ObjectName;

fn object<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn a_service_keeps_its_age_its_source_ranges_and_its_health_check() {
    let service: core::Service = object(
        "metadata: {name: a, namespace: n, creationTimestamp: '1970-01-02T00:00:01Z'}\n\
         spec: {healthCheckNodePort: 32000, loadBalancerSourceRanges: [' 10.0.0.0/8', x]}",
    );
    let service = convert::service(service).unwrap();
    assert_eq!(service.name, ObjectName::new("n", "a"));
    assert_eq!(service.created, 86_401);
    assert_eq!(service.health_check_node_port, Some(32_000));
    assert_eq!(service.source_ranges, [" 10.0.0.0/8", "x"]);
    for bad in ["0", "65536", "-1"] {
        let yaml = format!("metadata: {{name: a}}\nspec: {{healthCheckNodePort: {bad}}}");
        let service = convert::service(object(&yaml)).unwrap();
        assert_eq!(service.health_check_node_port, None, "{bad}");
        assert_eq!(service.created, 0);
    }
}

#[test]
fn an_object_without_a_name_is_none() {
    assert!(convert::service(object("metadata: {namespace: n}")).is_none());
    assert!(convert::node(object("metadata: {}")).is_none());
    let slice = "metadata: {labels: {kubernetes.io/service-name: a}}\naddressType: IPv4";
    assert!(convert::slice(object(slice)).is_none());
}

#[test]
fn a_slice_keeps_the_time_of_its_change() {
    let yaml = |time: &str| {
        format!(
            "metadata: {{name: s, labels: {{kubernetes.io/service-name: a}}, annotations: \
             {{endpoints.kubernetes.io/last-change-trigger-time: '{time}'}}}}\naddressType: IPv4"
        )
    };
    let trigger = |time: &str| {
        let slice: discovery::EndpointSlice = object(&yaml(time));
        convert::slice(slice).unwrap().last_change_trigger
    };
    assert_eq!(trigger("1970-01-01T00:00:01Z"), Some(1_000));
    assert_eq!(trigger("1970-01-01T00:00:01.234567Z"), Some(1_234));
    assert_eq!(trigger("yesterday"), None);
}

#[test]
fn a_slice_takes_no_more_memory_than_it_needs() {
    let slice: discovery::EndpointSlice = object(
        "metadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\n\
         ports: [{name: a, port: 1}, {name: b, port: 2}]\n\
         endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}]",
    );
    let slice = convert::slice(slice).unwrap();
    assert_eq!((slice.ports.len(), slice.ports.capacity()), (2, 2));
    assert_eq!((slice.endpoints.len(), slice.endpoints.capacity()), (3, 3));
}

#[test]
fn a_node_keeps_its_addresses_in_order_and_its_ranges_of_pods() {
    let node: core::Node = object(
        "metadata: {name: here, labels: {a: b}}\n\
         spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24, 'fd00::/64', x]}\n\
         status: {addresses: [{type: ExternalIP, address: 203.0.113.1}, \
         {type: InternalIP, address: 'fd02::1'}, {type: Hostname, address: 10.9.9.9}, \
         {type: InternalIP, address: 10.2.0.1}, {type: InternalIP, address: x}]}",
    );
    let node = convert::node(node).unwrap();
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["fd02::1", "10.2.0.1", "203.0.113.1"]);
    let ranges: Vec<_> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/24", "fd00::/64"]);
    assert_eq!(node.labels["a"], "b");
    let node = convert::node(object(
        "metadata: {name: here}\nspec: {podCIDR: 10.0.0.0/24}",
    ));
    assert_eq!(node.unwrap().pod_cidrs.len(), 1);
}

#[test]
fn a_service_cidr_keeps_what_is_a_range() {
    let yaml = "metadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.1/16, 'fd00::/108', x]}";
    let cidr = convert::service_cidr(object(yaml)).unwrap();
    assert_eq!(&*cidr.name, "kubernetes");
    let ranges: Vec<_> = cidr.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/16", "fd00::/108"]);
    assert!(convert::service_cidr(object("metadata: {}")).is_none());
}
