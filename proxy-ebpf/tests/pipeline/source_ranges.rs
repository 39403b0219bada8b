//! Load balancer addresses that only some may use.

use std::net::{IpAddr, SocketAddr};

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{FromIp, World, at};
use crate::host::{Action, Memory};
use crate::layout::{Counter, SourceRange, V4, V6, frontend_flags};

use tcp_flags::{ACK, SYN};

const SERVICE: u32 = 0;

/// One Service port with a restricted address and another one.
fn scene(family: Family) -> World {
    let mut scenario = Scenario::empty();
    scenario.add_backend(at(family, 2, 1, 8080), true);
    for protocol in Protocol::ALL {
        for host in [1, 2] {
            let frontend = Frontend::new(at(family, 9, host, 80), protocol, vec![0]);
            scenario.frontends.push(frontend);
        }
    }
    let mut world = World::new(&scenario);
    restrict(&mut world.v4, at(family, 9, 1, 80).ip());
    restrict(&mut world.v6, at(family, 9, 1, 80).ip());
    world
}

fn restrict<A: FromIp>(memory: &mut Memory<A>, address: IpAddr) {
    for (key, frontend) in &mut memory.frontends {
        frontend.service = SERVICE;
        if Some(key.address) == A::from_ip(address) {
            frontend.flags |= frontend_flags::SOURCE_RANGES;
        }
    }
}

fn allow(world: &mut World, service: u32, address: IpAddr, prefix: u32) {
    let prefix = 32 + prefix;
    if let Some(source) = V4::from_ip(address) {
        let range = SourceRange { service, source };
        world.v4.source_ranges.insert((prefix, range));
    }
    if let Some(source) = V6::from_ip(address) {
        let range = SourceRange { service, source };
        world.v6.source_ranges.insert((prefix, range));
    }
}

/// Prefix lengths that end behind the third part of the tests' addresses, and behind
/// all of it but one bit.
fn lengths(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (24, 31),
        Family::V6 => (64, 127),
    }
}

fn is_let_in(world: &World, hook: Hook, client: SocketAddr, service: SocketAddr) -> bool {
    let (action, _) = world.send(hook, &Packet::tcp(client, service, SYN));
    let counted = world.counted();
    if action == Action::Drop {
        assert_eq!(counted, [(Counter::SourceNotAllowed, 1)]);
    }
    action != Action::Drop
}

#[test]
fn only_who_is_in_a_range_is_let_in() {
    for family in Family::BOTH {
        let mut world = scene(family);
        let service = at(family, 9, 1, 80);
        let (network, pair) = lengths(family);
        allow(&mut world, SERVICE, at(family, 7, 0, 0).ip(), network);
        allow(&mut world, SERVICE, at(family, 8, 4, 0).ip(), pair);
        for hook in [Hook::FromOutside, Hook::FromPod] {
            for (client, expected) in [
                ((7, 1), true),
                ((7, 255), true),
                ((6, 1), false),
                ((8, 3), false),
                ((8, 4), true),
                ((8, 5), true),
                ((8, 6), false),
            ] {
                let client = at(family, client.0, client.1, 50_000);
                let is = is_let_in(&world, hook, client, service);
                assert_eq!(is, expected, "{client} by {hook:?}");
            }
        }
    }
}

#[test]
fn other_frontends_of_the_port_are_open() {
    for family in Family::BOTH {
        let world = scene(family);
        let client = at(family, 7, 1, 50_000);
        assert!(is_let_in(
            &world,
            Hook::FromPod,
            client,
            at(family, 9, 2, 80)
        ));
        assert!(!is_let_in(
            &world,
            Hook::FromPod,
            client,
            at(family, 9, 1, 80)
        ));
    }
}

#[test]
fn ranges_of_another_service_do_not_count() {
    for family in Family::BOTH {
        let mut world = scene(family);
        let (network, _) = lengths(family);
        allow(&mut world, SERVICE + 1, at(family, 7, 0, 0).ip(), network);
        let client = at(family, 7, 1, 50_000);
        assert!(!is_let_in(
            &world,
            Hook::FromPod,
            client,
            at(family, 9, 1, 80)
        ));
    }
}

#[test]
fn what_is_open_stays_open() {
    for family in Family::BOTH {
        let mut world = scene(family);
        let (network, _) = lengths(family);
        let (client, service) = (at(family, 7, 1, 50_000), at(family, 9, 1, 80));
        allow(&mut world, SERVICE, at(family, 7, 0, 0).ip(), network);
        world.open(Hook::FromPod, &Packet::tcp(client, service, SYN));
        world.counted();
        world.v4.source_ranges.clear();
        world.v6.source_ranges.clear();
        let next = Packet::tcp(client, service, ACK);
        assert_ne!(world.send(Hook::FromPod, &next).0, Action::Drop);
        let other = at(family, 7, 1, 50_001);
        assert!(!is_let_in(&world, Hook::FromPod, other, service));
    }
}
