//! Packets with names, and what becomes of each.

mod errors;
mod fragments;
mod tunnels;

use std::net::{IpAddr, SocketAddr};

use super::{
    Choices, Hook, Packet, Protocol, Scenario, Transport, address, chunks, noise, tcp_flags,
};
use crate::lab::Family;

/// The one port for translated sources in the fixtures' scenario.
const NAT_PORT: u16 = 40_000;

/// A packet, and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixture {
    /// What it shows.
    pub name: String,
    /// Where the packet is seen.
    pub hook: Hook,
    /// The packet.
    pub packet: Packet,
    /// Where it goes.
    pub outcome: Outcome,
    /// What it looks like afterwards.
    pub becomes: Packet,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// On through the stack.
    Passed,
    /// Nowhere.
    Dropped,
    /// Out by a device of the program's choice.
    SentOn,
}

/// All fixtures with the scenario in which they happen, in this order.
pub fn fixtures() -> (Scenario, Vec<Fixture>) {
    let scenario = Scenario {
        nat_ports: (NAT_PORT, 1),
        ..Scenario::usual()
    };
    let mut table = Vec::new();
    for family in Family::BOTH {
        for protocol in Protocol::ALL {
            let mut scenes = Scenes {
                family,
                protocol,
                table: &mut table,
            };
            scenes.local_endpoint();
            scenes.shared_endpoint();
            scenes.remote_endpoint();
            scenes.pods();
            scenes.errors();
            scenes.fragments();
            scenes.policies();
            scenes.node_ports();
            scenes.direct_return();
            scenes.bystanders();
            scenes.fragments_of_others();
        }
    }
    (scenario, table)
}

/// Writes the table for one family and protocol.
struct Scenes<'a> {
    family: Family,
    protocol: Protocol,
    table: &'a mut Vec<Fixture>,
}

/// From where, and to where.
type Ends = (SocketAddr, SocketAddr);

impl Scenes<'_> {
    fn at(&self, network: u8, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(address(self.family, network, host), port)
    }

    fn service(&self, host: u8) -> SocketAddr {
        self.at(9, host, if host == 4 { 443 } else { 80 })
    }

    fn client(&self) -> SocketAddr {
        self.at(7, 7, 50_000)
    }

    fn near(&self) -> SocketAddr {
        self.at(2, 1, 8080)
    }

    fn far(&self) -> SocketAddr {
        self.at(3, 1, 8080)
    }

    fn node(&self) -> SocketAddr {
        self.at(1, 1, NAT_PORT)
    }

    fn packet(&self, (from, to): Ends) -> Packet {
        match self.protocol {
            Protocol::Tcp => Packet::tcp(from, to, tcp_flags::ACK),
            Protocol::Udp => Packet::udp(from, to),
            Protocol::Sctp => Packet::sctp(from, to, chunks::DATA),
        }
    }

    fn add(&mut self, name: &str, hook: Hook, packet: Packet, outcome: Outcome, becomes: Packet) {
        let name = format!("{} {:?}: {name}", self.family, self.protocol);
        self.table.push(Fixture {
            name,
            hook,
            packet,
            outcome,
            becomes,
        });
    }

    fn passes(&mut self, name: &str, hook: Hook, ends: Ends, (source, destination): Ends) {
        let packet = self.packet(ends);
        let becomes = packet.between(source, destination);
        self.add(name, hook, packet, Outcome::Passed, becomes);
    }

    fn is_sent_on(&mut self, name: &str, hook: Hook, ends: Ends, (source, destination): Ends) {
        let packet = self.packet(ends);
        let becomes = packet.between(source, destination).sent_on();
        self.add(name, hook, packet, Outcome::SentOn, becomes);
    }

    fn is_reset(&mut self, name: &str, hook: Hook, ends: Ends) {
        let packet = self.packet(ends);
        let mut reset = packet.between(ends.1, ends.0).turned_back();
        reset.ttl = 64;
        if let Transport::Tcp { flags, numbers, .. } = &mut reset.transport {
            *flags = tcp_flags::RST;
            *numbers = [numbers[1], 0];
        }
        self.add(name, hook, packet, Outcome::SentOn, reset);
    }

    fn is_dropped(&mut self, name: &str, hook: Hook, ends: Ends) {
        let packet = self.packet(ends);
        self.add(name, hook, packet.clone(), Outcome::Dropped, packet);
    }

    fn is_left_alone(&mut self, name: &str, hook: Hook, packet: &Packet) {
        let (packet, becomes) = (packet.clone(), packet.clone());
        self.add(name, hook, packet, Outcome::Passed, becomes);
    }

    fn local_endpoint(&mut self) {
        let (client, service, near) = (self.client(), self.service(1), self.near());
        let (ends, wire) = ((client, service), (client, near));
        self.passes("to an endpoint of the node", Hook::FromOutside, ends, wire);
        let (ends, wire) = ((near, client), (service, client));
        self.passes("its reply", Hook::Out, ends, wire);
        for seed in 0..8 {
            let bytes = noise(seed, 64);
            let shaped = self.packet((client, service));
            let shaped = shaped.reshaped(&mut Choices::new(&bytes));
            let becomes = shaped.between(client, near);
            let name = format!("in another shape, {seed}");
            self.add(&name, Hook::FromOutside, shaped, Outcome::Passed, becomes);
        }
    }

    fn shared_endpoint(&mut self) {
        let (client, service, near) = (self.client(), self.service(4), self.near());
        let moved = SocketAddr::new(client.ip(), NAT_PORT);
        let (ends, wire) = ((client, service), (moved, near));
        let name = "same client port, same endpoint, another Service";
        self.passes(name, Hook::FromOutside, ends, wire);
        let (ends, wire) = ((near, moved), (service, client));
        self.passes("its reply too", Hook::Out, ends, wire);
    }

    fn remote_endpoint(&mut self) {
        let (client, service, far) = (self.client(), self.service(2), self.far());
        let (ends, wire) = ((client, service), (self.node(), far));
        let name = "to an endpoint of another node";
        self.is_sent_on(name, Hook::FromOutside, ends, wire);
        let (ends, back) = ((far, self.node()), (service, client));
        self.is_sent_on("reply from there", Hook::FromOutside, ends, back);
        let last = Packet {
            ttl: 1,
            ..self.packet((client, service))
        };
        let name = "at the end of its time to live";
        let told = last.expired(self.node().ip());
        self.add(name, Hook::FromOutside, last, Outcome::SentOn, told);
        let last = Packet {
            ttl: 1,
            ..self.packet((far, self.node()))
        };
        let told = last.expired(self.node().ip());
        let name = "a reply at the end of its time to live";
        self.add(name, Hook::FromOutside, last, Outcome::SentOn, told);
        let ends = (self.at(7, 8, 50_000), service);
        self.is_dropped("without a free port", Hook::FromOutside, ends);
    }

    fn pods(&mut self) {
        let (pod, far) = (self.at(2, 2, 50_000), self.far());
        let ends = (pod, self.service(2));
        self.passes("from a pod", Hook::FromPod, ends, (pod, far));
        let (server, service) = (self.near(), self.service(1));
        let itself = SocketAddr::new(server.ip(), 50_001);
        let packet = self.packet((itself, service));
        let becomes = packet.between(self.node(), server);
        let becomes = becomes.sent_on().turned_back();
        let name = "from a pod to itself";
        self.add(name, Hook::FromPod, packet, Outcome::SentOn, becomes);
        let packet = self.packet((server, self.node()));
        let becomes = packet.between(service, itself).sent_on().turned_back();
        self.add(
            "its answer",
            Hook::FromPod,
            packet,
            Outcome::SentOn,
            becomes,
        );
    }

    fn policies(&mut self) {
        let (pod, far) = (self.at(2, 2, 50_010), self.far());
        let ends = (self.client(), self.service(3));
        match self.protocol {
            Protocol::Tcp => self.is_reset("no endpoints", Hook::FromOutside, ends),
            Protocol::Udp | Protocol::Sctp => {
                self.is_unreachable("no endpoints", Hook::FromOutside, ends);
            }
        }
        let ends = (self.client(), self.service(5));
        let name = "external policy Local without endpoints";
        self.is_dropped(name, Hook::FromOutside, ends);
        let (ends, wire) = ((pod, self.service(5)), (pod, far));
        self.passes("the same from a pod", Hook::FromPod, ends, wire);
        let ends = (pod, self.service(6));
        let name = "internal policy Local without endpoints";
        self.is_dropped(name, Hook::FromPod, ends);
    }

    fn node_ports(&mut self) {
        let (client, near) = (self.at(7, 7, 50_020), self.near());
        let port = |ip: IpAddr| SocketAddr::new(ip, 30_081);
        let node = port(self.node().ip());
        let (ends, wire) = ((client, node), (client, near));
        self.passes("NodePort, policy Local", Hook::FromOutside, ends, wire);
        let (ends, wire) = ((near, client), (node, client));
        self.passes("NodePort, reply", Hook::Out, ends, wire);
        let elsewhere = port(address(self.family, 1, 9));
        let packet = self.packet((client, elsewhere));
        let name = "NodePort's number at another address";
        self.is_left_alone(name, Hook::FromOutside, &packet);
    }

    fn bystanders(&mut self) {
        let (client, near, service) = (self.client(), self.near(), self.service(1));
        let direct = self.packet((client, near));
        self.is_left_alone("to no Service", Hook::FromOutside, &direct);
        let outbound = self.packet((near, self.at(7, 9, 50_000)));
        self.is_left_alone("no reply", Hook::Out, &outbound);
        let packet = Packet {
            transport: Transport::Other(136),
            payload: noise(1, 64),
            ..self.packet((client, service))
        };
        self.is_left_alone("UDP-Lite", Hook::FromOutside, &packet);
    }
}
