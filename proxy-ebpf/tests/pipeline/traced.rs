//! What is told to whoever listens: each flow and each refusal once, and nothing else.

use std::net::{IpAddr, SocketAddr};

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, Transport, tcp_flags};

use super::caller::{Caller, Outcome};
use super::world::{FromIp, World, at};
use crate::host::Action;
use crate::layout::{
    Address, Answers, Counter, TraceEvent, TraceKind, TraceListener, Tuple, UNKNOWN, V4, V6,
    protocol, trace_kinds,
};
use crate::pipeline::Client;

use tcp_flags::{ACK, SYN};

const ALL: u32 = trace_kinds::NEW_FLOWS | trace_kinds::DROPS;

/// Services by the last number of their addresses.
const NEAR: u8 = 1;
const FAR: u8 = 2;
const EMPTY: u8 = 3;
/// Of the policy Local, without a local endpoint.
const ELSEWHERE: u8 = 4;

/// A node with these Services, and somebody who listens.
fn scene(family: Family, kinds: u32) -> World {
    let mut scenario = Scenario::empty();
    let near = scenario.add_backend(at(family, 2, 1, 8080), true);
    let far = scenario.add_backend(at(family, 3, 1, 8080), false);
    for (host, set) in [(NEAR, vec![near]), (FAR, vec![far]), (EMPTY, vec![])] {
        let frontend = Frontend::new(at(family, 9, host, 80), Protocol::Tcp, set);
        scenario.frontends.push(frontend);
    }
    let mut elsewhere = Frontend::new(at(family, 9, ELSEWHERE, 80), Protocol::Tcp, vec![far]);
    elsewhere.external = true;
    elsewhere.local_policy = true;
    scenario.frontends.push(elsewhere);
    let world = World::new(&scenario);
    listen(&world, kinds);
    world
}

/// Somebody listens to these kinds for ten ticks more.
fn listen(world: &World, kinds: u32) {
    let until = world.shared.now.get() + 10;
    world
        .shared
        .trace_listener
        .set(TraceListener { until, kinds });
}

/// An event in terms of the standard library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    kind: TraceKind,
    ends: [SocketAddr; 2],
    translated: [SocketAddr; 2],
    service: Option<u32>,
    reason: Option<Counter>,
    client: u8,
    device: u32,
}

/// What was told since the last time, of either family.
fn told(world: &World) -> Vec<Told> {
    let v4 = world.v4.trace_events.take();
    let v6 = world.v6.trace_events.take();
    let v4 = v4.iter().map(seen);
    v4.chain(v6.iter().map(seen)).collect()
}

fn seen<A: Address + Into<IpAddr>>(event: &TraceEvent<A>) -> Told {
    let ends = |tuple: Tuple<A>| {
        let source = (tuple.source.into(), tuple.source_port.number());
        let destination = (tuple.destination.into(), tuple.destination_port.number());
        [source.into(), destination.into()]
    };
    let reasons = Counter::ALL.iter();
    Told {
        kind: TraceKind::ALL[usize::from(event.kind)],
        ends: ends(event.tuple),
        translated: ends(event.translated),
        service: Some(event.service).filter(|it| *it != UNKNOWN),
        reason: reasons
            .map(|(it, _)| *it)
            .find(|it| *it as u32 == event.reason),
        client: event.client,
        device: event.device,
    }
}

fn client(family: Family, port: u16) -> SocketAddr {
    at(family, 7, 7, port)
}

fn nowhere(family: Family) -> SocketAddr {
    let any: IpAddr = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    };
    SocketAddr::new(any, 0)
}

#[test]
fn each_flow_is_told_once_with_what_becomes_of_it() {
    for family in Family::BOTH {
        let world = scene(family, ALL);
        for (service, hook, sender) in [
            (NEAR, Hook::FromPod, Client::Pod),
            (FAR, Hook::FromOutside, Client::Outside),
        ] {
            let from = client(family, 50_000 + u16::from(service));
            let syn = Packet::tcp(from, at(family, 9, service, 80), SYN);
            // The handshake, and a segment more.
            let wire = world.open(hook, &syn);
            world.ends(hook, &Packet::tcp(from, at(family, 9, service, 80), ACK));
            let expected = Told {
                kind: TraceKind::NewFlow,
                ends: [from, at(family, 9, service, 80)],
                translated: [wire.0, wire.1],
                // What the backend's element says, in these tests.
                service: Some(0),
                reason: None,
                client: sender as u8,
                device: 1,
            };
            assert_eq!(told(&world), [expected]);
        }
    }
}

#[test]
fn each_refusal_is_told_once_with_its_reason() {
    for family in Family::BOTH {
        let world = scene(family, ALL);
        for (host, flags, kind, action, reason) in [
            (
                EMPTY,
                SYN,
                TraceKind::Answer,
                Action::Bounce,
                Counter::NoEndpoints,
            ),
            (
                ELSEWHERE,
                SYN,
                TraceKind::Drop,
                Action::Drop,
                Counter::NoLocalEndpoints,
            ),
            (
                NEAR,
                ACK,
                TraceKind::Answer,
                Action::Bounce,
                Counter::NoConnection,
            ),
            // Nobody answers a reset.
            (
                NEAR,
                tcp_flags::RST,
                TraceKind::Drop,
                Action::Drop,
                Counter::NoConnection,
            ),
        ] {
            let (from, to) = (client(family, 50_000), at(family, 9, host, 80));
            let packet = Packet::tcp(from, to, flags);
            assert_eq!(world.send(Hook::FromOutside, &packet).0, action);
            let expected = Told {
                kind,
                ends: [from, to],
                translated: [nowhere(family); 2],
                service: None,
                reason: Some(reason),
                client: Client::Outside as u8,
                device: 1,
            };
            assert_eq!(told(&world), [expected]);
        }
    }
}

#[test]
fn a_refusal_beyond_the_limit_of_answers_is_a_drop() {
    for family in Family::BOTH {
        let world = scene(family, ALL);
        let packet = Packet::tcp(client(family, 50_000), at(family, 9, EMPTY, 80), SYN);
        for _ in 0..Answers::LIMIT {
            world.send(Hook::FromPod, &packet);
        }
        assert_eq!(told(&world).len(), Answers::LIMIT as usize);
        assert_eq!(world.send(Hook::FromPod, &packet).0, Action::Drop);
        let [told] = told(&world)[..] else {
            panic!("not one event");
        };
        let expected = (TraceKind::Drop, Some(Counter::RateLimited));
        assert_eq!((told.kind, told.reason), expected);
    }
}

#[test]
fn a_packet_without_ports_is_told_with_its_addresses() {
    for family in Family::BOTH {
        let mut world = scene(family, ALL);
        let service = at(family, 9, NEAR, 80);
        world.v4.cluster_ips.extend(V4::from_ip(service.ip()));
        world.v6.cluster_ips.extend(V6::from_ip(service.ip()));
        // GRE, which no Service has.
        let packet = Packet {
            transport: Transport::Other(47),
            ..Packet::udp(client(family, 50_000), service)
        };
        assert_eq!(world.send(Hook::FromPod, &packet).0, Action::Drop);
        let [told] = told(&world)[..] else {
            panic!("not one event");
        };
        let ends = [client(family, 0), at(family, 9, NEAR, 0)];
        assert_eq!((told.kind, told.ends), (TraceKind::Drop, ends));
    }
}

#[test]
fn calls_at_sockets_are_told() {
    for family in Family::BOTH {
        let world = scene(family, ALL);
        let call = |client, host| {
            let to = at(family, 9, host, 80);
            let caller = Caller::new(client, protocol::TCP, 7);
            (caller.connect(&world, to), told(&world))
        };
        let endpoint = at(family, 2, 1, 8080);
        let (outcome, events) = call(Client::Pod, NEAR);
        assert_eq!(outcome, Outcome::Endpoint(endpoint));
        let expected = Told {
            kind: TraceKind::NewFlow,
            ends: [nowhere(family), at(family, 9, NEAR, 80)],
            translated: [nowhere(family), endpoint],
            service: Some(0),
            reason: None,
            client: Client::Pod as u8,
            device: 0,
        };
        assert_eq!(events, [expected]);

        let (outcome, events) = call(Client::Pod, EMPTY);
        assert_eq!(outcome, Outcome::Refused);
        let refused = Told {
            kind: TraceKind::Refuse,
            ends: [nowhere(family), at(family, 9, EMPTY, 80)],
            translated: [nowhere(family); 2],
            service: None,
            reason: Some(Counter::NoEndpoints),
            ..expected
        };
        assert_eq!(events, [refused]);
    }
}

#[test]
fn only_what_is_wanted_is_told_and_only_while_somebody_listens() {
    for family in Family::BOTH {
        let send = |world: &World| {
            let from = client(family, 50_000);
            world.send(
                Hook::FromPod,
                &Packet::tcp(from, at(family, 9, NEAR, 80), SYN),
            );
            world.send(
                Hook::FromPod,
                &Packet::tcp(from, at(family, 9, EMPTY, 80), SYN),
            );
            let events = told(world);
            events.iter().map(|it| it.kind).collect::<Vec<_>>()
        };
        assert_eq!(send(&scene(family, 0)), []);
        let new = scene(family, trace_kinds::NEW_FLOWS);
        assert_eq!(send(&new), [TraceKind::NewFlow]);
        let drops = scene(family, trace_kinds::DROPS);
        assert_eq!(send(&drops), [TraceKind::Answer]);

        let lapsed = scene(family, ALL);
        lapsed.wait(20);
        assert_eq!(send(&lapsed), []);
        assert_eq!(lapsed.counter_of(Counter::EventsLost), 0);
        let last_tick = scene(family, ALL);
        let until = last_tick.shared.now.get();
        last_tick
            .shared
            .trace_listener
            .set(TraceListener { until, kinds: ALL });
        assert_eq!(send(&last_tick).len(), 2);
    }
}

#[test]
fn what_finds_no_room_is_counted() {
    for family in Family::BOTH {
        let world = scene(family, ALL);
        world.shared.trace_room.set(3);
        for port in 0..10 {
            let from = client(family, 50_000 + port);
            let syn = Packet::tcp(from, at(family, 9, NEAR, 80), SYN);
            world.send(Hook::FromPod, &syn);
        }
        assert_eq!(told(&world).len(), 3);
        assert_eq!(world.counter_of(Counter::EventsLost), 7);
    }
}
