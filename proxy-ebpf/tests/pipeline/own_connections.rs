//! Connections of this node, or masqueraded as its own, from ports at which Services are
//! reached; and segments of no connection.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Scenario, tcp_flags};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

use tcp_flags::{ACK, FIN, RST, SYN};

const ENDS: [u8; 6] = [SYN | ACK, ACK, FIN, FIN | ACK, RST, RST | ACK];

/// A NodePort of this node, and somebody whom the node asks from it.
struct Scene {
    world: World,
    node_port: SocketAddr,
    service: SocketAddr,
    server: SocketAddr,
    endpoint: SocketAddr,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| Self {
            world: World::new(&Scenario::usual()),
            node_port: at(family, 1, 1, 30_081),
            service: at(family, 9, 1, 80),
            server: at(family, 7, 9, 443),
            endpoint: at(family, 2, 1, 8080),
        })
    }

    /// Somebody's packet to the NodePort passes as it is.
    fn comes_through(&self, packet: &Packet) {
        let (action, bytes) = self.world.send(Hook::FromOutside, packet);
        assert_eq!((action, bytes), (Action::Pass, packet.build()));
    }

    /// The node's packet goes out as it is.
    fn goes_out(&self, packet: &Packet) {
        let (action, bytes) = self.world.send(Hook::Out, packet);
        assert_eq!((action, bytes), (Action::Pass, packet.build()));
    }

    /// Somebody's packet is one of a client of the NodePort.
    fn is_served(&self, packet: &Packet) {
        let ends = self.world.ends(Hook::FromOutside, packet);
        assert_eq!(ends, (packet.source, self.endpoint));
    }
}

#[test]
fn answers_to_its_datagrams_come_through() {
    for scene in Scene::all() {
        let question = Packet::udp(scene.node_port, scene.server);
        let answer = Packet::udp(scene.server, scene.node_port);
        for _ in 0..5 {
            scene.goes_out(&question);
            scene.comes_through(&answer);
            scene.world.wait(200);
        }
        // To the same port others come as clients, and so does this one, once it is over.
        let other = SocketAddr::new(scene.server.ip(), 444);
        scene.is_served(&Packet::udp(other, scene.node_port));
        scene.world.wait(50);
        scene.is_served(&answer);
    }
}

#[test]
fn answers_on_its_connections_come_through() {
    for scene in Scene::all() {
        scene.goes_out(&Packet::tcp(scene.node_port, scene.server, SYN));
        for flags in ENDS {
            scene.comes_through(&Packet::tcp(scene.server, scene.node_port, flags));
            scene.goes_out(&Packet::tcp(scene.node_port, scene.server, ACK));
        }
        assert_eq!(scene.world.counted(), []);
        // Its next connection may be one to the NodePort.
        scene.is_served(&Packet::tcp(scene.server, scene.node_port, SYN));
    }
}

#[test]
fn a_client_that_the_node_answers_is_not_taken_for_one_that_it_asks() {
    for scene in Scene::all() {
        let ask = Packet::udp(scene.server, scene.node_port);
        scene.is_served(&ask);
        let answer = Packet::udp(scene.endpoint, scene.server);
        let came = scene.world.ends(Hook::Out, &answer);
        assert_eq!(came, (scene.node_port, scene.server));
        // A device above may see it once more, as it is then.
        scene.goes_out(&Packet::udp(scene.node_port, scene.server));
        scene.is_served(&ask);
    }
}

/// It may be one of a connection that began before, or of a socket of the node.
#[test]
fn a_segment_of_no_connection_goes_on_to_the_node() {
    for scene in Scene::all() {
        for flags in ENDS {
            scene.comes_through(&Packet::tcp(scene.server, scene.node_port, flags));
        }
        assert_eq!(scene.world.flow_records(), 0);
        assert_eq!(scene.world.counted(), []);
    }
}

#[test]
fn a_segment_of_no_connection_to_a_service_is_reset() {
    for scene in Scene::all() {
        for flags in ENDS {
            let packet = Packet::tcp(scene.server, scene.service, flags);
            let (action, _) = scene.world.send(Hook::FromOutside, &packet);
            let is_reset = flags & RST != 0;
            let wanted = if is_reset {
                Action::Drop
            } else {
                Action::Bounce
            };
            assert_eq!(action, wanted);
            assert_eq!(scene.world.counted(), [(Counter::NoConnection, 1)]);
        }
        assert_eq!(scene.world.flow_records(), 0);
    }
}
