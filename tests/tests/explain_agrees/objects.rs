//! Random Services with random endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use proxy_agent::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServiceCidr, ServicePort, ServiceType, TrafficPolicy,
};
use proxy_tests::lab;
use proxy_tests::packets::{self, Choices};

/// How many Services there are at most.
pub(crate) const SERVICES: u8 = 40;
/// Networks of the tests' addresses.
pub(crate) const NODES: u8 = 1;
pub(crate) const PODS: u8 = 2;
pub(crate) const FAR_PODS: u8 = 3;
pub(crate) const OUTSIDE: u8 = 7;
pub(crate) const CLUSTER_IPS: u8 = 9;
const EXTERNAL_IPS: u8 = 10;
const LOAD_BALANCERS: u8 = 11;

/// The host of this node's address in [`NODES`].
pub(crate) const THIS: u8 = 1;
/// Where endpoints listen.
pub(crate) const TARGET_PORTS: [u16; 2] = [8080, 8081];

/// An address of the tests' own network.
pub(crate) fn address(family: Family, network: u8, host: u8) -> IpAddr {
    let family = match family {
        Family::V4 => lab::Family::V4,
        Family::V6 => lab::Family::V6,
    };
    packets::address(family, network, host)
}

/// What is there before any Service: the node, and where ClusterIPs are.
pub(crate) fn beginning() -> Vec<Change> {
    let ranges = ["8.0.9.0/24", "fd00:0:86dd:9::/112"];
    vec![
        Change::Node(Node {
            name: Arc::from("here"),
            addresses: Family::ALL
                .map(|family| address(family, NODES, THIS))
                .to_vec(),
            ..Node::default()
        }),
        Change::ServiceCidr(ServiceCidr {
            name: Arc::from("kubernetes"),
            ranges: ranges.map(|it| it.parse().expect("a range")).to_vec(),
        }),
        Change::NodeListed,
        Change::ServicesListed,
        Change::EndpointSlicesListed,
    ]
}

/// The Services that there are, each with where it is reached.
#[derive(Default)]
pub(crate) struct Services {
    known: Vec<Option<Vec<(SocketAddr, Protocol)>>>,
}

impl Services {
    /// Another Service of this number, or none, with other endpoints.
    pub(crate) fn replace(&mut self, number: u8, choices: &mut Choices<'_>) -> Vec<Change> {
        let at = usize::from(number);
        if self.known.len() <= at {
            self.known.resize(at + 1, None);
        }
        let name = ObjectName::new("default", format!("s{number}"));
        if choices.seldom(12) {
            self.known[at] = None;
            return vec![
                Change::ServiceGone(name.clone()),
                Change::EndpointSliceGone(slice_name(&name, Family::V4)),
                Change::EndpointSliceGone(slice_name(&name, Family::V6)),
            ];
        }
        let service = service(&name, number, choices);
        self.known[at] = Some(reached_at(&service));
        let mut changes = endpoints(&name, &service.ports, choices);
        changes.push(Change::Service(service));
        changes
    }

    /// Where one of them is reached.
    pub(crate) fn any(&self, choices: &mut Choices<'_>) -> Option<(SocketAddr, Protocol)> {
        let known: Vec<_> = self.known.iter().flatten().flatten().collect();
        (!known.is_empty()).then(|| *known[choices.below(known.len())])
    }
}

fn slice_name(service: &ObjectName, family: Family) -> ObjectName {
    ObjectName::new("default", format!("{}-{family:?}", service.name))
}

fn service(name: &ObjectName, number: u8, choices: &mut Choices<'_>) -> Service {
    const POLICIES: [TrafficPolicy; 3] = [
        TrafficPolicy::Cluster,
        TrafficPolicy::Cluster,
        TrafficPolicy::Local,
    ];
    let families = choices.one_of(&[&Family::ALL[..], &[Family::V4], &[Family::V6]]);
    let kind = choices.one_of(&[
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
    ]);
    let in_network = |network| -> Vec<String> {
        let families = families.iter();
        let addresses = families.map(|family| address(*family, network, number + 1));
        addresses.map(|it| it.to_string()).collect()
    };
    let is_balanced = kind == ServiceType::LoadBalancer;
    let ports = ports(number, kind != ServiceType::ClusterIp, choices);
    let ranges = choices.one_of(&[&[][..], &["8.0.7.0/29", "fd00:0:86dd:7::/125"]]);
    Service {
        name: name.clone(),
        created: number.into(),
        kind,
        cluster_ips: in_network(CLUSTER_IPS),
        external_ips: if choices.seldom(3) {
            in_network(EXTERNAL_IPS)
        } else {
            Vec::new()
        },
        load_balancer_ips: if is_balanced {
            in_network(LOAD_BALANCERS)
        } else {
            Vec::new()
        },
        ports,
        internal_policy: choices.one_of(&POLICIES),
        external_policy: choices.one_of(&POLICIES),
        affinity: choices.seldom(3).then_some(10_800),
        algorithm: choices.seldom(8).then(|| "maglev".to_owned()),
        forwarding: choices.seldom(2).then(|| "dsr".to_owned()),
        unanswered: None,
        source_ranges: if is_balanced {
            ranges.iter().map(ToString::to_string).collect()
        } else {
            Vec::new()
        },
        health_check_node_port: None,
    }
}

fn ports(number: u8, has_node_ports: bool, choices: &mut Choices<'_>) -> Vec<ServicePort> {
    let protocols = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let count = 1 + choices.below(2);
    let ports = ["a", "b"].into_iter().zip([80, 8080]).zip(0..).take(count);
    ports
        .map(|((name, port), at)| ServicePort {
            name: name.into(),
            protocol: choices.one_of(&protocols),
            port,
            node_port: if has_node_ports {
                30_000 + i32::from(number) * 2 + at
            } else {
                0
            },
        })
        .collect()
}

/// A slice of each family.
fn endpoints(name: &ObjectName, ports: &[ServicePort], choices: &mut Choices<'_>) -> Vec<Change> {
    let slices = Family::ALL.map(|family| EndpointSlice {
        name: slice_name(name, family),
        service: name.clone(),
        family: Some(family),
        ports: ports
            .iter()
            .zip(TARGET_PORTS)
            .map(|(port, target)| EndpointPort {
                name: Arc::clone(&port.name),
                protocol: port.protocol,
                port: target.into(),
            })
            .collect(),
        endpoints: (0..choices.below(6))
            .map(|_| endpoint(family, choices))
            .collect(),
        weight: None,
        last_change_trigger: None,
    });
    slices.into_iter().map(Change::EndpointSlice).collect()
}

fn endpoint(family: Family, choices: &mut Choices<'_>) -> Endpoint {
    let (network, node) = choices.one_of(&[
        (PODS, "here"),
        (PODS, "here"),
        (FAR_PODS, "there"),
        (FAR_PODS, "there"),
        // A Pod of this host's network.
        (NODES, "here"),
    ]);
    let host = match network {
        NODES => THIS,
        _ => 1 + choices.byte() % 6,
    };
    let is_ready = !choices.seldom(5);
    let is_terminating = !is_ready && choices.seldom(2);
    Endpoint {
        address: address(family, network, host).to_string(),
        ready: is_ready,
        serving: is_ready || is_terminating,
        terminating: is_terminating,
        node: Some(node.into()),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    }
}

/// Every frontend of a Service.
fn reached_at(service: &Service) -> Vec<(SocketAddr, Protocol)> {
    let lists = [
        &service.cluster_ips,
        &service.external_ips,
        &service.load_balancer_ips,
    ];
    let addresses = lists.into_iter().flatten();
    let addresses: Vec<IpAddr> = addresses.filter_map(|it| it.parse().ok()).collect();
    let mut all = Vec::new();
    for port in &service.ports {
        let number = u16::try_from(port.port).unwrap_or_default();
        let own = addresses.iter();
        all.extend(own.map(|it| (SocketAddr::new(*it, number), port.protocol)));
        let node_port = u16::try_from(port.node_port).unwrap_or_default();
        if node_port != 0 {
            let nodes = Family::ALL.map(|family| address(family, NODES, THIS));
            all.extend(nodes.map(|it| (SocketAddr::new(it, node_port), port.protocol)));
        }
    }
    all
}

/// The loopback address of a family, at which this host reaches NodePorts.
pub(crate) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
