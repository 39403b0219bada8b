//! Which source address a backend sees.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, PodNetwork, addresses};

use crate::world::{WEB_NODE_PORT, World, cluster_ip};

#[test]
fn a_pods_address_is_kept_for_local_and_remote_backends() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    let from = world.cluster.pod(1, 3);
    for (backend, at) in [("pod-1-1", (1, 1)), ("pod-2-1", (2, 1))] {
        world.scale("web", &[at])?;
        for family in Family::BOTH {
            let frontend = SocketAddr::new(cluster_ip("web", family), 80);
            let seen = world.peer_seen_by(backend, || {
                client::http(&from.namespace, frontend).map(drop)
            })?;
            assert_eq!(seen, from.addresses.of(family), "{backend} over {family}");
        }
    }
    Ok(())
}

#[test]
fn a_client_outside_keeps_its_address_for_a_local_backend_only() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    for (backend, at) in [("pod-1-1", (1, 1)), ("pod-2-1", (2, 1))] {
        world.scale("web", &[at])?;
        for family in Family::BOTH {
            let seen = world.peer_seen_by(backend, || {
                let frontend = world.node_port(1, family, WEB_NODE_PORT);
                client::http(&world.cluster.client, frontend).map(drop)
            })?;
            let expected = match backend {
                "pod-1-1" => addresses::client(),
                _ => addresses::node(1),
            };
            assert_eq!(seen, expected.of(family), "{backend} over {family}");
        }
    }
    Ok(())
}

#[test]
fn masquerade_all_hides_every_client() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &["--masquerade-all"])?;
    world.scale("web", &[(1, 1)])?;
    for family in Family::BOTH {
        let seen = world.peer_seen_by("pod-1-1", || {
            let frontend = world.node_port(1, family, WEB_NODE_PORT);
            client::http(&world.cluster.client, frontend).map(drop)
        })?;
        // That of the bridge, by which the pod is reached.
        assert_eq!(seen, addresses::gateway(1).of(family));
    }
    Ok(())
}

#[test]
fn a_changed_address_of_the_node_is_followed() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(2, 1)])?;
    let node = &world.cluster.nodes[0].namespace;
    node.ip(&["addr add 172.31.0.201/24 dev eth0".to_owned()])?;
    let nodes = world.manifests.read("nodes")?;
    let moved = nodes.replace("172.31.0.11}", "172.31.0.201}");
    assert_ne!(nodes, moved);
    let mark = world.agents[0].mark();
    world.manifests.write("nodes", &moved)?;
    world.agents[0].wait_programmed_after(mark)?;
    let frontend: SocketAddr = SocketAddr::new("172.31.0.201".parse()?, WEB_NODE_PORT);
    let seen = world.peer_seen_by("pod-2-1", || {
        client::http(&world.cluster.client, frontend).map(drop)
    })?;
    assert_eq!(seen, frontend.ip());
    // It is not the node's any more, as far as the cluster knows.
    let before = world.node_port(1, Family::V4, WEB_NODE_PORT);
    assert!(client::http(&world.cluster.client, before).is_err());
    Ok(())
}

/// A pod that is the only endpoint of a Service asks it.
fn hairpin(network: PodNetwork) -> Result<()> {
    let world = World::new(network)?;
    let pod = world.cluster.pod(1, 2);
    world.scale("web", &[(1, 2)])?;
    world.scale("dns", &[(1, 2)])?;
    for family in Family::BOTH {
        let seen = world.peer_seen_by("pod-1-2", || {
            let frontend = SocketAddr::new(cluster_ip("web", family), 80);
            assert_eq!(client::http(&pod.namespace, frontend)?, "pod-1-2");
            Ok(())
        })?;
        assert_eq!(seen, addresses::node(1).of(family));
        let frontend = SocketAddr::new(cluster_ip("dns", family), 53);
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(client::dns(&pod.namespace, frontend, transport)?, "pod-1-2");
        }
    }
    Ok(())
}

#[test]
fn a_bridged_pod_reaches_itself_as_a_node_address() -> Result<()> {
    hairpin(PodNetwork::Bridge)
}

#[test]
fn a_routed_pod_reaches_itself_as_a_node_address() -> Result<()> {
    hairpin(PodNetwork::Routed)
}
