//! What commands print for a fixed state, as the files in `tests/operator` have it. With
//! `UPDATE_GOLDEN` in the environment the files are written.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use proxy_ebpf::flow_table::Record;
use proxy_ebpf::layout::{Traffic, flow_flags};

use super::list::{Format, List, Row};
use crate::agent::Agent;
use crate::config::Settings;
use crate::inspect::explain::{Copies, Explanation, Question, explain};
use crate::inspect::summary::MapsSummary;
use crate::inspect::{Filter, Names, State, affinity, backends, flows, services};
use crate::maps::{AffinityRecord, FakeMaps, FlowRecord, Readable as _};
use crate::model::object::{
    Change, Endpoint, EndpointPort, EndpointSlice, Family, Node, ObjectName, Protocol, Service,
    ServicePort, ServiceType, TrafficPolicy,
};

use crate::status::{
    DeviceReport, DeviceRole, Map, Refused, Server, SocketPath, StatusDocument, Sync,
};

const NOW: u32 = 1_000_000;

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
fn objects() -> Vec<Change> {
    let web = Service {
        kind: ServiceType::LoadBalancer,
        load_balancer_ips: vec!["198.51.100.1".to_owned()],
        source_ranges: vec!["203.0.113.0/24".to_owned()],
        external_policy: TrafficPolicy::Local,
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

fn maps() -> FakeMaps {
    let mut agent = Agent::new("here", &Settings::default(), FakeMaps::default());
    let local: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::from([(
        1,
        vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    )]);
    agent.set_local_addresses(local);
    agent.apply(objects());
    agent.program();
    let maps = agent.into_maps();
    maps.v4.shared.now.set(NOW);
    maps
}

fn state(maps: &mut FakeMaps) -> State {
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
    }
}

fn question(source: &str, destination: &str, protocol: Protocol) -> Question {
    Question {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
    }
}

fn copies() -> Copies {
    let maps = maps();
    (maps.v4, maps.v6)
}

/// An explanation, on copies of maps that can be read.
fn explained(asked: Question, state: &State, copy: impl Fn() -> Copies) -> Explanation {
    let copy = || Ok::<_, Infallible>(copy());
    let Ok(explanation) = explain(asked, state, copy);
    explanation
}

/// Sends the first packets of flows through the pipeline.
fn open_flows(maps: FakeMaps) -> (State, Copies) {
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
        explain_on(&question(source, destination, protocol), &copies);
    }
    (state, copies)
}

fn explain_on(question: &Question, copies: &Copies) {
    use proxy_ebpf::host::{Frame, Hook, Link, run};
    use proxy_ebpf::pipeline::Client;
    let client = if question.source.to_string().starts_with("203") {
        Client::Outside
    } else {
        Client::Pod
    };
    let mut frame = Frame(question.first_packet());
    run(
        &mut frame,
        Hook::Ingress(client),
        Link::Ethernet,
        &copies.0,
        &copies.1,
    );
}

fn records(copies: &Copies) -> Vec<FlowRecord> {
    let v4 = copies.0.records().map(|it| establish(&it));
    let v6 = copies.1.records().filter_map(|it| FlowRecord::of(&it));
    let mut records: Vec<_> = v4.chain(v6).collect();
    records.sort_by_key(|it| (it.key, it.tuple));
    records
}

/// The client at this port has taken up the answer.
fn establish(record: &Record<'_, proxy_ebpf::layout::V4>) -> FlowRecord {
    let mut record = FlowRecord::of(record).unwrap();
    if record.tuple[1].port() == 40_000 {
        record.flags = record.flags & !flow_flags::EMBRYONIC | flow_flags::SEEN_REPLY;
        record.last_seen -= 100;
        record.packets = 12;
    }
    record
}

fn printed<R: Row>(rows: &[R], format: Format) -> String {
    let mut out = Vec::new();
    let mut list = List::new::<R>(&mut out, format).unwrap();
    for row in rows {
        list.push(row).unwrap();
    }
    list.finish().unwrap();
    String::from_utf8(out).unwrap()
}

/// Compares with a file, or writes it.
pub(super) fn check(name: &str, found: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator");
    let file = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, expected, "{}", file.display());
}

fn check_all<R: Row>(name: &str, rows: &[R]) {
    let table = printed(rows, Format::Table);
    check(&format!("{name}.txt"), &table);
    assert!(table.lines().all(|it| it.chars().count() <= 120), "{table}");
    check(&format!("{name}-wide.txt"), &printed(rows, Format::Wide));
    let json = printed(rows, Format::Json);
    check(&format!("{name}.json"), &json);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["items"].as_array().unwrap().len(), rows.len());
}

#[test]
fn services_are_printed_with_their_frontends() {
    let state = state(&mut maps());
    check_all("services", &services::list(&state, &Filter::default()));
    let filter = Filter {
        port: Some(30_080),
        ..Filter::default()
    };
    let found = services::list(&state, &filter);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn backends_are_printed_with_what_becomes_of_connections() {
    let state = state(&mut maps());
    check_all(
        "backends",
        &backends::list(&state, &Filter::default(), true),
    );
    let filter = Filter {
        service: Some("default/web".parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(backends::list(&state, &filter, false).len(), 3);
}

#[test]
fn flows_are_printed_once_each() {
    let (state, copies) = open_flows(maps());
    let reader = flows::Reader {
        names: Names::new(&state.content.service_names),
        timeouts: copies.0.settings.timeouts,
        now: NOW,
        all: false,
    };
    let records = records(&copies);
    let rows = |filter: &Filter| -> Vec<_> {
        let rows = records.iter().filter_map(|it| reader.row(it, filter));
        rows.collect()
    };
    check_all("flows", &rows(&Filter::default()));
    let of_dns = Filter {
        service: Some("kube-system/kube-dns".parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(rows(&of_dns).len(), 1);
}

#[test]
fn affinity_is_printed_while_it_lasts() {
    let (state, copies) = open_flows(maps());
    let known = copies.1.affinity.borrow();
    let records: Vec<_> = known
        .iter()
        .map(|(key, value)| AffinityRecord::of(key, *value))
        .collect();
    let rows = |now: u32| -> Vec<_> {
        let reader = affinity::Reader::new(&state, now);
        let rows = records.iter();
        rows.filter_map(|it| reader.row(it, &Filter::default(), false))
            .collect()
    };
    check_all("affinity", &rows(NOW + 100));
    assert_eq!(rows(NOW + 1000), []);
}

#[test]
fn explanations_say_what_the_pipeline_does() {
    let state = state(&mut maps());
    for (name, question) in [
        (
            "explain-cluster-ip",
            question("10.244.1.9:40000", "10.96.0.10:80", Protocol::Tcp),
        ),
        (
            "explain-not-allowed",
            question("192.0.2.99:40000", "198.51.100.1:80", Protocol::Tcp),
        ),
        (
            "explain-no-endpoints",
            question("10.244.1.9:40000", "10.96.0.11:80", Protocol::Tcp),
        ),
        (
            "explain-udp",
            question(
                "[fd00:10:244:1::9]:42000",
                "[fd00:10:96::a]:53",
                Protocol::Udp,
            ),
        ),
        (
            "explain-no-service",
            question("10.244.1.9:40000", "192.0.2.200:80", Protocol::Tcp),
        ),
    ] {
        let explanation = explained(question, &state, copies);
        let json = serde_json::to_string_pretty(&explanation).unwrap();
        check(&format!("{name}.json"), &(json + "\n"));
        check(&format!("{name}.txt"), &super::explain::text(&explanation));
    }
}

fn status() -> StatusDocument {
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

#[test]
fn the_status_is_one_screen() {
    let status = status();
    let mut text = String::new();
    super::status::text(&status, &mut text).unwrap();
    check("status.txt", &text);
    assert!(text.lines().all(|it| it.chars().count() <= 120), "{text}");
    let json = serde_json::to_string_pretty(&status).unwrap();
    check("status.json", &(json.clone() + "\n"));
    assert_eq!(
        serde_json::from_str::<StatusDocument>(&json).unwrap(),
        status
    );
}

#[test]
fn without_an_agent_the_maps_say_what_is_programmed() {
    let content = maps().read().unwrap();
    let capacities = [("FRONTENDS_V4", 8), ("BACKENDS_V4", 6), ("SLOTS", 1024)];
    let summary = MapsSummary::of(&content, &capacities);
    let mut text = String::new();
    super::status::maps_text(&summary, &mut text).unwrap();
    check("status-no-agent.txt", &text);
    let json = serde_json::to_string_pretty(&summary).unwrap();
    check("status-no-agent.json", &(json + "\n"));
}

#[test]
fn differences_are_printed_with_what_was_done() {
    let mut agent = Agent::new("here", &Settings::default(), FakeMaps::default());
    agent.apply(objects());
    agent.program();
    while let Some(retired) = agent.take_retired() {
        agent.reclaim(retired);
    }
    assert_eq!(agent.audit().differences, []);
    let maps = agent.maps_mut();
    maps.service_names.clear();
    let stray = std::net::Ipv4Addr::new(10, 96, 0, 99);
    maps.v4.cluster_ips.insert(stray.into());
    let mut found = agent.audit().differences;
    found.sort_by(|a, b| a.element.cmp(&b.element));
    check_all("verify", &found);
    assert_eq!(agent.audit().count, 0);
}

#[test]
fn an_explanation_knows_the_flow_that_is_there() {
    let state = state(&mut maps());
    let asked = question("10.244.1.9:40000", "10.96.0.10:80", Protocol::Tcp);
    let explanation = explained(asked, &state, || open_flows(maps()).1);
    let flow = explanation.flow.unwrap();
    assert_eq!((flow.client, flow.kind), (asked.source, "nat"));
    let path = &explanation.paths[0];
    assert_eq!(Some(path.destination), flow.endpoint);
}
