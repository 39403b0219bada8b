//! Whose sockets are served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Cgroup, Cluster, Family, Namespace, Options, PodNetwork, Process, client};

use super::ON;
use crate::metrics::{metrics, value};
use crate::world::{World, cluster_ip};

const PATIENCE: Duration = Duration::from_secs(5);

fn web() -> SocketAddr {
    SocketAddr::new(cluster_ip("web", Family::V4), 80)
}

/// Flows of packets that node1 has made.
fn flows(world: &World) -> Result<f64> {
    let host = &world.cluster.nodes[0].namespace;
    value(&metrics(host)?, "proxy_agent_flows_created_total", &[])
}

#[test]
fn host_only_leaves_pods_to_the_packet_path() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &["--socket-path", "host-only"])?;
    let [(_, host), (_, pod)] = world.host_and_pod();
    client::http(host, web())?;
    assert!(flows(&world)? < 1.0);
    client::http(pod, web())?;
    assert!(flows(&world)? > 0.0);
    Ok(())
}

#[test]
fn off_leaves_the_host_without_services() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &["--socket-path", "off"])?;
    let [(_, host), (_, pod)] = world.host_and_pod();
    assert!(client::http(host, web()).is_err());
    client::http(pod, web())?;
    Ok(())
}

#[test]
fn without_a_cgroup_packets_are_served_and_the_log_says_so() -> Result<()> {
    let elsewhere = ["--socket-path=on", "--cgroup=/nowhere"];
    let world = World::with_arguments(PodNetwork::Bridge, &elsewhere)?;
    world.agents[0].wait_for(0, |event| {
        let text = event["fields"]["message"].as_str().unwrap_or_default();
        event["level"] == "WARN" && text.contains("cannot open the cgroup /nowhere")
    })?;
    let [(_, host), (_, pod)] = world.host_and_pod();
    assert!(client::http(host, web()).is_err());
    client::http(pod, web())?;
    Ok(())
}

#[test]
fn sockets_are_served_once_their_cgroup_is_there() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let above = cluster.nodes[0].namespace.cgroup().context("no cgroup")?;
    let above = Arc::clone(above);
    let path = format!("--cgroup={}", above.path().join("late").display());
    let mut world = World::on(cluster, &["--socket-path=on", &path])?;
    assert!(client::http(&world.cluster.nodes[0].namespace, web()).is_err());

    let mark = world.agents[0].mark();
    let late = Arc::new(Cgroup::create_in(&above, "late")?);
    world.agents[0].wait_for(mark, |event| {
        event["fields"]["message"] == "socket path attached"
    })?;
    world.cluster.nodes[0].namespace.join(&late);
    client::http(&world.cluster.nodes[0].namespace, web())?;
    Ok(())
}

/// The id of a Pod that opts out.
const UID: &str = "6d0c9a52-7a0e-4b0c-9d2e-5f1b7c3a9e10";

/// A Pod of node1 that wants its sockets left alone.
const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: meshed
  namespace: default
  uid: 6d0c9a52-7a0e-4b0c-9d2e-5f1b7c3a9e10
  labels: {proxy-agent/socket-path: 'off'}
spec: {nodeName: node1, containers: []}
";

/// Makes a Pod's cgroup in a node's, as the kubelet does that drives systemd.
fn pod_cgroup(node: &Namespace, name: &str) -> Result<Arc<Cgroup>> {
    let above = node.cgroup().context("a node's cgroup")?;
    let kubepods = Cgroup::create_in(above, "kubepods.slice")?;
    Ok(Arc::new(Cgroup::create_in(&Arc::new(kubepods), name)?))
}

/// Waits until node1's agent leaves so many Pods' sockets alone.
fn wait_left_alone(world: &World, mark: usize, pods: u64) -> Result<()> {
    world.agents[0].wait_for(mark, |event| {
        let text = event["fields"]["message"].as_str().unwrap_or_default();
        text.starts_with("Pods opted out of the socket path") && event["fields"]["pods"] == pods
    })?;
    Ok(())
}

#[test]
fn a_pod_opts_out_by_a_label() -> Result<()> {
    let mut world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    let name = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let cgroup = pod_cgroup(&world.cluster.nodes[0].namespace, &name)?;
    world.cluster.nodes[0].pods[2].namespace.join(&cgroup);
    let pod = |world: &World| client::http(&world.cluster.pod(1, 3).namespace, web());
    let other = |world: &World| client::http(&world.cluster.pod(1, 1).namespace, web());
    pod(&world)?;
    assert!(flows(&world)? < 1.0);

    let mark = world.agents[0].mark();
    world.manifests.write("meshed", POD)?;
    wait_left_alone(&world, mark, 1)?;
    pod(&world)?;
    assert!(flows(&world)? > 0.0);
    let before = flows(&world)?;
    other(&world)?;
    assert!(flows(&world)? <= before, "only that Pod opted out");

    let mark = world.agents[0].mark();
    world.manifests.remove("meshed")?;
    wait_left_alone(&world, mark, 0)?;
    pod(&world)?;
    assert!(flows(&world)? <= before);
    Ok(())
}

#[test]
fn a_pod_may_opt_out_before_it_has_a_cgroup() -> Result<()> {
    let mut world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    let mark = world.agents[0].mark();
    world.manifests.write("meshed", POD)?;
    let cgroup = pod_cgroup(&world.cluster.nodes[0].namespace, &format!("pod{UID}"))?;
    wait_left_alone(&world, mark, 1)?;
    world.cluster.nodes[0].pods[2].namespace.join(&cgroup);
    client::http(&world.cluster.pod(1, 3).namespace, web())?;
    assert!(flows(&world)? > 0.0);
    Ok(())
}

/// What a sidecar does whose Pod's connections are redirected to it: it asks for their
/// destination.
const SIDECAR: &str = r#"
import socket, struct
listener = socket.create_server(("127.0.0.1", 15001))
print("sidecar started", flush=True)
while True:
    stream, _ = listener.accept()
    SO_ORIGINAL_DST = 80
    to = stream.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    _, port, address = struct.unpack("!HH4s8x", to)
    page = f"{socket.inet_ntoa(address)}:{port}\n".encode()
    stream.recv(1000)
    stream.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + page)
    stream.close()
"#;

#[test]
fn a_sidecar_sees_the_service_of_a_pod_that_opted_out() -> Result<()> {
    let mut world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    let cgroup = pod_cgroup(&world.cluster.nodes[0].namespace, &format!("pod{UID}"))?;
    world.cluster.nodes[0].pods[2].namespace.join(&cgroup);
    let pod = &world.cluster.pod(1, 3).namespace;
    let rules = "add table ip mesh; \
        add chain ip mesh out { type nat hook output priority -100; }; \
        add rule ip mesh out ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :15001";
    let added = pod.command("nft").arg(rules).status()?;
    assert!(added.success(), "nft: {added}");
    let mut command = pod.command("python3");
    command.args(["-u", "-c", SIDECAR]);
    let sidecar = Process::spawn("a sidecar", command)?;
    sidecar.wait_for_line(PATIENCE, |line| line == "sidecar started")?;

    let endpoints = ["10.244.1.10:8080", "10.244.2.10:8080"];
    let seen = client::http(pod, web())?;
    assert!(endpoints.contains(&seen.as_str()), "{seen}");

    let mark = world.agents[0].mark();
    world.manifests.write("meshed", POD)?;
    wait_left_alone(&world, mark, 1)?;
    assert_eq!(client::http(pod, web())?, "10.96.0.10:80");
    Ok(())
}
