//! Direct return: tunnels from and to other nodes, of every shape, whole and damaged.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Choices, Frontend, Hook, Outcome, Packet, Protocol, Scenario, Transport, address, noise,
};

use super::both::{Both, Device, in_a_namespace};

/// Packets in a test.
const PACKETS: u64 = 3000;
/// Endpoints of a Service on one node.
const MANY: u8 = 110;

#[test]
fn on_random_tunnels() -> Result<()> {
    in_a_namespace(|| exchange(Device::Ethernet, 8))
}

#[test]
fn on_random_tunnels_where_xdp_comes_first() -> Result<()> {
    in_a_namespace(|| exchange(Device::XdpThatSends, 10))
}

/// So many that no program looks at all of them in one run.
#[test]
fn on_tunnels_to_one_of_many_endpoints() -> Result<()> {
    in_a_namespace(|| {
        let mut scenario = Scenario::empty();
        let at =
            |family, network, host, port| SocketAddr::new(address(family, network, host), port);
        for family in Family::BOTH {
            let hosts = 1..=MANY;
            let set: Vec<_> = hosts
                .map(|host| scenario.add_backend(at(family, 2, host, 8080), true))
                .collect();
            scenario.frontends.push(Frontend {
                external: true,
                direct: true,
                local: set.clone(),
                ..Frontend::new(at(family, 9, 7, 80), Protocol::Udp, set)
            });
        }
        let mut both = Both::new(&scenario, Device::Ethernet)?;
        for family in Family::BOTH {
            for host in [1, 32, 33, 64, 65, MANY - 1, MANY, MANY + 1] {
                let client = at(family, 7, host, 50_000);
                let packet = Packet::udp(client, at(family, 9, 7, 80));
                let endpoint = at(family, 2, host, 8080);
                let tunnelled = packet.clone().in_tunnel(address(family, 1, 2), endpoint);
                let what = format!("endpoint {host}");
                let (_, after) = both.run(Hook::FromOutside, &tunnelled.build(), &what)?;
                let wanted = if host <= MANY {
                    packet.between(client, endpoint)
                } else {
                    tunnelled
                };
                assert_eq!(after, wanted.build(), "{what}");
            }
        }
        Ok(())
    })
}

fn exchange(device: Device, seed: u64) -> Result<()> {
    let mut both = Both::new(&Scenario::usual(), device)?;
    let mut outcomes = [0; 3];
    let mut changes = [0; 3];
    for number in 0..PACKETS {
        let chance = noise(number << 8 | seed, 512);
        let mut choices = Choices::new(&chance);
        let cast = Cast::choose(&mut choices);
        let (hook, packet) = cast.packet(&mut choices);
        let mut bytes = packet.build();
        damage(&mut bytes, &mut choices);
        let what = format!("number {number}: {hook:?} {packet:?}");
        let (outcome, after) = both.run(hook, &bytes, &what)?;
        outcomes[outcome as usize] += 1;
        changes[match after.len().cmp(&bytes.len()) {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        }] += 1;
    }
    println!("{outcomes:?} were passed, dropped and sent on");
    println!("{changes:?} became shorter, stayed as long, and became longer");
    assert!(outcomes[Outcome::SentOn as usize] > 50, "{outcomes:?}");
    assert!(changes.iter().all(|&count| count > 50), "{changes:?}");
    Ok(())
}

/// Who talks to whom.
struct Cast {
    client: SocketAddr,
    frontend: SocketAddr,
    endpoint: SocketAddr,
    /// Where a tunnel begins.
    node: IpAddr,
    family: Family,
}

impl Cast {
    fn choose(choices: &mut Choices<'_>) -> Self {
        let family = choices.one_of(&Family::BOTH);
        let at = |(network, host, port)| SocketAddr::new(address(family, network, host), port);
        Self {
            client: at(choices.one_of(&[(7, 1, 50_000), (7, 2, 50_000), (7, 2, 50_001)])),
            frontend: at(choices.one_of(&[
                (9, 7, 80),
                (1, 1, 30_082),
                (1, 2, 30_082),
                (9, 7, 80),
                (9, 1, 80),
            ])),
            endpoint: at(choices.one_of(&[(2, 1, 8080), (3, 1, 8080), (2, 1, 8081)])),
            node: address(family, 1, choices.one_of(&[1, 2])),
            family,
        }
    }

    /// A packet of the client or of the endpoint, or an error about one, in a tunnel or not.
    fn packet(&self, choices: &mut Choices<'_>) -> (Hook, Packet) {
        let plain = Packet::random(choices, self.client, self.frontend);
        match choices.below(6) {
            0 => (Hook::FromOutside, plain),
            1 => (Hook::Out, plain.between(self.endpoint, self.client)),
            2 => {
                let answer = plain.between(self.frontend, self.client);
                let error = self.error(&answer, choices).reshaped(choices);
                let is_in_tunnel = choices.byte() & 1 == 0;
                let error = if is_in_tunnel {
                    error.in_tunnel(self.node, self.endpoint)
                } else {
                    error
                };
                (Hook::FromOutside, error)
            }
            3 => {
                let tunnel = plain.sent_on().in_tunnel(self.node, self.endpoint);
                let mut error = self.error(&tunnel, choices);
                if choices.seldom(3) {
                    error = error.reshaped(choices);
                }
                (Hook::FromOutside, error)
            }
            _ => {
                let hook = choices.one_of(&[Hook::FromOutside, Hook::FromOutside, Hook::FromPod]);
                (hook, plain.in_tunnel(self.node, self.endpoint))
            }
        }
    }

    fn error(&self, about: &Packet, choices: &mut Choices<'_>) -> Packet {
        let kinds = match self.family {
            Family::V4 => [[3, 1], [3, 4], [11, 0]],
            Family::V6 => [[1, 4], [2, 0], [3, 0]],
        };
        let router = address(self.family, 1, 77);
        let mut error = Packet::error(router, choices.one_of(&kinds), about);
        if let Transport::Icmp { value, .. } = &mut error.transport {
            *value = choices.one_of(&[0, 576, 1280, 1400, 9000, 70_000]);
        }
        error
    }
}

/// Most frames stay as they are.
fn damage(bytes: &mut [u8], choices: &mut Choices<'_>) {
    if !choices.seldom(4) {
        return;
    }
    for _ in 0..=choices.below(3) {
        let end = bytes.len().min(130);
        bytes[choices.below(end)] = choices.byte();
    }
}
