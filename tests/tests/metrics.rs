//! The metrics: kube-proxy's by name, and that they move when something happens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]
#![expect(clippy::float_cmp, reason = "what is counted is whole")]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use proxy_agent::agent::Agent;
use proxy_agent::config::Settings;
use proxy_agent::maps::{FakeMaps, MapError, Maps};
use proxy_agent::metrics::Metrics;
use proxy_agent::model::object::EndpointSlice;
use proxy_agent::model::{Change, ObjectName};
use proxy_agent::plan::Write;
use proxy_agent::source::convert;
use proxy_tests::prometheus::Exposition;
use serde_json::{Value, json};

/// Name, type and labels of kube-proxy's metrics that mean something here
/// (`pkg/proxy/metrics/metrics.go` of 1.36).
const KUBE_PROXY: [(&str, &str, &[&str]); 13] = [
    (
        "kubeproxy_network_programming_duration_seconds",
        "histogram",
        &["ip_family"],
    ),
    ("kubeproxy_proxy_healthz_total", "counter", &["code"]),
    ("kubeproxy_proxy_livez_total", "counter", &["code"]),
    (
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        "histogram",
        &["ip_family"],
    ),
    (
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        "histogram",
        &["ip_family"],
    ),
    (
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "histogram",
        &["ip_family"],
    ),
    (
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "gauge",
        &[],
    ),
    (
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        "counter",
        &[],
    ),
    (
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "gauge",
        &["ip_family"],
    ),
    (
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "gauge",
        &["ip_family"],
    ),
    (
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "gauge",
        &["ip_family", "traffic_policy"],
    ),
    (
        "kubeproxy_sync_proxy_rules_service_changes_pending",
        "gauge",
        &[],
    ),
    (
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "counter",
        &[],
    ),
];

/// Those of any component of Kubernetes and of any process. Those of requests to the API server
/// come with the first request.
const COMMON: [&str; 9] = [
    "kubernetes_build_info",
    "kubernetes_feature_enabled",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// Maps that refuse every write while they are to.
#[derive(Default)]
struct Moody {
    maps: FakeMaps,
    refuse: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Maps for Moody {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        if self.refuse.get() {
            return Err(MapError::Missing("FOR_A_TEST"));
        }
        self.maps.write(write)
    }
}

/// An agent without a kernel.
struct TestAgent {
    agent: Agent<Moody>,
    refuse: std::rc::Rc<std::cell::Cell<bool>>,
}

const V4: (&str, &str) = ("ip_family", "IPv4");

impl TestAgent {
    /// With the first lists complete, and empty.
    fn new() -> Self {
        let maps = Moody::default();
        let refuse = maps.refuse.clone();
        let mut agent = Agent::new("here", &Settings::default(), maps);
        agent.apply([Change::ServicesListed, Change::EndpointSlicesListed]);
        agent.program();
        Self { agent, refuse }
    }

    fn apply(&mut self, change: Change) {
        self.agent.apply([change]);
        self.agent.program();
    }

    fn exposition(&self) -> Exposition {
        Exposition::parse(&self.agent.metrics().text().unwrap()).unwrap()
    }

    /// The value of one of kube-proxy's.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("kubeproxy_{name}");
        self.exposition().value(&name, labels).unwrap()
    }
}

fn service(name: &str, spec: &Value) -> Change {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    Change::Service(convert::service(serde_json::from_value(object).unwrap()).unwrap())
}

/// A slice with one endpoint on a node.
fn slice(service: &str, address: &str, node: &str) -> EndpointSlice {
    let family = if address.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    };
    let object = json!({
        "metadata": {
            "name": format!("{service}-{family}"), "namespace": "n",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": "a", "port": 8080}, {"name": "b", "port": 8081}],
        "endpoints": [{"addresses": [address], "nodeName": node}],
    });
    convert::slice(serde_json::from_value(object).unwrap()).unwrap()
}

/// The same, after a change at some time.
fn changed(time: SystemTime, address: &str) -> Change {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    Change::EndpointSlice(EndpointSlice {
        weight: None,
        last_change_trigger: Some(i64::try_from(since.as_millis()).unwrap()),
        ..slice("web", address, "there")
    })
}

#[test]
fn kube_proxys_names_types_and_labels_are_all_there_from_the_start() {
    let text = Metrics::default().text().unwrap();
    let found = Exposition::parse(&text).unwrap();
    let known: BTreeSet<_> = KUBE_PROXY.iter().map(|(name, ..)| *name).collect();
    let names = found.families.keys().map(String::as_str);
    let names: BTreeSet<_> = names
        .filter(|name| name.starts_with("kubeproxy_"))
        .collect();
    assert_eq!(names, known);
    for (name, kind, labels) in KUBE_PROXY {
        let family = &found.families[name];
        assert_eq!(family.kind, kind, "{name}");
        let labels: BTreeSet<_> = labels.iter().copied().collect();
        assert_eq!(family.labels(), labels, "{name}");
    }
    let own = ["kubeproxy_", "proxy_agent_"];
    let others = found.families.keys().map(String::as_str);
    let others: BTreeSet<_> = others
        .filter(|name| !own.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert_eq!(others, BTreeSet::from(COMMON));
    let build = found.families["kubernetes_build_info"].labels();
    assert!(build.is_superset(&BTreeSet::from([
        "major",
        "minor",
        "git_version",
        "platform"
    ])));
    let feature = found.families["kubernetes_feature_enabled"].labels();
    assert_eq!(feature, BTreeSet::from(["name", "stage"]));
    let memory = found.value("process_resident_memory_bytes", &[]);
    assert!(memory.is_some_and(|bytes| bytes > 1e6), "{memory:?}");
}

#[test]
fn buckets_are_kube_proxys() {
    let text = Metrics::default().text().unwrap();
    let found = Exposition::parse(&text).unwrap();
    let bounds = |name: &str, labels: &[(&str, &str)]| -> Vec<String> {
        let samples = found.families[name].samples.iter();
        let samples = samples.filter(|(_, of, _)| {
            labels
                .iter()
                .all(|(label, value)| of.get(*label).is_some_and(|it| it == value))
        });
        samples
            .filter_map(|(_, labels, _)| labels.get("le").cloned())
            .collect()
    };
    let network = bounds("kubeproxy_network_programming_duration_seconds", &[V4]);
    assert_eq!(network.len(), 2 + 59 + 12 + 7 + 1);
    assert_eq!(network[..4], ["0.25", "0.5", "1", "2"]);
    assert_eq!(network[60..63], ["59", "60", "65"]);
    assert_eq!(network[72..76], ["115", "120", "150", "180"]);
    assert_eq!(network[79..], ["300", "+Inf"]);
    let sync = bounds("kubeproxy_sync_proxy_rules_duration_seconds", &[V4]);
    assert_eq!(sync.len(), 16);
    assert_eq!((&*sync[0], &*sync[14]), ("0.001", "16.384"));
    let own = bounds("proxy_agent_programming_duration_seconds", &[]);
    assert_eq!((&*own[0], &*own[15]), ("0.0001", "10"));
}

#[test]
fn rounds_of_programming_are_measured_by_extent() {
    let mut agent = TestAgent::new();
    let count = |agent: &TestAgent, which: &str| {
        let name = format!("sync{which}_proxy_rules_duration_seconds_count");
        agent.value(&name, &[V4])
    };
    let counts = |agent: &TestAgent| ["", "_full", "_partial"].map(|which| count(agent, which));
    assert_eq!(counts(&agent), [1.0, 1.0, 0.0]);
    agent.apply(service("web", &json!({})));
    assert_eq!(counts(&agent), [2.0, 1.0, 1.0]);
    // Nothing was to be done.
    agent.apply(service("web", &json!({})));
    assert_eq!(counts(&agent), [2.0, 1.0, 1.0]);
    let exposition = agent.exposition();
    let programmed = exposition.value("proxy_agent_programming_duration_seconds_count", &[]);
    assert_eq!(programmed, Some(1.0));
    let last = agent.value("sync_proxy_rules_last_timestamp_seconds", &[V4]);
    let queued = agent.value("sync_proxy_rules_last_queued_timestamp_seconds", &[V4]);
    assert!(last >= queued && queued > 1.7e9, "{last} {queued}");
}

#[test]
fn changes_count_and_are_pending_until_the_maps_have_them() {
    let mut agent = TestAgent::new();
    let counts = |agent: &TestAgent| {
        [
            "service_changes_total",
            "service_changes_pending",
            "endpoint_changes_total",
            "endpoint_changes_pending",
        ]
        .map(|name| agent.value(&format!("sync_proxy_rules_{name}"), &[]))
    };
    agent.agent.apply([service("web", &json!({}))]);
    let endpoints = slice("web", "10.0.0.1", "there");
    agent.agent.apply([Change::EndpointSlice(endpoints)]);
    // A Service's change counts in both families, as in kube-proxy.
    assert_eq!(counts(&agent), [2.0, 1.0, 1.0, 1.0]);
    agent.refuse.set(true);
    agent.agent.program();
    assert_eq!(counts(&agent), [2.0, 1.0, 1.0, 1.0], "a write is pending");
    agent.refuse.set(false);
    agent.agent.retry();
    assert_eq!(counts(&agent), [2.0, 0.0, 1.0, 0.0]);
    // A change of nothing is no reason to wait.
    agent.apply(service("web", &json!({})));
    assert_eq!(counts(&agent), [4.0, 0.0, 1.0, 0.0]);
}

#[test]
fn the_age_of_endpoints_is_measured_once_the_maps_have_them() -> Result<()> {
    let mut agent = TestAgent::new();
    agent.apply(service("web", &json!({})));
    let ages = |agent: &TestAgent, family: &str| {
        let sample = |part: &str| {
            let name = format!("network_programming_duration_seconds_{part}");
            agent.value(&name, &[("ip_family", family)])
        };
        (sample("count"), sample("sum"))
    };
    // Of what was before the agent nobody knows when it could have been programmed.
    agent.apply(changed(UNIX_EPOCH + Duration::from_secs(1), "10.0.0.1"));
    assert_eq!(ages(&agent, "IPv4").0, 0.0);
    agent.refuse.set(true);
    let trigger = SystemTime::now();
    agent.apply(changed(trigger + Duration::from_millis(5), "10.0.0.2"));
    // Milliseconds are all that the annotation has.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ages(&agent, "IPv4").0, 0.0, "a write is pending");
    agent.refuse.set(false);
    agent.agent.retry();
    let took = trigger.elapsed()?.as_secs_f64();
    let (count, sum) = ages(&agent, "IPv4");
    assert_eq!(count, 1.0);
    assert!((0.04..=took).contains(&sum), "{sum} of {took}");
    agent.apply(changed(
        SystemTime::now() + Duration::from_millis(5),
        "fd01::1",
    ));
    assert_eq!(ages(&agent, "IPv6").0, 1.0);
    // The same slice again has no change.
    agent.apply(changed(SystemTime::now(), "fd01::1"));
    assert_eq!(ages(&agent, "IPv6").0, 1.0);
    Ok(())
}

#[test]
fn ports_without_a_local_endpoint_are_counted_by_policy_and_family() {
    let mut agent = TestAgent::new();
    let counts = |agent: &TestAgent| {
        let count = |family, policy| {
            let labels = [("ip_family", family), ("traffic_policy", policy)];
            agent.value("sync_proxy_rules_no_local_endpoints_total", &labels)
        };
        [
            count("IPv4", "internal"),
            count("IPv4", "external"),
            count("IPv6", "internal"),
            count("IPv6", "external"),
        ]
    };
    let local = json!({"type": "NodePort", "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]});
    agent.apply(service("web", &local));
    assert_eq!(counts(&agent), [0.0; 4], "it has no endpoints at all");
    agent.apply(Change::EndpointSlice(slice("web", "10.0.0.1", "there")));
    assert_eq!(
        counts(&agent),
        [2.0, 2.0, 0.0, 0.0],
        "two ports, one Service"
    );
    agent.apply(Change::EndpointSlice(slice("web", "fd01::1", "there")));
    assert_eq!(counts(&agent), [2.0; 4]);
    agent.apply(Change::EndpointSlice(slice("web", "10.0.0.2", "here")));
    assert_eq!(counts(&agent), [0.0, 0.0, 2.0, 2.0]);
    // The external policy means nothing where nothing comes from outside.
    agent.apply(service(
        "web",
        &json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
    ));
    assert_eq!(counts(&agent), [0.0, 0.0, 2.0, 0.0]);
    agent.apply(Change::ServiceGone(ObjectName::new("n", "web")));
    assert_eq!(counts(&agent), [0.0; 4]);
}

#[test]
fn refusals_are_counted_by_reason() {
    let mut agent = TestAgent::new();
    agent.apply(service(
        "web",
        &json!({"externalIPs": ["198.51.100.1", "198.51.100.2"]}),
    ));
    let refused = agent.exposition().value(
        "proxy_agent_service_warnings_total",
        &[("reason", "ExternalIpNotAllowed")],
    );
    assert_eq!(refused, Some(2.0));
    let reasons: Vec<_> = agent
        .agent
        .take_events()
        .iter()
        .map(|event| event.reason)
        .collect();
    assert_eq!(reasons, ["ExternalIpNotAllowed"; 2]);
}
