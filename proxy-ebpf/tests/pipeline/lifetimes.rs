//! How long a flow keeps its endpoint while the endpoints change.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at, segment};

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

    /// Where a segment of the client goes that has no data, and these numbers.
    pub(super) fn segment(&self, flags: u8, numbers: [u32; 2]) -> SocketAddr {
        let packet = segment((self.client, self.service), flags, numbers);
        self.world.ends(self.hook, &packet).1
    }

    /// Has both sides close a connection that goes from and to these.
    pub(super) fn close_tcp(&self, wire: (SocketAddr, SocketAddr)) {
        let first = Packet::tcp(self.client, self.service, SYN);
        self.world.close(self.hook, &first, wire);
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
        scene.open_tcp();
        scene.replace_endpoint();
        assert_eq!(scene.tcp(ACK), scene.first);
        assert_eq!(scene.tcp(ACK | FIN), scene.first);
        let like = Packet::tcp(scene.client, scene.service, ACK);
        assert_eq!(scene.answer(&like), (scene.service, scene.client));
    }
}

#[test]
fn a_connection_that_is_not_yet_open_leaves_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.replace_endpoint();
        assert_eq!(scene.open_tcp().1, scene.second);
        let like = Packet::tcp(scene.client, scene.service, ACK);
        assert_eq!(scene.answer(&like), (scene.service, scene.client));
    }
}

/// While it lives, its endpoint answers a SYN: whoever sends it may not be the client.
#[test]
fn a_syn_on_an_open_connection_stays_until_four_of_them_were_not_answered() {
    for mut scene in Scene::all() {
        scene.open_tcp();
        scene.replace_endpoint();
        for _ in 0..3 {
            for _ in 0..5 {
                assert_eq!(scene.tcp(SYN), scene.first, "many at once count once");
            }
            scene.world.wait(3);
        }
        assert_eq!(scene.open_tcp().1, scene.second);
    }
}

#[test]
fn syns_that_the_endpoint_answers_move_nothing() {
    for mut scene in Scene::all() {
        let (source, endpoint) = scene.open_tcp();
        scene.replace_endpoint();
        for _ in 0..10 {
            assert_eq!(scene.tcp(SYN), scene.first);
            let challenge = segment((endpoint, source), ACK, [1, 1]);
            let came = scene.world.ends(scene.back(), &challenge);
            assert_eq!(came, (scene.service, scene.client));
            scene.world.wait(3);
        }
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

/// What one side says about the end is not believed until the other side has taken it up.
#[test]
fn a_syn_after_one_sides_fin_stays() {
    for by_client in [true, false] {
        for mut scene in Scene::all() {
            let (source, endpoint) = scene.open_tcp();
            scene.world.switch_sets(&[1]);
            if by_client {
                assert_eq!(scene.segment(FIN | ACK, [1, 1]), scene.first);
            } else {
                let fin = segment((endpoint, source), FIN | ACK, [1, 1]);
                let came = scene.world.ends(scene.back(), &fin);
                assert_eq!(came, (scene.service, scene.client));
                assert_eq!(scene.segment(ACK, [1, 2]), scene.first);
            }
            assert_eq!(scene.tcp(SYN), scene.first);
        }
    }
}

#[test]
fn a_syn_after_both_fins_were_acknowledged_is_a_new_connection() {
    for mut scene in Scene::all() {
        let wire = scene.open_tcp();
        scene.world.switch_sets(&[1]);
        scene.close_tcp(wire);
        let late = scene.segment(ACK, [2, 2]);
        assert_eq!(late, scene.first, "the old one goes on to its end");
        assert_eq!(scene.open_tcp().1, scene.second);
    }
}

/// An acknowledgment of what came before the FIN, which it has overtaken, is not the last one.
#[test]
fn a_syn_after_a_fin_that_was_not_acknowledged_stays() {
    for mut scene in Scene::all() {
        let (source, endpoint) = scene.open_tcp();
        scene.world.switch_sets(&[1]);
        scene.segment(FIN | ACK, [1, 1]);
        let fin = segment((endpoint, source), FIN | ACK, [1, 2]);
        scene.world.ends(scene.back(), &fin);
        scene.segment(ACK, [1, 1]);
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.segment(ACK, [2, 2]);
        assert_eq!(scene.tcp(SYN), scene.second);
    }
}

#[test]
fn a_syn_after_a_reset_of_either_side_is_a_new_connection() {
    for (by_client, end) in [
        (true, RST),
        (true, RST | ACK),
        (false, RST),
        (false, RST | ACK),
    ] {
        for mut scene in Scene::all() {
            let (source, endpoint) = scene.open_tcp();
            scene.world.switch_sets(&[1]);
            if by_client {
                assert_eq!(scene.segment(end, [1, 1]), scene.first);
            } else {
                let reset = segment((endpoint, source), end, [1, 1]);
                let came = scene.world.ends(scene.back(), &reset);
                assert_eq!(came, (scene.service, scene.client));
            }
            let late = scene.tcp(ACK);
            assert_eq!(late, scene.first, "the old one goes on to its end");
            assert_eq!(scene.open_tcp().1, scene.second);
        }
    }
}

/// Its number is not the one that the other end expects: it may be anybody's.
#[test]
fn a_reset_with_another_number_ends_nothing() {
    for mut scene in Scene::all() {
        let (source, endpoint) = scene.open_tcp();
        scene.world.switch_sets(&[1]);
        for number in [0, 2, 1000, u32::MAX] {
            assert_eq!(scene.segment(RST, [number, 1]), scene.first);
            let reset = segment((endpoint, source), RST, [number, 1]);
            scene.world.ends(scene.back(), &reset);
        }
        assert_eq!(scene.tcp(SYN), scene.first);
    }
}

#[test]
fn a_new_connection_to_the_same_endpoint_is_not_closing() {
    for mut scene in Scene::all() {
        let wire = scene.open_tcp();
        scene.close_tcp(wire);
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.world.switch_sets(&[1]);
        assert_eq!(scene.tcp(SYN), scene.first, "a SYN that is sent again");
    }
}
