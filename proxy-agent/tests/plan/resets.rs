//! When TCP connections to an endpoint that is gone are to be reset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_agent::maps::{FakeMaps, Maps as _, Readable as _};
use proxy_agent::model::desired::{DesiredPort, Endpoint, Frontend, FrontendKind, PortName};
use proxy_agent::model::object::{
    Algorithm, Family, Forwarding, ObjectName, Protocol, TrafficPolicy,
};
use proxy_agent::plan::{After, Capacity, Planner, Write};
use proxy_ebpf::layout::V4;

const GRACE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const SHORT_OF_GRACE: Duration = Duration::from_secs(29);

/// A planner with its maps, and a clock.
struct Scene {
    planner: Planner,
    maps: FakeMaps,
    now: Instant,
}

fn planner(backends: u32, reset_after: Option<Duration>) -> Planner {
    let capacity = Capacity {
        frontends: 16,
        backends,
        slots: 64,
    };
    Planner::new(capacity).with_resets(reset_after)
}

fn port(name: &str) -> PortName {
    PortName {
        service: ObjectName::new("default", name),
        port: Arc::from(""),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

/// A Service port with the ClusterIP and the endpoints of these numbers.
fn desired(number: u8, endpoints: &[u8]) -> DesiredPort {
    DesiredPort {
        frontends: vec![Frontend {
            address: [10, 96, 0, number].into(),
            port: 80,
            kind: FrontendKind::ClusterIp,
        }],
        endpoints: endpoints
            .iter()
            .map(|host| Endpoint {
                address: [10, 244, 0, *host].into(),
                port: 8080,
                local: false,
            })
            .collect(),
        cluster: (0..endpoints.len()).collect(),
        local: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        algorithm: Algorithm::Random,
        forwarding: Forwarding::Snat,
        unanswered: None,
        weights: Vec::new(),
        source_ranges: None,
    }
}

/// What names a connection's endpoint: index and generation, of the first that is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection(u32, u32);

impl Scene {
    fn new(reset_after: Option<Duration>) -> Self {
        Self::with_backends(64, reset_after)
    }

    fn with_backends(backends: u32, reset_after: Option<Duration>) -> Self {
        Self {
            planner: planner(backends, reset_after),
            maps: FakeMaps::default(),
            now: Instant::now(),
        }
    }

    /// The Service has these endpoints now; `None` if it is gone. How many were refused.
    fn set(&mut self, name: u8, endpoints: Option<&[u8]>) -> usize {
        let maps = &mut self.maps;
        let mut write = |_: &After, write: Write| maps.write(&write).unwrap();
        let change = (
            port(&name.to_string()),
            endpoints.map(|it| desired(name, it)),
        );
        let plan = self.planner.plan([change], &mut write);
        let refused = plan.capacity_errors.len();
        let unknown = |_: &ObjectName| Vec::new();
        let again = self
            .planner
            .reclaim(plan.retired, self.now, unknown, &mut write);
        assert!(again.retired.is_empty());
        refused
    }

    /// Time passes, and what is due is done.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        let maps = &mut self.maps;
        let reset = |write: Write| maps.write(&write).unwrap();
        self.planner.reset_gone(self.now, reset);
    }

    /// A connection to an endpoint.
    fn connect(&self, host: u8) -> Connection {
        let address = V4::from(std::net::Ipv4Addr::new(10, 244, 0, host));
        let mut backends = self.maps.v4.backends.iter();
        let found = backends.find(|(_, backend)| {
            backend.address == address && backend.is_current(backend.generation)
        });
        let (index, backend) = found.expect("it serves");
        Connection(*index, backend.generation)
    }

    fn resets(&self, Connection(index, generation): Connection) -> bool {
        self.maps.v4.backends[&index].resets(generation)
    }

    /// The next agent, which knows of the last one what is in the maps.
    fn restart(&mut self, reset_after: Option<Duration>) {
        self.planner = planner(64, reset_after);
        let content = self.maps.read().unwrap();
        let repairs = self.planner.adopt(&content, self.now).unwrap();
        assert_eq!(repairs, []);
    }

    /// Whether the maps hold what is planned.
    fn is_sound(&mut self) -> bool {
        let content = self.maps.read().unwrap();
        self.planner.audit(&content).is_empty()
    }
}

#[test]
fn connections_are_reset_when_their_endpoint_has_been_gone_for_the_grace() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1, 2]));
    let [gone, stays] = [scene.connect(1), scene.connect(2)];
    assert_eq!(scene.planner.next_reset(), None);
    scene.set(1, Some(&[2, 3]));
    assert_eq!(scene.planner.next_reset(), Some(scene.now + GRACE));
    scene.wait(SHORT_OF_GRACE);
    assert!(!scene.resets(gone));
    scene.wait(SECOND);
    assert!(scene.resets(gone));
    assert!(scene.is_sound());
    for _ in 0..3 {
        scene.wait(GRACE);
        assert!(!scene.resets(stays));
    }
    assert_eq!(scene.planner.next_reset(), None);
    // Also when the index is another's, and that one is gone.
    scene.set(1, Some(&[2, 4]));
    let again = scene.connect(4);
    assert_eq!(again.0, gone.0, "the index is free");
    assert!(scene.resets(gone));
    assert!(!scene.resets(again));
    scene.set(1, Some(&[2]));
    scene.wait(SECOND);
    assert!(!scene.resets(again));
}

#[test]
fn those_of_a_service_that_is_gone_as_well() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1]));
    let connection = scene.connect(1);
    scene.set(1, None);
    scene.wait(GRACE);
    assert!(scene.resets(connection));
}

#[test]
fn each_endpoint_has_its_own_time() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1, 2, 3]));
    let [first, second] = [scene.connect(1), scene.connect(2)];
    scene.set(1, Some(&[2, 3]));
    scene.wait(10 * SECOND);
    scene.set(1, Some(&[3]));
    scene.wait(20 * SECOND);
    assert_eq!([scene.resets(first), scene.resets(second)], [true, false]);
    assert_eq!(scene.planner.next_reset(), Some(scene.now + 10 * SECOND));
    scene.wait(10 * SECOND);
    assert!(scene.resets(second));
}

#[test]
fn an_endpoint_that_serves_again_in_time_is_not_gone() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1, 2]));
    let before = scene.connect(1);
    scene.set(1, Some(&[2]));
    scene.wait(SECOND);
    scene.set(1, Some(&[1, 2]));
    for _ in 0..5 {
        scene.wait(GRACE);
        assert!(!scene.resets(before));
    }
    // Until it is.
    scene.set(1, Some(&[2]));
    scene.wait(GRACE);
    scene.wait(GRACE);
    assert!(scene.resets(before));
}

#[test]
fn an_endpoint_that_another_service_has_is_not_gone() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1]));
    let connection = scene.connect(1);
    scene.set(2, Some(&[1]));
    scene.set(1, None);
    scene.wait(2 * GRACE);
    assert!(!scene.resets(connection));
}

#[test]
fn nothing_is_refused_for_the_sake_of_what_rests() {
    let mut scene = Scene::with_backends(4, Some(GRACE));
    scene.set(1, Some(&[1, 2]));
    let connections = [scene.connect(1), scene.connect(2)];
    scene.set(1, Some(&[3, 4]));
    // As good as full, and neither is refused: the two that rest give way.
    assert_eq!(scene.set(2, Some(&[5, 6])), 0);
    scene.wait(2 * GRACE);
    for connection in connections {
        assert!(!scene.resets(connection), "too early to know");
    }
    assert_eq!(scene.planner.next_reset(), None);
    assert!(scene.is_sound());
    let used = scene.planner.usage()[2];
    assert_eq!(used, ("BACKENDS_V4", 4, 4));
    scene.set(2, None);
    assert_eq!(scene.planner.usage()[2], ("BACKENDS_V4", 2, 4));
}

#[test]
fn where_it_is_not_wanted_nothing_rests() {
    let mut scene = Scene::new(None);
    scene.set(1, Some(&[1, 2]));
    let connection = scene.connect(1);
    scene.set(1, Some(&[2]));
    assert_eq!(scene.planner.next_reset(), None);
    scene.wait(100 * GRACE);
    assert!(!scene.resets(connection));
    scene.set(1, Some(&[2, 3]));
    assert_eq!(scene.connect(3).0, connection.0, "used again at once");
    assert!(!scene.resets(connection));
}

#[test]
fn the_next_agent_begins_the_time_anew() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1, 2, 3]));
    scene.set(2, Some(&[4]));
    let [early, late, stays] = [scene.connect(1), scene.connect(2), scene.connect(3)];
    let unclaimed = scene.connect(4);
    scene.set(1, Some(&[2, 3]));
    scene.wait(SHORT_OF_GRACE);
    scene.restart(Some(GRACE));
    // What was gone before the restart, and what went meanwhile.
    scene.set(1, Some(&[3]));
    scene.wait(SHORT_OF_GRACE);
    let all = [early, late, unclaimed];
    assert_eq!(all.map(|it| scene.resets(it)), [false; 3]);
    scene.wait(SECOND);
    assert_eq!(all.map(|it| scene.resets(it)), [true; 3]);
    assert!(!scene.resets(stays));
    assert!(scene.is_sound());
}

#[test]
fn what_an_agent_without_resets_has_left_is_looked_at_too() {
    let mut scene = Scene::new(None);
    scene.set(1, Some(&[1, 2, 3]));
    let [gone, returned] = [scene.connect(1), scene.connect(2)];
    scene.set(1, Some(&[3]));
    scene.restart(Some(GRACE));
    scene.set(1, Some(&[2, 3]));
    scene.wait(GRACE);
    assert!(scene.resets(gone));
    assert!(!scene.resets(returned));
    assert!(scene.is_sound());
}

#[test]
fn an_audit_leaves_resets_as_they_are() {
    let mut scene = Scene::new(Some(GRACE));
    scene.set(1, Some(&[1, 2]));
    let connection = scene.connect(1);
    scene.set(1, Some(&[2]));
    scene.wait(GRACE);
    assert!(scene.is_sound());
    let Connection(index, generation) = connection;
    let backend = scene.maps.v4.backends.get_mut(&index).unwrap();
    backend.generation = generation + 1;
    let content = scene.maps.read().unwrap();
    for write in scene.planner.audit(&content) {
        scene.maps.write(&write).unwrap();
    }
    assert!(scene.resets(connection), "reconciled");
}
