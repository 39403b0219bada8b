//! Services and slices by number, and an agent that serves many of them.

use std::sync::Arc;

use proxy_agent::agent::Agent;
use proxy_agent::config::Settings;
use proxy_agent::maps::{MapError, Maps};
use proxy_agent::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};
use proxy_agent::plan::Write;

/// Maps whose memory is not the agent's.
pub(crate) struct Nowhere;

impl Maps for Nowhere {
    fn write(&mut self, _: &Write) -> Result<(), MapError> {
        Ok(())
    }
}

/// Where clients find each Service: its ClusterIP, and its NodePort where it has one.
pub(crate) const SERVICE_PORT: i32 = 80;

/// The Service called `name`, with the ClusterIP of the number `at`.
pub(crate) fn service(name: &ObjectName, at: u16, node_port: Option<i32>) -> Change {
    let [high, low] = at.to_be_bytes();
    Change::Service(Service {
        name: name.clone(),
        created: 0,
        kind: node_port.map_or(ServiceType::ClusterIp, |_| ServiceType::NodePort),
        cluster_ips: vec![format!("10.96.{high}.{low}")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: Arc::from(""),
            protocol: Protocol::Tcp,
            port: SERVICE_PORT,
            node_port: node_port.unwrap_or(0),
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

/// The one slice of a Service, which has its name; endpoints by number.
pub(crate) fn slice(name: &ObjectName, endpoints: &[u32]) -> Change {
    let address = |number: &u32| {
        let [_, a, b, c] = number.to_be_bytes();
        format!("10.{}.{b}.{c}", 128 | a)
    };
    Change::EndpointSlice(EndpointSlice {
        name: name.clone(),
        service: name.clone(),
        family: Some(Family::V4),
        ports: vec![EndpointPort {
            name: Arc::from(""),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: endpoints
            .iter()
            .map(|number| Endpoint {
                address: address(number),
                ready: true,
                serving: true,
                terminating: false,
                node: Some(Arc::from("there")),
                zone_hints: vec![Arc::from(format!("zone-{}", number % 3))],
                node_hints: Vec::new(),
            })
            .collect(),
        weight: None,
        last_change_trigger: None,
    })
}

/// The node, and the news that the first lists are complete.
pub(crate) fn start() -> [Change; 3] {
    let node = Node {
        name: Arc::from("here"),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        ..Node::default()
    };
    [
        Change::Node(node),
        Change::ServicesListed,
        Change::EndpointSlicesListed,
    ]
}

/// An agent that has programmed all of `changes`.
pub(crate) fn agent<M: Maps>(maps: M, changes: impl IntoIterator<Item = Change>) -> Agent<M> {
    let mut agent = Agent::new("here", &Settings::default(), maps);
    agent.apply(changes);
    agent.apply(start());
    agent.program();
    reclaim_all(&mut agent);
    agent
}

/// Lets grace periods pass until nothing waits for one.
pub(crate) fn reclaim_all<M: Maps>(agent: &mut Agent<M>) {
    while let Some(retired) = agent.take_retired() {
        agent.reclaim(retired);
    }
}
