//! Random histories of objects: every prefix of every plan leaves each frontend
//! with its old set or its new one, and the end does not depend on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proxy_agent::agent::Agent;
use proxy_agent::config::Settings;
use proxy_agent::maps::FakeMaps;
use proxy_agent::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};

use crate::view::{Filmed, View, beside, living, view};

/// What happens in a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Service(usize, ServiceShape),
    ServiceGone(usize),
    Slice(usize, usize, Vec<EndpointShape>),
    SliceGone(usize, usize),
    /// The source lists again: everything is reported anew.
    Relist,
    /// What came so far is programmed.
    Program,
    /// A grace period ends.
    Grace,
    /// So much time passes that connections to endpoints that are gone are reset.
    Reset,
    /// The agent ends, and another one goes on from the maps.
    Restart,
    /// The agent ends amid the next programming, after so many writes.
    Crash(usize),
}

/// What of a Service varies.
#[derive(Clone, Debug)]
pub(crate) struct ServiceShape {
    cluster_ip: u8,
    node_port: Option<u8>,
    external_local: bool,
    affinity: bool,
    load_balancer: bool,
    source_ranges: Vec<u8>,
    unanswered: Option<&'static str>,
}

/// What of an endpoint varies.
#[derive(Clone, Debug)]
pub(crate) struct EndpointShape {
    address: u8,
    local: bool,
    ready: bool,
    terminating: bool,
}

fn service_shapes() -> impl Strategy<Value = ServiceShape> {
    (
        0..3u8,
        prop::option::of(0..2u8),
        any::<[bool; 3]>(),
        prop::collection::vec(0..3u8, 0..3),
        prop::option::of(prop::sample::select(vec!["off", "retry", "avoid"])),
    )
        .prop_map(
            |(cluster_ip, node_port, flags, source_ranges, unanswered)| {
                let [external_local, affinity, load_balancer] = flags;
                ServiceShape {
                    cluster_ip,
                    node_port,
                    external_local,
                    affinity,
                    load_balancer,
                    source_ranges,
                    unanswered,
                }
            },
        )
}

fn endpoint_shapes() -> impl Strategy<Value = EndpointShape> {
    (0..6u8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(address, local, ready, terminating)| EndpointShape {
            address,
            local,
            ready,
            terminating,
        },
    )
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let services = 0..3usize;
    let step = prop_oneof![
        4 => (services.clone(), service_shapes()).prop_map(|(at, shape)| Step::Service(at, shape)),
        2 => services.clone().prop_map(Step::ServiceGone),
        8 => (services.clone(), 0..2usize, prop::collection::vec(endpoint_shapes(), 0..5))
            .prop_map(|(service, slice, endpoints)| Step::Slice(service, slice, endpoints)),
        2 => (services, 0..2usize).prop_map(|(service, slice)| Step::SliceGone(service, slice)),
        1 => Just(Step::Relist),
        8 => Just(Step::Program),
        4 => Just(Step::Grace),
        2 => Just(Step::Reset),
        2 => Just(Step::Restart),
        2 => (0..12usize).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..most)
}

fn service_name(at: usize) -> ObjectName {
    ObjectName::new("default", format!("s{at}"))
}

fn slice_name(service: usize, slice: usize) -> ObjectName {
    ObjectName::new("default", format!("s{service}-{slice}"))
}

fn service(at: usize, shape: &ServiceShape) -> Change {
    Change::Service(Service {
        name: service_name(at),
        created: i64::try_from(at).unwrap(),
        kind: shape
            .node_port
            .map_or(ServiceType::ClusterIp, |_| ServiceType::NodePort),
        cluster_ips: vec![format!("10.96.0.{}", shape.cluster_ip + 1)],
        external_ips: Vec::new(),
        load_balancer_ips: shape
            .load_balancer
            .then(|| "198.51.100.1".to_owned())
            .into_iter()
            .collect(),
        ports: vec![ServicePort {
            name: Arc::from(""),
            protocol: Protocol::Udp,
            port: 53,
            node_port: shape.node_port.map_or(0, |port| 30_000 + i32::from(port)),
        }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: if shape.external_local {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        },
        affinity: shape.affinity.then_some(60),
        algorithm: None,
        forwarding: None,
        unanswered: shape.unanswered.map(ToOwned::to_owned),
        source_ranges: shape
            .source_ranges
            .iter()
            .map(|range| format!("203.0.{range}.0/24"))
            .collect(),
        health_check_node_port: None,
    })
}

fn slice(service: usize, slice: usize, endpoints: &[EndpointShape]) -> Change {
    Change::EndpointSlice(EndpointSlice {
        name: slice_name(service, slice),
        service: service_name(service),
        family: Some(Family::V4),
        ports: vec![EndpointPort {
            name: Arc::from(""),
            protocol: Protocol::Udp,
            port: 5353,
        }],
        endpoints: endpoints
            .iter()
            .map(|shape| Endpoint {
                address: format!("10.244.0.{}", shape.address + 1),
                ready: shape.ready,
                serving: true,
                terminating: shape.terminating,
                node: Some(Arc::from(if shape.local { "here" } else { "there" })),
                zone_hints: Vec::new(),
                node_hints: Vec::new(),
            })
            .collect(),
        weight: None,
        last_change_trigger: None,
    })
}

fn node() -> Change {
    Change::Node(Node {
        name: Arc::from("here"),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        ..Node::default()
    })
}

/// An agent that goes on from these maps, and resets connections or not.
pub(crate) fn agent_on(maps: FakeMaps, resets: bool) -> Agent<Filmed> {
    let mut settings = Settings::default();
    settings.own.reset_gone_endpoints = resets.then_some(RESET_GRACE);
    Agent::new("here", &settings, Filmed::of(maps))
}

const RESET_GRACE: Duration = Duration::from_secs(30);

/// The objects that are there, as changes.
#[derive(Default)]
pub(crate) struct Objects(BTreeMap<(u8, ObjectName), Change>);

impl Objects {
    /// That every object is gone.
    pub(crate) fn gone(&self) -> Vec<Change> {
        let gone = |(kind, name): &(u8, ObjectName)| match kind {
            0 => Change::ServiceGone(name.clone()),
            _ => Change::EndpointSliceGone(name.clone()),
        };
        self.0.keys().map(gone).collect()
    }

    /// Every object anew.
    pub(crate) fn all(&self) -> Vec<Change> {
        let mut changes = vec![node()];
        changes.extend(self.0.values().cloned());
        changes.extend([Change::ServicesListed, Change::EndpointSlicesListed]);
        changes
    }

    /// Takes a step's object in; the change that a source would report.
    pub(crate) fn take(&mut self, step: &Step) -> Option<Change> {
        match step {
            Step::Service(at, shape) => {
                let change = service(*at, shape);
                self.0.insert((0, service_name(*at)), change.clone());
                Some(change)
            }
            Step::ServiceGone(at) => {
                let name = service_name(*at);
                self.0.remove(&(0, name.clone()));
                Some(Change::ServiceGone(name))
            }
            Step::Slice(service, at, endpoints) => {
                let change = slice(*service, *at, endpoints);
                self.0
                    .insert((1, slice_name(*service, *at)), change.clone());
                Some(change)
            }
            Step::SliceGone(service, at) => {
                let name = slice_name(*service, *at);
                self.0.remove(&(1, name.clone()));
                Some(Change::EndpointSliceGone(name))
            }
            Step::Relist
            | Step::Program
            | Step::Grace
            | Step::Reset
            | Step::Restart
            | Step::Crash(_) => None,
        }
    }
}

/// Programs, and checks every picture on the way: each frontend is as it was or
/// as it will be.
fn program(agent: &mut Agent<Filmed>) -> Result<(), TestCaseError> {
    let before = view(&agent.maps().maps);
    agent.maps().film.borrow_mut().clear();
    agent.program();
    let after = view(&agent.maps().maps);
    let film = agent.maps().film.borrow();
    for (write, picture) in film.iter() {
        check_picture(&before, picture, &after)
            .map_err(|reason| TestCaseError::fail(format!("after {write:?}: {reason}")))?;
    }
    Ok(())
}

/// Programs with maps that take no more than so many writes, as an agent does that is
/// killed on the way.
fn crash(mut agent: Agent<Filmed>, writes: usize) -> FakeMaps {
    agent.maps().left.set(Some(writes));
    agent.program();
    agent.into_maps().maps
}

/// An agent that goes on from what another one has left.
pub(crate) fn successor(
    maps: FakeMaps,
    objects: &Objects,
    resets: bool,
) -> Result<Agent<Filmed>, TestCaseError> {
    let before = view(&maps);
    let mut agent = agent_on(maps, resets);
    let adopted = agent.adopt();
    adopted.map_err(|error| TestCaseError::fail(format!("adopting: {error}")))?;
    prop_assert_eq!(view(&agent.maps().maps), before, "adopting changes nothing");
    agent.apply(objects.all());
    Ok(agent)
}

fn check_picture(before: &View, picture: &View, after: &View) -> Result<(), String> {
    for (key, served) in picture {
        if let Err(reason) = served {
            return Err(format!("{key:?}: {reason}"));
        }
        if before.get(key) != Some(served) && after.get(key) != Some(served) {
            return Err(format!("{key:?} is neither old nor new: {served:?}"));
        }
    }
    for key in before.keys().filter(|key| after.contains_key(*key)) {
        if !picture.contains_key(key) {
            return Err(format!("{key:?} is missing in between"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_history_ends_as_its_last_objects_programmed_at_once(
        steps in steps(60),
        resets in any::<bool>(),
    ) {
        let mut objects = Objects::default();
        let mut agent = agent_on(FakeMaps::default(), resets);
        agent.apply(objects.all());
        let mut waiting = None;
        for step in &steps {
            match step {
                Step::Program => program(&mut agent)?,
                Step::Grace => {
                    // A period that has begun covers what was retired before it.
                    if let Some(retired) = waiting.take() {
                        agent.reclaim(retired);
                    }
                    waiting = agent.take_retired();
                }
                Step::Reset => {
                    let before = view(&agent.maps().maps);
                    agent.reset_gone(Instant::now() + RESET_GRACE);
                    prop_assert_eq!(view(&agent.maps().maps), before);
                }
                Step::Relist => agent.apply(objects.all()),
                Step::Restart => {
                    waiting = None;
                    agent = successor(agent.into_maps().maps, &objects, resets)?;
                }
                Step::Crash(writes) => {
                    waiting = None;
                    agent = successor(crash(agent, *writes), &objects, resets)?;
                }
                change => agent.apply(objects.take(change)),
            }
        }
        program(&mut agent)?;

        agent.maps().film.borrow_mut().clear();
        agent.audit();
        let repairs = agent.maps().film.borrow().iter().map(|(write, _)| write.clone()).collect::<Vec<_>>();
        prop_assert_eq!(repairs, [], "the maps hold what was planned");

        let mut fresh = agent_on(FakeMaps::default(), resets);
        fresh.apply(objects.all());
        fresh.program();
        prop_assert_eq!(view(&agent.maps().maps), view(&fresh.maps().maps));
        prop_assert_eq!(beside(&agent.maps().maps), beside(&fresh.maps().maps));
        let agrees = beside(&agent.maps().maps).agrees_with(&view(&agent.maps().maps));
        prop_assert!(agrees, "the endpoints do not say in which sets they are");
        prop_assert_eq!(living(&agent.maps().maps), living(&fresh.maps().maps));
    }
}
