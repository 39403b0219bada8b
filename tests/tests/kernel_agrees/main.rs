//! The kernel agrees with the host: the same packets through the loaded programs
//! (`BPF_PROG_TEST_RUN`) and through the pipeline in memory, whose own tests say
//! that it is right.
//!
//! Both sides get the same map content and the same packets in the same order.
//! After each packet the bytes, the verdict and all counters are compared. Every
//! endpoint set has one endpoint, so that nothing is up to chance.

mod both;
mod filter;
mod tunnels;
mod two_cpus;
mod writes;

use std::net::SocketAddr;

use anyhow::Result;
use both::{Both, Device, SHORTEST, in_a_namespace};
use proxy_agent::plan::Write;
use proxy_ebpf::layout::{Counter, RESET_STEP};
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Choices, Hook, Outcome, Packet, Protocol, Scenario, Suite, Transport, address, chunks,
    fixtures, noise, tcp_flags,
};

/// Packets in a test with random ones.
const PACKETS: u64 = 4000;

#[test]
fn on_the_fixtures() -> Result<()> {
    run_fixtures(Device::Ethernet)
}

#[test]
fn on_the_fixtures_where_xdp_comes_first() -> Result<()> {
    run_fixtures(Device::XdpThatSends)
}

#[test]
fn on_the_fixtures_where_xdp_can_only_pass_packets_on() -> Result<()> {
    run_fixtures(Device::XdpThatPasses)
}

#[test]
fn on_the_fixtures_without_ethernet_headers() -> Result<()> {
    run_fixtures(Device::Ip)
}

fn run_fixtures(device: Device) -> Result<()> {
    in_a_namespace(|| {
        for suite in fixtures()? {
            // The kernel would take the header that it takes away for an Ethernet header's.
            if device == Device::Ip && suite.decapsulates() {
                continue;
            }
            let Suite { scenario, fixtures } = suite;
            let fixtures = fixtures.into_iter().filter_map(|fixture| match device {
                // Without an Ethernet header the kernel takes the IP header's first bytes
                // for one, and wants as much again behind it.
                Device::Ip => fixture.bare(SHORTEST),
                _ => Some(fixture),
            });
            let mut fixtures = fixtures.peekable();
            if fixtures.peek().is_none() {
                continue;
            }
            let mut both = Both::new(&scenario, device)?;
            for fixture in fixtures {
                let bytes = fixture.packet.build();
                let (outcome, after) = both.run(fixture.hook, &bytes, &fixture.name)?;
                fixture.check(outcome, &after);
            }
        }
        Ok(())
    })
}

#[test]
fn on_random_conversations() -> Result<()> {
    in_a_namespace(|| converse(&Scenario::usual(), Device::Ethernet, 1))
}

#[test]
fn on_random_conversations_without_ethernet_headers() -> Result<()> {
    in_a_namespace(|| converse(&Scenario::usual(), Device::Ip, 2))
}

#[test]
fn on_random_conversations_where_xdp_comes_first() -> Result<()> {
    in_a_namespace(|| converse(&Scenario::usual(), Device::XdpThatSends, 6))
}

#[test]
fn on_random_conversations_where_xdp_can_only_pass_packets_on() -> Result<()> {
    in_a_namespace(|| converse(&Scenario::usual(), Device::XdpThatPasses, 7))
}

#[test]
fn on_random_conversations_where_ports_are_short() -> Result<()> {
    let scenario = Scenario {
        nat_ports: (40_000, 3),
        ..Scenario::usual()
    };
    in_a_namespace(|| converse(&scenario, Device::Ethernet, 3))
}

#[test]
fn on_random_conversations_where_all_is_masqueraded() -> Result<()> {
    let scenario = Scenario {
        masquerade_all: true,
        ..Scenario::usual()
    };
    in_a_namespace(|| converse(&scenario, Device::Ethernet, 4))
}

#[test]
fn on_damaged_packets() -> Result<()> {
    in_a_namespace(|| damaged(&mut Both::new(&Scenario::usual(), Device::Ethernet)?))
}

#[test]
fn on_damaged_packets_to_ranges_of_services() -> Result<()> {
    in_a_namespace(|| {
        let mut both = Both::new(&Scenario::usual(), Device::Ethernet)?;
        both.look_after_services()?;
        damaged(&mut both)?;
        assert!(both.counter(Counter::NoSuchService) > 0);
        Ok(())
    })
}

fn damaged(both: &mut Both) -> Result<()> {
    let mut too_short = 0;
    for seed in 0..PACKETS {
        let chance = noise(seed | 5 << 40, 256);
        let mut choices = Choices::new(&chance);
        let packet = Packet::random(&mut choices, client(&mut choices_of(seed)), {
            service(&mut choices_of(seed))
        });
        let mut bytes = packet.build();
        let end = packet.network_at() + 80;
        for _ in 0..choices.below(4) {
            let at = choices.below(end.min(bytes.len()));
            bytes[at] = choices.byte();
        }
        if choices.seldom(3) {
            bytes.truncate(14 + choices.below(bytes.len() - 14));
        }
        if bytes.len() < SHORTEST {
            too_short += 1;
            continue;
        }
        let hook = choices.one_of(&[Hook::FromOutside, Hook::FromPod, Hook::Out]);
        both.run(hook, &bytes, &format!("seed {seed}"))?;
    }
    println!("{too_short} of {PACKETS} were too short for a test run");
    assert!(too_short < PACKETS / 2);
    Ok(())
}

#[test]
fn on_what_happens_when_an_endpoint_leaves() -> Result<()> {
    in_a_namespace(|| {
        let mut both = Both::new(&Scenario::usual(), Device::Ethernet)?;
        for family in Family::BOTH {
            let client = SocketAddr::new(address(family, 7, 7), 50_000);
            let service = SocketAddr::new(address(family, 9, 2), 80);
            let packets = [
                Packet::udp(client, service),
                Packet::tcp(client, service, tcp_flags::SYN),
                Packet::tcp(client, service, tcp_flags::ACK),
                Packet::tcp(client, service, tcp_flags::FIN | tcp_flags::ACK),
                Packet::tcp(client, service, tcp_flags::SYN),
            ];
            let run = |both: &mut Both, when| -> Result<()> {
                for packet in &packets {
                    let hook = Hook::FromOutside;
                    both.run(hook, &packet.build(), when)?;
                }
                Ok(())
            };
            run(&mut both, "before")?;
            let (index, family) = match family {
                Family::V4 => (1, proxy_agent::model::object::Family::V4),
                Family::V6 => (3, proxy_agent::model::object::Family::V6),
            };
            both.write(&Write::EndBackend {
                family,
                index,
                generation: 2,
            })?;
            run(&mut both, "after")?;
        }
        Ok(())
    })
}

#[test]
fn on_resets_of_connections_whose_endpoint_is_gone() -> Result<()> {
    for device in [Device::Ethernet, Device::Ip, Device::XdpThatSends] {
        in_a_namespace(|| reset_gone(device))?;
    }
    Ok(())
}

fn reset_gone(device: Device) -> Result<()> {
    let scenario = Scenario::usual();
    let mut both = Both::new(&scenario, device)?;
    both.reset_gone()?;
    let connections: Vec<_> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            let client = SocketAddr::new(address(family, 7, 7), 50_000);
            // Near, far, and one that stays.
            [(9, 1), (9, 2), (9, 5)].map(|(network, host)| {
                let service = SocketAddr::new(address(family, network, host), 80);
                [tcp_flags::SYN, tcp_flags::ACK].map(|flags| {
                    let packet = Packet::tcp(client, service, flags);
                    match device {
                        Device::Ip => packet.bare(SHORTEST),
                        _ => packet,
                    }
                })
            })
        })
        .collect();
    let pass = |both: &mut Both, flags: usize| -> Result<Vec<Outcome>> {
        let packets = connections.iter().map(|connection| &connection[flags]);
        packets
            .map(|packet| Ok(both.run(Hook::FromOutside, &packet.build(), "reset")?.0))
            .collect()
    };
    pass(&mut both, 0)?;
    for (index, family) in [
        (0, proxy_agent::model::object::Family::V4),
        (2, proxy_agent::model::object::Family::V6),
    ] {
        let generation = 2 + RESET_STEP;
        both.write(&Write::EndBackend {
            family,
            index,
            generation,
        })?;
    }
    let outcomes = pass(&mut both, 1)?;
    assert_eq!(both.counter(Counter::EndpointGone), 2, "{outcomes:?}");
    Ok(())
}

#[test]
fn flow_records_that_had_to_make_way_are_counted() -> Result<()> {
    const FLOWS: u32 = 1024;
    in_a_namespace(|| {
        let mut both = Both::with_flows(&Scenario::usual(), Device::Ethernet, FLOWS)?;
        let client = |number: u16| SocketAddr::new(address(Family::V4, 7, 7), number);
        let service = SocketAddr::new(address(Family::V4, 9, 2), 80);
        let open = |both: &mut Both, ports: std::ops::Range<u16>| -> Result<()> {
            for port in ports {
                let packet = Packet::udp(client(port), service).build();
                both.run_kernel(Hook::FromPod, Device::Ethernet, &packet)?;
            }
            Ok(())
        };
        let present = |both: &mut Both| -> Result<(u64, u64)> {
            let usage = both.records().usage()?;
            for (table, used, capacity) in &usage.tables {
                assert!(used <= capacity, "{table}: {used} of {capacity}");
            }
            let flows = usage.tables.iter().filter(|it| it.0.starts_with("FLOWS"));
            let evicted = both.kernel_counter(Counter::RecordsEvicted)?;
            Ok((flows.map(|it| it.1).sum(), evicted))
        };
        open(&mut both, 1000..1100)?;
        assert_eq!(present(&mut both)?, (200, 0), "two records each");
        open(&mut both, 2000..12_000)?;
        let (records, evicted) = present(&mut both)?;
        assert!(records <= 2 * u64::from(FLOWS) + 7, "{records}");
        assert_eq!(records + evicted, 2 * 10_100);
        Ok(())
    })
}

fn choices_of(seed: u64) -> Choices<'static> {
    Choices::new(noise(seed, 64).leak())
}

fn client(choices: &mut Choices<'_>) -> SocketAddr {
    let family = choices.one_of(&Family::BOTH);
    // Outsiders, pods, and the near endpoint itself.
    let (network, host) = choices.one_of(&[(7, 1), (7, 2), (7, 3), (2, 2), (2, 1)]);
    let port = choices.one_of(&[50_000, 50_001, 40_000, 8080]);
    SocketAddr::new(address(family, network, host), port)
}

fn service(choices: &mut Choices<'_>) -> SocketAddr {
    let family = choices.one_of(&Family::BOTH);
    let (network, host, port) = choices.one_of(&[
        (9, 1, 80),
        (9, 2, 80),
        (9, 3, 80),
        (9, 4, 443),
        (9, 5, 80),
        (9, 6, 80),
        (1, 1, 30_080),
        (1, 1, 30_081),
        (1, 2, 30_081),
        (2, 1, 8080),
    ]);
    SocketAddr::new(address(family, network, host), port)
}

/// An ICMP error about a packet, by who got it or by a router.
fn error_about(about: &Packet, hook: Hook, choices: &mut Choices<'_>) -> (Hook, Packet) {
    let (router, kinds) = if about.source.is_ipv4() {
        (address(Family::V4, 7, 1), [[3, 1], [3, 4], [11, 0]])
    } else {
        (address(Family::V6, 7, 1), [[1, 4], [2, 0], [3, 0]])
    };
    let from = choices.one_of(&[about.destination.ip(), router]);
    let error = Packet::error(from, choices.one_of(&kinds), about);
    let hook = choices.one_of(&[hook, Hook::FromOutside, Hook::FromPod, Hook::Out]);
    (hook, error.reshaped(choices))
}

/// The same packet in fragments, of which the last may overtake the others.
fn fragments(both: &mut Both, hook: Hook, packet: &Packet, what: &str) -> Result<()> {
    let mut parts = packet.fragments(64);
    parts.retain(|it| it.build().len() >= SHORTEST);
    if parts.len() > 2 {
        parts[1..].reverse();
    }
    for part in parts {
        let what = format!("{what}: {hook:?} {part:?}");
        both.run(hook, &part.build(), &what)?;
    }
    Ok(())
}

/// Clients send, and whoever they have reached answers, packets of every shape.
fn converse(scenario: &Scenario, device: Device, seed: u64) -> Result<()> {
    let mut both = Both::new(scenario, device)?;
    let mut sent: Vec<(Hook, Packet)> = Vec::new();
    let mut outcomes = [0; 3];
    for number in 0..PACKETS {
        let chance = noise(number << 8 | seed, 256);
        let mut choices = Choices::new(&chance);
        let (hook, packet) = match sent.len() {
            known @ 1.. if choices.seldom(4) => {
                let (hook, about) = &sent[choices.below(known)];
                error_about(about, *hook, &mut choices)
            }
            known @ 1.. if choices.byte() & 1 == 0 => {
                let (hook, packet) = &sent[choices.below(known)];
                let answer = packet.between(packet.destination, packet.source);
                (
                    choices.one_of(&[*hook, Hook::Out]),
                    answer.reshaped(&mut choices),
                )
            }
            _ => {
                // Family first: both ends take it from the same byte.
                let from = choices.bytes(1);
                let mut rest = [from, choices.bytes(2)].concat();
                let source = client(&mut Choices::new(&rest));
                rest[1..].copy_from_slice(choices.bytes(2));
                let destination = service(&mut Choices::new(&rest));
                let hook = match device {
                    Device::Ethernet | Device::Ip => {
                        choices.one_of(&[Hook::FromOutside, Hook::FromPod, Hook::FromHost])
                    }
                    Device::XdpThatPasses | Device::XdpThatSends => {
                        choices.one_of(&[Hook::FromOutside, Hook::FromPod])
                    }
                };
                let protocol = choices.one_of(&Protocol::ALL);
                let (flags, chunk) = choices.one_of(&[
                    (tcp_flags::SYN, chunks::INIT),
                    (tcp_flags::ACK, chunks::DATA),
                    (tcp_flags::ACK, chunks::COOKIE_ECHO),
                    (tcp_flags::FIN | tcp_flags::ACK, chunks::SHUTDOWN),
                    (tcp_flags::RST, chunks::ABORT),
                ]);
                let packet = match protocol {
                    Protocol::Tcp => Packet::tcp(source, destination, flags),
                    Protocol::Udp => Packet::udp(source, destination),
                    Protocol::Sctp => Packet::sctp(source, destination, chunk),
                };
                (hook, packet.reshaped(&mut choices))
            }
        };
        let mut packet = match device {
            Device::Ethernet | Device::XdpThatPasses | Device::XdpThatSends => packet,
            Device::Ip => packet.bare(SHORTEST),
        };
        if choices.seldom(16) {
            packet.ttl = 1;
        }
        if device == Device::Ethernet && choices.seldom(8) {
            fragments(&mut both, hook, &packet, &format!("number {number}"))?;
        }
        let what = format!("number {number}: {hook:?} {packet:?}");
        let (outcome, after) = both.run(hook, &packet.build(), &what)?;
        outcomes[outcome as usize] += 1;
        let is_answered = after.len() != packet.build().len();
        let is_error = matches!(packet.transport, Transport::Icmp { .. });
        if outcome != Outcome::Dropped && !is_answered && !is_error {
            let (source, destination) = packet.endpoints_in(&after);
            sent.push((hook, packet.between(source, destination)));
        }
    }
    println!("{outcomes:?} were passed, dropped and sent on");
    assert!(outcomes.iter().all(|&count| count > 100), "{outcomes:?}");
    let by_xdp = [Counter::XdpPass, Counter::XdpTransmit].map(|it| both.counter(it));
    println!("XDP delivered and sent {by_xdp:?}");
    let [delivers, sends] = match device {
        Device::XdpThatSends => [true, true],
        Device::XdpThatPasses => [true, false],
        Device::Ethernet | Device::Ip => [false, false],
    };
    assert_eq!(by_xdp.map(|count| count > 20), [delivers, sends]);
    Ok(())
}
