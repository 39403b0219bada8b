//! Destinations among the ClusterIPs that are no frontend.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Fragment, Frontend, Hook, Packet, Protocol, Scenario, Transport, noise, tcp_flags,
};

use super::world::{FromIp, World, at};
use crate::host::{Action, Link, Memory};
use crate::layout::{Counter, Range};

use tcp_flags::{ACK, SYN};

/// A Service of two protocols on port 80, and the range of ClusterIPs around it.
fn scene(family: Family) -> World {
    let mut scenario = Scenario::empty();
    scenario.add_backend(at(family, 2, 1, 8080), true);
    for protocol in Protocol::ALL {
        let frontend = Frontend::new(at(family, 9, 1, 80), protocol, vec![0]);
        scenario.frontends.push(frontend);
    }
    let mut world = World::new(&scenario);
    look_after(&mut world.v4, family, [255, 255, 255, 0].into());
    let mask = [0xffff, 0xffff, 0xffff, 0xffff, 0, 0, 0, 0];
    look_after(&mut world.v6, family, mask.into());
    world
}

fn look_after<A: FromIp>(memory: &mut Memory<A>, family: Family, mask: std::net::IpAddr) {
    let (Some(first), Some(mask)) = (A::from_ip(at(family, 9, 0, 0).ip()), A::from_ip(mask)) else {
        return;
    };
    // The first place is left empty: it must contain nothing.
    memory.settings.service_cidrs[1] = Range { first, mask };
    memory
        .cluster_ips
        .extend(A::from_ip(at(family, 9, 1, 0).ip()));
}

fn outcome(world: &World, packet: &Packet) -> (Action, Vec<(Counter, u64)>) {
    let (action, _) = world.send(Hook::FromPod, packet);
    (action, world.counted())
}

fn client(family: Family) -> SocketAddr {
    at(family, 7, 1, 50_000)
}

#[test]
fn another_port_of_a_cluster_ip_is_refused() {
    for family in Family::BOTH {
        let world = scene(family);
        let to = at(family, 9, 1, 81);
        for flags in [SYN, ACK] {
            let (action, bytes) =
                world.send(Hook::FromPod, &Packet::tcp(client(family), to, flags));
            assert_eq!(action, Action::Bounce, "a reset");
            let back = Packet::tcp(to, client(family), 0).endpoints_in(&bytes);
            assert_eq!(back, (to, client(family)));
            assert_eq!(world.counted(), [(Counter::NoSuchPort, 1)]);
        }
        let expected = (Action::Bounce, vec![(Counter::NoSuchPort, 1)]);
        assert_eq!(outcome(&world, &Packet::udp(client(family), to)), expected);
    }
}

#[test]
fn another_port_is_refused_also_where_no_range_is_known() {
    for family in Family::BOTH {
        let mut world = scene(family);
        world.v4.settings.service_cidrs = Default::default();
        world.v6.settings.service_cidrs = Default::default();
        let to = at(family, 9, 1, 81);
        let expected = (Action::Bounce, vec![(Counter::NoSuchPort, 1)]);
        assert_eq!(outcome(&world, &Packet::udp(client(family), to)), expected);
        // Of this one nobody knows whether it could be a ClusterIP.
        let (action, _) = outcome(&world, &Packet::udp(client(family), at(family, 9, 2, 80)));
        assert_eq!(action, Action::Pass);
    }
}

#[test]
fn an_address_that_no_service_has_is_a_dead_end() {
    for family in Family::BOTH {
        let world = scene(family);
        let to = at(family, 9, 2, 80);
        for packet in [
            Packet::tcp(client(family), to, SYN),
            Packet::udp(client(family), to),
        ] {
            let expected = (Action::Drop, vec![(Counter::NoSuchService, 1)]);
            assert_eq!(outcome(&world, &packet), expected);
        }
    }
}

/// Nobody has them, so that they would leave by a default route.
#[test]
fn other_protocols_of_these_addresses_lead_nowhere() {
    for family in Family::BOTH {
        let world = scene(family);
        // ICMP, IP in IP, GRE, ESP, ICMPv6, UDP-Lite.
        for protocol in [1, 4, 41, 47, 50, 58, 136] {
            for (host, fragment) in [
                (1, None),
                (2, None),
                (
                    2,
                    Some(Fragment {
                        offset: 0,
                        more: true,
                    }),
                ),
            ] {
                let mut packet = Packet {
                    transport: Transport::Other(protocol),
                    payload: noise(7, 64),
                    ..Packet::udp(client(family), at(family, 9, host, 80))
                };
                packet.network.fragment = fragment;
                let reason = if host == 1 {
                    Counter::NoSuchPort
                } else {
                    Counter::NoSuchService
                };
                let expected = (Action::Drop, vec![(reason, 1)]);
                assert_eq!(outcome(&world, &packet), expected, "{packet:?}");
                packet.destination = at(family, 8, 1, 80);
                assert_eq!(outcome(&world, &packet), (Action::Pass, vec![]));
            }
        }
    }
}

#[test]
fn who_pings_a_service_is_told() {
    for family in Family::BOTH {
        let world = scene(family);
        let (icmp, [echo, unreachable]) = match family {
            Family::V4 => (1, [8, 3]),
            Family::V6 => (58, [128, 1]),
        };
        let mut payload = noise(7, 64);
        payload[0] = echo;
        let packet = Packet {
            transport: Transport::Other(icmp),
            payload,
            ..Packet::udp(client(family), at(family, 9, 1, 0))
        };
        for hook in [Hook::FromPod, Hook::FromOutside, Hook::FromHost] {
            let (action, bytes) = world.send(hook, &packet);
            assert_eq!(action, Action::Bounce, "{family} {hook:?}");
            let header = if family == Family::V4 { 20 } else { 40 };
            assert_eq!(bytes[14 + header], unreachable);
            assert_eq!(world.counted(), [(Counter::NoSuchPort, 1)]);
        }
    }
}

#[test]
fn broken_packets_to_these_addresses_lead_nowhere() {
    for family in Family::BOTH {
        let world = scene(family);
        let packet = Packet::tcp(client(family), at(family, 9, 2, 80), SYN);
        let mut bytes = packet.build();
        // A TCP header of no length.
        let data_offset = bytes.len() - packet.payload.len() - 8;
        bytes[data_offset] = 0;
        let (action, _) = world.run(Hook::FromPod, &bytes, Link::Ethernet);
        let counted = [(Counter::Malformed, 1), (Counter::NoSuchService, 1)];
        assert_eq!((action, world.counted()), (Action::Drop, counted.to_vec()));
    }
}

#[test]
fn all_else_goes_on() {
    for family in Family::BOTH {
        let world = scene(family);
        for (network, host) in [(8, 1), (10, 1), (0, 0), (255, 255)] {
            let packet = Packet::udp(client(family), at(family, network, host, 80));
            assert_eq!(outcome(&world, &packet), (Action::Pass, vec![]));
        }
        let packet = Packet::udp(client(family), at(family, 9, 1, 80));
        let expected = (Action::Pass, vec![(Counter::FlowsCreated, 1)]);
        assert_eq!(outcome(&world, &packet), expected);
    }
}

#[test]
fn a_connection_outlives_its_service() {
    for family in Family::BOTH {
        let mut world = scene(family);
        let to = at(family, 9, 1, 80);
        let ends = world.open(Hook::FromPod, &Packet::tcp(client(family), to, SYN));
        world.v4.frontends.clear();
        world.v6.frontends.clear();
        world.v4.cluster_ips.clear();
        world.v6.cluster_ips.clear();
        let next = Packet::tcp(client(family), to, ACK);
        assert_eq!(world.ends(Hook::FromPod, &next), ends);
    }
}
