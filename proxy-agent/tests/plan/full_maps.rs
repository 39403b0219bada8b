//! Full maps: one Service is refused and stays as it was, the others work, and
//! it is served once there is room.

use std::sync::Arc;
use std::time::Instant;

use proxy_agent::maps::{FakeMaps, Maps as _};
use proxy_agent::model::desired::{DesiredPort, Endpoint, Frontend, FrontendKind, PortName};
use proxy_agent::model::object::{
    Algorithm, Family, Forwarding, ObjectName, Protocol, TrafficPolicy,
};
use proxy_agent::plan::{Capacity, FullMap, Planner, Write};

use crate::view::{View, view};

fn port(name: &str) -> PortName {
    PortName {
        service: ObjectName::new("default", name),
        port: Arc::from(""),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

fn desired(cluster_ip: u8, endpoints: u8) -> DesiredPort {
    DesiredPort {
        frontends: vec![Frontend {
            address: [10, 96, 0, cluster_ip].into(),
            port: 80,
            kind: FrontendKind::ClusterIp,
        }],
        endpoints: (1..=endpoints)
            .map(|host| Endpoint {
                address: [10, 244, cluster_ip, host].into(),
                port: 8080,
                local: false,
            })
            .collect(),
        cluster: (0..usize::from(endpoints)).collect(),
        local: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        algorithm: Algorithm::Random,
        weights: Vec::new(),
        forwarding: Forwarding::Snat,
        source_ranges: None,
    }
}

fn write(maps: &mut FakeMaps) -> impl FnMut(Write) {
    |write| maps.write(&write).unwrap()
}

/// How many endpoints each frontend has, by the last byte of its address.
fn sizes(view: &View) -> Vec<(u8, usize)> {
    view.iter()
        .map(|((address, _, _), served)| {
            let cluster = &served.as_ref().unwrap().cluster;
            (address[0].to_ne_bytes()[3], cluster.len())
        })
        .collect()
}

#[track_caller]
fn refused_and_served_later(capacity: Capacity, full: FullMap) {
    let mut planner = Planner::new(capacity);
    let mut maps = FakeMaps::default();
    let changes = [
        (port("a"), Some(desired(1, 3))),
        (port("b"), Some(desired(2, 3))),
    ];
    let first = planner.plan(changes, write(&mut maps));
    assert_eq!(sizes(&view(&maps)), [(1, 3)], "only the first fits");
    assert_eq!(first.capacity_errors.len(), 1);
    assert_eq!(first.capacity_errors[0].port, port("b"));
    assert_eq!(first.capacity_errors[0].full, full);

    let removal = planner.plan([(port("a"), None)], write(&mut maps));
    let _ = planner.reclaim(first.retired, Instant::now(), write(&mut maps));
    let last = planner.reclaim(removal.retired, Instant::now(), write(&mut maps));
    assert_eq!(sizes(&view(&maps)), [(2, 3)], "served once there is room");
    assert_eq!(last.capacity_errors, []);
}

const ROOMY: Capacity = Capacity {
    frontends: 100,
    backends: 100,
    slots: 100,
};

#[test]
fn no_room_for_a_frontend() {
    let capacity = Capacity {
        frontends: 1,
        ..ROOMY
    };
    refused_and_served_later(capacity, FullMap::Frontends);
}

#[test]
fn no_room_for_backends() {
    let capacity = Capacity {
        backends: 5,
        ..ROOMY
    };
    refused_and_served_later(capacity, FullMap::Backends);
}

#[test]
fn no_room_for_slots() {
    let capacity = Capacity { slots: 5, ..ROOMY };
    refused_and_served_later(capacity, FullMap::Slots);
}

#[test]
fn a_port_that_cannot_grow_keeps_what_it_has() {
    let capacity = Capacity { slots: 5, ..ROOMY };
    let mut planner = Planner::new(capacity);
    let mut maps = FakeMaps::default();
    let _ = planner.plan([(port("a"), Some(desired(1, 3)))], write(&mut maps));
    let plan = planner.plan([(port("a"), Some(desired(1, 4)))], write(&mut maps));
    assert_eq!(plan.capacity_errors.len(), 1);
    assert_eq!(sizes(&view(&maps)), [(1, 3)]);
}

#[test]
fn one_changed_endpoint_costs_what_its_service_costs() {
    let mut planner = Planner::new(Capacity {
        frontends: 10_000,
        backends: 10_000,
        slots: 10_000,
    });
    let many = (0..200).map(|at| (port(&format!("s{at}")), Some(desired(at, 3))));
    let _ = planner.plan(many, drop);
    let mut writes = Vec::new();
    let changed = (port("s7"), Some(desired(7, 4)));
    let _ = planner.plan([changed.clone()], |write| writes.push(write));
    // One backend, one run of slots, one frontend.
    assert_eq!(writes.len(), 3, "{writes:?}");
    let _ = planner.plan([changed], |write| {
        panic!("no change costs nothing: {write:?}")
    });
}
