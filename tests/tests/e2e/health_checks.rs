//! Health checks by node port, as load balancers ask for them.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Namespace, PodNetwork};
use serde_json::json;

use crate::world::World;

/// `healthCheckNodePort` of the Service `edge`.
const EDGE_CHECK: u16 = 30082;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a health check said.
#[derive(Debug, PartialEq)]
struct Answer {
    code: u16,
    head: String,
    body: serde_json::Value,
}

/// Asks by curl, with more arguments; an error where nobody answers.
fn ask(from: &Namespace, address: SocketAddr, arguments: &[&str], path: &str) -> Result<Answer> {
    let mut curl = from.command("curl");
    curl.args(["-sig", "--noproxy", "*", "--max-time", "5"]);
    curl.args(arguments).arg(format!("http://{address}{path}"));
    let output = curl.output()?;
    ensure!(output.status.success(), "curl: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let (head, body) = text.split_once("\r\n\r\n").context("a head")?;
    let code = head.split(' ').nth(1).context("a status")?;
    Ok(Answer {
        code: code.parse()?,
        head: head.to_lowercase(),
        body: serde_json::from_str(body)?,
    })
}

/// Code and number of endpoints.
fn state(from: &Namespace, address: SocketAddr) -> Result<(u16, u64)> {
    let answer = ask(from, address, &[], "/")?;
    let count = answer.body["localEndpoints"].as_u64().context("a count")?;
    Ok((answer.code, count))
}

/// Asks until the answer is as wanted.
fn until(wanted: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !wanted() {
        ensure!(Instant::now() < deadline, "it never became so");
    }
    Ok(())
}

#[test]
fn a_balancer_learns_which_nodes_have_endpoints_and_how_many() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let outside = &world.cluster.client;
    for family in Family::BOTH {
        let at = |node| world.node_port(node, family, EDGE_CHECK);
        assert_eq!(state(outside, at(1))?, (503, 0));
        let answer = ask(outside, at(2), &["-X", "PUT"], "/any/path?at=all")?;
        assert_eq!(answer.code, 200);
        for header in [
            "content-type: application/json\r\n",
            "x-content-type-options: nosniff\r\n",
            "x-load-balancing-endpoint-weight: 1\r\n",
        ] {
            assert!(answer.head.contains(header), "{header}: {}", answer.head);
        }
        assert_eq!(
            answer.body,
            json!({
                "service": {"namespace": "default", "name": "edge"},
                "localEndpoints": 1, "serviceProxyHealthy": true,
            })
        );
    }
    world.scale("edge", &[(1, 1), (1, 2), (2, 3)])?;
    for family in Family::BOTH {
        let at = |node| world.node_port(node, family, EDGE_CHECK);
        until(|| state(outside, at(1)).is_ok_and(|state| state == (200, 2)))?;
        until(|| state(outside, at(2)).is_ok_and(|state| state == (200, 1)))?;
    }
    Ok(())
}

#[test]
fn a_health_check_moves_and_goes_with_its_service() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let outside = &world.cluster.client;
    let at = |port| world.node_port(2, Family::V4, port);
    let edge = world.manifests.read("edge")?;
    let moved = edge.replace("healthCheckNodePort: 30082", "healthCheckNodePort: 30099");
    world.manifests.write("edge", &moved)?;
    until(|| state(outside, at(30099)).is_ok())?;
    assert!(state(outside, at(EDGE_CHECK)).is_err());

    // Another Service has the port in the same moment in which this one loses it.
    let other = moved
        .replace("name: edge\n  labels", "name: other\n  labels")
        .replace("10.96.0.20", "10.96.0.21")
        .replace("fd00:10:96::20", "fd00:10:96::21")
        .replace("30081", "30091")
        .replace("192.0.2.20", "192.0.2.21")
        .replace("2001:db8::20", "2001:db8::21");
    world.manifests.write("edge", &other)?;
    until(|| {
        ask(outside, at(30099), &[], "/")
            .is_ok_and(|answer| answer.body["service"]["name"] == "other")
    })?;
    let cluster = other.replace("Policy: Local", "Policy: Cluster");
    world.manifests.write("edge", &cluster)?;
    until(|| state(outside, at(30099)).is_err())?;
    let log = world.agents[1].log();
    assert!(!log.iter().any(|line| line.contains("cannot answer")));
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_told_and_had_once_it_is_free() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let outside = &world.cluster.client;
    let at = |family| world.node_port(2, family, 30098);
    let node = &world.cluster.nodes[1].namespace;
    let squatter = node.run(|| TcpListener::bind(at(Family::V4)))??;
    let mark = world.agents[1].mark();
    let edge = world.manifests.read("edge")?;
    let moved = edge.replace("healthCheckNodePort: 30082", "healthCheckNodePort: 30098");
    world.manifests.write("edge", &moved)?;
    let told = world.agents[1].wait_for(mark, |event| {
        let message = event["fields"]["message"].as_str().unwrap_or_default();
        message.contains("cannot answer the health check")
    })?;
    assert_eq!(told["fields"]["service"], "default/edge");
    // The other family and the other node are not concerned.
    until(|| state(outside, at(Family::V6)).is_ok())?;
    until(|| state(outside, world.node_port(1, Family::V4, 30098)).is_ok())?;

    drop(squatter);
    until(|| state(outside, at(Family::V4)).is_ok_and(|state| state == (200, 1)))?;
    Ok(())
}

#[test]
fn a_limit_of_open_files_that_is_the_agents_to_raise_does_not_bind_it() -> Result<()> {
    // For this process, and so for those that it starts.
    let own = std::process::id().to_string();
    let lowered = Command::new("prlimit")
        .args(["--pid", &own, "--nofile=400:"])
        .status()?;
    assert!(lowered.success());
    let world = World::new(PodNetwork::Bridge)?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.agents[0].id()))?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = line.context("a limit")?.split_whitespace().collect();
    assert_eq!(numbers[3], numbers[4], "{limits}");
    assert_ne!(numbers[3], "400");
    Ok(())
}
