//! Full maps: one Service is refused and stays as it was, the others work, and
//! it is served once there is room.

use std::sync::Arc;
use std::time::Instant;

use proxy_agent::maps::{FakeMaps, Maps as _};
use proxy_agent::model::desired::{DesiredPort, Endpoint, Frontend, FrontendKind, PortName};
use proxy_agent::model::object::{
    Algorithm, Family, Forwarding, ObjectName, Protocol, TrafficPolicy,
};
use proxy_agent::plan::{After, Capacity, FullMap, Planner, Write};

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
        unanswered: None,
        source_ranges: None,
    }
}

fn write(maps: &mut FakeMaps) -> impl FnMut(&After, Write) {
    |_, write| maps.write(&write).unwrap()
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
    let wanted = |_: &ObjectName| vec![(port("b"), desired(2, 3))];
    let now = Instant::now();
    let _ = planner.reclaim(first.retired, now, wanted, write(&mut maps));
    let last = planner.reclaim(removal.retired, now, wanted, write(&mut maps));
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

/// Fills maps with Services of one endpoint until one is refused; how many are served.
fn fill(planner: &mut Planner, maps: &mut FakeMaps) -> u8 {
    let refused = |at: &u8| {
        let change = (port(&format!("s{at}")), Some(desired(*at, 1)));
        let plan = planner.plan([change], |_, write| maps.write(&write).unwrap());
        !plan.capacity_errors.is_empty()
    };
    (1..=u8::MAX).find(refused).unwrap() - 1
}

#[test]
fn what_is_served_can_change_however_full_the_maps_are() {
    for capacity in [
        Capacity {
            backends: 32,
            ..ROOMY
        },
        Capacity { slots: 32, ..ROOMY },
    ] {
        let mut planner = Planner::new(capacity);
        let mut maps = FakeMaps::default();
        assert_eq!(fill(&mut planner, &mut maps), 28);
        for round in 2..6 {
            // The one endpoint is another one.
            let moved = DesiredPort {
                endpoints: desired(7, round)
                    .endpoints
                    .split_off(usize::from(round) - 1),
                ..desired(7, 1)
            };
            let endpoint = moved.endpoints[0];
            let change = [(port("s7"), Some(moved))];
            let plan = planner.plan(change, write(&mut maps));
            assert_eq!(plan.capacity_errors, [], "{endpoint:?}");
            let unknown = |_: &ObjectName| Vec::new();
            let _ = planner.reclaim(plan.retired, Instant::now(), unknown, write(&mut maps));
        }
        // It may grow, within half of what is kept free.
        let grow = |planner: &mut Planner, endpoints| {
            let plan = planner.plan([(port("s8"), Some(desired(8, endpoints)))], |_, _| ());
            let unknown = |_: &ObjectName| Vec::new();
            let _ = planner.reclaim(plan.retired, Instant::now(), unknown, |_, _| ());
            plan.capacity_errors.len()
        };
        assert_eq!(grow(&mut planner, 2), 0);
        assert_eq!(grow(&mut planner, 6), 1);
    }
}

#[test]
fn a_service_of_many_ports_says_once_that_it_has_no_room() {
    let mut planner = Planner::new(Capacity { slots: 4, ..ROOMY });
    let ports = (0..20).map(|at| {
        let name = PortName {
            port: Arc::from(format!("p{at}")),
            ..port("a")
        };
        (name, Some(desired(at, 1)))
    });
    let plan = planner.plan(ports, |_, _| ());
    let [refused] = &*plan.capacity_errors else {
        panic!("{:?}", plan.capacity_errors);
    };
    assert_eq!((refused.others, refused.full), (15, FullMap::Slots));
}

#[test]
fn one_changed_endpoint_costs_what_its_service_costs() {
    let mut planner = Planner::new(Capacity {
        frontends: 10_000,
        backends: 10_000,
        slots: 10_000,
    });
    let many = (0..200).map(|at| (port(&format!("s{at}")), Some(desired(at, 3))));
    let _ = planner.plan(many, |_, _| ());
    let mut writes = Vec::new();
    let changed = (port("s7"), Some(desired(7, 4)));
    let _ = planner.plan([changed.clone()], |_, write| writes.push(write));
    // One backend, one run of slots, one frontend.
    assert_eq!(writes.len(), 3, "{writes:?}");
    let _ = planner.plan([changed], |_, write| {
        panic!("no change costs nothing: {write:?}")
    });
}
