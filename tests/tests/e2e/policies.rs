//! Traffic policies, and Services that nobody can answer for.

use std::net::SocketAddr;
use std::process::{Command, Output};

use anyhow::Result;
use proxy_tests::lab::{Family, Namespace, PodNetwork, client};

use crate::world::{EDGE_NODE_PORT, WEB_NODE_PORT, World, cluster_ip};

/// curl's exit status where the connection was refused (curl(1)).
const REFUSED: i32 = 7;
/// curl's exit status where nothing answered in time (curl(1)).
const TIMED_OUT: i32 = 28;

/// Asks once, with a short limit; for connections that nobody shall answer.
fn ask_in_vain(from: &Namespace, address: SocketAddr) -> Option<i32> {
    let mut curl: Command = from.command("curl");
    curl.args(["-sg", "--noproxy", "*", "--max-time", "1"]);
    let Output { status, .. } = curl.arg(format!("http://{address}/")).output().unwrap();
    status.code()
}

#[test]
fn external_policy_local_keeps_to_the_node() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    for family in Family::BOTH {
        // Only node2 has an endpoint of edge.
        let without = world.node_port(1, family, EDGE_NODE_PORT);
        let with = world.node_port(2, family, EDGE_NODE_PORT);
        let outside = &world.cluster.client;
        assert_eq!(ask_in_vain(outside, without), Some(TIMED_OUT));
        let seen = world.peer_seen_by("pod-2-3", || client::http(outside, with).map(drop))?;
        assert_eq!(
            seen,
            proxy_tests::lab::addresses::client().of(family),
            "the client's address is kept"
        );
        // A pod of the node counts as inside the cluster.
        let pod = &world.cluster.pod(1, 1).namespace;
        assert_eq!(client::http(pod, without)?, "pod-2-3");
    }
    Ok(())
}

#[test]
fn internal_policy_local_keeps_to_the_node() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.after_programming(|| {
        let local = world.manifests.read("edge")?.replace(
            "internalTrafficPolicy: Cluster",
            "internalTrafficPolicy: Local",
        );
        world.manifests.write("edge", &local)
    })?;
    for family in Family::BOTH {
        let frontend = SocketAddr::new(cluster_ip("edge", family), 80);
        let with = &world.cluster.pod(2, 1).namespace;
        assert_eq!(client::http(with, frontend)?, "pod-2-3");
        let without = &world.cluster.pod(1, 1).namespace;
        assert_eq!(ask_in_vain(without, frontend), Some(TIMED_OUT));
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_refuses_at_once() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[])?;
    let inside = &world.cluster.pod(1, 3).namespace;
    for family in Family::BOTH {
        let frontend = SocketAddr::new(cluster_ip("web", family), 80);
        assert_eq!(ask_in_vain(inside, frontend), Some(REFUSED));
        let node_port = world.node_port(1, family, WEB_NODE_PORT);
        assert_eq!(ask_in_vain(&world.cluster.client, node_port), Some(REFUSED));
    }
    world.scale("web", &[(2, 2)])?;
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    assert_eq!(client::http(inside, frontend)?, "pod-2-2");
    Ok(())
}
