//! What a change costs the kernel: calls of bpf(2), counted by strace.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proxy_tests::lab::{PodNetwork, Process};

use crate::world::World;

/// Until strace has stopped and traced each thread, or has let go of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Service with one port, in one family.
fn service(endpoint: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: one, namespace: default}}
spec: {{clusterIP: 10.96.0.99, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: one, namespace: default, labels: {{kubernetes.io/service-name: one}}}}
addressType: IPv4
ports: [{{name: \"\", port: 8080, protocol: TCP}}]
endpoints:
  - {{addresses: [10.244.1.1], conditions: {{ready: true}}}}
  - {{addresses: [{endpoint}], conditions: {{ready: true}}}}
"
    )
}

/// Runs `change` while strace writes down which calls of bpf(2) an agent makes.
fn calls_of(world: &World, change: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
    let trace = world.cluster.directory.path().join("trace");
    let agent = world.agents[0].id().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=bpf", "-p", &agent, "-o"]);
    strace.arg(&trace);
    let strace = Process::spawn("strace", strace)?;
    strace.wait_for_line(PATIENCE, |line| line.contains("attached"))?;
    change()?;
    // It ends by the signal, with its trace written.
    strace.terminate(PATIENCE)?;
    let trace = fs::read_to_string(&trace).context("the trace")?;
    Ok(trace.lines().map(ToOwned::to_owned).collect())
}

#[test]
fn one_changed_endpoint_costs_one_call_of_bpf() -> Result<()> {
    // Where endpoints are avoided, counters are read ten times a second.
    let world = World::with_arguments(PodNetwork::Bridge, &["--unanswered=retry"])?;
    let write =
        |endpoint| world.after_programming(|| world.manifests.write("one", &service(endpoint)));
    write("10.244.1.2")?;
    let calls = calls_of(&world, || write("10.244.1.3"))?;
    // The frontend. Slots and backends are written to memory that the kernel shares.
    let of_maps: Vec<_> = calls
        .iter()
        .filter(|call| call.contains("BPF_MAP_"))
        .collect();
    assert_eq!(of_maps.len(), 1, "{calls:#?}");
    assert!(of_maps[0].contains("BPF_MAP_UPDATE_ELEM"), "{calls:#?}");
    Ok(())
}
