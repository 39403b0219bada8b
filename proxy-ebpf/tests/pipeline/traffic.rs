//! What is counted by Service and by backend.

use proxy_tests::packets::{Packet, tcp_flags};

use super::lifetimes::Scene;
use super::world::World;
use crate::layout::Traffic;

/// What was counted, of whichever Service and backend; there is one of each in these
/// tests.
fn counted(world: &World) -> Traffic {
    let services = world.shared.service_traffic.borrow();
    let service: Vec<_> = services.values().copied().collect();
    let (v4, v6) = (
        world.v4.backend_traffic.borrow(),
        world.v6.backend_traffic.borrow(),
    );
    let backend: Vec<_> = v4.values().chain(v6.values()).copied().collect();
    assert_eq!(service, backend, "a Service with one endpoint");
    match service[..] {
        [] => Traffic::default(),
        [traffic] => traffic,
        _ => panic!("{service:?}"),
    }
}

#[test]
fn packets_of_a_short_flow_are_counted_one_by_one_in_both_directions() {
    for scene in Scene::all() {
        let (source, endpoint) = scene.open_udp();
        // Question, answer, and another question.
        let after = |connections, packets| Traffic {
            connections,
            packets,
        };
        assert_eq!(counted(&scene.world), after(1, 3));
        let packet = Packet::udp(scene.client, scene.service);
        scene.answer_of(endpoint, source, &packet);
        assert_eq!(counted(&scene.world), after(1, 4));
        scene.world.ends(scene.hook, &packet);
        assert_eq!(counted(&scene.world), after(1, 5));
    }
}

#[test]
fn packets_of_a_long_flow_are_counted_in_lots() {
    for scene in Scene::all() {
        let syn = Packet::tcp(scene.client, scene.service, tcp_flags::SYN);
        scene.world.ends(scene.hook, &syn);
        let ack = Packet::tcp(scene.client, scene.service, tcp_flags::ACK);
        for packets in 2..1000 {
            scene.world.ends(scene.hook, &ack);
            let counted = counted(&scene.world).packets;
            let behind = packets - counted;
            assert!(behind < 64, "{counted} of {packets}");
            assert!(packets > 64 || behind == 0, "{counted} of {packets}");
        }
    }
}

#[test]
fn what_is_dropped_or_passed_counts_for_nobody() {
    for scene in Scene::all() {
        let elsewhere = std::net::SocketAddr::new(scene.service.ip(), 9);
        let packet = Packet::udp(scene.client, elsewhere);
        scene.world.ends(scene.hook, &packet);
        assert_eq!(counted(&scene.world), Traffic::default());
    }
}

#[test]
fn a_connection_to_an_endpoint_that_is_gone_counts_for_nobody() {
    for mut scene in Scene::all() {
        let syn = Packet::tcp(scene.client, scene.service, tcp_flags::SYN);
        scene.world.ends(scene.hook, &syn);
        let before = counted(&scene.world);
        for index in 0..8 {
            scene.world.end_backend(index);
        }
        let ack = Packet::tcp(scene.client, scene.service, tcp_flags::ACK);
        scene.world.ends(scene.hook, &ack);
        assert_eq!(counted(&scene.world), before, "its number may be another's");
    }
}
