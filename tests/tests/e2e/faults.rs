//! Manifests that are wrong and are put right, and how an agent ends.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use proxy_tests::lab::{Agent, Cluster, Family, Manifests, Options, PodNetwork, Process, client};
use serde_json::Value;

use crate::world::{WEB_NODE_PORT, World, agent_program, cluster_ip};

const TIMEOUT: Duration = Duration::from_secs(10);

fn message(event: &Value) -> &str {
    event["fields"]["message"].as_str().unwrap_or_default()
}

/// A Service with the address 10.96.0.90, and pod-1-1's HTTP server behind it.
fn extra(cluster_ip: &str, port: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: extra, namespace: default}}
spec:
  clusterIP: {cluster_ip}
  clusterIPs: [{cluster_ip}]
  ports: [{{name: http, protocol: TCP, port: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: extra-4, namespace: default, labels: {{kubernetes.io/service-name: extra}}}}
addressType: IPv4
ports: [{{name: http, protocol: TCP, port: 8080}}]
endpoints: [{{addresses: [10.244.1.10], nodeName: node1}}]
"
    )
}

#[test]
fn a_refused_service_is_served_once_it_is_put_right() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let from = &world.cluster.pod(2, 3).namespace;
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    for (address, port) in [
        ("10.96.0.999", "80"),
        ("10.96.0.90", "0"),
        ("10.96.0.90", "65536"),
        ("10.96.0.90", "-1"),
    ] {
        let mark = world.agents[1].mark();
        world.manifests.write("extra", &extra(address, port))?;
        let refused = world.agents[1]
            .wait_for(mark, |event| event["fields"]["service"] == "default/extra")
            .unwrap();
        let wrong = if port == "80" { address } else { port };
        assert!(message(&refused).contains(wrong), "{refused}");
        client::http(from, web).unwrap();

        world.after_programming(|| world.manifests.write("extra", &extra("10.96.0.90", "80")))?;
        let served = client::http(from, "10.96.0.90:80".parse()?).unwrap();
        assert_eq!(served, "pod-1-1");
    }
    Ok(())
}

#[test]
fn a_port_that_is_no_number_breaks_its_file_only() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let mark = world.agents[0].mark();
    world
        .manifests
        .write("extra", &extra("10.96.0.90", "eighty"))?;
    let broken = world.agents[0]
        .wait_for(mark, |event| message(event).contains("extra.yaml"))
        .unwrap();
    assert_eq!(broken["level"], "WARN");
    assert!(message(&broken).contains("line 7"), "{broken}");
    assert!(message(&broken).contains("invalid"), "{broken}");
    world.scale("web", &[(2, 2)])?;
    let web = SocketAddr::new(cluster_ip("web", Family::V6), 80);
    let answered = client::http(&world.cluster.pod(1, 3).namespace, web).unwrap();
    assert_eq!(answered, "pod-2-2");
    Ok(())
}

#[test]
fn broken_endpoints_keep_the_last_good_ones_until_they_are_mended() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(1, 2)])?;
    let mark = world.agents[0].mark();
    let good = world.manifests.read("web-endpoints")?;
    let cut = good.rfind("nodeName").unwrap_or_default();
    world.manifests.write("web-endpoints", &good[..cut + 4])?;
    let broken = world.agents[0]
        .wait_for(mark, |event| message(event).contains("web-endpoints.yaml"))
        .unwrap();
    assert!(message(&broken).contains("line "), "{broken}");
    let outside = &world.cluster.client;
    for family in Family::BOTH {
        let node_port = world.node_port(1, family, WEB_NODE_PORT);
        assert_eq!(client::http(outside, node_port).unwrap(), "pod-1-2");
    }
    let mark = world.agents[0].mark();
    world.manifests.write("web-endpoints", &good)?;
    world.agents[0]
        .wait_for(mark, |event| {
            message(event).contains("web-endpoints.yaml") && event["level"] == "INFO"
        })
        .unwrap();
    world.scale("web", &[(2, 1)])?;
    let node_port = world.node_port(1, Family::V4, WEB_NODE_PORT);
    assert_eq!(client::http(outside, node_port).unwrap(), "pod-2-1");
    Ok(())
}

#[test]
fn a_file_that_is_broken_at_the_start_holds_up_no_other() -> Result<()> {
    let mut world = World::new(PodNetwork::Bridge)?;
    world.agents.remove(0).stop()?;
    world.manifests.write("dns", "kind: Service\n  spec: {\n")?;
    let node = &world.cluster.nodes[0];
    let agent = Agent::start(&agent_program(), node, world.manifests.path())?;
    agent.wait_for(0, |event| message(event).contains("dns.yaml"))?;
    agent.wait_programmed()?;
    agent.wait_attached("veth3")?;
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let answered = client::http(&world.cluster.pod(1, 3).namespace, web);
    assert!(answered.is_ok(), "{answered:?}\n{}", agent.log().join("\n"));
    Ok(())
}

/// Runs the agent until it ends by itself: its exit status and output.
fn run_to_its_end(cluster: &Cluster, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = cluster.nodes[0].namespace.command(agent_program());
    command
        .args(["run", "--node-name", "node1"])
        .args(arguments);
    let mut process = Process::spawn("proxy-agent", command)?;
    let status = process.wait(TIMEOUT)?;
    Ok((status.code(), process.lines().join("\n")))
}

#[test]
fn a_setting_that_no_machine_can_meet_is_wrong_usage_and_named() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    let folder = manifests.path().to_string_lossy().into_owned();
    for (option, value) in [
        ("--map-frontends", "4000000000"),
        ("--map-slots", "0"),
        ("--nat-ports", "65535-61000"),
        ("--attach", "xdp"),
    ] {
        let arguments = ["--source", "files", "--manifests", &folder, option, value];
        let (status, output) = run_to_its_end(&cluster, &arguments)?;
        assert_eq!(status, Some(2), "{output}");
        assert!(
            output.contains(option) && output.contains(value),
            "{output}"
        );
    }
    Ok(())
}

#[test]
fn an_interrupt_ends_the_agent_well_and_leaves_no_filter_behind() -> Result<()> {
    // Unlike tcx links, filters do not go with the process that made them.
    let mut world = World::with_arguments(PodNetwork::Routed, &["--attach", "clsact"])?;
    let agent = world.agents.remove(0);
    let programs = || -> Result<String> {
        let node = &world.cluster.nodes[0].namespace;
        let mut bpftool: Command = node.command("bpftool");
        let output = bpftool.args(["-j", "net"]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    assert!(programs()?.contains("veth3"), "{}", programs()?);
    let id = agent.id().to_string();
    Command::new("kill").args(["-INT", &id]).status()?;
    agent.wait_for(0, |event| message(event).starts_with("stopped"))?;
    assert_eq!(agent.stop()?.code(), Some(0));
    assert!(!programs()?.contains("veth3"), "{}", programs()?);

    // The other node serves on.
    let other = world.node_port(2, Family::V4, WEB_NODE_PORT);
    world
        .cluster
        .client
        .run(|| TcpStream::connect_timeout(&other, TIMEOUT))??;
    Ok(())
}
