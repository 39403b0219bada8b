//! When a translated source port is free for another flow.
//!
//! There is one port, a client that has it, and another that wants it.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at, segment};
use crate::host::Action;
use crate::layout::Counter;

use tcp_flags::{ACK, FIN, RST, SYN};

const PORT: u16 = 40_000;

struct Scene {
    world: World,
    first: SocketAddr,
    second: SocketAddr,
    service: SocketAddr,
    node: SocketAddr,
    endpoint: SocketAddr,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| {
            let (service, endpoint) = (at(family, 9, 1, 80), at(family, 3, 1, 8080));
            let mut scenario = Scenario::empty();
            scenario.nat_ports = (PORT, 1);
            scenario.add_backend(endpoint, false);
            for protocol in Protocol::ALL {
                let frontend = Frontend::new(service, protocol, vec![0]);
                scenario.frontends.push(frontend);
            }
            Self {
                world: World::new(&scenario),
                first: at(family, 7, 1, 50_000),
                second: at(family, 7, 2, 50_000),
                service,
                node: at(family, 1, 1, PORT),
                endpoint,
            }
        })
    }

    fn tcp(&self, client: SocketAddr, flags: u8) -> Packet {
        Packet::tcp(client, self.service, flags)
    }

    fn udp(&self, client: SocketAddr) -> Packet {
        Packet::udp(client, self.service)
    }

    /// The first client sends to its endpoint.
    fn send(&self, flags: u8) {
        let packet = self.tcp(self.first, flags);
        let ends = self.world.ends(Hook::FromOutside, &packet);
        assert_eq!(ends, (self.node, self.endpoint));
    }

    /// The endpoint answers whoever has the port.
    fn answer(&self, flags: u8) -> SocketAddr {
        let packet = Packet::tcp(self.endpoint, self.node, flags);
        self.world.ends(Hook::FromOutside, &packet).1
    }

    /// The same without data, and with these numbers.
    fn send_segment(&self, flags: u8, numbers: [u32; 2]) {
        let packet = segment((self.first, self.service), flags, numbers);
        let ends = self.world.ends(Hook::FromOutside, &packet);
        assert_eq!(ends, (self.node, self.endpoint));
    }

    /// The same of the endpoint, to whoever has the port.
    fn answer_segment(&self, flags: u8, numbers: [u32; 2]) -> SocketAddr {
        let packet = segment((self.endpoint, self.node), flags, numbers);
        self.world.ends(Hook::FromOutside, &packet).1
    }

    /// Both sides close a client's connection.
    fn close(&self, client: SocketAddr) {
        let first = self.tcp(client, SYN);
        self.world
            .close(Hook::FromOutside, &first, (self.node, self.endpoint));
    }

    fn open(&self, packet: &Packet) {
        let ends = self.world.open(Hook::FromOutside, packet);
        assert_eq!(ends, (self.node, self.endpoint));
    }

    fn is_refused(&self, packet: &Packet) {
        self.world.counted();
        let (action, _) = self.world.send(Hook::FromOutside, packet);
        assert_eq!(action, Action::Drop);
        assert_eq!(self.world.counted(), [(Counter::PortsExhausted, 1)]);
    }

    /// The second client gets the port, and its endpoint's answers.
    fn gets_the_port(&self, packet: &Packet) {
        self.open(packet);
    }
}

#[test]
fn an_open_connection_keeps_its_port() {
    for scene in Scene::all() {
        scene.open(&scene.tcp(scene.first, SYN));
        scene.is_refused(&scene.tcp(scene.second, SYN));
        assert_eq!(scene.answer(ACK), scene.first);
    }
}

#[test]
fn an_open_udp_flow_keeps_its_port_while_it_is_used() {
    for scene in Scene::all() {
        scene.open(&scene.udp(scene.first));
        scene.world.wait(200);
        scene.is_refused(&scene.udp(scene.second));
        scene.world.wait(50);
        scene.gets_the_port(&scene.udp(scene.second));
    }
}

#[test]
fn a_port_is_free_with_the_last_ack_after_both_sides_have_closed() {
    for client_first in [true, false] {
        for scene in Scene::all() {
            scene.open(&scene.tcp(scene.first, SYN));
            if client_first {
                scene.send_segment(FIN | ACK, [1, 1]);
                assert_eq!(scene.answer_segment(ACK, [1, 2]), scene.first);
                scene.is_refused(&scene.tcp(scene.second, SYN));
                assert_eq!(scene.answer_segment(FIN | ACK, [1, 2]), scene.first);
                scene.is_refused(&scene.tcp(scene.second, SYN));
                scene.send_segment(ACK, [2, 2]);
            } else {
                assert_eq!(scene.answer_segment(FIN | ACK, [1, 1]), scene.first);
                scene.send_segment(ACK, [1, 2]);
                scene.is_refused(&scene.tcp(scene.second, SYN));
                scene.send_segment(FIN | ACK, [1, 2]);
                scene.is_refused(&scene.tcp(scene.second, SYN));
                assert_eq!(scene.answer_segment(ACK, [2, 2]), scene.first);
            }
            // What is still under way arrives.
            scene.send_segment(ACK, [2, 2]);
            assert_eq!(scene.answer_segment(ACK, [2, 2]), scene.first);
            scene.gets_the_port(&scene.tcp(scene.second, SYN));
        }
    }
}

/// The endpoint remembers it, and may take another's SYN for a late segment.
#[test]
fn a_closed_connections_port_is_the_last_to_be_taken() {
    const TIME_WAIT: u32 = 120;
    for family in Family::BOTH {
        let (service, endpoint) = (at(family, 9, 1, 80), at(family, 3, 1, 8080));
        let mut scenario = Scenario::empty();
        scenario.nat_ports = (PORT, 2);
        scenario.add_backend(endpoint, false);
        let frontend = Frontend::new(service, Protocol::Tcp, vec![0]);
        scenario.frontends.push(frontend);
        let world = World::new(&scenario);
        let begin = |client: u8| {
            let syn = Packet::tcp(at(family, 7, client, 50_000), service, SYN);
            let ends = world.open(Hook::FromOutside, &syn);
            (syn, ends)
        };
        // Each client begins with a port of its own choice.
        for clients in [[1, 2], [3, 4], [5, 6], [7, 8]] {
            let [first, second] = clients.map(|client| {
                let (syn, ends) = begin(client);
                world.close(Hook::FromOutside, &syn, ends);
                ends.0
            });
            assert_ne!(first, second, "while the endpoint remembers the first");
            world.wait(TIME_WAIT + 1);
        }
        // Where there is no other port, one of them.
        for client in [9, 10] {
            let (syn, ends) = begin(client);
            world.close(Hook::FromOutside, &syn, ends);
        }
        begin(11);
    }
}

/// Of a client that comes from one port to two frontends of one endpoint. A second connection to the
/// first one keeps its port: its stack knows what it may ask of the endpoint.
#[test]
fn a_closed_connections_tuple_is_not_anothers_while_the_endpoint_remembers_it() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            let services = [1, 2].map(|number| at(family, 9, number, 80));
            let mut scenario = Scenario::empty();
            scenario.nat_ports = (PORT, 100);
            scenario.add_backend(at(family, 3, 1, 8080), is_local);
            for service in services {
                let frontend = Frontend::new(service, Protocol::Tcp, vec![0]);
                scenario.frontends.push(frontend);
            }
            let world = World::new(&scenario);
            let [first, again, other] = [services[0], services[0], services[1]].map(|service| {
                let syn = Packet::tcp(at(family, 7, 1, 50_000), service, SYN);
                let ends = world.open(Hook::FromOutside, &syn);
                world.close(Hook::FromOutside, &syn, ends);
                ends.0
            });
            assert_eq!(again, first);
            assert_ne!(other, first, "local: {is_local}");
        }
    }
}

#[test]
fn a_lost_last_ack_is_waited_for() {
    for scene in Scene::all() {
        scene.open(&scene.tcp(scene.first, SYN));
        scene.send_segment(FIN | ACK, [1, 1]);
        for _ in 0..3 {
            scene.world.wait(25);
            let came = scene.answer_segment(FIN | ACK, [1, 2]);
            assert_eq!(came, scene.first, "sent again");
            scene.is_refused(&scene.tcp(scene.second, SYN));
        }
        scene.send_segment(ACK, [2, 2]);
        scene.gets_the_port(&scene.tcp(scene.second, SYN));
    }
}

#[test]
fn a_connection_that_one_side_has_closed_keeps_its_port_for_an_hour() {
    for scene in Scene::all() {
        scene.open(&scene.tcp(scene.first, SYN));
        scene.send_segment(FIN | ACK, [1, 1]);
        for _ in 0..3 {
            scene.world.wait(3500);
            let came = scene.answer_segment(ACK, [1, 2]);
            assert_eq!(came, scene.first, "the other side goes on");
        }
        scene.world.wait(3500);
        scene.is_refused(&scene.tcp(scene.second, SYN));
        scene.world.wait(110);
        scene.gets_the_port(&scene.tcp(scene.second, SYN));
    }
}

#[test]
fn a_connection_that_was_reset_gives_way() {
    for by_client in [true, false] {
        for scene in Scene::all() {
            scene.open(&scene.tcp(scene.first, SYN));
            if by_client {
                scene.send(RST);
            } else {
                assert_eq!(scene.answer(RST), scene.first);
            }
            scene.gets_the_port(&scene.tcp(scene.second, SYN));
        }
    }
}

/// A reset, and then silence, as of a connection that does nothing for a while.
#[test]
fn a_reset_with_another_number_gives_no_port_away() {
    for scene in Scene::all() {
        scene.open(&scene.tcp(scene.first, SYN));
        scene.send_segment(RST, [77, 0]);
        assert_eq!(scene.answer_segment(RST, [77, 0]), scene.first);
        scene.world.wait(60);
        scene.is_refused(&scene.tcp(scene.second, SYN));
        assert_eq!(scene.answer(ACK), scene.first);
    }
}

#[test]
fn a_connection_after_one_that_was_reset_keeps_its_port() {
    for by_client in [true, false] {
        for scene in Scene::all() {
            scene.open(&scene.tcp(scene.first, SYN));
            if by_client {
                scene.send(RST);
            } else {
                assert_eq!(scene.answer(RST), scene.first);
            }
            scene.open(&scene.tcp(scene.first, SYN));
            scene.world.wait(60);
            scene.is_refused(&scene.tcp(scene.second, SYN));
            assert_eq!(scene.answer(ACK), scene.first);
        }
    }
}

#[test]
fn what_is_only_opening_gives_way() {
    for scene in Scene::all() {
        scene.send(SYN);
        // Asking again opens nothing, answered or not.
        assert_eq!(scene.answer(SYN | ACK), scene.first);
        scene.send(SYN);
        scene.gets_the_port(&scene.tcp(scene.second, SYN));
        // The first one is refused now, and disturbs nobody.
        scene.is_refused(&scene.tcp(scene.first, SYN));
        assert_eq!(scene.answer(ACK), scene.second);
    }
}

#[test]
fn a_flow_that_gave_way_leaves_its_port_alone() {
    for scene in Scene::all() {
        let ask = scene.udp(scene.first);
        scene.world.ends(Hook::FromOutside, &ask);
        scene.gets_the_port(&scene.udp(scene.second));
        scene.is_refused(&ask);
        let answer = Packet::udp(scene.endpoint, scene.node);
        let came = scene.world.ends(Hook::FromOutside, &answer);
        assert_eq!(came, (scene.service, scene.second));
    }
}

#[test]
fn a_client_that_asks_anew_has_another_flow() {
    for scene in Scene::all() {
        scene.open(&scene.tcp(scene.first, SYN));
        scene.close(scene.first);
        // The same client, with the same port, at once.
        scene.open(&scene.tcp(scene.first, SYN));
        scene.is_refused(&scene.tcp(scene.second, SYN));
    }
}

#[test]
fn thousands_of_connections_in_a_row_need_few_ports() {
    for scene in Scene::all() {
        for port in 1024..3000 {
            let client = SocketAddr::new(scene.first.ip(), port);
            scene.open(&scene.tcp(client, SYN));
            scene.close(client);
        }
    }
}

#[test]
fn three_quarters_of_a_great_range_can_be_used_at_once() {
    for family in Family::BOTH {
        let mut scenario = Scenario::empty();
        scenario.nat_ports = (1024, 33_500);
        scenario.add_backend(at(family, 3, 1, 8080), false);
        let service = at(family, 9, 1, 80);
        let frontend = Frontend::new(service, Protocol::Tcp, vec![0]);
        scenario.frontends.push(frontend);
        let mut world = World::new(&scenario);
        // Enough that no bucket is full.
        world.set_buckets(1 << 17);
        let mut refused = 0;
        for number in 0..25_000_u16 {
            let [host, port] = [number >> 8, number & 0xff];
            let client = at(family, 7, u8::try_from(host).unwrap(), 40_000 + port);
            let packet = Packet::tcp(client, service, SYN);
            if world.send(Hook::FromOutside, &packet).0 == Action::Drop {
                refused += 1;
                continue;
            }
            world.open(Hook::FromOutside, &packet);
        }
        // A client asks again, and then finds another order of ports no better; but
        // ports become free.
        assert!(refused <= 10, "{refused} of 25000 were refused");
    }
}
