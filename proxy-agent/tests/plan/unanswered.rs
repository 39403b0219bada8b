//! What a Service says of connections that are not answered is with its backends.

use std::collections::BTreeSet;

use proxy_agent::agent::Agent;
use proxy_agent::config::Settings;
use proxy_agent::maps::FakeMaps;
use proxy_agent::model::object::{Change, ObjectName, Unanswered};
use proxy_ebpf::layout::backend_flags::{AVOIDABLE, RETRIED, SAYS_UNANSWERED};

use crate::objects::{agent, service, slice, start};

fn flags(agent: &Agent<FakeMaps>) -> BTreeSet<u16> {
    let backends = agent.maps().v4.backends.values();
    backends.map(|it| it.flags).collect()
}

fn generations(agent: &Agent<FakeMaps>) -> Vec<u32> {
    let backends = agent.maps().v4.backends.values();
    backends.map(|it| it.generation).collect()
}

#[test]
fn the_annotation_is_with_the_backends_also_for_the_next_agent() {
    let name = ObjectName::new("default", "a");
    let settings = Settings::default();
    let mut agent = agent(
        FakeMaps::default(),
        [service(&name, 1, None), slice(&name, &[1, 2])],
    );
    let before = generations(&agent);
    for (says, bits) in [
        (Some(Unanswered::Off), SAYS_UNANSWERED),
        (Some(Unanswered::Retry), SAYS_UNANSWERED | RETRIED),
        (
            Some(Unanswered::Avoid),
            SAYS_UNANSWERED | RETRIED | AVOIDABLE,
        ),
        (None, 0),
    ] {
        let Change::Service(mut object) = service(&name, 1, None) else {
            unreachable!("it is a Service");
        };
        object.unanswered = says.map(|it| it.name().to_owned());
        agent.apply([Change::Service(object.clone())]);
        agent.program();
        assert_eq!(flags(&agent), [bits].into());
        assert_eq!(generations(&agent), before, "they are the same backends");

        agent = Agent::new("here", &settings, agent.into_maps());
        agent.adopt().unwrap();
        agent.apply([Change::Service(object), slice(&name, &[1, 2])]);
        agent.apply(start());
        agent.program();
        assert_eq!(flags(&agent), [bits].into());
        let (planner, _) = agent.plan_and_maps();
        let sets: Vec<_> = planner.sets().map(|it| it.unanswered).collect();
        assert_eq!(sets, [says]);
        assert_eq!(planner.has_avoiding(), says == Some(Unanswered::Avoid));
    }
}
