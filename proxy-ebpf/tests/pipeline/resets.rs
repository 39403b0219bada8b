//! TCP connections whose endpoint has been gone for long.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Frontend, Hook, Packet, Protocol, Scenario, Transport, chunks, tcp_flags,
};

use super::caller::{Caller, Outcome};
use super::world::{World, at};
use crate::host::Action;
use crate::layout::{Counter, RESET_STEP};
use crate::pipeline::Client;

use tcp_flags::{ACK, FIN, RST, SYN};

/// A connection to the first of two endpoints of a Service.
struct Scene {
    world: World,
    hook: Hook,
    client: SocketAddr,
    service: SocketAddr,
    endpoints: [SocketAddr; 2],
}

impl Scene {
    /// Of both families, near and far; those by which packets are sent on, and others.
    fn each(mut check: impl FnMut(Scene)) {
        for family in Family::BOTH {
            for (hook, local) in [
                (Hook::FromOutside, true),
                (Hook::FromOutside, false),
                (Hook::FromPod, false),
            ] {
                check(Self::new(family, hook, local));
            }
        }
    }

    fn new(family: Family, hook: Hook, local: bool) -> Self {
        let endpoints = [1, 2].map(|host| at(family, 2, host, 8080));
        let service = at(family, 9, 1, 80);
        let mut scenario = Scenario::empty();
        for endpoint in endpoints {
            scenario.add_backend(endpoint, local);
        }
        for protocol in Protocol::ALL {
            let frontend = Frontend::new(service, protocol, vec![0]);
            scenario.frontends.push(frontend);
        }
        let mut world = World::new(&scenario);
        world.reset_gone();
        let client = at(family, 7, 7, 50_000);
        world.open(hook, &Packet::tcp(client, service, SYN));
        world.counted();
        Self {
            world,
            hook,
            client,
            service,
            endpoints,
        }
    }

    fn packet(&self, flags: u8) -> Packet {
        Packet::tcp(self.client, self.service, flags)
    }

    /// The first endpoint's life ends, and the second one takes its place.
    fn end(&mut self) {
        self.world.end_backend(0);
        self.world.switch_sets(&[1]);
    }

    /// The first endpoint has been gone for long.
    fn lose(&mut self) {
        self.end();
        self.world.raise_generation(0, RESET_STEP);
        self.world.wait(2);
    }

    #[track_caller]
    fn goes_to(&self, flags: u8, endpoint: usize) {
        let (_, to) = self.world.ends(self.hook, &self.packet(flags));
        assert_eq!(to, self.endpoints[endpoint]);
    }

    /// That a packet goes back as a reset, its sequence number what it acknowledges.
    #[track_caller]
    fn is_reset(&self, flags: u8) {
        let packet = self.packet(flags);
        let (action, bytes) = self.world.send(self.hook, &packet);
        assert_eq!(action, Action::Bounce);
        let mut reset = packet
            .between(packet.destination, packet.source)
            .turned_back();
        reset.ttl = 64;
        if let Transport::Tcp { flags, numbers, .. } = &mut reset.transport {
            *flags = RST;
            *numbers = [numbers[1], 0];
        }
        assert_eq!(bytes, reset.build());
        assert_eq!(self.world.counted(), [(Counter::EndpointGone, 1)]);
    }
}

#[test]
fn a_client_is_told_that_its_endpoint_is_gone() {
    Scene::each(|mut scene| {
        scene.goes_to(ACK, 0);
        scene.end();
        scene.world.wait(2);
        scene.goes_to(ACK, 0);
        scene.world.raise_generation(0, RESET_STEP);
        scene.world.wait(2);
        // All that are on their way, and what comes later.
        for _ in 0..3 {
            scene.is_reset(ACK);
        }
        scene.world.wait(100);
        scene.is_reset(ACK | FIN);
        // Connects anew by the same port.
        scene.goes_to(SYN, 1);
        scene.goes_to(ACK, 1);
    });
}

#[test]
fn whoever_has_the_index_now_does_not_matter() {
    Scene::each(|mut scene| {
        scene.lose();
        // A new life.
        scene.world.end_backend(0);
        scene.is_reset(ACK);
    });
}

#[test]
fn an_index_that_was_used_again_early_resets_nobody() {
    Scene::each(|mut scene| {
        scene.end();
        scene.world.end_backend(0);
        scene.world.wait(2);
        scene.goes_to(ACK, 0);
    });
}

#[test]
fn a_connection_to_an_endpoint_that_serves_goes_on() {
    Scene::each(|mut scene| {
        scene.world.end_backend(1);
        scene.world.raise_generation(1, RESET_STEP);
        for _ in 0..3 {
            scene.world.wait(2);
            scene.goes_to(ACK, 0);
        }
    });
}

#[test]
fn where_it_is_not_wanted_a_connection_goes_on() {
    Scene::each(|mut scene| {
        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        scene.lose();
        scene.goes_to(ACK, 0);
    });
}

#[test]
fn the_clients_own_reset_goes_to_the_endpoint() {
    Scene::each(|mut scene| {
        scene.lose();
        scene.goes_to(RST, 0);
        scene.is_reset(ACK);
    });
}

#[test]
fn a_reset_connection_lets_its_source_port_go() {
    let mut scene = Scene::new(Family::V4, Hook::FromOutside, false);
    let (from, _) = scene.world.ends(scene.hook, &scene.packet(ACK));
    scene.lose();
    scene.is_reset(ACK);
    let reply = super::world::flow_key((scene.endpoints[0], from), 6, crate::layout::Edge::Ingress);
    let flow = crate::pipeline::Tables::find(&scene.world.v4, &reply.by_parts()).unwrap();
    assert_ne!(flow.flags() & crate::layout::flow_flags::RESET, 0);
}

#[test]
fn datagrams_move_and_are_not_answered() {
    Scene::each(|mut scene| {
        let datagram = Packet::udp(scene.client, scene.service);
        scene.world.open(scene.hook, &datagram);
        scene.lose();
        let (_, to) = scene.world.ends(scene.hook, &datagram);
        assert_eq!(to, scene.endpoints[1]);
    });
}

#[test]
fn an_association_of_sctp_goes_on() {
    Scene::each(|mut scene| {
        let packet = |chunk| Packet::sctp(scene.client, scene.service, chunk);
        let [init, data] = [chunks::INIT, chunks::DATA].map(packet);
        scene.world.open(scene.hook, &init);
        scene.lose();
        let (_, to) = scene.world.ends(scene.hook, &data);
        assert_eq!(to, scene.endpoints[0]);
    });
}

#[test]
fn a_pods_socket_leaves_tcp_to_packets_where_connections_are_reset() {
    for family in Family::BOTH {
        let mut scene = Scene::new(family, Hook::FromPod, true);
        let (tcp, udp) = (6, 17);
        let connects = |scene: &Scene, client, protocol| {
            let caller = Caller::new(client, protocol, u64::from(protocol));
            match protocol {
                17 => caller.send(&scene.world, None, scene.service),
                _ => caller.connect(&scene.world, scene.service),
            }
        };
        let endpoint = Outcome::Endpoint(scene.endpoints[0]);
        assert_eq!(connects(&scene, Client::Pod, tcp), Outcome::Unchanged);
        assert_eq!(connects(&scene, Client::Host, tcp), endpoint);
        assert_eq!(connects(&scene, Client::Pod, udp), endpoint);
        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        assert_eq!(connects(&scene, Client::Pod, tcp), endpoint);
    }
}
