//! Connections whose endpoint does not answer: they go to another one.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at, segment};
use crate::layout::backend_flags::{IN_CLUSTER_SET, IN_LOCAL_SET, RETRIED, SAYS_UNANSWERED};
use crate::layout::{Counter, liveness_state};

use tcp_flags::{ACK, RST, SYN};

const ENDPOINTS: u8 = 4;
const CLIENT: u8 = 7;

/// A ClusterIP and an address for clients outside, of one Service port; no endpoint is of this
/// node, so that what comes from outside is masqueraded.
struct Scene {
    world: World,
    family: Family,
    hook: Hook,
    next_port: Cell<u16>,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        let hooks = [Hook::FromPod, Hook::FromOutside];
        let each = move |family| hooks.map(|hook| Self::new(family, hook, ENDPOINTS));
        Family::BOTH.into_iter().flat_map(each)
    }

    fn new(family: Family, hook: Hook, endpoints: u8) -> Self {
        let mut scenario = Scenario::empty();
        for host in 1..=endpoints {
            scenario.add_backend(at(family, 2, host, 8080), false);
        }
        let all: Vec<_> = (0..usize::from(endpoints)).collect();
        let service = at(family, 9, 1, 80);
        scenario.frontends.push(Frontend {
            external: true,
            ..Frontend::new(service, Protocol::Tcp, all)
        });
        let mut world = World::new(&scenario);
        world.retry_unanswered();
        Self {
            world,
            family,
            hook,
            next_port: 1024.into(),
        }
    }

    fn service(&self) -> SocketAddr {
        at(self.family, 9, 1, 80)
    }

    fn syn(&self) -> Packet {
        let port = self.next_port.replace(self.next_port.get() + 1);
        let client = at(self.family, CLIENT, 1, port);
        Packet::tcp(client, self.service(), SYN)
    }

    /// Where the replies of a connection are translated that goes from and to these.
    fn back(&self, syn: &Packet, wire: (SocketAddr, SocketAddr)) -> Hook {
        if wire.0 == syn.source {
            Hook::Out
        } else {
            self.hook
        }
    }

    fn index(&self, endpoint: SocketAddr) -> u32 {
        let mut all = 0..u32::from(ENDPOINTS);
        all.find(|index| at(self.family, 2, u8::try_from(index + 1).unwrap(), 8080) == endpoint)
            .unwrap()
    }
}

#[test]
fn a_syn_that_is_sent_again_goes_to_another_endpoint_each_time() {
    for scene in Scene::all() {
        for _ in 0..50 {
            let syn = scene.syn();
            let mut last = scene.world.ends(scene.hook, &syn).1;
            for _ in 0..4 {
                scene.world.wait(1);
                let next = scene.world.ends(scene.hook, &syn).1;
                assert_ne!(next, last);
                last = next;
            }
        }
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 200);
    }
}

#[test]
fn the_connection_goes_on_with_the_endpoint_that_answers() {
    for scene in Scene::all() {
        let syn = scene.syn();
        let first = scene.world.ends(scene.hook, &syn);
        let second = scene.world.open(scene.hook, &syn);
        assert_ne!(first.1, second.1);
        // The first one answers after all, and is not taken for the other.
        let late = syn.answer(first.1, first.0);
        let came = scene.world.ends(scene.back(&syn, first), &late);
        assert_eq!(came, (first.1, first.0));
        let ack = segment((syn.source, syn.destination), ACK, [1, 1]);
        assert_eq!(scene.world.ends(scene.hook, &ack), second);
    }
}

#[test]
fn what_was_answered_stays() {
    for scene in Scene::all() {
        let syn = scene.syn();
        let wire = scene.world.ends(scene.hook, &syn);
        let answer = syn.answer(wire.1, wire.0);
        scene.world.ends(scene.back(&syn, wire), &answer);
        scene.world.wait(1);
        assert_eq!(
            scene.world.ends(scene.hook, &syn),
            wire,
            "the answer was lost behind us"
        );
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 0);
    }
}

#[test]
fn without_the_setting_or_another_endpoint_it_is_the_same_again() {
    for family in Family::BOTH {
        let alone = Scene::new(family, Hook::FromPod, 1);
        let syn = alone.syn();
        let wire = alone.world.ends(alone.hook, &syn);
        assert_eq!(alone.world.ends(alone.hook, &syn), wire);

        let mut off = Scene::new(family, Hook::FromPod, ENDPOINTS);
        off.world.v4.settings.flags = 0;
        off.world.v6.settings.flags = 0;
        let syn = off.syn();
        let wire = off.world.ends(off.hook, &syn);
        assert_eq!(off.world.ends(off.hook, &syn), wire);
    }
}

#[test]
fn a_service_may_say_otherwise_than_the_setting() {
    for mut scene in Scene::all() {
        scene.world.say_unanswered(SAYS_UNANSWERED);
        let syn = scene.syn();
        let wire = scene.world.ends(scene.hook, &syn);
        assert_eq!(scene.world.ends(scene.hook, &syn), wire);
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 0);
        let index = scene.index(wire.1);
        assert_eq!(scene.world.liveness(scene.family, index).unanswered, 0);

        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        scene.world.say_unanswered(SAYS_UNANSWERED | RETRIED);
        assert_ne!(scene.world.ends(scene.hook, &syn).1, wire.1);
        assert_eq!(scene.world.liveness(scene.family, index).unanswered, 1);

        // These bits alone say nothing.
        scene.world.say_unanswered(RETRIED);
        let syn = scene.syn();
        let wire = scene.world.ends(scene.hook, &syn);
        assert_eq!(scene.world.ends(scene.hook, &syn), wire);
    }
}

#[test]
fn another_connection_by_the_same_port_is_not_the_same_again() {
    for scene in Scene::all() {
        let syn = scene.syn();
        let wire = scene.world.ends(scene.hook, &syn);
        let other = segment((syn.source, syn.destination), SYN, [1000, 0]);
        assert_eq!(scene.world.ends(scene.hook, &other), wire);
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 0);
    }
}

#[test]
fn affinity_follows_to_the_endpoint_that_answers() {
    for mut scene in Scene::all() {
        scene.world.set_affinity(100);
        for index in 0..u32::from(ENDPOINTS) {
            scene
                .world
                .set_membership(index, IN_CLUSTER_SET | IN_LOCAL_SET);
        }
        let syn = scene.syn();
        let first = scene.world.ends(scene.hook, &syn).1;
        let second = scene.world.open(scene.hook, &syn).1;
        assert_ne!(first, second);
        for _ in 0..20 {
            assert_eq!(scene.world.ends(scene.hook, &scene.syn()).1, second);
        }
        scene
            .world
            .set_liveness_state(scene.family, scene.index(second), liveness_state::AVOIDED);
        let third = scene.world.ends(scene.hook, &scene.syn()).1;
        assert_ne!(third, second);
        assert_eq!(scene.world.ends(scene.hook, &scene.syn()).1, third);
    }
}

#[test]
fn who_is_avoided_gets_no_connection_but_a_trial() {
    for is_hashed in [false, true] {
        for mut scene in Scene::all() {
            if is_hashed {
                scene.world.hash();
            }
            let avoided = at(scene.family, 2, 1, 8080);
            scene
                .world
                .set_liveness_state(scene.family, 0, liveness_state::AVOIDED);
            let mut used = BTreeSet::new();
            for _ in 0..300 {
                used.insert(scene.world.ends(scene.hook, &scene.syn()).1);
            }
            assert!(!used.contains(&avoided));
            assert_eq!(
                used.len(),
                usize::from(ENDPOINTS) - 1,
                "the others share them"
            );

            scene
                .world
                .set_liveness_state(scene.family, 0, liveness_state::TRIAL);
            let ends = (0..100).map(|_| scene.world.ends(scene.hook, &scene.syn()).1);
            assert_eq!(ends.filter(|it| *it == avoided).count(), 1);
            assert_eq!(scene.world.counter_of(Counter::EndpointTried), 1);
        }
    }
}

#[test]
fn who_does_not_serve_any_more_gets_no_connection_in_the_place_of_another() {
    for mut scene in Scene::all() {
        scene
            .world
            .set_liveness_state(scene.family, 0, liveness_state::AVOIDED);
        scene.world.set_instead(scene.family, 0, [2; 4]);
        let other = at(scene.family, 2, 2, 8080);
        let reaches_other = |scene: &Scene| {
            let mut ends = (0..100).map(|_| scene.world.ends(scene.hook, &scene.syn()).1);
            ends.any(|it| it == other)
        };
        scene.world.switch_sets(&[0, 2, 3]);
        assert!(reaches_other(&scene));
        scene.world.end_backend(1);
        assert!(!reaches_other(&scene), "it was removed");
        scene.world.end_backend(1);
        assert!(reaches_other(&scene), "it is there again");
        scene.world.set_service_of(1, 7);
        assert!(!reaches_other(&scene), "its index is another Service's");
    }
}

#[test]
fn where_all_are_avoided_any_is_used() {
    for mut scene in Scene::all() {
        for index in 0..u32::from(ENDPOINTS) {
            scene
                .world
                .set_liveness_state(scene.family, index, liveness_state::AVOIDED);
            scene.world.set_instead(scene.family, index, [0; 4]);
        }
        let syn = scene.syn();
        let first = scene.world.ends(scene.hook, &syn).1;
        let second = scene.world.ends(scene.hook, &syn).1;
        assert_ne!(first, second);
    }
}

#[test]
fn what_is_not_answered_is_counted_until_there_is_an_answer() {
    for mut scene in Scene::all() {
        // An RST is an answer.
        for answer in [SYN | ACK, RST | ACK] {
            let syn = scene.syn();
            let wire = scene.world.ends(scene.hook, &syn);
            let index = scene.index(wire.1);
            for _ in 0..3 {
                let before = scene.world.liveness(scene.family, index).unanswered;
                // Until it goes to this one.
                let syn = loop {
                    let syn = scene.syn();
                    if scene.world.ends(scene.hook, &syn).1 == wire.1 {
                        break syn;
                    }
                };
                scene.world.ends(scene.hook, &syn);
                let now = scene.world.liveness(scene.family, index);
                assert_eq!(now.unanswered, before + 1);
            }
            scene
                .world
                .set_liveness_state(scene.family, index, liveness_state::AVOIDED);
            let answer = segment((wire.1, wire.0), answer, [0, 1]);
            let came = scene.world.ends(scene.back(&syn, wire), &answer);
            assert_eq!(came, (syn.destination, syn.source));
            let now = scene.world.liveness(scene.family, index);
            assert_eq!((now.unanswered, now.state), (0, liveness_state::USED));
            assert_eq!(now.answered_at, scene.world.shared.now.get());
        }
    }
}

#[test]
fn a_connection_that_is_refused_counts_once() {
    for scene in Scene::all() {
        let refused = || scene.world.counter_of(Counter::ConnectionRefused);
        let syn = scene.syn();
        let wire = scene.world.ends(scene.hook, &syn);
        let back = scene.back(&syn, wire);
        let answer = |flags, numbers| segment((wire.1, wire.0), flags, numbers);
        // It does not know the SYN.
        scene.world.send(back, &answer(RST | ACK, [0, 0]));
        assert_eq!(refused(), 0);
        for _ in 0..2 {
            let came = scene.world.ends(back, &answer(RST | ACK, [0, 1]));
            assert_eq!(came, (syn.destination, syn.source));
            assert_eq!(refused(), 1);
        }
        // One that was accepted ends by a reset.
        let syn = scene.syn();
        let wire = scene.world.open(scene.hook, &syn);
        let reset = segment((wire.1, wire.0), RST, [1, 1]);
        let came = scene.world.ends(scene.back(&syn, wire), &reset);
        assert_eq!(came, (syn.destination, syn.source));
        assert_eq!(refused(), 1);
    }
}
