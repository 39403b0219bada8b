//! Sources that no client can have.

use std::net::{IpAddr, SocketAddr};

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario};

use super::world::{World, at};
use crate::host::Action;
use crate::layout::Counter;

const MARTIAN: [(Counter, u64); 1] = [(Counter::MartianSource, 1)];

/// A Service with an endpoint, and another one without.
fn scene(family: Family, is_local: bool) -> (World, [SocketAddr; 2]) {
    let mut scenario = Scenario::empty();
    let endpoint = scenario.add_backend(at(family, 2, 1, 8080), is_local);
    let services = [at(family, 9, 1, 80), at(family, 9, 2, 80)];
    for protocol in Protocol::ALL {
        for (service, set) in services.into_iter().zip([vec![endpoint], vec![]]) {
            let frontend = Frontend::new(service, protocol, set);
            scenario.frontends.push(frontend);
        }
    }
    (World::new(&scenario), services)
}

fn not_of_a_host(family: Family) -> impl Iterator<Item = IpAddr> {
    let addresses = match family {
        Family::V4 => [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
        ]
        .as_slice(),
        Family::V6 => &["::", "::1", "ff02::1", "ff0e::1:3"],
    };
    addresses.iter().map(|text| text.parse().unwrap())
}

#[test]
fn open_no_flow_and_get_no_answer() {
    for family in Family::BOTH {
        for is_local in [true, false] {
            let (world, services) = scene(family, is_local);
            let node = at(family, 1, 1, 0).ip();
            for service in services {
                let sources = not_of_a_host(family).chain([service.ip(), node]);
                for source in sources.map(|ip| SocketAddr::new(ip, 50_000)) {
                    for protocol in Protocol::ALL {
                        for hook in [Hook::FromPod, Hook::FromOutside] {
                            let packet = Packet::opening(protocol, source, service);
                            let (action, _) = world.send(hook, &packet);
                            assert_eq!(action, Action::Drop, "{source} {protocol:?}");
                            assert_eq!(world.counted(), MARTIAN, "{source} {protocol:?}");
                        }
                    }
                }
            }
            assert_eq!(world.flow_records(), 0);
        }
    }
}

/// Beside those there are hosts.
#[test]
fn neighbours_of_such_addresses_are_clients() {
    let neighbours = [
        "1.0.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "223.255.255.254",
        "::2",
        "fe80::1",
        "1::",
    ];
    for ip in neighbours.map(|text| text.parse::<IpAddr>().unwrap()) {
        let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
        let (world, [service, _]) = scene(family, true);
        for protocol in Protocol::ALL {
            let packet = Packet::opening(protocol, SocketAddr::new(ip, 50_000), service);
            world.open(Hook::FromOutside, &packet);
        }
    }
}
