//! Clients that come back to the endpoint of their last connection.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};
use crate::layout::backend_flags::{IN_CLUSTER_SET, IN_LOCAL_SET};

use tcp_flags::{ACK, SYN};

const SECONDS: u32 = 100;
const ENDPOINTS: u8 = 8;
/// The clock goes in steps of 1.07 s.
const MARGIN: u32 = 3;

struct Scene {
    world: World,
    family: Family,
    next_port: std::cell::Cell<u16>,
}

impl Scene {
    /// A ClusterIP, and a NodePort with policy Local, of one Service port. Of its eight
    /// endpoints the first four run on this node.
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| {
            let mut scenario = Scenario::empty();
            for host in 1..=ENDPOINTS {
                scenario.add_backend(at(family, 2, host, 8080), host <= 4);
            }
            let cluster: Vec<_> = (0..8).collect();
            for protocol in Protocol::ALL {
                let cluster_ip = Frontend::new(at(family, 9, 1, 80), protocol, cluster.clone());
                scenario.frontends.push(cluster_ip);
                scenario.frontends.push(Frontend {
                    external: true,
                    local_policy: true,
                    local: (0..4).collect(),
                    ..Frontend::new(at(family, 9, 2, 80), protocol, cluster.clone())
                });
            }
            let mut world = World::new(&scenario);
            world.set_affinity(SECONDS);
            for index in 0..8 {
                world.set_membership(
                    index,
                    IN_CLUSTER_SET | if index < 4 { IN_LOCAL_SET } else { 0 },
                );
            }
            Self {
                world,
                family,
                next_port: 1024.into(),
            }
        })
    }

    /// Where a new connection of a client ends, by the ClusterIP or the other address.
    fn connect(&self, hook: Hook, client: u8, service: u8) -> SocketAddr {
        let port = self.next_port.replace(self.next_port.get() + 1);
        let client = at(self.family, 7, client, port);
        let service = at(self.family, 9, service, 80);
        self.world.ends(hook, &Packet::tcp(client, service, SYN)).1
    }
}

#[test]
fn a_client_comes_back_to_the_same_endpoint_by_any_frontend() {
    for scene in Scene::all() {
        for client in 1..20 {
            let first = scene.connect(Hook::FromPod, client, 1);
            for service in [1, 2, 1, 2] {
                assert_eq!(scene.connect(Hook::FromPod, client, service), first);
            }
        }
    }
}

#[test]
fn clients_are_spread() {
    for scene in Scene::all() {
        let endpoints: BTreeSet<_> = (1..100)
            .map(|client| scene.connect(Hook::FromPod, client, 1))
            .collect();
        assert_eq!(endpoints.len(), usize::from(ENDPOINTS));
    }
}

#[test]
fn without_affinity_nothing_is_remembered() {
    for mut scene in Scene::all() {
        scene.world.set_affinity(0);
        let endpoints: BTreeSet<_> = (0..100)
            .map(|_| scene.connect(Hook::FromPod, 1, 1))
            .collect();
        assert_eq!(endpoints.len(), usize::from(ENDPOINTS));
    }
}

/// What is forgotten is found again in most cases: the choice is a hash of the client's address.
#[test]
fn a_client_that_was_forgotten_comes_back_too() {
    for scene in Scene::all() {
        for client in 1..20 {
            let first = scene.connect(Hook::FromPod, client, 1);
            scene.world.wait(SECONDS + MARGIN);
            assert_eq!(scene.connect(Hook::FromPod, client, 1), first);
        }
    }
}

#[test]
fn it_lasts_from_each_new_connection_on() {
    for scene in Scene::all() {
        let mut moved = 0;
        for client in 1..40 {
            let first = scene.connect(Hook::FromPod, client, 1);
            for _ in 0..3 {
                scene.world.wait(SECONDS - MARGIN);
                assert_eq!(scene.connect(Hook::FromPod, client, 1), first);
            }
            scene.world.wait(SECONDS + MARGIN);
            scene.world.reseed();
            moved += u8::from(scene.connect(Hook::FromPod, client, 1) != first);
        }
        assert!(moved > 20, "{moved} of 39 clients got another endpoint");
    }
}

#[test]
fn packets_do_not_make_it_last() {
    for scene in Scene::all() {
        let mut moved = 0;
        for client in 1..40 {
            let from = at(scene.family, 7, client, 900);
            let service = at(scene.family, 9, 1, 80);
            let syn = Packet::tcp(from, service, SYN);
            let (_, first) = scene.world.open(Hook::FromPod, &syn);
            for _ in 0..8 {
                scene.world.wait(SECONDS / 4);
                for flags in [ACK, SYN] {
                    let packet = Packet::tcp(from, service, flags);
                    assert_eq!(scene.world.ends(Hook::FromPod, &packet).1, first);
                    // Of the SYN a live endpoint takes notice.
                    let answer = Packet::tcp(first, from, ACK);
                    scene.world.send(Hook::Out, &answer);
                }
            }
            scene.world.reseed();
            moved += u8::from(scene.connect(Hook::FromPod, client, 1) != first);
        }
        assert!(moved > 20, "{moved} of 39 clients got another endpoint");
    }
}

#[test]
fn only_endpoints_of_the_set_count() {
    for scene in Scene::all() {
        for client in 1..20 {
            // From outside only the endpoints of this node count, and are remembered.
            scene.connect(Hook::FromPod, client, 1);
            let local = scene.connect(Hook::FromOutside, client, 2);
            assert!((1..=4).any(|host| local == at(scene.family, 2, host, 8080)));
            assert_eq!(scene.connect(Hook::FromOutside, client, 2), local);
            assert_eq!(scene.connect(Hook::FromPod, client, 1), local);
        }
    }
}

#[test]
fn an_endpoint_that_left_the_set_or_ended_is_left() {
    for ends in [false, true] {
        for mut scene in Scene::all() {
            let mut moved = 0;
            for client in 1..20 {
                let first = scene.connect(Hook::FromPod, client, 1);
                let index = (0..8).find(|index| {
                    first == at(scene.family, 2, u8::try_from(index + 1).unwrap(), 8080)
                });
                let index = index.unwrap();
                if ends {
                    scene.world.end_backend(index);
                    // Another life of the same element.
                    scene.world.end_backend(index);
                } else {
                    scene.world.set_membership(index, 0);
                }
                scene.world.reseed();
                let mut later = BTreeSet::new();
                for _ in 0..10 {
                    later.insert(scene.connect(Hook::FromPod, client, 1));
                    scene.world.set_membership(index, IN_CLUSTER_SET);
                }
                assert_eq!(later.len(), 1, "it is the new one from now on");
                moved += u8::from(!later.contains(&first));
            }
            // Some get the same one by chance.
            assert!(moved > 10, "{moved} of 19 clients got another endpoint");
        }
    }
}
