//! Destinations that nobody answers for.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::{Family, PodNetwork, mirror};

use super::{ON, mirrors, python};
use crate::world::{World, cluster_ip};

/// How a connection ends, and whether that took no time.
const CONNECT: &str = r#"
it = open_socket(address, getattr(socket, more[0]))
began = time.monotonic()
result = attempt(it.connect, (address, port))
print(result, "at once" if time.monotonic() - began < 0.5 else "later")
"#;

const SEND: &str = r#"
it = open_socket(address, UDP)
print(attempt(it.sendto, b"who\n", (address, port)))
"#;

#[test]
fn a_service_without_endpoints_refuses_at_once() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[])?;
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let to = mirror::cluster_ip(family);
            let told = python(from, CONNECT, to, &["SOCK_STREAM"])?;
            assert_eq!(told, "ECONNREFUSED at once", "{who}");
            assert_eq!(python(from, SEND, to, &[])?, "ECONNREFUSED", "{who}");
        }
    }
    let host = &world.cluster.nodes[0].namespace;
    let told = python(
        host,
        CONNECT,
        mirror::cluster_ip(Family::V4),
        &["SOCK_DGRAM"],
    )?;
    assert_eq!(told, "ECONNREFUSED at once");
    Ok(())
}

#[test]
fn a_local_policy_without_local_endpoint_is_a_time_out() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    world.after_programming(|| {
        let cluster = "internalTrafficPolicy: Cluster";
        let text = world.manifests.read("edge")?;
        let local = text.replace(cluster, "internalTrafficPolicy: Local");
        world.manifests.write("edge", &local)
    })?;
    for family in Family::BOTH {
        let to = SocketAddr::new(cluster_ip("edge", family), 80);
        let [(_, host), (_, pod)] = world.host_and_pod();
        let told = python(pod, CONNECT, to, &["SOCK_STREAM"])?;
        assert_eq!(told, "timeout later");
        let told = python(host, CONNECT, to, &["SOCK_STREAM"])?;
        assert_eq!(told, "ETIMEDOUT at once");
        // The only endpoint's node has one.
        let there = &world.cluster.nodes[1].namespace;
        let told = python(there, CONNECT, to, &["SOCK_STREAM"])?;
        assert_eq!(told, "ok at once");
    }
    Ok(())
}
