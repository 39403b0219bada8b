//! How the model hands out what it knows. What it knows is tried in
//! `tests/model_*.rs`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::desired::{DesiredPort, FrontendKind, PortName};
use super::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};
use super::{Model, ModelSettings, NodeAddresses, NodePortAddresses};

mod cluster_ips;
mod health_checks;
mod limits;
mod offered;

use health_checks::checked;

fn service(name: &str, address: &str) -> Change {
    Change::Service(Service {
        name: ObjectName::new("n", name),
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![address.to_owned()],
        external_ips: vec!["198.51.100.1".to_owned()],
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
        }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        algorithm: None,
        forwarding: None,
        unanswered: None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
    })
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Change {
    let endpoint = |address: &&str| Endpoint {
        address: (*address).to_owned(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    };
    Change::EndpointSlice(EndpointSlice {
        name: ObjectName::new("n", name),
        service: ObjectName::new("n", service),
        family: Some(Family::V4),
        ports: vec![EndpointPort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: addresses.iter().map(endpoint).collect(),
        weight: None,
        last_change_trigger: None,
    })
}

fn node(addresses: &[&str]) -> Change {
    Change::Node(Node {
        name: "here".into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..Node::default()
    })
}

fn model() -> Model {
    Model::new("here", ModelSettings::default())
}

fn complete() -> Model {
    let mut model = model();
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
    model
}

/// Name of the Service, and how many endpoints it has; `None` for gone.
fn short(
    changes: impl Iterator<Item = (PortName, Option<DesiredPort>)>,
) -> Vec<(String, Option<usize>)> {
    let short = |(port, desired): (PortName, Option<DesiredPort>)| {
        let count = desired.map(|desired| desired.endpoints.len());
        (port.service.name.to_string(), count)
    };
    changes.map(short).collect()
}

#[test]
fn nothing_is_handed_out_before_both_lists_are_complete() {
    for lists in [
        [Change::ServicesListed, Change::EndpointSlicesListed],
        [Change::EndpointSlicesListed, Change::ServicesListed],
    ] {
        let mut model = model();
        model.apply(service("a", "10.1.0.1"));
        assert!(model.take_changes().next().is_none());
        let [first, second] = lists;
        model.apply(first);
        assert!(!model.is_complete());
        assert!(model.take_changes().next().is_none());
        assert!(model.take_warnings().is_empty());
        model.apply(second);
        assert!(model.is_complete());
        assert_eq!(short(model.take_changes()), [("a".to_owned(), Some(0))]);
        assert_eq!(model.take_warnings().len(), 1);
    }
}

#[test]
fn only_ports_that_differ_from_what_was_handed_out_are_handed_out() {
    let mut model = complete();
    model.apply(service("a", "10.1.0.1"));
    model.apply(service("b", "10.1.0.2"));
    model.apply(slice("s", "b", &["10.0.0.1"]));
    assert_eq!(model.take_changes().count(), 2);
    // The same again.
    model.apply(service("a", "10.1.0.1"));
    model.apply(slice("s", "b", &["10.0.0.1"]));
    assert!(model.take_changes().next().is_none());
    // There and back.
    model.apply(slice("s", "b", &["10.0.0.1", "10.0.0.2"]));
    model.apply(slice("s", "b", &["10.0.0.1"]));
    assert!(model.take_changes().next().is_none());
    // Gone and made again.
    model.apply(Change::ServiceGone(ObjectName::new("n", "b")));
    model.apply(service("b", "10.1.0.2"));
    assert!(model.take_changes().next().is_none());
    // Another slice that says nothing new.
    model.apply(slice("t", "b", &["10.0.0.1"]));
    assert!(model.take_changes().next().is_none());
    model.apply(slice("t", "b", &["10.0.0.3"]));
    assert_eq!(short(model.take_changes()), [("b".to_owned(), Some(2))]);
    model.apply(Change::ServiceGone(ObjectName::new("n", "b")));
    assert_eq!(short(model.take_changes()), [("b".to_owned(), None)]);
}

#[test]
fn a_refusal_is_reported_once_while_it_persists_and_again_when_it_returns() {
    let mut model = complete();
    model.apply(service("a", "10.1.0.1"));
    let reported = model.take_warnings();
    assert_eq!(
        reported.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["service n/a: the external IP 198.51.100.1 is in no range that the configuration allows"]
    );
    model.apply(service("a", "10.1.0.2"));
    assert!(model.take_warnings().is_empty());
    assert_eq!(model.warnings().count(), 1);
    model.apply(Change::ServiceGone(ObjectName::new("n", "a")));
    assert!(model.take_warnings().is_empty());
    assert_eq!(model.warnings().count(), 0);
    model.apply(service("a", "10.1.0.1"));
    assert_eq!(model.take_warnings(), reported);
}

fn texts(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
    let addresses = addresses.into_iter();
    addresses.map(|address| address.to_string()).collect()
}

fn local(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_nodes_primary_addresses_are_the_first_of_each_family_that_will_do() {
    let mut model = complete();
    assert_eq!(model.node_addresses(), NodeAddresses::default());
    model.apply(node(&[
        "fe80::1",
        "fd02::2",
        "127.0.0.1",
        "10.2.0.2",
        "10.2.0.1",
        "fd02::1",
    ]));
    let addresses = model.node_addresses();
    assert_eq!(texts(addresses.primary), ["10.2.0.2", "fd02::2"]);
    assert_eq!(texts(addresses.node_ports), ["10.2.0.2", "fd02::2"]);
    assert_eq!(addresses.own.len(), 6);

    let with_address = |address: &str| ModelSettings {
        bind_address: Some(address.parse().unwrap()),
        ..ModelSettings::default()
    };
    model.configure(with_address("10.2.0.9"));
    let addresses = model.node_addresses();
    assert_eq!(texts(addresses.primary), ["10.2.0.9", "fd02::2"]);
    // One by which no reply would come back is none.
    model.configure(with_address("127.0.0.1"));
    let addresses = model.node_addresses();
    assert_eq!(texts(addresses.primary), ["10.2.0.2", "fd02::2"]);
    model.apply(Change::NodeGone);
    assert_eq!(model.node_addresses().primary, [] as [IpAddr; 0]);
    assert!(model.node().is_none());
}

#[test]
fn node_ports_answer_on_the_local_addresses_that_are_configured() {
    let mut model = complete();
    model.apply(node(&["10.2.0.1", "fd02::1"]));
    let devices = [
        "127.0.0.1",
        "10.2.0.1",
        "10.3.0.1",
        "::1",
        "fd02::1",
        "fd03::1",
    ];
    model.set_local_addresses(local(&devices));
    for (primary, v4, v6, expected) in [
        (true, &[][..], &[][..], &["10.2.0.1", "fd02::1"][..]),
        (
            false,
            &["0.0.0.0/0"],
            &["::/0"],
            &["10.2.0.1", "10.3.0.1", "fd02::1", "fd03::1"],
        ),
        (false, &["127.0.0.0/8"], &["::1/128"], &[]),
        (
            false,
            &["10.3.0.0/16"],
            &["fd03::/16"],
            &["10.3.0.1", "fd03::1"],
        ),
        (
            true,
            &["10.3.0.0/16"],
            &[],
            &["10.2.0.1", "10.3.0.1", "fd02::1"],
        ),
    ] {
        model.configure(ModelSettings {
            node_port_addresses: NodePortAddresses {
                primary,
                v4: v4.iter().map(|range| range.parse().unwrap()).collect(),
                v6: v6.iter().map(|range| range.parse().unwrap()).collect(),
            },
            ..ModelSettings::default()
        });
        let found = texts(model.node_addresses().node_ports);
        assert_eq!(found, expected, "{primary} {v4:?} {v6:?}");
    }
    model.set_local_addresses(local(&["10.3.0.1", "10.3.0.2"]));
    let found = texts(model.node_addresses().node_ports);
    // The primary ones answer also where another machine translates to them.
    let expected = ["10.2.0.1", "10.3.0.1", "10.3.0.2", "fd02::1"];
    assert_eq!(found, expected);
}

/// The addresses of the Service `a` and what is refused of it, where they changed.
fn served(model: &mut Model) -> (Vec<String>, Vec<String>) {
    let changes = model.take_changes().collect::<Vec<_>>();
    let frontends = changes.into_iter().filter_map(|(_, port)| port);
    let frontends = frontends.flat_map(|port| port.frontends);
    let warnings = model.take_warnings();
    (
        texts(frontends.map(|frontend| frontend.address)),
        warnings
            .iter()
            .map(|warning| warning.reason.to_string())
            .collect(),
    )
}

#[test]
fn external_ips_follow_the_ranges_and_the_nodes_addresses_at_run_time() {
    let mut model = complete();
    model.apply(service("a", "10.1.0.1"));
    let (addresses, warnings) = served(&mut model);
    assert_eq!(addresses, ["10.1.0.1"]);
    assert!(warnings[0].contains("in no range"), "{warnings:?}");

    let allowing = |range: &str| ModelSettings {
        external_ips: vec![range.parse().unwrap()],
        ..ModelSettings::default()
    };
    model.configure(allowing("198.51.100.0/24"));
    let both = ["10.1.0.1", "198.51.100.1"].map(str::to_owned).to_vec();
    assert_eq!(served(&mut model), (both.clone(), vec![]));
    // The same again is no change.
    model.configure(allowing("198.51.100.0/24"));
    assert_eq!(served(&mut model), (vec![], vec![]));

    model.set_local_addresses(local(&["198.51.100.1"]));
    let (addresses, warnings) = served(&mut model);
    assert_eq!(addresses, ["10.1.0.1"]);
    assert!(warnings[0].contains("of this node"), "{warnings:?}");
    model.set_local_addresses(local(&[]));
    assert_eq!(served(&mut model), (both, vec![]));

    model.configure(allowing("203.0.113.0/24"));
    let (addresses, warnings) = served(&mut model);
    assert_eq!(addresses, ["10.1.0.1"]);
    assert!(warnings[0].contains("in no range"), "{warnings:?}");
}
