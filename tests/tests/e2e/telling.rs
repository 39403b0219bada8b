//! What the agent tells of itself: health and metrics.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Family, Namespace, PodNetwork, addresses, client};
use serde_json::Value;

use crate::world::{World, cluster_ip};

/// Status and body of a GET by curl.
fn get(from: &Namespace, url: &str) -> Result<(u16, String)> {
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

/// The value of a metric in the text of `/metrics`.
fn value(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_are_for_the_machine_itself_and_exact() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let node = &world.cluster.nodes[0].namespace;
    let metrics = || get(node, "http://127.0.0.1:10249/metrics").map(|(_, body)| body);
    let before = metrics()?;
    let made = "proxy_agent_packets_total{event=\"flows_made\"}";
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    for _ in 0..5 {
        client::http(&world.cluster.pod(1, 3).namespace, frontend)?;
    }
    let after = metrics()?;
    let flows = |text| value(text, made).context("the counter of flows");
    assert_eq!(flows(&after)? - flows(&before)?, 5);
    assert_eq!(value(&after, "proxy_agent_devices"), Some(4));
    // web, dns (UDP and TCP) and edge: one ClusterIP each, three NodePorts more
    // and one load balancer address.
    let entries = "proxy_agent_map_entries{map=\"FRONTENDS_V4\"}";
    assert_eq!(value(&after, entries), Some(9), "{after}");
    let proxy = get(node, "http://127.0.0.1:10249/proxyMode")?;
    assert_eq!(proxy, (200, "ebpf".to_owned()));

    let from_outside = format!("http://{}:10249/metrics", addresses::node(1).of(Family::V4));
    assert_eq!(get(&world.cluster.client, &from_outside)?.0, 0, "no answer");
    Ok(())
}
