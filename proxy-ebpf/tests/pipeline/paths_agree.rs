//! The socket path against the packet path: from the same state, and where chance says what a
//! hash of the tuple says, both send a new connection to the same endpoint, or refuse it alike.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Choices, Frontend, Hook, Packet, Protocol, Scenario};

use super::caller::{Caller, Outcome};
use super::world::{FromIp, World, at};
use crate::host::{Action, Memory};
use crate::layout::{
    Counter, FrontendKey, Port, Range, SourceRange, V4, V6, backend_flags, frontend_flags,
    settings_flags,
};
use crate::pipeline::{Client, Hash};

const ENDPOINTS: u8 = 6;
/// Addresses of Services in network 9 are those up to this one, and no Service's.
const SERVICES: u8 = 5;
/// What sockets are served of.
const AT_SOCKETS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
/// Clients are few, so that affinity has something to remember.
const CLIENTS: u8 = 3;

/// Any of these positions.
fn subset(choices: &mut Choices<'_>, of: &[usize]) -> Vec<usize> {
    let chosen = choices.byte();
    of.iter()
        .copied()
        .filter(|it| chosen >> it & 1 == 1)
        .collect()
}

/// A node with Services of every kind.
fn scenario(family: Family, choices: &mut Choices<'_>) -> Scenario {
    let mut scenario = Scenario::empty();
    scenario.masquerade_all = choices.seldom(8);
    for host in 0..ENDPOINTS {
        scenario.add_backend(at(family, 2, host, 8080), host % 2 == 0);
    }
    let any: IpAddr = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    };
    let all: Vec<usize> = (0..ENDPOINTS.into()).collect();
    for host in 1..=SERVICES {
        for protocol in Protocol::ALL {
            let cluster = subset(choices, &all);
            let near: Vec<usize> = cluster.iter().copied().filter(|it| it % 2 == 0).collect();
            let local = subset(choices, &near);
            let address = match host {
                SERVICES => SocketAddr::new(any, 30_080),
                host => at(family, 9, host, 80),
            };
            scenario.frontends.push(Frontend {
                external: host == SERVICES || choices.byte() & 1 == 1,
                local_policy: choices.byte() & 1 == 1,
                local,
                ..Frontend::new(address, protocol, cluster)
            });
        }
    }
    scenario
}

/// What a scenario cannot say: affinity, ranges of sources, and where ClusterIPs are.
fn complete<A: FromIp + Ord>(memory: &mut Memory<A>, family: Family, choices: &mut Choices<'_>) {
    let mut keys: Vec<_> = memory.frontends.keys().copied().collect();
    keys.sort();
    for key in keys {
        let frontend = memory.frontends.get_mut(&key).unwrap();
        if choices.seldom(3) {
            frontend.affinity_seconds = 100;
        }
        if choices.seldom(4) {
            frontend.flags |= frontend_flags::SOURCE_RANGES;
        }
        let source = A::from_ip(at(family, 7, choices.byte() % CLIENTS, 0).ip());
        if let Some(source) = source {
            let range = SourceRange {
                service: frontend.service,
                source,
            };
            memory
                .source_ranges
                .insert((SourceRange::<A>::WHOLE, range));
        }
    }
    for backend in memory.backends.values_mut() {
        backend.flags |= backend_flags::IN_CLUSTER_SET | backend_flags::IN_LOCAL_SET;
    }
    let mask: IpAddr = match family {
        Family::V4 => [255, 255, 255, 0].into(),
        Family::V6 => [0xffff, 0xffff, 0xffff, 0xffff, 0, 0, 0, 0].into(),
    };
    if let (Some(first), Some(mask)) = (A::from_ip(at(family, 9, 0, 0).ip()), A::from_ip(mask)) {
        memory.settings.service_cidrs[0] = Range { first, mask };
        let taken = (1..SERVICES).filter_map(|host| A::from_ip(at(family, 9, host, 0).ip()));
        memory.cluster_ips.extend(taken);
    }
}

fn world(family: Family, bytes: &[u8]) -> World {
    let mut choices = Choices::new(bytes);
    let mut world = World::new(&scenario(family, &mut choices));
    match family {
        Family::V4 => complete(&mut world.v4, family, &mut choices),
        Family::V6 => complete(&mut world.v6, family, &mut choices),
    }
    world
}

/// Any destination: of a frontend, nearly of one, or of an endpoint itself.
fn destination(family: Family, choices: &mut Choices<'_>) -> SocketAddr {
    let host = 1 + choices.byte() % (SERVICES + 1);
    match choices.byte() % 6 {
        0 => at(family, 1, 1, 30_080),
        1 => at(family, 9, host, 81),
        2 => at(family, 2, host, 8080),
        _ => at(family, 9, host, 80),
    }
}

/// What becomes of a first packet of a Pod of this node, which keeps its address.
fn by_packet(world: &World, from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Outcome {
    let packet = Packet::opening(protocol, from, to);
    let (action, bytes) = world.send(Hook::FromPod, &packet);
    let counted = world.counted();
    let is_refused =
        |(reason, _): &(Counter, u64)| matches!(reason, Counter::NoEndpoints | Counter::NoSuchPort);
    if counted.iter().any(is_refused) {
        return Outcome::Refused;
    }
    if action == Action::Drop {
        return Outcome::TimedOut;
    }
    match packet.endpoints_in(&bytes).1 {
        same if same == to => Outcome::Unchanged,
        endpoint => Outcome::Endpoint(endpoint),
    }
}

/// What the packet path's choice of an endpoint follows from.
fn selector<A: FromIp>(
    memory: &Memory<A>,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> Option<u32> {
    let (source, address) = (A::from_ip(from.ip())?, A::from_ip(to.ip())?);
    let found = [address, A::default()].into_iter().find_map(|address| {
        let key = FrontendKey::new(address, Port::new(to.port()), protocol.number());
        memory.frontends.get(&key)
    });
    let client_port = match found {
        Some(frontend) if frontend.affinity_seconds != 0 => 0,
        _ => from.port(),
    };
    let ports = u32::from(client_port) << 16 | u32::from(to.port());
    let seed = memory.shared.flow_seed.get() ^ u32::from(protocol.number());
    let words = source.words().iter().map(|word| u32::from_be(*word));
    let hash = words.fold(Hash::new(seed).word(ports), Hash::word);
    Some(hash.finish())
}

/// Has sockets choose by what the packet path's choice follows from.
fn choose_alike(world: &World, from: SocketAddr, to: SocketAddr, protocol: Protocol) {
    let by_v4 = selector(&world.v4, from, to, protocol);
    let number = by_v4.or_else(|| selector(&world.v6, from, to, protocol));
    world.shared.random.set(before(number.unwrap()));
}

/// The state after which `random` gives this number: its three steps, undone from the last on.
fn before(number: u32) -> u32 {
    let mut state = number;
    for undone in [|it: u32| it << 5, |it: u32| it >> 17, |it: u32| it << 13] {
        let after = state;
        // Each time more of the bits are right.
        for _ in 0..7 {
            state = after ^ undone(state);
        }
    }
    state
}

/// What becomes of it at a socket.
fn by_socket(world: &World, caller: Caller, to: SocketAddr, protocol: Protocol) -> Outcome {
    if protocol == Protocol::Tcp {
        caller.connect(world, to)
    } else {
        caller.send(world, None, to)
    }
}

/// Whether only the packet path can serve a Pod's connection to a frontend.
fn needs_packets<A: FromIp>(memory: &Memory<A>) -> bool {
    memory.settings.flags & settings_flags::MASQUERADE_ALL != 0
        || memory.frontends.values().any(|frontend| {
            frontend.affinity_seconds != 0 || frontend.flags & frontend_flags::SOURCE_RANGES != 0
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_hosts_sockets_and_packets_go_the_same_ways(
        bytes in prop::collection::vec(any::<u8>(), 200),
        seed in any::<u32>(),
        is_v4 in any::<bool>(),
    ) {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let (packets, sockets) = (world(family, &bytes), world(family, &bytes));
        for world in [&packets, &sockets] {
            world.shared.flow_seed.set(seed);
        }
        // The host's own address, which may be in a range of sources.
        let node = at(family, 7, bytes[0] % CLIENTS, 0).ip();
        let (mut packets, mut sockets) = (packets, sockets);
        // A packet from it that comes in is somebody else's.
        set_node_address(&mut sockets, node);
        for world in [&mut packets, &mut sockets] {
            world.v4.settings.flags = 0;
            world.v6.settings.flags = 0;
        }
        let mut choices = Choices::new(&bytes[100..]);
        for count in 0..20_u16 {
            let to = destination(family, &mut choices);
            let protocol = choices.one_of(&AT_SOCKETS);
            let from = SocketAddr::new(node, 50_000 + count);
            choose_alike(&sockets, from, to, protocol);
            let wanted = by_packet(&packets, from, to, protocol);
            let caller = Caller::new(Client::Host, protocol.number(), count.into());
            prop_assert_eq!(by_socket(&sockets, caller, to, protocol), wanted, "{}", to);
        }
    }

    #[test]
    fn a_pods_sockets_and_packets_go_the_same_ways(
        bytes in prop::collection::vec(any::<u8>(), 200),
        seed in any::<u32>(),
        is_v4 in any::<bool>(),
    ) {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let (packets, sockets) = (world(family, &bytes), world(family, &bytes));
        for world in [&packets, &sockets] {
            world.shared.flow_seed.set(seed);
        }
        let may_be_left = needs_packets(&packets.v4) || needs_packets(&packets.v6);
        let mut choices = Choices::new(&bytes[100..]);
        for count in 0..20_u16 {
            let to = destination(family, &mut choices);
            let protocol = choices.one_of(&AT_SOCKETS);
            let client = choices.byte() % CLIENTS;
            let from = at(family, 7, client, 50_000 + count);
            choose_alike(&sockets, from, to, protocol);
            let wanted = by_packet(&packets, from, to, protocol);
            let caller = Caller::new(Client::Pod, protocol.number(), count.into());
            match by_socket(&sockets, caller, to, protocol) {
                // The packet path says what becomes of it.
                Outcome::Unchanged => prop_assert!(
                    may_be_left || matches!(wanted, Outcome::Unchanged | Outcome::TimedOut),
                    "{} by {:?} was left to the packet path, which has {:?}",
                    to, protocol, wanted
                ),
                found => prop_assert_eq!(found, wanted, "{}", to),
            }
        }
    }
}

fn set_node_address(world: &mut World, address: IpAddr) {
    if let Some(address) = V4::from_ip(address) {
        world.v4.settings.node_address = address;
    }
    if let Some(address) = V6::from_ip(address) {
        world.v6.settings.node_address = address;
    }
}
