//! When a flow is over because nothing was heard of it.

use proxy_tests::packets::{Packet, tcp_flags};

use super::lifetimes::Scene;
use super::world::segment;
use crate::host::Action;
use crate::layout::Counter;

use tcp_flags::{ACK, FIN, SYN};

/// Seconds around the timeouts, with room for the clock's steps of 1.07 s.
const UDP: u32 = 240;
const UDP_EMBRYONIC: u32 = 60;
const TCP: u32 = 24 * 60 * 60;
const TCP_CLOSE_WAIT: u32 = 60 * 60;
const EMBRYONIC: u32 = 60;
const MARGIN: u32 = 3;

#[test]
fn a_udp_flow_lives_as_long_as_it_is_used() {
    for mut scene in Scene::all() {
        scene.open_udp();
        scene.world.switch_sets(&[1]);
        for _ in 0..3 {
            scene.world.wait(UDP - MARGIN);
            assert_eq!(scene.udp(), scene.first);
        }
        scene.world.wait(UDP + MARGIN);
        assert_eq!(scene.udp(), scene.second);
    }
}

#[test]
fn a_tcp_connection_lives_for_a_day_without_packets() {
    for mut scene in Scene::all() {
        scene.open_tcp();
        scene.world.switch_sets(&[1]);
        scene.world.wait(TCP - MARGIN);
        assert_eq!(scene.tcp(ACK), scene.first);
        scene.world.wait(TCP + MARGIN);
        scene.world.counted();
        let late = Packet::tcp(scene.client, scene.service, ACK);
        let (action, _) = scene.world.send(scene.hook, &late);
        assert_eq!(action, Action::Bounce, "a reset");
        assert_eq!(scene.world.counted(), [(Counter::NoConnection, 1)]);
        assert_eq!(scene.tcp(SYN), scene.second);
    }
}

#[test]
fn a_connection_that_nobody_answers_is_over_soon() {
    for mut scene in Scene::all() {
        assert_eq!(scene.tcp(SYN), scene.first);
        scene.world.switch_sets(&[1]);
        scene.world.wait(EMBRYONIC - MARGIN);
        assert_eq!(scene.tcp(SYN), scene.first, "a SYN that is sent again");
        scene.world.wait(EMBRYONIC + MARGIN);
        assert_eq!(scene.tcp(SYN), scene.second);
    }
}

#[test]
fn datagrams_of_one_moment_that_nobody_answers_are_soon_forgotten() {
    for mut scene in Scene::all() {
        assert_eq!(scene.udp(), scene.first);
        assert_eq!(scene.udp(), scene.first);
        scene.world.switch_sets(&[1]);
        scene.world.wait(UDP_EMBRYONIC + MARGIN);
        assert_eq!(scene.udp(), scene.second);
    }
}

/// As of syslog, or of telemetry.
#[test]
fn datagrams_in_one_direction_are_a_flow_that_lives() {
    for mut scene in Scene::all() {
        assert_eq!(scene.udp(), scene.first);
        scene.world.switch_sets(&[1]);
        scene.world.wait(UDP_EMBRYONIC - MARGIN);
        assert_eq!(scene.udp(), scene.first);
        scene.world.wait(UDP - MARGIN);
        assert_eq!(scene.udp(), scene.first);
        scene.world.wait(UDP + MARGIN);
        assert_eq!(scene.udp(), scene.second);
    }
}

#[test]
fn what_comes_late_goes_where_the_rest_of_its_connection_went() {
    for mut scene in Scene::all() {
        let wire = scene.open_tcp();
        scene.close_tcp(wire);
        scene.world.switch_sets(&[1]);
        scene.world.wait(EMBRYONIC + MARGIN);
        assert_eq!(scene.tcp(ACK), scene.first);
    }
}

#[test]
fn answers_keep_a_flow_alive() {
    for mut scene in Scene::all() {
        let packet = Packet::udp(scene.client, scene.service);
        let (source, endpoint) = scene.open_udp();
        scene.world.switch_sets(&[1]);
        for _ in 0..3 {
            scene.world.wait(UDP - MARGIN);
            let came = scene.answer_of(endpoint, source, &packet);
            assert_eq!(came, (scene.service, scene.client));
        }
        assert_eq!(scene.udp(), scene.first);
    }
}

#[test]
fn packets_of_the_client_keep_the_way_back_alive() {
    for scene in Scene::all() {
        let packet = Packet::udp(scene.client, scene.service);
        let (source, endpoint) = scene.open_udp();
        for _ in 0..3 {
            scene.world.wait(UDP - MARGIN);
            assert_eq!(scene.udp(), scene.first);
        }
        let came = scene.answer_of(endpoint, source, &packet);
        assert_eq!(came, (scene.service, scene.client));
    }
}

#[test]
fn an_answer_after_the_end_of_a_flow_is_none_of_ours() {
    for scene in Scene::all() {
        let packet = Packet::udp(scene.client, scene.service);
        let (source, endpoint) = scene.world.ends(scene.hook, &packet);
        scene.world.wait(UDP + MARGIN);
        let came = scene.answer_of(endpoint, source, &packet);
        assert_eq!(came, (endpoint, source));
    }
}

#[test]
fn an_error_about_a_flow_after_its_end_is_none_of_ours() {
    for scene in Scene::all() {
        let (source, endpoint) = scene.open_udp();
        let router = scene.client.ip();
        // About what the endpoint got: found under what it would answer.
        let kind = if source.is_ipv4() { [3, 4] } else { [2, 0] };
        let error = Packet::error(router, kind, &Packet::udp(source, endpoint));
        let hook = scene.back();
        let (_, bytes) = scene.world.send(hook, &error);
        assert_ne!(bytes, error.build(), "while it lasts");
        scene.world.wait(UDP + MARGIN);
        let (action, bytes) = scene.world.send(hook, &error);
        assert_eq!((action, bytes), (Action::Pass, error.build()));
    }
}

#[test]
fn an_open_half_of_a_tcp_connection_outlives_the_closed_one() {
    for mut scene in Scene::all() {
        let (source, endpoint) = scene.open_tcp();
        scene.segment(FIN | ACK, [1, 1]);
        let data = Packet::tcp(endpoint, source, ACK).numbered(1, 2);
        scene.world.switch_sets(&[1]);
        for _ in 0..5 {
            scene.world.wait(TCP_CLOSE_WAIT - MARGIN);
            let came = scene.world.ends(scene.back(), &data);
            assert_eq!(came, (scene.service, scene.client));
        }
        assert_eq!(scene.segment(ACK, [2, 8]), scene.first);
        assert_eq!(scene.tcp(SYN), scene.first);
    }
}

#[test]
fn a_half_closed_connection_is_over_after_an_hour_of_silence() {
    for by_client in [true, false] {
        for mut scene in Scene::all() {
            let (source, endpoint) = scene.open_tcp();
            scene.world.switch_sets(&[1]);
            if by_client {
                scene.segment(FIN | ACK, [1, 1]);
                let ack = segment((endpoint, source), ACK, [1, 2]);
                scene.world.ends(scene.back(), &ack);
            } else {
                let fin = segment((endpoint, source), FIN | ACK, [1, 1]);
                scene.world.ends(scene.back(), &fin);
                scene.segment(ACK, [1, 2]);
            }
            scene.world.wait(TCP_CLOSE_WAIT - MARGIN);
            assert_eq!(scene.tcp(SYN), scene.first);
            scene.world.wait(TCP_CLOSE_WAIT + MARGIN);
            assert_eq!(scene.tcp(SYN), scene.second);
        }
    }
}

/// An endpoint that goes on sending keeps the flow, but not what is known of itself.
#[test]
fn a_client_that_was_silent_for_long_leaves_an_endpoint_that_has_ended() {
    for mut scene in Scene::all() {
        let datagram = Packet::udp(scene.client, scene.service);
        let (source, endpoint) = scene.open_udp();
        for _ in 0..2 {
            scene.world.wait(UDP - MARGIN);
            scene.answer_of(endpoint, source, &datagram);
        }
        scene.replace_endpoint();
        assert_eq!(scene.udp(), scene.second);
    }
    for mut scene in Scene::all() {
        let syn = Packet::tcp(scene.client, scene.service, SYN);
        let (source, endpoint) = scene.world.ends(scene.hook, &syn);
        scene.world.wait(EMBRYONIC - MARGIN);
        let answer = Packet::tcp(scene.client, scene.service, SYN | ACK);
        scene.answer_of(endpoint, source, &answer);
        scene.world.wait(2 * MARGIN);
        scene.replace_endpoint();
        assert_eq!(scene.tcp(SYN), scene.second);
    }
}
