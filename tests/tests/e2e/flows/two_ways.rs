//! One port of a Pod to one endpoint in two ways: by its Service, and directly.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Listeners, PodNetwork, mirror, sockets};

use super::many::{echoes, listeners};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(10);
/// An endpoint of the client's node, and one of another.
const ENDPOINTS: [(usize, usize); 2] = [(1, 1), (2, 1)];

/// The Service's address, and that of its one endpoint.
fn both_ways(world: &World, endpoint: (usize, usize), family: Family) -> [SocketAddr; 2] {
    let pod = world.cluster.pod(endpoint.0, endpoint.1);
    let direct = SocketAddr::new(pod.addresses.of(family), mirror::PORT);
    [mirror::cluster_ip(family), direct]
}

/// Connects twice from one port of a Pod; both connections live then.
fn connect_both(
    world: &World,
    listeners: &Listeners,
    port: u16,
    ways: [SocketAddr; 2],
) -> Result<()> {
    let from = &world.cluster.pod(1, 3).namespace;
    let mut first = listeners.connect_from(from, port, ways[0])?;
    let mut second = listeners.connect_from(from, port, ways[1])?;
    for round in 0..3 {
        first.talk().with_context(|| format!("first, {round}"))?;
        second.talk().with_context(|| format!("second, {round}"))?;
    }
    // What ends one is nothing to the other.
    first.close()?;
    second.talk().context("the second one, alone")?;
    second.close()
}

/// For every network, endpoint and family.
fn each_way(arrange: impl Fn([SocketAddr; 2]) -> [SocketAddr; 2]) -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let (world, listeners) = listeners(network, &[], &ENDPOINTS)?;
        let mut ports = 45_000..;
        for endpoint in ENDPOINTS {
            world.scale(mirror::NAME, &[endpoint])?;
            for family in Family::BOTH {
                let ways = arrange(both_ways(&world, endpoint, family));
                let port = ports.next().context("a port")?;
                connect_both(&world, &listeners, port, ways)
                    .with_context(|| format!("{network:?}, {ways:?}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_pod_connects_by_a_service_and_then_directly_from_one_port() -> Result<()> {
    each_way(|[service, direct]| [service, direct])
}

#[test]
fn a_pod_connects_directly_and_then_by_a_service_from_one_port() -> Result<()> {
    each_way(|[service, direct]| [direct, service])
}

/// For a socket of a Pod's for every network, endpoint, family and order.
fn each_socket(check: impl Fn(&UdpSocket, SocketAddr) -> Result<()> + Sync) -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let (world, _servers) = echoes(network, &[], &ENDPOINTS)?;
        let pod = &world.cluster.pod(1, 3).namespace;
        for endpoint in ENDPOINTS {
            world.scale(mirror::NAME, &[endpoint])?;
            for family in Family::BOTH {
                let [service, direct] = both_ways(&world, endpoint, family);
                for ways in [[service, direct], [direct, service]] {
                    let ask_in_turns = || -> Result<()> {
                        let socket = sockets::udp_at(0, service, PATIENCE)?;
                        for (turn, to) in ways.into_iter().cycle().take(6).enumerate() {
                            check(&socket, to).with_context(|| format!("turn {turn}, {to}"))?;
                        }
                        Ok(())
                    };
                    pod.run(ask_in_turns)?
                        .with_context(|| format!("{network:?}, {endpoint:?}"))?;
                }
            }
        }
    }
    Ok(())
}

/// A connected socket gets only what comes from its peer's address.
#[test]
fn a_udp_socket_is_answered_by_whom_it_is_connected_to() -> Result<()> {
    each_socket(|socket, to| {
        socket.connect(to)?;
        socket.send(b"who\n")?;
        socket.recv(&mut [0; 128]).context("no answer")?;
        Ok(())
    })
}

#[test]
fn a_udp_socket_is_answered_from_the_address_that_it_has_asked() -> Result<()> {
    each_socket(|socket, to| {
        socket.send_to(b"who\n", to)?;
        let (_, source) = socket.recv_from(&mut [0; 128]).context("no answer")?;
        ensure!(source == to, "{source} answers");
        Ok(())
    })
}
