//! What is not for us leaves as it came.

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Choices, Extension, Fragment, Hook, Packet, Scenario, Tag, Transport, noise,
};

use super::world::{World, at};
use crate::host::{Action, Link};
use crate::layout::Counter;

const HOOKS: [Hook; 3] = [Hook::FromOutside, Hook::FromPod, Hook::Out];

/// Passes, unchanged, with these counters and no flow, at every hook.
pub(super) fn is_untouched(bytes: &[u8], link: Link, counters: &[Counter]) {
    let world = World::new(&Scenario::usual());
    for hook in HOOKS {
        let (action, after) = world.run(hook, bytes, link);
        assert_eq!(action, Action::Pass, "{hook:?} {bytes:02x?}");
        assert_eq!(after, bytes, "{hook:?}");
        let wanted: Vec<_> = counters.iter().map(|it| (*it, 1)).collect();
        assert_eq!(world.counted(), wanted, "{hook:?} {bytes:02x?}");
    }
    assert_eq!(world.flow_records(), 0);
}

/// A packet that would be translated, over UDP.
fn packet(family: Family) -> Packet {
    Packet::udp(at(family, 7, 7, 50_000), at(family, 9, 1, 80))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn packets_to_no_service(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut choices = Choices::new(&bytes);
        let family = choices.one_of(&Family::BOTH);
        // Pods, nodes, outsiders; any port but those of frontends.
        let network = choices.one_of(&[1, 2, 3, 7]);
        let source = at(family, 7, choices.byte(), choices.short());
        let destination = at(family, network, choices.byte(), choices.short() % 30_000);
        let packet = Packet::random(&mut choices, source, destination);
        is_untouched(&packet.build(), Link::Ethernet, &[]);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let world = World::new(&Scenario::usual());
        for hook in HOOKS {
            for link in [Link::Ethernet, Link::Ip(0x0800), Link::Ip(0x86dd)] {
                let (action, after) = world.run(hook, &bytes, link);
                prop_assert_eq!(action, Action::Pass);
                prop_assert_eq!(&after, &bytes);
            }
        }
    }
}

#[test]
fn the_template_is_translated_unless_something_is_wrong() {
    for family in Family::BOTH {
        let packet = packet(family);
        let world = World::new(&Scenario::usual());
        let (_, destination) = world.ends(Hook::FromOutside, &packet);
        assert_eq!(destination, at(family, 2, 1, 8080));
    }
}

#[test]
fn fragments_whose_first_one_was_not_seen() {
    for family in Family::BOTH {
        for (offset, more) in [(64, true), (64, false), (0x1fff, false)] {
            let mut packet = packet(family);
            packet.network.fragment = Some(Fragment { offset, more });
            is_untouched(&packet.build(), Link::Ethernet, &[]);
        }
    }
}

#[test]
fn fragments_behind_other_extension_headers() {
    let mut packet = packet(Family::V6);
    packet.network.extensions = vec![Extension {
        kind: 60,
        content: vec![0; 14],
    }];
    packet.network.fragment = Some(Fragment {
        offset: 1,
        more: false,
    });
    is_untouched(&packet.build(), Link::Ethernet, &[]);
}

#[test]
fn other_protocols() {
    for family in Family::BOTH {
        // ICMP, IGMP, IP in IP, GRE, ESP, AH, ICMPv6, none, UDP-Lite, reserved.
        for protocol in [1, 2, 4, 47, 50, 51, 58, 59, 136, 255] {
            for length in [0, 1, 8, 64] {
                let packet = Packet {
                    transport: Transport::Other(protocol),
                    payload: noise(7, length),
                    ..packet(family)
                };
                is_untouched(&packet.build(), Link::Ethernet, &[]);
            }
        }
    }
}

#[test]
fn other_ether_types() {
    // ARP, MPLS, PPPoE, LLDP, a length (802.3).
    for kind in [0x0806u16, 0x8847, 0x8864, 0x88cc, 0x0040] {
        let packet = packet(Family::V4);
        let mut bytes = packet.build();
        bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        is_untouched(&bytes, Link::Ethernet, &[]);
        is_untouched(&bytes[14..], Link::Ip(kind), &[]);
    }
}

/// It is for the device of that VLAN.
#[test]
fn a_frame_with_vlan_tags() {
    for family in Family::BOTH {
        for kind in [0x8100, 0x88a8] {
            for count in 1..=3 {
                let mut packet = packet(family);
                let tag = Tag { kind, control: 5 };
                packet.link.as_mut().unwrap().tags = vec![tag; count];
                is_untouched(&packet.build(), Link::Ethernet, &[]);
            }
        }
    }
}

#[test]
fn a_chain_of_too_many_extension_headers() {
    for count in [6, 7, 12] {
        let mut packet = packet(Family::V6);
        packet.network.extensions = vec![
            Extension {
                kind: 60,
                content: vec![0; 6],
            };
            count
        ];
        is_untouched(&packet.build(), Link::Ethernet, &[]);
    }
}

#[test]
fn a_transport_that_the_frontend_does_not_have() {
    let mut scenario = Scenario::usual();
    scenario.frontends.retain(|it| it.protocol.number() == 6);
    for family in Family::BOTH {
        let packet = packet(family);
        let world = World::new(&scenario);
        let (action, bytes) = world.send(Hook::FromOutside, &packet);
        assert_eq!((action, bytes), (Action::Pass, packet.build()));
    }
}
