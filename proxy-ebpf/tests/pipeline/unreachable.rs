//! ICMP errors that say of a flow of UDP that nobody can reach its endpoint.

use std::cell::Cell;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::world::{World, at};
use crate::layout::backend_flags::{RETRIED, SAYS_UNANSWERED};
use crate::layout::{Counter, Liveness, liveness_state};

/// A Service port whose one endpoint is of another node, and its client.
struct Scene {
    world: World,
    family: Family,
    hook: Hook,
    next_port: Cell<u16>,
}

/// A flow: its first packet, and from where to where it was sent.
struct Flow {
    first: Packet,
    wire: (SocketAddr, SocketAddr),
}

impl Scene {
    fn all(protocol: Protocol) -> impl Iterator<Item = Self> {
        let hooks = [Hook::FromPod, Hook::FromOutside];
        let each = move |family| hooks.map(|hook| Self::new(family, hook, protocol));
        Family::BOTH.into_iter().flat_map(each)
    }

    fn new(family: Family, hook: Hook, protocol: Protocol) -> Self {
        let mut scenario = Scenario::empty();
        scenario.add_backend(at(family, 2, 1, 8080), false);
        scenario.frontends.push(Frontend {
            external: true,
            ..Frontend::new(at(family, 9, 1, 80), protocol, vec![0])
        });
        let mut world = World::new(&scenario);
        world.retry_unanswered();
        Self {
            world,
            family,
            hook,
            next_port: 1024.into(),
        }
    }

    fn flow(&self, first: impl Fn(SocketAddr, SocketAddr) -> Packet) -> Flow {
        let port = self.next_port.replace(self.next_port.get() + 1);
        let first = first(at(self.family, 7, 1, port), at(self.family, 9, 1, 80));
        let wire = self.world.ends(self.hook, &first);
        Flow { first, wire }
    }

    /// Where what comes back of a flow is translated.
    fn back(&self, flow: &Flow) -> Hook {
        if flow.wire.0 == flow.first.source {
            Hook::Out
        } else {
            self.hook
        }
    }

    fn answer(&self, flow: &Flow) {
        let answer = flow.first.answer(flow.wire.1, flow.wire.0);
        let came = self.world.ends(self.back(flow), &answer);
        assert_eq!(came, (flow.first.destination, flow.first.source));
    }

    /// A router's error about a flow, which the client gets about what it has sent.
    fn error(&self, flow: &Flow, kind: [u8; 2]) {
        let router = at(self.family, 3, 1, 1).ip();
        let sent = flow.first.between(flow.wire.0, flow.wire.1);
        let error = Packet::error(router, kind, &sent);
        let (_, bytes) = self.world.send(self.back(flow), &error);
        assert_ne!(bytes, error.build(), "it is translated");
    }

    fn host_unreachable(&self) -> [u8; 2] {
        match self.family {
            Family::V4 => [3, 1],
            Family::V6 => [1, 3],
        }
    }

    fn liveness(&self) -> Liveness {
        self.world.liveness(self.family, 0)
    }

    fn counted(&self) -> u64 {
        self.world.counter_of(Counter::FlowUnreachable)
    }
}

#[test]
fn each_flow_counts_once_until_one_is_answered() {
    for mut scene in Scene::all(Protocol::Udp) {
        for number in 1..=3 {
            let flow = scene.flow(Packet::udp);
            for _ in 0..3 {
                scene.error(&flow, scene.host_unreachable());
                assert_eq!(scene.liveness().unanswered, number);
            }
        }
        assert_eq!(scene.counted(), 3);
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 0);
        let now = scene.world.shared.now.get();
        assert_eq!(scene.liveness().unanswered_at, now);

        // At once, or some time later.
        for seconds in [0, 5] {
            let flow = scene.flow(Packet::udp);
            scene
                .world
                .set_liveness_state(scene.family, 0, liveness_state::AVOIDED);
            scene.world.wait(seconds);
            scene.answer(&flow);
            let liveness = scene.liveness();
            let state = (liveness.unanswered, liveness.state);
            assert_eq!(state, (0, liveness_state::USED));
            assert_eq!(liveness.answered_at, scene.world.shared.now.get());
        }
    }
}

#[test]
fn only_what_says_that_nobody_can_reach_the_host_counts() {
    for scene in Scene::all(Protocol::Udp) {
        let errors = match scene.family {
            Family::V4 => [(3, 16), (11, 2), (12, 2)],
            Family::V6 => [(1, 8), (3, 2), (4, 3)],
        };
        let counting: &[[u8; 2]] = match scene.family {
            Family::V4 => &[[3, 0], [3, 1], [3, 6], [3, 7], [3, 11], [3, 12]],
            Family::V6 => &[[1, 0], [1, 3]],
        };
        let kinds = errors
            .into_iter()
            .flat_map(|(kind, codes)| (0..codes).map(move |code| [kind, code]));
        for kind in kinds {
            let before = scene.counted();
            scene.error(&scene.flow(Packet::udp), kind);
            let is_counted = scene.counted() != before;
            assert_eq!(is_counted, counting.contains(&kind), "{kind:?}");
        }
    }
}

#[test]
fn what_was_answered_does_not_count() {
    for scene in Scene::all(Protocol::Udp) {
        let flow = scene.flow(Packet::udp);
        scene.answer(&flow);
        scene.error(&flow, scene.host_unreachable());
        assert_eq!((scene.counted(), scene.liveness().unanswered), (0, 0));
    }
}

#[test]
fn an_error_about_an_answer_says_nothing_of_the_endpoint() {
    for scene in Scene::all(Protocol::Udp) {
        let flow = scene.flow(Packet::udp);
        let answer = flow.first.answer(flow.first.destination, flow.first.source);
        let router = at(scene.family, 3, 1, 1).ip();
        let error = Packet::error(router, scene.host_unreachable(), &answer);
        let (_, bytes) = scene.world.send(scene.hook, &error);
        assert_ne!(bytes, error.build(), "it is translated");
        assert_eq!(scene.counted(), 0);
    }
}

#[test]
fn other_protocols_do_not_count() {
    let syn = |source, destination| Packet::tcp(source, destination, tcp_flags::SYN);
    for scene in Scene::all(Protocol::Tcp) {
        scene.error(&scene.flow(syn), scene.host_unreachable());
        assert_eq!((scene.counted(), scene.liveness().unanswered), (0, 0));
    }
}

#[test]
fn the_setting_and_the_service_say_whether_it_counts() {
    for mut scene in Scene::all(Protocol::Udp) {
        scene.world.say_unanswered(SAYS_UNANSWERED);
        scene.error(&scene.flow(Packet::udp), scene.host_unreachable());
        assert_eq!(scene.counted(), 0);
        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        scene.world.say_unanswered(0);
        scene.error(&scene.flow(Packet::udp), scene.host_unreachable());
        assert_eq!(scene.counted(), 0);
        scene.world.say_unanswered(SAYS_UNANSWERED | RETRIED);
        scene.error(&scene.flow(Packet::udp), scene.host_unreachable());
        assert_eq!(scene.counted(), 1);
    }
}
