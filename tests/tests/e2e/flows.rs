//! Flows that go on while their Service changes, and many at once.

pub(crate) mod at_once;
mod ends;
pub(crate) mod many;
mod spoofed;
mod table;
mod two_ways;
pub(crate) mod untranslated;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Family, Namespace, PodNetwork, Process};

use crate::world::World;

fn mirrors(network: PodNetwork, pods: &[(usize, usize)]) -> Result<(World, Vec<Process>)> {
    let world = World::new(network)?;
    let servers = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, pods)?;
    Ok((world, servers))
}

/// A pod to the ClusterIP and the client outside to node1's NodePort, in both
/// families.
fn routes(world: &World) -> [(&Namespace, SocketAddr); 4] {
    let pod = &world.cluster.pod(1, 3).namespace;
    let outside = &world.cluster.client;
    let node_port = |family| world.node_port(1, family, mirror::NODE_PORT);
    [
        (pod, mirror::cluster_ip(Family::V4)),
        (pod, mirror::cluster_ip(Family::V6)),
        (outside, node_port(Family::V4)),
        (outside, node_port(Family::V6)),
    ]
}

/// Opens a socket on every route.
fn open_all(world: &World, transport: Transport) -> Result<Vec<Conversation>> {
    routes(world)
        .into_iter()
        .map(|(from, to)| from.run(|| Conversation::open(to, transport))?)
        .collect()
}

/// Asks on every socket; who answered on each.
fn ask_all(conversations: &mut [Conversation]) -> Result<Vec<String>> {
    let answers = conversations.iter_mut().map(|it| Ok(it.ask()?.pod));
    answers.collect()
}

#[test]
fn tcp_connections_talk_on_through_every_change_of_their_service() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &[(2, 1)])?;
    let mut conversations = open_all(&world, Transport::Tcp)?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    for endpoints in [vec![(1, 1)], vec![(1, 1), (2, 1)], vec![]] {
        world.scale(mirror::NAME, &endpoints)?;
        assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    }
    world.after_programming(|| world.manifests.remove(mirror::NAME))?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    Ok(())
}

#[test]
fn udp_sockets_move_between_local_and_remote_endpoints() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &[(2, 1)])?;
    let mut conversations = open_all(&world, Transport::Udp)?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    for (endpoint, name) in [
        ((1, 1), "pod-1-1"),
        ((2, 2), "pod-2-2"),
        ((2, 1), "pod-2-1"),
    ] {
        world.scale(mirror::NAME, &[endpoint])?;
        assert_eq!(ask_all(&mut conversations).unwrap(), [name; 4]);
    }
    Ok(())
}

#[test]
fn udp_sockets_stay_with_an_endpoint_that_still_serves() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &[(2, 1)])?;
    let mut conversations = open_all(&world, Transport::Udp)?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    let more = [(1, 1), (1, 2), (2, 1), (2, 2)];
    world.scale(mirror::NAME, &more)?;
    for _ in 0..5 {
        assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    }
    Ok(())
}

#[test]
fn a_udp_socket_outlives_a_time_without_endpoints() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &[(2, 1)])?;
    let mut conversations = open_all(&world, Transport::Udp)?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-2-1"; 4]);
    world.scale(mirror::NAME, &[])?;
    for conversation in &conversations {
        let Conversation::Udp(socket) = conversation else {
            unreachable!("opened for UDP");
        };
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
        socket.send(b"who\n")?;
        // Refused or dropped; in no case answered.
        let kind = socket.recv(&mut [0; 8]).unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::WouldBlock | ErrorKind::ConnectionRefused),
            "{kind}"
        );
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    }
    world.scale(mirror::NAME, &[(1, 2)])?;
    assert_eq!(ask_all(&mut conversations).unwrap(), ["pod-1-2"; 4]);
    Ok(())
}

/// A thousand connections at the same time, each of which is answered twice.
fn a_thousand_at_once(family: Family) -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &[(2, 1), (2, 2)])?;
    let frontend = world.node_port(1, family, mirror::NODE_PORT);
    let failure = world.cluster.client.run(|| -> Result<()> {
        let mut conversations = (0..1000)
            .map(|count| {
                Conversation::open(frontend, Transport::Tcp)
                    .with_context(|| format!("connection {count}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let before = ask_all(&mut conversations)?;
        let after = ask_all(&mut conversations)?;
        assert_eq!(before, after, "a connection has one endpoint");
        let first = before.iter().filter(|name| *name == "pod-2-1").count();
        // Fair would be 500 with a deviation of 16.
        assert!(
            (400..=600).contains(&first),
            "{first} of 1000 to one of two"
        );
        Ok(())
    })?;
    failure.unwrap();
    Ok(())
}

#[test]
fn a_thousand_connections_from_outside_live_side_by_side_over_ipv4() -> Result<()> {
    a_thousand_at_once(Family::V4)
}

#[test]
fn a_thousand_connections_from_outside_live_side_by_side_over_ipv6() -> Result<()> {
    a_thousand_at_once(Family::V6)
}

/// What netcat gets for one line, by UDP.
fn netcat_udp(from: &Namespace, to: SocketAddr) -> Result<String> {
    let mut command = from.command("nc");
    command.args(["-u", "-W", "1", "-w", "3", &to.ip().to_string()]);
    command.arg(to.port().to_string());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    std::io::Write::write_all(&mut stdin, b"who\n")?;
    let output = child.wait_with_output()?;
    drop(stdin);
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn netcat_is_answered_over_udp() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &[(2, 1)])?;
    for (from, to) in routes(&world) {
        let answer = netcat_udp(from, to)?;
        assert!(answer.starts_with("pod-2-1 "), "{answer:?} from {to}");
    }
    Ok(())
}
