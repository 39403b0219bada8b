//! What an agent exports once each of its metrics has a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proxy_agent::agent::Agent;
use proxy_agent::config::Settings;
use proxy_agent::maps::{FakeMaps, RecordUsage};
use proxy_agent::metrics::Metrics;
use proxy_agent::model::ObjectName;
use proxy_agent::model::desired::PortName;
use proxy_agent::model::object::{Family, Protocol};
use proxy_agent::status::{CounterValue, DevicesReport, PortTraffic};
use proxy_ebpf::layout::{Counter, Traffic, maps};
use proxy_tests::prometheus::Exposition;

/// A metric.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    pub(crate) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Its labels, each with all of its values where these are known; none where they come
    /// with what is measured.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
    /// Of a histogram: the upper bounds of its buckets but for the last one, as they are
    /// exported.
    pub(crate) buckets: Vec<String>,
}

/// Every metric, by name.
pub(crate) fn exported() -> BTreeMap<String, Metric> {
    let agent = Agent::new("node", &Settings::default(), FakeMaps::default());
    let metrics = agent.metrics();
    let mut report = agent.report(DevicesReport::default(), counters());
    report.records = records();
    metrics.own.take(&report);
    // From now on values of labels are examples.
    let known = read(metrics);
    report.traffic = vec![traffic()];
    metrics.own.take(&report);
    metrics.own.warned("ExternalIpNotAllowed");
    metrics.requests.ended("GET", "192.0.2.1:6443", Some(200));
    let took = Duration::from_millis(1);
    metrics.requests.took("GET", "192.0.2.1:6443", took);
    let families = read(metrics).families.into_iter();
    families
        .map(|(name, family)| {
            let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for label in family.labels() {
                labels.insert(label.to_owned(), BTreeSet::new());
            }
            if let Some(known) = known.families.get(&name)
                && !name.ends_with("_build_info")
            {
                for (label, value) in known.samples.iter().flat_map(|(_, labels, _)| labels) {
                    if let Some(values) = labels.get_mut(label) {
                        values.insert(value.clone());
                    }
                }
            }
            let metric = Metric {
                buckets: buckets(&family.samples),
                kind: family.kind,
                help: family.help,
                labels,
                name: name.clone(),
            };
            (name, metric)
        })
        .collect()
}

fn read(metrics: &Metrics) -> Exposition {
    Exposition::parse(&metrics.text().unwrap()).unwrap()
}

/// The bounds of the first series.
fn buckets(samples: &[(String, BTreeMap<String, String>, f64)]) -> Vec<String> {
    let bounds = samples.iter().filter_map(|(_, labels, _)| labels.get("le"));
    bounds
        .take_while(|bound| *bound != "+Inf")
        .cloned()
        .collect()
}

fn counters() -> Vec<CounterValue> {
    let values = Counter::ALL
        .into_iter()
        .map(|(counter, name)| CounterValue {
            counter,
            name,
            value: 0,
        });
    values.collect()
}

/// The tables that the agent counts in the kernel.
fn records() -> RecordUsage {
    let filled = maps::ALL
        .iter()
        .filter(|map| map.lifetime.is_filled_by_programs());
    RecordUsage {
        tables: filled.map(|map| (map.name, 0, 1)).collect(),
    }
}

fn traffic() -> PortTraffic {
    let total = Traffic {
        connections: 1,
        packets: 1,
    };
    PortTraffic {
        port: PortName {
            service: ObjectName::new("default", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
            family: Family::V4,
        },
        total,
        endpoints: vec![(([10, 244, 1, 2], 8080).into(), total)],
    }
}

/// A metric of the agent that is made nowhere here would be missing in all that follows.
#[test]
fn every_metric_that_the_sources_name_is_exported() {
    let exported = exported();
    for source in [
        include_str!("../../../proxy-agent/src/metrics/kube_proxy.rs"),
        include_str!("../../../proxy-agent/src/metrics/kubernetes.rs"),
        include_str!("../../../proxy-agent/src/metrics/own.rs"),
        include_str!("../../../proxy-agent/src/metrics/traffic.rs"),
        include_str!("../../../proxy-agent/src/source/kube/measured.rs"),
    ] {
        let texts = source.split('"').skip(1).step_by(2);
        let prefixes = ["kubeproxy_", "kubernetes_", "proxy_agent_", "rest_client_"];
        let names = texts.filter(|text| prefixes.iter().any(|it| text.starts_with(it)));
        for name in names.filter(|name| !name.contains('{')) {
            assert!(exported.contains_key(name), "{name}");
        }
    }
}
