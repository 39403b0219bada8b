//! Whom the endpoints see, and which endpoints a node's policies leave,
//! by TCP and UDP.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Answer};
use proxy_tests::lab::{Family, Namespace, PodNetwork, Process, addresses};

use crate::world::World;

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// Enough that one of two endpoints is missed by chance once in a quarter of a
/// million times.
const REQUESTS: usize = 18;

/// A world whose pods are all mirrors; the Service has the endpoints (node, pod).
fn mirrors(network: PodNetwork, pods: &[(usize, usize)]) -> Result<(World, Vec<Process>)> {
    let world = World::new(network)?;
    let servers = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, pods)?;
    Ok((world, servers))
}

/// Asks each time from a new socket; who answered, all of whom saw `peer`.
fn ask(
    from: &Namespace,
    to: SocketAddr,
    transport: Transport,
    peer: IpAddr,
) -> Result<Vec<String>> {
    from.run(|| {
        (0..REQUESTS)
            .map(|_| {
                let Answer { pod, peer: seen } = mirror::ask(to, transport)?;
                ensure!(seen == peer, "{pod} saw {seen}, not {peer}");
                Ok(pod)
            })
            .collect::<Result<BTreeSet<_>>>()
            .map(Vec::from_iter)
    })?
    .with_context(|| format!("{to} by {transport:?}"))
}

/// A pod asks its own Service, at every frontend of both nodes.
fn reaches_itself(network: PodNetwork) -> Result<()> {
    let (world, _servers) = mirrors(network, &[(1, 2)])?;
    let pod = world.cluster.pod(1, 2);
    for family in Family::BOTH {
        for (frontend, node) in [
            (mirror::cluster_ip(family), 1),
            (world.node_port(1, family, mirror::NODE_PORT), 1),
            (world.node_port(2, family, mirror::NODE_PORT), 2),
        ] {
            for transport in TRANSPORTS {
                let peer = addresses::node(node).of(family);
                let answered = ask(&pod.namespace, frontend, transport, peer).unwrap();
                assert_eq!(answered, ["pod-1-2"]);
            }
        }
    }
    Ok(())
}

#[test]
fn a_bridged_pod_reaches_itself_through_every_frontend_as_that_node() -> Result<()> {
    reaches_itself(PodNetwork::Bridge)
}

#[test]
fn a_routed_pod_reaches_itself_through_every_frontend_as_that_node() -> Result<()> {
    reaches_itself(PodNetwork::Routed)
}

#[test]
fn a_pods_address_is_kept_through_its_own_nodes_node_port() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &[(1, 1), (2, 1)])?;
    let pod = world.cluster.pod(1, 3);
    for family in Family::BOTH {
        let frontend = world.node_port(1, family, mirror::NODE_PORT);
        for transport in TRANSPORTS {
            let peer = pod.addresses.of(family);
            let answered = ask(&pod.namespace, frontend, transport, peer).unwrap();
            assert_eq!(answered, ["pod-1-1", "pod-2-1"]);
        }
    }
    Ok(())
}

#[test]
fn a_client_outside_is_masqueraded_to_a_remote_backend_of_a_cluster_ip() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &[(2, 2)])?;
    for (pod, backend, peer) in [
        ((1, 1), "pod-1-1", addresses::client()),
        ((2, 1), "pod-2-1", addresses::node(1)),
    ] {
        world.scale(mirror::NAME, &[pod])?;
        for family in Family::BOTH {
            for transport in TRANSPORTS {
                let frontend = mirror::cluster_ip(family);
                let client = &world.cluster.client;
                let answered = ask(client, frontend, transport, peer.of(family)).unwrap();
                assert_eq!(answered, [backend]);
            }
        }
    }
    Ok(())
}

/// Sets a policy of the mirror from Cluster to Local.
fn make_local(world: &World, policy: &str) -> Result<()> {
    let (now, then) = (format!("{policy}: Cluster"), format!("{policy}: Local"));
    let service = world.manifests.read(mirror::NAME)?.replace(&now, &then);
    world.after_programming(|| world.manifests.write(mirror::NAME, &service))
}

/// The endpoints of both nodes, two each.
const TWO_A_NODE: [(usize, usize); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

#[test]
fn external_policy_local_leaves_each_node_all_of_its_own_endpoints() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &TWO_A_NODE)?;
    make_local(&world, "externalTrafficPolicy")?;
    for family in Family::BOTH {
        for (node, own) in [(1, ["pod-1-1", "pod-1-2"]), (2, ["pod-2-1", "pod-2-2"])] {
            let frontend = world.node_port(node, family, mirror::NODE_PORT);
            for transport in TRANSPORTS {
                let peer = addresses::client().of(family);
                let answered = ask(&world.cluster.client, frontend, transport, peer).unwrap();
                assert_eq!(answered, own);
            }
        }
    }
    Ok(())
}

#[test]
fn internal_policy_local_leaves_each_node_all_of_its_own_endpoints() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &TWO_A_NODE)?;
    make_local(&world, "internalTrafficPolicy")?;
    for family in Family::BOTH {
        for (node, own) in [(1, ["pod-1-1", "pod-1-2"]), (2, ["pod-2-1", "pod-2-2"])] {
            let pod = world.cluster.pod(node, 3);
            for transport in TRANSPORTS {
                let (to, peer) = (mirror::cluster_ip(family), pod.addresses.of(family));
                let answered = ask(&pod.namespace, to, transport, peer).unwrap();
                assert_eq!(answered, own);
            }
        }
    }
    Ok(())
}
