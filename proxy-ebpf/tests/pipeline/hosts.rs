//! What this host sends to Services, seen where it leaves: at egress of an uplink.

use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

/// A Service with one endpoint.
struct Scene {
    world: World,
    service: SocketAddr,
    /// Without endpoints.
    other: SocketAddr,
    endpoint: SocketAddr,
}

impl Scene {
    fn new(family: Family, endpoint: SocketAddr, is_local: bool) -> Self {
        let mut scenario = Scenario::empty();
        let backend = scenario.add_backend(endpoint, is_local);
        let (service, other) = (at(family, 9, 1, 80), at(family, 9, 2, 80));
        for protocol in Protocol::ALL {
            for (address, set) in [(service, vec![backend]), (other, vec![])] {
                let frontend = Frontend::new(address, protocol, set);
                scenario.frontends.push(frontend);
            }
        }
        Self {
            world: World::new(&scenario),
            service,
            other,
            endpoint,
        }
    }
}

/// Of the node itself, and of a Pod whose device has no programs.
fn clients(family: Family) -> [SocketAddr; 2] {
    [at(family, 1, 1, 50_000), at(family, 2, 9, 50_000)]
}

fn check(action: Action, bytes: &[u8], wanted: Action, expected: &Packet) {
    assert_eq!(action, wanted, "{expected:?}");
    assert_eq!(bytes, expected.build(), "is not {expected:?}");
}

#[test]
fn are_sent_on_and_answers_go_up_the_stack() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            for client in clients(family) {
                let scene = Scene::new(family, at(family, 2, 1, 8080), is_local);
                for protocol in Protocol::ALL {
                    scene.converse(protocol, client, Hook::FromOutside);
                }
            }
        }
    }
}

/// Its stack takes nothing that has an address of its own as the source, but the frontend's.
#[test]
fn reach_endpoints_on_the_host_itself() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 1, 1, 8080), true);
        for protocol in Protocol::ALL {
            let source = scene.converse(protocol, host, Hook::FromHost);
            assert_eq!(source.ip(), scene.service.ip());
        }
    }
}

impl Scene {
    /// Whom the endpoint sees.
    fn converse(&self, protocol: Protocol, client: SocketAddr, back: Hook) -> SocketAddr {
        let first = Packet::opening(protocol, client, self.service);
        let (action, bytes) = self.world.send(Hook::FromHost, &first);
        let (source, _) = first.endpoints_in(&bytes);
        let sent = first.between(source, self.endpoint).sent_on();
        check(action, &bytes, Action::Forward, &sent);

        let answer = first.answer(self.endpoint, source);
        let (action, bytes) = self.world.send(back, &answer);
        let came = answer.between(self.service, client);
        check(action, &bytes, Action::Deliver, &came);
        source
    }
}

#[test]
fn are_left_alone_where_they_are_no_services() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 2, 1, 8080), true);
        let outside = at(family, 8, 8, 443);
        for to in [outside, scene.endpoint, at(family, 9, 1, 81)] {
            for protocol in Protocol::ALL {
                let packet = Packet::opening(protocol, host, to);
                let (action, bytes) = scene.world.send(Hook::FromHost, &packet);
                check(action, &bytes, Action::Pass, &packet);
            }
        }
    }
}

/// What only goes through this host, as by a bridge, is seen at the same hook.
#[test]
fn are_told_from_those_of_others() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 2, 1, 8080), true);
        for protocol in Protocol::ALL {
            let packet = Packet::opening(protocol, host, scene.service);
            let (action, bytes) = scene.world.send(Hook::Out, &packet);
            check(action, &bytes, Action::Pass, &packet);
        }
    }
}

#[test]
fn are_refused_where_nobody_answers() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 2, 1, 8080), true);
        let strays = [
            Packet::udp(host, scene.other),
            Packet::tcp(host, scene.other, tcp_flags::SYN),
        ];
        for packet in strays {
            let (action, bytes) = scene.world.send(Hook::FromHost, &packet);
            assert_eq!(action, Action::Bounce, "{packet:?}");
            let link = packet.link.expect("a link header");
            assert_eq!(bytes[..6], link.source, "to the host");
            assert_eq!(scene.world.counted(), [(Counter::NoEndpoints, 1)]);
        }
    }
}

#[test]
fn the_hosts_errors_reach_the_endpoint() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 2, 1, 8080), false);
        let first = Packet::udp(host, scene.service);
        let (source, _) = scene.world.ends(Hook::FromHost, &first);
        // The host has closed its socket meanwhile.
        let answer = first.answer(scene.service, host);
        let kind = if family == Family::V4 { [3, 3] } else { [1, 4] };
        let error = Packet::error(host.ip(), kind, &answer);
        let (action, bytes) = scene.world.send(Hook::FromHost, &error);
        let about = answer.between(scene.endpoint, source);
        let expected = Packet::error(source.ip(), kind, &about).sent_on();
        check(action, &bytes, Action::Forward, &expected);
    }
}

/// What a router on the way says about the host's packets comes from the frontend: the host takes
/// nothing from outside that has an address of its own.
#[test]
fn the_host_hears_of_errors() {
    for family in Family::BOTH {
        let [host, _] = clients(family);
        let scene = Scene::new(family, at(family, 2, 1, 8080), false);
        let first = Packet::udp(host, scene.service);
        let (source, _) = scene.world.ends(Hook::FromHost, &first);
        let kind = if family == Family::V4 { [3, 4] } else { [2, 0] };
        for router in [at(family, 7, 1, 0).ip(), source.ip()] {
            let error = Packet::error(router, kind, &first.between(source, scene.endpoint));
            let (action, bytes) = scene.world.send(Hook::FromOutside, &error);
            let expected = Packet::error(scene.service.ip(), kind, &first);
            check(action, &bytes, Action::Deliver, &expected);
        }
    }
}

/// A Pod that asks an endpoint by its Service, and then directly from the same port, has two flows:
/// the second one's tuple is that of the first one's packets, once these are translated.
#[test]
fn a_pods_packets_are_not_translated_again_where_they_leave() {
    for family in Family::BOTH {
        let scene = Scene::new(family, at(family, 2, 1, 8080), false);
        let pod = at(family, 2, 9, 50_000);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let by_service = Packet::opening(protocol, pod, scene.service);
            scene.world.open(Hook::FromPod, &by_service);
            let directly = Packet::opening(protocol, pod, scene.endpoint);
            let (source, _) = scene.world.ends(Hook::FromPod, &directly);
            assert_ne!(source, pod, "another source port");
            for source in [pod, source] {
                let leaves = by_service.between(source, scene.endpoint);
                let (action, bytes) = scene.world.send(Hook::FromHost, &leaves);
                check(action, &bytes, Action::Pass, &leaves);
            }
        }
    }
}
