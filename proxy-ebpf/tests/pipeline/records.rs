//! The two records of a flow: one may be lost, and there may be no room.

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Protocol, Scenario, tcp_flags};

use super::lifetimes::Scene;
use super::world::{UDP, World, at};
use crate::host::Action;
use crate::layout::{Counter, Edge};

/// Where a scene's answers are looked up.
fn reply_edge(from: std::net::SocketAddr, scene: &Scene) -> Edge {
    if from == scene.client {
        Edge::Egress
    } else {
        Edge::Ingress
    }
}

#[test]
fn a_lost_reply_record_is_made_again_within_two_seconds() {
    for scene in Scene::all() {
        let packet = Packet::udp(scene.client, scene.service);
        let (source, endpoint) = scene.open_udp();
        let edge = reply_edge(source, &scene);
        scene.world.evict((endpoint, source), UDP, edge);
        let came = scene.answer_of(endpoint, source, &packet);
        assert_eq!(came, (endpoint, source), "there is no record");
        scene.world.wait(2);
        assert_eq!(scene.world.ends(scene.hook, &packet), (source, endpoint));
        let came = scene.answer_of(endpoint, source, &packet);
        assert_eq!(came, (scene.service, scene.client));
    }
}

#[test]
fn a_lost_forward_record_is_made_again_at_once() {
    for scene in Scene::all() {
        let packet = Packet::udp(scene.client, scene.service);
        let ends = scene.open_udp();
        let lost = (scene.client, scene.service);
        scene.world.evict(lost, UDP, Edge::Ingress);
        assert_eq!(scene.world.ends(scene.hook, &packet), ends);
        let came = scene.answer_of(ends.1, ends.0, &packet);
        assert_eq!(came, lost_reversed(lost));
        assert_eq!(scene.world.flow_records(), 2);
    }
}

fn lost_reversed<T>((a, b): (T, T)) -> (T, T) {
    (b, a)
}

#[test]
fn a_reply_record_that_is_made_again_takes_no_port_from_another_flow() {
    // Two clients, one NAT port: the second gets the port that the first has lost.
    let mut scenario = Scenario::usual();
    scenario.nat_ports = (40_000, 1);
    for family in Family::BOTH {
        let world = World::new(&scenario);
        let far = at(family, 3, 1, 8080);
        let service = at(family, 9, 2, 80);
        let client = |host| Packet::udp(at(family, 7, host, 50_000), service);
        let (source, _) = world.open(Hook::FromOutside, &client(1));
        world.evict((far, source), UDP, Edge::Ingress);
        let second = world.open(Hook::FromOutside, &client(2));
        assert_eq!(second, (source, far));
        world.wait(2);
        let first = world.send(Hook::FromOutside, &client(1));
        let answer = Packet::udp(far, source);
        let came = world.ends(Hook::FromOutside, &answer);
        assert_eq!(came, (service, client(2).source));
        // The first one must not go on with a port that is another's.
        let went = client(1).endpoints_in(&first.1);
        assert!(first.0 == Action::Drop || went != (source, far));
    }
}

#[test]
fn without_room_a_flow_is_dropped() {
    for mut scene in Scene::all() {
        scene.world.set_buckets(0);
        let packet = Packet::udp(scene.client, scene.service);
        let (action, bytes) = scene.world.send(scene.hook, &packet);
        assert_eq!(action, Action::Drop);
        assert_eq!(bytes, packet.build());
        assert_eq!(scene.world.counted(), [(Counter::FlowTableFull, 1)]);
        assert_eq!(scene.world.flow_records(), 0);
    }
}

/// A bucket has room for three connections, and a half.
#[test]
fn without_room_the_connections_that_are_there_go_on() {
    for mut scene in Scene::all() {
        scene.world.set_buckets(1);
        let connections = [1, 2, 3].map(|port| {
            let mut syn = Packet::tcp(scene.client, scene.service, tcp_flags::SYN);
            syn.source.set_port(port);
            let (source, _) = scene.world.open(scene.hook, &syn);
            (syn.source, source)
        });
        for port in 1000..1100 {
            for protocol in Protocol::ALL {
                let mut other = Packet::opening(protocol, scene.client, scene.service);
                other.source.set_port(port);
                scene.world.send(scene.hook, &other);
            }
        }
        for (client, source) in connections {
            let data = Packet::tcp(client, scene.service, tcp_flags::ACK);
            assert_eq!(scene.world.ends(scene.hook, &data), (source, scene.first));
            let came = scene.answer_of(scene.first, source, &data);
            assert_eq!(came, (scene.service, client));
        }
    }
}

#[test]
fn a_flow_is_counted_once() {
    for scene in Scene::all() {
        scene.udp();
        scene.udp();
        let like = Packet::udp(scene.client, scene.service);
        scene.answer(&like);
        assert_eq!(scene.world.counted(), [(Counter::FlowsCreated, 1)]);
        assert_eq!(scene.world.flow_records(), 2);
    }
}
