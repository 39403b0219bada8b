//! Associations of SCTP: how they begin and end, and what else is theirs alone.

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, chunks, noise};

use super::lifetimes::Scene;
use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

use chunks::{ABORT, DATA, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE};

/// Seconds around the timeouts, with room for the clock's steps of 1.07 s.
const OPEN: u32 = 210;
const EMBRYONIC: u32 = 60;
const MARGIN: u32 = 3;

impl Scene {
    fn packet(&self, chunk: u8) -> Packet {
        Packet::sctp(self.client, self.service, chunk)
    }

    /// Where a packet with this chunk goes.
    fn sctp(&self, chunk: u8) -> SocketAddr {
        self.world.ends(self.hook, &self.packet(chunk)).1
    }

    /// Opens an association, and says from where to where its packets go.
    fn open_sctp(&self) -> (SocketAddr, SocketAddr) {
        self.world.open(self.hook, &self.packet(INIT))
    }
}

#[test]
fn an_association_stays_with_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        scene.open_sctp();
        scene.replace_endpoint();
        for chunk in [DATA, SHUTDOWN, INIT_ACK] {
            assert_eq!(scene.sctp(chunk), scene.first);
        }
        let answer = scene.answer(&scene.packet(DATA));
        assert_eq!(answer, (scene.service, scene.client));
    }
}

#[test]
fn an_init_leaves_an_endpoint_that_has_ended_when_four_were_not_answered() {
    for mut scene in Scene::all() {
        scene.open_sctp();
        scene.replace_endpoint();
        for _ in 0..3 {
            assert_eq!(scene.sctp(INIT), scene.first);
            scene.world.wait(MARGIN);
        }
        assert_eq!(scene.open_sctp().1, scene.second);
    }
}

#[test]
fn an_init_that_is_sent_again_stays_until_either_side_has_aborted_its_association() {
    for by_client in [true, false] {
        for mut scene in Scene::all() {
            let (source, endpoint) = scene.open_sctp();
            scene.world.switch_sets(&[1]);
            assert_eq!(scene.sctp(INIT), scene.first);
            if by_client {
                assert_eq!(scene.sctp(ABORT), scene.first);
            } else {
                scene.answer_of(endpoint, source, &scene.packet(ABORT));
            }
            assert_eq!(scene.sctp(DATA), scene.first);
            assert_eq!(scene.sctp(INIT), scene.second);
        }
    }
}

#[test]
fn an_init_that_is_sent_again_stays_until_both_sides_have_shut_down() {
    for by_client in [true, false] {
        for mut scene in Scene::all() {
            let (source, endpoint) = scene.open_sctp();
            scene.world.switch_sets(&[1]);
            let chunks = [SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE];
            for (number, chunk) in chunks.into_iter().enumerate() {
                assert_eq!(scene.sctp(INIT), scene.first);
                if by_client == (number % 2 == 0) {
                    assert_eq!(scene.sctp(chunk), scene.first);
                } else {
                    scene.answer_of(endpoint, source, &scene.packet(chunk));
                }
            }
            assert_eq!(scene.sctp(DATA), scene.first);
            assert_eq!(scene.sctp(INIT), scene.second);
        }
    }
}

#[test]
fn until_the_endpoint_has_answered_only_its_init_ack_is_translated() {
    for scene in Scene::all() {
        let (source, endpoint) = scene.world.ends(scene.hook, &scene.packet(INIT));
        let came = scene.answer_of(endpoint, source, &scene.packet(DATA));
        assert_eq!(came, (endpoint, source));
        let came = scene.answer_of(endpoint, source, &scene.packet(INIT_ACK));
        assert_eq!(came, (scene.service, scene.client));
    }
}

/// There is no answer that would tell the client to begin anew.
#[test]
fn an_association_whose_records_were_lost_goes_on() {
    for scene in Scene::all() {
        let wire = scene.world.ends(scene.hook, &scene.packet(DATA));
        let came = scene.answer_of(wire.1, wire.0, &scene.packet(DATA));
        assert_eq!(came, (scene.service, scene.client));
    }
}

#[test]
fn other_chunks_say_nothing_about_an_association() {
    for mut scene in Scene::all() {
        scene.open_sctp();
        scene.world.switch_sets(&[1]);
        let of_meaning = [INIT, ABORT, SHUTDOWN, SHUTDOWN_ACK];
        for chunk in (0..=u8::MAX).filter(|it| !of_meaning.contains(it)) {
            assert_eq!(scene.sctp(chunk), scene.first, "{chunk}");
        }
        assert_eq!(scene.sctp(INIT), scene.first);
    }
}

#[test]
fn an_association_lives_for_some_heartbeats_without_packets() {
    for mut scene in Scene::all() {
        scene.open_sctp();
        scene.world.switch_sets(&[1]);
        for _ in 0..3 {
            scene.world.wait(OPEN - MARGIN);
            assert_eq!(scene.sctp(DATA), scene.first);
        }
        scene.world.wait(OPEN + MARGIN);
        assert_eq!(scene.sctp(DATA), scene.second);
    }
}

#[test]
fn an_association_that_nobody_answers_is_over_soon() {
    for mut scene in Scene::all() {
        assert_eq!(scene.sctp(INIT), scene.first);
        scene.world.switch_sets(&[1]);
        scene.world.wait(EMBRYONIC - MARGIN);
        assert_eq!(scene.sctp(INIT), scene.first);
        scene.world.wait(EMBRYONIC + MARGIN);
        assert_eq!(scene.sctp(INIT), scene.second);
    }
}

/// A Service with an endpoint of another node, and one port for its clients' packets.
struct Narrow {
    world: World,
    service: SocketAddr,
    clients: [SocketAddr; 2],
}

impl Narrow {
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| {
            let mut scenario = Scenario {
                nat_ports: (40_000, 1),
                ..Scenario::empty()
            };
            let endpoint = scenario.add_backend(at(family, 3, 1, 8080), false);
            let service = at(family, 9, 1, 80);
            let frontend = Frontend::new(service, Protocol::Sctp, vec![endpoint]);
            scenario.frontends.push(frontend);
            Self {
                world: World::new(&scenario),
                service,
                clients: [1, 2].map(|host| at(family, 7, host, 50_000)),
            }
        })
    }

    /// Whether this client's packet finds a port.
    fn goes(&self, client: usize, chunk: u8) -> bool {
        let packet = Packet::sctp(self.clients[client], self.service, chunk);
        self.world.send(Hook::FromOutside, &packet).0 == Action::Forward
    }
}

#[test]
fn what_is_only_opening_gives_way() {
    for scene in Narrow::all() {
        assert!(scene.goes(0, INIT));
        assert!(scene.goes(1, INIT));
    }
}

#[test]
fn a_port_is_free_once_both_sides_have_shut_down() {
    for scene in Narrow::all() {
        let init = Packet::sctp(scene.clients[0], scene.service, INIT);
        let (node, endpoint) = scene.world.open(Hook::FromOutside, &init);
        assert!(!scene.goes(1, INIT));
        assert!(scene.goes(0, SHUTDOWN));
        assert!(!scene.goes(1, INIT));
        let answer = Packet::sctp(endpoint, node, SHUTDOWN_ACK);
        scene.world.ends(Hook::FromOutside, &answer);
        assert!(!scene.goes(1, INIT));
        assert!(scene.goes(0, SHUTDOWN_COMPLETE));
        assert!(scene.goes(1, INIT));
    }
}

#[test]
fn an_association_that_was_aborted_gives_way() {
    for scene in Narrow::all() {
        let init = Packet::sctp(scene.clients[0], scene.service, INIT);
        scene.world.open(Hook::FromOutside, &init);
        assert!(scene.goes(0, ABORT));
        assert!(scene.goes(1, INIT));
    }
}

/// The checksum is over the whole packet, and where that ends its first fragment does not
/// say.
#[test]
fn a_first_fragment_keeps_its_ports_or_goes_nowhere() {
    for family in Family::BOTH {
        let mut scenario = Scenario::empty();
        let (endpoint, client) = (at(family, 2, 1, 8080), at(family, 7, 7, 50_000));
        let (same, other) = (at(family, 9, 1, 8080), at(family, 9, 2, 80));
        let backend = scenario.add_backend(endpoint, true);
        for service in [same, other] {
            let frontend = Frontend::new(service, Protocol::Sctp, vec![backend]);
            scenario.frontends.push(frontend);
        }
        let world = World::new(&scenario);
        let long = |source, destination| Packet {
            payload: noise(1, 100),
            ..Packet::sctp(source, destination, DATA)
        };
        let ways = [
            (Hook::FromOutside, (client, same), (client, endpoint)),
            (Hook::Out, (endpoint, client), (same, client)),
        ];
        for (hook, from, to) in ways {
            let parts = long(from.0, from.1).fragments(24);
            for (part, wanted) in parts.iter().zip(long(to.0, to.1).fragments(24)) {
                let (action, bytes) = world.send(hook, part);
                assert_eq!((action, bytes), (Action::Pass, wanted.build()));
            }
        }
        world.counted();
        let first = &long(client, other).fragments(24)[0];
        let (action, bytes) = world.send(Hook::FromOutside, first);
        assert_eq!((action, bytes), (Action::Drop, first.build()));
        assert!(world.counted().contains(&(Counter::Fragments, 1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn the_checksum_is_right_whatever_the_length(
        length in 0_usize..65_000,
        ports in any::<[u16; 3]>(),
        seed in any::<u64>(),
    ) {
        let [client_port, service_port, endpoint_port] = ports.map(|port| port.max(1));
        let family = if seed % 2 == 0 { Family::V4 } else { Family::V6 };
        let (client, service) = (at(family, 7, 7, client_port), at(family, 9, 1, service_port));
        let endpoint = at(family, 2, 1, endpoint_port);
        let mut scenario = Scenario::empty();
        let backend = scenario.add_backend(endpoint, true);
        scenario.frontends.push(Frontend::new(service, Protocol::Sctp, vec![backend]));
        let packet = Packet {
            payload: noise(seed, length),
            ..Packet::sctp(client, service, INIT)
        };
        let (action, bytes) = World::new(&scenario).send(Hook::FromOutside, &packet);
        prop_assert_eq!(action, Action::Pass);
        prop_assert!(bytes == packet.between(client, endpoint).build());
    }
}
