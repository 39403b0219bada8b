//! How long a flow keeps its endpoint while the endpoints change.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};

use tcp_flags::{ACK, FIN, RST, SYN};

/// A frontend for each protocol with one endpoint, and another endpoint that is not
/// in its set. Either both near or both far.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) hook: Hook,
    pub(super) client: SocketAddr,
    pub(super) service: SocketAddr,
    pub(super) first: SocketAddr,
    pub(super) second: SocketAddr,
    local: bool,
}

impl Scene {
    /// All of them: both families, with and without SNAT.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let both = |family| [true, false].map(|local| Self::new(family, local));
        Family::BOTH.into_iter().flat_map(both)
    }

    fn new(family: Family, local: bool) -> Self {
        let (service, client) = (at(family, 9, 1, 80), at(family, 7, 7, 50_000));
        let (first, second) = (at(family, 2, 1, 8080), at(family, 2, 2, 8080));
        let mut scenario = Scenario::empty();
        scenario.add_backend(first, local);
        scenario.add_backend(second, local);
        for protocol in Protocol::ALL {
            scenario
                .frontends
                .push(Frontend::new(service, protocol, vec![0]));
        }
        Self {
            world: World::new(&scenario),
            hook: Hook::FromOutside,
            client,
            service,
            first,
            second,
            local,
        }
    }

    /// Where a UDP packet goes.
    pub(super) fn udp(&self) -> SocketAddr {
        self.world
            .ends(self.hook, &Packet::udp(self.client, self.service))
            .1
    }

    /// Where a TCP packet with these flags goes.
    pub(super) fn tcp(&self, flags: u8) -> SocketAddr {
        let packet = Packet::tcp(self.client, self.service, flags);
        self.world.ends(self.hook, &packet).1
    }

    /// Opens a flow, and says from where to where its packets go.
    pub(super) fn open_udp(&self) -> (SocketAddr, SocketAddr) {
        let packet = Packet::udp(self.client, self.service);
        self.world.open(self.hook, &packet)
    }

    /// Opens a connection, and says from where to where its packets go.
    pub(super) fn open_tcp(&self) -> (SocketAddr, SocketAddr) {
        let packet = Packet::tcp(self.client, self.service, SYN);
        self.world.open(self.hook, &packet)
    }

    /// Has an endpoint answer the client by a packet like this, and says from where
    /// and to where that comes to the client. The node's address and port are what
    /// the client's packets have now.
    pub(super) fn answer(&self, like: &Packet) -> (SocketAddr, SocketAddr) {
        let mut there = like.clone();
        there.source = self.client;
        there.destination = self.service;
        let (source, endpoint) = self.world.ends(self.hook, &there);
        self.answer_of(endpoint, source, like)
    }

    /// The same without a packet of the client before.
    pub(super) fn answer_of(
        &self,
        endpoint: SocketAddr,
        to: SocketAddr,
        like: &Packet,
    ) -> (SocketAddr, SocketAddr) {
        self.world.ends(self.back(), &like.between(endpoint, to))
    }

    /// Where what goes back to the client is seen.
    pub(super) fn back(&self) -> Hook {
        if self.local { Hook::Out } else { self.hook }
    }

    /// The first endpoint leaves; the second takes its place.
    pub(super) fn replace_endpoint(&mut self) {
        self.world.switch_sets(&[1]);
        self.world.end_backend(0);
    }
}

#[test]
fn a_flow_keeps_its_endpoint_when_the_set_changes() {
    for mut scene in Scene::all() {
        assert_eq!(scene.udp(), scene.first);
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.world.switch_sets(&[1]);
        assert_eq!(scene.udp(), scene.first);
        assert_eq!(scene.tcp(ACK), scene.first);
        assert_eq!(scene.tcp(SYN), scene.first, "a SYN that is sent again");
    }
}

#[test]
fn a_udp_flow_leaves_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        assert_eq!(scene.udp(), scene.first);
        scene.replace_endpoint();
        assert_eq!(scene.udp(), scene.second);
        assert_eq!(scene.udp(), scene.second);
        let like = Packet::udp(scene.client, scene.service);
        assert_eq!(scene.answer(&like), (scene.service, scene.client));
    }
}

#[test]
fn a_udp_flow_leaves_an_endpoint_whose_place_another_has_taken() {
    for mut scene in Scene::all() {
        assert_eq!(scene.udp(), scene.first);
        scene.world.switch_sets(&[1]);
        // Ended, and begun again: odd, and not the same.
        scene.world.end_backend(0);
        scene.world.end_backend(0);
        assert_eq!(scene.udp(), scene.second);
    }
}

#[test]
fn a_tcp_connection_stays_with_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.replace_endpoint();
        assert_eq!(scene.tcp(ACK), scene.first);
        assert_eq!(scene.tcp(ACK | FIN), scene.first);
        let like = Packet::tcp(scene.client, scene.service, ACK);
        assert_eq!(scene.answer(&like), (scene.service, scene.client));
    }
}

#[test]
fn a_new_tcp_connection_leaves_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        assert_eq!(scene.tcp(ACK), scene.first);
        scene.replace_endpoint();
        assert_eq!(scene.tcp(SYN), scene.second);
        assert_eq!(scene.tcp(ACK), scene.second);
        let like = Packet::tcp(scene.client, scene.service, ACK);
        assert_eq!(scene.answer(&like), (scene.service, scene.client));
    }
}

#[test]
fn a_syn_with_an_ack_is_no_new_connection() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.replace_endpoint();
        assert_eq!(scene.tcp(SYN | ACK), scene.first);
    }
}

#[test]
fn a_syn_after_the_clients_fin_is_a_new_connection() {
    for end in [FIN | ACK, RST, RST | ACK] {
        for mut scene in Scene::all() {
            assert_eq!(scene.tcp(SYN), scene.first);
            assert_eq!(scene.tcp(end), scene.first);
            scene.world.switch_sets(&[1]);
            assert_eq!(
                scene.tcp(ACK),
                scene.first,
                "the old one goes on to its end"
            );
            assert_eq!(scene.tcp(SYN), scene.second);
        }
    }
}

#[test]
fn a_syn_after_the_servers_fin_is_a_new_connection() {
    for end in [FIN | ACK, RST, RST | ACK] {
        for mut scene in Scene::all() {
            let syn = Packet::tcp(scene.client, scene.service, SYN);
            let (source, endpoint) = scene.world.ends(scene.hook, &syn);
            let last = Packet::tcp(scene.client, scene.service, end);
            let came = scene.answer_of(endpoint, source, &last);
            assert_eq!(came, (scene.service, scene.client));
            scene.world.switch_sets(&[1]);
            assert_eq!(
                scene.tcp(ACK),
                scene.first,
                "the old one goes on to its end"
            );
            assert_eq!(scene.tcp(SYN), scene.second);
        }
    }
}

#[test]
fn a_new_connection_to_the_same_endpoint_is_not_closing() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        assert_eq!(scene.tcp(FIN | ACK), scene.first);
        let like = Packet::tcp(scene.client, scene.service, FIN | ACK);
        scene.answer(&like);
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.world.switch_sets(&[1]);
        assert_eq!(scene.tcp(SYN), scene.first, "a SYN that is sent again");
    }
}
