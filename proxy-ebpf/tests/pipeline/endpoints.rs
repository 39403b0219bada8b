//! Which endpoint a new connection gets, and when it gets none.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, address};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::{Counter, V4, V6};

/// Every family with every protocol.
fn kinds() -> impl Iterator<Item = (Family, Protocol)> {
    let all = |family| Protocol::ALL.map(|protocol| (family, protocol));
    Family::BOTH.into_iter().flat_map(all)
}

/// Where a new client's packet goes.
fn goes_to(world: &World, hook: Hook, to: SocketAddr, protocol: Protocol) -> SocketAddr {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    world
        .ends(
            hook,
            &Packet::opening(protocol, at(family, 7, 7, 50_000), to),
        )
        .1
}

/// That a new client's packet is dropped for this reason, as it came.
fn is_dropped(world: &World, hook: Hook, to: SocketAddr, protocol: Protocol, why: Counter) {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let packet = Packet::opening(protocol, at(family, 7, 7, 50_000), to);
    let (action, bytes) = world.send(hook, &packet);
    assert_eq!(action, Action::Drop);
    assert_eq!(bytes, packet.build());
    assert_eq!(world.counted(), [(why, 1)]);
    assert_eq!(world.flow_records(), 0);
}

fn node_port(family: Family, protocol: Protocol, set: Vec<usize>) -> Frontend {
    let any = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    };
    Frontend {
        external: true,
        ..Frontend::new(SocketAddr::new(any, 30_080), protocol, set)
    }
}

/// A scenario with a near and a far endpoint, and this frontend.
fn stage_with(
    family: Family,
    frontend: impl FnOnce(usize, usize) -> Frontend,
) -> (World, SocketAddr, SocketAddr) {
    let mut scenario = Scenario::empty();
    let (near, far) = (at(family, 2, 1, 8080), at(family, 3, 1, 8080));
    let indices = (
        scenario.add_backend(near, true),
        scenario.add_backend(far, false),
    );
    scenario.frontends.push(frontend(indices.0, indices.1));
    (World::new(&scenario), near, far)
}

#[test]
fn every_endpoint_is_as_likely_as_the_others() {
    const ENDPOINTS: u8 = 7;
    const PICKS: u32 = 14_000;
    for (family, protocol) in kinds() {
        let mut scenario = Scenario::empty();
        let endpoints = (0..ENDPOINTS).map(|host| at(family, 2, host, 8080));
        let set: Vec<_> = endpoints.map(|it| scenario.add_backend(it, true)).collect();
        let service = at(family, 9, 1, 80);
        scenario
            .frontends
            .push(Frontend::new(service, protocol, set));
        let world = World::new(&scenario);
        let mut picks = BTreeMap::<_, u32>::new();
        for client in 0..PICKS {
            let host = u8::try_from(client % 250).unwrap();
            let port = u16::try_from(1000 + client / 250).unwrap();
            let packet = Packet::opening(protocol, at(family, 7, host, port), service);
            let (_, endpoint) = world.ends(Hook::FromOutside, &packet);
            *picks.entry(endpoint).or_default() += 1;
        }
        // Six standard deviations of a binomial distribution, which are 248.
        let expected = PICKS / u32::from(ENDPOINTS);
        assert_eq!(picks.len(), usize::from(ENDPOINTS));
        for (endpoint, count) in picks {
            assert!(count.abs_diff(expected) < 248, "{endpoint} {count}");
        }
    }
}

#[test]
fn a_node_port_answers_on_node_addresses_only() {
    for (family, protocol) in kinds() {
        let (world, near, _) =
            stage_with(family, |near, _| node_port(family, protocol, vec![near]));
        let on_node = at(family, 1, 1, 30_080);
        assert_eq!(goes_to(&world, Hook::FromOutside, on_node, protocol), near);
        for host in [0, 2, 255] {
            let elsewhere = at(family, 1, host, 30_080);
            let to = goes_to(&world, Hook::FromOutside, elsewhere, protocol);
            assert_eq!(to, elsewhere);
        }
        // NodePorts lie under this address in the map, and nobody has it.
        let nobody = SocketAddr::new(
            match family {
                Family::V4 => [0; 4].into(),
                Family::V6 => [0; 16].into(),
            },
            30_080,
        );
        assert_eq!(goes_to(&world, Hook::FromOutside, nobody, protocol), nobody);
        let other_port = at(family, 1, 1, 30_081);
        let to = goes_to(&world, Hook::FromOutside, other_port, protocol);
        assert_eq!(to, other_port);
    }
}

#[test]
fn an_address_of_its_own_comes_before_a_node_port() {
    for (family, protocol) in kinds() {
        let mut scenario = Scenario::empty();
        let own = scenario.add_backend(at(family, 2, 1, 8080), true);
        let other = scenario.add_backend(at(family, 2, 2, 8080), true);
        let on_node = at(family, 1, 1, 30_080);
        scenario.frontends = vec![
            node_port(family, protocol, vec![other]),
            Frontend::new(on_node, protocol, vec![own]),
        ];
        let to = goes_to(&World::new(&scenario), Hook::FromOutside, on_node, protocol);
        assert_eq!(to, at(family, 2, 1, 8080));
    }
}

#[test]
fn an_internal_local_policy_binds_pods_too() {
    for (family, protocol) in kinds() {
        let service = at(family, 9, 1, 80);
        let frontend = |near, far, local| Frontend {
            local_policy: true,
            local,
            ..Frontend::new(service, protocol, vec![far, far, far, near])
        };
        for hook in [Hook::FromOutside, Hook::FromPod] {
            let (world, near, _) = stage_with(family, |near, far| frontend(near, far, vec![near]));
            assert_eq!(goes_to(&world, hook, service, protocol), near);
            let (world, ..) = stage_with(family, |near, far| frontend(near, far, vec![]));
            is_dropped(&world, hook, service, protocol, Counter::NoLocalEndpoints);
        }
    }
}

#[test]
fn an_external_local_policy_binds_outsiders_only() {
    for (family, protocol) in kinds() {
        let service = at(family, 9, 1, 80);
        let frontend = |far, local| Frontend {
            local_policy: true,
            external: true,
            local,
            ..Frontend::new(service, protocol, vec![far])
        };
        let (world, near, far) = stage_with(family, |near, far| frontend(far, vec![near]));
        assert_eq!(goes_to(&world, Hook::FromOutside, service, protocol), near);
        let (action, _) = world.send(
            Hook::FromOutside,
            &Packet::opening(protocol, at(family, 7, 8, 50_000), service),
        );
        assert_eq!(action, Action::Pass, "keeps the client's address");
        let pod = Packet::opening(protocol, at(family, 2, 9, 50_000), service);
        assert_eq!(world.ends(Hook::FromPod, &pod).1, far);
        let (world, ..) = stage_with(family, |_, far| frontend(far, vec![]));
        let why = Counter::NoLocalEndpoints;
        is_dropped(&world, Hook::FromOutside, service, protocol, why);
    }
}

#[test]
fn what_needs_a_node_address_is_dropped_where_there_is_none() {
    for (family, protocol) in kinds() {
        let service = at(family, 9, 1, 80);
        let (mut world, ..) =
            stage_with(family, |_, far| Frontend::new(service, protocol, vec![far]));
        world.v4.settings.node_address = V4::default();
        world.v6.settings.node_address = V6::default();
        let why = Counter::Unroutable;
        is_dropped(&world, Hook::FromOutside, service, protocol, why);
    }
}

#[test]
fn what_needs_a_port_is_dropped_where_there_is_no_range() {
    for (family, protocol) in kinds() {
        let service = at(family, 9, 1, 80);
        let (mut world, ..) =
            stage_with(family, |_, far| Frontend::new(service, protocol, vec![far]));
        world.v4.settings.nat_ports = 0;
        world.v6.settings.nat_ports = 0;
        let why = Counter::PortsExhausted;
        is_dropped(&world, Hook::FromOutside, service, protocol, why);
    }
}

#[test]
fn a_packet_at_its_last_hop_is_not_sent_on() {
    for (family, protocol) in kinds() {
        let service = at(family, 9, 1, 80);
        for (ttl, action) in [
            (0, Action::Bounce),
            (1, Action::Bounce),
            (2, Action::Forward),
            (255, Action::Forward),
        ] {
            let (world, ..) =
                stage_with(family, |_, far| Frontend::new(service, protocol, vec![far]));
            let packet = Packet {
                ttl,
                ..Packet::opening(protocol, at(family, 7, 7, 50_000), service)
            };
            let (got, bytes) = world.send(Hook::FromOutside, &packet);
            assert_eq!(got, action, "{ttl}");
            if action == Action::Bounce {
                let told = packet.expired(address(family, 1, 1));
                assert_eq!(bytes, told.build());
                assert!(world.counted().contains(&(Counter::Unroutable, 1)));
            }
        }
    }
}

#[test]
fn the_last_hop_does_not_matter_to_what_the_stack_takes() {
    for (family, protocol) in kinds() {
        let service = SocketAddr::new(address(family, 9, 1), 80);
        let (world, near, _) = stage_with(family, |near, _| {
            Frontend::new(service, protocol, vec![near])
        });
        let packet = Packet {
            ttl: 1,
            ..Packet::opening(protocol, at(family, 7, 7, 50_000), service)
        };
        let (action, bytes) = world.send(Hook::FromOutside, &packet);
        assert_eq!(action, Action::Pass);
        assert_eq!(bytes, packet.between(packet.source, near).build());
    }
}
