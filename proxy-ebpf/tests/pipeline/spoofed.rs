//! Packets that seem to be a client's or an endpoint's, and are somebody else's who does not
//! know the connection's numbers.

use std::net::SocketAddr;

use proxy_tests::packets::{Hook, Packet, tcp_flags};

use super::lifetimes::Scene;
use super::world::segment;

use tcp_flags::{ACK, FIN, RST, SYN};

/// Numbers that are none of a connection, as offsets from those that its ends began with.
const GUESSES: [[u32; 2]; 4] = [
    [0x7654_3210, 0x1234_5678],
    [0x7654_3210, 0],
    [0x8000_0000, 0x8000_0000],
    [0xfff0_bdc0, 0xfff0_bdc0],
];
const ENDS: [u8; 5] = [RST, RST | ACK, FIN | ACK, FIN, ACK];

/// Data in both directions arrives where it belongs.
fn goes_on(scene: &Scene, (source, endpoint): (SocketAddr, SocketAddr)) {
    let data = Packet::tcp(scene.client, scene.service, ACK);
    assert_eq!(scene.world.ends(scene.hook, &data), (source, endpoint));
    let answer = Packet::tcp(endpoint, source, ACK);
    let came = scene.world.ends(scene.back(), &answer);
    assert_eq!(came, (scene.service, scene.client));
}

/// What seems to be of either end, with these flags and numbers.
fn forge(scene: &Scene, wire: (SocketAddr, SocketAddr), flags: u8, numbers: [u32; 2]) {
    scene.segment(flags, numbers);
    let other = segment((wire.1, wire.0), flags, numbers);
    scene.world.ends(scene.back(), &other);
}

#[test]
fn ends_and_then_a_syn_move_no_connection() {
    for mut scene in Scene::all() {
        let wire = scene.open_tcp();
        scene.replace_endpoint();
        for end in ENDS {
            for numbers in GUESSES {
                // Each with numbers of its own, as from two who do not know of each other.
                scene.segment(end, numbers);
                scene.segment(SYN, [numbers[0].wrapping_add(77), 0]);
                goes_on(&scene, wire);
                forge(
                    &scene,
                    wire,
                    end,
                    [numbers[1] ^ 0x0f0f, numbers[0] ^ 0x7777],
                );
                scene.segment(SYN, [numbers[0].wrapping_add(777), 0]);
                goes_on(&scene, wire);
            }
        }
        scene.world.wait(12);
        assert_eq!(scene.tcp(SYN), scene.first);
        goes_on(&scene, wire);
    }
}

#[test]
fn a_syn_cuts_no_half_closed_connection() {
    for mut scene in Scene::all() {
        let (source, endpoint) = scene.open_tcp();
        scene.segment(FIN | ACK, [1, 1]);
        let data = Packet::tcp(endpoint, source, ACK).numbered(1, 2);
        scene.world.ends(scene.back(), &data);
        scene.replace_endpoint();
        scene.segment(SYN, [0x7654_3210, 0]);
        let came = scene.world.ends(scene.back(), &data);
        assert_eq!(came, (scene.service, scene.client));
        assert_eq!(scene.segment(ACK, [2, 8]), scene.first);
    }
}

/// A connection of the socket path, or one that began before: its tuple is nowhere noted.
#[test]
fn a_syn_has_nothing_translated_of_a_connection_that_is_plain() {
    for scene in Scene::all() {
        let (source, endpoint) = scene.world.ends(
            scene.hook,
            &segment((scene.client, scene.service), SYN, [0x7654_3210, 0]),
        );
        // Data, and the challenge ACK to the SYN.
        for flags in [ACK, FIN | ACK, RST, RST | ACK] {
            for numbers in [[1, 1], [700, 900]] {
                let packet = segment((endpoint, source), flags, numbers);
                let came = scene.world.ends(scene.back(), &packet);
                assert_eq!(came, (endpoint, source), "{flags} {numbers:?}");
            }
        }
        // The answer to that very SYN.
        let answer = segment((endpoint, source), SYN | ACK, [0, 0x7654_3211]);
        let came = scene.world.ends(scene.back(), &answer);
        assert_eq!(came, (scene.service, scene.client));
    }
}

#[test]
fn a_syn_takes_no_tuple_of_a_direct_connection() {
    for scene in Scene::all().filter(|scene| scene.back() == Hook::Out) {
        let direct = Packet::tcp(scene.client, scene.first, SYN);
        let wire = scene.world.open(scene.hook, &direct);
        assert_eq!(wire, (scene.client, scene.first));
        let (source, _) = scene.world.ends(
            scene.hook,
            &segment((scene.client, scene.service), SYN, [0x7654_3210, 0]),
        );
        assert_ne!(source, scene.client);
        for flags in [SYN | ACK, ACK, FIN | ACK, RST] {
            let packet = Packet::tcp(scene.first, scene.client, flags);
            let came = scene.world.ends(Hook::Out, &packet);
            assert_eq!(came, (scene.first, scene.client));
        }
    }
}

/// Of the client's own SYN the answer is still known.
#[test]
fn a_syn_cuts_no_connection_that_is_being_opened() {
    for scene in Scene::all() {
        let syn = Packet::tcp(scene.client, scene.service, SYN);
        let wire = scene.world.ends(scene.hook, &syn);
        let answer = syn.answer(wire.1, wire.0);
        scene.world.ends(scene.back(), &answer);
        scene.segment(SYN, [0x7654_3210, 0]);
        scene.segment(RST, [0x7654_3211, 0]);
        goes_on(&scene, wire);
        scene.world.wait(3600);
        goes_on(&scene, wire);
    }
}
