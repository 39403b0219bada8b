//! What objects cost that ask for too much: the agent's time and memory, and whether another
//! Service has to wait.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use proxy_tests::lab::{Agent, Cluster, Manifests};
use serde_json::{Value, json};

use super::{
    memory::{Memory, in_mebibytes},
    nodes,
};
use crate::terminal;

/// How much the objects ask for.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Services that find no room in the maps
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    services: u32,
    /// Measure this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
}

/// How long the objects may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Frontends that the maps hold in the cases without room.
const LITTLE_ROOM: u32 = 1000;

/// Objects that ask for much, and an agent for which it is too much.
struct Case {
    name: String,
    arguments: Vec<String>,
    objects: Vec<Value>,
}

/// What was found.
struct Found {
    took: Duration,
    before: Memory,
    after: Memory,
    other_took: Duration,
}

/// Measures, and prints a table.
pub(super) fn run(arguments: &LimitsArgs, program: &Path) -> Result<()> {
    terminal::heading("Limits");
    let (cluster, manifests) = nodes::lay_out(1)?;
    println!(
        "  {:<54} {:>10} {:>12} {:>12} {:>12} {:>14}",
        "", "took", "RSS before", "after", "at most", "another change"
    );
    for case in cases(arguments.services) {
        let found = measure(&cluster, &manifests, program, &case);
        print_row(&case.name, &found.with_context(|| case.name.clone())?);
    }
    Ok(())
}

fn cases(services: u32) -> Vec<Case> {
    let many: Vec<_> = (0..services)
        .map(|number| service(number, &[], 1))
        .collect();
    let forbidden: Vec<_> = (0..2000_u32).map(|it| address([203, 0], it)).collect();
    let room = |frontends: u32| vec![format!("--map-frontends={frontends}")];
    vec![
        Case {
            name: "a Service of 2,000 ports and 2,000 forbidden IPs".to_owned(),
            arguments: Vec::new(),
            objects: vec![service(0, &forbidden, 2000)],
        },
        Case {
            name: "4,000 Services that want one forbidden IP".to_owned(),
            arguments: Vec::new(),
            objects: (0..4000)
                .map(|number| service(number, &forbidden[..1], 1))
                .collect(),
        },
        Case {
            name: format!("{services} Services, and room for all"),
            arguments: room(services.saturating_mul(2)),
            objects: many.clone(),
        },
        Case {
            name: format!("{services} Services, and room for {LITTLE_ROOM}"),
            arguments: room(LITTLE_ROOM),
            objects: many,
        },
    ]
}

/// An address, by its number, below the first two bytes of one.
fn address([first, second]: [u8; 2], number: u32) -> String {
    let [.., third, fourth] = number.to_be_bytes();
    format!("{first}.{second}.{third}.{fourth}")
}

fn service(number: u32, external_ips: &[String], ports: u32) -> Value {
    let ports = (1..=ports).map(|port| json!({"name": format!("p{port}"), "port": port}));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "many", "name": format!("s{number}")},
        "spec": {
            "clusterIP": address([10, 97], number),
            "ports": ports.collect::<Vec<_>>(),
            "externalIPs": external_ips,
        },
    })
}

/// A Service that is there before, with an endpoint.
fn other(endpoint: &str) -> Vec<Value> {
    let metadata = json!({
        "namespace": "other", "name": "other", "labels": {"kubernetes.io/service-name": "other"}
    });
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": "10.96.0.99", "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [endpoint], "conditions": {"ready": true}}],
        }),
    ]
}

fn measure(cluster: &Cluster, manifests: &Manifests, program: &Path, case: &Case) -> Result<Found> {
    let write = |name: &str, objects: &[Value]| {
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        manifests.write(name, &documents.join("\n---\n"))
    };
    write("other", &other("10.244.1.1"))?;
    let arguments: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
    let agent = Agent::start_with(program, &cluster.nodes[0], manifests.path(), &arguments)?;
    agent.wait_programmed()?;
    let before = Memory::of(agent.id())?;
    Memory::reset_peak(agent.id())?;
    let programmed = |change: &dyn Fn() -> Result<()>| -> Result<Duration> {
        let (mark, begun) = (agent.mark(), Instant::now());
        change()?;
        agent.wait_ports_programmed_within_after(mark, PATIENCE)?;
        Ok(begun.elapsed())
    };
    let took = programmed(&|| write("many", &case.objects))?;
    let other_took = programmed(&|| write("other", &other("10.244.1.2")))?;
    let after = Memory::of(agent.id())?;
    manifests.remove("many")?;
    Ok(Found {
        took,
        before,
        after,
        other_took,
    })
}

fn print_row(name: &str, found: &Found) {
    println!(
        "  {name:<54} {:>7.2} s {:>12} {:>12} {:>12} {:>11.1} ms",
        found.took.as_secs_f64(),
        in_mebibytes(found.before.resident),
        in_mebibytes(found.after.resident),
        in_mebibytes(found.after.peak),
        found.other_took.as_secs_f64() * 1000.0,
    );
}
