//! Why new connections go to an endpoint, or do not.

use std::sync::Arc;

use super::*;
use crate::model::Standing;
use crate::model::desired::Weight;

/// An endpoint, on this node or another.
fn endpoint(address: &str, node: &str) -> Endpoint {
    Endpoint {
        address: address.to_owned(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(Arc::from(node)),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    }
}

/// What is said of each endpoint at 10.1.0.1, under both policies.
fn standings(endpoints: Vec<Endpoint>) -> Vec<[Standing; 2]> {
    let mut model = complete();
    model.apply(service("a", "10.1.0.1"));
    let Change::EndpointSlice(of_none) = slice("s", "a", &[]) else {
        panic!("a slice")
    };
    model.apply(Change::EndpointSlice(EndpointSlice {
        endpoints,
        ..of_none
    }));
    let mut here = Node {
        name: "here".into(),
        ..Node::default()
    };
    let zone = "topology.kubernetes.io/zone";
    here.labels.insert(zone.into(), "a".into());
    model.apply(Change::Node(here));
    let found = model.offered_at("10.1.0.1".parse().unwrap(), 80, Protocol::Tcp);
    let found = found.unwrap();
    // What is said is what is done.
    let (_, desired) = &model.desired_of(&found.port.service)[0];
    for (set, of) in [(&desired.cluster, 0), (&desired.local, 1)] {
        let chosen: Vec<_> = set.iter().map(|it| desired.endpoints[*it]).collect();
        let said = found.endpoints.iter();
        let said = said.filter(|it| [it.cluster, it.local][of] == Standing::Candidate);
        assert_eq!(said.map(|it| it.endpoint).collect::<Vec<_>>(), chosen);
    }
    let both = found.endpoints.iter().map(|it| [it.cluster, it.local]);
    both.collect()
}

#[test]
fn an_endpoint_elsewhere_is_no_candidate_of_the_policy_local() {
    let found = standings(vec![
        endpoint("10.2.0.1", "here"),
        endpoint("10.2.0.2", "there"),
    ]);
    assert_eq!(
        found,
        [
            [Standing::Candidate; 2],
            [Standing::Candidate, Standing::NotLocal]
        ]
    );
}

#[test]
fn an_endpoint_that_does_not_serve_is_named() {
    let not_ready = Endpoint {
        ready: false,
        serving: false,
        ..endpoint("10.2.0.2", "here")
    };
    let terminating = Endpoint {
        ready: false,
        terminating: true,
        ..endpoint("10.2.0.3", "here")
    };
    let ready = endpoint("10.2.0.1", "here");
    assert_eq!(
        standings(vec![ready, not_ready.clone(), terminating.clone()]),
        [
            [Standing::Candidate; 2],
            [Standing::NotReady; 2],
            [Standing::Terminating; 2]
        ]
    );
    // Where nothing is ready, what terminates and serves is used.
    assert_eq!(
        standings(vec![not_ready, terminating]),
        [[Standing::NotReady; 2], [Standing::Candidate; 2]]
    );
}

#[test]
fn a_hint_for_others_is_named() {
    let hinted = |address: &str, zones: &[&str], nodes: &[&str]| Endpoint {
        zone_hints: zones.iter().map(|it| Arc::from(*it)).collect(),
        node_hints: nodes.iter().map(|it| Arc::from(*it)).collect(),
        ..endpoint(address, "there")
    };
    let zones = vec![
        hinted("10.2.0.1", &["a"], &[]),
        hinted("10.2.0.2", &["b"], &[]),
    ];
    let under_cluster = |endpoints| standings(endpoints).into_iter().map(|it| it[0]);
    assert!(under_cluster(zones).eq([Standing::Candidate, Standing::HintedToOtherZones]));
    let nodes = vec![
        hinted("10.2.0.1", &["b"], &["here"]),
        hinted("10.2.0.2", &["a"], &["there"]),
    ];
    assert!(under_cluster(nodes).eq([Standing::Candidate, Standing::HintedToOtherNodes]));
}

#[test]
fn an_endpoint_without_weight_is_named() {
    assert_eq!(Weight::NONE.get(), 0);
    let mut model = Model::new(
        "here",
        ModelSettings {
            algorithm: crate::model::object::Algorithm::Maglev,
            ..ModelSettings::default()
        },
    );
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
    model.apply(service("a", "10.1.0.1"));
    for (name, address, weight) in [("s", "10.2.0.1", "0"), ("t", "10.2.0.2", "100")] {
        let Change::EndpointSlice(of) = slice(name, "a", &[address]) else {
            panic!("a slice")
        };
        model.apply(Change::EndpointSlice(EndpointSlice {
            weight: Some(weight.into()),
            ..of
        }));
    }
    let found = model.offered_at("10.1.0.1".parse().unwrap(), 80, Protocol::Tcp);
    let said = found.unwrap().endpoints.into_iter().map(|it| it.cluster);
    assert!(said.eq([Standing::NoWeight, Standing::Candidate]));
}

#[test]
fn node_ports_are_found_at_the_nodes_addresses_only() {
    let mut model = complete();
    let Change::Service(of) = service("a", "10.1.0.1") else {
        panic!("a Service")
    };
    let ports = of.ports.iter().map(|port| ServicePort {
        node_port: 30_080,
        ..port.clone()
    });
    model.apply(Change::Service(Service {
        kind: ServiceType::NodePort,
        ports: ports.collect(),
        ..of
    }));
    model.apply(node(&["192.0.2.1"]));
    let kind_at = |address: &str, port| {
        let found = model.offered_at(address.parse().unwrap(), port, Protocol::Tcp);
        found.map(|it| it.kind)
    };
    assert_eq!(kind_at("192.0.2.1", 30_080), Some(FrontendKind::NodePort));
    assert_eq!(kind_at("127.0.0.1", 30_080), Some(FrontendKind::NodePort));
    assert_eq!(kind_at("192.0.2.2", 30_080), None);
    assert_eq!(kind_at("192.0.2.1", 80), None);
    assert_eq!(kind_at("10.1.0.1", 80), Some(FrontendKind::ClusterIp));
}
