//! What commands print for a fixed state, as the files in `tests/operator` have it. With
//! `UPDATE_GOLDEN` in the environment the files are written.

mod fixture;
mod top;
mod trace;

use std::path::Path;

use fixture::{
    NOW, agent, copies, explained, maps, objects, open_flows, question, records, state, status,
};

use proxy_ebpf::layout::{Liveness, liveness_state};

use super::list::{Format, List, Row};
use crate::agent::Agent;
use crate::config::Settings;
use crate::inspect::explain::{Comparison, Explanation};
use crate::inspect::summary::MapsSummary;
use crate::inspect::{Filter, Names, State, affinity, backends, flows, services};
use crate::maps::{AffinityRecord, FakeMaps, Readable as _};
use crate::model::object::Protocol;
use crate::plan::Element;
use crate::status::StatusDocument;

fn printed<R: Row>(rows: &[R], format: Format) -> String {
    let mut out = Vec::new();
    let mut list = List::new::<R>(&mut out, format).unwrap();
    for row in rows {
        list.push(row).unwrap();
    }
    list.finish().unwrap();
    let text = String::from_utf8(out).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

/// Compares with a file, or writes it.
fn check(name: &str, found: &str) {
    let found = anstream::adapter::strip_str(found).to_string();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator");
    let file = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &found).unwrap();
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
fn an_endpoint_that_connections_avoid_is_a_suspect() {
    let mut state = state(&mut maps());
    let states = |state: &State| -> Vec<_> {
        let rows = backends::list(state, &Filter::default(), false);
        rows.iter().map(|it| it.state).collect()
    };
    let before = states(&state);
    assert_eq!(before[..2], ["serving", "serving"]);
    let row = &backends::list(&state, &Filter::default(), false)[1];
    let liveness = |generation| Liveness {
        generation,
        state: liveness_state::AVOIDED,
        ..Liveness::default()
    };
    let mut all = vec![Liveness::default(); row.index as usize];
    all.push(liveness(row.generation));
    state.backend_liveness[0] = all.clone();
    assert_eq!(states(&state)[..2], ["serving", "suspect"]);
    // Of the endpoint that had its place before.
    all[row.index as usize] = liveness(row.generation + 2);
    state.backend_liveness[0] = all;
    assert_eq!(states(&state), before);
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
        let mut explanation = explained(question, &state, copies);
        let desired = agent().desired_at(question.destination, question.protocol);
        explanation.desired = Some(Comparison::new(&explanation, desired));
        let json = serde_json::to_string_pretty(&explanation).unwrap();
        check(&format!("{name}.json"), &(json + "\n"));
        check(&format!("{name}.txt"), &super::explain::text(&explanation));
    }
}

/// Explains a packet to `web`, with what its agent says beside what `state` has.
fn compared(destination: &str, state: &State) -> Explanation {
    let asked = question("203.0.113.7:40000", destination, Protocol::Tcp);
    let mut explanation = explained(asked, state, copies);
    let desired = agent().desired_at(asked.destination, asked.protocol);
    explanation.desired = Some(Comparison::new(&explanation, desired));
    explanation
}

#[test]
fn what_the_maps_have_is_compared_with_what_they_should() {
    let state = state(&mut maps());
    let differences = |explanation: &Explanation| {
        let comparison = explanation.desired.clone();
        comparison.unwrap().differences
    };
    for destination in ["10.96.0.10:80", "198.51.100.1:80", "192.0.2.1:30080"] {
        let explanation = compared(destination, &state);
        assert_eq!(differences(&explanation), [""; 0], "{destination}");
    }
    // The kernel has another endpoint in the place of one.
    let mut other = state;
    for (_, _, element) in &mut other.content.backends {
        if let Element::Living(entry) = element
            && entry.port == 8080
            && !entry.address.to_string().ends_with(".7")
        {
            entry.port = 8081;
        }
    }
    let explanation = compared("198.51.100.1:80", &other);
    check("explain-differs.txt", &super::explain::text(&explanation));
    // It has none of its frontends.
    other.content.frontends.clear();
    let mut explanation = compared("198.51.100.1:80", &other);
    explanation.frontend = None;
    let desired = explanation.desired.take().unwrap().desired;
    let comparison = Comparison::new(&explanation, desired);
    assert_eq!(
        comparison.differences,
        ["default/web:http should be reached there"]
    );
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
