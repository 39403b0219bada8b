//! Whatever happens, and in whatever order: what the model wants depends on the
//! objects that are there, and what it hands out adds up to that.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use proxy_agent::model::desired::{DesiredPort, PortName};
use proxy_agent::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};
use proxy_agent::model::{Model, ModelSettings, ServiceWarning};

/// An object by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Service(ObjectName),
    Slice(ObjectName),
    Node,
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Put(Box<Change>),
    Remove(prop::sample::Index),
    /// All objects are reported once more, from any one on.
    Relist(prop::sample::Index),
    /// External IPs of this family are allowed now, and no others.
    Allow(Family),
    /// Someone takes what changed.
    Take,
}

/// The names are few, so that objects meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn name() -> impl Strategy<Value = ObjectName> {
    select(&NAMES[..]).prop_map(|name| ObjectName::new("n", name))
}

fn texts(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(of).prop_map(str::to_owned), 0..=most)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Udp][..])
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(&[TrafficPolicy::Cluster, TrafficPolicy::Local][..])
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let numbers = (select(&[0, 80, 81][..]), select(&[0, 30_000, 30_001][..]));
    (select(&["", "x", "y"][..]), protocol(), numbers).prop_map(
        |(name, protocol, (port, node_port))| ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port,
        },
    )
}

prop_compose! {
    fn service()(
        name in name(),
        created in 0_i64..3,
        kind in select(&[
            ServiceType::ClusterIp,
            ServiceType::NodePort,
            ServiceType::LoadBalancer,
            ServiceType::ExternalName,
        ][..]),
        cluster_ips in texts(&["10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2", "x"], 2),
        external_ips in texts(&["10.1.0.1", "10.2.0.1", "10.3.0.1", "fd03::1", "11.0.0.1"], 3),
        load_balancer_ips in texts(&["10.1.0.2", "10.3.0.1", "fd03::1", "127.0.0.1"], 2),
        ports in vec(service_port(), 0..3),
        internal_policy in policy(),
        external_policy in policy(),
        affinity in option::of(1_u32..3),
    ) -> Service {
        Service {
            name,
            created,
            kind,
            cluster_ips,
            external_ips,
            load_balancer_ips,
            ports,
            internal_policy,
            external_policy,
            affinity,
            algorithm: None,
            forwarding: None,
            unanswered: None,
            source_ranges: Vec::new(),
            health_check_node_port: None,
        }
    }
}

prop_compose! {
    fn endpoint()(
        address in select(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "127.0.0.1"][..]),
        ready in any::<bool>(),
        serving in any::<bool>(),
        terminating in any::<bool>(),
        node in option::of(select(&["here", "there"][..])),
        zone_hints in vec(select(&["z1", "z2"][..]), 0..3),
        node_hints in vec(select(&["here", "there"][..]), 0..2),
    ) -> Endpoint {
        Endpoint {
            address: address.into(),
            ready,
            serving,
            terminating,
            node: node.map(Into::into),
            zone_hints: zone_hints.into_iter().map(Into::into).collect(),
            node_hints: node_hints.into_iter().map(Into::into).collect(),
        }
    }
}

prop_compose! {
    fn slice()(
        name in name(),
        service in name(),
        family in option::of(select(&Family::ALL[..])),
        ports in vec((select(&["", "x", "y"][..]), protocol(), select(&[0, 8080, 8081][..])), 0..3),
        endpoints in vec(endpoint(), 0..5),
        weight in option::of(select(&["0", "30", "many"][..])),
    ) -> EndpointSlice {
        EndpointSlice {
            name,
            service,
            family,
            ports: ports
                .into_iter()
                .map(|(name, protocol, port)| EndpointPort { name: name.into(), protocol, port })
                .collect(),
            endpoints,
            weight: weight.map(Into::into),
        last_change_trigger: None,
        }
    }
}

prop_compose! {
    fn node()(
        zone in option::of(select(&["z1", "z2", ""][..])),
        addresses in texts(&["10.2.0.1", "10.3.0.1", "fd02::1", "fd03::1"], 3),
    ) -> Node {
        let label = |zone: &str| ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        Node {
            is_eligible: true,
            name: "here".into(),
            labels: zone.into_iter().map(label).collect(),
            addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
            pod_cidrs: Vec::new(),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => service().prop_map(|service| Step::Put(Box::new(Change::Service(service)))),
        3 => slice().prop_map(|slice| Step::Put(Box::new(Change::EndpointSlice(slice)))),
        1 => node().prop_map(|node| Step::Put(Box::new(Change::Node(node)))),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => any::<prop::sample::Index>().prop_map(Step::Relist),
        1 => select(&Family::ALL[..]).prop_map(Step::Allow),
        2 => Just(Step::Take),
    ]
}

fn key(change: &Change) -> Key {
    match change {
        Change::Service(service) => Key::Service(service.name.clone()),
        Change::EndpointSlice(slice) => Key::Slice(slice.name.clone()),
        Change::Node(_) => Key::Node,
        other => panic!("no object: {other:?}"),
    }
}

fn gone(key: &Key) -> Change {
    match key {
        Key::Service(name) => Change::ServiceGone(name.clone()),
        Key::Slice(name) => Change::EndpointSliceGone(name.clone()),
        Key::Node => Change::NodeGone,
    }
}

/// External IPs are allowed in these ranges.
fn settings(external_ips: &[&str]) -> ModelSettings {
    let ranges = external_ips.iter();
    ModelSettings {
        external_ips: ranges
            .map(|range| range.parse().expect("a range"))
            .collect(),
        ..ModelSettings::default()
    }
}

fn first_settings() -> ModelSettings {
    settings(&["10.0.0.0/8", "fd00::/8"])
}

fn empty_model(settings: ModelSettings) -> Model {
    Model::new("here", settings)
}

fn complete(model: &mut Model) {
    model.apply(Change::ServicesListed);
    model.apply(Change::EndpointSlicesListed);
}

/// A model, and what someone knows who takes what it hands out.
struct Run {
    model: Model,
    settings: ModelSettings,
    objects: BTreeMap<Key, Change>,
    ports: BTreeMap<PortName, DesiredPort>,
    warnings: BTreeSet<ServiceWarning>,
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(change) => {
                self.objects.insert(key(change), Change::clone(change));
                self.model.apply(Change::clone(change));
            }
            Step::Remove(index) => {
                if !self.objects.is_empty() {
                    let keys: Vec<_> = self.objects.keys().cloned().collect();
                    let key = index.get(&keys);
                    self.objects.remove(key);
                    self.model.apply(gone(key));
                }
            }
            Step::Relist(index) => {
                let count = self.objects.len();
                let start = if count == 0 { 0 } else { index.index(count) };
                let all = self.objects.values().cycle().skip(start).take(count);
                for change in all {
                    self.model.apply(change.clone());
                }
                complete(&mut self.model);
            }
            Step::Allow(family) => {
                self.settings = settings(match family {
                    Family::V4 => &["10.0.0.0/8"],
                    Family::V6 => &["fd00::/8"],
                });
                self.model.configure(self.settings.clone());
            }
            Step::Take => self.take(),
        }
    }

    fn take(&mut self) {
        let changes: Vec<_> = self.model.take_changes().collect();
        let new = self.model.take_warnings();
        if !self.model.is_complete() {
            assert!(changes.is_empty() && new.is_empty(), "too early");
            return;
        }
        let mut last = None;
        for (port, desired) in changes {
            assert!(last.as_ref() < Some(&port), "the changes are ordered");
            last = Some(port.clone());
            let before = match desired.clone() {
                Some(desired) => self.ports.insert(port, desired),
                None => self.ports.remove(&port),
            };
            assert_ne!(before, desired, "no change");
        }
        let all: BTreeMap<_, _> = self.model.desired().collect();
        assert_eq!(self.ports, all, "the changes add up");
        assert!(self.model.take_changes().next().is_none(), "taken twice");

        let current: BTreeSet<_> = self.model.warnings().collect();
        for refusal in &new {
            assert!(
                !self.warnings.contains(refusal),
                "reported twice: {refusal}"
            );
        }
        self.warnings.retain(|refusal| current.contains(refusal));
        self.warnings.extend(new);
        assert_eq!(self.warnings, current, "every refusal is reported");
    }
}

/// What holds for every outcome.
fn check(ports: &BTreeMap<PortName, DesiredPort>) {
    let mut destinations = HashSet::new();
    for (name, port) in ports {
        for frontend in &port.frontends {
            let destination = (frontend.address, frontend.port, name.protocol);
            assert!(destinations.insert(destination), "twice: {destination:?}");
            assert_eq!(Family::of(frontend.address), name.family);
            assert_ne!(frontend.port, 0);
        }
        assert!(port.frontends.is_sorted());
        let place = |at: usize| (port.endpoints[at].address, port.endpoints[at].port);
        assert!((1..port.endpoints.len()).all(|at| place(at - 1) < place(at)));
        for set in [&port.cluster, &port.local] {
            assert!(set.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(set.iter().all(|at| *at < port.endpoints.len()));
        }
        assert!(port.local.iter().all(|at| port.endpoints[*at].local));
        // Somewhere to go, unless nothing serves.
        assert_eq!(port.cluster.is_empty(), port.endpoints.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn history_does_not_matter(steps in vec(step(), 0..40), listed_at in 0_usize..20) {
        let mut run = Run {
            model: empty_model(first_settings()),
            settings: first_settings(),
            objects: BTreeMap::new(),
            ports: BTreeMap::new(),
            warnings: BTreeSet::new(),
        };
        for (number, step) in steps.iter().enumerate() {
            if number == listed_at {
                complete(&mut run.model);
            }
            run.step(step);
        }
        complete(&mut run.model);
        run.take();

        let mut fresh = empty_model(run.settings.clone());
        for change in run.objects.values().rev() {
            fresh.apply(change.clone());
        }
        let expected: BTreeMap<_, _> = fresh.desired().collect();
        prop_assert_eq!(&run.ports, &expected);
        let expected: BTreeSet<_> = fresh.warnings().collect();
        prop_assert_eq!(&run.warnings, &expected);
        prop_assert_eq!(run.model.node_addresses(), fresh.node_addresses());
        check(&run.ports);
    }
}
