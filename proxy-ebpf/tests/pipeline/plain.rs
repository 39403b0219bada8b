//! Plain connections whose tuple a translated flow has, or had.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};

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
}

#[test]
fn a_plain_connection_takes_over_from_a_flow_that_the_client_ended() {
    for scene in Scene::all() {
        for end in [FIN | ACK, RST] {
            scene.send(scene.service, SYN);
            assert_eq!(scene.answer(SYN | ACK), scene.service);
            scene.send(scene.service, end);
            scene.send(scene.endpoint, SYN);
            assert_eq!(scene.answer(SYN | ACK), scene.endpoint);
        }
    }
}

#[test]
fn a_plain_connection_takes_over_from_a_flow_that_the_server_ended() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        assert_eq!(scene.answer(FIN | ACK), scene.service);
        scene.send(scene.endpoint, SYN);
        assert_eq!(scene.answer(SYN | ACK), scene.endpoint);
    }
}

#[test]
fn the_service_takes_over_again_from_a_plain_connection() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.send(scene.service, FIN | ACK);
        scene.send(scene.endpoint, SYN);
        scene.send(scene.service, SYN);
        assert_eq!(scene.answer(SYN | ACK), scene.service);
    }
}

#[test]
fn a_plain_syn_does_not_cut_a_flow_that_goes_on() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.answer(SYN | ACK);
        scene.send(scene.service, ACK);
        scene.send(scene.endpoint, SYN);
        assert_eq!(scene.answer(ACK), scene.service);
    }
}

#[test]
fn what_is_no_syn_takes_nothing_over() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.send(scene.service, FIN | ACK);
        scene.send(scene.endpoint, ACK);
        assert_eq!(scene.answer(ACK), scene.service);
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
fn a_plain_connection_takes_over_from_a_flow_that_never_opened() {
    for scene in Scene::all() {
        scene.send(scene.service, SYN);
        scene.world.wait(3);
        scene.send(scene.endpoint, SYN);
        assert_eq!(scene.answer(SYN | ACK), scene.endpoint);
    }
}
