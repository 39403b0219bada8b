//! One source port of a client towards several frontends.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;
use proxy_tests::lab::{Family, Namespace, PodNetwork};

use crate::world::{WEB_NODE_PORT, World, cluster_ip};

/// A GET from a source port of its own choice, also one whose last connection is not
/// quite over; curl refuses that.
const ASK: &str = "
import socket, sys
source, address, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.settimeout(3)
s.bind(('', source))
s.connect((address, port))
s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
print(b''.join(iter(lambda: s.recv(4096), b'')).decode().split()[-1])
";

/// The pod that answers, or what went wrong.
fn ask_from_port(from: &Namespace, source: u16, to: SocketAddr) -> String {
    let mut python: Command = from.command("python3");
    python.args(["-c", ASK, &source.to_string()]);
    python.args([to.ip().to_string(), to.port().to_string()]);
    let output = python.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The second connection cannot have the first one's translated tuple: it gets
/// another source port, and its answer the right one back.
#[test]
fn a_pod_may_use_one_source_port_for_two_frontends_of_one_endpoint() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let world = World::new(network)?;
        let mut ports = 45_000..;
        for (name, backend) in [("pod-2-1", (2, 1)), ("pod-1-1", (1, 1))] {
            world.scale("web", &[backend])?;
            for family in Family::BOTH {
                let port = ports.next().unwrap();
                let from = &world.cluster.pod(2, 3).namespace;
                for to in [
                    SocketAddr::new(cluster_ip("web", family), 80),
                    world.node_port(2, family, WEB_NODE_PORT),
                ] {
                    let answer = ask_from_port(from, port, to);
                    assert_eq!(answer, name, "{network:?}, {to}");
                }
            }
        }
    }
    Ok(())
}

/// The first connection is translated at the endpoint's node, the second one at the
/// client's: to the endpoint's node it is plain traffic, and the record of the first
/// one's replies must not touch it.
#[test]
fn a_pod_may_use_one_source_port_through_two_nodes() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(1, 1)])?;
    let from = &world.cluster.pod(2, 3).namespace;
    for (source, family) in (45_000..).zip(Family::BOTH) {
        for to in [
            world.node_port(1, family, WEB_NODE_PORT),
            SocketAddr::new(cluster_ip("web", family), 80),
            world.node_port(1, family, WEB_NODE_PORT),
            world.node_port(2, family, WEB_NODE_PORT),
        ] {
            assert_eq!(ask_from_port(from, source, to), "pod-1-1", "{to}");
        }
    }
    Ok(())
}
