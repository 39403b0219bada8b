//! One Service, however large, is served within limits and leaves the others alone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::model::limits;
use crate::model::warning::LimitedPart;
use crate::model::{ServiceWarning, WarningReason};

/// A Service like [`service`], changed.
fn service_with(name: &str, address: &str, change: impl FnOnce(&mut Service)) -> Change {
    let Change::Service(mut service) = service(name, address) else {
        panic!("a Service");
    };
    service.external_ips.clear();
    change(&mut service);
    Change::Service(service)
}

fn ports(count: usize) -> Vec<ServicePort> {
    let port = |at: usize| ServicePort {
        name: Arc::from(format!("p{at}")),
        protocol: Protocol::Tcp,
        port: i32::try_from(at % 60_000).unwrap() + 1,
        node_port: 0,
    };
    (0..count).map(port).collect()
}

fn addresses(count: usize) -> Vec<String> {
    let address = |at: usize| format!("198.51.{}.{}", 100 + at / 250, at % 250 + 1);
    (0..count).map(address).collect()
}

/// What is refused of the only Service that anything is refused of.
fn reasons(model: &Model) -> BTreeSet<WarningReason> {
    model.warnings().map(|warning| warning.reason).collect()
}

fn too_many(what: LimitedPart, served: usize, asked: usize) -> WarningReason {
    WarningReason::TooMany {
        what,
        served,
        asked,
    }
}

fn allowing(range: &str) -> ModelSettings {
    ModelSettings {
        external_ips: vec![range.parse().unwrap()],
        ..ModelSettings::default()
    }
}

fn frontends(model: &Model, service: &str) -> usize {
    let ports = model.desired_of(&ObjectName::new("n", service));
    ports.iter().map(|(_, port)| port.frontends.len()).sum()
}

#[test]
fn a_forbidden_address_is_no_claim_before_it_is_allowed() {
    let mut model = complete();
    let address: IpAddr = "198.51.100.1".parse().unwrap();
    model.apply(service("a", "10.1.0.1"));
    let is_claimed = |model: &Model| model.claims.is_external_ip(address);
    assert!(!is_claimed(&model));
    assert_eq!(frontends(&model, "a"), 1);
    model.take_warnings();
    model.take_changes().for_each(drop);

    model.configure(allowing("198.51.100.0/24"));
    assert!(is_claimed(&model));
    assert_eq!(frontends(&model, "a"), 2);
    assert_eq!(model.take_changes().count(), 1);
    assert_eq!(model.take_warnings(), []);

    model.configure(allowing("192.0.2.0/24"));
    assert!(!is_claimed(&model));
    assert_eq!(model.take_changes().count(), 1);
    assert_eq!(
        model.take_warnings().len(),
        1,
        "it is told that it is forbidden again"
    );
}

#[test]
fn a_service_of_very_many_ports_is_served_in_part() {
    let mut model = complete();
    let asked = limits::FRONTENDS;
    model.apply(service_with("a", "10.1.0.1", |it| {
        it.ports = ports(asked);
        it.kind = ServiceType::NodePort;
        it.ports[0].node_port = 30_000;
    }));
    model.apply(service_with("b", "10.1.0.2", |_| {}));
    // For each port its ClusterIP, and a NodePort that it may have.
    let served = limits::FRONTENDS / 2;
    assert_eq!(frontends(&model, "a"), served + 1);
    let told = reasons(&model);
    assert_eq!(told, [too_many(LimitedPart::Ports, served, asked)].into());
    assert_eq!(frontends(&model, "b"), 1);
}

#[test]
fn a_service_keeps_its_cluster_ip_whatever_else_it_asks_for() {
    let mut model = Model::new("here", allowing("198.51.0.0/16"));
    let asked = limits::ADDRESSES + 500;
    model.apply(service_with("a", "203.0.113.1", |it| {
        it.external_ips = addresses(asked);
    }));
    let ports = model.desired_of(&ObjectName::new("n", "a"));
    let [(_, port)] = &*ports else {
        panic!("{ports:?}");
    };
    assert_eq!(port.frontends.len(), limits::ADDRESSES);
    let kinds = port.frontends.iter().map(|frontend| frontend.kind);
    let cluster_ips = kinds.filter(|kind| *kind == FrontendKind::ClusterIp);
    assert_eq!(cluster_ips.count(), 1);
    let excess = too_many(LimitedPart::Addresses, limits::ADDRESSES, asked + 1);
    assert_eq!(reasons(&model), [excess].into());
}

#[test]
fn endpoints_and_source_ranges_are_limited_by_the_number_of_ports() {
    let mut model = complete();
    let asked = 64;
    model.apply(service_with("a", "10.1.0.1", |it| {
        it.ports = ports(2048);
        it.kind = ServiceType::LoadBalancer;
        it.load_balancer_ips = addresses(1);
        let range = |address| format!("{address}/32");
        it.source_ranges = addresses(asked).into_iter().map(range).collect();
    }));
    let endpoints: Vec<_> = (1..=asked).map(|at| format!("10.2.0.{at}")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let Change::EndpointSlice(mut slice) = slice("a-1", "a", &endpoints) else {
        panic!("a slice");
    };
    slice.ports[0].name = Arc::from("p7");
    model.apply(Change::EndpointSlice(slice));
    let (ranges, served) = (limits::SOURCE_RANGES / 2048, limits::BACKENDS / 2048);
    let ports = model.desired_of(&ObjectName::new("n", "a"));
    assert_eq!(ports.len(), 2048);
    for (name, port) in &ports {
        let endpoints = if &*name.port == "p7" { served } else { 0 };
        assert_eq!(port.endpoints.len(), endpoints);
        assert_eq!(port.source_ranges.as_ref().unwrap().len(), ranges);
    }
    assert_eq!(
        reasons(&model),
        [
            too_many(LimitedPart::Endpoints, served, asked),
            too_many(LimitedPart::SourceRanges, ranges, asked)
        ]
        .into()
    );
}

#[test]
fn of_very_many_warnings_the_first_few_are_told() {
    let mut model = complete();
    model.apply(service_with("a", "10.1.0.1", |it| {
        it.external_ips = addresses(2000);
        it.ports = ports(2000);
    }));
    let told = model.take_warnings();
    assert_eq!(told.len(), limits::WARNINGS + 1);
    let is_more = |warning: &&ServiceWarning| warning.reason == WarningReason::More;
    assert_eq!(told.iter().filter(is_more).count(), 1);
    assert_eq!(frontends(&model, "a"), 2000);
}

#[test]
fn rivals_are_looked_at_when_a_destination_changes_hands_and_not_before() {
    let mut model = Model::new("here", allowing("198.51.100.0/24"));
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
    let rival = |at: u8, created| {
        service_with(&format!("s{at}"), &format!("10.1.0.{at}"), |it| {
            it.created = created;
            it.external_ips = addresses(1);
        })
    };
    for at in 1..=20 {
        model.apply(rival(at, 10));
    }
    model.take_changes().for_each(drop);
    model.take_warnings();
    let dirty = |model: &Model| model.dirty.as_ref().unwrap().len();

    model.apply(rival(21, 20));
    assert_eq!(dirty(&model), 2, "itself, and who has it");
    assert_eq!(model.take_warnings().len(), 1);
    model.take_changes().for_each(drop);

    model.apply(rival(22, 5));
    assert_eq!(dirty(&model), 2, "itself, and who had it");
    assert_eq!(model.take_warnings().len(), 21);
    model.take_changes().for_each(drop);

    model.apply(Change::ServiceGone(ObjectName::new("n", "s22")));
    assert_eq!(dirty(&model), 2, "itself, and who has it now");
    assert_eq!(model.take_warnings().len(), 20);
}
