//! Fragments go where the first one of their packet went.

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Scenario, noise};

use super::world::{FromIp, World, at};
use crate::host::{Action, Link};
use crate::layout::{Counter, V4, V6};

const SIZE: usize = 24;

/// A long datagram to a Service with an endpoint on the node, and what it becomes.
fn datagram(family: Family, port: u16) -> (Packet, Packet) {
    let client = at(family, 7, 7, port);
    let packet = Packet {
        payload: noise(1, 100),
        ..Packet::udp(client, at(family, 9, 1, 80))
    };
    let becomes = packet.between(client, at(family, 2, 1, 8080));
    (packet, becomes)
}

/// That a fragment passes, and what it looks like then.
#[track_caller]
fn becomes(world: &World, part: &Packet, wanted: &Packet) {
    let (action, bytes) = world.send(Hook::FromOutside, part);
    assert_eq!((action, bytes), (Action::Pass, wanted.build()));
}

#[test]
fn they_follow_the_first_one_for_thirty_seconds() {
    for family in Family::BOTH {
        let world = World::new(&Scenario::usual());
        let (packet, translated) = datagram(family, 50_000);
        let (parts, wanted) = (packet.fragments(SIZE), translated.fragments(SIZE));
        becomes(&world, &parts[0], &wanted[0]);
        world.wait(29);
        becomes(&world, &parts[2], &wanted[2]);
        becomes(&world, &parts[1], &wanted[1]);
        world.wait(3);
        becomes(&world, &parts[3], &parts[3]);
        assert_eq!(world.counted(), [(Counter::FlowsCreated, 1)]);
    }
}

#[test]
fn packets_of_one_client_are_told_apart() {
    let world = World::new(&Scenario::usual());
    let family = Family::V4;
    let (mut packet, mut translated) = datagram(family, 50_000);
    let (other, _) = datagram(family, 50_001);
    packet.network.identification = 7;
    translated.network.identification = 7;
    let parts = packet.fragments(SIZE);
    becomes(&world, &parts[0], &translated.fragments(SIZE)[0]);
    // Another packet, whose first fragment was not seen.
    let lost = &other.fragments(SIZE)[1];
    becomes(&world, lost, lost);
    becomes(&world, &parts[1], &translated.fragments(SIZE)[1]);
}

/// The fragment header itself would be behind its end.
#[test]
fn one_that_says_it_has_no_room_for_its_own_header_is_left_alone() {
    let world = World::new(&Scenario::usual());
    let (packet, wanted) = datagram(Family::V6, 50_000);
    let parts = packet.fragments(SIZE);
    becomes(&world, &parts[0], &wanted.fragments(SIZE)[0]);
    let mut frame = parts[1].build();
    let length = parts[1].network_at() + 4;
    for short in [1, 7] {
        frame[length..length + 2].copy_from_slice(&[0, short]);
        let (action, bytes) = world.run(Hook::FromOutside, &frame, Link::Ethernet);
        assert_eq!((action, &bytes), (Action::Pass, &frame), "{short} bytes");
    }
}

#[test]
fn without_the_first_one_they_do_not_leave_for_a_cluster_ip() {
    for family in Family::BOTH {
        let mut world = World::new(&Scenario::usual());
        let service = at(family, 9, 1, 80).ip();
        world.v4.cluster_ips.extend(V4::from_ip(service));
        world.v6.cluster_ips.extend(V6::from_ip(service));
        let part = &datagram(family, 50_000).0.fragments(SIZE)[1];
        let (action, bytes) = world.send(Hook::FromOutside, part);
        assert_eq!((action, bytes), (Action::Drop, part.build()));
        assert_eq!(world.counted(), [(Counter::Fragments, 1)]);
    }
}

#[test]
fn the_sender_of_a_first_one_that_is_too_big_is_told() {
    for family in Family::BOTH {
        let world = World::new(&Scenario::usual());
        let client = at(family, 7, 7, 50_000);
        let packet = Packet {
            payload: noise(1, 100),
            ..Packet::udp(client, at(family, 9, 2, 80))
        };
        let first = &packet.fragments(SIZE)[0];
        let (action, sent_on) = world.send(Hook::FromOutside, first);
        assert_eq!(action, Action::Forward);
        let (action, error) = world.too_big(&sent_on, 1400);
        assert_eq!(action, Action::Reinject);
        let (action, bytes) = world.run(Hook::FromOutside, &error, Link::Ethernet);
        assert_eq!(action, Action::Forward);
        let node = at(family, 1, 1, 0).ip();
        let told = first.clone().sent_on().too_big(node, 1400).sent_on();
        assert_eq!(bytes, told.build());
    }
}
