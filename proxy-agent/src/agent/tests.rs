//! What the agent reports of its health, and at its node.

use super::*;
use crate::maps::FakeMaps;
use crate::model::object::ServiceCidr;
use crate::recorder::Regarding;
use crate::status::DevicesReport;

#[test]
fn a_change_waits_until_it_is_programmed_and_may_wait_for_twice_the_sync_period() {
    let mut settings = Settings {
        sync_period: Duration::from_secs(10),
        ..Settings::default()
    };
    let mut agent = Agent::new("here", &settings, FakeMaps::default());
    agent.apply([Change::NodeGone]);
    // Before the first lists are complete there is nothing that could be late.
    assert!(!agent.program());
    let report = |agent: &Agent<FakeMaps>| agent.report(DevicesReport::default(), Vec::new());
    let families = |agent: &Agent<FakeMaps>| report(agent).families;
    assert!(families(&agent).iter().all(|it| it.pending_for.is_none()));

    agent.apply([Change::ServicesListed, Change::EndpointSlicesListed]);
    assert!(agent.program());
    agent.apply([Change::NodeGone]);
    for family in families(&agent) {
        assert!(family.pending_for.is_some());
    }
    assert_eq!(report(&agent).health_timeout, Duration::from_secs(20));
    assert!(!agent.program());
    settings.sync_period = Duration::from_secs(1);
    agent.configure(&settings);
    agent.program();
    for family in families(&agent) {
        assert!(family.pending_for.is_none());
    }
    assert_eq!(report(&agent).health_timeout, Duration::from_secs(2));
}

#[test]
fn ranges_that_do_not_fit_are_told_at_the_node() {
    let mut agent = Agent::new("here", &Settings::default(), FakeMaps::default());
    agent.apply([Change::ServicesListed, Change::EndpointSlicesListed]);
    let cidr = |name: &str, ranges: &[&str]| {
        Change::ServiceCidr(ServiceCidr {
            name: name.into(),
            ranges: ranges.iter().map(|it| it.parse().unwrap()).collect(),
        })
    };
    agent.apply([cidr("a", &["10.96.0.0/16", "fd00::/112"])]);
    agent.apply([cidr("b", &["10.97.0.0/16"])]);
    agent.program();
    assert_eq!(agent.take_events(), []);

    agent.apply([cidr("c", &["10.98.0.0/16", "10.99.0.0/16"])]);
    agent.program();
    let [event] = &*agent.take_events() else {
        panic!("one Event");
    };
    assert_eq!(event.regarding, Regarding::Node("here".to_owned()));
    assert!(event.note.starts_with("2 ServiceCIDR ranges"), "{event:?}");
}
