//! Cases: objects in, the desired state out.
//!
//! ```text
//! ## the name of a case
//! # allow: 198.51.100.0/24             ranges of external IPs, where needed
//! --- Service                          apiVersion and kind are filled in
//! metadata: {name: a}
//! spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}]}
//! =>
//! a:http/TCP/4 = 10.1.0.1:80 -> 10.0.0.1:8080/cl@
//! ! default/a: what is refused, and why
//! then
//! # gone: Service a                    what happens next: objects that go,
//! --- Service                          come or change
//! ...
//! =>
//! what there is now
//! ```
//!
//! A line of the outcome has a port's frontends and its endpoints. An endpoint
//! is marked `c` where it is in the cluster set, `l` in the local set, and `@`
//! where it is local. Policies, affinity, source ranges and weights are shown where they
//! are not the default.
//!
//! This node is `here`, in the zone `z1`, with the address 10.2.0.1, where the
//! case has no Node of its own.

use std::collections::BTreeMap;
use std::fmt::Write;

use proxy_agent::model::desired::{DesiredPort, FrontendKind, PortName};
use proxy_agent::model::object::{
    Algorithm, Change, Family, Forwarding, ObjectName, TrafficPolicy,
};
use proxy_agent::model::{Model, ModelSettings};
use proxy_agent::source::files::document::{Format, parse as parse_document};
use proxy_agent::source::files::object::{Key, take};

const NODE: &str = "\n--- Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: z1}}\n\
    status: {addresses: [{type: InternalIP, address: 10.2.0.1}]}\n";

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    name: String,
    steps: Vec<Step>,
}

/// What happens, and the outcome.
#[derive(Debug)]
struct Step {
    objects: String,
    expected: Vec<String>,
}

/// The cases of a text.
pub(crate) fn parse(text: &str) -> Vec<Case> {
    text.split("\n## ")
        .skip(1)
        .map(|case| {
            let (name, body) = case.split_once('\n').expect("a case has a body");
            Case {
                name: name.to_owned(),
                steps: body.split("\nthen\n").map(Step::parse).collect(),
            }
        })
        .collect()
}

impl Step {
    fn parse(text: &str) -> Self {
        let (objects, expected) = text.split_once("=>").expect("a step has an outcome");
        Self {
            objects: format!("\n{objects}"),
            expected: lines(expected),
        }
    }

    /// What its objects say, and the objects that go.
    fn changes(&self) -> Vec<(Key, Option<Change>)> {
        let yaml = self
            .objects
            .replace("\n--- Service\n", "\n---\napiVersion: v1\nkind: Service\n")
            .replace("\n--- Node\n", "\n---\napiVersion: v1\nkind: Node\n")
            .replace(
                "\n--- EndpointSlice\n",
                "\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n",
            );
        let document =
            parse_document(&yaml, Format::Yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        assert!(document.ignored.is_empty(), "{:?}", document.ignored);
        let gone = self.remarks("gone").map(|object| {
            let (kind, name) = object.split_once(' ').unwrap_or((object, ""));
            let name = ObjectName::new("default", name);
            let key = match kind {
                "Service" => Key::Service(name),
                "EndpointSlice" => Key::EndpointSlice(name),
                "Node" => Key::Node,
                _ => panic!("no kind {kind}"),
            };
            (key, None)
        });
        let here = document
            .objects
            .into_iter()
            .filter_map(|object| take(object, "here"));
        gone.chain(here).collect()
    }

    fn remarks(&self, what: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("# {what}: ");
        self.objects
            .lines()
            .filter_map(move |line| line.strip_prefix(&prefix))
    }
}

impl Case {
    /// A case of one step.
    pub(crate) fn new(name: String, objects: String, expected: &str) -> Self {
        let expected = lines(expected);
        let steps = vec![Step { objects, expected }];
        Self { name, steps }
    }

    /// Runs it step by step; then its last objects at once, forth and back.
    pub(crate) fn run(&self) -> Result<(), String> {
        let mut now = BTreeMap::new();
        let mut model = self.model();
        let mut seen = BTreeMap::new();
        for (number, step) in (1..).zip(&self.steps) {
            let mut changes = step.changes();
            if number == 1 && !changes.iter().any(|(key, _)| *key == Key::Node) {
                let objects = NODE.to_owned();
                let expected = Vec::new();
                changes.extend(Step { objects, expected }.changes());
            }
            for (key, change) in changes {
                model.apply(change.clone().unwrap_or_else(|| key.gone()));
                now.insert(key, change);
            }
            for (port, desired) in model.take_changes() {
                match desired {
                    Some(desired) => seen.insert(port, desired),
                    None => seen.remove(&port),
                };
            }
            let all: BTreeMap<_, _> = model.desired().collect();
            if seen != all {
                return Err(self.failure(number, "the changes do not add up", &[], &[]));
            }
            let found = outcome(&model);
            if found != step.expected {
                return Err(self.failure(number, "", &step.expected, &found));
            }
        }
        let mut last: Vec<_> = now.into_values().flatten().collect();
        for direction in ["forth", "back"] {
            let mut model = self.model();
            for change in &last {
                model.apply(change.clone());
            }
            let found = outcome(&model);
            let expected = &self.steps[self.steps.len() - 1].expected;
            if found != *expected {
                let how = format!("all at once, {direction}");
                return Err(self.failure(0, &how, expected, &found));
            }
            last.reverse();
        }
        Ok(())
    }

    fn model(&self) -> Model {
        let allowed = self.steps[0].remarks("allow");
        let settings = ModelSettings {
            external_ips: allowed
                .map(|range| range.parse().expect("a range"))
                .collect(),
            ..ModelSettings::default()
        };
        let mut model = Model::new("here", settings);
        model.apply(Change::ServicesListed);
        model.apply(Change::EndpointSlicesListed);
        model
    }

    fn failure(&self, step: u32, what: &str, expected: &[String], found: &[String]) -> String {
        format!(
            "## {} (step {step}) {what}\nexpected\n  {}\nfound\n  {}\n",
            self.name,
            expected.join("\n  "),
            found.join("\n  ")
        )
    }
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn outcome(model: &Model) -> Vec<String> {
    let ports: BTreeMap<_, _> = model.desired().collect();
    let mut warnings: Vec<_> = model.warnings().collect();
    warnings.sort();
    let warnings = warnings
        .into_iter()
        .map(|refusal| format!("! {}: {}", refusal.service, refusal.reason));
    ports
        .iter()
        .map(|(name, port)| line(name, port))
        .chain(warnings)
        .collect()
}

fn line(name: &PortName, port: &DesiredPort) -> String {
    let family = match name.family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let name = name.to_string();
    let name = name.strip_prefix("default/").unwrap_or(&name);
    let mut line = format!("{name}/{family} =");
    for frontend in &port.frontends {
        let address = std::net::SocketAddr::new(frontend.address, frontend.port);
        let _ = match frontend.kind {
            FrontendKind::ClusterIp => write!(line, " {address}"),
            FrontendKind::LoadBalancer => write!(line, " lb:{address}"),
            FrontendKind::ExternalIp => write!(line, " external:{address}"),
            FrontendKind::NodePort => write!(line, " node:{address}"),
            FrontendKind::LeftToHost => write!(line, " host:{address}"),
        };
    }
    line += " ->";
    for (position, endpoint) in port.endpoints.iter().enumerate() {
        let address = std::net::SocketAddr::new(endpoint.address, endpoint.port);
        let mark = |is_there, mark| if is_there { mark } else { "" };
        let _ = write!(
            line,
            " {address}/{}{}{}",
            mark(port.cluster.contains(&position), "c"),
            mark(port.local.contains(&position), "l"),
            mark(endpoint.local, "@"),
        );
    }
    if port.internal_policy == TrafficPolicy::Local {
        line += " internal=Local";
    }
    if port.external_policy == TrafficPolicy::Local {
        line += " external=Local";
    }
    if let Some(ranges) = &port.source_ranges {
        let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        let _ = write!(line, " from={}", ranges.join(","));
    }
    if let Some(seconds) = port.affinity {
        let _ = write!(line, " affinity={seconds}");
    }
    if port.algorithm != Algorithm::Random {
        let _ = write!(line, " {}", port.algorithm.name());
    }
    if !port.weights.is_empty() {
        let weights: Vec<_> = port.weights.iter().map(|it| it.get().to_string()).collect();
        let _ = write!(line, " weights={}", weights.join(","));
    }
    if port.forwarding != Forwarding::Snat {
        let _ = write!(line, " {}", port.forwarding.name());
    }
    if let Some(unanswered) = port.unanswered {
        let _ = write!(line, " unanswered={}", unanswered.name());
    }
    line
}
