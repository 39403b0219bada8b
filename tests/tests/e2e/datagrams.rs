//! Datagrams of the greatest length, which travel in some forty fragments each way, and those
//! that the kernel cuts out of one buffer.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Namespace, Pod, PodNetwork, Process, mirror};

use crate::world::World;

const LENGTH: usize = 65_000;
const PATIENCE: Duration = Duration::from_secs(5);
const STARTED: &str = "echo started";

/// Sends back what it gets, from the mirror's port.
const SERVER: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", int(sys.argv[1])))
print("echo started")
while True:
    server.sendto(*server.recvfrom(65536))
"#;

fn start(pod: &Pod) -> Result<Process> {
    let mut command = pod.namespace.command("python3");
    command.args(["-u", "-c", SERVER, &mirror::PORT.to_string()]);
    let server = Process::spawn(&format!("echo of {}", pod.name), command)?;
    server.wait_for_line(PATIENCE, |line| line == STARTED)?;
    Ok(server)
}

/// That long datagrams come back as they were, several on one socket.
fn come_back(from: &Namespace, to: SocketAddr) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let talk = move || -> Result<()> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        for number in 0..5_u8 {
            let sent: Vec<u8> = (number..=u8::MAX).cycle().take(LENGTH).collect();
            socket.send(&sent).context("send")?;
            let mut received = vec![0; LENGTH + 1];
            let length = socket.recv(&mut received).context("receive")?;
            ensure!(received[..length] == sent, "another datagram came back");
        }
        Ok(())
    };
    from.run(talk)?
        .with_context(|| format!("from {} to {to}", from.name()))
}

#[test]
fn of_the_greatest_length_come_back_by_every_frontend() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let world = World::new(network)?;
        let (near, far) = (world.cluster.pod(1, 1), world.cluster.pod(2, 1));
        let _servers = [start(near)?, start(far)?];
        world.after_programming(|| mirror::add(&world.manifests))?;
        for endpoint in [(1, 1), (2, 1)] {
            world.scale(mirror::NAME, &[endpoint])?;
            for family in Family::BOTH {
                let node_port = world.node_port(1, family, mirror::NODE_PORT);
                come_back(&world.cluster.client, node_port)?;
                // The endpoint of this node is a client of its own as well.
                for client in [near, world.cluster.pod(1, 2)] {
                    come_back(&client.namespace, mirror::cluster_ip(family))?;
                    come_back(&client.namespace, node_port)?;
                }
            }
        }
    }
    Ok(())
}

/// Sends datagrams that fill the way's 1500 bytes, in one buffer, and tells whether they come
/// back.
const SEGMENTS: &str = r#"
import socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
it = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
it.settimeout(5)
it.connect((host, port))
UDP_SEGMENT = 103
it.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
sent = [bytes([0xf0 + number]) * size for number in range(4)]
it.send(b"".join(sent))
print(sorted(it.recv(65536) for _ in sent) == sent)
"#;

#[test]
fn in_one_buffer_are_sent_on_where_each_fits() -> Result<()> {
    for (forwarding, outer) in [("snat", [0, 0]), ("dsr", [20, 40])] {
        let argument = format!("--forwarding={forwarding}");
        let world = World::with_arguments(PodNetwork::Routed, &[&argument])?;
        let _server = start(world.cluster.pod(2, 1))?;
        world.after_programming(|| mirror::add(&world.manifests))?;
        world.scale(mirror::NAME, &[(2, 1)])?;
        for ((family, headers), outer) in
            [(Family::V4, 28), (Family::V6, 48)].into_iter().zip(outer)
        {
            let to = world.node_port(1, family, mirror::NODE_PORT);
            let mut command = world.cluster.client.command("python3");
            command.args(["-c", SEGMENTS, &to.ip().to_string(), &to.port().to_string()]);
            let output = command.arg((1500 - headers - outer).to_string()).output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.stdout == b"True\n",
                "{forwarding}, {family}: {errors}"
            );
        }
    }
    Ok(())
}
