//! Plain connections whose tuple a translated flow has, or had.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at, segment};

use tcp_flags::{ACK, FIN, RST, SYN};

/// A Service with an endpoint of this node, and a client outside.
struct Scene {
    world: World,
    client: SocketAddr,
    service: SocketAddr,
    endpoint: SocketAddr,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| {
            let (client, service) = (at(family, 7, 7, 50_000), at(family, 9, 1, 80));
            let endpoint = at(family, 2, 1, 8080);
            let mut scenario = Scenario::empty();
            scenario.add_backend(endpoint, true);
            scenario
                .frontends
                .push(Frontend::new(service, Protocol::Tcp, vec![0]));
            Self {
                world: World::new(&scenario),
                client,
                service,
                endpoint,
            }
        })
    }

    /// The client sends, to the Service or to the endpoint itself.
    fn send(&self, to: SocketAddr, flags: u8) {
        let packet = Packet::tcp(self.client, to, flags);
        let (_, arrives_at) = self.world.ends(Hook::FromOutside, &packet);
        assert_eq!(arrives_at, self.endpoint);
    }

    /// From where the endpoint's answer comes to the client.
    fn answer(&self, flags: u8) -> SocketAddr {
        let packet = Packet::tcp(self.endpoint, self.client, flags);
        self.world.ends(Hook::Out, &packet).0
    }

    fn syn(&self, to: SocketAddr) -> Packet {
        Packet::tcp(self.client, to, SYN)
    }

    /// Opens a connection, and says from where its packets arrive at the endpoint.
    fn open(&self, to: SocketAddr) -> SocketAddr {
        let (source, endpoint) = self.world.open(Hook::FromOutside, &self.syn(to));
        assert_eq!(endpoint, self.endpoint);
        assert_eq!(source.ip(), self.client.ip());
        source
    }

    /// Both sides close a connection whose packets arrive from here.
    fn close(&self, to: SocketAddr, source: SocketAddr) {
        let wire = (source, self.endpoint);
        self.world.close(Hook::FromOutside, &self.syn(to), wire);
    }
}

#[test]
fn a_plain_connection_takes_over_from_a_flow_that_both_sides_have_closed() {
    for scene in Scene::all() {
        let source = scene.open(scene.service);
        assert_eq!(source, scene.client);
        scene.close(scene.service, source);
        assert_eq!(scene.open(scene.endpoint), scene.client);
    }
}

#[test]
fn the_service_takes_over_again_from_a_plain_connection_that_is_over() {
    for scene in Scene::all() {
        let source = scene.open(scene.endpoint);
        scene.close(scene.endpoint, source);
        // As long as netfilter remembers one that both sides have closed.
        scene.world.wait(125);
        assert_eq!(scene.open(scene.service), scene.client);
    }
}

#[test]
fn the_next_plain_connection_of_a_port_keeps_its_tuple() {
    for scene in Scene::all() {
        let source = scene.open(scene.endpoint);
        scene.close(scene.endpoint, source);
        scene.open(scene.endpoint);
        scene.world.wait(3600);
        assert_ne!(scene.open(scene.service), scene.client);
        assert_eq!(scene.answer(ACK), scene.endpoint);
    }
}

/// However much of it one side has said: what the other has not taken up may be anybody's.
#[test]
fn beside_a_flow_that_may_live_a_plain_connection_gets_another_source_port() {
    let ends: [&dyn Fn(&Scene); 4] = [
        &|_| (),
        &|scene| scene.send(scene.service, FIN | ACK),
        &|scene| assert_eq!(scene.answer(FIN | ACK), scene.service),
        &|scene| scene.send(scene.service, RST),
    ];
    for end in ends {
        for scene in Scene::all() {
            scene.open(scene.service);
            end(&scene);
            let source = scene.open(scene.endpoint);
            assert_ne!(source, scene.client);
            // Both go on.
            scene.send(scene.service, ACK);
            assert_eq!(scene.answer(ACK), scene.service);
            let data = Packet::tcp(scene.endpoint, source, ACK);
            let came = scene.world.ends(Hook::Out, &data);
            assert_eq!(came, (scene.endpoint, scene.client));
        }
    }
}

#[test]
fn a_plain_syn_does_not_cut_a_flow_that_goes_on() {
    for scene in Scene::all() {
        scene.open(scene.service);
        scene
            .world
            .send(Hook::FromOutside, &scene.syn(scene.endpoint));
        assert_eq!(scene.answer(ACK), scene.service);
    }
}

#[test]
fn what_is_no_syn_takes_nothing_over() {
    for scene in Scene::all() {
        let source = scene.open(scene.service);
        scene.send(scene.endpoint, ACK);
        assert_eq!(scene.answer(ACK), scene.service);
        scene.close(scene.service, source);
        scene.send(scene.endpoint, ACK);
        let late = segment((scene.endpoint, scene.client), ACK, [2, 2]);
        let came = scene.world.ends(Hook::Out, &late);
        assert_eq!(came, (scene.service, scene.client));
    }
}

/// A SYN to the Service is translated at one device, and comes in once more, as it is then,
/// at another one above: of a VLAN, or with an address of its own.
#[test]
fn a_connection_may_come_in_at_two_devices() {
    for scene in Scene::all() {
        let come_in = || {
            scene.send(scene.service, SYN);
            scene.send(scene.endpoint, SYN);
        };
        come_in();
        assert_eq!(scene.answer(SYN | ACK), scene.service);
        // The answer was lost, and the client asks again.
        scene.world.wait(3);
        come_in();
        assert_eq!(scene.answer(SYN | ACK), scene.service);
        for to in [scene.service, scene.endpoint] {
            scene.send(to, ACK);
        }
        assert_eq!(scene.answer(ACK), scene.service);
    }
}

#[test]
fn a_flow_that_never_opened_leaves_its_tuple_to_a_plain_connection_after_a_minute() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.world.wait(3);
        assert_ne!(scene.open(scene.endpoint), scene.client);
    }
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.world.wait(63);
        assert_eq!(scene.open(scene.endpoint), scene.client);
    }
}
