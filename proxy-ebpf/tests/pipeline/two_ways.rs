//! A client that reaches an endpoint by its Service and directly, from one port.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Protocol, Scenario};

use super::world::{World, at};

/// A Pod, a Service, and its one endpoint.
struct Scene {
    world: World,
    pod: SocketAddr,
    service: SocketAddr,
    endpoint: SocketAddr,
}

impl Scene {
    /// With an endpoint of this node, and one of another.
    fn all() -> impl Iterator<Item = Self> {
        let both = |family| [((9, 1), (2, 1)), ((9, 2), (3, 1))].map(|hosts| (family, hosts));
        let all = Family::BOTH.into_iter().flat_map(both);
        all.map(|(family, (service, endpoint))| Self {
            world: World::new(&Scenario::usual()),
            pod: at(family, 2, 2, 50_000),
            service: at(family, service.0, service.1, 80),
            endpoint: at(family, endpoint.0, endpoint.1, 8080),
        })
    }

    fn ask(&self, protocol: Protocol, to: SocketAddr) -> Packet {
        Packet::opening(protocol, self.pod, to)
    }

    /// From where an answer comes to the Pod, to a packet that came from here.
    fn answer(&self, asked: &Packet, source: SocketAddr) -> SocketAddr {
        let answer = asked.answer(self.endpoint, source);
        let (from, to) = self.world.ends(Hook::Out, &answer);
        assert_eq!(to, self.pod);
        from
    }

    /// The Pod asks here and there; each answer comes from where it has asked.
    fn each_is_answered(&self, protocol: Protocol, ways: [SocketAddr; 2]) {
        let asked = ways.map(|to| self.ask(protocol, to));
        let wires = asked
            .each_ref()
            .map(|packet| self.world.open(Hook::FromPod, packet));
        assert_eq!(wires[0], (self.pod, self.endpoint), "who is first");
        assert_eq!(wires[1].0.ip(), self.pod.ip());
        assert_eq!(wires[1].1, self.endpoint);
        assert_ne!(wires[1], wires[0]);
        for _ in 0..3 {
            for ((packet, wire), to) in asked.iter().zip(wires).zip(ways) {
                assert_eq!(self.answer(packet, wire.0), to);
                assert_eq!(self.world.ends(Hook::FromPod, packet), wire);
            }
            self.world.wait(3);
        }
    }
}

#[test]
fn by_a_service_and_then_directly() {
    for protocol in Protocol::ALL {
        for scene in Scene::all() {
            scene.each_is_answered(protocol, [scene.service, scene.endpoint]);
        }
    }
}

#[test]
fn directly_and_then_by_a_service() {
    for protocol in Protocol::ALL {
        for scene in Scene::all() {
            scene.each_is_answered(protocol, [scene.endpoint, scene.service]);
        }
    }
}

/// The first datagrams, before any is answered.
#[test]
fn datagrams_of_one_socket_are_answered_from_where_they_were_sent_to() {
    for scene in Scene::all() {
        let ways = [scene.service, scene.endpoint];
        let asked = ways.map(|to| scene.ask(Protocol::Udp, to));
        let sources = asked
            .each_ref()
            .map(|packet| scene.world.ends(Hook::FromPod, packet).0);
        for ((packet, source), to) in asked.iter().zip(sources).zip(ways) {
            assert_eq!(scene.answer(packet, source), to);
        }
    }
}
