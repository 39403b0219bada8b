//! What the agent tells of its health.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{
    Agent, Cluster, Family, Manifests, Namespace, Options, PodNetwork, addresses,
};
use serde_json::Value;

use crate::world::{World, agent_program};

/// Status and body of a GET by curl.
pub(crate) fn get(from: &Namespace, url: &str) -> Result<(u16, String)> {
    let mut curl = from.command("curl");
    curl.args([
        "-sg",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        "-w",
        "\n%{http_code}",
    ]);
    let output = curl.arg(url).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (body, code) = text.rsplit_once('\n').context("curl's status line")?;
    Ok((code.parse()?, body.to_owned()))
}

/// Whether an agent answers the question of `proxy-agent probe` with yes, and what it says.
pub(crate) fn probe(program: &Path, question: &str, socket: &str) -> Result<(bool, String)> {
    let mut command = Command::new(program);
    command.args(["probe", question, "--socket", socket]);
    let output = command.output()?;
    Ok((output.status.success(), String::from_utf8(output.stdout)?))
}

#[test]
fn health_tells_load_balancers_whether_the_node_should_get_traffic() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let outside = &world.cluster.client;
    let url = |path: &str| format!("http://{}:10256/{path}", addresses::node(1).of(Family::V4));
    let (code, body) = get(outside, &url("healthz"))?;
    let body: Value = serde_json::from_str(&body)?;
    assert_eq!(
        (code, &body["healthy"]),
        (200, &Value::Bool(true)),
        "{body}"
    );
    assert_eq!(body["nodeEligible"], true);

    // The autoscaler marks the node: it drains, and is not restarted.
    let nodes = world.manifests.read("nodes")?;
    let mark = "spec:\n  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]\n";
    let marked = nodes.replacen("spec:\n", mark, 1);
    assert_ne!(nodes, marked);
    world.manifests.write("nodes", &marked)?;
    while get(outside, &url("healthz"))?.0 != 503 {}
    assert_eq!(get(outside, &url("livez"))?.0, 200);
    Ok(())
}

#[test]
fn a_port_that_is_taken_at_the_start_is_had_once_it_is_free() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    let node = &cluster.nodes[0];
    let occupant = node
        .namespace
        .run(|| TcpListener::bind("0.0.0.0:10256"))??;
    let socket = cluster.directory.path().join("probe.sock");
    let socket = socket.to_string_lossy();
    let arguments = ["--probe-socket", &socket];
    let agent = Agent::start_with(&agent_program(), node, manifests.path(), &arguments)?;
    agent.wait_for(0, |event| {
        let message = event["fields"]["message"].as_str().unwrap_or_default();
        event["fields"]["what"] == "health" && message.starts_with("cannot listen")
    })?;
    // Services are served all the same, and so is the other port.
    agent.wait_attached("veth3")?;
    // The occupant could not say that.
    let ready = (true, "ready\n".to_owned());
    while probe(&agent_program(), "ready", &socket)? != ready {}
    let get = |url: &str| get(&node.namespace, url);
    assert_eq!(get("http://127.0.0.1:10249/healthz")?.0, 200);
    drop(occupant);
    let freed = Instant::now();
    agent.wait_for(0, |event| {
        event["fields"]["what"] == "health" && event["fields"]["message"] == "listening"
    })?;
    // A load balancer that asks every second sees at most one failure.
    assert!(freed.elapsed() < Duration::from_secs(1));
    assert_eq!(get("http://127.0.0.1:10256/livez")?.0, 200);
    Ok(())
}
