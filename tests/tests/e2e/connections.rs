//! Connections that live longer than an endpoint set, and many at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Namespace, Pod, PodNetwork, Process};

use crate::world::{WEB_NODE_PORT, World, cluster_ip};

const TIMEOUT: Duration = Duration::from_secs(5);

/// An endpoint's HTTP server gets a connection that stays open.
#[test]
fn a_tcp_connection_outlives_its_endpoint() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(2, 1)])?;
    for (from, frontend) in [
        (
            &world.cluster.pod(1, 3).namespace,
            SocketAddr::new(cluster_ip("web", Family::V4), 80),
        ),
        (
            &world.cluster.client,
            world.node_port(1, Family::V6, WEB_NODE_PORT),
        ),
    ] {
        let answer = from.run(|| -> Result<String> {
            let mut stream = TcpStream::connect_timeout(&frontend, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            world.scale("web", &[(1, 1)])?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        assert!(answer.ends_with("pod-2-1\n"), "{answer:?}");
        world.scale("web", &[(2, 1)])?;
    }
    Ok(())
}

/// Answers each datagram with the pod's name.
fn start_udp_echo(pod: &Pod, port: u16) -> Result<Process> {
    let program = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         s.bind(('::', {port}))\n\
         print('listening', flush=True)\n\
         while True:\n    d, a = s.recvfrom(2048)\n    s.sendto(b'{}', a)\n",
        pod.name
    );
    let mut command: Command = pod.namespace.command("python3");
    command.args(["-u", "-c", &program]);
    let server = Process::spawn(&format!("udp server of {}", pod.name), command)?;
    server.wait_for_line(TIMEOUT, |line| line == "listening")?;
    Ok(server)
}

/// A UDP Service beside the examples, at 10.96.0.77:7777.
const ECHO: &str = "
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default}
spec:
  clusterIP: 10.96.0.77
  clusterIPs: [10.96.0.77]
  ports: [{name: echo, port: 7777, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: echo-a
  namespace: default
  labels: {kubernetes.io/service-name: echo}
addressType: IPv4
ports: [{name: echo, port: 7777, protocol: UDP}]
endpoints: [{addresses: [ADDRESS]}]
";

#[test]
fn a_connected_udp_socket_moves_to_another_endpoint_with_its_next_datagram() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    let pods = [world.cluster.pod(1, 1), world.cluster.pod(2, 2)];
    let _servers = [
        start_udp_echo(pods[0], 7777)?,
        start_udp_echo(pods[1], 7777)?,
    ];
    let serve_by = |pod: &Pod| {
        let text = ECHO.replace("ADDRESS", &pod.addresses.of(Family::V4).to_string());
        world.after_programming(|| world.manifests.write("echo", &text))
    };
    world.cluster.pod(1, 3).namespace.run(|| -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect("10.96.0.77:7777")?;
        for pod in [pods[0], pods[1], pods[0]] {
            serve_by(pod)?;
            assert_eq!(ask(&socket)?, pod.name);
        }
        Ok(())
    })?
}

fn ask(socket: &UdpSocket) -> Result<String> {
    let mut buffer = [0; 64];
    socket.send(b"who")?;
    let len = socket.recv(&mut buffer).context("no answer")?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

/// iperf3's throughput in bits a second, through a Service that it is behind.
fn iperf3(from: &Namespace, frontend: SocketAddr, more: &[&str]) -> Result<f64> {
    let mut command = from.command("iperf3");
    command.args(["-c", &frontend.ip().to_string()]);
    command.args(["-p", &frontend.port().to_string(), "-t", "1", "-J"]);
    let output = command.args(more).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success(), "iperf3: {}", report["error"]);
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .context("no throughput in iperf3's report")
}

/// Puts a server of iperf3 in the place of the Service `web`'s one endpoint.
pub(crate) fn serve_iperf3(world: &World, pod: (usize, usize)) -> Result<Process> {
    let backend = world.cluster.pod(pod.0, pod.1);
    let mut command = backend.namespace.command("iperf3");
    command.args(["-s", "-p", "8081", "--forceflush"]);
    let server = Process::spawn("iperf3 server", command)?;
    server.wait_for_line(TIMEOUT, |line| line.contains("listening"))?;
    // The Service's target port becomes iperf3's.
    world.after_programming(|| {
        let slices = world.manifests.read("web-endpoints")?;
        let slices = slices.replace("port: 8080", "port: 8081");
        world.manifests.write("web-endpoints", &slices)
    })?;
    world.scale("web", &[pod])?;
    Ok(server)
}

#[test]
fn bulk_traffic_flows_both_ways() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let server = serve_iperf3(&world, (2, 1))?;
    for (from, frontend) in [
        (
            &world.cluster.pod(1, 3).namespace,
            SocketAddr::new(cluster_ip("web", Family::V4), 80),
        ),
        (
            &world.cluster.client,
            world.node_port(1, Family::V6, WEB_NODE_PORT),
        ),
    ] {
        for direction in [&[] as &[&str], &["-R"]] {
            check_bulk(&server, from, frontend, direction)?;
        }
    }
    Ok(())
}

/// Runs iperf3, and waits until its server is free again: it does one test at a time.
pub(crate) fn check_bulk(
    server: &Process,
    from: &Namespace,
    frontend: SocketAddr,
    direction: &[&str],
) -> Result<()> {
    let mark = server.mark();
    let throughput = iperf3(from, frontend, direction)?;
    println!("{frontend} {direction:?}: {:.2} Gbit/s", throughput / 1e9);
    assert!(throughput > 1e6, "next to nothing arrived");
    server.wait_for_line_after(mark, TIMEOUT, |line| line.contains("listening"))?;
    Ok(())
}

#[test]
fn a_burst_of_connections_from_one_client_all_succeed() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(2, 1), (2, 2)])?;
    let frontend = world.node_port(1, Family::V4, WEB_NODE_PORT);
    let failures = world.cluster.client.run(|| {
        (0..600)
            .filter_map(|_| proxy_tests::lab::load::ask(frontend).err())
            .map(|error| format!("{error:#}"))
            .collect::<Vec<_>>()
    })?;
    assert_eq!(failures, Vec::<String>::new());
    Ok(())
}
