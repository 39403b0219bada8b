//! Consistent hashing: what leads a client to its endpoint is the same on every node.

use std::net::IpAddr;
use std::sync::Arc;

use proxy_agent::maps::{FakeMaps, Maps as _};
use proxy_agent::model::desired::{
    DesiredPort, Endpoint, Frontend, FrontendKind, PortName, Weight,
};
use proxy_agent::model::object::{
    Algorithm, Family, Forwarding, ObjectName, Protocol, TrafficPolicy,
};
use proxy_agent::plan::{Capacity, FullMap, Planner};
use proxy_ebpf::layout::{Frontend as Value, FrontendKey, Port, Span, V4, frontend_flags};

const TCP: u8 = 6;

/// A node that serves one Service.
struct Node {
    planner: Planner,
    maps: FakeMaps,
    forwarding: Forwarding,
}

impl Node {
    fn new(slots: u32) -> Self {
        Self {
            planner: Planner::new(Capacity {
                frontends: 16,
                backends: 256,
                slots,
            }),
            maps: FakeMaps::default(),
            forwarding: Forwarding::Snat,
        }
    }

    /// Programs these endpoints, of which those with an odd number run here.
    fn serve(&mut self, algorithm: Algorithm, hosts: &[u8]) -> Option<FullMap> {
        self.serve_by_weight(algorithm, hosts, &[])
    }

    /// The same with a weight for each, or the usual one for all.
    fn serve_by_weight(
        &mut self,
        algorithm: Algorithm,
        hosts: &[u8],
        weights: &[u16],
    ) -> Option<FullMap> {
        let endpoints: Vec<_> = hosts.iter().map(|host| endpoint(*host)).collect();
        let is_local = |at: &usize| endpoints[*at].local;
        let frontend = |address: [u8; 4], kind| Frontend {
            address: address.into(),
            port: 80,
            kind,
        };
        let desired = DesiredPort {
            frontends: vec![
                frontend([10, 96, 0, 1], FrontendKind::ClusterIp),
                frontend([198, 51, 100, 1], FrontendKind::LoadBalancer),
            ],
            cluster: (0..endpoints.len()).collect(),
            local: (0..endpoints.len()).filter(is_local).collect(),
            endpoints,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: None,
            algorithm,
            weights: weights.iter().filter_map(|it| Weight::new(*it)).collect(),
            forwarding: self.forwarding,
            unanswered: None,
            source_ranges: None,
        };
        let name = PortName {
            service: ObjectName::new("default", "a"),
            port: Arc::from(""),
            protocol: Protocol::Tcp,
            family: Family::V4,
        };
        let write = |maps: &mut FakeMaps, write| maps.write(&write).unwrap();
        let changes = [(name.clone(), Some(desired.clone()))];
        let maps = &mut self.maps;
        let plan = self.planner.plan(changes, |_, it| write(maps, it));
        let refused = plan.capacity_errors.first().map(|refused| refused.full);
        let wanted = |_: &ObjectName| vec![(name.clone(), desired.clone())];
        let now = std::time::Instant::now();
        let again = self
            .planner
            .reclaim(plan.retired, now, wanted, |_, it| write(maps, it));
        assert!(again.capacity_errors.is_empty());
        refused
    }

    fn frontend(&self, address: [u8; 4]) -> proxy_ebpf::layout::Frontend {
        let address: V4 = std::net::Ipv4Addr::from(address).into();
        self.maps.v4.frontends[&FrontendKey::new(address, Port::new(80), TCP)]
    }

    /// The address in each slot.
    fn slots(&self, span: Span) -> Vec<V4> {
        let slots = self.maps.v4.shared.slots.borrow();
        let span = span.start..span.start + span.len;
        span.map(|at| self.maps.v4.backends[&slots[&at]].address)
            .collect()
    }
}

fn endpoint(host: u8) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 244, 0, host]),
        port: 8080,
        local: host % 2 == 1,
    }
}

#[test]
fn nodes_with_different_pasts_have_the_same_table() {
    let mut nodes = [Node::new(16_384), Node::new(16_384)];
    // The second one has seen endpoints come and go, so that its backends have other
    // indices.
    for hosts in [&[7, 8, 9][..], &[3], &[2, 3, 9]] {
        assert_eq!(nodes[1].serve(Algorithm::Maglev, hosts), None);
    }
    let [first, second] = nodes.each_mut().map(|node| {
        assert_eq!(node.serve(Algorithm::Maglev, &[1, 2, 3, 4, 5]), None);
        let value = node.frontend([198, 51, 100, 1]);
        assert_eq!(value.flags & frontend_flags::HASHED, frontend_flags::HASHED);
        [node.slots(value.cluster), node.slots(value.local)]
    });
    assert_eq!(first.each_ref().map(Vec::len), [2039, 2039]);
    assert_eq!(first, second);
}

#[test]
fn each_endpoint_has_slots_by_its_weight_and_stays_when_that_changes() {
    let mut node = Node::new(16_384);
    // Others were there before, so that indices are not positions.
    node.serve(Algorithm::Maglev, &[7, 8, 9]);
    let shares_of = |node: &Node, set: fn(&Value) -> Span| -> Vec<usize> {
        let slots = node.slots(set(&node.frontend([198, 51, 100, 1])));
        let share = |host: u8| {
            let address: V4 = std::net::Ipv4Addr::new(10, 244, 0, host).into();
            slots.iter().filter(|it| **it == address).count()
        };
        [2, 3, 9].map(share).to_vec()
    };
    let shares = |node: &Node| shares_of(node, |value| value.cluster);
    let generations = |node: &Node| -> Vec<_> {
        let backends = node.maps.v4.backends.values();
        backends.map(|it| (it.address, it.generation)).collect()
    };
    node.serve_by_weight(Algorithm::Maglev, &[2, 3, 9], &[100, 100, 200]);
    assert_eq!(shares(&node), [510, 510, 1019]);
    // Of a set without the first endpoint.
    assert_eq!(shares_of(&node, |value| value.local), [0, 680, 1359]);
    let before = generations(&node);
    node.serve_by_weight(Algorithm::Maglev, &[2, 3, 9], &[100, 5, 0]);
    // Whoever is in the set has one slot at least.
    assert_eq!(shares(&node), [1941, 97, 1]);
    assert_eq!(generations(&node), before);
}

#[test]
fn cluster_ips_are_not_hashed() {
    let mut node = Node::new(16_384);
    node.serve(Algorithm::Maglev, &[1, 2, 3]);
    let value = node.frontend([10, 96, 0, 1]);
    assert_eq!(value.flags & frontend_flags::HASHED, 0);
}

/// Where nodes hand connections to each other's endpoints, these are looked for there.
#[test]
fn with_direct_return_the_local_set_has_each_endpoint_once() {
    let mut node = Node::new(16_384);
    for (forwarding, length) in [(Forwarding::Snat, 2039), (Forwarding::Dsr, 2)] {
        node.forwarding = forwarding;
        assert_eq!(node.serve(Algorithm::Maglev, &[1, 2, 3]), None);
        let value = node.frontend([198, 51, 100, 1]);
        let is_direct = value.flags & frontend_flags::DSR != 0;
        assert_eq!(is_direct, forwarding == Forwarding::Dsr);
        assert_eq!((value.cluster.len, value.local.len), (2039, length));
    }
    let inner = node.frontend([10, 96, 0, 1]);
    assert_eq!(inner.flags & frontend_flags::DSR, 0);
}

#[test]
fn the_algorithm_of_a_service_can_change() {
    let mut node = Node::new(16_384);
    for algorithm in [Algorithm::Random, Algorithm::Maglev, Algorithm::Random] {
        assert_eq!(node.serve(algorithm, &[1, 2, 3]), None);
        let value = node.frontend([198, 51, 100, 1]);
        let is_hashed = value.flags & frontend_flags::HASHED != 0;
        assert_eq!(is_hashed, algorithm == Algorithm::Maglev);
        assert_eq!(value.cluster.len == 3, algorithm == Algorithm::Random);
    }
}

/// A set that is drawn from needs a slot for each endpoint, and is better than an old one.
#[test]
fn where_tables_have_their_share_of_the_slots_endpoints_are_chosen_by_chance() {
    let mut node = Node::new(8192);
    // No local endpoint, no second table.
    assert_eq!(node.serve(Algorithm::Maglev, &[2]), None);
    let used = |node: &Node| node.planner.usage()[4].1;
    assert_eq!(used(&node), 2039);
    // Two tables are more than one Service may have of so many slots.
    let refused = node.serve(Algorithm::Maglev, &[2, 3]);
    assert_eq!(refused, Some(FullMap::Tables));
    let value = node.frontend([198, 51, 100, 1]);
    assert_eq!(value.flags & frontend_flags::HASHED, 0);
    assert_eq!((value.cluster.len, value.local.len), (2, 1));
    assert_eq!(used(&node), 3);
    assert_eq!(node.serve(Algorithm::Maglev, &[2]), None);
    let value = node.frontend([198, 51, 100, 1]);
    assert_ne!(value.flags & frontend_flags::HASHED, 0);
    assert_eq!(used(&node), 2039);
}
