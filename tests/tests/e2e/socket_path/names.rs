//! What applications are told of their peers.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::{Family, PodNetwork, mirror};

use super::{ON, mirrors, python};

/// The peer before and after a question, as `getpeername` has it.
const PEER: &str = r#"
kind = getattr(socket, more[0])
mapped = len(more) > 1
it = open_socket(address, kind, mapped)
it.connect(("::ffff:" + address if mapped else address, port))
before = it.getpeername()[:2]
it.send(b"who\n")
answer = it.recv(100).decode().split()[0]
print(answer, *before, *it.getpeername()[:2])
"#;

/// From where an answer came, as `recvfrom` has it.
const SOURCE: &str = r#"
mapped = len(more) > 0
it = open_socket(address, UDP, mapped)
it.sendto(b"who\n", ("::ffff:" + address if mapped else address, port))
answer, source = it.recvfrom(100)
print(answer.decode().split()[0], *source[:2])
"#;

fn shown(to: SocketAddr, mapped: bool) -> String {
    let clothes = if mapped { "::ffff:" } else { "" };
    format!("{clothes}{} {}", to.ip(), to.port())
}

/// Each family, and IPv4 by a socket for IPv6.
const WAYS: [(Family, &[&str]); 3] = [
    (Family::V4, &[]),
    (Family::V6, &[]),
    (Family::V4, &["mapped"]),
];

#[test]
fn a_connected_socket_names_the_service_as_its_peer() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    for (who, from) in world.host_and_pod() {
        for (family, mapped) in WAYS {
            let to = mirror::cluster_ip(family);
            let name = shown(to, !mapped.is_empty());
            for kind in ["SOCK_STREAM", "SOCK_DGRAM"] {
                let more: Vec<_> = [kind].iter().chain(mapped).copied().collect();
                let told = python(from, PEER, to, &more)?;
                assert_eq!(told, format!("pod-2-1 {name} {name}"), "{who}, {kind}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_datagram_comes_from_the_service_that_was_asked() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &ON, &[(2, 1)])?;
    for (who, from) in world.host_and_pod() {
        for (family, mapped) in WAYS {
            let to = mirror::cluster_ip(family);
            let told = python(from, SOURCE, to, mapped)?;
            let name = shown(to, !mapped.is_empty());
            assert_eq!(told, format!("pod-2-1 {name}"), "{who}");
        }
    }
    Ok(())
}

#[test]
fn an_endpoint_that_is_asked_by_its_own_address_answers_by_it() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    let script = r#"
it = open_socket(address, UDP)
for to in (address, more[0], address):
    it.sendto(b"who\n", (to, port))
    print(it.recvfrom(100)[1][0])
"#;
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let service = mirror::cluster_ip(family);
            let endpoint = world.cluster.pod(2, 1).addresses.of(family).to_string();
            let told = python(from, script, service, &[&endpoint])?;
            let service = service.ip();
            assert_eq!(told, format!("{service}\n{endpoint}\n{service}"), "{who}");
        }
    }
    Ok(())
}
