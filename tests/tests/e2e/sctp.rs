//! SCTP through every kind of frontend. There need not be SCTP in the kernel: client and
//! server make their packets themselves, and take none whose checksum is wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::lab::addresses::{self, Family};
use proxy_tests::lab::{Namespace, PodNetwork, Process};

use crate::hosts::be_strict;
use crate::world::World;
use crate::xdp;

const NAME: &str = "signal";
const PORT: u16 = 3868;
const NODE_PORT: u16 = 30868;
const PATIENCE: Duration = Duration::from_secs(10);
const STARTED: &str = "server started";

/// What both sides know of SCTP.
const SCTP: &str = r#"
import random, socket, struct, sys, threading

DATA, INIT, INIT_ACK, SACK = 0, 1, 2, 3
ANSWERS = {INIT: INIT_ACK, DATA: SACK}

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82f63b78 * (crc & 1)
    return crc ^ 0xffffffff

def build(source, destination, kind, content):
    head = struct.pack("!HHI", source, destination, 7)
    chunk = struct.pack("!BBH", kind, 0, 4 + len(content)) + content
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk

def parse(family, data):
    if family == socket.AF_INET:
        data = data[(data[0] & 15) * 4:]
    source, destination, _, checksum = struct.unpack("!HHI", data[:8]) + struct.unpack("<I", data[8:12])
    if checksum != crc32c(data[:8] + bytes(4) + data[12:]):
        return None
    return source, destination, data[12], data[16:]

def open_socket(family):
    return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_SCTP)
"#;

/// Answers each chunk with its name and the address that it sees.
const SERVER: &str = r#"
def serve(family, raw):
    while True:
        data, (peer, *_) = raw.recvfrom(65536)
        parsed = parse(family, data)
        if parsed and parsed[1] == int(sys.argv[2]) and parsed[2] in ANSWERS:
            answer = f"{sys.argv[1]} {peer}".encode()
            raw.sendto(build(parsed[1], parsed[0], ANSWERS[parsed[2]], answer), (peer, 0))

for family in (socket.AF_INET, socket.AF_INET6):
    threading.Thread(target=serve, args=(family, open_socket(family))).start()
print("server started")
"#;

/// Begins an association, goes on with chunks of several lengths, and prints the last answer.
const CLIENT: &str = r#"
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
raw = open_socket(family)
raw.settimeout(3)
raw.connect((address, 0))
own = random.randrange(20000, 30000)
for kind, length in ((INIT, 0), (DATA, 1), (DATA, 1000)):
    raw.send(build(own, port, kind, bytes(length)))
    parsed = None
    while not parsed or parsed[:3] != (port, own, ANSWERS[kind]):
        parsed = parse(family, raw.recv(65536))
print(parsed[3].decode())
"#;

const MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: signal, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.38
  clusterIPs: [10.96.0.38, 'fd00:10:96::38']
  ports: [{name: signal, protocol: SCTP, port: 3868, nodePort: 30868}]
";

/// The endpoints' port is another one.
const ENDPOINTS: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: signal-4, namespace: default, labels: {kubernetes.io/service-name: signal}}
addressType: IPv4
ports: [{name: signal, protocol: SCTP, port: 5868}]
endpoints: []
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: signal-6, namespace: default, labels: {kubernetes.io/service-name: signal}}
addressType: IPv6
ports: [{name: signal, protocol: SCTP, port: 5868}]
endpoints: []
";

/// Adds the Service, and starts a server in each pod.
fn serve(world: &World) -> Result<Vec<Process>> {
    let start = |pod: &proxy_tests::lab::Pod| {
        let mut command = pod.namespace.command("python3");
        let program = [SCTP, SERVER].concat();
        command.args(["-u", "-c", &program, &pod.name, "5868"]);
        Process::spawn(&format!("SCTP server of {}", pod.name), command)
    };
    let servers: Vec<_> = world.cluster.pods().map(start).collect::<Result<_>>()?;
    for server in &servers {
        server.wait_for_line(PATIENCE, |line| line == STARTED)?;
    }
    world.after_programming(|| {
        let endpoints = format!("{NAME}-endpoints");
        world.manifests.write(&endpoints, ENDPOINTS)?;
        world.manifests.write(NAME, MANIFEST)
    })?;
    Ok(servers)
}

fn cluster_ip(family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => [10, 96, 0, 38].into(),
        Family::V6 => [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x38].into(),
    };
    SocketAddr::new(address, PORT)
}

/// The pod that answers, and whom it sees.
fn ask(from: &Namespace, to: SocketAddr) -> Result<(String, IpAddr)> {
    let mut command = from.command("python3");
    command.args(["-c", &[SCTP, CLIENT].concat()]);
    command.args([to.ip().to_string(), to.port().to_string()]);
    let output = command.output().context("python3: start")?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((pod, peer)) = answer.trim_end().split_once(' ') else {
        bail!("{to}: {}", String::from_utf8_lossy(&output.stderr));
    };
    Ok((pod.to_owned(), peer.parse()?))
}

#[test]
fn associations_begin_through_every_frontend() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let world = World::new(network)?;
        let _servers = serve(&world)?;
        for endpoint in [(1, 1), (2, 1)] {
            world.scale(NAME, &[endpoint])?;
            let name = &world.cluster.pod(endpoint.0, endpoint.1).name;
            for family in Family::BOTH {
                let (outside, pod) = (&world.cluster.client, world.cluster.pod(1, 2));
                let node_port = world.node_port(1, family, NODE_PORT);
                let seen = ask(outside, node_port)?;
                let node = world.cluster.nodes[0].addresses.of(family);
                let source = if endpoint.0 == 1 {
                    addresses::client().of(family)
                } else {
                    node
                };
                assert_eq!(seen, (name.clone(), source));
                for to in [cluster_ip(family), node_port] {
                    let seen = ask(&pod.namespace, to)?;
                    assert_eq!(seen, (name.clone(), pod.addresses.of(family)));
                }
                let itself = world.cluster.pod(1, 1);
                let source = if endpoint == (1, 1) {
                    node
                } else {
                    itself.addresses.of(family)
                };
                let seen = ask(&itself.namespace, cluster_ip(family))?;
                assert_eq!(seen, (name.clone(), source));
            }
        }
    }
    Ok(())
}

#[test]
fn associations_of_hosts_begin_where_they_leave() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    be_strict(&world.cluster)?;
    let _servers = serve(&world)?;
    for endpoint in [(1, 1), (2, 1)] {
        world.scale(NAME, &[endpoint])?;
        let name = &world.cluster.pod(endpoint.0, endpoint.1).name;
        for family in Family::BOTH {
            let host = &world.cluster.nodes[0];
            assert_eq!(&ask(&host.namespace, cluster_ip(family))?.0, name);
        }
    }
    Ok(())
}

#[test]
fn without_endpoints_the_client_is_told() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let _servers = serve(&world)?;
    for family in Family::BOTH {
        let outside = (&world.cluster.client, world.node_port(1, family, NODE_PORT));
        let inside = (&world.cluster.pod(1, 2).namespace, cluster_ip(family));
        for (from, to) in [outside, inside] {
            let error = ask(from, to).expect_err("nobody is there").to_string();
            ensure!(error.contains("ConnectionRefusedError"), "{to}: {error}");
        }
    }
    Ok(())
}

#[test]
fn xdp_translates_associations_too() -> Result<()> {
    let world = xdp::world()?;
    let _servers = serve(&world)?;
    // A flow's first packet is TC's, which opens it; of a flow that is sent on, each way.
    for (endpoint, by_xdp, at_least) in [((1, 1), 0, 2.0), ((2, 1), 1, 3.0)] {
        world.scale(NAME, &[endpoint])?;
        let name = &world.cluster.pod(endpoint.0, endpoint.1).name;
        for family in Family::BOTH {
            let count =
                || -> Result<f64> { Ok(xdp::by_xdp(&world.cluster.nodes[0].namespace)?[by_xdp]) };
            let before = count()?;
            let to = world.node_port(1, family, NODE_PORT);
            assert_eq!(&ask(&world.cluster.client, to)?.0, name);
            let done = count()? - before;
            ensure!(done >= at_least, "{done} packets to {name}");
        }
    }
    Ok(())
}
