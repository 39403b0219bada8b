//! Segments of an attacker who is on no connection's way: addresses and ports are right,
//! sequence numbers are not. The endpoint answers with a challenge ACK (RFC 5961), and all
//! goes on.

use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::spoof::segment;
use proxy_tests::lab::{Family, Listeners, Namespace, Pair, PodNetwork, Spoofer};
use proxy_tests::packets::tcp_flags::{ACK, FIN, RST, SYN};

use super::many::{add_mirror, echoes, listeners};
use crate::socket_path::Asker;
use crate::world::World;
use crate::xdp;

/// Endpoints of both nodes: a new pick would nearly always be another one.
const ENDPOINTS: [(usize, usize); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];
/// Connections to try it with, on each route.
const CONNECTIONS: usize = 4;
/// Until a segment, and whatever answers it, has arrived.
const ARRIVAL: Duration = Duration::from_millis(20);

/// A Pod to the ClusterIP, and the client outside to a NodePort.
fn routes(world: &World, family: Family) -> [(&Namespace, SocketAddr); 2] {
    let node_port = world.node_port(1, family, mirror::NODE_PORT);
    [
        (
            &world.cluster.pod(1, 3).namespace,
            mirror::cluster_ip(family),
        ),
        (&world.cluster.client, node_port),
    ]
}

/// Sequence numbers that are most likely in no window of the `count`th connection.
fn numbers(count: usize) -> [u32; 2] {
    let count = u32::try_from(count).unwrap_or_default() + 1;
    [0x1357_9bdf, 0x2468_ace0_u32].map(|it: u32| it.wrapping_mul(count))
}

/// A connection, and what it was opened to.
struct Open {
    pair: Pair,
    to: SocketAddr,
}

impl Open {
    /// Sends a segment that seems to be of the client.
    fn spoof(&self, by: &Spoofer, flags: u8, numbers: [u32; 2]) -> Result<()> {
        by.send(&segment(self.pair.source()?, self.to, flags, numbers))?;
        thread::sleep(ARRIVAL);
        Ok(())
    }
}

/// Opens connections on every route.
fn open_all(world: &World, listeners: &Listeners) -> Result<Vec<Open>> {
    let mut open = Vec::new();
    for family in Family::BOTH {
        for (from, to) in routes(world, family) {
            for _ in 0..CONNECTIONS {
                let pair = listeners.connect(from, to)?;
                open.push(Open { pair, to });
            }
        }
    }
    Ok(open)
}

/// That each still has both its ends.
fn go_on(open: &mut [Open]) -> Result<()> {
    for (count, Open { pair, to }) in open.iter_mut().enumerate() {
        for round in 0..2 {
            pair.talk()
                .with_context(|| format!("connection {count}, to {to}, round {round}"))?;
        }
    }
    Ok(())
}

/// Ends all connections by the attacker's word, and then begins them anew.
fn an_end_and_a_syn(by: &Spoofer, open: &mut [Open], end: u8) -> Result<()> {
    for (count, connection) in open.iter().enumerate() {
        let [first, second] = [numbers(count), numbers(count + 100)];
        connection.spoof(by, end, first)?;
        connection.spoof(by, SYN, second)?;
    }
    go_on(open)
}

fn an_end_and_a_syn_move_nothing(end: u8) -> Result<()> {
    let (world, listeners) = listeners(PodNetwork::Bridge, &[], &ENDPOINTS)?;
    let neighbour = Spoofer::new(&world.cluster.pod(1, 1).namespace)?;
    let mut open = open_all(&world, &listeners)?;
    an_end_and_a_syn(&neighbour, &mut open, end)
}

#[test]
fn a_reset_and_then_a_syn_move_no_connection() -> Result<()> {
    an_end_and_a_syn_move_nothing(RST)
}

#[test]
fn a_fin_and_then_a_syn_move_no_connection() -> Result<()> {
    an_end_and_a_syn_move_nothing(FIN | ACK)
}

#[test]
fn a_reset_or_fin_and_then_a_syn_move_no_connection_of_xdp() -> Result<()> {
    let world = xdp::world()?;
    let listeners = Listeners::start(world.cluster.pods())?;
    add_mirror(&world, &ENDPOINTS)?;
    let outside = Spoofer::new(&world.cluster.client)?;
    for end in [RST, FIN | ACK] {
        let mut open = open_all(&world, &listeners)?;
        an_end_and_a_syn(&outside, &mut open, end).with_context(|| format!("flags {end:#x}"))?;
    }
    Ok(())
}

#[test]
fn a_reset_alone_ends_no_connection() -> Result<()> {
    let (world, listeners) = listeners(PodNetwork::Bridge, &[], &ENDPOINTS)?;
    let neighbour = Spoofer::new(&world.cluster.pod(1, 1).namespace)?;
    let mut open = open_all(&world, &listeners)?;
    for (count, connection) in open.iter().enumerate() {
        connection.spoof(&neighbour, RST, numbers(count))?;
    }
    go_on(&mut open)
}

/// Connections to a pod that no new one is to go to; the attacker's SYN is no new one.
fn a_syn_moves_nothing_while(drain: impl Fn(&World) -> Result<()>) -> Result<()> {
    let (world, listeners) = listeners(PodNetwork::Bridge, &[], &[(2, 1)])?;
    let neighbour = Spoofer::new(&world.cluster.pod(1, 1).namespace)?;
    let mut open = open_all(&world, &listeners)?;
    drain(&world)?;
    for (count, connection) in open.iter().enumerate() {
        connection.spoof(&neighbour, SYN, numbers(count))?;
    }
    go_on(&mut open)?;
    ensure!(open.iter().all(|it| it.pair.pod == "pod-2-1"), "moved");
    let (from, to) = routes(&world, Family::V4)[0];
    assert_eq!(listeners.connect(from, to)?.pod, "pod-1-1", "a new one");
    Ok(())
}

#[test]
fn a_syn_moves_no_connection_whose_endpoint_is_gone() -> Result<()> {
    a_syn_moves_nothing_while(|world| world.scale(mirror::NAME, &[(1, 1)]))
}

#[test]
fn a_syn_moves_no_connection_whose_endpoint_terminates() -> Result<()> {
    a_syn_moves_nothing_while(|world| {
        world.scale(mirror::NAME, &[(1, 1), (2, 1)])?;
        let name = format!("{}-endpoints", mirror::NAME);
        let slices = world.manifests.read(&name)?;
        let ready = "{ready: true, serving: true, terminating: false}\n    nodeName: node2";
        let terminates = "{ready: false, serving: true, terminating: true}\n    nodeName: node2";
        ensure!(slices.contains(ready), "{slices}");
        let slices = slices.replace(ready, terminates);
        world.after_programming(|| world.manifests.write(&name, &slices))
    })
}

#[test]
fn a_syn_cuts_no_half_closed_connection() -> Result<()> {
    let (world, listeners) = listeners(PodNetwork::Bridge, &[], &ENDPOINTS)?;
    let neighbour = Spoofer::new(&world.cluster.pod(1, 1).namespace)?;
    let mut open = open_all(&world, &listeners)?;
    for (count, connection) in open.iter_mut().enumerate() {
        connection.pair.client.shutdown(Shutdown::Write)?;
        connection.pair.answer()?;
        connection.spoof(&neighbour, SYN, numbers(count))?;
        let answered = connection.pair.answer();
        answered.with_context(|| format!("connection {count}, to {}", connection.to))?;
    }
    Ok(())
}

/// Connects, and tells its port with each answer.
const CONNECTED: &str = r#"
it = open_socket(address, TCP)
it.connect((address, port))
for _ in sys.stdin:
    it.send(b"who\n")
    print(it.recv(100).decode().split()[0], it.getsockname()[1], flush=True)
"#;

/// SYNs that seem to be a Pod's, from a neighbour and from outside, to every frontend.
fn spoof_syns(world: &World, source: SocketAddr, family: Family) -> Result<()> {
    let neighbour = Spoofer::new(&world.cluster.pod(1, 2).namespace)?;
    let outside = Spoofer::new(&world.cluster.client)?;
    let service = mirror::cluster_ip(family);
    let node_port = world.node_port(1, family, mirror::NODE_PORT);
    for (count, (by, to)) in [
        (&neighbour, service),
        (&neighbour, node_port),
        (&outside, service),
        (&outside, node_port),
    ]
    .into_iter()
    .enumerate()
    {
        by.send(&segment(source, to, SYN, numbers(count)))?;
        thread::sleep(ARRIVAL);
    }
    Ok(())
}

#[test]
fn a_syn_cuts_no_connection_of_the_socket_path() -> Result<()> {
    for endpoint in [(1, 1), (2, 1)] {
        let arguments = ["--socket-path", "on"];
        let (world, _servers) = echoes(PodNetwork::Bridge, &arguments, &[endpoint])?;
        let pod = world.cluster.pod(1, 3);
        for family in Family::BOTH {
            let to = mirror::cluster_ip(family);
            let mut client = Asker::start(&pod.namespace, CONNECTED, to, &[])?;
            let (name, port) = client.ask()?;
            let source = SocketAddr::new(pod.addresses.of(family), u16::try_from(port)?);
            spoof_syns(&world, source, family)?;
            for round in 0..3 {
                let answer = client.ask();
                let answer = answer.with_context(|| format!("{to}, {name}, round {round}"))?;
                assert_eq!(answer, (name.clone(), port), "{to}, round {round}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_syn_cuts_no_direct_connection() -> Result<()> {
    for endpoint in [(1, 1), (2, 1)] {
        let (world, _servers) = echoes(PodNetwork::Routed, &[], &[endpoint])?;
        let pod = world.cluster.pod(1, 3);
        let server = world.cluster.pod(endpoint.0, endpoint.1);
        for family in Family::BOTH {
            let to = SocketAddr::new(server.addresses.of(family), mirror::PORT);
            let open = || Conversation::open(to, Transport::Tcp);
            let mut direct = pod.namespace.run(open)??;
            direct.ask()?;
            let Conversation::Tcp(stream) = &direct else {
                unreachable!("opened for TCP");
            };
            spoof_syns(&world, stream.get_ref().local_addr()?, family)?;
            for round in 0..3 {
                direct
                    .ask()
                    .with_context(|| format!("{to}, round {round}"))?;
            }
        }
    }
    Ok(())
}
