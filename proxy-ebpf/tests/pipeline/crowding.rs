//! Far more flows than the table has room for, beside connections that are there.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{FromIp, World, at, flow_key};
use crate::flow_table::Place;
use crate::host::Action;
use crate::layout::{Counter, Edge, V4, V6};

use tcp_flags::{ACK, SYN};

const BUCKETS: u32 = 64;
/// More than ten times what the table has room for.
const MANY: u16 = 5000;
const ENDPOINTS: u8 = 8;

struct Scene {
    world: World,
    family: Family,
    service: SocketAddr,
    held: Vec<(Packet, (SocketAddr, SocketAddr))>,
}

impl Scene {
    /// Six connections that were silent for a while.
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(|family| {
            let mut scenario = Scenario::empty();
            let hosts = 1..=ENDPOINTS;
            let set: Vec<_> = hosts
                .map(|host| scenario.add_backend(at(family, 2, host, 8080), true))
                .collect();
            let service = at(family, 9, 1, 80);
            for protocol in Protocol::ALL {
                let frontend = Frontend::new(service, protocol, set.clone());
                scenario.frontends.push(frontend);
            }
            let mut world = World::new(&scenario);
            world.set_buckets(BUCKETS);
            let syns = (0..6).map(|port| Packet::tcp(at(family, 7, 1, 1000 + port), service, SYN));
            let held = syns
                .map(|syn| (syn.clone(), world.open(Hook::FromOutside, &syn)))
                .collect();
            world.wait(50 * 60);
            Self {
                world,
                family,
                service,
                held,
            }
        })
    }

    /// First packets of many clients.
    fn many(&self, protocol: Protocol) -> impl Iterator<Item = Packet> {
        let client = |number| at(self.family, 7, 2, 10_000 + number);
        (0..MANY).map(move |number| Packet::opening(protocol, client(number), self.service))
    }

    /// Whether the records of a flow are in one bucket, where they may push each other out.
    fn has_one_bucket(&self, first: &Packet, wire: (SocketAddr, SocketAddr)) -> bool {
        let halves = [
            ((first.source, first.destination), Edge::Ingress),
            ((wire.1, wire.0), Edge::Egress),
        ];
        let [client, reply] = halves.map(|(ends, edge)| match self.family {
            Family::V4 => bucket::<V4>(ends, first.protocol(), edge),
            Family::V6 => bucket::<V6>(ends, first.protocol(), edge),
        });
        client == reply
    }

    fn are_held(&self) {
        for (syn, (source, endpoint)) in &self.held {
            let data = Packet::tcp(syn.source, self.service, ACK);
            let ends = self.world.ends(Hook::FromOutside, &data);
            assert_eq!(ends, (*source, *endpoint));
            let answer = Packet::tcp(*endpoint, *source, ACK);
            let came = self.world.ends(Hook::Out, &answer);
            assert_eq!(came, (self.service, syn.source));
        }
    }
}

fn bucket<A: FromIp>(ends: (SocketAddr, SocketAddr), protocol: u8, edge: Edge) -> u32 {
    let key = flow_key::<A>(ends, protocol, edge);
    Place::of(&key.by_parts(), 0).bucket(BUCKETS)
}

#[test]
fn short_connections_push_out_none_that_was_active_within_the_hour() {
    for scene in Scene::all() {
        for syn in scene.many(Protocol::Tcp) {
            let wire = scene.world.open(Hook::FromOutside, &syn);
            scene.world.close(Hook::FromOutside, &syn, wire);
        }
        scene.are_held();
        assert_eq!(scene.world.counter_of(Counter::RecordsEvicted), 0);
        assert_eq!(scene.world.counter_of(Counter::FlowTableFull), 0);
    }
}

#[test]
fn handshakes_push_out_no_connection() {
    for scene in Scene::all() {
        for protocol in [Protocol::Tcp, Protocol::Sctp] {
            for syn in scene.many(protocol) {
                assert_eq!(scene.world.send(Hook::FromOutside, &syn).0, Action::Pass);
            }
        }
        scene.are_held();
        assert_ne!(scene.world.counter_of(Counter::RecordsEvicted), 0);
    }
}

#[test]
fn datagrams_push_out_no_connection() {
    for scene in Scene::all() {
        for datagram in scene.many(Protocol::Udp) {
            let wire = scene.world.ends(Hook::FromOutside, &datagram);
            let answer = datagram.answer(wire.1, wire.0);
            scene.world.send(Hook::Out, &answer);
            scene.world.send(Hook::FromOutside, &datagram);
        }
        scene.are_held();
    }
}

/// Where a bucket has nothing but connections that live, a new one does not find room; others do.
#[test]
fn established_connections_stay_when_there_is_no_room() {
    for scene in Scene::all() {
        let mut open = Vec::new();
        for syn in scene.many(Protocol::Tcp) {
            let (action, bytes) = scene.world.send(Hook::FromOutside, &syn);
            let wire = syn.endpoints_in(&bytes);
            if action == Action::Pass && !scene.has_one_bucket(&syn, wire) {
                scene.world.go_on(Hook::FromOutside, &syn, wire);
                open.push((syn, wire));
            }
        }
        assert!(open.len() > 200, "{}", open.len());
        scene.are_held();
        for (syn, wire) in open {
            let data = Packet::tcp(syn.source, scene.service, ACK);
            assert_eq!(scene.world.ends(Hook::FromOutside, &data), wire);
        }
    }
}

#[test]
fn a_flow_whose_records_were_lost_finds_its_endpoint_again() {
    for scene in Scene::all() {
        for protocol in Protocol::ALL {
            for first in scene.many(protocol).take(50) {
                let wire = scene.world.ends(Hook::FromOutside, &first);
                let number = first.protocol();
                scene
                    .world
                    .evict((first.source, scene.service), number, Edge::Ingress);
                scene.world.evict((wire.1, wire.0), number, Edge::Egress);
                assert_eq!(scene.world.ends(Hook::FromOutside, &first), wire);
            }
        }
    }
}

/// The other half says where the flow goes.
#[test]
fn a_connection_that_lost_a_record_goes_on() {
    for scene in Scene::all() {
        let (syn, wire) = &scene.held[0];
        scene
            .world
            .evict((syn.source, scene.service), syn.protocol(), Edge::Ingress);
        scene.are_held();
        scene
            .world
            .evict((wire.1, wire.0), syn.protocol(), Edge::Egress);
        scene.world.wait(3);
        scene.are_held();
    }
}
