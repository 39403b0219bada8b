//! ServiceCIDRs and the ClusterIPs in use.

use std::collections::BTreeSet;

use super::super::object::ServiceCidr;
use super::*;

fn cidr(name: &str, ranges: &[&str]) -> Change {
    Change::ServiceCidr(ServiceCidr {
        name: name.into(),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    })
}

fn gone(name: &str) -> Change {
    Change::ServiceGone(ObjectName::new("n", name))
}

/// What was taken and what was freed.
fn addresses(model: &mut Model) -> (Vec<String>, Vec<String>) {
    let changes = model.take_cluster_ip_changes();
    let texts = |all: BTreeSet<_>| all.iter().map(ToString::to_string).collect();
    (texts(changes.taken), texts(changes.freed))
}

fn ranges(model: &mut Model) -> Option<Vec<String>> {
    let changed = model.take_cluster_ip_changes().ranges?;
    let all = changed.iter().map(ToString::to_string).collect();
    assert_eq!(model.service_cidrs(), changed);
    Some(all)
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn cluster_ips_are_in_use_while_any_service_has_them() {
    let mut model = model();
    model.apply(service("a", "10.1.0.1"));
    model.apply(service("b", "fd01::1"));
    assert_eq!(
        addresses(&mut model),
        (vec![], vec![]),
        "not before the lists"
    );
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
    let both = texts(&["10.1.0.1", "fd01::1"]);
    assert_eq!(addresses(&mut model), (both, vec![]));

    // A Service that is changed without moving, and one more with the same address.
    model.apply(checked(TrafficPolicy::Local, None));
    model.apply(service("c", "10.1.0.1"));
    assert_eq!(addresses(&mut model), (vec![], vec![]));
    model.apply(gone("a"));
    assert_eq!(addresses(&mut model), (vec![], vec![]), "c has it");
    model.apply(gone("c"));
    model.apply(service("b", "10.1.0.2"));
    let moved = (texts(&["10.1.0.2"]), texts(&["10.1.0.1", "fd01::1"]));
    assert_eq!(addresses(&mut model), moved);
    // There and back.
    model.apply(gone("b"));
    model.apply(service("b", "10.1.0.2"));
    assert_eq!(addresses(&mut model), (vec![], vec![]));
    model.apply(gone("b"));
    assert_eq!(addresses(&mut model), (vec![], texts(&["10.1.0.2"])));
}

#[test]
fn an_address_is_in_use_though_no_port_of_its_service_can_be_served() {
    let mut model = complete();
    let Change::Service(mut strange) = service("a", "10.1.0.1") else {
        unreachable!()
    };
    strange.ports[0].port = 0;
    model.apply(Change::Service(strange));
    assert_eq!(addresses(&mut model).0, texts(&["10.1.0.1"]));
}

#[test]
fn ranges_are_those_of_all_service_cidrs() {
    let mut model = complete();
    assert_eq!(ranges(&mut model), None);
    model.apply(cidr("kubernetes", &["10.96.0.0/16", "fd00::/108"]));
    model.apply(cidr("more", &["10.97.0.0/16"]));
    let all = texts(&["10.96.0.0/16", "10.97.0.0/16", "fd00::/108"]);
    assert_eq!(ranges(&mut model), Some(all));
    model.apply(cidr("same", &["10.97.0.0/16"]));
    model.apply(Change::ServiceCidrGone("more".into()));
    assert_eq!(ranges(&mut model), None);
    model.apply(cidr("kubernetes", &["10.96.0.0/16"]));
    assert_eq!(
        ranges(&mut model),
        Some(texts(&["10.96.0.0/16", "10.97.0.0/16"]))
    );
    model.apply(Change::ServiceCidrGone("kubernetes".into()));
    model.apply(Change::ServiceCidrGone("same".into()));
    assert_eq!(ranges(&mut model), Some(vec![]));
}
