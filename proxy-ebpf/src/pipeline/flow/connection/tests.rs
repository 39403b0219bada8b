//! The state of a connection against a model of TCP's ends, which knows nothing of it.

mod host;
mod network;

use proptest::prelude::*;
use proxy_tests::packets::Choices;

use super::*;
use crate::layout::flow_flags::{CLOSED, EMBRYONIC, RESET};
use host::{Host, Wire};
use network::{CLIENT, ENDPOINT, Network};
use tcp_flags::{ACK, FIN, RST, SYN};

/// Who sends segments in the name of others, without seeing theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attacker {
    /// Nobody.
    Absent,
    /// Seems to be this end. What it has made up it may use again.
    Of(usize),
    /// Seems to be either, with other numbers each time.
    OfBoth,
}

/// One of the attacker's segments.
fn forged(
    attacker: Attacker,
    choices: &mut Choices<'_>,
    network: &mut Network,
) -> Option<(usize, Wire)> {
    let side = match attacker {
        Attacker::Absent => return None,
        Attacker::Of(side) => side,
        Attacker::OfBoth => choices.one_of(&[CLIENT, ENDPOINT]),
    };
    let mut number = || {
        let fresh = u32::from(choices.short()) << 16 | u32::from(choices.short());
        if attacker == Attacker::OfBoth {
            return network.make_up(fresh);
        }
        let kept = [0, 0x5eed_0000, 0x5eed_0001, 0x5eed_0002, fresh, fresh];
        let number = choices.one_of(&kept);
        network.is_far(number).then_some(number)
    };
    let (sequence, acknowledgment) = (number()?, number()?);
    let wire = Wire {
        flags: choices.one_of(&[SYN, SYN | ACK, ACK, ACK, FIN | ACK, FIN, RST, RST | ACK]),
        sequence,
        acknowledgment,
        length: choices.one_of(&[0, 1, 1000]),
    };
    Some((side, wire))
}

/// Something happens: at an end, on the way, or by an attacker.
fn happen(network: &mut Network, choices: &mut Choices<'_>, attacker: Attacker) {
    let side = choices.one_of(&[CLIENT, ENDPOINT]);
    match choices.below(12) {
        0..5 => network.deliver(choices.byte()),
        5 => network.lose(choices.byte()),
        6 => network.duplicate(choices.byte()),
        7 => network.send_again(side, choices.byte()),
        8 | 9 => network.send(side, 1 + u32::from(choices.byte()) * 5),
        _ => {
            if let Some((side, wire)) = forged(attacker, choices, network) {
                network.forge(side, wire);
            }
        }
    }
}

/// Until the stream of choices ends; each time the state has to be one that the ends are in.
fn bustle(network: &mut Network, choices: &mut Choices<'_>, attacker: Attacker, closes: bool) {
    while !choices.is_over() {
        if closes && choices.seldom(6) {
            network.close(choices.one_of(&[CLIENT, ENDPOINT]));
        }
        happen(network, choices, attacker);
        network.check();
    }
}

const ATTACKERS: [Attacker; 3] = [
    Attacker::Of(CLIENT),
    Attacker::Of(ENDPOINT),
    Attacker::OfBoth,
];

fn attackers() -> impl Strategy<Value = Attacker> {
    prop_oneof![Just(Attacker::Absent), prop::sample::select(&ATTACKERS[..])]
}

fn chance() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever gets lost, overtakes, or is forged before the ends close.
    #[test]
    fn what_both_ends_have_closed_is_closed(
        (before, after) in (chance(), chance()),
        firsts in any::<[u32; 2]>(),
        attacker in attackers(),
    ) {
        let mut network = Network::new(firsts);
        bustle(&mut network, &mut Choices::new(&before), attacker, false);
        network.settle();
        bustle(&mut network, &mut Choices::new(&after), Attacker::Absent, true);
        network.come_to_rest();
        network.check();
        prop_assert!(network.is_closed(), "{network:?}");
        prop_assert_eq!(network.flags() & (CLOSED | RESET | EMBRYONIC), CLOSED);
    }

    /// Neither when both ends are about to close.
    #[test]
    fn nobody_else_ends_or_establishes_a_connection(
        bytes in chance(),
        firsts in any::<[u32; 2]>(),
        attacker in attackers(),
    ) {
        let mut network = Network::new(firsts);
        bustle(&mut network, &mut Choices::new(&bytes), attacker, true);
    }

    #[test]
    fn alone_an_attacker_establishes_and_ends_nothing(
        bytes in chance(),
        firsts in any::<[u32; 2]>(),
        attacker in prop::sample::select(&ATTACKERS[..]),
    ) {
        let mut network = Network::new(firsts);
        network.deliver(0);
        let mut choices = Choices::new(&bytes);
        while !choices.is_over() {
            if let Some((side, wire)) = forged(attacker, &mut choices, &mut network) {
                network.forge(side, wire);
                network.deliver(u8::MAX);
                network.lose_rest();
            }
            // Who has begun a flow may reset it before there is a connection.
            let ended = if attacker == Attacker::OfBoth { RESET } else { 0 };
            let flags = network.flags() & (CLOSED | EMBRYONIC | ended);
            prop_assert_eq!(flags, EMBRYONIC);
        }
    }

    /// With an attacker at work before, and where the reset itself is lost.
    #[test]
    fn what_an_end_has_reset_is_reset(
        bytes in chance(),
        firsts in any::<[u32; 2]>(),
        attacker in attackers(),
        side in prop::sample::select(vec![CLIENT, ENDPOINT]),
        is_lost in any::<bool>(),
    ) {
        let mut network = Network::new(firsts);
        bustle(&mut network, &mut Choices::new(&bytes), attacker, false);
        network.settle();
        // What each end expects is known by its last segment.
        network.send(side, 100);
        network.settle();
        network.check();
        network.abort(side);
        if is_lost {
            network.lose_rest();
            network.send(1 - side, 100);
        }
        network.settle();
        network.check();
        prop_assert_eq!(network.flags() & (CLOSED | RESET | EMBRYONIC), RESET);
    }
}

/// A half that is closed says nothing about the other.
#[test]
fn a_half_closed_connection_is_not_closed() {
    for side in [CLIENT, ENDPOINT] {
        let mut network = Network::new([7, 9]);
        network.settle();
        network.close(side);
        network.settle();
        for _ in 0..10 {
            network.send(1 - side, 1000);
            network.settle();
        }
        assert_eq!(network.flags() & CLOSED, 0);
        network.close(1 - side);
        network.settle();
        assert_ne!(network.flags() & CLOSED, 0);
    }
}

/// It acknowledges all that the other end has sent before, but not its FIN.
#[test]
fn a_segment_from_before_the_fin_is_not_the_last_acknowledgment() {
    for side in [CLIENT, ENDPOINT] {
        let mut network = Network::new([7, 9]);
        network.settle();
        network.send(side, 100);
        let early = network.last();
        network.settle();
        network.close(side);
        network.settle();
        network.close(1 - side);
        network.pass_by();
        for _ in 0..3 {
            network.forge(side, early);
            network.deliver(u8::MAX);
        }
        assert_eq!(network.flags() & CLOSED, 0);
        network.settle();
        assert_ne!(network.flags() & CLOSED, 0);
    }
}

/// With the numbers that it has made up itself; the client goes on.
#[test]
fn a_handshake_takes_back_what_was_forged_before() {
    let mut network = Network::new([7, 9]);
    network.deliver(0);
    let mut wire = Wire {
        flags: SYN,
        sequence: 0x7000_0000,
        acknowledgment: 0,
        length: 0,
    };
    network.forge(CLIENT, wire);
    wire.flags = RST;
    wire.sequence += 1;
    network.forge(CLIENT, wire);
    network.deliver(u8::MAX);
    network.deliver(u8::MAX);
    network.settle();
    assert_eq!(network.flags() & (CLOSED | RESET | EMBRYONIC), 0);
}
