//! How often each path asks the kernel for something, by the table in `calls.txt`: what does
//! not depend on the machine. A change that makes a path dearer shows there.
//!
//! Where a path has become cheaper, or dearer for a reason, the test prints the line that is
//! to be in the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::caller::{Caller, Outcome};
use super::world::{World, at};
use crate::host::{self, Call, Frame, Link};
use crate::pipeline::{Client, Handshake};

use tcp_flags::{ACK, SYN};

const TABLE: &str = include_str!("calls.txt");

/// A node with a Service on each kind of endpoint.
struct Scene {
    family: Family,
    world: World,
}

impl Scene {
    fn new(family: Family) -> Self {
        let mut scenario = Scenario::empty();
        let near = scenario.add_backend(at(family, 2, 1, 8080), true);
        let far = scenario.add_backend(at(family, 3, 1, 8080), false);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (host, set) in [(1, vec![near]), (2, vec![far]), (3, vec![])] {
                let frontend = Frontend::new(at(family, 9, host, 80), protocol, set);
                scenario.frontends.push(frontend);
            }
            let any: SocketAddr = match family {
                Family::V4 => ([0; 4], 30_080).into(),
                Family::V6 => ([0; 8], 30_080).into(),
            };
            let mut node_port = Frontend::new(any, protocol, vec![near]);
            node_port.external = true;
            scenario.frontends.push(node_port);
        }
        let world = World::new(&scenario);
        Self { family, world }
    }

    fn at(&self, network: u8, host: u8, port: u16) -> SocketAddr {
        at(self.family, network, host, port)
    }

    /// The calls since the last time.
    fn calls(&self) -> BTreeMap<Call, u32> {
        self.world.shared.calls.take()
    }

    fn by_tc(&self, hook: Hook, packet: &Packet) {
        self.world.send(hook, packet);
    }

    /// XDP, and TC behind it only where a packet is left to that.
    fn by_xdp(&self, packet: &Packet) {
        let mut frame = Frame(packet.build());
        let hook = host::Hook::Xdp { can_send: true };
        let (v4, v6) = (&self.world.v4, &self.world.v6);
        host::run(&mut frame, hook, Link::Ethernet, v4, v6);
    }

    /// A connection that is open, and from where to where its packets go.
    fn connection(&self, service: u8) -> (Packet, SocketAddr, SocketAddr) {
        let from = self.at(7, 7, 40_000 + u16::from(service));
        let syn = Packet::tcp(from, self.at(9, service, 80), SYN);
        let (source, endpoint) = self.world.open(Hook::FromOutside, &syn);
        (syn, source, endpoint)
    }
}

/// Each path, by its name.
fn paths(scene: &Scene) -> Vec<(&'static str, BTreeMap<Call, u32>)> {
    let mut paths = packets(scene);
    paths.extend(by_xdp(scene));
    paths.extend(sockets(scene));
    paths.extend(handshakes(scene.family));
    paths
}

fn packets(scene: &Scene) -> Vec<(&'static str, BTreeMap<Call, u32>)> {
    let (client, plain) = (scene.at(7, 7, 50_000), scene.at(4, 4, 443));
    let mut paths = Vec::new();
    let mut run = |name, hook, packet: Packet| {
        scene.calls();
        scene.by_tc(hook, &packet);
        paths.push((name, scene.calls()));
    };
    let (near, _, near_endpoint) = scene.connection(1);
    let (far, far_source, far_endpoint) = scene.connection(2);
    let again = |first: &Packet| Packet::tcp(first.source, first.destination, ACK);

    run(
        "TC in, plain UDP",
        Hook::FromOutside,
        Packet::udp(client, plain),
    );
    run(
        "TC in, plain TCP",
        Hook::FromOutside,
        Packet::tcp(client, plain, ACK),
    );
    run(
        "TC in, plain SYN",
        Hook::FromOutside,
        Packet::tcp(client, plain, SYN),
    );
    let to_endpoint = Packet::tcp(client, near_endpoint, SYN);
    run(
        "TC in, plain SYN to an endpoint",
        Hook::FromOutside,
        to_endpoint,
    );
    let to_endpoint = Packet::udp(client, near_endpoint);
    scene.by_tc(Hook::FromOutside, &to_endpoint);
    run(
        "TC in, noted UDP to an endpoint",
        Hook::FromOutside,
        to_endpoint,
    );
    let to_node = Packet::tcp(client, scene.at(1, 1, 22), ACK);
    run("TC in, plain TCP to the node", Hook::FromOutside, to_node);
    run("TC out, plain UDP", Hook::Out, Packet::udp(plain, client));
    run(
        "TC out, plain TCP",
        Hook::Out,
        Packet::tcp(plain, client, ACK),
    );
    run(
        "TC in, hit, local endpoint",
        Hook::FromOutside,
        again(&near),
    );
    let reply = Packet::tcp(near_endpoint, near.source, ACK);
    run("TC out, reply, local endpoint", Hook::Out, reply);
    run(
        "TC in, hit, remote endpoint",
        Hook::FromOutside,
        again(&far),
    );
    let reply = Packet::tcp(far_endpoint, far_source, ACK);
    run("TC in, reply, remote endpoint", Hook::FromOutside, reply);
    let new = |service, port| Packet::tcp(scene.at(7, 7, port), scene.at(9, service, 80), SYN);
    run(
        "TC in, new flow, local endpoint",
        Hook::FromOutside,
        new(1, 51_000),
    );
    run(
        "TC in, new flow, remote endpoint",
        Hook::FromOutside,
        new(2, 51_001),
    );
    let node_port = Packet::tcp(scene.at(7, 7, 51_002), scene.at(1, 1, 30_080), SYN);
    run("TC in, new flow, NodePort", Hook::FromOutside, node_port);
    run("TC in, refused", Hook::FromOutside, new(3, 51_003));
    paths
}

fn by_xdp(scene: &Scene) -> Vec<(&'static str, BTreeMap<Call, u32>)> {
    let client = scene.at(7, 7, 50_000);
    let (near, ..) = scene.connection(1);
    let (far, far_source, far_endpoint) = scene.connection(2);
    let again = |first: &Packet| Packet::tcp(first.source, first.destination, ACK);
    [
        (
            "XDP and TC in, plain UDP",
            Packet::udp(client, scene.at(4, 4, 443)),
        ),
        ("XDP, hit, local endpoint", again(&near)),
        ("XDP, hit, remote endpoint", again(&far)),
        (
            "XDP, reply, remote endpoint",
            Packet::tcp(far_endpoint, far_source, ACK),
        ),
    ]
    .into_iter()
    .map(|(name, packet)| {
        scene.calls();
        scene.by_xdp(&packet);
        (name, scene.calls())
    })
    .collect()
}

fn sockets(scene: &Scene) -> Vec<(&'static str, BTreeMap<Call, u32>)> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let caller = |protocol, cookie| Caller::new(Client::Pod, protocol, cookie);
    let (service, plain) = (scene.at(9, 1, 80), scene.at(4, 4, 443));
    let mut paths = Vec::new();
    let mut run = |name, call: &dyn Fn() -> Outcome| {
        scene.calls();
        call();
        paths.push((name, scene.calls()));
    };
    run("socket, connect, plain", &|| {
        caller(TCP, 1).connect(&scene.world, plain)
    });
    run("socket, connect, Service", &|| {
        caller(TCP, 2).connect(&scene.world, service)
    });
    run("socket, send, plain", &|| {
        caller(UDP, 3).send(&scene.world, None, plain)
    });
    run("socket, send, first", &|| {
        caller(UDP, 4).send(&scene.world, None, service)
    });
    run("socket, send, next", &|| {
        caller(UDP, 4).send(&scene.world, None, service)
    });
    paths
}

fn handshakes(family: Family) -> Vec<(&'static str, BTreeMap<Call, u32>)> {
    let mut scene = Scene::new(family);
    scene.world.retry_unanswered();
    let [translated, other] = [1, 2].map(|cookie| Caller::new(Client::Pod, 6, cookie));
    let (plain, endpoint) = (scene.at(4, 4, 443), scene.at(2, 1, 8080));
    translated.connect(&scene.world, scene.at(9, 1, 80));
    let calls = |name, socket: &Caller, what, peer| {
        scene.calls();
        socket.handshake(&scene.world, what, (scene.at(2, 9, 50_000), peer));
        (name, scene.calls())
    };
    vec![
        calls("handshake, plain", &other, Handshake::Begins, plain),
        calls(
            "handshake, plain, to an endpoint",
            &other,
            Handshake::Begins,
            endpoint,
        ),
        calls("handshake begins", &translated, Handshake::Begins, endpoint),
        calls(
            "handshake is answered",
            &translated,
            Handshake::IsAnswered,
            endpoint,
        ),
    ]
}

fn line(name: &str, calls: &BTreeMap<Call, u32>) -> String {
    let mut line = format!("{name:<34}");
    for call in [
        Call::Array,
        Call::Lookup,
        Call::Update,
        Call::Delete,
        Call::Clock,
        Call::Random,
    ] {
        let _ = write!(line, " {:>6}", calls.get(&call).copied().unwrap_or(0));
    }
    line
}

#[test]
fn each_path_asks_the_kernel_as_often_as_the_table_says() {
    let wanted: Vec<_> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    for family in Family::BOTH {
        let found = paths(&Scene::new(family));
        let found: Vec<_> = found
            .iter()
            .map(|(name, calls)| line(name, calls))
            .collect();
        assert!(
            found == wanted,
            "{family}: the table says:\n{}\nand it is:\n{}",
            wanted.join("\n"),
            found.join("\n")
        );
    }
}
