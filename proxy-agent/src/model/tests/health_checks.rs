//! Health checks by node port.

use super::*;

/// A load balancer's Service with a health check.
pub(super) fn checked(policy: TrafficPolicy, port: Option<u16>) -> Change {
    let Change::Service(mut asked) = service("a", "10.1.0.1") else {
        unreachable!()
    };
    asked.kind = ServiceType::LoadBalancer;
    asked.external_policy = policy;
    asked.health_check_node_port = port;
    Change::Service(asked)
}

/// A slice of `a` on this node, with (address, ready).
fn slice_here(name: &str, endpoints: &[(&str, bool)]) -> Change {
    let Change::EndpointSlice(mut slice) = slice(name, "a", &[]) else {
        unreachable!()
    };
    slice.endpoints = endpoints
        .iter()
        .map(|(address, ready)| Endpoint {
            address: (*address).to_owned(),
            ready: *ready,
            serving: true,
            terminating: !ready,
            node: Some("here".into()),
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
        })
        .collect();
    Change::EndpointSlice(slice)
}

/// Port and number of IPv4 endpoints of what is handed out.
fn checks(model: &mut Model) -> Vec<Option<(u16, usize)>> {
    let checks = model.take_health_checks().into_iter();
    checks
        .map(|(name, check)| {
            assert_eq!(name, ObjectName::new("n", "a"));
            check.map(|check| (check.port, check.local_endpoints[&Family::V4]))
        })
        .collect()
}

#[test]
fn a_health_check_counts_addresses_that_are_ready_here() {
    let mut model = model();
    model.apply(checked(TrafficPolicy::Local, Some(32_000)));
    // One address twice, one elsewhere, one that drains.
    model.apply(slice("s", "a", &["10.0.0.1", "10.0.0.9"]));
    model.apply(slice_here("t", &[("10.0.0.2", true), ("10.0.0.3", false)]));
    model.apply(slice_here("u", &[("10.0.0.2", true), ("10.0.0.4", true)]));
    assert!(checks(&mut model).is_empty(), "not before the lists");
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
    assert_eq!(checks(&mut model), [Some((32_000, 2))]);
    assert!(checks(&mut model).is_empty());
    model.apply(Change::EndpointSliceGone(ObjectName::new("n", "u")));
    assert_eq!(checks(&mut model), [Some((32_000, 1))]);
    // What drains here is no reason to send more.
    model.apply(slice_here("t", &[("10.0.0.2", false)]));
    assert_eq!(checks(&mut model), [Some((32_000, 0))]);
}

#[test]
fn a_health_check_is_answered_at_the_balancers_address_where_that_is_the_nodes() {
    let mut model = complete();
    let Change::Service(mut asked) = checked(TrafficPolicy::Local, Some(32_000)) else {
        unreachable!()
    };
    asked.load_balancer_ips = vec!["203.0.113.1".to_owned(), "203.0.113.2".to_owned()];
    model.apply(Change::Service(asked));
    let addresses = |model: &mut Model| {
        let check = model.take_health_checks().remove(0).1.unwrap();
        let ips = check.balancer_ips.into_iter();
        ips.map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert!(addresses(&mut model).is_empty());
    let own = ["192.0.2.1", "203.0.113.2"].map(|text| text.parse().unwrap());
    model.set_local_addresses(own.into());
    assert_eq!(addresses(&mut model), ["203.0.113.2"]);
    model.set_local_addresses([own[0]].into());
    assert!(addresses(&mut model).is_empty());
}

#[test]
fn a_health_check_comes_and_goes_with_what_asks_for_it() {
    let mut model = complete();
    model.apply(checked(TrafficPolicy::Cluster, Some(32_000)));
    model.apply(checked(TrafficPolicy::Local, None));
    assert!(checks(&mut model).is_empty());
    model.apply(checked(TrafficPolicy::Local, Some(32_000)));
    assert_eq!(checks(&mut model), [Some((32_000, 0))]);
    model.apply(checked(TrafficPolicy::Local, Some(32_001)));
    assert_eq!(checks(&mut model), [Some((32_001, 0))]);
    model.apply(checked(TrafficPolicy::Cluster, Some(32_001)));
    assert_eq!(checks(&mut model), [None]);
    model.apply(checked(TrafficPolicy::Local, Some(32_001)));
    model.apply(Change::ServiceGone(ObjectName::new("n", "a")));
    assert_eq!(checks(&mut model), [None]);
    // Nothing is left behind of a Service without one.
    model.apply(service("a", "10.1.0.1"));
    assert!(checks(&mut model).is_empty());
}
