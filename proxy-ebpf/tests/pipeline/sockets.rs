//! What becomes of destinations at sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Protocol, Scenario};

use super::caller::{Caller, Outcome};
use super::world::{World, at};
use crate::host::Memory;
use crate::layout::{Address, Counter, SourceRange, frontend_flags, settings_flags};
use crate::pipeline::Client;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Two ClusterIPs and a NodePort of one set of four endpoints, for both protocols.
fn scene(family: Family) -> World {
    let mut scenario = Scenario::empty();
    for host in 1..=4 {
        scenario.add_backend(at(family, 2, host, 8080), true);
    }
    let any = match family {
        Family::V4 => ([0; 4], 30_080).into(),
        Family::V6 => ([0; 8], 30_080).into(),
    };
    for protocol in Protocol::ALL {
        for address in [at(family, 9, 1, 80), at(family, 9, 2, 80), any] {
            let frontend = Frontend::new(address, protocol, (0..4).collect());
            scenario.frontends.push(frontend);
        }
    }
    World::new(&scenario)
}

fn endpoint(outcome: Outcome) -> SocketAddr {
    match outcome {
        Outcome::Endpoint(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_connection_picks_anew() {
    for family in Family::BOTH {
        let world = scene(family);
        let picked: BTreeSet<_> = (0..100)
            .map(|cookie| Caller::new(Client::Pod, TCP, cookie))
            .map(|caller| endpoint(caller.connect(&world, at(family, 9, 1, 80))))
            .collect();
        assert_eq!(picked.len(), 4);
    }
}

#[test]
fn datagrams_of_a_socket_are_one_flow_until_it_is_silent_for_long() {
    for family in Family::BOTH {
        let world = scene(family);
        let mut moved = 0;
        for cookie in 0..50 {
            let caller = Caller::new(Client::Pod, UDP, cookie);
            let service = at(family, 9, 1, 80);
            // Packets of a connected one can move; it cannot.
            assert_eq!(caller.connect(&world, service), Outcome::Unchanged);
            let first = endpoint(caller.send(&world, None, service));
            for _ in 0..3 {
                world.wait(200);
                assert_eq!(endpoint(caller.send(&world, None, service)), first);
                assert_eq!(caller.on_getpeername(&world, first), Some(service));
            }
            world.wait(250);
            assert_eq!(caller.on_getpeername(&world, first), None);
            moved += u8::from(endpoint(caller.send(&world, None, service)) != first);
        }
        assert!(moved > 20, "{moved} of 50 moved");
    }
}

#[test]
fn a_socket_that_only_hears_hears_from_the_frontend() {
    for family in Family::BOTH {
        let world = scene(family);
        let caller = Caller::new(Client::Host, UDP, 1);
        let service = at(family, 9, 1, 80);
        let first = endpoint(caller.send(&world, None, service));
        for _ in 0..100 {
            world.wait(200);
            assert_eq!(caller.on_recvmsg(&world, first), Some(service));
        }
        assert_eq!(endpoint(caller.send(&world, None, service)), first);
    }
}

#[test]
fn datagrams_move_when_their_endpoint_ends() {
    for family in Family::BOTH {
        let mut world = scene(family);
        let caller = Caller::new(Client::Pod, UDP, 1);
        let service = at(family, 9, 1, 80);
        let mut seen = BTreeSet::new();
        for left in (1..4).rev() {
            let first = endpoint(caller.send(&world, None, service));
            assert!(seen.insert(first), "{first} came back");
            let gone = (0..4)
                .find(|it| at(family, 2, it + 1, 8080) == first)
                .unwrap();
            world.end_backend(gone.into());
            let others: Vec<_> = (0..4_u8)
                .filter(|it| !seen.contains(&at(family, 2, it + 1, 8080)))
                .map(usize::from)
                .collect();
            assert_eq!(others.len(), left);
            world.switch_sets(&others);
        }
    }
}

/// A socket that is connected to what was the endpoint of a frontend for it names that itself.
#[test]
fn a_socket_that_is_connected_to_an_endpoint_names_it() {
    for family in Family::BOTH {
        for client in [Client::Host, Client::Pod] {
            for protocol in [TCP, UDP] {
                let world = scene(family);
                let service = at(family, 9, 1, 80);
                let connecting = Caller::new(client, protocol, 1);
                let sending = Caller::new(client, protocol, 2);
                let mut known = Vec::new();
                if let Outcome::Endpoint(end) = connecting.connect(&world, service) {
                    known.push((connecting, end));
                }
                if protocol == UDP {
                    let end = endpoint(sending.send(&world, None, service));
                    known.push((sending, end));
                }
                for (caller, end) in known {
                    assert_eq!(caller.on_getpeername(&world, end), Some(service));
                    assert_eq!(caller.connect(&world, end), Outcome::Unchanged);
                    assert_eq!(
                        caller.on_getpeername(&world, end),
                        None,
                        "{client:?} {protocol}"
                    );
                    assert_eq!(
                        caller.on_recvmsg(&world, end),
                        None,
                        "{client:?} {protocol}"
                    );
                }
            }
        }
    }
}

/// And one that is connected to a frontend names that one, whatever it has asked before.
#[test]
fn a_socket_that_is_connected_to_another_frontend_names_that() {
    for family in Family::BOTH {
        let world = scene(family);
        let [asked, connected] = [1, 2].map(|host| at(family, 9, host, 80));
        let mut met = 0;
        for cookie in 0..50 {
            let caller = Caller::new(Client::Host, UDP, cookie);
            let before = endpoint(caller.send(&world, None, asked));
            let peer = endpoint(caller.connect(&world, connected));
            met += u8::from(before == peer);
            assert_eq!(caller.on_getpeername(&world, peer), Some(connected));
        }
        assert!(met > 0, "none had the same endpoint twice");
    }
}

/// For the kernel it is the loopback address, where NodePorts are the host's; not a Pod's.
#[test]
fn the_unspecified_address_is_the_hosts_loopback() {
    for family in Family::BOTH {
        let world = scene(family);
        let (any, loopback) = match family {
            Family::V4 => ("0.0.0.0:30080", "127.0.0.1:30080"),
            Family::V6 => ("[::]:30080", "[::1]:30080"),
        };
        let (any, loopback) = (any.parse().unwrap(), loopback.parse().unwrap());
        for protocol in [TCP, UDP] {
            let caller = Caller::new(Client::Host, protocol, protocol.into());
            let peer = endpoint(caller.connect(&world, any));
            assert_eq!(caller.on_getpeername(&world, peer), Some(loopback));
            let caller = Caller::new(Client::Pod, protocol, 100);
            assert_eq!(caller.connect(&world, any), Outcome::Unchanged);
        }
        let caller = Caller::new(Client::Host, UDP, 200);
        let peer = endpoint(caller.send(&world, None, any));
        assert_eq!(caller.on_recvmsg(&world, peer), Some(loopback));
    }
}

#[test]
fn what_is_remembered_of_a_connection_lasts_until_it_is_closed() {
    for family in Family::BOTH {
        let world = scene(family);
        let caller = Caller::new(Client::Host, UDP, 1);
        let service = at(family, 9, 1, 80);
        let peer = endpoint(caller.connect(&world, service));
        world.wait(100_000);
        assert_eq!(caller.on_getpeername(&world, peer), Some(service));
        // A destination that is named all the same.
        assert_eq!(endpoint(caller.send(&world, Some(peer), service)), peer);
        assert_eq!(caller.send(&world, Some(peer), peer), Outcome::Unchanged);
        let other = at(family, 9, 2, 80);
        assert_eq!(caller.send(&world, Some(peer), other), Outcome::Unchanged);
        assert_eq!(
            Caller::new(Client::Host, UDP, 2).on_getpeername(&world, peer),
            None
        );
        caller.close(&world);
        assert_eq!(caller.on_getpeername(&world, peer), None);
        assert!(world.v4.sockets.borrow().is_empty());
        assert!(world.v6.sockets.borrow().is_empty());
    }
}

#[test]
fn what_is_remembered_of_datagrams_goes_with_their_socket() {
    for family in Family::BOTH {
        let world = scene(family);
        let service = at(family, 9, 1, 80);
        let [one, other] = [1, 2].map(|cookie| Caller::new(Client::Pod, UDP, cookie));
        let peers = [one, other].map(|it| endpoint(it.send(&world, None, service)));
        one.close(&world);
        assert_eq!(one.on_getpeername(&world, peers[0]), None);
        assert_eq!(other.on_getpeername(&world, peers[1]), Some(service));
        assert_eq!(endpoint(other.send(&world, None, service)), peers[1]);
        other.close(&world);
        assert!(world.v4.sockets.borrow().is_empty());
        assert!(world.v6.sockets.borrow().is_empty());
    }
}

#[test]
fn only_a_sockets_last_connection_is_remembered() {
    for family in Family::BOTH {
        let world = scene(family);
        let caller = Caller::new(Client::Host, UDP, 1);
        let [one, other] = [1, 2].map(|host| at(family, 9, host, 80));
        for service in [one, other, one, other, one, other] {
            let peer = endpoint(caller.connect(&world, service));
            assert_eq!(caller.on_getpeername(&world, peer), Some(service));
            for host in (1..=4).filter(|host| at(family, 2, *host, 8080) != peer) {
                assert_eq!(
                    caller.on_getpeername(&world, at(family, 2, host, 8080)),
                    None
                );
            }
        }
        assert_eq!(
            world.v4.sockets.borrow().len() + world.v6.sockets.borrow().len(),
            1
        );
    }
}

#[test]
fn who_connects_to_the_endpoint_itself_is_told_so() {
    for family in Family::BOTH {
        let world = scene(family);
        let caller = Caller::new(Client::Host, UDP, 1);
        let service = at(family, 9, 1, 80);
        let peer = endpoint(caller.connect(&world, service));
        let neighbour = SocketAddr::new(peer.ip(), 9);
        assert_eq!(
            caller.on_getpeername(&world, neighbour),
            None,
            "another port"
        );
        assert_eq!(caller.on_getpeername(&world, peer), Some(service));
        assert_eq!(caller.connect(&world, peer), Outcome::Unchanged);
        assert_eq!(caller.on_getpeername(&world, peer), None);
    }
}

#[test]
fn an_endpoint_answers_as_whom_it_was_asked() {
    for family in Family::BOTH {
        let world = scene(family);
        for client in [Client::Host, Client::Pod] {
            let caller = Caller::new(client, UDP, client as u64);
            let service = at(family, 9, 1, 80);
            let first = endpoint(caller.send(&world, None, service));
            assert_eq!(caller.on_getpeername(&world, first), Some(service));
            assert_eq!(caller.send(&world, None, first), Outcome::Unchanged);
            assert_eq!(caller.on_getpeername(&world, first), None);
            let second = endpoint(caller.send(&world, None, service));
            assert_eq!(caller.on_getpeername(&world, second), Some(service));
        }
    }
}

#[test]
fn a_pods_socket_has_no_endpoint_for_two_services() {
    for family in Family::BOTH {
        let mut world = scene(family);
        world.switch_sets(&[0]);
        let (first, second) = (at(family, 9, 1, 80), at(family, 9, 2, 80));
        let pod = Caller::new(Client::Pod, UDP, 1);
        let shared = endpoint(pod.send(&world, None, first));
        assert_eq!(pod.send(&world, None, second), Outcome::Unchanged);
        assert_eq!(pod.on_getpeername(&world, shared), Some(first));
        // The host has nobody else to ask: the last one counts.
        let host = Caller::new(Client::Host, UDP, 2);
        assert_eq!(endpoint(host.send(&world, None, first)), shared);
        assert_eq!(endpoint(host.send(&world, None, second)), shared);
        assert_eq!(host.on_getpeername(&world, shared), Some(second));
    }
}

/// What is special of frontends.
type Special = fn(&mut World);

#[test]
fn what_only_packets_can_have_is_left_to_them() {
    let masquerade: Special = |world| {
        world.v4.settings.flags = settings_flags::MASQUERADE_ALL;
        world.v6.settings.flags = settings_flags::MASQUERADE_ALL;
    };
    let affinity: Special = |world| world.set_affinity(60);
    // The node's address is listed; which one the Pod's packets have is not known.
    let ranges: Special = |world| {
        restrict(&mut world.v4);
        restrict(&mut world.v6);
    };
    for family in Family::BOTH {
        for special in [masquerade, affinity, ranges] {
            let mut world = scene(family);
            special(&mut world);
            let service = at(family, 9, 1, 80);
            for protocol in [TCP, UDP] {
                let pod = Caller::new(Client::Pod, protocol, 1);
                assert_eq!(pod.connect(&world, service), Outcome::Unchanged);
                assert_eq!(pod.send(&world, None, service), Outcome::Unchanged);
                let host = Caller::new(Client::Host, protocol, 2);
                endpoint(host.connect(&world, service));
            }
        }
    }
}

/// Lets only the node's own address use the frontends.
fn restrict<A: Address>(memory: &mut Memory<A>) {
    let source = memory.settings.node_address;
    for frontend in memory.frontends.values_mut() {
        frontend.flags |= frontend_flags::SOURCE_RANGES;
        let service = frontend.service;
        let range = SourceRange { service, source };
        memory
            .source_ranges
            .insert((SourceRange::<A>::WHOLE, range));
    }
}

#[test]
fn what_nobody_may_answer_is_left_to_packets_where_there_are_any() {
    for family in Family::BOTH {
        let mut scenario = Scenario::empty();
        scenario.add_backend(at(family, 3, 1, 8080), false);
        let service = at(family, 9, 1, 80);
        scenario.frontends.push(Frontend {
            local_policy: true,
            ..Frontend::new(service, Protocol::Tcp, vec![0])
        });
        let world = World::new(&scenario);
        let [pod, host] = [Client::Pod, Client::Host].map(|it| Caller::new(it, TCP, 1));
        assert_eq!(pod.connect(&world, service), Outcome::Unchanged);
        assert_eq!(world.counted(), [], "the packet is");
        assert_eq!(host.connect(&world, service), Outcome::TimedOut);
        assert_eq!(world.counted(), [(Counter::NoLocalEndpoints, 1)]);
    }
}

#[test]
fn node_ports_answer_the_host_by_loopback_and_nobody_else() {
    for family in Family::BOTH {
        let world = scene(family);
        let loopback = match family {
            Family::V4 => ["127.0.0.1:30080", "127.1.2.3:30080"],
            Family::V6 => ["[::1]:30080", "[::1]:30080"],
        };
        for to in loopback.map(|it| it.parse().unwrap()) {
            let host = Caller::new(Client::Host, TCP, 1);
            endpoint(host.connect(&world, to));
            let pod = Caller::new(Client::Pod, TCP, 2);
            assert_eq!(pod.connect(&world, to), Outcome::Unchanged);
        }
        let near_misses = match family {
            Family::V4 => ["126.0.0.1:30080", "128.0.0.1:30080"],
            Family::V6 => ["[::2]:30080", "[1::1]:30080"],
        };
        for to in near_misses.map(|it| it.parse().unwrap()) {
            let host = Caller::new(Client::Host, TCP, 1);
            assert_eq!(host.connect(&world, to), Outcome::Unchanged);
        }
    }
}

#[test]
fn other_protocols_are_left_alone() {
    for family in Family::BOTH {
        let world = scene(family);
        // None, ICMP, SCTP, UDP-Lite.
        for protocol in [0, 1, 132, 136] {
            let caller = Caller::new(Client::Host, protocol, 1);
            let to = at(family, 9, 1, 80);
            assert_eq!(caller.connect(&world, to), Outcome::Unchanged);
            assert_eq!(caller.send(&world, None, to), Outcome::Unchanged);
            assert!(caller.may_bind(&world, at(family, 1, 1, 30_080)));
        }
        assert_eq!(world.counted(), [] as [(Counter, u64); 0]);
    }
}

#[test]
fn only_the_host_is_kept_from_node_ports() {
    for family in Family::BOTH {
        let world = scene(family);
        let any = match family {
            Family::V4 => ([0; 4], 30_080).into(),
            Family::V6 => ([0; 8], 30_080).into(),
        };
        for (at, is_free) in [
            (any, false),
            (at(family, 1, 1, 30_080), false),
            // Another port; an address that is not this node's; a ClusterIP.
            (at(family, 1, 1, 30_081), true),
            (at(family, 1, 2, 30_080), true),
            (at(family, 9, 1, 80), true),
        ] {
            for protocol in [TCP, UDP] {
                let host = Caller::new(Client::Host, protocol, 1);
                assert_eq!(host.may_bind(&world, at), is_free, "{at}");
                assert!(Caller::new(Client::Pod, protocol, 2).may_bind(&world, at));
            }
        }
    }
}
