//! Random tuples.

use std::net::SocketAddr;

use proxy_agent::inspect::explain::Question;
use proxy_agent::model::object::{Family, Protocol};
use proxy_tests::packets::Choices;

use crate::objects::{
    CLUSTER_IPS, FAR_PODS, NODES, OUTSIDE, PODS, Services, TARGET_PORTS, THIS, address, loopback,
};

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Client {
    Pod,
    Outside,
    Host,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// A random tuple: mostly to a Service.
pub(crate) fn ask(client: Client, services: &Services, choices: &mut Choices<'_>) -> Question {
    let to_service = match choices.byte() {
        0..50 => None,
        _ => services.any(choices),
    };
    let (destination, protocol) = to_service.unwrap_or_else(|| elsewhere(client, choices));
    let (destination, protocol) = match choices.byte() {
        0..12 => (destination, choices.one_of(&PROTOCOLS)),
        12..24 => (with_port(destination, 81), protocol),
        _ => (destination, protocol),
    };
    let family = Family::of(destination.ip());
    Question {
        source: source(client, family, choices),
        destination,
        protocol,
    }
}

fn with_port(at: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(at.ip(), port)
}

/// Where no Service is, or an endpoint itself; NodePorts at other addresses.
fn elsewhere(client: Client, choices: &mut Choices<'_>) -> (SocketAddr, Protocol) {
    let family = choices.one_of(&Family::ALL);
    let node_port = 30_000 + u16::from(choices.byte() % 80);
    let target = choices.one_of(&TARGET_PORTS);
    let host = 1 + choices.byte() % 6;
    let (ip, port) = match choices.byte() % 6 {
        0 => (address(family, CLUSTER_IPS, 200), 80),
        1 => (address(family, PODS, host), target),
        2 => (address(family, FAR_PODS, host), target),
        3 => (address(family, NODES, 9), node_port),
        4 if client == Client::Host => (loopback(family), node_port),
        4 => (address(family, NODES, THIS), 22),
        _ => (address(family, OUTSIDE, 99), 443),
    };
    (SocketAddr::new(ip, port), choices.one_of(&PROTOCOLS))
}

/// A client, of a few that are met again and again.
fn source(client: Client, family: Family, choices: &mut Choices<'_>) -> SocketAddr {
    let host = 1 + choices.byte() % 6;
    let ip = match (client, choices.byte()) {
        (Client::Pod, _) => address(family, PODS, host),
        (Client::Host, _) | (Client::Outside, 16..24) => address(family, NODES, THIS),
        (Client::Outside, 0..8) => address(family, CLUSTER_IPS, host),
        (Client::Outside, 8..16) => loopback(family),
        (Client::Outside, 24..48) => address(family, FAR_PODS, host),
        (Client::Outside, _) => address(family, OUTSIDE, host * 3),
    };
    let ports = [8080, 80, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005];
    let port = match choices.byte() {
        0..20 => choices.short().max(1024),
        _ => choices.one_of(&ports),
    };
    SocketAddr::new(ip, port)
}
