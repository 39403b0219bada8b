//! What a full table of flows throws out: never a connection that lives.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::load::scaled;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::spoof::segment;
use proxy_tests::lab::{Echo, Family, Namespace, PodNetwork, Spoofer, addresses};
use proxy_tests::packets::Packet;
use proxy_tests::packets::tcp_flags::SYN;

use super::many::{echoes, idle, none_is_lost, use_ports_again};
use crate::world::World;

/// A small table, so that ten times as many flows are soon made.
const RECORDS: usize = 1024;
/// Ten times the table in flows.
const FLOWS: usize = 10 * RECORDS;
/// Connections that are held on each route.
const IDLE: usize = 6;
/// How many datagrams later one is most likely answered.
const ANSWERED: usize = 100;
/// How many go out in a millisecond.
const PACE: usize = 25;
/// The address of a Service that is not the held ones'.
const OTHER: &str = "10.96.0.53";

/// A world with a small table, and endpoints near and far.
fn small() -> Result<(World, Vec<Echo>)> {
    let flows = format!("--map-flows={}", scaled(RECORDS));
    let pods = [(1, 1), (1, 2), (2, 1), (2, 2)];
    let (world, servers) = echoes(PodNetwork::Bridge, &[&flows], &pods)?;
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    use_ports_again(pod)?;
    use_ports_again(client)?;
    // What is answered to spoofed sources comes to the client, who knows nothing of it.
    let to = addresses::client().of(Family::V4);
    let spoofed = format!("route add 198.18.0.0/15 via {to}");
    world.cluster.nodes[0].namespace.ip(&[spoofed])?;
    Ok((world, servers))
}

/// Opens idle connections from a Pod and from outside, to each family.
fn hold(world: &World) -> Result<Vec<Conversation>> {
    let mut held = Vec::new();
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    for family in Family::BOTH {
        let node_port = world.node_port(1, family, mirror::NODE_PORT);
        held.extend(idle(pod, mirror::cluster_ip(family), IDLE)?);
        held.extend(idle(client, node_port, IDLE)?);
    }
    Ok(held)
}

fn go_on(held: &mut [Conversation]) -> Result<()> {
    let count = held.len();
    let asked = held.iter_mut().map(Conversation::ask);
    let failures: Vec<_> = asked.filter_map(Result::err).collect();
    ensure!(
        failures.is_empty(),
        "{} of {count} idle connections are lost: {:#}",
        failures.len(),
        failures[0]
    );
    Ok(())
}

/// The source of the `number`th of a flood.
fn source(number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or_default();
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    SocketAddr::new(Ipv4Addr::from(first + number).into(), 40_000)
}

/// Sends one packet of each of so many sources.
fn flood(from: &Namespace, packet: impl Fn(SocketAddr) -> Packet) -> Result<()> {
    let spoofer = Spoofer::new(from)?;
    (0..scaled(FLOWS)).try_for_each(|number| spoofer.send(&packet(source(number))))
}

#[test]
fn short_connections_push_out_no_idle_one() -> Result<()> {
    let (world, _servers) = small()?;
    let mut held = hold(&world)?;
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let node_port = world.node_port(1, Family::V4, mirror::NODE_PORT);
    for (from, to) in [(pod, mirror::cluster_ip(Family::V4)), (client, node_port)] {
        none_is_lost(from, to, Transport::Tcp, FLOWS / 2)?;
    }
    go_on(&mut held)
}

#[test]
fn datagrams_push_out_no_idle_connection() -> Result<()> {
    let (world, _servers) = small()?;
    let mut held = hold(&world)?;
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let node_port = world.node_port(1, Family::V4, mirror::NODE_PORT);
    for (from, to) in [(client, node_port), (pod, mirror::cluster_ip(Family::V4))] {
        let spoofer = Spoofer::new(from)?;
        for number in 0..scaled(FLOWS) {
            spoofer.send(&Packet::udp(source(number), to))?;
            // Once more where there was an answer: such a flow seems to be established.
            if let Some(answered) = number.checked_sub(ANSWERED) {
                spoofer.send(&Packet::udp(source(answered), to))?;
            }
            if number % PACE == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    go_on(&mut held)
}

/// Flows that are answered and asked again live as well, but as UDP does. In a full table one may
/// lose a record while it talks, which is made again within two seconds: whoever has no answer
/// asks again.
#[test]
fn established_udp_flows_push_out_no_idle_connection() -> Result<()> {
    let (world, _servers) = small()?;
    let mut held = hold(&world)?;
    let client = &world.cluster.client;
    let node_port = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let twice = || -> Result<()> {
        for _ in 0..scaled(FLOWS) {
            let mut flow = Conversation::open(node_port, Transport::Udp)?;
            for _ in 0..2 {
                flow.ask().or_else(|_| flow.ask())?;
            }
        }
        Ok(())
    };
    client.run(twice)??;
    go_on(&mut held)
}

#[test]
fn handshakes_push_out_no_idle_connection() -> Result<()> {
    let (world, _servers) = small()?;
    let mut held = hold(&world)?;
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let node_port = world.node_port(1, Family::V4, mirror::NODE_PORT);
    for (from, to) in [(client, node_port), (pod, mirror::cluster_ip(Family::V4))] {
        flood(from, |source| segment(source, to, SYN, [1, 0]))?;
    }
    go_on(&mut held)
}

/// The handshakes that a pod has begun, by the client's port: `SYN_RECV` is 3.
fn handshakes(pod: &Namespace) -> Result<Vec<u16>> {
    let read = || {
        let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
        tables.map(fs::read_to_string)
    };
    let mut ports = Vec::new();
    for table in pod.run(read)? {
        for line in table?.lines() {
            let mut fields = line.split_whitespace().skip(2);
            let (Some(remote), Some("03")) = (fields.next(), fields.next()) else {
                continue;
            };
            let (_, port) = remote.rsplit_once(':').context("a port")?;
            ports.push(u16::from_str_radix(port, 16)?);
        }
    }
    Ok(ports)
}

/// Which pods have which handshakes.
fn who_has(world: &World) -> Result<BTreeMap<u16, Vec<String>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for pod in world.cluster.pods() {
        for port in handshakes(&pod.namespace)? {
            found.entry(port).or_default().push(pod.name.clone());
        }
    }
    Ok(found)
}

/// A SYN that is sent again when its record is gone already: the same tuple, and the same
/// endpoints.
#[test]
fn a_handshake_that_was_pushed_out_goes_on_with_its_endpoint() -> Result<()> {
    const HANDSHAKES: u16 = 16;
    let (world, _servers) = small()?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2)])?;
    let client = &world.cluster.client;
    let spoofer = Spoofer::new(client)?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let last = SocketAddr::new(Ipv4Addr::new(198, 19, 255, 255).into(), 0);
    let ask_all = || -> Result<()> {
        for port in 41_000..41_000 + HANDSHAKES {
            let source = SocketAddr::new(last.ip(), port);
            spoofer.send(&segment(source, to, SYN, [u32::from(port), 0]))?;
        }
        thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    ask_all()?;
    let before = who_has(&world)?;
    ensure!(before.len() == usize::from(HANDSHAKES), "{before:?}");
    let other = SocketAddr::new(OTHER.parse::<IpAddr>()?, 53);
    let pod = &world.cluster.pod(1, 3).namespace;
    flood(pod, |source| segment(source, other, SYN, [1, 0]))?;
    ask_all()?;
    let mut after = who_has(&world)?;
    // Those of the flood.
    after.retain(|port, _| before.contains_key(port));
    assert_eq!(after, before);
    Ok(())
}
