//! Whether endpoints answer sockets whose destination was translated.

use std::cell::Cell;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Protocol, Scenario};

use super::caller::{Caller, Outcome};
use super::world::{World, at};
use crate::layout::backend_flags::{RETRIED, SAYS_UNANSWERED};
use crate::layout::{Counter, Liveness, liveness_state};
use crate::pipeline::{Client, Handshake, Watch};

const TCP: u8 = 6;

/// A ClusterIP with two endpoints.
struct Scene {
    world: World,
    family: Family,
    next_cookie: Cell<u64>,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        Family::BOTH.into_iter().map(Self::new)
    }

    fn new(family: Family) -> Self {
        let mut scenario = Scenario::empty();
        for host in 1..=2 {
            scenario.add_backend(at(family, 2, host, 8080), false);
        }
        let frontend = Frontend::new(at(family, 9, 1, 80), Protocol::Tcp, vec![0, 1]);
        scenario.frontends.push(frontend);
        let mut world = World::new(&scenario);
        world.retry_unanswered();
        Self {
            world,
            family,
            next_cookie: 1.into(),
        }
    }

    fn endpoint(&self) -> SocketAddr {
        at(self.family, 2, 1, 8080)
    }

    fn client(&self) -> SocketAddr {
        at(self.family, 2, 9, 50_000)
    }

    fn socket(&self) -> Caller {
        let cookie = self.next_cookie.replace(self.next_cookie.get() + 1);
        Caller::new(Client::Pod, TCP, cookie)
    }

    /// A socket whose connection was translated to the first endpoint.
    fn translated(&self) -> Caller {
        loop {
            let socket = self.socket();
            let picked = socket.connect(&self.world, at(self.family, 9, 1, 80));
            if picked == Outcome::Endpoint(self.endpoint()) {
                return socket;
            }
        }
    }

    fn tell(&self, socket: &Caller, what: Handshake) -> Watch {
        socket.handshake(&self.world, what, (self.client(), self.endpoint()))
    }

    fn liveness(&self) -> Liveness {
        self.world.liveness(self.family, 0)
    }

    /// The first endpoint leaves so many connections unanswered.
    fn leave_unanswered(&self, count: u32) {
        for _ in 0..count {
            let socket = self.translated();
            self.tell(&socket, Handshake::Begins);
            self.tell(&socket, Handshake::TimesOut);
        }
    }
}

#[test]
fn connections_that_are_not_answered_count_until_one_is() {
    for mut scene in Scene::all() {
        scene.leave_unanswered(3);
        let now = scene.world.shared.now.get();
        let liveness = scene.liveness();
        assert_eq!((liveness.unanswered, liveness.unanswered_at), (3, now));
        assert_eq!(liveness.generation, 1);
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 3);

        scene
            .world
            .set_liveness_state(scene.family, 0, liveness_state::TRIAL);
        let socket = scene.translated();
        scene.world.wait(1);
        scene.tell(&socket, Handshake::Begins);
        scene.tell(&socket, Handshake::IsAnswered);
        let liveness = scene.liveness();
        let state = (liveness.unanswered, liveness.state);
        assert_eq!(state, (0, liveness_state::USED));
        assert_eq!(liveness.answered_at, scene.world.shared.now.get());
    }
}

#[test]
fn that_a_connection_is_refused_is_told_where_it_is_news() {
    for scene in Scene::all() {
        let begin = || scene.tell(&scene.translated(), Handshake::Begins);
        assert_eq!(begin(), Watch::Timeouts);
        scene.leave_unanswered(1);
        assert_eq!(begin(), Watch::Refusals);
        let socket = scene.translated();
        let after_timeout = scene.tell(&socket, Handshake::TimesOut);
        assert_eq!(after_timeout, Watch::Refusals);
        scene.tell(&socket, Handshake::IsAnswered);
        assert_eq!(begin(), Watch::Timeouts);
    }
}

#[test]
fn sockets_that_were_not_translated_are_nothing_to_us() {
    for scene in Scene::all() {
        // One that has connected to the endpoint itself, and one that goes elsewhere now.
        let direct = scene.socket();
        assert_eq!(
            direct.connect(&scene.world, scene.endpoint()),
            Outcome::Unchanged
        );
        let moved = scene.translated();
        let elsewhere = at(scene.family, 2, 2, 8080);
        let all = [
            Handshake::Begins,
            Handshake::TimesOut,
            Handshake::IsAnswered,
        ];
        for what in all {
            assert_eq!(scene.tell(&direct, what), Watch::Nothing);
            let watch = moved.handshake(&scene.world, what, (scene.client(), elsewhere));
            assert_eq!(watch, Watch::Nothing);
        }
        assert_eq!(scene.liveness(), Liveness::default());
    }
}

#[test]
fn without_the_setting_nothing_is_told() {
    for mut scene in Scene::all() {
        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        let socket = scene.translated();
        assert_eq!(scene.tell(&socket, Handshake::Begins), Watch::Nothing);
        scene.leave_unanswered(1);
        assert_eq!(scene.liveness(), Liveness::default());
    }
}

#[test]
fn a_service_may_say_otherwise_than_the_setting() {
    for mut scene in Scene::all() {
        scene.world.say_unanswered(SAYS_UNANSWERED);
        let socket = scene.translated();
        assert_eq!(scene.tell(&socket, Handshake::Begins), Watch::Nothing);
        scene.leave_unanswered(1);
        assert_eq!(scene.liveness(), Liveness::default());

        scene.world.v4.settings.flags = 0;
        scene.world.v6.settings.flags = 0;
        scene.world.say_unanswered(SAYS_UNANSWERED | RETRIED);
        assert_eq!(scene.tell(&socket, Handshake::Begins), Watch::Timeouts);
        scene.leave_unanswered(1);
        assert_eq!(scene.liveness().unanswered, 1);
    }
}
