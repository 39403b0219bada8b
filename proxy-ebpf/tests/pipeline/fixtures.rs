//! The packets in files and what becomes of them, which the kernel is held to as well.

use proxy_tests::packets::{Hook, Outcome, fixtures};

use super::world::World;
use crate::host::{self, Action, Frame, Link};
use crate::pipeline::Client;

/// Runs all of them, with packets from outside at this hook.
fn run(outside: host::Hook) {
    for suite in fixtures().unwrap() {
        let world = World::new(&suite.scenario);
        for fixture in suite.fixtures {
            let hook = match fixture.hook {
                Hook::FromOutside => outside,
                Hook::FromPod => host::Hook::Ingress(Client::Pod),
                Hook::Out => host::Hook::Egress(Client::Outside),
                Hook::FromHost => host::Hook::Egress(Client::Host),
            };
            let mut frame = Frame(fixture.packet.build());
            let action = host::run(&mut frame, hook, Link::Ethernet, &world.v4, &world.v6);
            let outcome = match action {
                Action::Pass | Action::Deliver => Outcome::Passed,
                Action::Drop => Outcome::Dropped,
                Action::Reinject | Action::Bounce | Action::Forward => Outcome::SentOn,
            };
            fixture.check(outcome, &frame.0);
        }
    }
}

#[test]
fn become_what_the_files_say() {
    run(host::Hook::Ingress(Client::Outside));
}

#[test]
fn become_the_same_where_xdp_comes_first() {
    for can_send in [true, false] {
        run(host::Hook::Xdp { can_send });
    }
}
