//! A fixed state: Services of most kinds, and some flows.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use proxy_ebpf::flow_table::Record;
use proxy_ebpf::host::{Frame, Hook, Link, run};
use proxy_ebpf::layout::{Traffic, V4, flow_flags};
use proxy_ebpf::pipeline::Client;

use crate::agent::Agent;
use crate::config::Settings;
use crate::inspect::State;
use crate::inspect::explain::{Copies, Explanation, Question, explain};
use crate::maps::{FakeMaps, FlowRecord, Readable as _};
use crate::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};
use crate::status::{
    DeviceReport, DeviceRole, Map, Refused, Server, SocketPath, StatusDocument, Sync,
};

/// The time, in ticks.
pub(super) const NOW: u32 = 1_000_000;

fn service(name: ObjectName, port: ServicePort, cluster_ip: &str) -> Service {
    Service {
        name,
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![cluster_ip.to_owned()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![port],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        algorithm: None,
        forwarding: None,
        unanswered: None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
    }
}

fn port(name: &str, protocol: Protocol, port: i32, node_port: i32) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port,
    }
}

fn slice(of: &Service, port: u16, endpoints: &[(&str, &str, bool)]) -> Change {
    let [of_service] = &*of.ports else {
        panic!("one port")
    };
    let endpoint = |(address, node, ready): &(&str, &str, bool)| Endpoint {
        address: (*address).to_owned(),
        ready: *ready,
        serving: true,
        terminating: !ready,
        node: Some(Arc::from(*node)),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    };
    let address: IpAddr = endpoints[0].0.parse().unwrap();
    Change::EndpointSlice(EndpointSlice {
        name: of.name.clone(),
        service: of.name.clone(),
        family: Some(Family::of(address)),
        ports: vec![EndpointPort {
            name: Arc::clone(&of_service.name),
            protocol: of_service.protocol,
            port: port.into(),
        }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        weight: None,
        last_change_trigger: None,
    })
}

/// Services of most kinds.
pub(super) fn objects() -> Vec<Change> {
    let web = Service {
        kind: ServiceType::LoadBalancer,
        load_balancer_ips: vec!["198.51.100.1".to_owned()],
        source_ranges: vec!["203.0.113.0/24".to_owned()],
        external_policy: TrafficPolicy::Local,
        unanswered: Some("retry".to_owned()),
        ..service(
            ObjectName::new("default", "web"),
            port("http", Protocol::Tcp, 80, 30_080),
            "10.96.0.10",
        )
    };
    let dns = Service {
        affinity: Some(600),
        ..service(
            ObjectName::new("kube-system", "kube-dns"),
            port("dns", Protocol::Udp, 53, 0),
            "fd00:10:96::a",
        )
    };
    let long = service(
        ObjectName::new("n".repeat(63), "s".repeat(63)),
        port(&"p".repeat(63), Protocol::Tcp, 80, 0),
        "10.96.0.11",
    );
    let node = Node {
        name: Arc::from("here"),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ..Node::default()
    };
    vec![
        slice(
            &web,
            8080,
            &[
                ("10.244.1.5", "here", true),
                ("10.244.2.6", "there", true),
                ("10.244.2.7", "there", false),
            ],
        ),
        slice(&dns, 53, &[("fd00:10:244:2::35", "there", true)]),
        Change::Service(web),
        Change::Service(dns),
        Change::Service(long),
        Change::Node(node),
        Change::ServicesListed,
        Change::EndpointSlicesListed,
        Change::NodeListed,
    ]
}

/// An agent that has programmed them.
pub(super) fn agent() -> Agent<FakeMaps> {
    let mut agent = Agent::new("here", &Settings::default(), FakeMaps::default());
    let local: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::from([(
        1,
        vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    )]);
    agent.set_local_addresses(local);
    agent.apply(objects());
    agent.program();
    agent
}

pub(super) fn maps() -> FakeMaps {
    let maps = agent().into_maps();
    maps.v4.shared.now.set(NOW);
    maps
}

pub(super) fn state(maps: &mut FakeMaps) -> State {
    State {
        content: maps.read().unwrap(),
        service_traffic: vec![
            Traffic {
                connections: 12,
                packets: 3456,
            };
            8
        ],
        backend_traffic: [
            vec![
                Traffic {
                    connections: 6,
                    packets: 1728,
                };
                2
            ],
            Vec::new(),
        ],
        backend_liveness: [Vec::new(), Vec::new()],
    }
}

pub(super) fn question(source: &str, destination: &str, protocol: Protocol) -> Question {
    Question {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
    }
}

pub(super) fn copies() -> Copies {
    let maps = maps();
    (maps.v4, maps.v6)
}

/// An explanation, on copies of maps that can be read.
pub(super) fn explained(asked: Question, state: &State, copy: impl Fn() -> Copies) -> Explanation {
    let mut copies = copy();
    let refresh = |it: &mut Copies| -> Result<(), Infallible> {
        *it = copy();
        Ok(())
    };
    let Ok(explanation) = explain(asked, state, &mut copies, refresh);
    explanation
}

/// Sends the first packets of flows through the pipeline.
pub(super) fn open_flows(maps: FakeMaps) -> (State, Copies) {
    let mut maps = maps;
    let state = state(&mut maps);
    let copies = (maps.v4, maps.v6);
    for (source, destination, protocol) in [
        ("10.244.1.9:40000", "10.96.0.10:80", Protocol::Tcp),
        ("203.0.113.7:50000", "198.51.100.1:80", Protocol::Tcp),
        ("10.244.1.5:41000", "10.96.0.10:80", Protocol::Tcp),
        (
            "[fd00:10:244:1::9]:42000",
            "[fd00:10:96::a]:53",
            Protocol::Udp,
        ),
    ] {
        send(&question(source, destination, protocol), &copies);
    }
    (state, copies)
}

/// Where TCP's sequence number is in a frame of IPv4.
const SEQUENCE_NUMBER: usize = 14 + 20 + 4;

pub(super) fn send(question: &Question, copies: &Copies) {
    let client = if question.source.to_string().starts_with("203") {
        Client::Outside
    } else {
        Client::Pod
    };
    let mut frame = Frame(question.first_packet());
    if question.protocol == Protocol::Tcp {
        // Another SYN than that of an explanation, which would be taken for the same again.
        frame.0[SEQUENCE_NUMBER] ^= 1;
    }
    run(
        &mut frame,
        Hook::Ingress(client),
        Link::Ethernet,
        &copies.0,
        &copies.1,
    );
}

pub(super) fn records(copies: &Copies) -> Vec<FlowRecord> {
    let v4 = copies.0.records().map(|it| establish(&it));
    let v6 = copies.1.records().filter_map(|it| FlowRecord::of(&it));
    let mut records: Vec<_> = v4.chain(v6).collect();
    records.sort_by_key(|it| (it.key, it.tuple));
    records
}

/// The client at this port has taken up the answer.
fn establish(record: &Record<'_, V4>) -> FlowRecord {
    let mut record = FlowRecord::of(record).unwrap();
    if record.tuple[1].port() == 40_000 {
        record.flags = record.flags & !flow_flags::EMBRYONIC | flow_flags::SEEN_REPLY;
        record.last_seen -= 100;
        record.packets = 12;
    }
    record
}

/// The status of an agent that serves most, and not all, as it could.
pub(super) fn status() -> StatusDocument {
    let device = |name: &str, role, ways: [Option<&str>; 2], why: Option<&str>| DeviceReport {
        name: name.to_owned(),
        role,
        attached: ways.map(|way| way.map(str::to_owned)),
        xdp: role == DeviceRole::Outside && why.is_none(),
        why: why.map(str::to_owned),
    };
    let time = |text: &str| Some(text.to_owned());
    let tcx = [Some("tcx"); 2];
    StatusDocument {
        api_version: "proxy-agent/v1".to_owned(),
        kind: "Status".to_owned(),
        condition: "ready".to_owned(),
        version: "0.1.0".to_owned(),
        started: time("2026-11-30T03:00:00Z"),
        uptime_seconds: 8000,
        node_eligible: true,
        sync: Sync {
            in_sync: true,
            since: time("2026-11-30T03:00:02Z"),
            last: time("2026-11-30T05:13:00Z"),
            pending_seconds: Some(3),
            timeout_seconds: 60,
        },
        services: 2,
        service_ports: 3,
        endpoints: 4,
        maps: vec![Map {
            name: "FRONTENDS_V4".to_owned(),
            used: 6,
            capacity: 65_536,
        }],
        devices: vec![
            device("eth0", DeviceRole::Outside, tcx, None),
            device(
                "eth1",
                DeviceRole::Outside,
                tcx,
                Some(
                    "no XDP on eth1, which TC serves alone: Operation not supported (os error 95)",
                ),
            ),
            device(
                "veth1",
                DeviceRole::Pod,
                [Some("clsact"), None],
                Some("cannot attach to egress of veth1 (has the process CAP_NET_ADMIN?)"),
            ),
        ],
        socket_path: SocketPath {
            cgroup: Some("/sys/fs/cgroup".to_owned()),
            mode: "on".to_owned(),
            why: None,
        },
        api_server: Some(Server {
            host: "192.0.2.1:6443".to_owned(),
            last_answer: time("2026-11-30T05:12:58Z"),
            failing_since: None,
        }),
        refusals: vec![Refused {
            time: time("2026-11-30T03:00:01Z"),
            object: "default/web".to_owned(),
            reason: "MapFull".to_owned(),
            note: "the map FRONTENDS_V4 is full".to_owned(),
        }],
    }
}
